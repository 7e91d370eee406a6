//! The smallest single edit between two versions of a text.

use super::TextEdit;

/// The edit that turns `before` into `after` once their common start and end are taken away; nothing
/// when they are equal.
///
/// The range never parts a character or a `\r\n`, because no editor position lies inside of one.
pub fn minimal_edit(before: &str, after: &str) -> Option<TextEdit> {
    if before == after {
        return None;
    }
    let (old, new) = (before.as_bytes(), after.as_bytes());
    let mut start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    while !is_edge(before, start) || !after.is_char_boundary(start) {
        start -= 1;
    }
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let mut kept =
        old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    while !is_edge(before, old.len() - kept) || !after.is_char_boundary(new.len() - kept) {
        kept -= 1;
    }
    let new_text = after[start..new.len() - kept].to_string();
    Some(TextEdit { range: start..old.len() - kept, new_text })
}

/// Whether an edit may start or end here.
fn is_edge(text: &str, offset: usize) -> bool {
    let inside_crlf = offset > 0 && text.as_bytes()[offset - 1..].starts_with(b"\r\n");
    text.is_char_boundary(offset) && !inside_crlf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str, range: std::ops::Range<usize>, new_text: &str) {
        let expected = TextEdit { range, new_text: new_text.to_string() };
        assert_eq!(minimal_edit(before, after), Some(expected));
    }

    #[test]
    fn common_start_and_end_are_taken_away() {
        check("fn a() {}", "fn abc() {}", 4..4, "bc");
        check("aaa", "aa", 2..3, "");
        assert_eq!(minimal_edit("same", "same"), None);
    }

    #[test]
    fn characters_that_share_bytes_are_replaced_whole() {
        check("xéy", "xèy", 1..3, "è");
        check("😀", "😁", 0..4, "😁");
    }

    #[test]
    fn a_line_break_is_never_parted() {
        check("a\r\nb", "a\rb", 1..3, "\r");
        check("a\r\nb", "a\nb", 1..3, "\n");
    }
}
