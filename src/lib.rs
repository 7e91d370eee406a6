//! nestling: a code model that lives in the editor.
//!
//! One program, read in the order in which data flows. Text comes in through [`server`] or [`cli`],
//! becomes an immutable [`workspace::Snapshot`], is cut into a prompt and completed by
//! [`generation`] with the network in [`model`], and leaves [`suggest`] as edits.

pub mod config;

pub mod text;

pub mod syntax;

pub mod workspace;

pub mod tokenizer;

pub mod model;

pub mod generation;

pub mod suggest;

pub mod train;

pub mod eval;

pub mod server;

pub mod cli;
