//! Repairs by example: lines elsewhere that read almost like the one with the mistake, and what each has otherwise. A name
//! that is only another one there is carried over: what stands around it is the example.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::mutations::Mutation;
use crate::text::{Text, TextEdit};

/// What these changes are called.
pub(super) const RULE: &str = "as elsewhere";
/// Nats against them before any model is asked: the memory knows the examples and likes them.
const PRIOR: f32 = -1.0;
/// Tokens of a line that can be an example, and the share of both lines' tokens that must be the same.
const LEAST_TOKENS: usize = 4;
const ALIKE: f32 = 0.6;
/// Examples of a line, and lines that are looked at.
const EXAMPLES: usize = 8;
const LINES: usize = 4;

/// A line and its tokens.
type Line<'a> = (&'a str, &'a [Range<usize>]);

/// Changes of the lines of `within` that make them read as lines of `text` or of `others` do, most alike first.
pub(super) fn nearest<'a>(
    text: &'a Text,
    within: &Range<usize>,
    others: impl Iterator<Item = &'a str>,
) -> Vec<Mutation> {
    let source = text.as_str();
    let first = text.line_of(within.start);
    let last = text.line_of(within.end.saturating_sub(1).max(within.start));
    let mut seen = HashSet::new();
    let own = source.lines();
    let examples: Vec<(&str, Vec<Range<usize>>)> = own
        .chain(others.flat_map(str::lines))
        .map(str::trim)
        .filter(|line| seen.insert(*line))
        .map(|line| (line, tokens(line)))
        .filter(|(_, tokens)| tokens.len() >= LEAST_TOKENS)
        .collect();
    let mut found = Vec::new();
    for line in (first..=last).take(LINES) {
        let range = text.line_range(line);
        let content = source[range.clone()].trim();
        let start = range.start + source[range.clone()].find(content).unwrap_or(0);
        let own = tokens(content);
        let mut alike: Vec<(f32, Line<'_>)> = examples
            .iter()
            .map(|(example, tokens)| (*example, tokens.as_slice()))
            .filter(|(example, _)| *example != content)
            .map(|example| (likeness((content, &own), example), example))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (likeness, example) in alike.into_iter().take(EXAMPLES) {
            for (range, new_text) in differences((content, &own), example) {
                let edit = TextEdit { range: start + range.start..start + range.end, new_text };
                found.push(Mutation { edit, rule: RULE, worth: PRIOR + likeness });
            }
        }
    }
    found
}

/// Words, numbers and single other characters; space is between them.
fn tokens(line: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut in_word = false;
    for (at, c) in line.char_indices() {
        let is_word = c.is_alphanumeric() || c == '_';
        let end = at + c.len_utf8();
        match found.last_mut() {
            Some(last) if is_word && in_word => last.end = end,
            _ if c.is_whitespace() => {}
            _ => found.push(at..end),
        }
        in_word = is_word;
    }
    found
}

fn words<'a>((line, tokens): Line<'a>) -> Vec<&'a str> {
    tokens.iter().map(|token| &line[token.clone()]).collect()
}

/// The share of the tokens of both that are the same, whatever their order: an upper bound of what a comparison finds.
fn likeness(a: Line<'_>, b: Line<'_>) -> f32 {
    let (shorter, longer) = (a.1.len().min(b.1.len()), a.1.len().max(b.1.len()));
    if (2 * shorter) as f32 / ((shorter + longer).max(1) as f32) < ALIKE {
        return 0.0;
    }
    let mut counts: HashMap<&str, i32> = HashMap::new();
    words(a).into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
    let same = words(b).into_iter().filter(|word| {
        counts.get_mut(word).is_some_and(|left| {
            *left -= 1;
            *left >= 0
        })
    });
    2.0 * same.count() as f32 / (a.1.len() + b.1.len()) as f32
}

