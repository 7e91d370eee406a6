//! Definitions of the names that are used near a cursor: a look-up in the outlines of all files.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::file::{File, Symbol, word};
use super::index::snippet;
use super::query::{Kind, Query, Snippet};
use super::similar::lines_before;
use super::windows::{folder, is_imported};
use super::words::identifiers;

/// Definitions that are chosen.
const MOST: usize = 3;
/// A name with more definitions means nothing certain.
const AMBIGUOUS: usize = 4;
/// What a definition is worth beside windows, whose similarity weighs as much: always, if the name stands
/// on the cursor's line, and if the file is imported or lies in the same folder.
const BASE: f64 = 0.15;
const ON_THE_LINE: f64 = 0.15;
const NEAR: f64 = 0.1;

/// How a name is used near the cursor.
#[derive(Default)]
struct Use {
    on_the_line: bool,
    /// Followed by a parenthesis or type parameters: what a function needs to be meant.
    called: bool,
}

/// The definitions of names that are used in the last lines before the cursor or on its line, and that
/// are not defined in the file itself; best first.
pub(super) fn definitions(
    files: &[(&str, &File)],
    query: &Query<'_>,
    own: Option<&Arc<File>>,
    imports: &[u32],
    read: &dyn Fn(&str) -> Option<Arc<str>>,
) -> Vec<Snippet> {
    let here = match query.tree {
        Some(tree) => super::file::symbols(tree, query.text),
        None => own.map(|file| file.symbols.clone()).unwrap_or_default(),
    };
    let here: FxHashSet<u32> = here.iter().map(|symbol| symbol.name).collect();
    let uses = uses(query);
    let mut found: BTreeMap<u32, Vec<(bool, &str, Symbol)>> = BTreeMap::new();
    for (path, file) in files {
        for symbol in &file.symbols {
            let meant = uses.get(&symbol.name).is_some_and(|used| used.called || !symbol.function);
            if meant && !here.contains(&symbol.name) {
                let near = is_imported(path, imports) || folder(path) == folder(query.path);
                found.entry(symbol.name).or_default().push((near, path, *symbol));
            }
        }
    }

    let mut ranked: Vec<(f64, &str, Symbol)> = Vec::new();
    for (name, mut places) in found {
        if places.len() > AMBIGUOUS {
            places.retain(|(near, ..)| *near);
            // Every file around has its `new`.
            if places.len() > 1 {
                continue;
            }
        }
        // The first of the near ones, else the first.
        let Some(&(near, path, symbol)) =
            places.iter().max_by_key(|(near, path, _)| (*near, std::cmp::Reverse(*path)))
        else {
            continue;
        };
        let line = if uses[&name].on_the_line { ON_THE_LINE } else { 0.0 };
        ranked.push((BASE + line + if near { NEAR } else { 0.0 }, path, symbol));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));

    let chosen = ranked.into_iter().take(2 * MOST).filter_map(|(score, path, symbol)| {
        let text = read(path)?;
        let range = symbol.start as usize..symbol.end as usize;
        let snippet = snippet(Kind::Definition, path, &text, range, score)?;
        // The text may have changed since it was parsed.
        let confirmed = identifiers(&snippet.text).any(|name| word(name) == symbol.name);
        confirmed.then_some(snippet)
    });
    chosen.take(MOST).collect()
}

fn uses(query: &Query<'_>) -> FxHashMap<u32, Use> {
    let before = &query.text[..query.offset];
    let line_end =
        query.text[query.offset..].find('\n').map_or(query.text.len(), |i| query.offset + i);
    let start = before.len() - lines_before(before).len();
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let mut uses: FxHashMap<u32, Use> = FxHashMap::default();
    let mut at = start;
    for name in identifiers(&query.text[start..line_end]) {
        // Identifiers come in order, so each is the next occurrence of itself.
        at += query.text[at..].find(name).unwrap_or(0);
        let end = at + name.len();
        let used = uses.entry(word(name)).or_default();
        used.on_the_line |= at >= line;
        let after = query.text[end..].trim_start_matches('!');
        used.called |= after.starts_with(['(', '<']) || after.starts_with("::<");
        at = end;
    }
    uses
}
