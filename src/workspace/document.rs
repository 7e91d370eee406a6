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
        let mut document = Document::unparsed(uri, language_id, version, text);
        document.catch_up();
        document
    }

    /// Makes a document without its tree, for those who cannot wait for a parse.
    pub fn unparsed(
        uri: impl Into<String>,
        language_id: &str,
        version: i32,
        text: Text,
    ) -> Document {
        let uri = uri.into();
        let path = path_of_uri(&uri);
        let language = Language::by_lsp_id(language_id)
            .or_else(|| path.as_deref().and_then(Language::by_path));
        Document { uri, path, language, version, revision: 0, text, tree: None }
    }

    /// Applies one edit to the text and moves the nodes of the tree with it, without parsing. The range
    /// must lie on character boundaries.
    pub fn edit(&mut self, edit: &TextEdit) {
        let applied = self.text.replace(edit.range.clone(), &edit.new_text);
        self.revision += 1;
        if let Some(tree) = &mut self.tree {
            tree.edit(&applied);
        }
    }

    /// Whether a parse would tell something new.
    pub fn is_stale(&self) -> bool {
        self.language.is_some()
            && self.text.len() <= SyntaxTree::MAX_BYTES
            && self.tree.as_ref().is_none_or(|tree| !tree.is_current())
    }

    /// Brings the tree up to the text; false if that took too long.
    pub fn catch_up(&mut self) -> bool {
        if self.text.len() > SyntaxTree::MAX_BYTES {
            self.tree = None;
        }
        if !self.is_stale() {
            return true;
        }
        match (&mut self.tree, self.language) {
            (Some(tree), _) => tree.catch_up(self.text.as_str()),
            (None, Some(language)) => {
                self.tree = SyntaxTree::parse(language, self.text.as_str());
                self.tree.is_some()
            }
            (None, None) => true,
        }
    }
}
