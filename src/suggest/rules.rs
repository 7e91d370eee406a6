//! When a completion has said enough: at the end of a line, of a block, or where it starts over.

use crate::syntax::{BlockStyle, Language, Place};
use crate::workspace::Document;

/// How far a completion may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// To the end of the line.
    Line,
    /// Over following lines while they belong to what was begun.
    Block,
}

/// What the rules need to know about the place.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) extent: Extent,
    language: Option<&'static Language>,
    /// Columns of indentation of the cursor's line.
    indent: usize,
    /// The cursor's line up to the cursor is blank.
    blank: bool,
    /// First line after the cursor's that is not blank, trimmed.
    next_line: &'a str,
}

/// Lines that a block completion has at most.
const MAX_LINES: usize = 12;
/// Equal lines in a row that mean the model is stuck.
const STUCK: usize = 3;

impl<'a> Rules<'a> {
    /// Looks at the cursor's line and what follows.
    pub(super) fn new(document: &Document, text: &'a str, offset: usize) -> Rules<'a> {
        let line_start = text[..offset].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let before = &text[line_start..offset];
        let rest = text[offset..].lines().next().unwrap_or("");
        let next = text[offset + rest.len()..].lines().map(str::trim).find(|l| !l.is_empty());
        let trimmed = before.trim_end();
        // An opener whose closer stands right behind the cursor takes an argument, not a block.
        let opens = (trimmed.ends_with(['{', '(', '[', ':']) && rest.trim().is_empty())
            || (trimmed.ends_with('{') && rest.trim() == "}");
        let in_code = document
            .tree
            .as_ref()
            .is_none_or(|tree| tree.place(offset.min(document.text.len())) == Place::Code);
        let prose = document.language.is_some_and(|l| l.block == BlockStyle::None);
        let free_right = only_closes(rest);
        let block = in_code && free_right && !prose && (trimmed.is_empty() || opens);
        Rules {
            extent: if block { Extent::Block } else { Extent::Line },
            language: document.language,
            indent: columns(before),
            blank: trimmed.is_empty(),
            next_line: next.unwrap_or(""),
        }
    }

    /// Where to cut `generated`, if it has gone as far as it should. Called after each token with all
    /// the text so far, so it only cuts what can no longer change.
    pub(super) fn cut(&self, generated: &str) -> Option<usize> {
        self.cut_by_lines(generated).or_else(|| start_of_loop(generated))
    }

    fn cut_by_lines(&self, generated: &str) -> Option<usize> {
        let mut at = 0;
        let mut previous: Option<&str> = None;
        // Equal lines in a row, and where the first of them ends.
        let (mut equal, mut first_end) = (1, 0);
        for (index, line) in generated.split_inclusive('\n').enumerate() {
            let complete = line.ends_with('\n');
            let content = line.trim_end();
            let after_first = index > 0;
            if after_first && complete && self.ends_before(content, &generated[..at]) {
                return Some(at);
            }
            if complete {
                let meaningful = content.trim().len() > 2;
                if previous == Some(content) && meaningful {
                    equal += 1;
                } else {
                    (equal, first_end) = (1, at + line.len());
                }
                if equal == STUCK {
                    return Some(first_end);
                }
                previous = Some(content);
                let done = at + content.len();
                if self.extent == Extent::Line && !content.trim().is_empty() {
                    return Some(done);
                }
                if self.extent == Extent::Line && (index > 0 || !self.blank) {
                    return Some(at.min(done));
                }
                if index + 1 >= MAX_LINES {
                    return Some(done);
                }
                if after_first && self.closes(content) {
                    return Some(done);
                }
            } else if after_first && self.starts_next_item(line) {
                return Some(at);
            }
            at += line.len();
        }
        None
    }

    /// Whether this whole line no longer belongs to the completion.
    fn ends_before(&self, content: &str, so_far: &str) -> bool {
        let text = content.trim();
        if text.is_empty() {
            // A blank line ends what was begun, unless nothing was said yet.
            return !so_far.trim().is_empty();
        }
        if !self.next_line.is_empty() && text.len() > 1 && text == self.next_line {
            return true;
        }
        if self.starts_next_item(content) {
            return true;
        }
        let width = columns(content);
        let closing = text.starts_with(['}', ')', ']']);
        // A closing line belongs to what opened it; that must be in the completion or on its line.
        width < self.indent
            || (closing && self.blank && width <= self.indent && !opens_more(so_far))
    }

    /// Whether the line closes the block that the completion or its line opened.
    fn closes(&self, content: &str) -> bool {
        content.trim().starts_with(['}', ')', ']'])
            && columns(content) <= self.indent
            && !self.blank
    }

    fn starts_next_item(&self, line: &str) -> bool {
        self.indent > 0
            && self.language.is_some_and(|l| l.stops.iter().any(|stop| line.starts_with(stop)))
    }
}

/// Where a text ends in the same few characters over and over, behind the first of them: a small model
/// falls into such loops within a line.
fn start_of_loop(text: &str) -> Option<usize> {
    const TIMES: usize = 4;
    let bytes = text.as_bytes();
    // Runs of one or two characters are rulers and indentation.
    (3..=40).take_while(|period| period * TIMES <= bytes.len()).find_map(|period| {
        let unit = &bytes[bytes.len() - period..];
        let loops = bytes.rchunks_exact(period).take_while(|chunk| *chunk == unit).count();
        let meaningful = unit.iter().any(|b| b.is_ascii_alphanumeric());
        let end = bytes.len() - (loops.max(1) - 1) * period;
        (loops >= TIMES && meaningful && text.is_char_boundary(end)).then_some(end)
    })
}

/// Columns of leading white space, tabs to multiples of 4.
pub(super) fn columns(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).fold(0, |n, c| match c {
        '\t' => (n / 4 + 1) * 4,
        _ => n + 1,
    })
}

