//! What is known of one file: its identifiers by cells of eight lines, what it defines, what it imports.
//! Its text is not kept; places are bytes of the text that was read.

use serde::{Deserialize, Serialize};

use super::similar::WINDOW;
use super::words::{hash, identifiers};
use crate::syntax::{Language, ScopeKind, SyntaxTree};

/// Lines of a cell. A window is two neighbours.
pub(super) const CELL: usize = WINDOW / 2;
/// Lines of a type that are worth showing: its first fields.
const TYPE_LINES: usize = 12;
/// Lines of a function's header at most.
const HEADER_LINES: usize = 8;
/// Keys and headings are no definitions.
pub(super) const NO_CODE: [&str; 3] = ["json", "toml", "markdown"];
/// What adds to a type defines no name.
const EXTENSIONS: [&str; 2] = ["impl", "unsafe impl"];

/// The index of one file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct File {
    #[serde(with = "language_name")]
    pub(super) language: Option<&'static Language>,
    /// Of the whole text, to know it again.
    fingerprint: u64,
    cells: Vec<Cell>,
    /// The hashes of the identifiers, cell by cell; in a cell sorted and different.
    words: Vec<u32>,
    pub(super) symbols: Vec<Symbol>,
    /// The hashes of the identifiers of its imports, sorted and different.
    pub(super) imports: Vec<u32>,
}

/// Some lines of a file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cell {
    /// Byte where its first line begins.
    start: u32,
    /// Where its words end among those of the file.
    words: u32,
    /// How many different words it and the next cell have.
    window: u32,
}

/// A name and the lines that say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Symbol {
    /// The hash of the name.
    pub(super) name: u32,
    /// Bytes of whole lines: the header of a function, the first lines of a type.
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) function: bool,
}

impl File {
    /// Reads the words of a text, without parsing it. Offsets are 32 bits wide: of a longer text nothing
    /// is known.
    pub(super) fn new(language: Option<&'static Language>, text: &str) -> File {
        let mut file = File { language, fingerprint: hash(text), ..File::default() };
        if u32::try_from(text.len()).is_err() {
            return file;
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let starts: Vec<usize> = lines.step_by(CELL).collect();
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(text.len());
            let words = words(&text[start..end]);
            if let Some(before) = file.cells.len().checked_sub(1) {
                let shared =
                    file.words_of(before).iter().filter(|w| words.binary_search(w).is_ok());
                file.cells[before].window += (words.len() - shared.count()) as u32;
            }
            let window = words.len() as u32;
            file.words.extend(words);
            let words = file.words.len() as u32;
            file.cells.push(Cell { start: start as u32, words, window });
        }
        file.cells.shrink_to_fit();
        file.words.shrink_to_fit();
        file
    }

    /// Takes in what the parse tree of the same text tells.
    pub(super) fn read_tree(&mut self, tree: &SyntaxTree, text: &str) {
        self.imports = imports(tree, text);
        self.symbols = symbols(tree, text);
    }

    /// Whether it was made from this text.
    pub(super) fn is_of(&self, language: Option<&'static Language>, text: &str) -> bool {
        self.fingerprint == hash(text) && self.language.map(|l| l.name) == language.map(|l| l.name)
    }

    pub(super) fn cells(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn words_of(&self, cell: usize) -> &[u32] {
        let start = cell.checked_sub(1).map_or(0, |before| self.cells[before].words as usize);
        &self.words[start..self.cells[cell].words as usize]
    }

    /// How many different words the window has that begins with this cell.
    pub(super) fn window_words(&self, cell: usize) -> usize {
        self.cells[cell].window as usize
    }

    /// The bytes of that window in a text of `len` bytes, if it reaches as far.
    pub(super) fn window(&self, cell: usize, len: usize) -> Option<std::ops::Range<usize>> {
        let start = self.cells[cell].start as usize;
        let end = self.cells.get(cell + 2).map_or(len, |next| next.start as usize);
        (start <= end && end <= len).then_some(start..end)
    }

    pub(super) fn size_in_bytes(&self) -> usize {
        size_of::<File>()
            + self.cells.capacity() * size_of::<Cell>()
            + (self.words.capacity() + self.imports.capacity()) * size_of::<u32>()
            + self.symbols.capacity() * size_of::<Symbol>()
    }

    /// Whether all places lie where the methods look, whatever bytes it was read from.
    pub(super) fn is_sound(&self) -> bool {
        let ordered = self.cells.is_sorted_by_key(|cell| (cell.words, cell.start));
        ordered && self.cells.last().map_or(0, |cell| cell.words as usize) == self.words.len()
    }
}

/// The different identifiers of a text as sorted hashes.
pub(super) fn words(text: &str) -> Vec<u32> {
    sorted(identifiers(text).map(word).collect())
}

/// Half of the hash is enough to tell identifiers apart.
pub(super) fn word(identifier: &str) -> u32 {
    hash(identifier) as u32
}

fn sorted(mut words: Vec<u32>) -> Vec<u32> {
    words.sort_unstable();
    words.dedup();
    words
}

/// The words of the import lines.
pub(super) fn imports(tree: &SyntaxTree, text: &str) -> Vec<u32> {
    let lines = tree.imports(text).into_iter().filter_map(|range| text.get(range));
    let mut words = sorted(lines.flat_map(identifiers).map(word).collect());
    words.shrink_to_fit();
    words
}

/// What a file defines, in the order of names.
pub(super) fn symbols(tree: &SyntaxTree, text: &str) -> Vec<Symbol> {
    if NO_CODE.contains(&tree.language().name) {
        return Vec::new();
    }
    let mut symbols: Vec<Symbol> = Vec::new();
    for scope in tree.outline(text) {
        let Some(name) = &scope.name else { continue };
        let header = text.get(scope.header.clone()).unwrap_or_default();
        let adds = EXTENSIONS.iter().any(|start| header.starts_with(start));
        // The name as it is used: without type parameters, without the class of a method.
        let Some(name) = identifiers(name).last().filter(|name| name.len() > 2) else { continue };
        // Modules are too large to show, and a small name of a value is most often that of another one.
        let value = scope.kind == ScopeKind::Other && !name.contains(char::is_uppercase);
        if scope.kind == ScopeKind::Module || adds || value {
            continue;
        }
        let function = scope.kind == ScopeKind::Function;
        let (end, lines) = match function {
            true => (scope.header.end, HEADER_LINES),
            false => (scope.range.end, TYPE_LINES),
        };
        let start = text[..scope.range.start].rfind('\n').map_or(0, |at| at + 1);
        let mut breaks = text[start..].match_indices('\n').map(|(at, _)| start + at + 1);
        let end = breaks.clone().find(|&at| at >= end).unwrap_or(text.len());
        let end = breaks.nth(lines - 1).map_or(end, |most| end.min(most));
        let (start, end) = (start as u32, end as u32);
        symbols.push(Symbol { name: word(name), start, end, function });
    }
    symbols.sort_unstable();
    // A class and its constructor, overloads: the first says most.
    symbols.dedup_by_key(|symbol| symbol.name);
    symbols.shrink_to_fit();
    symbols
}

/// A language is stored by its name; one that this version does not know is none.
mod language_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::syntax::Language;

    pub(super) fn serialize<S: Serializer>(
        language: &Option<&'static Language>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        language.map(|language| language.name).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<&'static Language>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        Ok(name.and_then(|name| Language::by_name(&name)))
    }
}
