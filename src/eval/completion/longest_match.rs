//! The floor that every other variant must be above: a bare index of word-like tokens without any model. The
//! longest match that there is decides, of equals the most local one.

use std::path::Path;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};

use super::Variant;
use crate::eval::texts::Repository;
use crate::generation::CancelToken;
use crate::suggest::{Completer, Completion, CompletionRequest, Progress, Silence, Suggestion};
use crate::text::TextEdit;

/// Numbers of words that are compared, longest first.
const ORDERS: [usize; 13] = [24, 20, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1];
/// Words of an answer at most.
const MOST_WORDS: usize = 60;
/// The word that ends a line.
const LINE_END: u32 = 0;

/// The floor as a variant.
#[derive(Default)]
pub(super) struct Floor(LongestMatch);

/// The words of all files of a repository, and where each run of them ends.
#[derive(Default)]
struct LongestMatch {
    root: String,
    ids: FxHashMap<String, u32>,
    words: Vec<Word>,
    /// Each file's name and end in `words`.
    files: Vec<(String, usize)>,
    /// For each of [`ORDERS`]: the hash of the words before a position, and that position; sorted.
    tables: Vec<Vec<(u64, u32)>>,
}

/// A word with the spaces before it.
#[derive(Clone, Copy)]
struct Word {
    id: u32,
    spaces: u16,
}

impl Variant for Floor {
    fn prepare(&mut self, repository: &Repository) -> Result<&mut dyn Completer> {
        self.0 = LongestMatch::new(repository);
        Ok(&mut self.0)
    }
}

impl LongestMatch {
    fn new(repository: &Repository) -> LongestMatch {
        let root = Path::new("/").join(&repository.name).display().to_string();
        let mut index = LongestMatch { root, ..LongestMatch::default() };
        for file in &repository.files {
            let mut words = index.read(&file.text);
            index.words.append(&mut words);
            index.files.push((file.path.clone(), index.words.len()));
        }
        index.tables = ORDERS.map(|order| index.table(order)).into();
        index
    }

    /// Identifiers, numbers, single marks and ends of lines; empty lines are none.
    fn read(&mut self, text: &str) -> Vec<Word> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.ids.entry("\n".to_string()).or_insert(LINE_END);
        let mut words: Vec<Word> = Vec::new();
        let (mut at, mut spaces) = (0, 0);
        while let Some(first) = text[at..].chars().next() {
            let inside = text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at);
            let end = at + if is_word(first) { inside } else { first.len_utf8() };
            match first {
                '\n' if words.last().is_none_or(|w| w.id != LINE_END) => {
                    words.push(Word { id: LINE_END, spaces: 0 });
                }
                c if c.is_whitespace() => spaces += u16::from(c != '\n'),
                _ => {
                    let next = self.ids.len() as u32;
                    let id = *self.ids.entry(text[at..end].to_string()).or_insert(next);
                    words.push(Word { id, spaces });
                }
            }
            if !first.is_whitespace() || first == '\n' {
                spaces = 0;
            }
            at = end;
        }
        words
    }

    fn table(&self, order: usize) -> Vec<(u64, u32)> {
        let (mut table, mut start) = (Vec::new(), 0);
        for (_, end) in &self.files {
            let words = &self.words[start..*end];
            let at = |end: usize| (hash(&words[end - order..end]), (start + end) as u32);
            table.extend((order..words.len()).map(at));
            start = *end;
        }
        table.sort_unstable();
        table
    }

    /// The word after `history`, of which `before` stands in the file `own` before the cursor.
    fn next(&self, own: &str, before: &[Word], history: &[Word]) -> Option<Word> {
        let folder = Path::new(own).parent();
        for (order, table) in ORDERS.iter().zip(&self.tables).filter(|(o, _)| **o <= history.len())
        {
            let end = &history[history.len() - order..];
            let matches = |run: &[Word]| run.iter().zip(end).all(|(a, b)| a.id == b.id);
            let runs = before.windows(order + 1).rev();
            if let Some(run) = runs.into_iter().find(|run| matches(&run[..*order])) {
                return run.last().copied();
            }
            let wanted = hash(end);
            let first = table.partition_point(|(hash, _)| *hash < wanted);
            let found = table[first..].iter().take_while(|(hash, _)| *hash == wanted);
            let mut votes: FxHashMap<u32, ([usize; 2], Word)> = FxHashMap::default();
            for &(_, position) in found {
                let file = self.files.partition_point(|(_, end)| *end <= position as usize);
                let name = &self.files[file].0;
                if name != own {
                    let word = self.words[position as usize];
                    let (counts, _) = votes.entry(word.id).or_insert(([0; 2], word));
                    counts[0] += usize::from(Path::new(name).parent() == folder);
                    counts[1] += 1;
                }
            }
            let key = |(counts, word): &([usize; 2], Word)| (*counts, std::cmp::Reverse(word.id));
            if let Some((_, word)) = votes.into_values().max_by_key(key) {
                return Some(word);
            }
        }
        None
    }
}

