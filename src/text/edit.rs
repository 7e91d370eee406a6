//! Edits of a text: those to be made, as byte ranges, and the record of one that was made.

use std::ops::Range;

use super::floor_boundary;

/// A replacement to be made: the bytes in `range` become `new_text`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TextEdit {
    /// Bytes of the text before the edit.
    pub range: Range<usize>,
    /// What stands there afterwards.
    pub new_text: String,
}

/// A replacement that was made by [`Text::replace`](super::Text::replace).
///
/// The points are (row, byte column) with rows counted by `\n` alone, as incremental parsers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedEdit {
    /// First byte that was replaced.
    pub start: usize,
    /// End of the replaced bytes in the text before.
    pub old_end: usize,
    /// End of the inserted bytes in the text after.
    pub new_end: usize,
    /// The point of `start`.
    pub start_point: (usize, usize),
    /// The point of `old_end` in the text before.
    pub old_end_point: (usize, usize),
    /// The point of `new_end` in the text after.
    pub new_end_point: (usize, usize),
}

/// Makes all `edits`, whose ranges all speak of `text` as it is.
///
/// Their order matters only between insertions at one place. Edits must not overlap; of two that do,
/// the one that starts later is left out. Ranges outside of the text or inside of a character are
/// moved to the nearest place before.
pub fn apply(text: &str, edits: &[TextEdit]) -> String {
    let mut in_order: Vec<&TextEdit> = edits.iter().collect();
    in_order.sort_by_key(|edit| (edit.range.start, edit.range.end));

    let mut result = String::with_capacity(text.len());
    let mut copied = 0;
    for edit in in_order {
        let start = floor_boundary(text, edit.range.start);
        let end = floor_boundary(text, edit.range.end).max(start);
        if start < copied {
            continue;
        }
        result.push_str(&text[copied..start]);
        result.push_str(&edit.new_text);
        copied = end;
    }
    result.push_str(&text[copied..]);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, edits: &[(Range<usize>, &str)], expected: &str) {
        let edits: Vec<TextEdit> = edits
            .iter()
            .map(|(range, new)| TextEdit { range: range.clone(), new_text: new.to_string() })
            .collect();
        assert_eq!(apply(text, &edits), expected);
    }

    #[test]
    fn edits_are_made_in_the_order_of_the_text() {
        check("let a = b;", &[(8..9, "c"), (0..3, "const")], "const a = c;");
    }

    #[test]
    fn insertions_at_one_place_keep_their_order() {
        check("ab", &[(1..1, "x"), (1..1, "y"), (1..2, "z")], "axyz");
    }

    #[test]
    fn an_overlapping_edit_is_left_out() {
        check("abcdef", &[(0..4, "x"), (2..6, "y")], "xef");
    }

    #[test]
    fn ranges_outside_are_moved_inside() {
        check("é", &[(1..1, "x"), (90..99, "y")], "xéy");
    }
}
