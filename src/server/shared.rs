//! The state that all handlers share, behind one lock that is held for moments only:
//! never across an await, and never while a model or a fallback runs.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tower_lsp_server::Client;

use super::ServeOptions;
use super::capabilities::ClientTraits;
use super::engine::{EngineThread, ModelState};
use super::flights::Flights;
use super::status::Stats;
use super::watch as watchers;
use crate::config::{Config, Problem};
use crate::memory::{IndexProgress, KeeperState};
use crate::suggest::Silence;
use crate::workspace::Documents;

/// Everything that changes while the server runs.
#[derive(Default)]
pub(super) struct State {
    pub(super) client: ClientTraits,
    pub(super) config: Config,
    pub(super) documents: Documents,
    pub(super) flights: Flights,
    pub(super) stats: Stats,
    /// `None` until completion is first switched on.
    pub(super) engine: Option<EngineThread>,
    /// Documents whose trees are being brought up to date.
    pub(super) parsing: HashSet<String>,
    /// The client said `initialized`: from then on it may be sent requests.
    pub(super) is_initialized: bool,
}

impl State {
    pub(super) fn model(&self) -> ModelState {
        let engine = self.engine.as_ref();
        engine.map_or(ModelState::Unused, |engine| engine.state().borrow().clone())
    }
}

/// What every handler gets.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) options: ServeOptions,
    pub(super) state: Mutex<State>,
    /// Places for parses beside the handlers, each with parsers and memory of its own.
    parsers: Semaphore,
    /// Fires when the status may have changed.
    pub(super) status_changes: Notify,
    /// Fires when the client's process is gone.
    pub(super) orphaned: Notify,
    /// What runs beside the handlers; ended with the connection.
    tasks: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(super) fn new(client: Client, options: ServeOptions) -> Shared {
        Shared {
            client,
            options,
            state: Mutex::default(),
            parsers: Semaphore::new(2),
            status_changes: Notify::new(),
            orphaned: Notify::new(),
            tasks: Mutex::default(),
        }
    }

    /// Runs a task until it is done or the connection ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all tasks and the engine, waiting for neither.
    pub(super) fn stop(&self) {
        self.tasks.lock().abort_all();
        let mut state = self.state.lock();
        state.flights.end_all(Silence::Cancelled);
        state.engine = None;
    }

    /// Parses a document beside the handlers until its tree has caught up with its text, so that no
    /// keystroke waits for the parser.
    pub(super) fn catch_up(self: &Arc<Self>, uri: &str) {
        if !self.state.lock().parsing.insert(uri.to_string()) {
            return;
        }
        let (shared, uri) = (self.clone(), uri.to_string());
        self.spawn(async move {
            loop {
                let Ok(_place) = shared.parsers.acquire().await else { return };
                let stale = {
                    let mut state = shared.state.lock();
                    let document = state.documents.get(&uri).filter(|d| d.is_stale()).cloned();
                    if document.is_none() {
                        state.parsing.remove(&uri);
                    }
                    document
                };
                let Some(document) = stale else { return };
                let text = document.text.clone();
                let parse = move || {
                    let mut copy = (*document).clone();
                    copy.catch_up().then_some(copy)
                };
                let parsed = tokio::task::spawn_blocking(parse).await;
                let mut state = shared.state.lock();
                let now = state.documents.get(&uri).map(|document| document.text.clone());
                match parsed {
                    Ok(Some(copy)) => state.documents.adopt_tree(copy),
                    // Too slow; what came since may be faster, as when a quote was closed.
                    _ if now.is_some_and(|now| !now.is_same(&text)) => {}
                    _ => {
                        state.parsing.remove(&uri);
                        return;
                    }
                }
            }
        });
    }

    /// Takes settings over: starts the engine if it is needed for the first time, ends what runs if
    /// completion was switched off, and tells the user what was not understood.
    pub(super) fn configure(self: &Arc<Self>, settings: &Value) {
        // Some clients send empty settings right after the start: they say nothing.
        let says_nothing =
            settings.is_null() || settings.as_object().is_some_and(|settings| settings.is_empty());
        let options = says_nothing.then(|| self.state.lock().client.options.clone());
        let (config, problems) = Config::from_json(options.as_ref().unwrap_or(settings));
        let new_engine = {
            let mut state = self.state.lock();
            if !config.enable {
                state.flights.end_all(Silence::Disabled);
            }
            let is_new = config.enable && state.engine.is_none();
            if is_new {
                let (factory, roots) = (self.options.factory.clone(), state.client.roots.clone());
                state.engine = Some(EngineThread::spawn(factory, roots));
            }
            state.config = config;
            let watched = state.engine.as_ref().filter(|_| is_new && state.is_initialized);
            watched.map(|engine| (engine.state(), engine.index()))
        };
        if let Some((model, index)) = new_engine {
            self.watch_engine(model, index);
        }
        self.report(problems);
        self.status_changed();
    }

    /// Begins to talk to the client, which is ready for it now.
    pub(super) fn initialized(self: &Arc<Self>) {
        let model = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_initialized, true) {
                return;
            }
            state.engine.as_ref().map(|engine| (engine.state(), engine.index()))
        };
        if let Some((model, index)) = model {
            self.watch_engine(model, index);
        }
        self.spawn(watchers::send_status(self.clone()));
        self.spawn(watchers::watch_files(self.clone()));
    }

    fn watch_engine(
        self: &Arc<Self>,
        model: watch::Receiver<ModelState>,
        index: watch::Receiver<KeeperState>,
    ) {
        self.spawn(watchers::watch_model(self.clone(), model));
        self.spawn(watchers::watch_index(self.clone(), index));
    }

    /// Files changed on disk: the memory of the workspace looks at them, some time soon.
    pub(super) fn files_changed(&self) {
        if let Some(engine) = &self.state.lock().engine {
            engine.look_again();
        }
    }

    /// Tells the user about settings that were not understood.
    fn report(self: &Arc<Self>, problems: Vec<Problem>) {
        if problems.is_empty() {
            return;
        }
        let warnings = problems.iter().map(Problem::to_string).collect();
        self.spawn(watchers::warn(self.clone(), warnings));
    }

    /// Notes that the status may differ from what the client knows.
    pub(super) fn status_changed(&self) {
        self.status_changes.notify_one();
    }

    /// What `nestling/status` returns.
    pub(super) fn status(&self) -> Value {
        let state = self.state.lock();
        let mut status =
            state.stats.to_json(&state.model(), state.config.enable, state.documents.len());
        let index = state.engine.as_ref().map(|engine| *engine.index().borrow());
        status["index"] = index_json(index.filter(|_| !state.client.roots.is_empty()));
        status
    }
}

/// The index as the status tells of it; null without a workspace.
fn index_json(state: Option<KeeperState>) -> Value {
    match state {
        None => Value::Null,
        Some(KeeperState::Starting) => json!({ "state": "starting" }),
        Some(KeeperState::Reading(IndexProgress { files, of })) => {
            json!({ "state": "reading", "files": files, "of": of })
        }
        Some(KeeperState::Ready(update)) => json!({
            "state": "ready", "files": update.files, "tokens": update.tokens,
            "bytes": update.bytes,
        }),
    }
}
