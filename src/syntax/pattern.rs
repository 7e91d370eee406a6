//! Patterns over syntax trees for rules that are data, and a view of nodes for what such rules ask about them.

use std::borrow::Cow;
use std::ops::Range;

use tree_sitter::{Node, Query, QueryCursor, StreamingIterator};

use super::{Language, SyntaxTree};

/// A bound on the states that a query keeps at a time.
const MATCH_LIMIT: u32 = 8192;

/// A node of a tree: what it is and what stands around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'t>(Node<'t>);

impl<'t> Piece<'t> {
    /// The kind that the grammar gives it.
    pub fn kind(self) -> &'t str {
        self.0.kind()
    }

    /// Its bytes.
    pub fn range(self) -> Range<usize> {
        self.0.byte_range()
    }

    /// Its text.
    pub fn text<'s>(self, source: &'s str) -> &'s str {
        source.get(self.range()).unwrap_or_default()
    }

    /// What it is part of.
    pub fn parent(self) -> Option<Piece<'t>> {
        self.0.parent().map(Piece)
    }

    /// All that it is part of, from its parent to the root.
    pub fn ancestors(self) -> impl Iterator<Item = Piece<'t>> {
        std::iter::successors(self.parent(), |piece| piece.parent())
    }

    /// Its named parts that are no comments.
    pub fn parts(self) -> Vec<Piece<'t>> {
        let parts = self.0.named_children(&mut self.0.walk()).map(Piece).collect::<Vec<_>>();
        parts.into_iter().filter(|part| !part.0.is_extra()).collect()
    }

    /// All of its parts, tokens too.
    pub fn tokens(self) -> Vec<Piece<'t>> {
        self.0.children(&mut self.0.walk()).map(Piece).collect()
    }

    /// The part in a field.
    pub fn field(self, name: &str) -> Option<Piece<'t>> {
        self.0.child_by_field_name(name).map(Piece)
    }

    /// The named piece before it in its parent, comments left out.
    pub fn previous(self) -> Option<Piece<'t>> {
        let before = std::iter::successors(self.0.prev_named_sibling(), Node::prev_named_sibling);
        before.into_iter().find(|node| !node.is_extra()).map(Piece)
    }

    /// Whether the grammar names its kind; operators and brackets have none.
    pub fn is_named(self) -> bool {
        self.0.is_named()
    }

    /// Whether it is a comment.
    pub fn is_comment(self) -> bool {
        self.0.is_extra()
    }

    /// Whether something in it did not parse.
    pub fn has_error(self) -> bool {
        self.0.has_error()
    }

    /// It and everything in it, in the order of the text.
    pub fn all(self) -> Vec<Piece<'t>> {
        let mut found = Vec::new();
        let mut open = vec![self.0];
        while let Some(node) = open.pop() {
            found.push(Piece(node));
            let mut cursor = node.walk();
            let from = open.len();
            open.extend(node.children(&mut cursor));
            open[from..].reverse();
        }
        found
    }
}

impl SyntaxTree {
    /// The whole of it.
    pub fn root(&self) -> Piece<'_> {
        Piece(self.tree.root_node())
    }
}

/// Patterns of one language, sought together.
#[derive(Debug)]
pub struct Patterns {
    query: Query,
    /// Which of the given sources each pattern of the query came from.
    origins: Vec<usize>,
}

/// Where a pattern was found: its source's number, and its captures by name.
#[derive(Clone, Debug)]
pub struct Match<'t> {
    /// Which of the sources.
    pub origin: usize,
    captures: Vec<(Cow<'t, str>, Piece<'t>)>,
}

impl<'t> Match<'t> {
    /// The first node with that capture.
    pub fn get(&self, name: &str) -> Option<Piece<'t>> {
        self.captures.iter().find(|(own, _)| *own == name).map(|(_, piece)| *piece)
    }

    /// All captures, in the order of the pattern.
    pub fn captures(&self) -> &[(Cow<'t, str>, Piece<'t>)] {
        &self.captures
    }

    /// Gives a node a name, if that is free.
    pub fn add(&mut self, name: impl Into<Cow<'t, str>>, piece: Piece<'t>) {
        let name = name.into();
        if self.get(&name).is_none() {
            self.captures.push((name, piece));
        }
    }
}

impl Patterns {
    /// Compiles queries; each may hold several patterns.
    ///
    /// # Errors
    /// One that does not fit the grammar: its number, and what is wrong.
    pub fn new(
        language: &'static Language,
        sources: &[&str],
    ) -> Result<Patterns, (usize, String)> {
        let grammar = (language.grammar)();
        let mut origins = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let query = Query::new(&grammar, source).map_err(|e| (index, e.to_string()))?;
            origins.extend(std::iter::repeat_n(index, query.pattern_count()));
        }
        let query = Query::new(&grammar, &sources.join("\n")).map_err(|e| (0, e.to_string()))?;
        Ok(Patterns { query, origins })
    }

    /// Where they are found, in the order of the text, in what touches `within`.
    pub fn matches<'t>(
        &'t self,
        tree: &'t SyntaxTree,
        text: &str,
        within: Range<usize>,
    ) -> Vec<Match<'t>> {
        let names = self.query.capture_names();
        let mut cursor = QueryCursor::new();
        cursor.set_match_limit(MATCH_LIMIT);
        cursor.set_byte_range(within);
        let mut found = Vec::new();
        let mut matches = cursor.matches(&self.query, tree.tree.root_node(), text.as_bytes());
        while let Some(matched) = matches.next() {
            let captures = matched.captures().iter();
            found.push(Match {
                origin: self.origins[matched.pattern_index],
                captures: captures.map(|c| (names[c.index as usize].into(), Piece(c.node))).collect(),
            });
        }
        found
    }
}
