//! nestling: a code model that lives in the editor, in one program with its model inside.
//!
//! Text comes in through [`server`] or [`cli`], becomes an immutable [`workspace::Snapshot`], is cut
//! into a prompt and continued by the network, and leaves [`suggest`] as edits of bytes.
//! `ARCHITECTURE.md` tells more, with the reasons.
//!
//! The modules in the order in which data flows. Each uses only what stands before it:
//!
//! - [`files`]: files that are written whole or not at all.
//! - [`config`]: the settings, validated once.
//! - [`text`]: positions, edits, the text of a document.
//! - [`syntax`]: the language table and parse trees. The only user of tree-sitter.
//! - [`workspace`]: open documents and files, seen through a snapshot.
//! - [`check`]: what compilers and checkers say, on a copy of the workspace.
//! - [`tokenizer`]: BPE and the prompt layouts of model families.
//! - [`memory`]: what the repository already says, mixed with the model at every token.
//! - [`model`]: shapes, weights, the network twice: differentiable, and fast with a KV cache.
//! - [`generation`]: prompt in, tokens out, cancelled between two of them.
//! - [`library`]: a model in three lines, for other programs.
//! - [`remote`]: a model on another machine, asked over HTTP.
//! - [`suggest`]: what is offered: prompt, stop rules, fitting to the place, or a reason for silence.
//! - [`chat`]: a question in words, its context from the repository, the answer of a model or of the repository itself.
//! - [`store`]: the models of a workspace, and which of them is in use.
//! - [`download`]: the only code that opens a connection: a model from a hub.
//! - [`train`]: from folders to a model directory.
//! - [`eval`]: suites and metrics.
//! - [`finetune`]: a model of a repository's own, installed only if it is better there.
//! - [`server`]: the language server. The only module that knows the protocol.
//! - [`cli`]: one file per subcommand. The only printer to stdout.
//!
//! One keystroke: [`server`] applies the edit to [`workspace::Documents`], takes a snapshot and posts a
//! [`suggest::CompletionRequest`] to the one thread that owns the model. There a [`suggest::Completer`]
//! builds the prompt, a [`generation::Generator`] continues it over the cache of the last keystroke, and
//! the text is shaped into a [`suggest::Suggestion`]. `tests/it/architecture.rs` holds the arrows.

pub mod files;

pub mod config;

pub mod text;

pub mod syntax;

pub mod workspace;

pub mod check;

pub mod sandbox;

pub mod statistics;

pub mod tokenizer;

pub mod memory;

pub mod model;

pub mod generation;

pub mod library;
pub use library::Model;

pub mod remote;

pub mod suggest;

pub mod chat;

pub mod store;

pub mod download;

pub mod train;

pub mod eval;

pub mod finetune;

pub mod server;

pub mod cli;
