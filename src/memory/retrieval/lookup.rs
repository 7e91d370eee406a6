//! What a question in words asks for: the files in which a name stands, and the windows that speak of some words.

use rustc_hash::FxHashMap;

use super::Retrieval;
use super::file::{File, NO_CODE, word};
use super::index::snippet;
use super::query::{Kind, Snippet, Texts};

/// Words of a question that are looked for.
const MOST_WORDS: usize = 32;
/// Share of what the known words of a question weigh that a window must have.
const LEAST_SHARE: f64 = 0.45;
/// What a word in a file's path counts beside one in its lines.
const IN_PATH: f64 = 0.5;
/// What prose counts beside code: it says of everything a little.
const PROSE: f64 = 0.6;
/// Longer windows are no lines that somebody wrote.
const MOST_BYTES: usize = 4096;

impl Retrieval {
    /// The files in which a name stands, as far as hashes tell, and whether each defines it: those that do come first.
    pub fn mentions(&self, name: &str) -> Vec<(&str, bool)> {
        let hash = word(name);
        let has = |file: &File| {
            (0..file.cells()).any(|cell| file.words_of(cell).binary_search(&hash).is_ok())
        };
        let defines =
            |file: &File| file.symbols.binary_search_by_key(&hash, |symbol| symbol.name).is_ok();
        let known = self.files().filter(|(_, file)| has(file));
        let mut found: Vec<(&str, bool)> =
            known.map(|(path, file)| (path, defines(file))).collect();
        found.sort_by_key(|(path, defines)| (!defines, *path));
        found
    }

    /// The windows that speak most of some words, best first, at most `most` and one of each file. A word is a list of the
    /// forms in which it may be written.
    pub fn about(&self, words: &[Vec<String>], most: usize, texts: &dyn Texts) -> Vec<Snippet> {
        let words = &words[..words.len().min(MOST_WORDS)];
        let mut bits: FxHashMap<u32, u32> = FxHashMap::default();
        for (bit, forms) in words.iter().enumerate() {
            forms.iter().for_each(|form| *bits.entry(word(form)).or_default() |= 1 << bit);
        }
        let mask = |hashes: &[u32]| {
            hashes.iter().fold(0, |mask, hash| mask | bits.get(hash).copied().unwrap_or(0))
        };
        let files: Vec<(&str, Vec<u32>)> = self
            .files()
            .map(|(path, file)| {
                (path, (0..file.cells()).map(|cell| mask(file.words_of(cell))).collect())
            })
            .collect();

        let mut counts = [0u32; MOST_WORDS];
        for (_, cells) in &files {
            let all = cells.iter().fold(0, |all, cell| all | cell);
            (0..words.len()).filter(|bit| all >> bit & 1 == 1).for_each(|bit| counts[bit] += 1);
        }
        let weight = |mask: u32| -> f64 {
            let held = (0..words.len()).filter(|bit| mask >> bit & 1 == 1 && counts[*bit] > 0);
            // Squared, so that no crowd of common words takes the place of the rare one.
            held.map(|bit| (1.0 + files.len() as f64 / f64::from(counts[bit])).ln().powi(2)).sum()
        };
        let total = weight(u32::MAX);
        let known = counts.iter().filter(|count| **count > 0).count();

        let mut best: Vec<(f64, &str, usize)> = Vec::new();
        for (path, cells) in &files {
            let in_path = mask(&super::file::words(path));
            let windows = (0..cells.len()).filter_map(|cell| {
                let mask = cells[cell] | cells.get(cell + 1).copied().unwrap_or(0);
                // One word of several says little.
                let says = mask.count_ones() > 1 || known == 1;
                (mask != 0 && says)
                    .then(|| (weight(mask) + IN_PATH * weight(in_path & !mask), cell))
            });
            let first = windows.reduce(|a, b| if b.0 > a.0 { b } else { a });
            if let Some((worth, cell)) = first.filter(|(worth, _)| *worth >= LEAST_SHARE * total) {
                let language = self.file(path).and_then(|file| file.language);
                let is_prose = language.is_none_or(|language| NO_CODE.contains(&language.name));
                best.push((if is_prose { PROSE * worth } else { worth }, path, cell));
            }
        }
        best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.len().cmp(&b.1.len())));
        let chosen = best.into_iter().take(2 * most).filter_map(|(worth, path, cell)| {
            let text = texts.text(path)?;
            let range = self.file(path)?.window(cell, text.len())?;
            let found = snippet(Kind::SimilarWindow, path, &text, range, worth / total)?;
            // The text may have changed since it was read.
            let still = mask(&super::file::words(&found.text)).count_ones() > 0;
            (still && found.text.len() <= MOST_BYTES).then_some(found)
        });
        chosen.take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::syntax::Language;

    struct Two;

    const CACHE: &str = "# How long an answer is kept.\ndef keep_answer(cache, seconds):\n    cache.expire(seconds)\n";
    const OTHER: &str = "def other():\n    return answer\n";

    impl Texts for Two {
        fn text(&self, path: &str) -> Option<Arc<str>> {
            [("cache.py", CACHE), ("other.py", OTHER)]
                .iter()
                .find(|(p, _)| *p == path)
                .map(|(_, t)| (*t).into())
        }

        fn name(&self, file: &std::path::Path) -> String {
            file.display().to_string()
        }
    }

    fn index() -> Retrieval {
        let mut index = Retrieval::new();
        let python = Language::by_name("python").unwrap();
        index.update_symbols("cache.py", python, CACHE);
        index.update_symbols("other.py", python, OTHER);
        index
    }

    fn words(words: &[&str]) -> Vec<Vec<String>> {
        words.iter().map(|word| vec![word.to_string()]).collect()
    }

    #[test]
    fn names_are_found_where_they_stand_and_where_they_are_defined() {
        let index = index();
        assert_eq!(index.mentions("keep_answer"), [("cache.py", true)]);
        assert_eq!(index.mentions("answer"), [("cache.py", false), ("other.py", false)]);
        assert!(index.mentions("nowhere").is_empty());
    }

    #[test]
    fn the_window_that_speaks_of_most_words_comes_first() {
        let index = index();
        let found = index.about(&words(&["seconds", "answer", "zebra"]), 3, &Two);
        assert_eq!(
            found.iter().map(|s| s.path.as_str()).collect::<Vec<_>>(),
            ["cache.py"],
            "{found:?}"
        );
        // One word that both have is all that is known.
        assert_eq!(index.about(&words(&["answer"]), 3, &Two).len(), 2);
        assert!(index.about(&words(&["zebra"]), 3, &Two).is_empty());
        assert!(index.about(&[], 3, &Two).is_empty());
    }
}
