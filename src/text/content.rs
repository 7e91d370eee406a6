//! The text of a document: one contiguous string and the places where its lines start.
//! Cloning shares both; an edit patches both in place, or copies them first if a clone still looks.

use std::ops::Range;
use std::sync::Arc;

use super::{AppliedEdit, Position, PositionEncoding, floor_boundary};

/// A text with its line table. A clone costs one reference count and never changes afterwards.
///
/// Lines end with `\n`, `\r\n` or a lone `\r`, so a text has one line more than line breaks, and a
/// text that ends with a break has an empty last line. No method panics on an offset or position
/// that lies outside of the text or inside of a character: it is moved to the nearest place before.
#[derive(Clone, Debug, Default)]
pub struct Text(Arc<Content>);

#[derive(Clone, Debug)]
struct Content {
    string: String,
    /// Byte offset of the first byte of each line; the first is always 0.
    line_starts: Vec<usize>,
    /// Whether a lone `\r` was ever seen. Stays true once it is: it only chooses the slower way.
    lone_cr: bool,
}

impl Default for Content {
    fn default() -> Content {
        Content { string: String::new(), line_starts: vec![0], lone_cr: false }
    }
}

impl Text {
    /// A text with the given content. Takes one pass to find the lines.
    pub fn new(content: impl Into<String>) -> Text {
        let string = content.into();
        let mut line_starts = vec![0];
        let lone_cr = push_line_starts(string.as_bytes(), 0..string.len(), &mut line_starts);
        Text(Arc::new(Content { string, line_starts, lone_cr }))
    }

    /// The whole content.
    pub fn as_str(&self) -> &str {
        &self.0.string
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.string.len()
    }

    /// Whether there is no content. Even then there is one line.
    pub fn is_empty(&self) -> bool {
        self.0.string.is_empty()
    }

    /// Whether both are one version: clones of which neither was edited since.
    pub fn is_same(&self, other: &Text) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The number of lines, at least 1.
    pub fn line_count(&self) -> usize {
        self.0.line_starts.len()
    }

    /// The line, from 0, that the byte at `offset` belongs to; a line break belongs to the line it
    /// ends. The last line for every offset past the end.
    pub fn line_of(&self, offset: usize) -> usize {
        self.0.line_starts.partition_point(|&start| start <= offset) - 1
    }

    /// The bytes of a line without its line break; empty at the end of the text for a line past the
    /// last.
    pub fn line_range(&self, line: usize) -> Range<usize> {
        let Some(&start) = self.0.line_starts.get(line) else {
            return self.len()..self.len();
        };
        let next = self.0.line_starts.get(line + 1).copied().unwrap_or(self.len());
        let bytes = &self.0.string.as_bytes()[start..next];
        let line_break = match bytes {
            _ if line + 1 == self.line_count() => 0,
            [.., b'\r', b'\n'] => 2,
            _ => 1,
        };
        start..next - line_break
    }

    /// The content of a line without its line break; empty for a line past the last.
    pub fn line(&self, line: usize) -> &str {
        &self.0.string[self.line_range(line)]
    }

    /// The byte offset of a position. Past the end of a line means its end, past the last line the
    /// end of the text, and inside of a character its start. Looks at one line only.
    pub fn offset(&self, position: Position, encoding: PositionEncoding) -> usize {
        let range = self.line_range(position.line as usize);
        let line = &self.0.string[range.clone()];
        range.start + encoding.byte_of(line, position.character as usize)
    }

    /// The position of a byte offset. Inside of a character means its start, inside of a line break
    /// the end of the line, past the end of the text its end. Looks at one line only.
    pub fn position(&self, offset: usize, encoding: PositionEncoding) -> Position {
        let offset = floor_boundary(&self.0.string, offset);
        let line = self.line_of(offset);
        let range = self.line_range(line);
        let before = &self.0.string[range.start..offset.min(range.end)];
        Position { line: line as u32, character: encoding.measure(before) as u32 }
    }

    /// Puts `new` in place of the bytes in `range` and says what happened, in the form that an
    /// incremental parser needs.
    ///
    /// Only the touched lines are scanned; the rest of the line table is moved. A reversed range is
    /// turned round.
    pub fn replace(&mut self, range: Range<usize>, new: &str) -> AppliedEdit {
        let start = floor_boundary(&self.0.string, range.start.min(range.end));
        let old_end = floor_boundary(&self.0.string, range.start.max(range.end));
        let new_end = start + new.len();
        let start_point = self.0.point(start);
        let old_end_point = self.0.point(old_end);

        if Arc::get_mut(&mut self.0).is_none() {
            self.0 = Arc::new(self.0.copy_with_room(new.len()));
        }
        let content = Arc::make_mut(&mut self.0);
        content.string.replace_range(start..old_end, new);
        content.patch_lines(start, old_end, new_end);

        let new_end_point = content.point(new_end);
        AppliedEdit { start, old_end, new_end, start_point, old_end_point, new_end_point }
    }
}

