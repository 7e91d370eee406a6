//! What the program suggests: completions now, repairs and optimizations later.
//! Everything here takes a snapshot and returns edits; nothing here knows the protocol.

mod candidate;
pub mod choice;
mod completer;
mod completion;
pub mod confidence;
mod consult;
pub mod document;
mod explain;
mod fallback;
pub mod message;
pub mod optimize;
mod prompt;
mod refit;
pub mod repair;
mod retrieved;
mod rules;
mod shape;

pub use completer::{CompletionOptions, ModelCompleter};
pub use completion::{
    Completer, Completion, CompletionRequest, Progress, Silence, Sources, Suggestion, Timing,
    Trigger,
};
pub use explain::{Explained, Origin, explanation};
pub use fallback::fallback;
pub use prompt::short_path;
