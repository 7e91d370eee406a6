//! What the repository already says: an index of its tokens, mixed with the model at every token.
//!
//! [`Memory`] keeps the files of a workspace as sorted [`segment`]s. A [`Focus`] looks at them from one cursor, in
//! tiers: the file itself, open files, the folder, the repository, and a table of general code. [`evidence`] counts what
//! followed the same history there, and the [`gate`] weighs it against the model.

pub mod chunks;
pub mod evidence;
pub mod focus;
pub mod gate;
pub mod general;
mod index;
mod keeper;
pub mod retrieval;
pub mod segment;
pub mod walk;

#[cfg(test)]
mod tests;

pub use focus::{Focus, FocusCache, Mixed, Neighbour, Recalled};
pub use gate::{Gate, Mixing};
pub use index::{IndexProgress, Memory, Update, fingerprint};
pub use keeper::{Keeper, KeeperState};
