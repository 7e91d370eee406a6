//! From our types to the protocol's.
//! The only place that decides how a suggestion looks in an editor.

use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;

use super::commands;
use crate::suggest::Suggestion;
use crate::text::{Position, PositionEncoding};
use crate::workspace::Document;

/// Sorts behind whatever the language's own server offers.
const SORT_LAST: &str = "\u{10fffd}";

pub(super) fn encoding(encoding: PositionEncoding) -> lsp::PositionEncodingKind {
    match encoding {
        PositionEncoding::Utf8 => lsp::PositionEncodingKind::UTF8,
        PositionEncoding::Utf16 => lsp::PositionEncodingKind::UTF16,
        PositionEncoding::Utf32 => lsp::PositionEncodingKind::UTF32,
    }
}

fn position(position: Position) -> lsp::Position {
    lsp::Position { line: position.line, character: position.character }
}

pub(super) fn range(
    document: &Document,
    range: &std::ops::Range<usize>,
    encoding: PositionEncoding,
) -> lsp::Range {
    lsp::Range {
        start: position(document.text.position(range.start, encoding)),
        end: position(document.text.position(range.end, encoding)),
    }
}

/// Whole lines, from 0.
pub(super) fn lines(lines: std::ops::Range<usize>) -> lsp::Range {
    let start = |line: usize| lsp::Position { line: line as u32, character: 0 };
    lsp::Range { start: start(lines.start), end: start(lines.end) }
}

/// Ghost text. The filter text is the whole new text: editors compare it with what stands in the
/// range before the cursor.
pub(super) fn inline_completion_item(
    suggestion: Suggestion,
    document: &Document,
    encoding: PositionEncoding,
    id: String,
) -> lsp::InlineCompletionItem {
    let edit = suggestion.edit;
    lsp::InlineCompletionItem {
        range: Some(range(document, &edit.range, encoding)),
        filter_text: Some(edit.new_text.clone()),
        insert_text: edit.new_text.into(),
        command: Some(accepted_command(id)),
    }
}

/// An entry of the popup, for editors without ghost text: never preselected, sorted last. It takes the place of the whole
/// word at the cursor, because that is what popups compare and what some of them replace, whatever range they are told.
pub(super) fn completion_item(
    suggestion: Suggestion,
    document: &Document,
    encoding: PositionEncoding,
    id: String,
) -> lsp::CompletionItem {
    let edit = suggestion.edit;
    let before = &document.text.as_str()[..edit.range.start];
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let start = before.trim_end_matches(is_word).len();
    let new_text = format!("{}{}", &before[start..], edit.new_text);
    let first_line = new_text.lines().next().unwrap_or("");
    let label = new_text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("…");
    lsp::CompletionItem {
        label: label.to_string(),
        kind: Some(lsp::CompletionItemKind::Text),
        detail: Some("nestling".into()),
        preselect: Some(false),
        sort_text: Some(SORT_LAST.into()),
        filter_text: Some(first_line.to_string()),
        insert_text_format: Some(lsp::InsertTextFormat::PlainText),
        insert_text_mode: Some(lsp::InsertTextMode::AsIs),
        text_edit: Some(
            lsp::TextEdit {
                range: range(document, &(start..edit.range.end), encoding),
                new_text: new_text.clone(),
            }
            .into(),
        ),
        command: Some(accepted_command(id)),
        ..lsp::CompletionItem::default()
    }
}

fn accepted_command(id: String) -> lsp::Command {
    lsp::Command {
        title: "Accepted".into(),
        command: commands::ACCEPTED.into(),
        arguments: Some(vec![Value::String(id)]),
        ..lsp::Command::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Text, TextEdit};

    fn item(before: &str, from: usize, to: usize, new_text: &str) -> lsp::CompletionItem {
        let document = Document::new("file:///a.rs", "rust", 1, Text::new(before));
        let edit = TextEdit { range: from..to, new_text: new_text.into() };
        let suggestion = Suggestion { edit, probability: 0.9 };
        completion_item(suggestion, &document, PositionEncoding::Utf16, "1".into())
    }

    #[test]
    fn a_popup_entry_matches_the_word_at_the_cursor() {
        let item = item("let x = na", 10, 10, "me.len();\nlet y");
        assert_eq!(item.label, "name.len();");
        assert_eq!(item.filter_text.as_deref(), Some("name.len();"));
    }

    #[test]
    fn the_label_is_the_first_line_with_something_on_it() {
        assert_eq!(item("{", 1, 1, "\n    a();\n}").label, "a();");
    }
}