impl Content {
    /// A copy that can take an edit, and some more typing, without being moved once more.
    fn copy_with_room(&self, added: usize) -> Content {
        let mut string = String::with_capacity(self.string.len() + added + 256);
        string.push_str(&self.string);
        let mut line_starts = Vec::with_capacity(self.line_starts.len() + 16);
        line_starts.extend_from_slice(&self.line_starts);
        Content { string, line_starts, lone_cr: self.lone_cr }
    }

    /// Repairs the line table after the bytes `start..old_end` became `start..new_end`.
    ///
    /// Whether a line starts at an offset depends on the two bytes around it, so exactly the line
    /// starts in `start..=old_end` may be gone and those in `start..=new_end` may be new.
    fn patch_lines(&mut self, start: usize, old_end: usize, new_end: usize) {
        let first = self.line_starts.partition_point(|&line| line < start.max(1));
        let last = self.line_starts.partition_point(|&line| line <= old_end).max(first);
        for line in &mut self.line_starts[last..] {
            *line = *line - old_end + new_end;
        }
        let mut new_starts = Vec::new();
        let scanned = start.saturating_sub(1)..new_end;
        self.lone_cr |= push_line_starts(self.string.as_bytes(), scanned, &mut new_starts);
        self.line_starts.splice(first..last, new_starts);
    }

    /// Row and byte column as parsers count them, by `\n` alone.
    fn point(&self, offset: usize) -> (usize, usize) {
        if self.lone_cr {
            let before = &self.string.as_bytes()[..offset];
            let row = before.iter().filter(|&&byte| byte == b'\n').count();
            let line = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            return (row, offset - line);
        }
        let row = self.line_starts.partition_point(|&start| start <= offset) - 1;
        (row, offset - self.line_starts[row])
    }
}

/// Appends the line starts that the bytes in `scanned` cause, and says whether a lone `\r` was one
/// of them. The byte after `scanned` is looked at too, to tell `\r` from `\r\n`.
fn push_line_starts(bytes: &[u8], scanned: Range<usize>, line_starts: &mut Vec<usize>) -> bool {
    let mut lone_cr = false;
    for at in scanned {
        match bytes[at] {
            b'\n' => line_starts.push(at + 1),
            b'\r' if bytes.get(at + 1) != Some(&b'\n') => {
                line_starts.push(at + 1);
                lone_cr = true;
            }
            _ => {}
        }
    }
    lone_cr
}

/// The first line of a text, cut to so many characters; a sign says that there is more.
pub fn short(text: &str, characters: usize) -> String {
    let line = text.lines().next().unwrap_or("");
    let cut: String = line.chars().take(characters).collect();
    if cut.len() < text.len() { format!("{}…", cut.trim_end()) } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_break_ends_a_line() {
        let text = Text::new("a\nb\r\nc\rd\n");
        let lines: Vec<&str> = (0..text.line_count()).map(|line| text.line(line)).collect();
        assert_eq!(lines, ["a", "b", "c", "d", ""]);
        assert_eq!(text.line_range(99), text.len()..text.len());
    }

    #[test]
    fn astral_characters_count_as_the_encoding_says() {
        let text = Text::new("x\n\t𝒳é = 1");
        let equals = text.as_str().find('=').unwrap();
        for (encoding, character) in [
            (PositionEncoding::Utf8, 8),
            (PositionEncoding::Utf16, 5),
            (PositionEncoding::Utf32, 4),
        ] {
            let position = Position { line: 1, character };
            assert_eq!(text.position(equals, encoding), position, "{encoding:?}");
            assert_eq!(text.offset(position, encoding), equals, "{encoding:?}");
        }
    }

    #[test]
    fn positions_outside_are_moved_to_the_nearest_place_before() {
        let text = Text::new("ab\r\n𝒳\n");
        let at =
            |line, character| text.offset(Position { line, character }, PositionEncoding::Utf16);
        assert_eq!(at(0, 99), 2, "past the end of a line");
        assert_eq!(at(1, 1), 4, "between two surrogates");
        assert_eq!(at(99, 5), text.len(), "past the last line");
        let inside_of_the_break = text.position(3, PositionEncoding::Utf16);
        assert_eq!(inside_of_the_break, Position { line: 0, character: 2 });
    }

    #[test]
    fn an_edit_that_joins_or_parts_a_line_break_moves_the_lines() {
        let mut text = Text::new("a\rb");
        text.replace(2..2, "\n");
        assert_eq!((text.line_count(), text.line(1)), (2, "b"));
        text.replace(2..2, "x");
        assert_eq!((text.line_count(), text.line(1), text.line(2)), (3, "x", "b"));
    }

    #[test]
    fn a_clone_keeps_its_version() {
        let before = Text::new("one\ntwo");
        let mut after = before.clone();
        after.replace(0..3, "1\n");
        assert_eq!((before.as_str(), before.line_count()), ("one\ntwo", 2));
        assert_eq!((after.as_str(), after.line_count()), ("1\n\ntwo", 3));
    }

    #[test]
    fn points_count_rows_by_newlines_alone() {
        let mut text = Text::new("a\rb\ncd");
        let edit = text.replace(5..5, "x\ny");
        assert_eq!(edit.start_point, (1, 1));
        assert_eq!(edit.old_end_point, (1, 1));
        assert_eq!(edit.new_end_point, (2, 1));
    }
}
