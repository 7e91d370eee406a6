//! From a place where a rule applies to the edits of its rewrite: texts with `$capture` in them.
//! `$list` is the capture's text, `$list.inner` without its first and last character, `$list.operand` in brackets
//! unless it needs none, `$list.lines` moved to where it is put, `$fresh.seen` a name that the file does not have
//! yet, `$fresh.$name` one after the capture `name`, `$$` a dollar.

use std::ops::Range;

use super::catalogue::{Edit, Rule};
use super::conditions::{Code, has_word, within};
use super::procedures;
use crate::syntax::{Match, Piece};
use crate::text::TextEdit;

/// The edits of a rewrite, in the order of the text; `None` if it cannot be made here.
pub(super) fn edits(rule: &Rule, found: &Match<'_>, code: &Code<'_>) -> Option<Vec<TextEdit>> {
    let mut edits = match &rule.procedure {
        Some(name) => procedures::named(name)?(found, code)?,
        None => {
            let mut edits = Vec::new();
            for edit in &rule.edits {
                make(edit, found, code, &mut edits)?;
            }
            edits
        }
    };
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let apart = edits.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start);
    (apart && !edits.is_empty()).then_some(edits)
}

fn make(edit: &Edit, found: &Match<'_>, code: &Code<'_>, edits: &mut Vec<TextEdit>) -> Option<()> {
    // A capture that the pattern did not make is a rewrite that cannot be made.
    let named = [&edit.replace, &edit.before, &edit.after, &edit.delete, &edit.within];
    if named.iter().any(|name| name.as_ref().is_some_and(|name| found.get(name).is_none())) {
        return None;
    }
    let capture = |name: &Option<String>| name.as_ref().and_then(|name| found.get(name));
    let source = code.source;
    if let Some(line) = &edit.import {
        edits.extend(import(line, code));
    } else if let Some(piece) = capture(&edit.replace) {
        let new_text = fill(&edit.text, found, code, indent_of(source, piece.range().start))?;
        edits.push(TextEdit { range: piece.range(), new_text });
    } else if let Some(piece) = capture(&edit.delete) {
        let start = line_start(source, piece.range().start);
        let end = piece.range().end;
        let rest = source[end..].split_inclusive('\n').next().unwrap_or_default();
        if !source[start..piece.range().start].trim().is_empty()
            || ![";", ""].contains(&rest.trim())
        {
            return None;
        }
        // The last line of a file may have no end; then the one before it loses its.
        let start = if rest.ends_with('\n') { start } else { start.saturating_sub(1) };
        edits.push(TextEdit { range: start..end + rest.len(), new_text: String::new() });
    } else if let Some(piece) = capture(&edit.before) {
        let start = line_start(source, piece.range().start);
        let indent = indent_of(source, piece.range().start);
        // Something else in the line would be moved apart.
        if source[start..piece.range().start] != *indent {
            return None;
        }
        let text = fill(&edit.text, found, code, indent)?;
        edits.push(TextEdit { range: start..start, new_text: lines(&text, indent) });
    } else if let Some(piece) = capture(&edit.after) {
        let end = piece.range().end;
        let rest = source[end..].split_inclusive('\n').next().unwrap_or_default();
        if ![";", ""].contains(&rest.trim()) {
            return None;
        }
        let indent = indent_of(source, piece.range().start);
        let text = lines(&fill(&edit.text, found, code, indent)?, indent);
        let at = end + rest.len();
        let new_text = if rest.ends_with('\n') { text } else { format!("\n{}", text.trim_end()) };
        edits.push(TextEdit { range: at..at, new_text });
    } else if let (Some(what), Some(place)) = (&edit.each, capture(&edit.within)) {
        let what = fill(what, found, code, "")?;
        let text = fill(&edit.text, found, code, "")?;
        let mut seen: Vec<Range<usize>> = Vec::new();
        for piece in place.all() {
            let inside = seen.iter().any(|range| within(&piece.range(), range));
            if !inside && same_code(piece.text(source), &what) && !is_label(piece, code) {
                seen.push(piece.range());
                edits.push(TextEdit { range: piece.range(), new_text: text.clone() });
            }
        }
        if seen.is_empty() {
            return None;
        }
    }
    Some(())
}

fn is_label(piece: Piece<'_>, code: &Code<'_>) -> bool {
    code.grammar.is_in(piece, code.grammar.labels)
}

/// Whether two texts are the same but for blanks.
fn same_code(a: &str, b: &str) -> bool {
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    a.len() < 500 && bare(a) == bare(b)
}

fn line_start(source: &str, at: usize) -> usize {
    source[..at].rfind('\n').map_or(0, |i| i + 1)
}

