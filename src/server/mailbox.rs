//! The queue in front of the engine thread: at most one job for each document.
//! The newest job is taken first, because that is where the user is. What changes the model itself comes between two
//! jobs, and only once it is ready, so that nobody waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::aside::Aside;
use super::chat::ChatJob;
use super::swap::Swap;
use crate::generation::CancelToken;
use crate::suggest::{Completion, CompletionRequest, Progress, Sources};

/// Where the answer of a job appears; closed without one if the job was given up.
pub(super) type Outcome = watch::Receiver<Option<Arc<Completion>>>;

/// A request with everything to answer it.
pub(super) struct Job {
    pub(super) uri: String,
    pub(super) request: CompletionRequest,
    pub(super) progress: Progress,
    pub(super) cancel: CancelToken,
    pub(super) outcome: watch::Sender<Option<Arc<Completion>>>,
}

/// What the engine does next.
pub(super) enum Work {
    /// Answer a request.
    Answer(Job),
    /// Do something beside completions.
    Aside(Box<Aside>),
    /// Go on with an answer, until the token is set.
    Chat(Box<ChatJob>, CancelToken),
    /// Free what is kept for a document that was closed.
    Forget(String),
    /// Go on with another model, which is loaded.
    Swap(Box<Swap>),
    /// Draw on these.
    Draw(Sources),
    /// Remember these folders, and no others.
    Folders(Vec<PathBuf>),
    /// Nobody wants anything: do a little of what can wait.
    Idle,
}

/// How long nothing was wanted before the engine does what can wait.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// How long folders wait for a moment in which nothing is to be completed.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    /// The newest is last.
    waiting: Vec<Job>,
    /// The newest is last.
    asides: Vec<Aside>,
    /// The oldest is first: what was begun goes on.
    chats: Vec<ChatJob>,
    /// Documents that were closed.
    gone: Vec<String>,
    /// Only the last of each counts.
    swap: Option<Box<Swap>>,
    sources: Option<Sources>,
    folders: Option<(Vec<PathBuf>, Instant)>,
    /// Of the job that the engine has taken.
    running: Option<CancelToken>,
    /// Of the work beside completions that it has taken: it gives way to what is typed.
    beside: Option<CancelToken>,
    /// Of the answer that it has taken: it gives way to everything.
    chatting: Option<CancelToken>,
    is_closed: bool,
}

impl State {
    fn pause_chat(&mut self) {
        if let Some(chatting) = self.chatting.take() {
            chatting.cancel();
        }
    }
}

/// Jobs on their way to the engine. Everything here returns at once but `take` and `sleep`.
#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Mailbox {
    /// Puts a job in, in place of the one that waits for the same document.
    pub(super) fn post(&self, job: Job) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.waiting.retain(|waiting| waiting.uri != job.uri);
        state.waiting.push(job);
        if let Some(beside) = state.beside.take() {
            beside.cancel();
        }
        state.pause_chat();
        self.changed.notify_one();
    }

    /// Puts a question in, or one back whose answer is not done. In front of others, it keeps its turn.
    pub(super) fn chat(&self, job: ChatJob) {
        self.change(|state| state.chats.insert(0, job));
    }

    /// Has the engine look whether the answer that it makes is still wanted.
    pub(super) fn pause_chat(&self) {
        self.state.lock().pause_chat();
    }

    /// Puts something in that gives way to completions. What waits for an older text of the document is dropped, and its
    /// outcome closed.
    pub(super) fn aside(&self, job: Aside) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.asides.retain(|waiting| waiting.uri != job.uri || waiting.revision == job.revision);
        state.asides.push(job);
        state.pause_chat();
        self.changed.notify_one();
    }

    /// Takes the waiting job of a document out.
    pub(super) fn withdraw(&self, uri: &str) {
        self.state.lock().waiting.retain(|waiting| waiting.uri != uri);
    }

    /// Takes the waiting job of a closed document out and tells the engine that the document is gone.
    pub(super) fn forget(&self, uri: &str) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| waiting.uri != uri);
        if state.is_closed || state.gone.iter().any(|gone| gone == uri) {
            return;
        }
        state.gone.push(uri.to_string());
        state.pause_chat();
        self.changed.notify_one();
    }

    /// Puts in a model that takes the place of the one in use before the next job.
    pub(super) fn swap(&self, swap: Swap) {
        self.change(|state| state.swap = Some(Box::new(swap)));
    }

    /// Says what the next jobs draw on.
    pub(super) fn draw(&self, sources: Sources) {
        self.change(|state| state.sources = Some(sources));
    }

    /// Says which folders are to be remembered, when no job waits.
    pub(super) fn folders(&self, folders: Vec<PathBuf>) {
        self.change(|state| state.folders = Some((folders, Instant::now())));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        if !state.is_closed {
            change(&mut state);
            state.pause_chat();
            self.changed.notify_one();
        }
    }

    /// Takes all waiting jobs out.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock();
        state.waiting.clear();
        state.asides.clear();
        state.chats.clear();
    }

    /// Waits for something to do; `None` once the mailbox is closed. Documents are forgotten before a
    /// request for the same document, opened again, is answered. With `quiet`, something that can wait is
    /// asked for after a while; at once if that is what was done last.
    pub(super) fn take(&self, quiet: Option<Duration>) -> Option<Work> {
        let mut state = self.state.lock();
        let due = quiet.map(|time| Instant::now() + time);
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(uri) = state.gone.pop() {
                return Some(Work::Forget(uri));
            }
            if let Some(swap) = state.swap.take() {
                // What is written so far is in the tokens of the other model.
                state.chats.clear();
                return Some(Work::Swap(swap));
            }
            if let Some(sources) = state.sources.take() {
                return Some(Work::Draw(sources));
            }
            // Where somebody types without a pause, there is never none.
            let waited = state.folders.as_ref().map(|(_, since)| since.elapsed());
            if waited.is_some_and(|waited| waited > PATIENCE)
                && let Some((folders, _)) = state.folders.take()
            {
                return Some(Work::Folders(folders));
            }
            if let Some(job) = state.waiting.pop() {
                state.running = Some(job.cancel.clone());
                return Some(Work::Answer(job));
            }
            if let Some(job) = state.asides.pop() {
                state.beside = Some(job.cancel.clone());
                return Some(Work::Aside(Box::new(job)));
            }
            // An index is opened for it, which takes longer than a key.
            if let Some((folders, _)) = state.folders.take() {
                return Some(Work::Folders(folders));
            }
            if !state.chats.is_empty() {
                let job = Box::new(state.chats.remove(0));
                let pause = CancelToken::new();
                state.chatting = Some(pause.clone());
                return Some(Work::Chat(job, pause));
            }
            match due {
                None => self.changed.wait(&mut state),
                Some(due) => {
                    if self.changed.wait_until(&mut state, due).timed_out() {
                        return Some(Work::Idle);
                    }
                }
            }
        }
    }

    /// Notes that the job taken last is over.
    pub(super) fn done(&self) {
        self.state.lock().running = None;
    }

    /// Waits; false if the mailbox was closed before the time was over.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.is_closed {
            if self.changed.wait_until(&mut state, end).timed_out() {
                return !state.is_closed;
            }
        }
        false
    }

    /// Ends everything: waiting jobs are dropped, the running one is cancelled, `take` returns.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.waiting.clear();
        state.asides.clear();
        state.chats.clear();
        state.pause_chat();
        if let Some(beside) = state.beside.take() {
            beside.cancel();
        }
        (state.swap, state.folders) = (None, None);
        if let Some(running) = state.running.take() {
            running.cancel();
        }
        self.changed.notify_all();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }
}
