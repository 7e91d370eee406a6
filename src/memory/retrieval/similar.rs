//! Which lines of other files belong beside a cursor: windows compared by their identifiers (Jaccard),
//! as in RepoCoder (Zhang et al. 2023). Training and serving choose alike.

use rustc_hash::FxHashSet;

use super::words::{hash, identifiers};

/// Lines of one window; windows start every half.
pub const WINDOW: usize = 16;
/// Below this similarity a window says nothing about the place.
pub const LEAST: f64 = 0.15;

/// The last lines before a cursor, about 20: what windows are compared with.
pub fn lines_before(before: &str) -> &str {
    &before[before.rmatch_indices('\n').nth(20).map_or(0, |(at, _)| at + 1)..]
}

/// Lines of another file that resemble the text before a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct Similar<'a> {
    /// Path of the file.
    pub path: &'a str,
    /// Its lines.
    pub text: &'a str,
    /// Jaccard similarity of the identifiers, 0 to 1.
    pub similarity: f64,
}

/// The best `count` windows of `files` (path, text) for a place whose last lines are `query`, best first;
/// at most one per file. Windows that say little are left out.
pub fn choose<'a>(query: &str, files: &[(&'a str, &'a str)], count: usize) -> Vec<Similar<'a>> {
    let wanted: FxHashSet<u64> = identifiers(query).map(hash).collect();
    let mut best: Vec<Similar<'a>> = files
        .iter()
        .filter_map(|&(path, text)| {
            let starts: Vec<usize> =
                std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
            let windows = (0..starts.len()).step_by(WINDOW / 2).map(|line| {
                let end = starts.get(line + WINDOW).copied().unwrap_or(text.len());
                &text[starts[line]..end]
            });
            let scored = windows.map(|window| {
                let words: FxHashSet<u64> = identifiers(window).map(hash).collect();
                let both = words.intersection(&wanted).count() as f64;
                let similarity = both / (words.len() + wanted.len()) as f64;
                // Jaccard = both / (a + b − both).
                Similar { path, text: window, similarity: similarity / (1.0 - similarity) }
            });
            scored.max_by(|a, b| a.similarity.total_cmp(&b.similarity))
        })
        .filter(|snippet| snippet.similarity >= LEAST && !snippet.text.trim().is_empty())
        .collect();
    best.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    best.truncate(count);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_that_shares_identifiers_wins() {
        let filler = "let unrelated_thing = compute_other();\n".repeat(40);
        let hit = "fn parse_header(input: &[u8]) -> Header {\n    Header::decode(input)\n}\n";
        let far = format!("{filler}{hit}{filler}");
        let files = [("a.rs", filler.as_str()), ("b.rs", far.as_str())];
        let found = choose("let header = parse_header(input);\nHeader::decode(", &files, 3);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "b.rs");
        assert!(found[0].text.contains("parse_header"));
        assert!(choose("nothing_alike", &files, 3).is_empty());
        assert!(choose("", &[("a.rs", "")], 3).is_empty());
    }
}
