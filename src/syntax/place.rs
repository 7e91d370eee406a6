//! Whether a place is in code, in a comment or in a string.

use tree_sitter::Node;

use super::SyntaxTree;

/// What kind of text surrounds a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Anything that is neither of the others, prose included.
    Code,
    /// Behind the mark of a line comment, up to and with the end of the line, or between the marks of
    /// a block comment.
    Comment,
    /// Between the quotes of a string or character literal, but not in code that is embedded there.
    String,
}

impl SyntaxTree {
    /// What the cursor at `offset` is in: typing there would add to it.
    pub fn place(&self, offset: usize) -> Place {
        for node in self.path_to(offset.saturating_sub(1)..offset).into_iter().rev() {
            if let Some(place) = place_of(node)
                && is_inside(node, place, offset)
            {
                return place;
            }
        }
        Place::Code
    }
}

/// What a node of this kind is to those inside of it; nothing if that is for its parent to say.
/// Grammars agree on these words.
fn place_of(node: Node) -> Option<Place> {
    let kind = node.kind();
    let any = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    if !node.is_named() || any(&["concatenated", "line_continuation"]) {
        return None;
    }
    if any(&["interpolation", "substitution", "expansion"]) {
        return Some(Place::Code);
    }
    if any(&["comment"]) {
        return Some(Place::Comment);
    }
    let literal = any(&["string", "char_literal", "character_literal", "rune_literal", "heredoc"]);
    (literal && !kind.contains("redirect")).then_some(Place::String)
}

/// The end of a line comment still belongs to it; the end of what has a closing mark does not.
fn is_inside(node: Node, place: Place, offset: usize) -> bool {
    if node.start_byte() >= offset {
        return false;
    }
    let one_line = node.start_position().row == node.end_position().row;
    let open_end = place == Place::Comment && one_line && !node.kind().contains("block");
    offset < node.end_byte() || (offset == node.end_byte() && open_end && ends_its_line(node))
}

/// Whether nothing follows on the line. A one-line `/* comment */` that code follows has an end.
fn ends_its_line(node: Node) -> bool {
    let mut ancestor = Some(node);
    while let Some(current) = ancestor {
        if let Some(next) = current.next_sibling() {
            return next.start_position().row > node.end_position().row
                || next.start_byte() == next.end_byte();
        }
        ancestor = current.parent();
    }
    true
}
