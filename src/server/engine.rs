//! The one thread that owns the model. It loads it, answers one request after the other, and
//! rebuilds it after a panic; nobody else ever waits for it while holding a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::mailbox::{Job, Mailbox, QUIET, Work};
use crate::memory::{Keeper, KeeperState};
use crate::suggest::{Completer, Completion, Silence};

/// Makes a completer; called once at the start and again after each panic.
pub type Factory = dyn Fn() -> anyhow::Result<Box<dyn Completer>> + Send + Sync;

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
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The model's forward pass keeps large arrays on the stack in places.
const STACK_BYTES: usize = 16 << 20;

/// The memories of the workspace's folders, each with the thread that keeps it.
type Keepers = Arc<Mutex<Vec<Keeper>>>;

/// The handle of the engine thread. Dropping it stops the thread, without waiting for it.
pub(super) struct EngineThread {
    mailbox: Arc<Mailbox>,
    keepers: Keepers,
    index: watch::Receiver<KeeperState>,
    state: watch::Receiver<ModelState>,
    is_running: Arc<AtomicBool>,
}

impl EngineThread {
    /// Starts the thread. It builds the completer at once, and has it remember the folders `roots`.
    pub(super) fn spawn(factory: Arc<Factory>, roots: Vec<PathBuf>) -> EngineThread {
        let (sender, state) = watch::channel(ModelState::Loading);
        let (index_sender, index) = watch::channel(KeeperState::Starting);
        let mut handle = EngineThread {
            mailbox: Arc::default(),
            keepers: Keepers::default(),
            index,
            state,
            is_running: Arc::default(),
        };
        let engine = Engine {
            factory,
            roots,
            mailbox: handle.mailbox.clone(),
            keepers: handle.keepers.clone(),
            index: index_sender,
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

    /// Where the state of the first folder's index can be read and awaited.
    pub(super) fn index(&self) -> watch::Receiver<KeeperState> {
        self.index.clone()
    }

    /// Files changed on disk.
    pub(super) fn look_again(&self) {
        self.keepers.lock().iter().for_each(Keeper::poke);
    }

    /// Where the state of the model can be read and awaited.
    pub(super) fn state(&self) -> watch::Receiver<ModelState> {
        self.state.clone()
    }

    /// Hands over a job. It replaces the waiting job of the same document, if there is one; the
    /// replaced job's outcome is closed.
    pub(super) fn post(&self, job: Job) {
        self.mailbox.post(job);
    }

    /// Takes back the waiting job of a document, if there is one.
    pub(super) fn withdraw(&self, uri: &str) {
        self.mailbox.withdraw(uri);
    }

    /// Frees what the engine keeps for a document that was closed.
    pub(super) fn forget(&self, uri: &str) {
        self.mailbox.forget(uri);
    }

    /// Stops the thread, without waiting for it.
    pub(super) fn stop(&self) {
        self.mailbox.close();
        self.keepers.lock().clear();
    }

    /// Whether nothing is running or waiting.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_running.load(Ordering::Relaxed) && self.mailbox.is_empty()
    }
}

/// What the thread owns.
struct Engine {
    factory: Arc<Factory>,
    roots: Vec<PathBuf>,
    mailbox: Arc<Mailbox>,
    keepers: Keepers,
    index: watch::Sender<KeeperState>,
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
        loop {
            let Some(mut completer) = self.build() else { return };
            self.remember(completer.as_mut());
            self.state.send_replace(ModelState::Ready);
            let Some(reason) = self.serve(completer.as_mut(), &mut pause) else { return };
            tracing::error!("the engine panicked: {reason}; it is rebuilt after {pause:?}");
            // What is broken may well break again while it is being dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(completer)));
            self.mailbox.clear();
            if !self.mailbox.sleep(pause) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// `None` when the completer cannot be built; the state says why.
    fn build(&self) -> Option<Box<dyn Completer>> {
        let start = Instant::now();
        let reason = match catch_unwind(AssertUnwindSafe(|| (self.factory)())) {
            Ok(Ok(completer)) => {
                tracing::info!("the model is ready after {:?}", start.elapsed());
                return Some(completer);
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => panic_text(panic.as_ref()),
        };
        tracing::error!("the model could not be loaded: {reason}");
        self.state.send_replace(ModelState::Failed(reason));
        self.mailbox.close();
        None
    }

    /// Opens the memories of the workspace and has them kept up to date.
    fn remember(&self, completer: &mut dyn Completer) {
        // One core stays with the user.
        let threads = thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)).min(4);
        let open = |root: &PathBuf| {
            let memory = catch_unwind(AssertUnwindSafe(|| completer.remember(root))).ok()??;
            let index = self.index.clone();
            Some(Keeper::start(memory, threads, move |state| _ = index.send_replace(state)))
        };
        let keepers: Vec<Keeper> = self.roots.iter().filter_map(open).collect();
        *self.keepers.lock() = keepers;
    }

    /// Answers jobs until the mailbox is closed (`None`) or a panic, whose message it returns.
    fn serve(&self, completer: &mut dyn Completer, pause: &mut Duration) -> Option<String> {
        let mut quiet = Some(QUIET);
        while let Some(work) = self.mailbox.take(quiet) {
            let job = match work {
                Work::Answer(job) => job,
                other => {
                    let run = AssertUnwindSafe(|| match &other {
                        Work::Forget(uri) => {
                            completer.forget(uri);
                            Some(QUIET)
                        }
                        // What is not finished goes on at once, what is does not come again before a request.
                        _ => completer.idle().then_some(Duration::ZERO),
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
                self.mailbox.done();
                continue;
            }
            self.is_running.store(true, Ordering::Relaxed);
            let start = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| {
                completer.complete(&job.request, &job.progress, &job.cancel)
            }));
            self.is_running.store(false, Ordering::Relaxed);
            self.mailbox.done();
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

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or("unknown panic".into())
}
