//! Windows that resemble the lines before a cursor. All are compared: a pass over the words of a
//! workspace costs less than the bookkeeping of inverted lists would, and misses nothing.

use std::sync::Arc;

use super::file::{File, word, words};
use super::index::snippet;
use super::query::{Kind, Query, Snippet};
use super::similar::{LEAST, lines_before};
use super::wanted::{Mask, Wanted, Weights};
use super::words::identifiers;

/// Windows that are chosen, at most one per file.
const MOST: usize = 3;
/// Files that are read for them: some may have changed or hold endless lines.
const MOST_READ: usize = 12;
/// More than this is no window to show.
const MOST_BYTES: usize = 4096;
/// Share of what the first half of a window has in common with the place that the second half must have
/// for the match to reach as far. The line that comes next was then among those shown at 15, 27 and 20 %
/// of 1,500 places in vizier, axum and cobra; by the matching windows themselves at 10, 21 and 17 %.
const LATE: f64 = 0.5;
/// How much more a window is worth in a file that imports all of the same, in one that is imported, and
/// in one of the same folder (the order of Zhang et al.: 82 % of the hits share imports, 46 % a folder).
const SAME_IMPORTS: f64 = 0.5;
const IMPORTED: f64 = 0.3;
const SAME_FOLDER: f64 = 0.4;

/// The best windows of the files, best first, and at least as similar as those in training.
pub(super) fn similar(
    files: &[(&str, &File)],
    query: &Query<'_>,
    imports: &[u32],
    read: &dyn Fn(&str) -> Option<Arc<str>>,
) -> Vec<Snippet> {
    let lines = lines_before(&query.text[..query.offset]);
    // Of too many words the last ones count.
    let mut nearest: Vec<u32> = identifiers(lines).map(word).collect();
    nearest.reverse();
    let wanted = Wanted::new(nearest);
    if wanted.len() == 0 {
        return Vec::new();
    }

    // Which words each cell has, and which each file.
    let mut cells: Vec<Mask> = Vec::new();
    let mut whole: Vec<Mask> = Vec::with_capacity(files.len());
    for (_, file) in files {
        let first = cells.len();
        cells.extend((0..file.cells()).map(|cell| wanted.mask(file.words_of(cell))));
        whole.push(cells[first..].iter().fold(0, |all, mask| all | mask));
    }
    let weights = Weights::new(&wanted, &whole);

    let imported = Wanted::new(imports.iter().copied());
    let shared: Vec<Mask> = files.iter().map(|(_, file)| imported.mask(&file.imports)).collect();
    let import_weights = Weights::new(&imported, &shared);

    let mut best: Vec<(f64, usize, usize, bool)> = Vec::new();
    let mut rest = cells.as_slice();
    for (number, (path, file)) in files.iter().enumerate() {
        let masks;
        (masks, rest) = rest.split_at(file.cells());
        let windows = (0..masks.len()).filter_map(|cell| {
            let mask = masks[cell] | masks.get(cell + 1).copied().unwrap_or(0);
            let both = mask.count_ones() as usize;
            let only = file.window_words(cell) - both;
            let jaccard = both as f64 / (wanted.len() + only) as f64;
            // Jaccard by weights, as if the words that only the window has weighed like others.
            let rank = || weights.of(mask) / (weights.total + weights.mean() * only as f64);
            (jaccard >= LEAST).then(|| (rank(), cell))
        });
        let Some((rank, cell)) = windows.max_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        let mut nearness = 1.0;
        if import_weights.total > 0.0 {
            nearness += SAME_IMPORTS * import_weights.of(shared[number]) / import_weights.total;
        }
        nearness += if is_imported(path, imports) { IMPORTED } else { 0.0 };
        nearness += if folder(path) == folder(query.path) { SAME_FOLDER } else { 0.0 };
        let half = |cell: usize| masks.get(cell).map_or(0.0, |&mask| weights.of(mask));
        best.push((rank * nearness, number, cell, half(cell + 1) >= LATE * half(cell)));
    }
    best.sort_by(|a, b| b.0.total_cmp(&a.0));

    let wanted = words(lines);
    let chosen = best.into_iter().take(MOST_READ).filter_map(|(rank, number, cell, late)| {
        let (path, file) = files[number];
        let text = read(path)?;
        let matched = file.window(cell, text.len())?;
        // The text may have changed since it was read.
        if jaccard(&words(text.get(matched.clone())?), &wanted) < LEAST {
            return None;
        }
        // What is wanted is how it went on: if the match reaches as far, half a window later.
        let range = match late && cell + 2 < file.cells() {
            true => file.window(cell + 1, text.len())?,
            false => matched,
        };
        let short = range.len() <= MOST_BYTES;
        short.then(|| snippet(Kind::SimilarWindow, path, &text, range, rank))?
    });
    chosen.take(MOST).collect()
}

/// Jaccard similarity of two sorted lists of different words.
pub(super) fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let both = a.iter().filter(|word| b.binary_search(word).is_ok()).count();
    both as f64 / (a.len() + b.len() - both).max(1) as f64
}

/// The folder of a path.
pub(super) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether import lines with these words are likely to mean the file: they name it, or its folder if the
/// file stands for that.
pub(super) fn is_imported(path: &str, imports: &[u32]) -> bool {
    /// Files that stand for their folder, by name or by extension.
    const FOLDERS: [&str; 5] = ["mod", "lib", "index", "__init__", "main"];
    const PACKAGES: [&str; 1] = ["go"];
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let named = |name: &str| !name.is_empty() && imports.binary_search(&word(name)).is_ok();
    let whole_folder = FOLDERS.contains(&stem) || PACKAGES.contains(&extension);
    named(stem) || (whole_folder && folder.rsplit('/').next().is_some_and(named))
}
