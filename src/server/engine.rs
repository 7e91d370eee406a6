//! The one thread that owns the model. It loads it, answers one request after the other, and
//! rebuilds it after a panic; nobody else ever waits for it while holding a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::aside::Aside;
use super::chat::ChatJob;
use super::mailbox::{Job, QUIET, Work};
use super::swap::{Common, News};
use crate::memory::{Keeper, KeeperState, Memory};
use crate::remote::RemoteModel;
use crate::store::{Choice, DEFAULT, Installed, Store};
use crate::suggest::{Completer, Completion, Silence, Sources};

/// Makes a completer: with an installed model of the workspace, or with the one that is there without it. Called at
/// the start, for each swap, and again after each panic.
pub type Factory = dyn Fn(Option<&Installed>) -> anyhow::Result<Box<dyn Completer>> + Send + Sync;

/// What the model is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelState {
    /// Nobody has needed it yet, because completion is switched off.
    Unused,
    /// Being built.
    Loading,
    /// Answers requests.
    Ready,
    /// Could not be built; the reason is for the user.
    Failed(String),
    /// Panicked and will be built again.
    Restarting(String),
}

/// The first pause before a rebuild; each further panic without a good answer between doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// An installed model that still panics after this pause gives way to the default.
const LONGEST_TRIAL: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The model's forward pass keeps large arrays on the stack in places.
pub(super) const STACK_BYTES: usize = 16 << 20;

/// The handle of the engine thread. Dropping it stops the thread, without waiting for it.
pub(super) struct EngineThread {
    common: Common,
    index: watch::Receiver<KeeperState>,
    state: watch::Receiver<ModelState>,
    news: Option<mpsc::UnboundedReceiver<News>>,
    is_running: Arc<AtomicBool>,
}

impl EngineThread {
    /// Starts the thread. It builds the completer at once, with the model that the first folder uses by the
    /// `store`, and has it remember the folders `roots`.
    pub(super) fn spawn(
        factory: Arc<Factory>,
        roots: Vec<PathBuf>,
        store: Option<Store>,
        sources: Sources,
    ) -> EngineThread {
        let (sender, state) = watch::channel(ModelState::Loading);
        let (index_sender, index) = watch::channel(KeeperState::Starting);
        let (news_sender, news) = mpsc::unbounded_channel();
        let common = Common {
            factory,
            mailbox: Arc::default(),
            keepers: Arc::default(),
            roots: Arc::new(Mutex::new(roots)),
            index: index_sender,
            serving: Arc::default(),
            sources: Arc::new(Mutex::new(sources)),
            news: news_sender,
        };
        let is_running = Arc::default();
        let mut handle = EngineThread { common, index, state, news: Some(news), is_running };
        let engine = Engine {
            common: handle.common.clone(),
            store,
            state: sender,
            is_running: handle.is_running.clone(),
        };
        let thread = thread::Builder::new().name("nestling-engine".into()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || engine.run()) {
            // The sender went down with the closure, so a state of our own takes its place.
            let reason = format!("the engine thread could not be started: {error}");
            let (_, state) = watch::channel(ModelState::Failed(reason));
            handle.state = state;
        }
        handle
    }

    /// What the user should hear of; for the first who asks.
    pub(super) fn news(&mut self) -> Option<mpsc::UnboundedReceiver<News>> {
        self.news.take()
    }

    /// What the model in use is called, and since when it is; `None` before there is one.
    pub(super) fn serving(&self) -> Option<(String, SystemTime)> {
        let serving = self.common.serving.lock();
        Some((serving.name.clone(), serving.since?))
    }

    /// Whether a note of the store says something else than the one that was followed last; it counts as followed
    /// then. With the result the choice can be loaded, without the engine.
    pub(super) fn follow(&self, use_text: &Option<String>) -> Option<Common> {
        let is_ready = *self.state.borrow() == ModelState::Ready;
        let mut serving = self.common.serving.lock();
        if !is_ready || serving.followed == *use_text {
            return None;
        }
        serving.followed = use_text.clone();
        Some(self.common.clone())
    }

    /// Draws on these from the next request on. True if it did on others before.
    pub(super) fn draw(&self, sources: Sources) -> bool {
        let is_new = {
            let mut known = self.common.sources.lock();
            std::mem::replace(&mut *known, sources.clone()) != sources
        };
        if is_new {
            self.common.mailbox.draw(sources);
        }
        is_new
    }