fn hash(words: &[Word]) -> u64 {
    let mut hasher = FxHasher::default();
    words.iter().for_each(|word| word.id.hash(&mut hasher));
    hasher.finish()
}

impl Completer for LongestMatch {
    fn complete(
        &mut self,
        request: &CompletionRequest,
        _: &Progress,
        _: &CancelToken,
    ) -> Completion {
        let document = &request.snapshot.document;
        let before_text = &document.text.as_str()[..request.offset];
        let path = document.path.as_deref().map(|p| p.display().to_string()).unwrap_or_default();
        let own = path.strip_prefix(&self.root).unwrap_or(&path).trim_start_matches('/');
        let before = self.read(before_text);
        let mut history = before.clone();
        while history.len() < before.len() + MOST_WORDS {
            match self.next(own, &before, &history) {
                Some(word) if word.id != LINE_END => history.push(word),
                _ => break,
            }
        }
        let names: FxHashMap<u32, &str> = self.ids.iter().map(|(s, &id)| (id, &**s)).collect();
        let mut text = String::new();
        for word in &history[before.len()..] {
            let has_space = text.is_empty() && before_text.ends_with(char::is_whitespace);
            let spaces = if has_space { 0 } else { word.spaces.into() };
            text.push_str(&" ".repeat(spaces));
            text.push_str(names.get(&word.id).unwrap_or(&""));
        }
        if text.is_empty() {
            return Completion::silent(Silence::Empty);
        }
        let edit = TextEdit { range: request.offset..request.offset, new_text: text };
        let suggestions = vec![Suggestion { edit, probability: 1.0 }];
        Completion { suggestions, ..Completion::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggest::Trigger;
    use crate::text::Text;
    use crate::train::corpus::SourceFile;
    use crate::workspace::{Document, Snapshot};

    /// What is said at the mark `|` of a file of a repository with other files.
    fn complete(others: &[(&str, &str)], path: &str, text: &str) -> String {
        let file = |&(path, text): &(&str, &str)| SourceFile {
            path: path.into(),
            repository: "r".into(),
            language: "python",
            text: text.into(),
        };
        let mut files: Vec<SourceFile> = others.iter().map(file).collect();
        files.push(file(&(path, &text.replace('|', ""))));
        let mut index = LongestMatch::new(&Repository::of_files("r", files));
        let offset = text.find('|').unwrap();
        let uri = format!("file:///r/{path}");
        let document = Document::new(uri, "python", 1, Text::new(text.replace('|', "")));
        let snapshot = Snapshot::alone(document);
        let trigger = Trigger::Invoked;
        let request = CompletionRequest {
            snapshot,
            offset,
            trigger,
            items: 1,
            selected: None,
            precision: None,
            habit: 0.0,
        };
        let answer = index.complete(&request, &Progress::new(), &CancelToken::new());
        answer.suggestions.first().map_or(String::new(), |s| s.edit.new_text.clone())
    }

    #[test]
    fn the_longest_match_decides_and_of_equals_the_most_local() {
        let others = [("far/a.py", "x = f(1, 2)\ny = f(1, 2)\n"), ("near/b.py", "x = f(3)\n")];
        assert_eq!(complete(&others, "near/c.py", "z = 0\nx = |"), "f(3)");
        assert_eq!(complete(&others, "near/c.py", "y = |"), "f(1, 2)");
        assert_eq!(complete(&others, "near/c.py", "x = g(4)\nx = |"), "g(4)");
    }

    #[test]
    fn of_its_own_file_only_what_stands_before_the_cursor_is_known() {
        assert_eq!(complete(&[], "a.py", "value = |compute(1)\nvalue = compute(1)\n"), "");
    }
}