/// What `line` must become to read as the example does, as ranges of it with new texts: each difference alone, and all
/// that are more than another name together.
fn differences(line: Line<'_>, example: Line<'_>) -> Vec<(Range<usize>, String)> {
    let (ours, theirs) = (words(line), words(example));
    let changes: Vec<_> = capture_diff_slices(Algorithm::Myers, &ours, &theirs)
        .into_iter()
        .filter(|op| !matches!(op, DiffOp::Equal { .. }))
        .map(|op| (op.old_range(), op.new_range()))
        .collect();
    let is_name = |word: &str| word.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let renamed = |(old, new): &&(Range<usize>, Range<usize>)| {
        old.len() == 1 && new.len() == 1 && is_name(ours[old.start]) && is_name(theirs[new.start])
    };
    let names: HashMap<&str, &str> = changes
        .iter()
        .filter(renamed)
        .map(|(old, new)| (theirs[new.start], ours[old.start]))
        .collect();
    // Tokens of the example with its own space between them and the names of the line.
    let written = |range: Range<usize>| {
        let mut out = String::new();
        for at in range.clone() {
            if at > range.start {
                out += &example.0[example.1[at - 1].end..example.1[at].start];
            }
            out += names.get(theirs[at]).copied().unwrap_or(theirs[at]);
        }
        out
    };
    let space_before = |at: usize| match at {
        0 => "",
        _ => example.1.get(at).map_or("", |token| &example.0[example.1[at - 1].end..token.start]),
    };
    let edit = |old: &Range<usize>, new: &Range<usize>, text: String| {
        let own_end = line.1.last().map_or(0, |token| token.end);
        if old.is_empty() {
            // With the example's space on both sides.
            let from = old.start.checked_sub(1).map_or(0, |before| line.1[before].end);
            let next = line.1.get(old.start).map(|token| token.start);
            let behind = if next.is_some() { space_before(new.end) } else { "" };
            return (
                from..next.unwrap_or(own_end),
                [space_before(new.start), &text, behind].concat(),
            );
        }
        let start = match new.is_empty() {
            // What goes takes the space before it along.
            true => old.start.checked_sub(1).map_or(0, |before| line.1[before].end),
            false => line.1[old.start].start,
        };
        (start..line.1.get(old.end - 1).map_or(own_end, |token| token.end), text)
    };
    let mut found = Vec::new();
    for change in &changes {
        let (old, new) = change;
        let text = match renamed(&change) {
            true => theirs[new.start].to_string(),
            false => written(new.clone()),
        };
        found.push(edit(old, new, text));
    }
    let more: Vec<_> = changes.iter().filter(|change| !renamed(change)).collect();
    if let [(first_old, first_new), .., (last_old, last_new)] = more[..] {
        let (old, new) = (first_old.start..last_old.end, first_new.start..last_new.end);
        found.push(edit(&old, &new, written(new.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line with a mistake (marked by `~` at its start) as it is after each change.
    fn repaired(text: &str, other: &str) -> Vec<String> {
        let at = text.find('~').unwrap();
        let text = Text::new(text.replace('~', ""));
        let within = at..at + 1;
        let line = text.line_of(at);
        let found = nearest(&text, &within, std::iter::once(other));
        let changed =
            found.iter().map(|m| crate::text::apply(text.as_str(), std::slice::from_ref(&m.edit)));
        changed.map(|after| after.lines().nth(line).unwrap().to_string()).collect()
    }

    #[track_caller]
    fn check(text: &str, other: &str, wanted: &str) {
        let found = repaired(text, other);
        assert!(found.iter().any(|line| line == wanted), "{wanted:?} is not in {found:#?}");
    }

    #[test]
    fn what_an_example_has_more_comes_with_the_names_of_the_line() {
        check(
            "    ~let loaf = shelf.get(name);",
            "let bread = shelf.get(&name);",
            "    let loaf = shelf.get(&name);",
        );
        check("~total = add(first)", "sum = add(first, second)\n", "total = add(first, second)");
        check("~for x in range(n):", "for y in range(1, n):", "for x in range(1, n):");
        check("~save(path, text)", "await save(path, text)", "await save(path, text)");
    }

    #[test]
    fn what_an_example_does_not_have_goes_and_a_name_can_be_the_mistake() {
        check("~self.items.push(&item);", "self.items.push(item);", "self.items.push(item);");
        check("~for item in itemz:\n    f(item)", "for item in items:", "for item in items:");
        check("~  x = a.b().c()", "x = a.c()", "  x = a.c()");
    }

    #[test]
    fn differences_that_belong_together_are_made_together() {
        check(
            "~if name in entries return entries[name]",
            "if key in entries { return entries[key]; }",
            "if name in entries { return entries[name]; }",
        );
    }

    #[test]
    fn other_lines_short_ones_and_the_same_line_are_no_examples() {
        assert!(repaired("~let total = sum(of);", "return self;\nwhile true {\n}\n").is_empty());
        assert!(repaired("~x = y", "x = z\nx = y").is_empty());
        let same = "~let größe = grad(länge, maß);\nlet größe = grad(länge, maß);";
        assert!(repaired(same, "let größe = grad(länge, maß);").is_empty());
    }
}
