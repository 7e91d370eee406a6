//! A fine-tune that was begun from the editor: the program itself in a process of its own, with progress and cancel.
//! What it installs is followed like every other choice of a model.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{Error, Result};

use super::shared::Shared;
use super::watch::may_show;

/// The token of its progress.
pub(super) const TOKEN: &str = "nestling/finetune";

/// Begins one for the first folder of the workspace; `arguments` may hold `{"budget": "20m", "fresh": true}`.
pub(super) fn start(shared: &Arc<Shared>, arguments: &[Value]) -> Result<Value> {
    let wrong = |text: &str| Err(Error::invalid_params(text.to_string()));
    let Some(root) = shared.state.lock().client.roots.first().cloned() else {
        return wrong("a fine-tune needs a workspace, and no folder is open");
    };
    let options = arguments.first().cloned().unwrap_or_default();
    let mode = if options["fresh"] == json!(true) { "--fresh" } else { "--resume" };
    let program = std::env::current_exe().map_err(|_| Error::internal_error())?;
    let mut command = Command::new(program);
    command.arg("finetune").arg(&root).args(["--json", mode]);
    if let Some(model) = &shared.options.model {
        command.arg("--model").arg(model);
    }
    if let Some(budget) = options["budget"].as_str() {
        command.args(["--budget", budget]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if shared.is_finetuning.swap(true, Ordering::Relaxed) {
        return wrong("a fine-tune is running already");
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            shared.is_finetuning.store(false, Ordering::Relaxed);
            return wrong(&format!("the fine-tune could not be started: {error}"));
        }
    };
    let task = shared.clone();
    shared.spawn(async move {
        let (kind, text) = follow(&task, child).await;
        task.is_finetuning.store(false, Ordering::Relaxed);
        task.choices.notify_one();
        // What was stopped once may fit no longer, and no editor has a command line.
        if kind == lsp::MessageType::Error && text.contains("--fresh") && options["fresh"] != true {
            let choice =
                lsp::MessageActionItem { title: "Start Anew".into(), ..Default::default() };
            let answer = task.client.show_message_request(kind, text, Some(vec![choice]));
            if let Ok(Some(_)) = answer.await {
                let fresh = json!({ "budget": options["budget"], "fresh": true });
                if let Err(error) = start(&task, &[fresh]) {
                    task.client.show_message(kind, format!("nestling: {error}")).await;
                }
            }
            return;
        }
        task.client.show_message(kind, text).await;
    });
    Ok(json!({ "started": root }))
}

/// Shows progress until the process ends; what the user should hear then.
async fn follow(shared: &Shared, mut child: Child) -> (lsp::MessageType, String) {
    let mut shown = None;
    if may_show(shared, TOKEN).await {
        let token = lsp::ProgressToken::from(TOKEN);
        let progress = shared.client.progress(token, "nestling: fine-tuning");
        shown = Some(progress.with_message("starting").with_cancel_button().begin().await);
    }
    let mut output = child.stdout.take();
    let report = async {
        let mut text = String::new();
        if let Some(output) = &mut output {
            let _ = output.read_to_string(&mut text).await;
        }
        text
    };
    let lines = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
    let mut last = String::new();
    let id = child.id();
    let progress = async {
        let Some(mut lines) = lines else { return };
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => {
                        if let Some(shown) = &shown {
                            shown.report_with_message(line.clone(), None).await;
                        }
                        last = line;
                    }
                    _ => return,
                },
                () = shared.finetune_cancelled.notified() => interrupt(id),
            }
        }
    };
    let (report, ()) = tokio::join!(report, progress);
    let code = child.wait().await.ok().and_then(|status| status.code());
    let report: Value = serde_json::from_str(&report).unwrap_or_default();
    let verdict = report["verdict"].as_str().unwrap_or_default();
    let points = report["gain"]["value"].as_f64().unwrap_or(0.0);
    let said = match code {
        Some(0) => {
            let name = report["installed"].as_str().unwrap_or_default();
            let mut text =
                format!("the model learnt this repository: {points:+.1} points ({name})");
            if shared.options.model.is_some() {
                text += "; it is used once the server is started without a model of its own";
            }
            (lsp::MessageType::Info, text)
        }
        Some(1) => (lsp::MessageType::Info, format!("the model stays as it is: {verdict}")),
        Some(130) => (lsp::MessageType::Info, "the fine-tune was stopped and can go on".into()),
        _ => {
            let last = last.strip_prefix("nestling: ").unwrap_or(&last);
            (lsp::MessageType::Error, last.to_string())
        }
    };
    if let Some(shown) = shown {
        shown.finish_with_message(said.1.clone()).await;
    }
    (said.0, format!("nestling: {}", said.1))
}

/// Ends the process as Ctrl-C does: it keeps what was done.
fn interrupt(id: Option<u32>) {
    #[cfg(unix)]
    if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
        // SAFETY: takes numbers only; the child is not waited for yet, so the number is still its own.
        unsafe {
            libc::kill(id, libc::SIGINT);
        }
    }
    #[cfg(not(unix))]
    let _ = id;
}
