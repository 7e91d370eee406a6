//! Lines of other files that belong beside a cursor: similar windows, definitions of the names used
//! there, recent edits. Training and serving choose windows alike; nothing here knows models or prompts.
//!
//! After RepoCoder (Zhang et al. 2023): windows compared by their identifiers do as well as embeddings,
//! most hits lie in files with similar imports, and little similarity does harm, so that it is a gate.

mod definitions;
mod edits;
mod file;
mod index;
mod lookup;
mod query;
mod shared;
mod similar;
mod wanted;
mod windows;
mod words;

pub use index::{BrokenIndex, Retrieval};
pub use query::{DiskTexts, Edit, Kind, Open, Query, Snippet, Texts};
pub use shared::SharedRetrieval;
pub use similar::{LEAST, Similar, WINDOW, choose, lines_before};
pub use words::{hash, identifiers};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
