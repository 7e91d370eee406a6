//! One completion request from its arrival to its answer.
//! Each is answered exactly once: by the engine, by a run that was already there, by the fallback
//! while there is no model, or with a reason for silence as soon as it is not wanted any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tower_lsp_server::jsonrpc::{Error, Result};

use super::engine::ModelState;
use super::flights::{GRACE, Landing, Reuse};
use super::mailbox::{Job, Outcome};
use super::shared::{Shared, State};
use crate::suggest::{CompletionRequest, Silence, Suggestion, Trigger};
use crate::text::{Position, PositionEncoding, TextEdit, TextRange};
use crate::workspace::Document;

/// A request as the client means it.
pub(super) struct Ask {
    pub(super) uri: String,
    pub(super) position: Position,
    pub(super) trigger: Trigger,
    /// At most so many suggestions; the settings may say fewer.
    pub(super) items: usize,
    /// The selected popup item.
    pub(super) selected: Option<(TextRange, String)>,
}

/// What the client is shown: suggestions for the document as it is at the moment of the answer.
pub(super) struct Answer {
    pub(super) suggestions: Vec<Suggestion>,
    pub(super) document: Arc<Document>,
    pub(super) encoding: PositionEncoding,
    /// Unique among all answers.
    pub(super) serial: u64,
}

/// The outcome of a request.
struct Verdict {
    suggestions: Vec<Suggestion>,
    /// `None` if there are suggestions.
    silence: Option<Silence>,
    cursor: usize,
}

impl Verdict {
    fn silent(reason: Silence) -> Verdict {
        Verdict { suggestions: Vec::new(), silence: Some(reason), cursor: 0 }
    }

    fn landed(landing: Landing) -> Verdict {
        let Landing { completion, suggestions, cursor } = landing;
        let silence = match (suggestions.is_empty(), completion.suggestions.is_empty()) {
            (false, _) => None,
            (true, false) => Some(Silence::Stale),
            (true, true) => Some(completion.silence.unwrap_or(Silence::Empty)),
        };
        Verdict { suggestions, silence, cursor }
    }
}

/// How a request will be answered, decided the moment it arrives.
enum Plan {
    Now(Verdict),
    /// A run that is under way will tell.
    Join {
        serial: u64,
        outcome: Outcome,
    },
    /// A run of its own, after a wait.
    Run {
        serial: u64,
        wait: Duration,
        request: CompletionRequest,
    },
    /// There is no model at the moment, for this reason.
    Fallback {
        request: CompletionRequest,
        reason: Silence,
    },
}

/// Answers a request. If the future is dropped, because the client cancelled, the run behind it
/// is stopped unless another request takes it over within [`GRACE`].
pub(super) async fn answer(shared: &Arc<Shared>, ask: Ask) -> Result<Answer> {
    // No await before this line: the document must be the one the client spoke about.
    let (mut seat, plan) = sit_down(shared, ask)?;
    let verdict = tokio::select! {
        biased;
        reason = &mut seat.home => Verdict::silent(reason.unwrap_or(Silence::Stale)),
        verdict = carry_out(shared, &seat.uri, plan) => verdict,
    };
    seat.stand_up(verdict)
}

fn sit_down(shared: &Arc<Shared>, ask: Ask) -> Result<(Seat, Plan)> {
    let mut state = shared.state.lock();
    let Some(snapshot) = state.documents.snapshot(&ask.uri) else {
        return Err(Error::invalid_params(format!("the document is not open: {}", ask.uri)));
    };
    state.stats.counts.requests += 1;
    let (serial, home) = state.flights.enter(&ask.uri);
    let seat = Seat {
        shared: shared.clone(),
        uri: ask.uri,
        serial,
        home,
        document: snapshot.document.clone(),
        start: Instant::now(),
        is_answered: false,
    };
    let encoding = state.client.encoding;
    let text = &snapshot.document.text;
    let offset = text.offset(ask.position, encoding);
    let selected = ask.selected.map(|(range, new_text)| {
        let (start, end) = (text.offset(range.start, encoding), text.offset(range.end, encoding));
        TextEdit { range: start.min(end)..start.max(end), new_text }
    });
    let items = ask.items.min(state.config.max_items);
    let (trigger, precision) = (ask.trigger, Some(state.config.precision()));
    let habit = state.habit;
    let request =
        CompletionRequest { snapshot, offset, trigger, items, selected, precision, habit };
    let plan = plan(&mut state, &seat.uri, request);
    Ok((seat, plan))
}

fn plan(state: &mut State, uri: &str, request: CompletionRequest) -> Plan {
    let document = &request.snapshot.document;
    if !state.config.is_enabled_for(document.language.map(|language| language.name)) {
        return Plan::Now(Verdict::silent(Silence::Disabled));
    }
    let reason = match state.model() {
        ModelState::Ready => None,
        ModelState::Unused => Some(Silence::Disabled),
        ModelState::Loading => Some(Silence::ModelLoading),
        ModelState::Failed(_) => Some(Silence::ModelFailed),
        ModelState::Restarting(_) => Some(Silence::EngineFailed),
    };
    if let Some(reason) = reason {
        return Plan::Fallback { request, reason };
    }
    if request.selected.is_none() {
        let CompletionRequest { offset, trigger, items, .. } = request;
        match state.flights.reuse(document.text.as_str(), uri, offset, trigger, items) {
            Some(Reuse::Answer(landing)) => return Plan::Now(Verdict::landed(landing)),
            Some(Reuse::Join { serial, outcome }) => return Plan::Join { serial, outcome },
            None => {}
        }
    }
    let is_idle = state.engine.as_ref().is_some_and(|engine| {
        engine.withdraw(uri);
        engine.is_idle()
    });
    let wait = match request.trigger {
        Trigger::Invoked => Duration::ZERO,
        Trigger::Automatic => state.flights.rhythm(uri).wait(
            state.config.debounce,
            Instant::now(),
            state.stats.mean_answer(),
            is_idle,
        ),
    };
    let serial = state.flights.begin(uri, &request);
    Plan::Run { serial, wait, request }
}

