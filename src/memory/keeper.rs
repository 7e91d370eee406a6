//! Keeps a memory up to date beside everything else: one thread that looks at the disk when it is told to, and
//! now and then by itself. It works at low priority; nobody waits for it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::index::{IndexProgress, Memory, Update};

/// Files change in crowds: after a word of one, this long is waited for the others.
const SETTLE: Duration = Duration::from_millis(200);
/// Changes that nobody tells of, as another branch, are seen after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the keeper is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum KeeperState {
    /// Nothing was read yet.
    #[default]
    Starting,
    /// Reading files.
    Reading(IndexProgress),
    /// Up to date as of the last look.
    Ready(Update),
}

impl KeeperState {
    /// That of two folders together: what is behind counts.
    pub fn and(self, other: KeeperState) -> KeeperState {
        use KeeperState::{Reading, Ready, Starting};
        match (self, other) {
            (Starting, _) | (_, Starting) => Starting,
            (Ready(one), Ready(two)) => Ready(Update {
                files: one.files + two.files,
                tokens: one.tokens + two.tokens,
                bytes: one.bytes + two.bytes,
                ..two
            }),
            (Reading(reading), Ready(ready)) | (Ready(ready), Reading(reading)) => {
                Reading(IndexProgress {
                    files: reading.files + ready.files,
                    of: reading.of + ready.files,
                })
            }
            (Reading(one), Reading(two)) => {
                Reading(IndexProgress { files: one.files + two.files, of: one.of + two.of })
            }
        }
    }
}

#[derive(Default)]
struct Board {
    state: KeeperState,
    /// The last whole update.
    last: Option<Update>,
    wanted: bool,
    is_closed: bool,
}

/// The handle of the thread. Dropping it ends the thread, without waiting for it.
pub struct Keeper {
    board: Arc<(Mutex<Board>, Condvar)>,
    memory: Arc<Memory>,
}

impl Keeper {
    /// Starts with a first look at the disk. `say` hears of every change of the state.
    pub fn start(
        memory: Arc<Memory>,
        threads: usize,
        say: impl Fn(KeeperState) + Send + Sync + 'static,
    ) -> Keeper {
        let board: Arc<(Mutex<Board>, Condvar)> = Arc::default();
        board.0.lock().wanted = true;
        let (theirs, kept) = (board.clone(), memory.clone());
        let thread = thread::Builder::new().name("nestling-index".into());
        let started = thread.spawn(move || {
            lower_priority();
            keep(&kept, &theirs, threads, &say);
        });
        if let Err(error) = started {
            tracing::error!("the index thread could not be started: {error}");
        }
        Keeper { board, memory }
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Something changed on disk.
    pub fn poke(&self) {
        self.board.0.lock().wanted = true;
        self.board.1.notify_one();
    }

    /// What it does, and the last update that was finished.
    pub fn state(&self) -> (KeeperState, Option<Update>) {
        let board = self.board.0.lock();
        (board.state, board.last)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.board.0.lock().is_closed = true;
        self.board.1.notify_one();
    }
}

fn keep(
    memory: &Memory,
    board: &(Mutex<Board>, Condvar),
    threads: usize,
    say: &(impl Fn(KeeperState) + Sync),
) {
    let set = |state: KeeperState| {
        board.0.lock().state = state;
        say(state);
    };
    let is_wanted = || !board.0.lock().is_closed;
    let mut is_first = true;
    while wait(board, is_first) {
        let heard = Mutex::new(Instant::now());
        let hear = |progress: IndexProgress| {
            let mut heard = heard.lock();
            // A few files are no news.
            if progress.of > 50 && heard.elapsed() > Duration::from_millis(100) {
                *heard = Instant::now();
                set(KeeperState::Reading(progress));
            }
        };
        match memory.update(threads, &hear, &is_wanted) {
            Ok(update) => {
                let is_news = is_first || update.read > 0 || update.is_new;
                is_first = false;
                board.0.lock().last = Some(update);
                let state = KeeperState::Ready(update);
                match is_news || board.0.lock().state != state {
                    true => set(state),
                    false => board.0.lock().state = state,
                }
            }
            Err(error) => {
                tracing::warn!("the index of {}: {error:#}", memory.root().display());
                is_first = false;
                set(KeeperState::Ready(Update::default()));
            }
        }
    }
}

/// Waits until a look is due; false if nobody needs the memory any more.
fn wait(board: &(Mutex<Board>, Condvar), is_first: bool) -> bool {
    let (lock, changed) = board;
    let mut state = lock.lock();
    let due = Instant::now() + LOOK_AGAIN;
    while !state.is_closed && !state.wanted {
        if changed.wait_until(&mut state, due).timed_out() {
            break;
        }
    }
    let settled = Instant::now() + if is_first { Duration::ZERO } else { SETTLE };
    while !state.is_closed && !changed.wait_until(&mut state, settled).timed_out() {}
    state.wanted = false;
    !state.is_closed
}

/// Lets everything else on this machine go first.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: plain system calls without pointers; on Linux the priority is that of the calling thread, and
    // threads that it starts inherit it.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, thread, 10);
    }
}
