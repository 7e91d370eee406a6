//! One document: its text, its language and its parse tree.
//! Cloning shares all three, so a snapshot costs a few reference counts.

use std::path::PathBuf;

use super::uri::path_of_uri;
use crate::syntax::{Language, SyntaxTree};
use crate::text::{Text, TextEdit};

/// A text with everything that is known about it at one moment.
#[derive(Clone)]
pub struct Document {
    /// The name under which the editor knows it, as the editor wrote it.
    pub uri: String,
    /// The file behind it; `None` for a buffer that is not a file.
    pub path: Option<PathBuf>,
    /// `None` for a language that is not in the table; such a document is still served.
    pub language: Option<&'static Language>,
    /// The editor's version number: whatever came with the last change.
    pub version: i32,
    /// Counts the changes since the document was opened. Unlike `version` it is our own, so
    /// "has it changed since?" has a reliable answer even with an editor that miscounts.
    pub revision: u64,
    /// The text.
    pub text: Text,
    /// `None` without a language, for a text that is too large, or after a parse that took too long.
    pub tree: Option<SyntaxTree>,
}

impl Document {
    /// Makes a document and parses it. The language id decides; when it is unknown, the path does.
    pub fn new(uri: impl Into<String>, language_id: &str, version: i32, text: Text) -> Document {
        let uri = uri.into();
        let path = path_of_uri(&uri);
        let language = Language::by_lsp_id(language_id)
            .or_else(|| path.as_deref().and_then(Language::by_path));
        let mut document = Document { uri, path, language, version, revision: 0, text, tree: None };
        document.parse_again();
        document
    }

    /// Applies one edit to the text and to the tree. The range must lie on character boundaries.
    pub fn edit(&mut self, edit: &TextEdit) {
        let old_bytes = self.text.len();
        let replaces_everything = edit.range.len() == old_bytes;
        let applied = self.text.replace(edit.range.clone(), &edit.new_text);
        self.revision += 1;
        if let Some(tree) = &mut self.tree {
            let is_good = tree.update(&applied, self.text.as_str());
            self.tree.take_if(|_| !is_good);
        } else if replaces_everything || old_bytes > SyntaxTree::MAX_BYTES {
            // Not after every edit: what could not be parsed has cost its time limit already.
            self.parse_again();
        }
    }

    /// Parses a document that lost its tree, or never had one, from the start.
    pub fn parse_again(&mut self) {
        if let (None, Some(language)) = (&self.tree, self.language) {
            self.tree = SyntaxTree::parse(language, self.text.as_str());
        }
    }
}
