//! What is under way for each document: who waits for an answer, which run may give it, and what
//! the user has typed since that run began.
//!
//! A run is not the same as a request. As long as the user types what the run generates, the run
//! stays good: a newer request joins it, or is answered from its result at once. Any other change
//! of the document ends it. At most one request of a document waits; a newer one sends the older home.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::debounce::Rhythm;
use super::mailbox::Outcome;
use crate::generation::CancelToken;
use crate::suggest::{Completion, CompletionRequest, Progress, Silence, Suggestion, Trigger};
use crate::text::TextEdit;

/// How long a run goes on when nobody waits for it any more. Editors withdraw a request and send
/// the next one in two messages; a run that survives the gap can answer the second.
pub(super) const GRACE: Duration = Duration::from_millis(15);

/// One run of the engine, from before its debounce to its end and beyond, while its answer is good.
pub(super) struct Flight {
    serial: u64,
    /// The cursor when it began. The text before it has not changed since.
    offset: usize,
    /// What stands between that place and the cursor now.
    typed: String,
    trigger: Trigger,
    items: usize,
    pub(super) cancel: CancelToken,
    progress: Progress,
    /// `None` during the debounce.
    outcome: Option<Outcome>,
}

/// A finished run, seen from the text as it is now.
pub(super) struct Landing {
    /// The completion as the engine gave it.
    pub(super) completion: Arc<Completion>,
    /// Its suggestions that agree with what was typed, cut down to what is still missing.
    pub(super) suggestions: Vec<Suggestion>,
    /// Where the cursor is now, if the user did nothing but type.
    pub(super) cursor: usize,
}

/// How a request can use the run that is there.
pub(super) enum Reuse {
    /// The run is over and its answer still good.
    Answer(Landing),
    /// The run will probably give the answer: wait for it.
    Join { serial: u64, outcome: Outcome },
}

/// The request that waits, and the way to send it home with the reason for its silence.
struct Waiting {
    seat: u64,
    home: oneshot::Sender<Silence>,
}

#[derive(Default)]
struct Slot {
    waiting: Option<Waiting>,
    flight: Option<Flight>,
    rhythm: Rhythm,
}

/// The runs and waiting requests of all documents.
#[derive(Default)]
pub(super) struct Flights {
    slots: HashMap<String, Slot>,
    last_serial: u64,
}

impl Flights {
    /// Seats a request and sends an older one of the same document home. The receiver fires, or
    /// is closed, when it is this request's turn to go.
    pub(super) fn enter(&mut self, uri: &str) -> (u64, oneshot::Receiver<Silence>) {
        let seat = self.next_serial();
        let (home, receiver) = oneshot::channel();
        let slot = self.slots.entry(uri.to_string()).or_default();
        slot.send_home(Silence::Superseded);
        slot.waiting = Some(Waiting { seat, home });
        (seat, receiver)
    }

    /// Gives a seat up. True if a run is left without anybody waiting for it.
    pub(super) fn leave(&mut self, uri: &str, seat: u64) -> bool {
        let Some(slot) = self.slots.get_mut(uri) else { return false };
        if slot.waiting.as_ref().is_none_or(|waiting| waiting.seat != seat) {
            return false;
        }
        slot.waiting = None;
        slot.flight.as_ref().is_some_and(|flight| flight.landed().is_none())
    }

    /// Ends a document's run if nobody waits for it; a finished one stays. True if it was ended.
    pub(super) fn end_if_abandoned(&mut self, uri: &str) -> bool {
        let Some(slot) = self.slots.get_mut(uri) else { return false };
        let is_running = slot.flight.as_ref().is_some_and(|flight| flight.landed().is_none());
        let is_abandoned = slot.waiting.is_none() && is_running;
        if is_abandoned {
            slot.flight = None;
        }
        is_abandoned
    }

    /// Whether the run of a document can serve a request at `offset`, and how.
    pub(super) fn reuse(
        &self,
        text: &str,
        uri: &str,
        offset: usize,
        trigger: Trigger,
        items: usize,
    ) -> Option<Reuse> {
        let flight = self.slots.get(uri)?.flight.as_ref()?;
        let fits = flight.trigger == trigger && flight.items >= items;
        if !fits || offset != flight.offset + flight.typed.len() {
            return None;
        }
        if let Some(landing) = flight.landing(text) {
            let is_good = !landing.suggestions.is_empty() && !landing.completion.is_provisional;
            return is_good.then_some(Reuse::Answer(landing));
        }
        // Closed without an answer: the engine gave the job up.
        let outcome = flight.outcome.clone().filter(|outcome| outcome.has_changed().is_ok())?;
        let generated = flight.progress.text();
        let goes_on = generated.len() > flight.typed.len() && generated.starts_with(&flight.typed);
        (goes_on || flight.typed.is_empty())
            .then_some(Reuse::Join { serial: flight.serial, outcome })
    }

    /// Begins a run in place of the one that is there. Its job is posted later, see [`Flights::posted`].
    pub(super) fn begin(&mut self, uri: &str, request: &CompletionRequest) -> u64 {
        let serial = self.next_serial();
        let flight = Flight {
            serial,
            offset: request.offset,
            typed: String::new(),
            trigger: request.trigger,
            // An answer that extends a popup item serves no other request.
            items: if request.selected.is_some() { 0 } else { request.items },
            cancel: CancelToken::new(),
            progress: Progress::new(),
            outcome: None,
        };
        self.slots.entry(uri.to_string()).or_default().flight = Some(flight);
        serial
    }

