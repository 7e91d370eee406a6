//! Lines of other files that belong beside a cursor: which they are, for training and for serving.
//! Nothing here knows models or prompts.

mod similar;
mod words;

pub use similar::{LEAST, Similar, WINDOW, choose, lines_before};
pub use words::{hash, identifiers};
