//! A model on another machine: asked over HTTP in one of several protocols, heard as it speaks, and left alone for a
//! while when it fails. It knows nothing of documents; what its words are worth is for whoever asked to say.
//!
//! [`RemoteModel::ask`] never waits: the answer comes in a thread of its own. Letting go of an [`Answer`] closes the
//! connection, so that the server stops as well.

mod failure;
mod http;
mod keyring;
mod protocol;
mod talk;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use ureq::Agent;

pub use crate::config::Remote;
pub use keyring::{log_in, log_out};
pub use protocol::Said;

use crate::generation::CancelToken;
use crate::tokenizer::Markers;

use failure::{Asked, Failure};
use http::{COMPLETION, Limits};
use protocol::Protocol;

/// What is to be completed.
#[derive(Clone, Debug)]
pub struct Question {
    /// The file, as the model should know it.
    pub path: String,
    /// The name of its language.
    pub language: &'static str,
    /// What starts a comment there.
    pub comment: Option<&'static str>,
    /// The text before the cursor.
    pub prefix: String,
    /// The text behind it.
    pub suffix: String,
    /// Lines of other files, each with its path; the ones that matter most last.
    pub others: Vec<(String, String)>,
    /// Tokens of the answer at most.
    pub max_tokens: usize,
    /// Whether it ends with its line.
    pub one_line: bool,
}

/// How a remote model is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Questions that were answered.
    pub answers: u64,
    /// Why it is left alone, and for how long still; `None` if it may be asked.
    pub failure: Option<(String, Duration)>,
    /// How long the last answers took from the question to their end, oldest first.
    pub times: Vec<Duration>,
}

/// The first pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A question that was given up without a word after this long counts as failed.
const SLOW: Duration = Duration::from_secs(1);
/// Answer times that are remembered.
const TIMES: usize = 256;
/// How often a wait looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(5);

/// A remote model. Clones are the same one.
#[derive(Clone)]
pub struct RemoteModel(Arc<Inner>);

struct Inner {
    remote: Remote,
    protocol: &'static Protocol,
    /// The key in the environment; it counts before that in the keyring.
    own_key: Option<String>,
    kept_key: Mutex<Kept>,
    /// Held while the keyring is asked, so that it is asked once.
    keyring: Mutex<()>,
    state: Mutex<State>,
}

/// What is known of the key in the keyring.
#[derive(Default)]
struct Kept {
    key: Option<String>,
    was_asked: bool,
}

#[derive(Default)]
struct State {
    agent: Option<Agent>,
    answers: u64,
    times: VecDeque<Duration>,
    /// How long an answer usually takes; unknown before the first and after one that was waited for in vain.
    usual: Option<Duration>,
    failure: Option<(String, Instant)>,
    pause: Duration,
}

impl PartialEq for RemoteModel {
    fn eq(&self, other: &RemoteModel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl RemoteModel {
    /// The model at that address. Nothing is sent yet. `patience` is how long the first answer is worth waiting for.
    ///
    /// # Errors
    /// Markers of a family that is not known, or that the protocol has no use for.
    pub fn new(remote: Remote, patience: Option<Duration>) -> Result<RemoteModel, String> {
        let protocol = Protocol::named(remote.protocol).ok_or("the protocol is not known")?;
        if !remote.markers.is_empty() {
            if Markers::of_family(&remote.markers).is_none() {
                let names: Vec<&str> = Markers::families().collect();
                return Err(format!("markers must be one of {}", names.join(", ")));
            }
            if !protocol.takes_markers() {
                return Err(format!(
                    "markers are for the protocol openai, not for {}",
                    remote.protocol
                ));
            }
        }
        let key = std::env::var(&remote.key_variable).ok().filter(|key| !key.trim().is_empty());
        let key = key.map(|key| key.trim().to_string());
        if key.iter().any(|key| !keyring::is_key(key)) {
            let variable = &remote.key_variable;
            return Err(format!(
                "what {variable} holds is no key: it has spaces or other characters inside"
            ));
        }
        let state = State { usual: patience.map(|patience| patience / 2), ..State::default() };
        Ok(RemoteModel(Arc::new(Inner {
            remote,
            protocol,
            own_key: key,
            kept_key: Mutex::default(),
            keyring: Mutex::default(),
            state: Mutex::new(state),
        })))
    }

    /// Where it is and how it is asked.
    pub fn remote(&self) -> &Remote {
        &self.0.remote
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        let state = self.0.state.lock();
        let left = |until: &Instant| until.saturating_duration_since(Instant::now());
        let failure = state.failure.as_ref().map(|(reason, until)| (reason.clone(), left(until)));
        let waits = || {
            let Remote { key_variable, .. } = &self.0.remote;
            let reason = format!(
                "{} waits for its key from the keyring of this system: unlock that, or put the key into the \
                 environment variable {key_variable}",
                self.0.remote.origin()
            );
            self.0.keyring.is_locked().then_some((reason, Duration::ZERO))
        };
        Health {
            answers: state.answers,
            failure: waits().or(failure),
            times: state.times.iter().copied().collect(),
        }
    }

    /// How long an answer is worth waiting for: twice as long as it usually takes, and not at all as long as nobody
    /// knows.
    pub fn patience(&self) -> Duration {
        self.0.state.lock().usual.map_or(Duration::ZERO, |usual| 2 * usual)
    }

    /// The path that a question goes to and what is sent, for comparisons.
    pub fn request(&self, question: &Question) -> (&'static str, serde_json::Value) {
        (self.0.protocol.path, self.0.protocol.body(&self.0.remote, question))
    }

    /// Asks, and returns at once. `None` while the model is left alone after a failure. One question at a time: let
    /// go of the answer before.
    pub fn ask(&self, question: Question) -> Option<Answer> {
        let inner = self.0.clone();
        let agent = {
            let mut state = inner.state.lock();
            if state.failure.as_ref().is_some_and(|(_, until)| Instant::now() < *until) {
                return None;
            }
            state
                .agent
                .get_or_insert_with(|| http::agent(inner.remote.is_local(), &COMPLETION))
                .clone()
        };
        let heard = Arc::new(Heard::default());
        let answer = Answer {
            client: self.0.clone(),
            agent: agent.clone(),
            heard: heard.clone(),
            question: question.clone(),
            start: Instant::now(),
        };
        let run = move || inner.converse(&agent, &question, &heard);
        let thread = thread::Builder::new().name("nestling-remote".into()).spawn(run);
        thread
            .inspect_err(|error| tracing::error!("no thread for a remote model: {error}"))
            .ok()?;
        Some(answer)
    }
}

/// A question as it goes over the wire, and where the text of its answer will stand.
struct Sent<'a> {
    path: &'a str,
    body: serde_json::Value,
    text: &'a [&'a str],
    limits: &'a Limits,
    /// Whether the model is left alone for a while after a failure.
    counts: bool,
}

