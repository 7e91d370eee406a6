//! The tokens of a text as its grammar sees them, the places where it does not fit, and what it would take there.

use std::ops::Range;

use tree_sitter::Node;

use super::SyntaxTree;
use crate::text::{Text, TextEdit};

/// What a token is to an editor of syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexemeKind {
    /// Punctuation, an operator or a keyword: text that the grammar itself names.
    Fixed,
    /// A name.
    Name,
    /// A number, string or character, whole.
    Literal,
    /// A comment.
    Comment,
    /// What the grammar cannot read at all.
    Unknown,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lexeme {
    /// Its bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: LexemeKind,
    /// State of the parser behind it; `None` inside of an error.
    state: Option<u16>,
}

/// A place that does not fit the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The bytes that were skipped; empty where something is missing.
    pub range: Range<usize>,
    /// What is missing, if the parser knows: the text of a token, or the kind of a name or literal.
    pub missing: Option<String>,
}

/// A node of the tree as mutations see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bytes.
    pub range: Range<usize>,
    /// Whether it may stand for a value: then something can be put around it.
    pub is_expression: bool,
    /// Its named children, in order.
    pub children: Vec<Range<usize>>,
}

/// The state of nodes inside of an error (`TS_TREE_STATE_NONE`).
const NO_STATE: u16 = u16::MAX;

impl SyntaxTree {
    /// All tokens of `text`, in order.
    pub fn lexemes(&self, text: &str) -> Vec<Lexeme> {
        let mut lexemes = Vec::new();
        let mut cursor = self.tree.walk();
        let mut end = 0;
        'nodes: loop {
            let node = cursor.node();
            let whole = whole_kind(&node);
            if (node.child_count() == 0 || whole.is_some()) && !node.byte_range().is_empty() {
                skipped(text, end..node.start_byte(), &mut lexemes);
                end = node.end_byte();
                let state = Some(node.next_parse_state()).filter(|&state| state != NO_STATE);
                let kind = whole.unwrap_or_else(|| leaf_kind(&node, text));
                lexemes.push(Lexeme { range: node.byte_range(), kind, state });
            }
            if whole.is_none() && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    break 'nodes;
                }
            }
        }
        skipped(text, end..text.len(), &mut lexemes);
        // Line ends are tokens in some grammars; they are space here.
        lexemes.retain(|l| text.get(l.range.clone()).is_some_and(|t| !t.trim().is_empty()));
        lexemes
    }

    /// The named nodes that lie `within` a range or touch it, but do not reach over both its ends.
    pub fn parts(&self, within: Range<usize>) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut open = vec![self.tree.root_node()];
        while let Some(node) = open.pop() {
            let range = node.byte_range();
            if range.start >= within.end || range.end <= within.start {
                continue;
            }
            let children: Vec<Node> = node.children(&mut node.walk()).collect();
            if node.is_named() && !(range.start < within.start && range.end > within.end) {
                let kind = node.kind();
                let named = children.iter().filter(|child| child.is_named() && !child.is_extra());
                parts.push(Part {
                    range,
                    is_expression: !NO_VALUES.iter().any(|end| kind.ends_with(end)),
                    children: named.map(|child| child.byte_range()).collect(),
                });
            }
            if whole_kind(&node).is_none() {
                open.extend(children);
            }
        }
        parts
    }

    /// Where the text does not fit: skipped text as a whole, and missing tokens; in the order of the text.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut open = vec![self.tree.root_node()];
        while let Some(node) = open.pop() {
            if !node.has_error() && !node.is_missing() {
                continue;
            }
            if node.is_missing() {
                let start = node.start_byte();
                faults.push(Fault { range: start..start, missing: Some(node.kind().to_string()) });
            } else if node.is_error() {
                faults.push(Fault { range: node.byte_range(), missing: None });
            } else {
                open.extend(node.children(&mut node.walk()));
            }
        }
        faults.sort_by_key(|fault| (fault.range.start, fault.range.end));
        faults
    }

    /// The fixed tokens that the grammar would take behind a token, and whether it would take a name; `None` inside
    /// of an error. Some of them lead into an error later on.
    pub fn expected(&self, after: &Lexeme) -> Option<(Vec<String>, bool)> {
        let language = (self.language.grammar)();
        let symbols = language.lookahead_iterator(after.state?)?;
        let (mut fixed, mut name) = (Vec::new(), false);
        for symbol in symbols {
            let Some(kind) = language.node_kind_for_id(symbol) else { continue };
            match language.node_kind_is_named(symbol) {
                true => name |= kind.ends_with("identifier"),
                false if language.node_kind_is_visible(symbol) => fixed.push(kind.to_string()),
                false => {}
            }
        }
        Some((fixed, name))
    }

    /// The number of errors after an edit of `text`, which this tree is of; `None` if parsing it is too much work.
    pub fn errors_after(&self, text: &Text, edit: &TextEdit) -> Option<usize> {
        let mut text = text.clone();
        let applied = text.replace(edit.range.clone(), &edit.new_text);
        let mut tree = self.clone();
        let parsed = tree.update(&applied, text.as_str());
        parsed.then(|| tree.error_count(0..text.len()))
    }
}

