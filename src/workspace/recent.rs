//! Where the user has been editing, newest first.
//! Neighbouring lines count as one place, so a minute of typing does not push everything else out.

use std::collections::VecDeque;
use std::time::Instant;

const CAPACITY: usize = 32;
const SAME_PLACE_LINES: u32 = 3;

/// A place that was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentEdit {
    /// The document.
    pub uri: String,
    /// The line, from 0, at the time of the edit; later edits above it do not move it.
    pub line: u32,
    /// The last edit at this place.
    pub when: Instant,
}

/// The last places, at most [`CAPACITY`].
#[derive(Default)]
pub(super) struct RecentEdits(VecDeque<RecentEdit>);

impl RecentEdits {
    pub(super) fn add(&mut self, uri: &str, line: u32, when: Instant) {
        self.0.retain(|edit| edit.uri != uri || edit.line.abs_diff(line) > SAME_PLACE_LINES);
        self.0.truncate(CAPACITY - 1);
        self.0.push_front(RecentEdit { uri: uri.to_string(), line, when });
    }

    pub(super) fn forget(&mut self, uri: &str) {
        self.0.retain(|edit| edit.uri != uri);
    }

    pub(super) fn to_vec(&self) -> Vec<RecentEdit> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(edits: &RecentEdits) -> Vec<(String, u32)> {
        edits.to_vec().into_iter().map(|edit| (edit.uri, edit.line)).collect()
    }

    #[test]
    fn typing_on_near_lines_is_one_place() {
        let mut edits = RecentEdits::default();
        let now = Instant::now();
        edits.add("a", 90, now);
        for line in 10..13 {
            edits.add("a", line, now);
        }
        edits.add("b", 11, now);
        assert_eq!(places(&edits), [("b".into(), 11), ("a".into(), 12), ("a".into(), 90)]);
        edits.forget("a");
        assert_eq!(places(&edits), [("b".into(), 11)]);
    }

    #[test]
    fn the_oldest_place_goes_first() {
        let mut edits = RecentEdits::default();
        for line in 0..100 {
            edits.add("a", line * 10, Instant::now());
        }
        let places = places(&edits);
        assert_eq!(places.len(), CAPACITY);
        assert_eq!(places[0].1, 990);
    }
}
