//! The index over the files of a workspace, file by file: to change one touches no other, and a version
//! of it costs a reference for each file.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::file::{self, File};
use super::query::{Kind, Query, Snippet, Texts};
use super::{definitions, edits, windows};
use crate::syntax::{Language, SyntaxTree};
use crate::workspace::holds_secret;

/// Of more open documents, and of more text in them, none is looked at.
const MOST_OPEN: usize = 16;
const MOST_OPEN_BYTES: usize = 1 << 20;
/// What a stored index begins with; the digit is the version of its layout.
const MAGIC: &[u8] = b"nestling retrieval 1\n";

/// Languages whose files say something to each other; all others only to their own.
const KIN: [&[&str]; 2] = [&["javascript", "typescript", "tsx"], &["c", "cpp"]];

/// What is known of the files of a workspace, without their texts: about two bytes per token.
///
/// Paths are names, `/` between their parts; who fills the index chooses where they start. It stays empty of
/// secrets only if no file is put in that holds any.
#[derive(Clone, Debug, Default)]
pub struct Retrieval {
    files: BTreeMap<Arc<str>, Arc<File>>,
}

/// Bytes that are no index, or one of another version.
#[derive(Debug, Error)]
#[error("the stored index is broken or of another version ({0}); it is made anew")]
pub struct BrokenIndex(String);

impl Retrieval {
    /// Knows nothing.
    pub fn new() -> Retrieval {
        Retrieval::default()
    }

    /// Takes in the words of a file; whether that was news. Definitions and imports of an older text are
    /// forgotten, see [`Retrieval::update_symbols`].
    pub fn update(&mut self, path: &str, language: Option<&'static Language>, text: &str) -> bool {
        if self.files.get(path).is_some_and(|file| file.is_of(language, text)) {
            return false;
        }
        self.files.insert(path.into(), Arc::new(File::new(language, text)));
        true
    }

    /// Parses a file for what it defines and imports, and takes in its words if that has not happened.
    /// Milliseconds for a large file: for a second pass, when all words are there.
    pub fn update_symbols(&mut self, path: &str, language: &'static Language, text: &str) {
        self.update(path, Some(language), text);
        let Some(tree) = SyntaxTree::parse_steadily(language, text) else { return };
        if let Some(file) = self.files.get_mut(path) {
            Arc::make_mut(file).read_tree(&tree, text);
        }
    }

    /// Forgets a file; whether it was known.
    pub fn remove(&mut self, path: &str) -> bool {
        self.files.remove(path).is_some()
    }

    /// The files with what is known of them, in the order of their paths.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (&**path, &**file))
    }

    /// What is known of a file.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path).map(|file| &**file)
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The memory of the index, in bytes.
    pub fn size_in_bytes(&self) -> usize {
        /// Two pointers and two counts for each of path and file.
        const ENTRY: usize = 64;
        self.files.iter().map(|(path, file)| ENTRY + path.len() + file.size_in_bytes()).sum()
    }

    /// The index as bytes for [`Retrieval::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let files: Vec<(&str, &File)> = self.files.iter().map(|(p, f)| (&**p, &**f)).collect();
        postcard::to_extend(&files, MAGIC.to_vec()).expect("a list of numbers has a stored form")
    }

    /// Reads what [`Retrieval::to_bytes`] wrote. Any other bytes are an error or a harmless index.
    pub fn from_bytes(bytes: &[u8]) -> Result<Retrieval, BrokenIndex> {
        let broken = |why: &str| BrokenIndex(why.to_string());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| broken("unknown first line"))?;
        let files: Vec<(String, File)> =
            postcard::from_bytes(rest).map_err(|error| broken(&error.to_string()))?;
        if !files.iter().all(|(_, file)| file.is_sound()) {
            return Err(broken("places outside of a file"));
        }
        let files = files.into_iter().map(|(path, file)| (path.into(), Arc::new(file)));
        Ok(Retrieval { files: files.collect() })
    }

    /// The lines of other files that belong beside the place, best first: at most three definitions, two
    /// recent edits and three similar windows, none overlapping, none of the file itself.
    ///
    /// Looks through the words of all files: a few milliseconds for five million tokens. Texts are read
    /// only of files with something to show, and what they do not confirm is left out.
    pub fn retrieve(&self, query: &Query<'_>, texts: &dyn Texts) -> Vec<Snippet> {
        let others = || query.open.iter().filter(|open| open.path != query.path);
        let read = |path: &str| match others().find(|open| open.path == path) {
            Some(open) => Some(open.text.into()),
            None => texts.text(path),
        };
        let own = self.files.get(query.path);
        let imports = match (query.tree, own) {
            (Some(tree), _) => file::imports(tree, query.text),
            (None, own) => own.map(|file| file.imports.clone()).unwrap_or_default(),
        };

        let known = self.files.iter().filter(|(path, _)| &***path != query.path);
        let known: Vec<(&str, &File)> = known
            .map(|(path, file)| (&**path, &**file))
            .filter(|(_, file)| are_kin(query.language, file.language))
            .collect();
        let mut snippets = definitions::definitions(&known, query, own, &imports, &read);
        snippets.extend(edits::recent(query));

        let mut bytes = 0;
        let opened: Vec<(&str, File)> = others()
            .filter(|open| are_kin(query.language, open.language))
            .take(MOST_OPEN)
            .take_while(|open| {
                bytes += open.text.len();
                bytes <= MOST_OPEN_BYTES
            })
            .map(|open| {
                let mut file = File::new(open.language, open.text);
                let known = self.files.get(&*open.path);
                file.imports = known.map(|known| known.imports.clone()).unwrap_or_default();
                (&*open.path, file)
            })
            .collect();
        let mut files = known;
        files.retain(|(path, _)| !others().any(|open| open.path == *path));
        files.extend(opened.iter().map(|(path, file)| (*path, file)));
        snippets.extend(windows::similar(&files, query, &imports, &read));

        snippets.retain(|snippet| !holds_secret(&snippet.text));
        snippets.sort_by(|a, b| b.score.total_cmp(&a.score));
        apart(snippets)
    }
}

/// Leaves out what overlaps something better.
fn apart(snippets: Vec<Snippet>) -> Vec<Snippet> {
    let mut kept: Vec<Snippet> = Vec::new();
    for snippet in snippets {
        let overlaps = |other: &Snippet| {
            let (a, b) = (&other.range, &snippet.range);
            other.path == snippet.path && a.start < b.end && b.start < a.end
        };
        if !kept.iter().any(overlaps) {
            kept.push(snippet);
        }
    }
    kept
}

fn are_kin(a: Option<&'static Language>, b: Option<&'static Language>) -> bool {
    let Some(a) = a else { return true };
    b.is_some_and(|b| {
        a.name == b.name || KIN.iter().any(|kin| kin.contains(&a.name) && kin.contains(&b.name))
    })
}

/// The lines of a text from the byte `from` to `to`, if these lie on character boundaries and there is
/// something in between.
pub(super) fn snippet(
    kind: Kind,
    path: &str,
    text: &str,
    range: std::ops::Range<usize>,
    score: f64,
) -> Option<Snippet> {
    let lines = text.get(range.clone()).filter(|lines| !lines.trim().is_empty())?;
    Some(Snippet { kind, path: path.to_string(), range, text: lines.to_string(), score })
}