/// Whether text right of the cursor only closes or ends things: nothing that code would run into.
pub(super) fn only_closes(rest: &str) -> bool {
    rest.chars().all(|c| c.is_whitespace() || ")]}>'\"`;,:".contains(c))
}

/// Whether the text opens more brackets than it closes.
fn opens_more(text: &str) -> bool {
    let balance: i32 = text
        .chars()
        .map(|c| match c {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        })
        .sum();
    balance > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    /// `code` with a cursor `|`; what is left of `generated` after the rules.
    #[track_caller]
    fn check(language: &str, code: &str, generated: &str, expected: &str) {
        let (before, after) = code.split_once('|').unwrap();
        let text = format!("{before}{after}");
        let document = Document::new("file:///a", language, 1, Text::new(text.clone()));
        let rules = Rules::new(&document, &text, before.len());
        // Token by token: the cut must come out the same however far the model has got.
        let ends = (1..=generated.len()).filter(|&end| generated.is_char_boundary(end));
        let cut = ends.filter_map(|end| rules.cut(&generated[..end])).next();
        assert_eq!(&generated[..cut.unwrap_or(generated.len())], expected, "{rules:?}");
    }

    #[test]
    fn a_line_ends_at_its_end() {
        check("rust", "fn f() {\n    let x = |\n}\n", "1;\n    let y = 2;\n", "1;");
        check("rust", "fn f() {\n    let x|\n}\n", " = 1;\n    let y = 2;\n", " = 1;");
        check("python", "x = f(|)\n", "1, 2\ny = 3\n", "1, 2");
    }

    #[test]
    fn a_block_ends_where_it_is_closed() {
        check("rust", "fn f() {|\n\nfn g() {}\n", "\n    a();\n}\n\nfn h", "\n    a();\n}");
        check("python", "def f():|\n", "\n    return 1\n\ndef g():\n", "\n    return 1\n");
        check("python", "def f():\n    |\n", "return 1\nx = 2\ny", "return 1\n");
    }

    #[test]
    fn what_follows_is_not_said_again() {
        check("rust", "fn f() {\n    |\n    b();\n}\n", "a();\n    b();\n    c();\n", "a();\n");
    }

    #[test]
    fn a_stuck_model_is_stopped() {
        let stuck = "let a = 1;\n    ".to_string() + &"print(a)\n    ".repeat(6);
        check("python", "def f():\n    |", &stuck, "let a = 1;\n    print(a)\n");
        let looping = "f(&request, &request, &request, &request, &request)";
        check("rust", "let x = |", looping, "f(&request, ");
        check("python", "# |", "==========================", "==========================");
    }

    #[test]
    fn comments_are_single_lines() {
        check("rust", "// the |\nfn f() {}\n", "end of it\n// more\n", "end of it");
    }
}
