//! The commands that a client can execute.
//! An accepted suggestion carries the first one with it, so the server learns without a request of its own.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types::ProgressToken;
use tower_lsp_server::jsonrpc::{Error, Result};

use super::shared::Shared;
use super::{chat, explain, finetune, optimize};
use crate::suggest::message::{SUBJECTS, message};
use crate::workspace::{Repository, path_of_uri};

/// `nestling.accepted ID`: the suggestion with that id was inserted.
pub(super) const ACCEPTED: &str = "nestling.accepted";
/// `nestling.status`: returns what `nestling/status` returns.
pub(super) const STATUS: &str = "nestling.status";

/// `nestling.useModel NAME`: from now on this workspace uses that installed model, or the `default` one.
pub(super) const USE_MODEL: &str = "nestling.useModel";

/// `nestling.finetune`: learns the first folder of the workspace; see [`super::finetune::start`].
pub(super) const FINETUNE: &str = "nestling.finetune";
/// `nestling.cancelFinetune`: stops that; it can go on later.
pub(super) const CANCEL_FINETUNE: &str = "nestling.cancelFinetune";

/// `nestling.prove`: climbs the proof ladder with a rewrite of the menu; see [`super::optimize::prove`].
pub(super) const PROVE: &str = "nestling.prove";

/// `nestling.commitMessage [FOLDER]`: a message for what is about to be committed there, or in the first folder of the
/// workspace: `{ message, staged }`.
pub(super) const COMMIT_MESSAGE: &str = "nestling.commitMessage";

/// `nestling.explain { textDocument, position }`: why the text that is suggested there reads as it does; see
/// [`super::explain`].
pub(super) const EXPLAIN: &str = "nestling.explain";

/// `nestling.chat`: answers a question about the workspace; see [`super::chat::chat`].
pub(super) const CHAT: &str = "nestling.chat";

/// All of them.
pub(super) const ALL: [&str; 9] =
    [ACCEPTED, STATUS, USE_MODEL, FINETUNE, CANCEL_FINETUNE, PROVE, COMMIT_MESSAGE, EXPLAIN, CHAT];

pub(super) async fn execute(
    shared: &Arc<Shared>,
    command: &str,
    arguments: &[Value],
    work_done: Option<ProgressToken>,
) -> Result<Value> {
    let text = arguments.first().and_then(Value::as_str);
    match command {
        ACCEPTED => {
            let Some(id) = text else {
                return Err(Error::invalid_params(format!("{ACCEPTED} needs the suggestion's id")));
            };
            let state = &mut *shared.state.lock();
            state.stats.counts.accepted += u64::from(state.usage.accepted(id, None));
            shared.status_changed();
            Ok(Value::Null)
        }
        STATUS => Ok(shared.status()),
        USE_MODEL => use_model(shared, text).await,
        PROVE => optimize::prove(shared, arguments).await,
        EXPLAIN => explain::explain(shared, arguments).await,
        COMMIT_MESSAGE => commit_message(shared, text).await,
        CHAT => chat::chat(shared, arguments, work_done).await,
        FINETUNE => finetune::start(shared, arguments),
        CANCEL_FINETUNE => {
            shared.finetune_cancelled.notify_waiters();
            Ok(Value::Null)
        }
        _ => Err(Error::invalid_params(format!("unknown command: {command}"))),
    }
}

async fn commit_message(shared: &Arc<Shared>, folder: Option<&str>) -> Result<Value> {
    let folder = match folder {
        Some(folder) => path_of_uri(folder).or_else(|| Some(PathBuf::from(folder))),
        None => shared.state.lock().client.roots.first().cloned(),
    };
    let Some(folder) = folder else {
        return Err(Error::invalid_params("no folder is open".to_string()));
    };
    let write = move || -> anyhow::Result<Value> {
        let repository = Repository::around(&folder)?;
        let (changes, is_staged) = repository.pending()?;
        let (subjects, branch) = (repository.subjects(SUBJECTS), repository.branch());
        let text = message(&changes, &subjects, branch.as_deref());
        Ok(json!({ "message": text, "staged": is_staged }))
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => Err(Error::invalid_params(format!("{error:#}"))),
        Err(_) => Err(Error::internal_error()),
    }
}

async fn use_model(shared: &Arc<Shared>, name: Option<&str>) -> Result<Value> {
    let wrong = |text: String| Err(Error::invalid_params(text));
    let Some(name) = name.map(String::from) else {
        return wrong(format!("{USE_MODEL} needs the name of a model"));
    };
    if shared.options.model.is_some() {
        return wrong("the server was started with a model of its own (--model)".into());
    }
    let root = shared.state.lock().client.roots.first().cloned();
    let (Some(store), Some(root)) = (shared.options.store.clone(), root) else {
        return wrong("models belong to a workspace, and no folder is open".into());
    };
    let chosen = name.clone();
    let choose = move || store.workspace(&root).set_in_use(Some(&chosen));
    match tokio::task::spawn_blocking(choose).await {
        Ok(Ok(())) => {
            shared.choices.notify_one();
            Ok(json!({ "model": name }))
        }
        Ok(Err(error)) => wrong(format!("{error:#}")),
        Err(_) => Err(Error::internal_error()),
    }
}
