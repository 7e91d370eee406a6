//! What compilers and checkers say about a workspace: which of them there are (`table`), how they are run
//! (`program`), on what (`overlay`: a copy, never the user's files), and how their output is read (`output`).

mod output;
mod overlay;
mod program;
mod table;

use std::ops::Range;

use crate::text::{Position, PositionEncoding, Text, short};

pub use output::Format;
pub use overlay::{MOST_BYTES, Overlay};
pub use program::{Ended, Finished, Program};
pub use table::{CHECKERS, Checker, LINTERS, installed};

/// A range of lines and columns, both from 0; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Line and column of the first character.
    pub start: (usize, usize),
    /// Line and column behind the last one.
    pub end: (usize, usize),
}

impl Span {
    /// The bytes of `text` that are meant; what lies outside is moved to the nearest place.
    pub fn bytes(&self, text: &Text) -> Range<usize> {
        let offset = |(line, character): (usize, usize)| {
            let position = Position { line: line as u32, character: character as u32 };
            text.offset(position, PositionEncoding::Utf32)
        };
        let (start, end) = (offset(self.start), offset(self.end));
        start.min(end)..start.max(end)
    }
}

/// Something that a checker found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnostic {
    /// Path below the root, with `/`.
    pub path: String,
    /// Where.
    pub span: Span,
    /// Whether the program cannot be built or run like this.
    pub is_error: bool,
    /// The checker's own name for the kind of problem.
    pub code: Option<String>,
    /// What it says.
    pub message: String,
    /// What it would do about it.
    pub suggestions: Vec<Suggestion>,
}

/// A change that a checker proposes.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// In words.
    pub message: String,
    /// Replacements: (path, where, text).
    pub edits: Vec<(String, Span, String)>,
    /// Whether the checker says that it may be applied unseen.
    pub is_certain: bool,
}

impl Diagnostic {
    /// What tells it from others when lines have moved.
    pub fn key(&self) -> (&str, Option<&str>, &str) {
        (&self.path, self.code.as_deref(), &self.message)
    }

    /// A name for people: the code, or the beginning of the message.
    pub fn name(&self) -> String {
        self.code.clone().unwrap_or_else(|| short(&self.message, 40))
    }

    /// Which pass of a compiler finds it, as far as that is known: what a later pass finds was hidden behind it.
    pub fn pass(&self) -> usize {
        let number = self.code.as_deref().and_then(|code| code.strip_prefix('E'));
        match number.and_then(|number| number.parse::<u32>().ok()) {
            // rustc: syntax, names, types, borrows.
            None => 0,
            Some(404 | 405 | 407 | 408 | 411 | 412 | 416 | 422..=435 | 531..=532 | 573..=576) => 1,
            Some(381..=384 | 499 | 500..=510 | 515 | 516 | 521 | 594..=597 | 712..=716) => 3,
            Some(_) => 2,
        }
    }
}

/// Whether `after` is what `before` would be without `gone`: that one is not there any more, and nothing is new but
/// what a later pass of the compiler finds.
pub fn is_better(before: &[Diagnostic], after: &[Diagnostic], gone: &Diagnostic) -> bool {
    let count = |all: &[Diagnostic], one: &Diagnostic| {
        all.iter().filter(|d| d.is_error == one.is_error && d.key() == one.key()).count()
    };
    let hidden = |d: &Diagnostic| !d.is_error || d.pass() > gone.pass();
    count(after, gone) < count(before, gone)
        && after.iter().all(|d| hidden(d) || count(after, d) <= count(before, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str) -> Diagnostic {
        Diagnostic {
            path: "a.rs".into(),
            is_error: true,
            code: Some(code.into()),
            message: message.into(),
            ..Diagnostic::default()
        }
    }

    #[test]
    fn a_repair_must_not_bring_another_error_unless_it_was_hidden() {
        let (name, ty, other) = (error("E0425", "x"), error("E0308", "y"), error("E0433", "z"));
        let before = [name.clone(), other.clone()];
        assert!(is_better(&before, std::slice::from_ref(&other), &name));
        assert!(is_better(&before, &[other.clone(), ty.clone()], &name), "types come after names");
        assert!(!is_better(&before, &before, &name));
        assert!(!is_better(std::slice::from_ref(&name), std::slice::from_ref(&other), &name));
        // One of two equal ones is something.
        assert!(is_better(&[ty.clone(), ty.clone()], std::slice::from_ref(&ty), &ty));
    }
}
