//! Tasks that talk to the client on their own: progress while the model loads, changes of the
//! status, warnings. A handler never waits for the client; these do, and nothing waits for them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower_lsp_server::gen_lsp_types as lsp;

use super::engine::ModelState;
use super::shared::Shared;
use crate::memory::{IndexProgress, KeeperState};

/// A client that takes longer does not answer at all.
const CLIENT_TIME: Duration = Duration::from_secs(10);
/// At most so many status notifications: one per interval.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// `nestling/statusChanged`, with what `nestling/status` returns.
enum StatusChanged {}

impl lsp::Notification for StatusChanged {
    type Params = Value;
    const METHOD: lsp::LspNotificationMethod<'static> =
        lsp::LspNotificationMethod::new("nestling/statusChanged");
    const MESSAGE_DIRECTION: lsp::MessageDirection = lsp::MessageDirection::ServerToClient;
}

/// Shows progress while the model loads and an error if it fails, and passes each change on.
pub(super) async fn watch_model(shared: Arc<Shared>, mut model: watch::Receiver<ModelState>) {
    let is_loading = *model.borrow() == ModelState::Loading;
    if is_loading && shared.state.lock().client.has_progress {
        show_loading(&shared, model.clone()).await;
    }
    model.mark_changed();
    while model.changed().await.is_ok() {
        shared.status_changed();
        let state = model.borrow_and_update().clone();
        if let ModelState::Failed(reason) = state {
            let text = format!("nestling: the model could not be loaded: {reason}");
            shared.client.show_message(lsp::MessageType::Error, text).await;
        }
    }
}

async fn show_loading(shared: &Shared, mut model: watch::Receiver<ModelState>) {
    let token = lsp::ProgressToken::from("nestling/model");
    let params = lsp::WorkDoneProgressCreateParams { token: token.clone() };
    let create = shared.client.send_request::<lsp::WorkDoneProgressCreateRequest>(params);
    if !matches!(timeout(CLIENT_TIME, create).await, Ok(Ok(_))) {
        return;
    }
    let progress = shared.client.progress(token, "nestling").with_message("loading the model");
    let progress = progress.begin().await;
    let _ = model.wait_for(|state| *state != ModelState::Loading).await;
    let message = match *model.borrow() {
        ModelState::Failed(_) => "the model could not be loaded",
        _ => "ready",
    };
    progress.finish_with_message(message).await;
}

/// Shows progress while the workspace is read, and passes each change of the index on as a change of the
/// status. A workspace that is read in a moment shows nothing.
pub(super) async fn watch_index(shared: Arc<Shared>, mut index: watch::Receiver<KeeperState>) {
    let has_progress = shared.state.lock().client.has_progress;
    let mut shown = None;
    index.mark_changed();
    while index.changed().await.is_ok() {
        shared.status_changed();
        let state = *index.borrow_and_update();
        match state {
            KeeperState::Reading(IndexProgress { files, of }) if has_progress => {
                if shown.is_none() {
                    let token = lsp::ProgressToken::from("nestling/index");
                    let params = lsp::WorkDoneProgressCreateParams { token: token.clone() };
                    let create =
                        shared.client.send_request::<lsp::WorkDoneProgressCreateRequest>(params);
                    if matches!(timeout(CLIENT_TIME, create).await, Ok(Ok(_))) {
                        let progress = shared.client.progress(token, "nestling");
                        let progress = progress.with_message("reading the workspace");
                        shown = Some(progress.with_percentage(0).begin().await);
                    }
                }
                if let Some(shown) = &shown {
                    let percent = (100 * files / of.max(1)) as u32;
                    shown.report_with_message(format!("{files} of {of} files"), percent).await;
                }
            }
            _ => {
                if let Some(shown) = shown.take() {
                    shown.finish_with_message("the workspace is known").await;
                }
            }
        }
    }
}

/// Asks the client to tell of files that change on disk. Without that they are seen when something is saved,
/// and every half minute.
pub(super) async fn watch_files(shared: Arc<Shared>) {
    let client = &shared.state.lock().client.clone();
    if !client.watches_files || client.roots.is_empty() {
        return;
    }
    let all = lsp::FileSystemWatcher { glob_pattern: "**/*".to_string().into(), kind: None };
    let options = lsp::DidChangeWatchedFilesRegistrationOptions { watchers: vec![all] };
    let registration = lsp::Registration {
        id: "nestling/files".into(),
        method: "workspace/didChangeWatchedFiles".into(),
        register_options: serde_json::to_value(options).ok(),
    };
    let asked = shared.client.register_capability(vec![registration]);
    if !matches!(timeout(CLIENT_TIME, asked).await, Ok(Ok(()))) {
        tracing::info!("the client does not watch files");
    }
}

/// Sends `nestling/statusChanged` when the status has changed, if the client asked for it.
pub(super) async fn send_status(shared: Arc<Shared>) {
    loop {
        shared.status_changes.notified().await;
        if shared.state.lock().config.status_notifications {
            let status = shared.status();
            shared.client.send_notification::<StatusChanged>(status).await;
        }
        sleep(STATUS_INTERVAL).await;
    }
}

/// Writes warnings into the client's log.
pub(super) async fn warn(shared: Arc<Shared>, warnings: Vec<String>) {
    for warning in warnings {
        tracing::warn!("{warning}");
        shared.client.log_message(lsp::MessageType::Warning, warning).await;
    }
}

/// Asks the client for our settings and takes them over. Some clients send none by themselves.
pub(super) async fn pull_settings(shared: Arc<Shared>) {
    let section = crate::config::SECTION.to_string();
    let item = lsp::ConfigurationItem { section: Some(section), ..Default::default() };
    let request = shared.client.configuration(vec![item]);
    if let Ok(Ok(mut settings)) = timeout(CLIENT_TIME, request).await
        && let Some(settings) = settings.pop()
    {
        shared.configure(&settings);
    }
}