impl Inner {
    fn converse(&self, agent: &Agent, question: &Question, heard: &Heard) {
        let start = Instant::now();
        let Protocol { path, text, .. } = self.protocol;
        let body = self.protocol.body(&self.remote, question);
        let sent = Sent { path, body, text, limits: &COMPLETION, counts: true };
        if let Some(Ok(())) = self.exchange(agent, sent, heard) {
            self.succeeded(start.elapsed());
        }
    }

    /// Sends something and has the text of the answer heard; `None` if that was let go before its end.
    fn exchange(
        &self,
        agent: &Agent,
        sent: Sent<'_>,
        heard: &Heard,
    ) -> Option<Result<(), Failure>> {
        let Remote { url, key_variable, .. } = &self.remote;
        let Sent { path, body, text, limits, counts } = sent;
        // Known before whoever waits is woken.
        let note = |failure: &Failure| {
            if counts && heard.is_wanted() {
                self.failed(failure.clone());
            }
        };
        // Many write the address of such a server with its version.
        let base =
            if path.starts_with("/v1/") { url.strip_suffix("/v1").unwrap_or(url) } else { url };
        let key = match self.key(&|| heard.is_wanted()) {
            Ok(key) => key,
            Err(failure) => {
                note(&failure);
                if heard.end(Stage::Failed) {
                    return Some(Err(failure));
                }
                // Whoever asks next shall not wait for the same.
                self.failed(failure);
                return None;
            }
        };
        let origin = self.remote.origin();
        let asked = Asked { origin, path, variable: key_variable, has_key: key.is_some() };
        let url = format!("{base}{path}");
        let answer = http::send(agent, &url, key.as_deref(), &body, &asked, limits);
        let (end, body) = match answer {
            Ok(mut body) => {
                let mut hear = |piece: &str, is_cut: bool| heard.add(piece, is_cut);
                (http::listen(&mut body, text, limits, &mut hear), Some(body))
            }
            Err(failure) => (Err(failure), None),
        };
        let stage = if end.is_ok() { Stage::Over } else { Stage::Failed };
        end.as_ref().err().into_iter().for_each(note);
        let is_wanted = heard.end(stage);
        // What is read to its end keeps the connection for the next question.
        if let Some(mut body) = body.filter(|_| stage == Stage::Over) {
            let _ = std::io::copy(&mut body, &mut std::io::sink());
        }
        is_wanted.then_some(end)
    }

    /// The key, from the environment or the keyring. That is asked in the thread of the first question, and again
    /// after a failure: the user may have put another key there.
    fn key(&self, is_wanted: &dyn Fn() -> bool) -> Result<Option<String>, Failure> {
        if self.own_key.is_some() {
            return Ok(self.own_key.clone());
        }
        let _one_asks = self.keyring.lock();
        let is_failing = self.state.lock().failure.is_some();
        {
            let Kept { key, was_asked } = &*self.kept_key.lock();
            if *was_asked && !is_failing || !is_wanted() {
                return Ok(key.clone());
            }
        }
        let found = keyring::key(self.remote.origin(), &self.remote.key_variable);
        let key = found.map_err(|reason| Failure::new(format!("gets no key: {reason}")))?;
        *self.kept_key.lock() = Kept { key: key.clone(), was_asked: true };
        Ok(key)
    }

