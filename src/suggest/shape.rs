//! From generated text to an edit that fits: nothing repeated, closers replaced instead of doubled,
//! the file's own indentation and line breaks.

use crate::text::TextEdit;

use super::Silence;
use super::rules::{columns, only_closes};

/// The place that an answer has to fit.
pub(super) struct Site<'a> {
    /// The text that the answer continues.
    pub(super) text: &'a str,
    /// The cursor.
    pub(super) offset: usize,
    /// The file's unit of indentation, as its language usually has it.
    pub(super) indent: &'a str,
}

/// The edit for an answer, or why there is none. The steps, in order: trailing space off; lines that
/// already follow off; overlap with the rest of the line off or replaced; indentation and line breaks
/// of the file.
pub(super) fn shape(site: &Site<'_>, answer: &str) -> Result<TextEdit, Silence> {
    let answer = answer.trim_end();
    if answer.trim().is_empty() {
        return Err(Silence::Empty);
    }
    let rest = rest_of_line(site.text, site.offset);
    let line_start = site.text[..site.offset].rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let whole_lines = site.text[line_start..site.offset].trim().is_empty();
    let after = &site.text[site.offset + rest.len()..];
    let answer = without_following_lines(answer, after, whole_lines);
    let (answer, replaced) = fit_rest(answer, rest);
    if answer.trim().is_empty() {
        return Err(Silence::RepeatsSuffix);
    }
    let new_text = in_style(site, answer);
    Ok(TextEdit { range: site.offset..site.offset + replaced, new_text })
}

/// The text from `offset` to the end of its line.
pub(super) fn rest_of_line(text: &str, offset: usize) -> &str {
    let rest = &text[offset..];
    &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())]
}

/// Cuts the last lines of an answer when the same lines stand after the cursor's line.
/// The first line counts only where the cursor's line is blank before the cursor.
fn without_following_lines<'a>(answer: &'a str, after: &str, whole_lines: bool) -> &'a str {
    let following: Vec<&str> =
        after.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
    if following.is_empty() {
        return answer;
    }
    let mut at = 0;
    let mut starts = Vec::new();
    for line in answer.split_inclusive('\n') {
        starts.push(at);
        at += line.len();
    }
    for &start in starts.iter().skip(usize::from(!whole_lines)) {
        let mut tail = answer[start..].lines().map(str::trim).filter(|line| !line.is_empty());
        let same = tail.clone().count() <= following.len()
            && following.iter().zip(tail.by_ref()).all(|(theirs, ours)| *theirs == ours);
        // A lone closer that follows on its own line is repeated only if the answer did not open it.
        let closers = answer[start..].trim();
        if same && !(only_closes(closers) && needs(answer, start, closers)) {
            return answer[..start].trim_end();
        }
    }
    answer
}

/// Whether the part of the answer before `start` leaves open what `closers` close.
fn needs(answer: &str, start: usize, closers: &str) -> bool {
    let count = |text: &str, set: &str| text.chars().filter(|c| set.contains(*c)).count();
    let before = &answer[..start];
    count(before, "([{") >= count(before, ")]}") + count(closers, ")]}")
}

/// Fits an answer to the rest of the cursor's line: (text to insert, bytes of the rest it replaces).
fn fit_rest<'a>(answer: &'a str, rest: &str) -> (&'a str, usize) {
    let trimmed = rest.trim_end();
    if trimmed.is_empty() {
        // Only blanks: the answer takes their place, or they would trail behind it.
        return (answer, rest.len());
    }
    let first = answer.lines().next().unwrap_or("");
    if only_closes(trimmed) {
        return (answer, closed_again(answer, trimmed));
    }
    // Code follows: the answer goes in front of it and must not say it again.
    let overlap = (1..=first.len().min(trimmed.len()))
        .rev()
        .filter(|&n| first.is_char_boundary(first.len() - n) && trimmed.is_char_boundary(n))
        .find(|&n| first[first.len() - n..] == trimmed[..n] && is_token_edge(trimmed, n));
    (&first[..first.len() - overlap.unwrap_or(0)], 0)
}

