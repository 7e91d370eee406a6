//! The question: a place in a text with what lies open around it. The answer: lines of other files.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::syntax::{Language, SyntaxTree};
use crate::workspace::{MAX_FILE_BYTES, is_secret_file};

/// A place for which lines of other files are wanted.
pub struct Query<'a> {
    /// The file's name in the index; of a text that is no file any name that no file has.
    pub path: &'a str,
    /// The text, as it is in the editor.
    pub text: &'a str,
    /// The cursor, in bytes of the text, on a character boundary.
    pub offset: usize,
    /// The language; only files of its kin are looked at, without one all are.
    pub language: Option<&'static Language>,
    /// The text's tree, if there is one: it tells what the file defines and imports.
    pub tree: Option<&'a SyntaxTree>,
    /// Documents that are open, most recently used first. Their text counts in place of the index's.
    pub open: &'a [Open<'a>],
    /// Recent edits in them, newest first.
    pub recent: &'a [Edit<'a>],
}

/// A document that is open in the editor.
#[derive(Clone, Debug)]
pub struct Open<'a> {
    /// Its name in the index.
    pub path: Cow<'a, str>,
    /// Its language.
    pub language: Option<&'static Language>,
    /// Its text as it is now.
    pub text: &'a str,
}

/// A place in an open document where the user has edited.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// The document's name in the index.
    pub path: Cow<'a, str>,
    /// Its text as it is now.
    pub text: &'a str,
    /// The line, from 0; one past the end counts as the last.
    pub line: usize,
}

/// What lines of another file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Where a name is defined that is used near the cursor.
    Definition,
    /// Where the user has just been editing.
    RecentEdit,
    /// Lines with the identifiers of those before the cursor.
    SimilarWindow,
}

/// Whole lines of another file.
#[derive(Clone, Debug, PartialEq)]
pub struct Snippet {
    /// What they are.
    pub kind: Kind,
    /// The file's name in the index.
    pub path: String,
    /// Bytes of its text.
    pub range: Range<usize>,
    /// The lines.
    pub text: String,
    /// How much they are worth beside the others, from 0 to about 1.
    pub score: f64,
}

/// Where the texts of the indexed files are read.
pub trait Texts: Send + Sync {
    /// The text of a file by its name in the index; `None` if it is gone or not to be read.
    fn text(&self, path: &str) -> Option<Arc<str>>;

    /// What the index calls a file of the disk.
    fn name(&self, file: &Path) -> String;
}

/// The files below a folder, named by their paths from there, with `/` between the parts.
#[derive(Clone, Debug)]
pub struct DiskTexts {
    /// The folder.
    pub root: PathBuf,
}

impl Texts for DiskTexts {
    fn text(&self, path: &str) -> Option<Arc<str>> {
        // A stored index is not trusted with the rest of the disk.
        let below = |part| matches!(part, Component::Normal(_));
        let file = self.root.join(Path::new(path).components().all(below).then_some(path)?);
        let metadata = file.metadata().ok()?;
        let name = file.file_name()?.to_string_lossy();
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES || is_secret_file(&name) {
            return None;
        }
        Some(std::fs::read_to_string(file).ok()?.into())
    }

    fn name(&self, file: &Path) -> String {
        let below = file.strip_prefix(&self.root).unwrap_or(file);
        below.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/")
    }
}
