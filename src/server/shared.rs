//! The state that all handlers share, behind one lock that is held for moments only:
//! never across an await, and never while a model or a fallback runs.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tower_lsp_server::Client;
use tower_lsp_server::gen_lsp_types as lsp;

use super::ServeOptions;
use super::capabilities::ClientTraits;
use super::chat;
use super::engine::{EngineThread, ModelState};
use super::flights::Flights;
use super::optimize;
use super::remote;
use super::repair::{self, Repairs};
use super::status::Stats;
use super::usage::Usage;
use super::watch as watchers;
use crate::config::{Config, Problem};
use crate::generation::CancelToken;
use crate::memory::{IndexProgress, KeeperState};
use crate::remote::RemoteModel;
use crate::store::Used;
use crate::suggest::{Silence, Sources};
use crate::workspace::Documents;

/// What is being typed is always broken: hints wait until nobody has changed the text for so long.
const QUIET: Duration = Duration::from_millis(700);

/// Everything that changes while the server runs.
#[derive(Default)]
pub(super) struct State {
    pub(super) client: ClientTraits,
    pub(super) config: Config,
    pub(super) documents: Documents,
    pub(super) flights: Flights,
    pub(super) stats: Stats,
    pub(super) repairs: Repairs,
    /// Documents with hints in sight, and languages that another server speaks for.
    pub(super) hinted: HashSet<String>,
    pub(super) spoken_for: HashSet<&'static str>,
    /// `None` until completion is first switched on.
    pub(super) engine: Option<EngineThread>,
    /// Documents whose trees are being brought up to date.
    pub(super) parsing: HashSet<String>,
    /// The client said `initialized`: from then on it may be sent requests.
    pub(super) is_initialized: bool,
    pub(super) usage: Usage,
    /// By how many logits this user's answers are surer than the scale says.
    pub(super) habit: f32,
    /// Ends the proof that is under way.
    pub(super) proof: CancelToken,
    /// The answer to a question that is being made.
    pub(super) chat: chat::Current,
    /// Why the remote model of the settings is not asked.
    pub(super) remote_refusal: Option<String>,
}

impl State {
    /// The status in the form of `didChangeStatus`.
    pub(super) fn short_status(&self) -> Value {
        let (kind, busy, message) = match self.model() {
            _ if !self.config.enable => ("Inactive", false, "switched off".to_string()),
            ModelState::Unused | ModelState::Ready => match self.remote_failure() {
                Some(reason) => ("Warning", false, reason),
                None => ("Normal", false, String::new()),
            },
            ModelState::Loading => ("Normal", true, "loading the model".into()),
            ModelState::Failed(reason) => ("Error", false, reason),
            ModelState::Restarting(reason) => ("Warning", true, reason),
        };
        json!({ "kind": kind, "busy": busy, "message": message })
    }

