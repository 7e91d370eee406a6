//! Rewrites that linters propose: ruff and clippy know some that the catalogue leaves to them.

use super::conditions::Code;
use super::{Gain, Rewrite, grammar, parses};
use crate::check::{Checker, Diagnostic, Suggestion};
use crate::text::{TextEdit, short};
use crate::workspace::Document;

/// What a linter would change in a document; `found` is what it said of it. What the linter itself is not sure of must be
/// proven before it is offered.
pub fn delegated(document: &Document, linter: &Checker, found: &[Diagnostic]) -> Vec<Rewrite> {
    let language = document.language.and_then(|language| grammar::of(language.name));
    let Some((tree, grammar)) = document.tree.as_ref().zip(language) else { return Vec::new() };
    let text = &document.text;
    let code = Code { source: text.as_str(), root: tree.root(), grammar };
    let before = tree.error_count(0..text.len());
    let rewrite = |diagnostic: &Diagnostic| {
        let Suggestion { message, edits, is_certain } = diagnostic.suggestions.first()?;
        if edits.iter().any(|(path, ..)| *path != diagnostic.path) {
            return None;
        }
        let edit = |(_, span, new): &(_, crate::check::Span, String)| TextEdit {
            range: span.bytes(text),
            new_text: new.clone(),
        };
        let mut edits: Vec<TextEdit> = edits.iter().map(edit).collect();
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let apart = edits.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start);
        if !apart || !parses(tree, text, &edits, before) {
            return None;
        }
        let place = diagnostic.span.bytes(text);
        let site = tree.piece_at(place.clone())?;
        let said = if message.is_empty() { &diagnostic.message } else { message };
        let name = diagnostic.code.clone().unwrap_or_else(|| linter.name.to_string());
        Some(Rewrite {
            title: short(&said.replace('`', ""), 80),
            why: format!("{} reports: {}", linter.name, short(&diagnostic.message, 200)),
            source: format!("{}, {name}", linter.name),
            rule: name,
            gain: Gain::Constant,
            is_sure: *is_certain,
            depth: code.loop_depth(site),
            function: code.named_function(site),
            place,
            edits,
        })
    };
    found.iter().filter_map(rewrite).collect()
}
