//! What became of a file that was repaired, and what was proven of each change.

use serde::Serialize;

use super::propose::Origin;

/// What was proven of a change; each includes the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "proof", content = "of")]
pub enum Evidence {
    /// Nothing.
    None,
    /// The file parses.
    Parses,
    /// A checker does not find this any more, and nothing new.
    Checks(String),
    /// The tests pass.
    Tests,
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Evidence::None => f.write_str("nothing proven"),
            Evidence::Parses => f.write_str("parses"),
            Evidence::Checks(what) => write!(f, "checks: {what} gone"),
            Evidence::Tests => f.write_str("tests pass"),
        }
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fixed {
    /// Line, from 1.
    pub line: usize,
    /// What was wrong.
    pub problem: String,
    /// What it does.
    pub title: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What was proven.
    pub evidence: Evidence,
}

/// What became of a file.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The text before.
    pub before: String,
    /// And after.
    pub after: String,
    /// The changes.
    pub fixed: Vec<Fixed>,
    /// What is still wrong, in words.
    pub left: Vec<String>,
    /// Whether the tests passed in the end; `None` without tests.
    pub tests: Option<bool>,
    /// What went wrong with checkers and tests themselves.
    pub notes: Vec<String>,
    /// Whether a check or the tests could not be run to their end.
    pub is_unchecked: bool,
    /// Whether the user's own check succeeds in the end; `None` without one, or where it could not be run.
    pub own_check: Option<bool>,
}