    /// The remote model that is asked as well.
    pub(super) fn remote(&self) -> Option<RemoteModel> {
        self.common.sources.lock().remote.clone()
    }

    /// Remembers these folders, some time soon, and no others.
    pub(super) fn set_roots(&self, roots: Vec<PathBuf>) {
        self.common.mailbox.folders(roots);
    }

    /// What is known of all folders together.
    pub(super) fn indexed(&self) -> KeeperState {
        let keepers = self.common.keepers.lock();
        keepers.iter().map(|keeper| keeper.state().0).reduce(KeeperState::and).unwrap_or_default()
    }

    /// Where the state of an index can be awaited: that of the folder in which something happened last.
    pub(super) fn index(&self) -> watch::Receiver<KeeperState> {
        self.index.clone()
    }

    /// Files changed on disk.
    pub(super) fn look_again(&self) {
        self.common.keepers.lock().iter().for_each(Keeper::poke);
    }

    /// Where the state of the model can be read and awaited.
    pub(super) fn state(&self) -> watch::Receiver<ModelState> {
        self.state.clone()
    }

    /// Hands over a job. It replaces the waiting job of the same document, if there is one; the
    /// replaced job's outcome is closed.
    pub(super) fn post(&self, job: Job) {
        self.common.mailbox.post(job);
    }

    /// Hands over what waits until nothing is to be completed.
    pub(super) fn aside(&self, job: Aside) {
        self.common.mailbox.aside(job);
    }

    /// Hands over a question, which waits until nothing else is to be done.
    pub(super) fn chat(&self, job: ChatJob) {
        self.common.mailbox.chat(job);
    }

    /// Has the answer that is being made looked at: whether it is still wanted.
    pub(super) fn pause_chat(&self) {
        self.common.mailbox.pause_chat();
    }

    /// What is known of the folders.
    pub(super) fn memories(&self) -> Vec<Arc<Memory>> {
        self.common.keepers.lock().iter().map(|keeper| keeper.memory().clone()).collect()
    }

    /// Takes back the waiting job of a document, if there is one.
    pub(super) fn withdraw(&self, uri: &str) {
        self.common.mailbox.withdraw(uri);
    }

    /// Frees what the engine keeps for a document that was closed.
    pub(super) fn forget(&self, uri: &str) {
        self.common.mailbox.forget(uri);
    }

    /// Stops the thread, without waiting for it.
    pub(super) fn stop(&self) {
        self.common.mailbox.close();
        self.common.keepers.lock().clear();
    }

    /// Whether nothing is running or waiting.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_running.load(Ordering::Relaxed) && self.common.mailbox.is_empty()
    }
}

/// What the thread owns.
struct Engine {
    common: Common,
    /// Says which model is chosen; nobody does without it.
    store: Option<Store>,
    state: watch::Sender<ModelState>,
    is_running: Arc<AtomicBool>,
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Engine {
    fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut wanted = self.chosen();
        loop {
            let Some(mut completer) = self.build(wanted) else { return };
            let roots = self.common.roots.lock().clone();
            let open = |root: &PathBuf| self.common.remember(completer.as_mut(), root);
            let keepers: Vec<Keeper> = roots.iter().filter_map(open).collect();
            *self.common.keepers.lock() = keepers;
            self.state.send_replace(ModelState::Ready);
            let Some(reason) = self.serve(&mut completer, &mut pause) else { return };
            tracing::error!("the engine panicked: {reason}; it is rebuilt after {pause:?}");
            // What is broken may well break again while it is being dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(completer)));
            self.common.mailbox.clear();
            if !self.common.mailbox.sleep(pause) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            wanted = self.common.serving.lock().installed.clone();
            if pause > LONGEST_TRIAL
                && let Some(model) = wanted.take()
            {
                self.common.refuse(model.name, reason, DEFAULT.into());
            }
        }
    }

    /// The model that the first folder uses.
    fn chosen(&self) -> Option<Installed> {
        let root = self.common.roots.lock().first().cloned()?;
        let workspace = self.store.as_ref()?.workspace(&root);
        let text = workspace.use_text();
        self.common.serving.lock().followed = text.clone();
        match workspace.choice(text.as_deref()) {
            Choice::Default => None,
            Choice::Installed(model) => Some(model),
            Choice::Missing { name, reason } => {
                self.common.refuse(name, reason, DEFAULT.into());
                None
            }
        }
    }

