//! Patterns over syntax trees for rules that are data, and a view of nodes for what such rules ask about them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use tree_sitter::{Node, Query, QueryCursor, StreamingIterator};

use super::query_text::{self, Roots, patterns};
use super::{Language, SyntaxTree};

/// A bound on the states that a query keeps at a time: it compares all of them with each other, and in bundles of scripts some
/// nodes have thousands of parts.
const MATCH_LIMIT: u32 = 100;

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
    pub fn text(self, source: &str) -> &str {
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

    /// All parts in a field.
    pub fn fields(self, name: &str) -> Vec<Piece<'t>> {
        self.0.children_by_field_name(name, &mut self.0.walk()).map(Piece).collect()
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
    /// The smallest piece around some bytes.
    pub fn piece_at(&self, bytes: Range<usize>) -> Option<Piece<'_>> {
        self.tree.root_node().descendant_for_byte_range(bytes.start, bytes.end).map(Piece)
    }

    /// The whole of it.
    pub fn root(&self) -> Piece<'_> {
        Piece(self.tree.root_node())
    }
}

/// Patterns of one language. Each is sought only where a word stands that it asks for, upwards from there: most of most files
/// has none of them, and to walk through a tree for each pattern would take a hundred times as long.
#[derive(Debug)]
pub struct Patterns {
    grammar: tree_sitter::Language,
    all: Vec<Pattern>,
    /// Finds all words of all patterns at once.
    words: AhoCorasick,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// Compiled when it is first needed: that takes some milliseconds, and many never are.
    query: OnceLock<Result<Query, String>>,
    /// Which of the given sources it came from.
    origin: usize,
    /// Numbers of words: of each group a match must have one.
    needs: Vec<Vec<usize>>,
    /// Words that the text must have somewhere.
    besides: Vec<usize>,
    roots: Roots,
}

impl Pattern {
    fn may_match(&self, has: impl Fn(usize) -> bool) -> bool {
        self.needs.iter().all(|group| group.iter().any(|&word| has(word)))
            && self.besides.iter().all(|&word| has(word))
    }

    fn query(&self, grammar: &tree_sitter::Language) -> Result<&Query, &str> {
        let compile = || Query::new(grammar, &self.text).map_err(|error| error.to_string());
        self.query.get_or_init(compile).as_ref().map_err(String::as_str)
    }
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
    /// Takes queries, each with words that a text must have besides for it to be of use; each may hold several patterns.
    /// What is wrong with them is seen when they are used, or by [`Patterns::check`].
    ///
    /// # Errors
    /// Too many words.
    pub fn new(
        language: &'static Language,
        sources: &[(&str, Vec<String>)],
    ) -> Result<Patterns, String> {
        let grammar = (language.grammar)();
        let (mut words, mut all): (Vec<String>, Vec<Pattern>) = Default::default();
        for (origin, (source, besides)) in sources.iter().enumerate() {
            for query_text::Pattern { place, needs, roots } in patterns(source) {
                let mut number = |word: String| {
                    words.iter().position(|known| *known == word).unwrap_or_else(|| {
                        words.push(word);
                        words.len() - 1
                    })
                };
                let needs = needs
                    .into_iter()
                    .map(|group| group.into_iter().map(&mut number).collect())
                    .collect();
                let besides = besides.iter().cloned().map(&mut number).collect();
                // Some kinds stand for others.
                let is_kind = |kind: &String| {
                    let id = grammar.id_for_node_kind(kind, true);
                    id != 0 && !grammar.node_kind_is_supertype(id)
                };
                let roots = match roots {
                    Roots::Kinds(kinds) if !kinds.iter().all(is_kind) => Roots::Any,
                    roots => roots,
                };
                let (text, query) = (source[place].to_string(), OnceLock::new());
                all.push(Pattern { text, query, origin, needs, besides, roots });
            }
        }
        let words = AhoCorasick::new(&words).map_err(|error| error.to_string())?;
        Ok(Patterns { grammar, all, words })
    }

    /// Compiles all of them.
    ///
    /// # Errors
    /// One that does not fit the grammar: the number of its source, and what is wrong.
    pub fn check(&self) -> Result<(), (usize, String)> {
        let mut compiled = self.all.iter().map(|p| (p.origin, p.query(&self.grammar)));
        let wrong = compiled.find_map(|(origin, query)| Some((origin, query.err()?.to_string())));
        wrong.map_or(Ok(()), Err)
    }

    /// Whether any of them may be found in a text. Says no of most texts, without parsing them.
    pub fn may_match(&self, text: &str) -> bool {
        let places = self.places(text);
        self.all.iter().any(|pattern| pattern.may_match(|word| !places[word].is_empty()))
    }

    /// Where each word begins, in the order of the text.
    fn places(&self, text: &str) -> Vec<Vec<usize>> {
        let mut places = vec![Vec::new(); self.words.patterns_len()];
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let bytes = text.as_bytes();
        // A word that goes on is another one.
        let is_cut =
            |at: usize| at > 0 && at < bytes.len() && is_word(bytes[at - 1]) && is_word(bytes[at]);
        for word in self.words.find_overlapping_iter(text) {
            if !is_cut(word.start()) && !is_cut(word.end()) {
                places[word.pattern().as_usize()].push(word.start());
            }
        }
        places
    }