/// Bytes at the start of `rest` that the answer says again, so that it has to take their place: the
/// closers in the answer that nothing in it opened, the quote that ends a string around the cursor, and
/// separators behind them, all in the order of the rest.
fn closed_again(answer: &str, rest: &str) -> usize {
    let quote = rest.chars().next().filter(|c| "'\"`".contains(*c));
    let mut taken = 0;
    // The string that the place is in: the one around the cursor, or one of the answer's own.
    let (mut string, mut around) = (quote, quote.is_some());
    let mut open: Vec<char> = Vec::new();
    let (mut angles, mut escaped) = (0, false);
    let mut last = 0;
    for (at, c) in answer.char_indices() {
        let closes = if escaped {
            false
        } else if let Some(quote) = string {
            if c == quote {
                string = None;
            }
            c == quote && std::mem::take(&mut around)
        } else {
            match c {
                '"' | '`' => string = Some(c),
                '\'' if opens_string(&answer[at + 1..]) => string = Some(c),
                '(' => open.push(')'),
                '[' => open.push(']'),
                '{' => open.push('}'),
                '<' => angles += 1,
                _ => {}
            }
            match c {
                ')' | ']' | '}' => open.pop_if(|opened| *opened == c).is_none(),
                // It closes something only where something waits to be closed by it; arrows do not.
                '>' if answer[..at].ends_with(['-', '=']) => false,
                '>' if angles > 0 => {
                    angles -= 1;
                    false
                }
                '>' => rest[taken..].trim_start().starts_with('>'),
                _ => false,
            }
        };
        escaped = c == '\\' && !escaped;
        if closes {
            let left = rest[taken..].trim_start();
            if !left.starts_with(c) {
                return taken;
            }
            taken = rest.len() - left.len() + c.len_utf8();
            last = at + c.len_utf8();
        }
    }
    let (left, tail) = (&rest[taken..], &answer[last..]);
    let separators = left.len() - left.trim_start_matches([' ', ';', ',', ':']).len();
    let again = (1..=separators).rev().find(|&n| tail.ends_with(&left[..n]));
    taken + again.unwrap_or(0)
}

/// Whether a single quote in front of this begins a string or a character, and no lifetime or label: another quote
/// follows the word behind it, or no word does.
fn opens_string(rest: &str) -> bool {
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    word == 0 || rest[word..].starts_with('\'')
}

/// Whether an overlap of `n` bytes does not end inside a word.
fn is_token_edge(text: &str, n: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let before = text[..n].chars().next_back();
    let after = text[n..].chars().next();
    !(before.is_some_and(word) && after.is_some_and(word))
}

/// Indentation with the file's own characters, line breaks as the file has them.
fn in_style(site: &Site<'_>, answer: &str) -> String {
    let answer = &answer.replace('\r', "");
    let unit =
        file_unit(site.text).unwrap_or(if site.indent.is_empty() { "    " } else { site.indent });
    let width = if unit == "\t" { 4 } else { unit.len() };
    let mut out = String::with_capacity(answer.len() + 16);
    for (index, line) in answer.split('\n').enumerate() {
        if index == 0 {
            out.push_str(line);
            continue;
        }
        out.push('\n');
        let body = line.trim_start_matches([' ', '\t']);
        let lead = &line[..line.len() - body.len()];
        if body.is_empty() {
            continue;
        }
        let foreign = if unit == "\t" { lead.contains(' ') } else { lead.contains('\t') };
        if !foreign {
            out.push_str(lead);
        } else if unit == "\t" {
            let columns = columns(lead);
            out.push_str(&"\t".repeat(columns / width));
            out.push_str(&" ".repeat(columns % width));
        } else {
            out.push_str(&lead.replace('\t', unit));
        }
        out.push_str(body);
    }
    if site.text.contains("\r\n") { out.replace('\n', "\r\n") } else { out }
}

