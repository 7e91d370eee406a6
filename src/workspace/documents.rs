//! The open documents: what the editor has sent, kept up to date.
//! Every operation is synchronous; readers work on a [`Snapshot`] and never see a change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::Document;
use super::recent::{RecentEdit, RecentEdits};
use crate::text::{self, PositionEncoding, Text, TextEdit, TextRange};

/// One change of a document, as an editor describes it.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is replaced; `None` replaces the whole text.
    pub range: Option<TextRange>,
    /// What comes in its place.
    pub text: String,
}

/// Why a change was not applied.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChangeError {
    /// The editor changed what it has not opened.
    #[error("{0} is not open")]
    NotOpen(String),
}

/// A document and what surrounds it, frozen at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The document that is asked about.
    pub document: Arc<Document>,
    /// The other open documents, most recently touched first.
    pub others: Vec<Arc<Document>>,
    /// Where the user edited last, newest first, in all open documents.
    pub recent_edits: Vec<RecentEdit>,
}

impl Snapshot {
    /// A document with nothing around it.
    pub fn alone(document: impl Into<Arc<Document>>) -> Snapshot {
        Snapshot { document: document.into(), others: Vec::new(), recent_edits: Vec::new() }
    }
}

struct Open {
    document: Arc<Document>,
    /// Larger is later.
    touched: u64,
}

/// All open documents and the places of the last edits.
#[derive(Default)]
pub struct Documents {
    open: HashMap<String, Open>,
    recent: RecentEdits,
    clock: u64,
}

impl Documents {
    /// No document.
    pub fn new() -> Documents {
        Documents::default()
    }

    /// Takes a document in, unparsed. One that is open already is replaced: the editor is always right.
    pub fn open(&mut self, uri: &str, language_id: &str, version: i32, text: String) {
        let document = Document::unparsed(uri, language_id, version, Text::new(text));
        let touched = self.tick();
        self.open.insert(uri.to_string(), Open { document: Arc::new(document), touched });
    }

    /// The user looks at a document: what was looked at last is likeliest to matter.
    pub fn focus(&mut self, uri: &str) {
        let touched = self.tick();
        if let Some(open) = self.open.get_mut(uri) {
            open.touched = touched;
        }
    }

    /// Applies changes in their order and returns the edits they came to, each in bytes of the
    /// text before it. A replacement of the whole text is cut down to what differs.
    ///
    /// Positions outside the text are clamped, a reversed range is turned round. The text follows
    /// the order of arrival, whatever the version numbers say: dropping a change would lose the text for good.
    pub fn change(
        &mut self,
        uri: &str,
        version: i32,
        changes: Vec<Change>,
        encoding: PositionEncoding,
    ) -> Result<Vec<TextEdit>, ChangeError> {
        let touched = self.tick();
        let open = self.open.get_mut(uri).ok_or_else(|| ChangeError::NotOpen(uri.to_string()))?;
        open.touched = touched;
        // Copies the document only while a snapshot still holds it, and the text with the first edit.
        let document = Arc::make_mut(&mut open.document);
        document.version = version;
        let mut edits = Vec::with_capacity(changes.len());
        for change in changes {
            let Some(edit) = to_edit(document, change, encoding) else { continue };
            document.edit(&edit);
            let line = document.text.line_of(edit.range.start) as u32;
            self.recent.add(uri, line, Instant::now());
            edits.push(edit);
        }
        Ok(edits)
    }

    /// Lets a document go, with its text, its tree and its recent edits. False if it was not open.
    pub fn close(&mut self, uri: &str) -> bool {
        self.recent.forget(uri);
        self.open.remove(uri).is_some()
    }

    /// Notes that the user saved a document: it is in use.
    pub fn saved(&mut self, uri: &str) {
        let touched = self.tick();
        let Some(open) = self.open.get_mut(uri) else { return };
        open.touched = touched;
    }

    /// Takes over the tree of a copy that was parsed elsewhere, unless the text has changed since.
    pub fn adopt_tree(&mut self, parsed: Document) {
        if let Some(open) = self.open.get_mut(&parsed.uri)
            && open.document.text.is_same(&parsed.text)
        {
            Arc::make_mut(&mut open.document).tree = parsed.tree;
        }
    }

    /// The document as it is now.
    pub fn get(&self, uri: &str) -> Option<&Arc<Document>> {
        self.open.get(uri).map(|open| &open.document)
    }

    /// All open documents, most recently touched first.
    pub fn all(&self) -> Vec<Arc<Document>> {
        let mut all: Vec<&Open> = self.open.values().collect();
        all.sort_by_key(|open| std::cmp::Reverse(open.touched));
        all.into_iter().map(|open| open.document.clone()).collect()
    }

