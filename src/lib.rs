//! nestling: a code model that lives in the editor.
//!
//! One program, read in the order in which data flows. Text comes in through [`server`] or [`cli`],
//! becomes an immutable [`workspace::Snapshot`], is cut into a prompt and completed by
//! [`generation`] with the network in [`model`], and leaves [`suggest`] as edits.

pub mod cli;
pub mod config;
pub mod eval;
pub mod generation;
pub mod model;
pub mod server;
pub mod suggest;
pub mod syntax;
pub mod text;
pub mod tokenizer;
pub mod train;
pub mod workspace;