/// The blanks that a line begins with.
pub(super) fn indent_of(source: &str, at: usize) -> &str {
    let line = &source[line_start(source, at)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// Each line of a text behind an indentation, with its end.
fn lines(text: &str, indent: &str) -> String {
    let mut all = String::new();
    for line in text.trim_end().lines() {
        if !line.is_empty() {
            all.push_str(indent);
            all.push_str(line);
        }
        all.push('\n');
    }
    all
}

/// A template with its captures filled in.
fn fill(template: &str, found: &Match<'_>, code: &Code<'_>, indent: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let end = |text: &str| {
            text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
        };
        let name = &rest[..end(rest)];
        rest = &rest[name.len()..];
        if name == "fresh" {
            rest = rest.strip_prefix('.')?;
            // A name after a capture.
            let named = rest.strip_prefix('$');
            rest = named.unwrap_or(rest);
            let base = &rest[..end(rest)];
            rest = &rest[base.len()..];
            let base = match named {
                Some(_) => found.get(base)?.text(code.source),
                None => base,
            };
            text.push_str(&fresh(base, code.source));
            continue;
        }
        let piece = found.get(name)?;
        let own = piece.text(code.source);
        let form = ["inner", "operand", "lines"]
            .into_iter()
            .find(|form| rest.strip_prefix('.').is_some_and(|rest| &rest[..end(rest)] == *form));
        rest = &rest[form.map_or(0, |form| form.len() + 1)..];
        match form {
            Some("inner") => text.push_str(own.get(1..own.len().saturating_sub(1))?),
            Some("operand") if needs_brackets(piece, code) => {
                text.push('(');
                text.push_str(own);
                text.push(')');
            }
            Some("lines") => {
                text.push_str(&moved(own, indent_of(code.source, piece.range().start), indent))
            }
            _ => text.push_str(own),
        }
    }
    text.push_str(rest);
    Some(text)
}

/// A text of several lines, its indentation exchanged.
fn moved(text: &str, from: &str, to: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(index, line)| match line.strip_prefix(from) {
            Some(rest) if index > 0 => format!("{to}{rest}"),
            _ => line.to_string(),
        })
        .collect();
    lines.join("\n")
}

/// Whether an expression must stand in brackets where an operator or a member follows.
fn needs_brackets(piece: Piece<'_>, code: &Code<'_>) -> bool {
    let (kind, grammar) = (piece.kind(), code.grammar);
    let simple = grammar.names.contains(&kind)
        || grammar.calls.iter().any(|(call, ..)| *call == kind)
        || grammar.members.iter().any(|(member, ..)| *member == kind)
        || grammar.elements.iter().any(|(element, _)| *element == kind)
        || kind.starts_with("parenthesized")
        || [
            "list",
            "string",
            "tuple",
            "set",
            "dictionary",
            "array",
            "integer",
            "self",
            "string_literal",
        ]
        .contains(&kind)
        || kind.ends_with("_comprehension");
    !simple
}

/// A name like `base` that stands nowhere in a text.
pub(super) fn fresh(base: &str, source: &str) -> String {
    let numbered = (2..).map(|n| format!("{base}_{n}"));
    let mut names = std::iter::once(base.to_string()).chain(numbered);
    names.find(|name| !has_word(source, name)).unwrap_or_default()
}

/// Puts a line at the head of a file, behind its other imports, unless it is there.
pub(super) fn import(line: &str, code: &Code<'_>) -> Option<TextEdit> {
    let there = |p: &Piece<'_>| p.text(code.source).contains(line.trim_end_matches(';'));
    let imports = code.grammar.imports;
    let top = code.root.parts();
    // What stands in a group of Go is named without the keyword.
    let bare = line.strip_prefix("import ").filter(|bare| bare.starts_with('"'));
    let grouped = |p: &Piece<'_>| bare.is_some_and(|bare| p.text(code.source).contains(bare));
    if top.iter().filter(|p| imports.contains(&p.kind())).any(|p| there(p) || grouped(p)) {
        return None;
    }
    let is_import =
        |p: &&Piece<'_>| imports.contains(&p.kind()) || p.kind() == "future_import_statement";
    // Imports further down may be there for a reason.
    let head = |p: &&Piece<'_>| is_import(p) || is_docstring(**p);
    let last = top.iter().take_while(head).last();
    let at = match last {
        Some(last) => {
            // Some grammars count the end of the line to it.
            let end = last.range().start + last.text(code.source).trim_end().len();
            code.source[end..].find('\n').map_or(code.source.len(), |i| end + i + 1)
        }
        None => top.first().map_or(0, |first| line_start(code.source, first.range().start)),
    };
    let broken = at == code.source.len() && !code.source.ends_with('\n') && at > 0;
    let new_text = if broken { format!("\n{line}\n") } else { format!("{line}\n") };
    Some(TextEdit { range: at..at, new_text })
}

fn is_docstring(piece: Piece<'_>) -> bool {
    piece.kind() == "expression_statement"
        && piece.parts().first().is_some_and(|inner| inner.kind() == "string")
}