    /// Notes that a run's job goes to the engine now. `None` if the run is no longer wanted, or the
    /// text was changed during the debounce.
    pub(super) fn posted(
        &mut self,
        uri: &str,
        serial: u64,
        outcome: Outcome,
    ) -> Option<(Progress, CancelToken)> {
        let flight = self.slots.get_mut(uri)?.flight.as_mut()?;
        if flight.serial != serial || !flight.typed.is_empty() {
            return None;
        }
        flight.outcome = Some(outcome);
        Some((flight.progress.clone(), flight.cancel.clone()))
    }

    /// The answer of a finished run for the text as it is now; `None` if the run has ended without
    /// one, or was ended.
    pub(super) fn landing(&self, text: &str, uri: &str, serial: u64) -> Option<Landing> {
        let flight = self.slots.get(uri)?.flight.as_ref()?;
        if flight.serial != serial { None } else { flight.landing(text) }
    }

    /// Follows a change of the document: its run goes on if the change agrees with what the run
    /// has generated. Otherwise the run ends, and its request goes home. True if a run was ended.
    pub(super) fn edited(&mut self, uri: &str, edits: &[TextEdit], now: Instant) -> bool {
        let slot = self.slots.entry(uri.to_string()).or_default();
        slot.rhythm.key(now);
        let Some(flight) = &mut slot.flight else { return false };
        let is_over = !edits.iter().all(|edit| flight.follow(edit)) || !flight.agrees();
        if is_over {
            slot.flight = None;
            slot.send_home(Silence::Stale);
        }
        is_over
    }

    /// The typing rhythm in a document.
    pub(super) fn rhythm(&self, uri: &str) -> Rhythm {
        self.slots.get(uri).map(|slot| slot.rhythm).unwrap_or_default()
    }

    /// Forgets a document. Its run is ended, its waiting request sent home.
    pub(super) fn close(&mut self, uri: &str, reason: Silence) {
        if let Some(mut slot) = self.slots.remove(uri) {
            slot.send_home(reason);
        }
    }

    /// Lets go of finished answers for which nobody waits: another model may answer otherwise.
    pub(super) fn forget_landed(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| slot.waiting.is_none()) {
            slot.flight.take_if(|flight| flight.landed().is_some());
        }
    }

    /// Ends all runs and sends all requests home.
    pub(super) fn end_all(&mut self, reason: Silence) {
        for slot in self.slots.values_mut() {
            slot.flight = None;
            slot.send_home(reason);
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }
}

impl Slot {
    fn send_home(&mut self, reason: Silence) {
        if let Some(waiting) = self.waiting.take() {
            // It may just be leaving by itself.
            let _ = waiting.home.send(reason);
        }
    }
}

impl Drop for Flight {
    /// A run that is let go stops at its next token; a finished one does not mind.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Flight {
    fn landed(&self) -> Option<Arc<Completion>> {
        self.outcome.as_ref()?.borrow().clone()
    }

    /// Moves the edit into `typed`; false if it reaches outside.
    fn follow(&mut self, edit: &TextEdit) -> bool {
        let end = self.offset + self.typed.len();
        if edit.range.start < self.offset || edit.range.end > end {
            return false;
        }
        let range = edit.range.start - self.offset..edit.range.end - self.offset;
        self.typed.replace_range(range, &edit.new_text);
        true
    }

    fn agrees(&self) -> bool {
        if self.landed().is_some() {
            // Whether a finished answer is still good is seen suggestion by suggestion.
            return true;
        }
        let generated = self.progress.text();
        generated.starts_with(&self.typed) || self.typed.starts_with(&generated)
    }

    fn landing(&self, text: &str) -> Option<Landing> {
        let completion = self.landed()?;
        let rebase = |suggestion| rebase(suggestion, text, self.offset, &self.typed);
        let suggestions = completion.suggestions.iter().filter_map(rebase).collect();
        Some(Landing { completion, suggestions, cursor: self.offset + self.typed.len() })
    }
}

/// What is left of a suggestion made for the cursor at `offset` after `typed` was inserted there;
/// `None` if it says something else, or nothing more. `text` is the text with `typed` in it.
fn rebase(suggestion: &Suggestion, text: &str, offset: usize, typed: &str) -> Option<Suggestion> {
    if typed.is_empty() {
        return Some(suggestion.clone());
    }
    let TextEdit { range, new_text } = &suggestion.edit;
    let kept = text.get(range.start..offset)?;
    let rest = new_text.strip_prefix(kept)?.strip_prefix(typed)?;
    let range = offset + typed.len()..range.end + typed.len();
    let says_something = !rest.is_empty();
    says_something.then(|| Suggestion {
        edit: TextEdit { range, new_text: rest.to_string() },
        probability: suggestion.probability,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `before` and `after` carry the cursor as `|`; `after` has the rest in `[]` behind it.
    #[track_caller]
    fn check(before: &str, range_from: &str, new_text: &str, typed: &str, rest: Option<&str>) {
        let offset = before.find('|').expect("a cursor");
        let start = offset - range_from.len();
        let text = before.replace('|', typed);
        let edit = TextEdit { range: start..offset, new_text: new_text.into() };
        let suggestion = Suggestion { edit, probability: 0.5 };
        let rebased = rebase(&suggestion, &text, offset, typed).map(|rebased| rebased.edit);
        let cursor = offset + typed.len();
        let expected = rest.map(|rest| TextEdit { range: cursor..cursor, new_text: rest.into() });
        assert_eq!(rebased, expected);
    }

    #[test]
    fn typing_into_a_suggestion_leaves_its_rest() {
        check("let x = |;", "", "foo(a)", "fo", Some("o(a)"));
        check("let x = |;", "", "foo(a)", "foo(a)", None);
        check("let x = |;", "", "foo(a)", "fx", None);
        check("let x = na|;", "na", "name.len()", "me", Some(".len()"));
        check("let x = na|;", "na", "other", "me", None);
        check("a|\n", "", "\n  é\n", "\n  ", Some("é\n"));
    }
}
