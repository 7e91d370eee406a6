//! From the protocol's types to ours.
//! Positions stay positions: only the document that they belong to can turn them into offsets.

use tower_lsp_server::gen_lsp_types as lsp;

use crate::suggest::Trigger;
use crate::text::{Position, PositionEncoding, TextRange};
use crate::workspace::Change;

pub(super) fn position(position: lsp::Position) -> Position {
    Position { line: position.line, character: position.character }
}

pub(super) fn range(range: lsp::Range) -> TextRange {
    TextRange { start: position(range.start), end: position(range.end) }
}

pub(super) fn change(event: lsp::TextDocumentContentChangeEvent) -> Change {
    use lsp::TextDocumentContentChangeEvent as Event;
    match event {
        Event::TextDocumentContentChangePartial(part) => {
            Change { range: Some(range(part.range)), text: part.text }
        }
        Event::TextDocumentContentChangeWholeDocument(whole) => {
            Change { range: None, text: whole.text }
        }
    }
}

/// Anything that is not an explicit wish counts as typing.
pub(super) fn trigger(kind: lsp::InlineCompletionTriggerKind) -> Trigger {
    match kind {
        lsp::InlineCompletionTriggerKind::Invoked => Trigger::Invoked,
        _ => Trigger::Automatic,
    }
}

/// The encoding to use with a client that offers `kinds`: UTF-8, in which nothing has to be
/// converted, when it is offered, else UTF-16, which every client understands.
pub(super) fn encoding(kinds: Option<&[lsp::PositionEncodingKind]>) -> PositionEncoding {
    let offers = |kind| kinds.is_some_and(|kinds| kinds.contains(&kind));
    if offers(lsp::PositionEncodingKind::UTF8) {
        PositionEncoding::Utf8
    } else if kinds.is_some_and(|kinds| kinds == [lsp::PositionEncodingKind::UTF32]) {
        // The protocol demands UTF-16 from every client; this one would be right to differ.
        PositionEncoding::Utf32
    } else {
        PositionEncoding::Utf16
    }
}