    /// How many documents are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Freezes the workspace around a document; `None` if it is not open.
    pub fn snapshot(&self, uri: &str) -> Option<Snapshot> {
        let document = self.get(uri)?.clone();
        let mut others: Vec<&Open> =
            self.open.iter().filter(|(other, _)| *other != uri).map(|(_, open)| open).collect();
        others.sort_by_key(|open| std::cmp::Reverse(open.touched));
        let others = others.into_iter().map(|open| open.document.clone()).collect();
        Some(Snapshot { document, others, recent_edits: self.recent.to_vec() })
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

fn to_edit(document: &Document, change: Change, encoding: PositionEncoding) -> Option<TextEdit> {
    let Some(range) = change.range else {
        return text::minimal_edit(document.text.as_str(), &change.text);
    };
    let start = document.text.offset(range.start, encoding);
    let end = document.text.offset(range.end, encoding);
    Some(TextEdit { range: start.min(end)..start.max(end), new_text: change.text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Position;

    fn at(line: u32, from: u32, to: u32, text: &str) -> Change {
        let start = Position { line, character: from };
        let end = Position { line, character: to };
        Change { range: Some(TextRange { start, end }), text: text.into() }
    }

    fn opened(text: &str) -> Documents {
        let mut documents = Documents::new();
        documents.open("file:///a.rs", "rust", 1, text.into());
        documents
    }

    #[track_caller]
    fn check(before: &str, changes: Vec<Change>, after: &str) {
        let mut documents = opened(before);
        documents.change("file:///a.rs", 2, changes, PositionEncoding::Utf16).expect("it is open");
        assert_eq!(documents.get("file:///a.rs").expect("it is open").text.as_str(), after);
    }

    #[test]
    fn changes_apply_one_after_the_other() {
        check("one\ntwo\n", vec![at(0, 0, 3, "1"), at(0, 1, 1, "!"), at(1, 0, 3, "2")], "1!\n2\n");
    }

    #[test]
    fn columns_count_utf16_units() {
        check("let x = \"🐦\";", vec![at(0, 11, 11, "!")], "let x = \"🐦!\";");
    }

    #[test]
    fn positions_outside_are_clamped_and_reversed_ranges_turned() {
        check("ab\ncd", vec![at(0, 9, 1, "x")], "ax\ncd");
        check("ab\ncd", vec![at(7, 0, 0, "\nef")], "ab\ncd\nef");
    }

    #[test]
    fn a_full_replacement_becomes_the_smallest_edit() {
        let mut documents = opened("fn a() {}\nfn b() {}\n");
        let change = Change { range: None, text: "fn a() {}\nfn bc() {}\n".into() };
        let edits = documents.change("file:///a.rs", 2, vec![change], PositionEncoding::Utf16);
        assert_eq!(edits, Ok(vec![TextEdit { range: 14..14, new_text: "c".into() }]));
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut documents = opened("old");
        let snapshot = documents.snapshot("file:///a.rs").expect("it is open");
        let edits = vec![at(0, 0, 3, "new")];
        documents.change("file:///a.rs", 2, edits, PositionEncoding::Utf8).expect("it is open");
        assert_eq!(snapshot.document.text.as_str(), "old");
        assert_eq!(snapshot.document.revision, 0);
        assert_eq!(documents.get("file:///a.rs").expect("it is open").revision, 1);
    }

    #[test]
    fn the_others_come_in_the_order_of_use() {
        let mut documents = Documents::new();
        for uri in ["a", "b", "c", "d"] {
            documents.open(uri, "rust", 1, String::new());
        }
        documents.saved("b");
        documents.change("a", 2, vec![at(0, 0, 0, "x")], PositionEncoding::Utf8).expect("open");
        let snapshot = documents.snapshot("d").expect("it is open");
        let order: Vec<&str> = snapshot.others.iter().map(|other| other.uri.as_str()).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(snapshot.recent_edits[0].uri, "a");
    }

    #[test]
    fn closing_frees_the_text() {
        let mut documents = opened("text");
        let weak = Arc::downgrade(documents.get("file:///a.rs").expect("it is open"));
        assert!(documents.close("file:///a.rs"));
        assert!(weak.upgrade().is_none());
        assert!(!documents.close("file:///a.rs"));
        let late = documents.change("file:///a.rs", 3, Vec::new(), PositionEncoding::Utf8);
        assert_eq!(late, Err(ChangeError::NotOpen("file:///a.rs".into())));
    }
}