    /// Why the remote model does not answer; the one in the program does then.
    fn remote_failure(&self) -> Option<String> {
        let client = self.engine.as_ref().and_then(EngineThread::remote);
        let failure = client.and_then(|client| client.health().failure);
        failure.map(|(reason, _)| reason).or(self.remote_refusal.clone())
    }

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
    /// The user has typed since somebody looked last.
    pub(super) has_typed: AtomicBool,
    /// Fires when another model was chosen; without it that is seen within a second.
    pub(super) choices: Notify,
    /// A fine-tune that was begun here is running.
    pub(super) is_finetuning: AtomicBool,
    /// Fires when the user does not want it any more.
    pub(super) finetune_cancelled: Notify,
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
            has_typed: AtomicBool::new(false),
            choices: Notify::new(),
            is_finetuning: AtomicBool::new(false),
            finetune_cancelled: Notify::new(),
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
        let used = state.usage.end();
        drop(state);
        self.note(&used);
    }

    /// Writes down what became of suggestions, if that is wanted.
    pub(super) fn note(&self, used: &[Used]) {
        let Some(store) = self.options.store.as_ref().filter(|_| !used.is_empty()) else { return };
        if self.state.lock().config.statistics
            && let Err(error) = store.note_usage(used)
        {
            tracing::info!("statistics are not written: {error:#}");
        }
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
                    Ok(Some(copy)) => {
                        state.documents.adopt_tree(copy);
                        shared.hint_later(&state, &uri, QUIET);
                    }
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

    /// Once nobody has changed a document for a while, tells the client where its syntax is broken, if somebody wants to
    /// know and no other server says it, or what could be faster. What is being typed is always broken.
    pub(super) fn hint_later(self: &Arc<Self>, state: &State, uri: &str, quiet: Duration) {
        let Some(before) = state.documents.get(uri).map(|document| document.revision) else {
            return;
        };
        let (shared, uri) = (self.clone(), uri.to_string());
        self.spawn(async move {
            tokio::time::sleep(quiet).await;
            let ask = |state: &State| {
                let document = state.documents.get(&uri).filter(|d| d.revision == before)?.clone();
                let language = document.language.map(|language| language.name);
                let enabled = state.config.is_enabled_for(language);
                let spoken_for = language.is_some_and(|name| state.spoken_for.contains(name));
                let syntax = enabled && state.config.syntax_hints && !spoken_for;
                let optimize = enabled && state.config.optimize_hints;
                Some((document, (syntax, optimize, state.client.encoding)))
            };
            let Some((document, wanted)) = ask(&shared.state.lock()) else { return };
            let version = document.version;
            let (syntax, optimize, encoding) = wanted;
            let look = move || {
                let mut hints = Vec::new();
                if syntax {
                    hints.extend(repair::hints(&document, encoding));
                }
                match optimize && hints.is_empty() {
                    true => hints.extend(optimize::hints(&document, encoding)),
                    false => optimize::warm_up(&document),
                }
                hints
            };
            let Ok(hints) = tokio::task::spawn_blocking(look).await else { return };
            let mut state = shared.state.lock();
            // If something else is wanted by now, somebody else is looking.
            if ask(&state).is_none_or(|(_, now)| now != wanted) {
                return;
            }
            let changed = match hints.is_empty() {
                true => state.hinted.remove(&uri),
                false => {
                    state.hinted.insert(uri.clone());
                    true
                }
            };
            if changed {
                shared.publish(&uri, Some(version), hints);
            }
        });
    }

    /// Takes a document's hints out of sight.
    pub(super) fn unhint(self: &Arc<Self>, state: &mut State, uri: &str) {
        if state.hinted.remove(uri) {
            self.publish(uri, None, Vec::new());
        }
    }

    fn publish(self: &Arc<Self>, uri: &str, version: Option<i32>, diagnostics: Vec<Value>) {
        let mut params = json!({ "uri": uri, "diagnostics": diagnostics });
        if let Some(version) = version {
            params["version"] = version.into();
        }
        let shared = self.clone();
        self.spawn(async move {
            if let Ok(params) = serde_json::from_value(params) {
                shared
                    .client
                    .send_notification::<lsp::PublishDiagnosticsNotification>(params)
                    .await;
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
        let mut warnings: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let is_new = {
            let mut state = self.state.lock();
            let remote = self.remote(&state, &config).inspect_err(|refusal| {
                warnings.push(refusal.clone());
            });
            state.remote_refusal = remote.as_ref().err().cloned();
            let remote = remote.unwrap_or_default();
            let sources = Sources { memory: config.memory, retrieval: config.retrieval, remote };
            if !config.enable {
                state.flights.end_all(Silence::Disabled);
            }
            let is_new = config.enable && state.engine.is_none();
            if is_new {
                let (factory, roots) = (self.options.factory.clone(), state.client.roots.clone());
                let store = self.options.store.clone().filter(|_| self.options.model.is_none());
                state.engine = Some(EngineThread::spawn(factory, roots, store, sources));
            } else if state.engine.as_ref().is_some_and(|engine| engine.draw(sources)) {
                state.flights.forget_landed();
            }
            state.config = config;
            // What is in sight may not be wanted any more.
            let hinted: Vec<String> = state.hinted.iter().cloned().collect();
            hinted.iter().for_each(|uri| self.hint_later(&state, uri, Duration::ZERO));
            is_new && state.is_initialized
        };
        if is_new {
            self.watch_engine();
        }
        if !self.state.lock().client.speaks_copilot {
            self.report(warnings);
        }
        self.status_changed();
    }

    /// The remote model to ask: that of the command line, else that of the settings.
    fn remote(&self, state: &State, config: &Config) -> Result<Option<RemoteModel>, String> {
        let Some(wanted) = config.remote.as_ref().filter(|_| self.options.remote.is_none()) else {
            return Ok(self.options.remote.clone());
        };
        let in_use = state.engine.as_ref().and_then(EngineThread::remote);
        remote::client(wanted, in_use, self.options.store.as_ref()).map(Some)
    }

    /// Begins to talk to the client, which is ready for it now.
    pub(super) fn initialized(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state.lock().is_initialized, true) {
            return;
        }
        self.watch_engine();
        self.spawn(watchers::send_status(self.clone()));
        self.spawn(watchers::watch_files(self.clone()));
        self.spawn(watchers::watch_store(self.clone()));
        self.spawn(watchers::watch_usage(self.clone()));
    }

    /// Tells the client of what the engine does, if there is one.
    fn watch_engine(self: &Arc<Self>) {
        let (model, index, news) = {
            let mut state = self.state.lock();
            let Some(engine) = &mut state.engine else { return };
            (engine.state(), engine.index(), engine.news())
        };
        self.spawn(watchers::watch_model(self.clone(), model));
        self.spawn(watchers::watch_index(self.clone(), index));
        if let Some(news) = news {
            self.spawn(watchers::tell_news(self.clone(), news));
        }
    }

    /// Folders came to the workspace, and others went.
    pub(super) fn folders_changed(&self, added: Vec<PathBuf>, removed: &[PathBuf]) {
        let mut state = self.state.lock();
        let roots = &mut state.client.roots;
        roots.retain(|root| !removed.contains(root));
        for root in added {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let roots = roots.clone();
        if let Some(engine) = &state.engine {
            engine.set_roots(roots);
        }
        self.choices.notify_one();
    }

    /// Files changed on disk: the memory of the workspace looks at them, some time soon.
    pub(super) fn files_changed(&self) {
        if let Some(engine) = &self.state.lock().engine {
            engine.look_again();
        }
    }

    /// Tells the user about settings that were not understood or cannot be followed.
    fn report(self: &Arc<Self>, warnings: Vec<String>) {
        if warnings.is_empty() {
            return;
        }
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
        let serving = state.engine.as_ref().and_then(EngineThread::serving);
        if let (ModelState::Ready, Some((name, since))) = (state.model(), serving) {
            status["model"]["name"] = name.into();
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
            status["model"]["since"] = since.as_secs().into();
        }
        let index = state.engine.as_ref().map(EngineThread::indexed);
        let remote = state.engine.as_ref().and_then(EngineThread::remote);
        status["remote"] = remote::status(remote.as_ref(), state.remote_refusal.as_deref());
        status["index"] = index_json(index.filter(|_| !state.client.roots.is_empty()));
        status
    }
}

/// The indexes of all folders as the status tells of them; null without a workspace.
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