async fn carry_out(shared: &Arc<Shared>, uri: &str, plan: Plan) -> Verdict {
    match plan {
        Plan::Now(verdict) => verdict,
        Plan::Join { serial, outcome } => land(shared, uri, serial, outcome).await,
        Plan::Run { serial, wait, request } => {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            match post(shared, uri, serial, request) {
                Some(outcome) => land(shared, uri, serial, outcome).await,
                None => Verdict::silent(Silence::Stale),
            }
        }
        Plan::Fallback { request, reason } => fall_back(shared, uri, request, reason).await,
    }
}

/// Hands the request to the engine; `None` if it is not wanted any more.
fn post(shared: &Shared, uri: &str, serial: u64, request: CompletionRequest) -> Option<Outcome> {
    let mut state = shared.state.lock();
    let (sender, outcome) = watch::channel(None);
    let (progress, cancel) = state.flights.posted(uri, serial, outcome.clone())?;
    let job = Job { uri: uri.to_string(), request, progress, cancel, outcome: sender };
    state.engine.as_ref()?.post(job);
    Some(outcome)
}

/// Waits for the end of a run and reads its answer against the text as it is then.
async fn land(shared: &Shared, uri: &str, serial: u64, mut outcome: Outcome) -> Verdict {
    // An error means that the job was given up; then there is no landing either.
    let _ = outcome.wait_for(Option::is_some).await;
    let mut state = shared.state.lock();
    if let Some(completion) = &*outcome.borrow() {
        state.stats.engine_took(completion.timing.total);
    }
    let Some(document) = state.documents.get(uri) else { return Verdict::silent(Silence::Stale) };
    match state.flights.landing(document.text.as_str(), uri, serial) {
        Some(landing) => Verdict::landed(landing),
        None => Verdict::silent(Silence::Stale),
    }
}

async fn fall_back(
    shared: &Shared,
    uri: &str,
    request: CompletionRequest,
    reason: Silence,
) -> Verdict {
    let (revision, cursor) = (request.snapshot.document.revision, request.offset);
    let fallback = shared.options.fallback;
    // It searches all open documents, which takes longer than a handler may.
    let completion = tokio::task::spawn_blocking(move || fallback(&request)).await;
    let suggestions = completion.map(|completion| completion.suggestions).unwrap_or_default();
    let state = shared.state.lock();
    let is_current = state.documents.get(uri).is_some_and(|now| now.revision == revision);
    match (suggestions.is_empty(), is_current) {
        (true, _) => Verdict::silent(reason),
        (false, false) => Verdict::silent(Silence::Stale),
        (false, true) => Verdict { suggestions, silence: None, cursor },
    }
}

/// The place of a request among those that wait: there is one for each document.
struct Seat {
    shared: Arc<Shared>,
    uri: String,
    serial: u64,
    home: oneshot::Receiver<Silence>,
    /// As it was when the request came; it may be closed since.
    document: Arc<Document>,
    start: Instant,
    is_answered: bool,
}

impl Seat {
    /// Ends the request with an answer.
    fn stand_up(mut self, mut verdict: Verdict) -> Result<Answer> {
        self.is_answered = true;
        let mut state = self.shared.state.lock();
        state.flights.leave(&self.uri, self.serial);
        let document = state.documents.get(&self.uri).unwrap_or(&self.document).clone();
        let cursor = verdict.cursor;
        verdict.suggestions.retain(|suggestion| is_sound(suggestion, &document, cursor));
        if verdict.suggestions.is_empty() && verdict.silence.is_none() {
            verdict.silence = Some(Silence::Empty);
        }
        state.stats.answered(&self.uri, verdict.silence, self.start.elapsed());
        self.shared.status_changed();
        let encoding = state.client.encoding;
        let suggestions = verdict.suggestions;
        Ok(Answer { suggestions, document, encoding, serial: self.serial })
    }
}

impl Drop for Seat {
    /// The client cancelled, and the library has answered it already.
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let mut state = self.shared.state.lock();
        state.stats.counts.cancelled += 1;
        if !state.flights.leave(&self.uri, self.serial) {
            return;
        }
        drop(state);
        let (shared, uri) = (self.shared.clone(), self.uri.clone());
        self.shared.spawn(async move {
            tokio::time::sleep(GRACE).await;
            let mut state = shared.state.lock();
            if state.flights.end_if_abandoned(&uri)
                && let Some(engine) = &state.engine
            {
                engine.withdraw(&uri);
            }
        });
    }
}

/// Whether an edit keeps what the protocol demands: one line, with the cursor inside.
fn is_sound(suggestion: &Suggestion, document: &Document, cursor: usize) -> bool {
    let range = &suggestion.edit.range;
    let text = &document.text;
    let line = text.line_range(text.line_of(cursor));
    let is_sound = line.start <= range.start
        && range.start <= cursor
        && cursor <= range.end
        && range.end <= line.end
        && text.as_str().get(range.clone()).is_some();
    if !is_sound {
        tracing::error!("a suggestion for {range:?} with the cursor at {cursor} was dropped");
    }
    is_sound
}