    /// A failure as the user hears of it.
    fn told(&self, failure: &Failure) -> String {
        let reason = format!("{} {}", self.remote.origin(), failure.reason);
        let keys = [self.own_key.clone(), self.kept_key.lock().key.clone()];
        keys.iter().flatten().fold(reason, |reason, key| reason.replace(key.as_str(), "[key]"))
    }

    fn succeeded(&self, time: Duration) {
        let mut state = self.state.lock();
        state.answers += 1;
        state.failure = None;
        state.pause = Duration::ZERO;
        state.usual = Some(state.usual.map_or(time, |usual| (3 * usual + time) / 4));
        if state.times.len() == TIMES {
            state.times.pop_front();
        }
        state.times.push_back(time);
    }

    fn failed(&self, failure: Failure) {
        let reason = self.told(&failure);
        let mut state = self.state.lock();
        state.pause = (2 * state.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let until = Instant::now() + failure.retry_after.unwrap_or(state.pause);
        state.usual = None;
        let known = state.failure.replace((reason.clone(), until));
        if known.is_none_or(|(known, _)| known != reason) {
            tracing::info!("the remote model is not used for now: {reason}");
        }
    }
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Coming,
    Over,
    Failed,
    /// Nobody wants it any more.
    LetGo,
}

/// What both sides of an answer see.
#[derive(Default)]
struct Heard {
    told: Mutex<(String, Stage)>,
    changed: Condvar,
    /// Whether what was cut off is kept: prose is, a line of code is not.
    keeps_all: bool,
}

impl Heard {
    /// Whether somebody waits for more.
    fn is_wanted(&self) -> bool {
        self.told.lock().1 == Stage::Coming
    }

    /// Takes in a piece of text; false if it is not wanted.
    fn add(&self, piece: &str, is_cut: bool) -> bool {
        let (text, stage) = &mut *self.told.lock();
        text.push_str(piece);
        if is_cut && !self.keeps_all {
            // The line that was begun last is none.
            text.truncate(text.rfind('\n').unwrap_or(0));
        }
        self.changed.notify_all();
        *stage == Stage::Coming
    }

    /// Ends the answer; false if it was let go before.
    fn end(&self, how: Stage) -> bool {
        let (_, stage) = &mut *self.told.lock();
        let is_wanted = *stage == Stage::Coming;
        if is_wanted {
            *stage = how;
        }
        self.changed.notify_all();
        is_wanted
    }
}

/// An answer on its way. Dropped before its end, it closes the connection.
pub struct Answer {
    client: Arc<Inner>,
    agent: Agent,
    heard: Arc<Heard>,
    question: Question,
    start: Instant,
}

impl Answer {
    /// The code so far, and whether that is all; `None` if the answer failed.
    pub fn so_far(&self) -> Option<(String, bool)> {
        let (text, stage) = &*self.heard.told.lock();
        let code = || self.client.protocol.code(text, &self.question).to_string();
        (*stage != Stage::Failed).then(|| (code(), *stage == Stage::Over))
    }

    /// Waits at most so long for the end of the answer, or for a beginning of it that is `enough`. `None` if it does
    /// not come in time, fails, or is not wanted any more. What comes too late is not waited for the next time.
    pub fn wait(
        &self,
        until: Instant,
        enough: &dyn Fn(&str) -> bool,
        cancel: &CancelToken,
    ) -> Option<String> {
        loop {
            let (code, is_over) = self.so_far()?;
            if is_over {
                return Some(code);
            }
            if enough(&code) {
                if self.heard.end(Stage::LetGo) {
                    self.client.succeeded(self.start.elapsed());
                    self.hang_up();
                }
                return Some(code);
            }
            let now = Instant::now();
            if cancel.is_cancelled() {
                return None;
            }
            if now >= until {
                self.client.state.lock().usual = None;
                return None;
            }
            let mut told = self.heard.told.lock();
            if told.1 == Stage::Coming {
                self.heard.changed.wait_until(&mut told, until.min(now + LOOK));
            }
        }
    }

    fn hang_up(&self) {
        self.client.state.lock().agent = None;
        self.agent.clone().shutdown();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let is_silent = self.heard.told.lock().0.is_empty();
        if !self.heard.end(Stage::LetGo) {
            return;
        }
        self.hang_up();
        let waited = self.start.elapsed();
        if is_silent && waited >= SLOW {
            let seconds = waited.as_secs_f64();
            self.client.failed(Failure::new(format!("said nothing for {seconds:.0} s")));
        }
    }
}
