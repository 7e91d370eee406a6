//! Places in a text as editors name them: a line and a character within it.
//! What "character" counts is negotiated per connection, see [`PositionEncoding`].

/// What one unit of [`Position::character`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PositionEncoding {
    /// Bytes of UTF-8.
    Utf8,
    /// Code units of UTF-16: an astral character counts as two. What an editor means that says nothing.
    #[default]
    Utf16,
    /// Unicode scalar values.
    Utf32,
}

/// A place in a text. Ordered as in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 0. Lines end with `\n`, `\r\n` or `\r`.
    pub line: u32,
    /// Units of a [`PositionEncoding`] from the start of the line, from 0.
    pub character: u32,
}

/// From one position up to, and without, another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TextRange {
    /// The first place inside.
    pub start: Position,
    /// The first place outside.
    pub end: Position,
}

impl PositionEncoding {
    /// How many units `text` is long.
    pub fn measure(self, text: &str) -> usize {
        match self {
            PositionEncoding::Utf8 => text.len(),
            _ if text.is_ascii() => text.len(),
            PositionEncoding::Utf16 => text.chars().map(char::len_utf16).sum(),
            PositionEncoding::Utf32 => text.chars().count(),
        }
    }

    /// The byte offset in `text` of the character that the unit number `units` belongs to; the length
    /// of `text` when there are fewer units.
    pub fn byte_of(self, text: &str, units: usize) -> usize {
        if self == PositionEncoding::Utf8 || text.is_ascii() {
            return floor_boundary(text, units);
        }
        let mut passed = 0;
        for (byte, character) in text.char_indices() {
            passed += match self {
                PositionEncoding::Utf8 => character.len_utf8(),
                PositionEncoding::Utf16 => character.len_utf16(),
                PositionEncoding::Utf32 => 1,
            };
            if passed > units {
                return byte;
            }
        }
        text.len()
    }
}

/// The nearest character boundary at or before `offset`; the length of `text` for an offset past it.
pub fn floor_boundary(text: &str, offset: usize) -> usize {
    if offset >= text.len() {
        return text.len();
    }
    (0..=offset).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
