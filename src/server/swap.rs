//! Another model takes the place of the one in use while the server runs: it is loaded beside it, in a thread of its
//! own, and handed to the engine, which goes on with it between two requests. The memories of the folders stay.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::engine::{Factory, STACK_BYTES, panic_text};
use super::mailbox::Mailbox;
use crate::memory::{Keeper, KeeperState};
use crate::store::{Choice, DEFAULT, Installed};
use crate::suggest::{Completer, Sources};

/// The model in use.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// What it is called; empty before there is one.
    pub(super) name: String,
    /// When it took its place.
    pub(super) since: Option<SystemTime>,
    /// `None` for the one inside the program, or the one that the command line names.
    pub(super) installed: Option<Installed>,
    /// The choice that was followed last, whether it could be or not, as the store notes it.
    pub(super) followed: Option<String>,
}

/// What the user should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Another model answers.
    Swapped { name: String },
    /// The chosen model cannot be loaded; this one goes on.
    Refused { name: String, reason: String, stays: String },
}

/// A model that is ready to take over.
pub(super) struct Swap {
    pub(super) completer: Box<dyn Completer>,
    pub(super) installed: Option<Installed>,
    /// Memories that had to be opened anew, for other tokens.
    pub(super) fresh: Vec<Keeper>,
}

/// The memories of the workspace's folders, each with the thread that keeps it.
pub(super) type Keepers = Arc<Mutex<Vec<Keeper>>>;

/// What the engine's thread, its handle and a loader share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) factory: Arc<Factory>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) keepers: Keepers,
    pub(super) roots: Arc<Mutex<Vec<PathBuf>>>,
    pub(super) index: watch::Sender<KeeperState>,
    pub(super) serving: Arc<Mutex<Serving>>,
    pub(super) sources: Arc<Mutex<Sources>>,
    pub(super) news: mpsc::UnboundedSender<News>,
}

impl Common {
    /// Makes a completer; the reason if that fails.
    pub(super) fn make(&self, installed: Option<&Installed>) -> Result<Box<dyn Completer>, String> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.factory)(installed)));
        let mut completer = match made {
            Ok(Ok(completer)) => completer,
            Ok(Err(error)) => return Err(format!("{error:#}")),
            Err(panic) => return Err(panic_text(panic.as_ref())),
        };
        completer.set_sources(self.sources.lock().clone());
        Ok(completer)
    }

    /// Opens the memory of a folder and has it kept up to date.
    pub(super) fn remember(&self, completer: &mut dyn Completer, root: &Path) -> Option<Keeper> {
        // One core stays with the user.
        let threads = thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)).min(4);
        let memory = catch_unwind(AssertUnwindSafe(|| completer.remember(root))).ok()??;
        let index = self.index.clone();
        Some(Keeper::start(memory, threads, move |state| _ = index.send_replace(state)))
    }

    /// Follows a choice: brings the model to the engine, or says why not, and returns when that is done.
    pub(super) async fn follow(self, choice: Choice) {
        let loading = match choice {
            Choice::Default => self.load(None),
            Choice::Installed(model) => self.load(Some(model)),
            Choice::Missing { name, reason } => {
                let stays = self.serving.lock().name.clone();
                return self.refuse(name, reason, stays);
            }
        };
        let _ = loading.await;
    }

    /// Loads a model beside everything else and hands it to the engine. The receiver hears when that is done, or
    /// that it could not be, which is news.
    fn load(self, installed: Option<Installed>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let run = move || {
            let name = installed.as_ref().map(|model| model.name.clone());
            match self.make(installed.as_ref()) {
                Ok(completer) => self.hand_over(completer, installed),
                Err(reason) => {
                    let stays = self.serving.lock().name.clone();
                    self.refuse(name.unwrap_or(DEFAULT.into()), reason, stays);
                }
            }
            let _ = done.send(());
        };
        let thread = thread::Builder::new().name("nestling-loader".into()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(run) {
            tracing::error!("the loading thread could not be started: {error}");
        }
        receiver
    }

    fn hand_over(&self, mut completer: Box<dyn Completer>, installed: Option<Installed>) {
        let known: Vec<_> = self.keepers.lock().iter().map(|k| k.memory().clone()).collect();
        let others = known.iter().filter(|memory| !completer.fits(memory));
        let others: Vec<PathBuf> = others.map(|memory| memory.root().to_path_buf()).collect();
        let open = |root: &PathBuf| self.remember(completer.as_mut(), root);
        let fresh = others.iter().filter_map(open).collect();
        self.mailbox.swap(Swap { completer, installed, fresh });
    }

    /// Says that the chosen model cannot be used, and which one is.
    pub(super) fn refuse(&self, name: String, reason: String, stays: String) {
        tracing::warn!("the model {name} cannot be used, {stays} is in use: {reason}");
        let _ = self.news.send(News::Refused { name, reason, stays });
    }

    /// Gives the memories of all folders to a model that takes over.
    pub(super) fn move_in(&self, completer: &mut dyn Completer, mut fresh: Vec<Keeper>) {
        let mut old = std::mem::take(&mut *self.keepers.lock());
        let mut new = Vec::new();
        for root in self.roots.lock().clone() {
            let take = |from: &mut Vec<Keeper>| {
                let at = from.iter().position(|keeper| keeper.memory().root() == root)?;
                Some(from.swap_remove(at))
            };
            let kept = take(&mut old).filter(|keeper| completer.fits(keeper.memory()));
            let keeper = take(&mut fresh).or_else(|| {
                completer.adopt(kept.as_ref()?.memory().clone());
                kept
            });
            new.extend(keeper.or_else(|| self.remember(completer, &root)));
        }
        *self.keepers.lock() = new;
    }

    /// Notes that a model answers from now on.
    pub(super) fn took_over(&self, name: String, installed: Option<Installed>) {
        let mut serving = self.serving.lock();
        (serving.name, serving.installed) = (name, installed);
        serving.since = Some(SystemTime::now());
    }
}
