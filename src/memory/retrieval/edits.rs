//! Where the user has just been editing in other documents: what one does in several files in a row
//! belongs together.

use super::file::words;
use super::index::snippet;
use super::query::{Kind, Query, Snippet};
use super::similar::{LEAST, lines_before};
use super::windows::jaccard;

/// Places that are shown at most, of those that are looked at.
const MOST: usize = 2;
const LOOK: usize = 8;
/// Lines before the edited one and from it on.
const AROUND: usize = 4;
/// That it is recent speaks for it, so that less similarity is enough, but it is worth more the
/// newer it is.
const BONUS: f64 = 0.1;

/// The lines around recent edits in other documents that have something to do with the place.
pub(super) fn recent(query: &Query<'_>) -> Vec<Snippet> {
    let wanted = words(lines_before(&query.text[..query.offset]));
    let others = query.recent.iter().filter(|edit| edit.path != query.path).take(LOOK);
    let mut found: Vec<Snippet> = others
        .enumerate()
        .filter_map(|(age, edit)| {
            let breaks = edit.text.match_indices('\n').map(|(at, _)| at + 1);
            let starts: Vec<usize> = std::iter::once(0).chain(breaks).collect();
            let line = edit.line.min(starts.len() - 1);
            let start = starts[line.saturating_sub(AROUND)];
            let end = starts.get(line + AROUND).copied().unwrap_or(edit.text.len());
            let similarity = jaccard(&words(edit.text.get(start..end)?), &wanted);
            let score = similarity + BONUS / (1 + age) as f64;
            let like = similarity >= LEAST / 2.0;
            like.then(|| snippet(Kind::RecentEdit, &edit.path, edit.text, start..end, score))?
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST);
    found
}