    /// Where they are found, in the order of the text, in what touches `within`.
    pub fn matches<'t>(
        &'t self,
        tree: &'t SyntaxTree,
        text: &str,
        within: Range<usize>,
    ) -> Vec<Match<'t>> {
        let root = tree.tree.root_node();
        let places = self.places(text);
        let mut paths = Paths { root, known: HashMap::new() };
        let mut cursor = QueryCursor::new();
        cursor.set_match_limit(MATCH_LIMIT);
        cursor.set_byte_range(within.start..within.end.max(within.start + 1));
        let touches =
            |node: &Node<'_>| node.end_byte() >= within.start && node.start_byte() <= within.end;
        let mut found = Vec::new();
        for pattern in &self.all {
            if !pattern.may_match(|word| !places[word].is_empty()) {
                continue;
            }
            // From the rarest of its words upwards.
            let count = |group: &&Vec<usize>| group.iter().map(|w| places[*w].len()).sum::<usize>();
            let rarest = pattern.needs.iter().min_by_key(count);
            let mut starts: Vec<Node<'t>> = Vec::new();
            for at in rarest.into_iter().flatten().flat_map(|word| &places[*word]) {
                let above = paths.to(*at).iter();
                let fits = |node: &&Node<'_>| {
                    let is_root = match &pattern.roots {
                        Roots::Kinds(kinds) => kinds.iter().any(|kind| kind == node.kind()),
                        Roots::Any | Roots::Siblings => node.child_count() > 0,
                    };
                    is_root && touches(node)
                };
                starts.extend(above.filter(fits));
            }
            starts.sort_by_key(|node| (node.start_byte(), node.id()));
            starts.dedup();
            let anywhere = rarest.is_none();
            if anywhere {
                starts.push(root);
            } else if starts.is_empty() {
                continue;
            }
            // Children of a node of any kind count as its start, too.
            let depth = u32::from(!matches!(pattern.roots, Roots::Kinds(_)));
            cursor.set_max_start_depth((!anywhere).then_some(depth));
            let query = match pattern.query(&self.grammar) {
                Ok(query) => query,
                Err(error) => {
                    tracing::error!("a pattern is left out: {error}");
                    continue;
                }
            };
            let names = query.capture_names();
            for node in starts {
                let mut matches = cursor.matches(query, node, text.as_bytes());
                while let Some(matched) = matches.next() {
                    let captures = matched.captures().iter();
                    let captures =
                        captures.map(|c| (names[c.index as usize].into(), Piece(c.node)));
                    found.push(Match { origin: pattern.origin, captures: captures.collect() });
                }
            }
        }
        found
            .sort_by_key(|found| found.captures.iter().map(|(_, piece)| piece.range().start).min());
        found
    }
}

#[cfg(test)]
impl Patterns {
    /// Where the patterns of one source are found by walking through all of the tree: slow, and plainly right.
    pub fn walked(&self, origin: usize, tree: &SyntaxTree, text: &str) -> Vec<Vec<(usize, usize)>> {
        let mut found = Vec::new();
        for pattern in self.all.iter().filter(|pattern| pattern.origin == origin) {
            let mut cursor = QueryCursor::new();
            let query = pattern.query(&self.grammar).unwrap();
            let mut matches = cursor.matches(query, tree.tree.root_node(), text.as_bytes());
            while let Some(matched) = matches.next() {
                let place = |node: Node<'_>| (node.start_byte(), node.end_byte());
                found.push(matched.captures().iter().map(|c| place(c.node)).collect());
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// The nodes around places of a tree.
struct Paths<'t> {
    root: Node<'t>,
    known: HashMap<usize, Vec<Node<'t>>>,
}

impl<'t> Paths<'t> {
    /// All nodes around a byte, the root first.
    fn to(&mut self, at: usize) -> &[Node<'t>] {
        self.known.entry(at).or_insert_with(|| {
            let mut cursor = self.root.walk();
            let mut path = vec![self.root];
            while cursor.goto_first_child_for_byte(at).is_some() && cursor.node().start_byte() <= at
            {
                path.push(cursor.node());
            }
            path
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_come_in_the_order_of_the_text_and_only_there() {
        let language = Language::by_name("python").unwrap();
        let sources = [
            ("((call function: (identifier) @f) @site (#eq? @f \"len\"))", vec![]),
            ("(while_statement) @site", vec!["len".to_string()]),
            ("(while_statement) @site", vec!["other".to_string()]),
        ];
        let patterns = Patterns::new(language, &sources).unwrap();
        let text = "while a:\n    len(b)\nlen(c)\n";
        let tree = SyntaxTree::parse(language, text).unwrap();
        let found = |within| -> Vec<(usize, usize)> {
            let all = patterns.matches(&tree, text, within);
            all.iter().map(|m| (m.origin, m.get("site").unwrap().range().start)).collect()
        };
        assert_eq!(found(0..text.len()), [(1, 0), (0, 13), (0, 20)]);
        assert_eq!(found(20..text.len()), [(0, 20)]);
        let wrong = Patterns::new(language, &[("(call) @site", vec![]), ("(nonsense)", vec![])])
            .unwrap()
            .check();
        assert_eq!(wrong.unwrap_err().0, 1);
    }
}