    /// `None` when no completer can be built; the state says why. An installed model that cannot be loaded gives
    /// way to the one inside the program.
    fn build(&self, wanted: Option<Installed>) -> Option<Box<dyn Completer>> {
        let start = Instant::now();
        let mut installed = wanted;
        let mut made = self.common.make(installed.as_ref());
        if let (Err(reason), Some(model)) = (&made, &installed) {
            self.common.refuse(model.name.clone(), reason.clone(), DEFAULT.into());
            installed = None;
            made = self.common.make(None);
        }
        match made {
            Ok(completer) => {
                tracing::info!("the model is ready after {:?}", start.elapsed());
                self.common.took_over(completer.name(), installed);
                Some(completer)
            }
            Err(reason) => {
                tracing::error!("the model could not be loaded: {reason}");
                self.state.send_replace(ModelState::Failed(reason));
                self.common.mailbox.close();
                None
            }
        }
    }

    /// Does what changes the completer itself.
    fn change(&self, completer: &mut Box<dyn Completer>, work: Work) {
        match work {
            Work::Swap(swap) => {
                let mut new = swap.completer;
                self.common.move_in(new.as_mut(), swap.fresh);
                // It was loaded a while ago.
                new.set_sources(self.common.sources.lock().clone());
                let name = new.name();
                let old = std::mem::replace(completer, new);
                self.common.took_over(name.clone(), swap.installed);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
                tracing::info!("the model {name} took over");
                let _ = self.common.news.send(News::Swapped { name });
            }
            Work::Draw(sources) => completer.set_sources(sources),
            Work::Folders(roots) => {
                let old = std::mem::replace(&mut *self.common.roots.lock(), roots.clone());
                let gone = |root: &PathBuf| old.contains(root) && !roots.contains(root);
                self.common.keepers.lock().retain(|k| !gone(&k.memory().root().to_path_buf()));
                old.iter().filter(|root| gone(root)).for_each(|root| completer.leave(root));
                for root in roots.iter().filter(|root| !old.contains(root)) {
                    let keeper = self.common.remember(completer.as_mut(), root);
                    self.common.keepers.lock().extend(keeper);
                }
            }
            Work::Aside(job) => (job.run)(Some(completer.as_mut()), &job.cancel),
            Work::Chat(job, pause) => {
                if let Some(job) = job.go_on(completer.as_mut(), &pause) {
                    self.common.mailbox.chat(job);
                }
            }
            Work::Forget(uri) => completer.forget(&uri),
            Work::Answer(_) | Work::Idle => {}
        }
    }

    /// Answers jobs until the mailbox is closed (`None`) or a panic, whose message it returns.
    fn serve(&self, completer: &mut Box<dyn Completer>, pause: &mut Duration) -> Option<String> {
        let mut quiet = Some(QUIET);
        while let Some(work) = self.common.mailbox.take(quiet) {
            let job = match work {
                Work::Answer(job) => job,
                other => {
                    let run = AssertUnwindSafe(|| match other {
                        // What is not finished goes on at once, what is does not come again before a request.
                        Work::Idle => completer.idle().then_some(Duration::ZERO),
                        other => {
                            self.change(completer, other);
                            Some(QUIET)
                        }
                    });
                    match catch_unwind(run) {
                        Ok(next) => quiet = next,
                        Err(panic) => {
                            let reason = panic_text(panic.as_ref());
                            self.state.send_replace(ModelState::Restarting(reason.clone()));
                            return Some(reason);
                        }
                    }
                    continue;
                }
            };
            quiet = Some(QUIET);
            if job.cancel.is_cancelled() {
                self.common.mailbox.done();
                continue;
            }
            self.is_running.store(true, Ordering::Relaxed);
            let start = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| {
                completer.complete(&job.request, &job.progress, &job.cancel)
            }));
            self.is_running.store(false, Ordering::Relaxed);
            self.common.mailbox.done();
            let panic = answer.as_ref().err().map(|panic| panic_text(panic.as_ref()));
            if let Some(reason) = &panic {
                // Before the answer, so that nobody hopes for the engine after it.
                self.state.send_replace(ModelState::Restarting(reason.clone()));
            }
            let mut completion = answer.unwrap_or(Completion::silent(Silence::EngineFailed));
            completion.timing.total = start.elapsed();
            job.outcome.send_replace(Some(Arc::new(completion)));
            if panic.is_some() {
                return panic;
            }
            *pause = FIRST_PAUSE;
        }
        None
    }
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or("unknown panic".into())
}
