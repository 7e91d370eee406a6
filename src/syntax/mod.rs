//! The language table, parse trees, scopes and outlines. The only user of tree-sitter.
//! A language is one row of the table in `table.rs` and a folder of queries beside it.

mod language;
mod lexemes;
mod lines;
mod pattern;
mod place;
mod query;
mod query_text;
mod scope;
mod table;
mod tree;

pub use language::{BlockStyle, Language};
pub use lexemes::{Fault, Lexeme, LexemeKind, Part};
pub use pattern::{Match, Patterns, Piece};
pub use place::Place;
pub use scope::{Scope, ScopeKind};
pub use tree::SyntaxTree;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