/// The unit that the first indented lines of a file use.
fn file_unit(text: &str) -> Option<&'static str> {
    const SPACES: &str = "        ";
    let mut narrowest = usize::MAX;
    for line in text.lines().take(2000) {
        if line.starts_with('\t') {
            return Some("\t");
        }
        let spaces = line.len() - line.trim_start_matches(' ').len();
        if spaces >= 2 && spaces < line.len() && !line.trim_start().starts_with('*') {
            narrowest = narrowest.min(spaces);
            if narrowest == 2 {
                break;
            }
        }
    }
    (narrowest <= 8).then(|| &SPACES[..narrowest])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::apply;
    use proptest::prelude::*;

    /// `code` with a cursor `|` and an answer; the text after accepting it.
    #[track_caller]
    fn check(code: &str, answer: &str, expected: Result<&str, Silence>) {
        let (before, after) = code.split_once('|').unwrap();
        let text = format!("{before}{after}");
        let site = Site { text: &text, offset: before.len(), indent: "    " };
        let result = shape(&site, answer).map(|edit| apply(&text, &[edit]));
        assert_eq!(result.as_deref().map_err(|e| *e), expected);
    }

    #[test]
    fn closers_are_not_doubled() {
        check("foo(|)", "a, b)", Ok("foo(a, b)"));
        check("foo(|);", "a, b);", Ok("foo(a, b);"));
        check("foo(|)", "a, bar(b)", Ok("foo(a, bar(b))"));
        check("foo(|)", "a, b", Ok("foo(a, b)"));
        check("let v = [|];", "1, 2];", Ok("let v = [1, 2];"));
        check("print(\"|\")", "hello\")", Ok("print(\"hello\")"));
        check("print(|)", "\"hi\"", Ok("print(\"hi\")"));
        check("fn f(|) {", "x: u8", Ok("fn f(x: u8) {"));
        check("if (|) {", "a == b", Ok("if (a == b) {"));
        check("g(\"|\")", ")", Ok("g(\")\")"));
        check("g(\"|\");", "a\");", Ok("g(\"a\");"));
        check("g(h(|));", "1));", Ok("g(h(1));"));
        check("g(h(|));", "1)", Ok("g(h(1));"));
        check("g(&'a |)", "str)", Ok("g(&'a str)"));
        check("g(\"a\", |)", "\"b)\")", Ok("g(\"a\", \"b)\")"));
        check("x = |;", "1;", Ok("x = 1;"));
        check("let v: Vec<|>;", "u8>;", Ok("let v: Vec<u8>;"));
        check("let v: Vec<Vec<|>> =", "u8>> =", Ok("let v: Vec<Vec<u8>> ="));
        check("fn f(x: Option<|>)", "Vec<u8>>)", Ok("fn f(x: Option<Vec<u8>>)"));
        check("fn f(|)", "x: u8) -> u8 {", Ok("fn f(x: u8) -> u8 {"));
        check("s.find(|)", "'\"')", Ok("s.find('\"')"));
        check("s.find(|)", "'(')", Ok("s.find('(')"));
        check("s.split(|)", "')'", Ok("s.split(')')"));
        check("s.split(|)", "'\\'')", Ok("s.split('\\'')"));
        check("f(|)", "x: &'a str)", Ok("f(x: &'a str)"));
        check("def add(|)", "a, b):\n    return a + b", Ok("def add(a, b):\n    return a + b"));
    }

    #[test]
    fn code_after_the_cursor_is_not_said_again() {
        check("let x = |foo(1);", "bar + foo(1);", Ok("let x = bar + foo(1);"));
        check("let x = | + 1;", "y", Ok("let x = y + 1;"));
        check("let x = |foo();", "foo();", Err(Silence::RepeatsSuffix));
        check("a|\n    b()\n", "()\n    b()", Ok("a()\n    b()\n"));
        check("f() {\n    |\n}", "a();\n}", Ok("f() {\n    a();\n}"));
        check(
            "f() {\n    |\n}",
            "if a {\n        b();\n    }",
            Ok("f() {\n    if a {\n        b();\n    }\n}"),
        );
    }

    #[test]
    fn nothing_is_silence() {
        check("let x = |", "  \n ", Err(Silence::Empty));
        check("let x = |1", "", Err(Silence::Empty));
    }

    #[test]
    fn the_file_decides_on_tabs_and_line_breaks() {
        check("\tif x {|", "\n        y()\n    }", Ok("\tif x {\n\t\ty()\n\t}"));
        check("  if x {|", "\n\ty()", Ok("  if x {\n  y()"));
        check("a {|\r\n", "\n    b", Ok("a {\r\n    b\r\n"));
    }

    #[test]
    fn blanks_after_the_cursor_are_replaced() {
        check("x = |   \n", "1", Ok("x = 1\n"));
    }

    proptest! {
        /// Whatever comes out of the model, the edit stays on the cursor's line and on character
        /// boundaries, and a balanced line is not made unbalanced by closers that were there.
        #[test]
        fn edits_stay_on_the_line(before in "[a-z(\\[{ é🦀]{0,12}", rest in "[)\\]};, \"a-z]{0,6}",
                                  after in "[\na-z}]{0,9}", answer in "[a-z()\\[\\]{}\"; \n🦀]{0,20}") {
            let text = format!("{before}{rest}\n{after}");
            let site = Site { text: &text, offset: before.len(), indent: "    " };
            if let Ok(edit) = shape(&site, &answer) {
                prop_assert_eq!(edit.range.start, before.len());
                prop_assert!(edit.range.end <= before.len() + rest.len());
                prop_assert!(text.is_char_boundary(edit.range.end));
                prop_assert!(!edit.new_text.trim().is_empty());
            }
        }
    }
}