/// Ends of the kinds of nodes that hold no value.
const NO_VALUES: [&str; 14] = [
    "statement",
    "block",
    "declaration",
    "comment",
    "parameters",
    "arguments",
    "type",
    "clause",
    "item",
    "definition",
    "module",
    "source_file",
    "program",
    "list",
];

/// Strings and comments are one token, whatever the grammar makes of their inside.
fn whole_kind(node: &Node) -> Option<LexemeKind> {
    if !node.is_named() || node.has_error() {
        return None;
    }
    let kind = node.kind();
    if kind.contains("comment") {
        return Some(LexemeKind::Comment);
    }
    let is_literal = kind == "string"
        || kind.ends_with("string_literal")
        || kind.ends_with("char_literal")
        || matches!(kind, "template_string" | "regex" | "concatenated_string");
    is_literal.then_some(LexemeKind::Literal)
}

fn leaf_kind(node: &Node, text: &str) -> LexemeKind {
    let kind = node.kind();
    let first = text.get(node.byte_range()).and_then(|text| text.chars().next());
    match () {
        () if node.is_error() => LexemeKind::Unknown,
        () if !node.is_named() => LexemeKind::Fixed,
        () if kind.ends_with("identifier") => LexemeKind::Name,
        () if first.is_some_and(|c| c.is_ascii_digit() || c == '"' || c == '\'') => {
            LexemeKind::Literal
        }
        () if first.is_some_and(|c| c.is_alphabetic() || c == '_') => LexemeKind::Name,
        () => LexemeKind::Fixed,
    }
}

/// Text between two tokens that no token holds.
fn skipped(text: &str, range: Range<usize>, lexemes: &mut Vec<Lexeme>) {
    let Some(between) = text.get(range.clone()) else { return };
    let mut at = range.start;
    for word in between.split_whitespace() {
        let start = at + text[at..range.end].find(word).unwrap_or(0);
        at = start + word.len();
        lexemes.push(Lexeme { range: start..at, kind: LexemeKind::Unknown, state: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Language;

    fn tree(language: &str, text: &str) -> SyntaxTree {
        SyntaxTree::parse(Language::by_name(language).unwrap(), text).unwrap()
    }

    #[test]
    fn every_language_gives_back_its_text_as_tokens() {
        let text = "x = [\"größe\", 'b' /* c */ ] # d\n";
        for language in Language::all() {
            let tree = tree(language.name, text);
            let lexemes = tree.lexemes(text);
            let joined: String = lexemes.iter().map(|l| &text[l.range.clone()]).collect();
            let bare = |t: &str| t.split_whitespace().collect::<String>();
            // Comments and strings hold spaces of their own.
            assert_eq!(bare(&joined), bare(text), "{}", language.name);
        }
    }

    #[test]
    fn strings_and_comments_are_one_token_and_names_are_known() {
        let text = "let größe = f(\"a b\", 1); // c d\n";
        let found = tree("rust", text).lexemes(text);
        let found: Vec<_> = found.iter().map(|l| (&text[l.range.clone()], l.kind)).collect();
        use LexemeKind::*;
        let expected = [
            ("let", Fixed),
            ("größe", Name),
            ("=", Fixed),
            ("f", Name),
            ("(", Fixed),
            ("\"a b\"", Literal),
            (",", Fixed),
            ("1", Literal),
            (")", Fixed),
            (";", Fixed),
            ("// c d", Comment),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_missing_token_is_named_and_tried() {
        let text = Text::new("fn f() -> u8 {\n    let x = 1\n}\n");
        let tree = tree("rust", text.as_str());
        let faults = tree.faults();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].missing.as_deref(), Some(";"));
        let insert = |new: &str| {
            let edit = TextEdit { range: faults[0].range.clone(), new_text: new.into() };
            tree.errors_after(&text, &edit)
        };
        assert_eq!((insert(";"), insert("]")), (Some(0), Some(1)));
    }

    #[test]
    fn what_may_follow_a_token_is_known() {
        let text = "fn f(a: u8) {}\n";
        let tree = tree("rust", text);
        let lexemes = tree.lexemes(text);
        let (fixed, name) = tree.expected(&lexemes[2]).unwrap();
        assert_eq!(&text[lexemes[2].range.clone()], "(");
        assert!([")", "&"].iter().all(|t| fixed.iter().any(|f| f == t)) && name, "{fixed:?}");
        assert!(!fixed.iter().any(|f| f == "}"));
    }
}
