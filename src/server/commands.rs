//! The commands that a client can execute.
//! An accepted suggestion carries the first one with it, so the server learns without a request of its own.

use std::sync::Arc;

use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types::ProgressToken;
use tower_lsp_server::jsonrpc::{Error, Result};

use super::shared::Shared;
use super::{chat, finetune, optimize};

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

/// `nestling.chat`: answers a question about the workspace; see [`super::chat::chat`].
pub(super) const CHAT: &str = "nestling.chat";

/// All of them.
pub(super) const ALL: [&str; 7] =
    [ACCEPTED, STATUS, USE_MODEL, FINETUNE, CANCEL_FINETUNE, PROVE, CHAT];

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
        CHAT => chat::chat(shared, arguments, work_done).await,
        FINETUNE => finetune::start(shared, arguments),
        CANCEL_FINETUNE => {
            shared.finetune_cancelled.notify_waiters();
            Ok(Value::Null)
        }
        _ => Err(Error::invalid_params(format!("unknown command: {command}"))),
    }
}

async fn use_model(shared: &Arc<Shared>, name: Option<&str>) -> Result<Value> {
    let wrong = |text: String| Err(Error::invalid_params(text));
    let Some(name) = name.map(String::from) else {
        return wrong(format!("{USE_MODEL} needs the name of a model"));
    };
    if !shared.options.follows_store {
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
