//! Tasks that talk to the client on their own: progress while the model loads, changes of the
//! status, warnings. A handler never waits for the client; these do, and nothing waits for them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tower_lsp_server::gen_lsp_types as lsp;

use super::engine::ModelState;
use super::shared::Shared;
use super::swap::News;
use crate::memory::{IndexProgress, KeeperState};
use crate::store::{Workspace, habit};

/// A client that takes longer does not answer at all.
const CLIENT_TIME: Duration = Duration::from_secs(10);
/// At most so many status notifications: one per interval.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// How often the store is looked at: one small file is read.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// `nestling/statusChanged`, with what `nestling/status` returns.
enum StatusChanged {}

impl lsp::Notification for StatusChanged {
    type Params = Value;
    const METHOD: lsp::LspNotificationMethod<'static> =
        lsp::LspNotificationMethod::new("nestling/statusChanged");
    const MESSAGE_DIRECTION: lsp::MessageDirection = lsp::MessageDirection::ServerToClient;
}

/// `didChangeStatus` of GitHub's server: kind, busy, message.
enum DidChangeStatus {}

impl lsp::Notification for DidChangeStatus {
    type Params = Value;
    const METHOD: lsp::LspNotificationMethod<'static> =
        lsp::LspNotificationMethod::new("didChangeStatus");
    const MESSAGE_DIRECTION: lsp::MessageDirection = lsp::MessageDirection::ServerToClient;
}

/// The tokens of progress.
const MODEL_TOKEN: &str = "nestling/model";
const INDEX_TOKEN: &str = "nestling/index";

/// Whether the client shows progress and takes this token for it.
pub(super) async fn may_show(shared: &Shared, token: &str) -> bool {
    if !shared.state.lock().client.has_progress {
        return false;
    }
    let params = lsp::WorkDoneProgressCreateParams { token: lsp::ProgressToken::from(token) };
    let create = shared.client.send_request::<lsp::WorkDoneProgressCreateRequest>(params);
    matches!(timeout(CLIENT_TIME, create).await, Ok(Ok(_)))
}

/// Shows progress while the model loads and an error if it fails, and passes each change on.
pub(super) async fn watch_model(shared: Arc<Shared>, mut model: watch::Receiver<ModelState>) {
    let is_loading = *model.borrow() == ModelState::Loading;
    if is_loading && may_show(&shared, MODEL_TOKEN).await {
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
    let progress = shared.client.progress(lsp::ProgressToken::from(MODEL_TOKEN), "nestling");
    let progress = progress.with_message("loading the model");
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
    let mut shown = None;
    index.mark_changed();
    while index.changed().await.is_ok() {
        shared.status_changed();
        let state = *index.borrow_and_update();
        match state {
            KeeperState::Reading(IndexProgress { files, of }) => {
                if shown.is_none() && may_show(&shared, INDEX_TOKEN).await {
                    let token = lsp::ProgressToken::from(INDEX_TOKEN);
                    let progress = shared.client.progress(token, "nestling");
                    let progress = progress.with_message("reading the workspace");
                    shown = Some(progress.with_percentage(0).begin().await);
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

/// Follows the choice of a model for the first folder of the workspace, and notes there that the user types. Neither
/// is done where a key would wait for it.
pub(super) async fn watch_store(shared: Arc<Shared>) {
    let Some(store) = shared.options.store.clone() else { return };
    let mut known: Option<(PathBuf, Workspace)> = None;
    loop {
        let _ = timeout(STORE_INTERVAL, shared.choices.notified()).await;
        let root = shared.state.lock().client.roots.first().cloned();
        let Some(root) = root else { continue };
        let workspace = match &known {
            Some((of, workspace)) if *of == root => workspace.clone(),
            _ => known.insert((root.clone(), store.workspace(&root))).1.clone(),
        };
        let (has_typed, typed_in) =
            (shared.has_typed.swap(false, Ordering::Relaxed), workspace.clone());
        if has_typed {
            let _ = tokio::task::spawn_blocking(move || typed_in.touch_typing()).await;
        }
        if shared.options.model.is_some() {
            continue;
        }
        let note = workspace.use_text();
        let news = shared.state.lock().engine.as_ref().and_then(|engine| engine.follow(&note));
        if let Some(engine) = news {
            // One after the other, so that the last choice is the one that stays.
            engine.follow(workspace.choice(note.as_deref())).await;
        }
    }
}

/// Follows what becomes of suggestions, and what the user's habits say of the next ones.
pub(super) async fn watch_usage(shared: Arc<Shared>) {
    const PAUSE: Duration = Duration::from_secs(5);
    let Some(store) = shared.options.store.clone() else { return };
    let mut is_new = true;
    loop {
        if is_new {
            let store = store.clone();
            let learnt = tokio::task::spawn_blocking(move || habit(&store.usage())).await;
            let mut state = shared.state.lock();
            state.habit = learnt.unwrap_or(0.0) * f32::from(u8::from(state.config.statistics));
        }
        sleep(PAUSE).await;
        let used = {
            let state = &mut *shared.state.lock();
            state.usage.look(&state.documents, Instant::now())
        };
        is_new = !used.is_empty();
        if is_new {
            let shared = shared.clone();
            let _ = tokio::task::spawn_blocking(move || shared.note(&used)).await;
        }
    }
}

/// Tells the client when another model answers, or cannot.
pub(super) async fn tell_news(shared: Arc<Shared>, mut news: mpsc::UnboundedReceiver<News>) {
    while let Some(news) = news.recv().await {
        let (kind, text) = match news {
            News::Swapped { name } => {
                shared.state.lock().flights.forget_landed();
                (lsp::MessageType::Info, format!("nestling: the model {name} is in use now"))
            }
            News::Refused { name, reason, stays } => {
                let text = format!(
                    "nestling: the model {name} cannot be used, {stays} is in use: {reason}"
                );
                (lsp::MessageType::Warning, text)
            }
        };
        shared.status_changed();
        shared.client.show_message(kind, text).await;
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
    let mut last = None;
    loop {
        shared.status_changes.notified().await;
        let (is_wanted, speaks_copilot, short) = {
            let state = shared.state.lock();
            (state.config.status_notifications, state.client.speaks_copilot, state.short_status())
        };
        if is_wanted {
            let status = shared.status();
            shared.client.send_notification::<StatusChanged>(status).await;
        }
        if speaks_copilot && last.as_ref() != Some(&short) {
            shared.client.send_notification::<DidChangeStatus>(short.clone()).await;
            last = Some(short);
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
