//! Positions (UTF-8/16/32), edits and the text of a document.
//! Everything here is about bytes and characters; nothing knows a language, a file or a protocol.

mod content;
mod diff;
mod edit;
mod position;

pub use content::{Text, short};
pub use diff::minimal_edit;
pub use edit::{AppliedEdit, TextEdit, apply};
pub use position::{Position, PositionEncoding, TextRange, floor_boundary};

#[cfg(test)]
mod properties;
