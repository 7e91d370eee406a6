//! What the program suggests: completions now, repairs and optimizations later.
//! Everything here takes a snapshot and returns edits; nothing here knows the protocol.

mod completion;

pub use completion::{
    Completer, Completion, CompletionRequest, Progress, Silence, Suggestion, Timing, Trigger,
};
