//! The question "what comes next here?" and its answer, in the words of an editor.
//! Offsets are bytes of the snapshot's text; whoever speaks a protocol translates.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::explain::Explained;
use super::repair::{Ask, Proposal, proposals};
use crate::generation::{CancelToken, Generator};
use crate::memory::Memory;
use crate::remote::RemoteModel;
use crate::text::TextEdit;
use crate::workspace::Snapshot;

/// Why a completion is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The user is typing; a wrong suggestion disturbs.
    Automatic,
    /// The user pressed the key that asks; something is better than nothing.
    Invoked,
}

/// A place in a document and what is wanted there.
#[derive(Clone)]
pub struct CompletionRequest {
    /// The workspace at the moment of the request.
    pub snapshot: Snapshot,
    /// The cursor, in bytes of the document's text, on a character boundary.
    pub offset: usize,
    /// Why it is asked.
    pub trigger: Trigger,
    /// How many suggestions are wanted at most.
    pub items: usize,
    /// The item that is selected in the editor's popup, as the edit it would make. A suggestion
    /// has to contain that edit: same range, and a text that begins with its text.
    pub selected: Option<TextEdit>,
    /// Of all that is shown without being asked for, this share should be right, 0 to 1; the completer's own
    /// if `None`.
    pub precision: Option<f32>,
    /// By how many logits this user's answers are surer than the scale says; 0 if nothing is known.
    pub habit: f32,
}

impl CompletionRequest {
    /// One suggestion, asked for by somebody who waits for it.
    pub fn invoked(snapshot: Snapshot, offset: usize) -> CompletionRequest {
        CompletionRequest {
            snapshot,
            offset,
            trigger: Trigger::Invoked,
            items: 1,
            selected: None,
            precision: None,
            habit: 0.0,
        }
    }
}

/// One edit that is offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// The range lies on one line and contains the cursor.
    pub edit: TextEdit,
    /// The estimated probability, 0 to 1, that the user wants exactly this.
    pub probability: f32,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache already.
    pub cached_tokens: usize,
    /// Tokens that were generated, over all suggestions.
    pub generated_tokens: usize,
    /// Passes of the network that this took.
    pub steps: usize,
    /// Those of the tokens that were copied from the memory and stood the trial.
    pub drafted_tokens: usize,
    /// From taking the request to the answer, without any time in a queue.
    pub total: Duration,
}

/// The answer: suggestions, best first, or the reason why there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// Best first; empty means silence.
    pub suggestions: Vec<Suggestion>,
    /// Why nothing is shown; `None` if something is.
    pub silence: Option<Silence>,
    /// What it cost.
    pub timing: Timing,
    /// Whether the remote model is still speaking: the next request may get a better answer.
    pub is_provisional: bool,
}

impl Completion {
    /// An answer without suggestions.
    pub fn silent(reason: Silence) -> Completion {
        Completion { silence: Some(reason), ..Completion::default() }
    }
}

/// Why nothing is suggested. The display form completes "nothing was shown because …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The model is still being loaded.
    ModelLoading,
    /// The model could not be loaded.
    ModelFailed,
    /// The engine stopped unexpectedly at this request.
    EngineFailed,
    /// Completion is switched off, here or everywhere.
    Disabled,
    /// The cursor is inside a word that the suggestion would not continue.
    InsideWord,
    /// The editor withdrew the request.
    Cancelled,
    /// A newer request for the same document took its place.
    Superseded,
    /// The text was changed in another way than the suggestion would have gone.
    Stale,
    /// The answer was not finished in time or within its tokens.
    OutOfTime,
    /// The model is not sure enough.
    LowConfidence,
    /// The suggestion would repeat what follows the cursor.
    RepeatsSuffix,
    /// The model suggests that nothing comes here.
    Empty,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silence::ModelLoading => "the model is still loading",
            Silence::ModelFailed => "the model could not be loaded",
            Silence::EngineFailed => "the engine failed and is being restarted",
            Silence::Disabled => "completion is switched off here",
            Silence::InsideWord => "the cursor is inside a word",
            Silence::Cancelled => "the editor cancelled the request",
            Silence::Superseded => "a newer request took its place",
            Silence::Stale => "the text changed in the meantime",
            Silence::OutOfTime => "the answer was not finished in time",
            Silence::LowConfidence => "the model is not sure enough",
            Silence::RepeatsSuffix => "it would repeat the text after the cursor",
            Silence::Empty => "the model suggests nothing here",
        })
    }
}

/// The text that a running request has generated so far. Clones see the same text.
///
/// It is what would be inserted at the cursor, without anything before it. The server compares it
/// with what the user types meanwhile, to let a run that is right go on.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<String>>);

impl Progress {
    /// Nothing generated yet.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// The text so far.
    pub fn text(&self) -> String {
        self.0.lock().clone()
    }

    /// Replaces the text.
    pub fn set(&self, text: &str) {
        let mut current = self.0.lock();
        current.clear();
        current.push_str(text);
    }
}

/// What an answer draws on beside the model.
#[derive(Clone, PartialEq)]
pub struct Sources {
    /// The memory is mixed with the model at every token.
    pub memory: bool,
    /// Lines of other files stand in the prompt.
    pub retrieval: bool,
    /// A model elsewhere is asked as well.
    pub remote: Option<RemoteModel>,
}

impl Default for Sources {
    fn default() -> Sources {
        Sources { memory: true, retrieval: true, remote: None }
    }
}

/// What answers completion requests: a model with its caches, or a script in a test.
pub trait Completer: Send {
    /// Answers one request. It publishes what it generates through `progress`, and returns soon
    /// after `cancel` is set; the answer is then ignored.
    fn complete(
        &mut self,
        request: &CompletionRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Completion;

    /// Frees what is kept for a document that was closed.
    fn forget(&mut self, _uri: &str) {}

    /// Opens the memory of the workspace at `root`, which counts from now on; whoever asks for it keeps it up to
    /// date.
    fn remember(&mut self, _root: &Path) -> Option<Arc<Memory>> {
        None
    }

    /// Whether a memory that another model has filled can be taken over: it holds the same tokens.
    fn fits(&self, _memory: &Memory) -> bool {
        false
    }

    /// Takes over a memory that fits, as [`Completer::remember`] opens one.
    fn adopt(&mut self, _memory: Arc<Memory>) {}

    /// Lets go of the memory of the workspace at `root`.
    fn leave(&mut self, _root: &Path) {}

    /// Switches on and off what is drawn on: the memory that is mixed in, the lines of other files in the prompt, a
    /// remote model.
    fn set_sources(&mut self, _sources: Sources) {}

    /// What could repair a place; without a model, what parser and rules say.
    fn proposals(&mut self, ask: &Ask<'_>, cancel: &CancelToken) -> Vec<Proposal> {
        proposals(None, ask, cancel)
    }

    /// The first suggestion at a place, and what each piece of it is owed to; nothing without a model.
    fn explained(
        &mut self,
        _request: &CompletionRequest,
        _cancel: &CancelToken,
    ) -> Option<(Suggestion, Vec<Explained>)> {
        None
    }

    /// The model with its caches, for work of another kind; `None` without one.
    fn generator(&mut self) -> Option<&mut Generator> {
        None
    }

    /// What the model is called.
    fn name(&self) -> String {
        "model".into()
    }

    /// Does a little of what can wait, while nobody asks for anything: some tens of milliseconds. False if
    /// there is nothing to do for now.
    fn idle(&mut self) -> bool {
        false
    }
}
