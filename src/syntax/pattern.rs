//! Patterns over syntax trees for rules that are data, and a view of nodes for what such rules ask about them.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use tree_sitter::{Node, Query, QueryCursor, StreamingIterator};

use super::{Language, SyntaxTree};

/// Kinds of whole files, as patterns name them.
const FILES: [&str; 4] = ["(source_file", "(program", "(module", "(translation_unit"];
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

/// Patterns of one language, sought together. A pattern is sought only where all the words are that it asks for: most items of
/// most files lack some of them.
#[derive(Debug)]
pub struct Patterns {
    /// Patterns that match within one item of a file, in one query.
    local: Query,
    locals: Vec<Pattern>,
    /// Those that go over several items.
    wide: Vec<(Query, Pattern)>,
    /// Finds all words of all patterns at once.
    words: AhoCorasick,
}

#[derive(Debug)]
struct Pattern {
    /// Which of the given sources it came from.
    origin: usize,
    /// Numbers of words: of each group a text must have one.
    needs: Vec<Vec<usize>>,
}

impl Pattern {
    fn may_match(&self, has: impl Fn(usize) -> bool) -> bool {
        self.needs.iter().all(|group| group.iter().any(|&word| has(word)))
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
    /// Compiles queries; each may hold several patterns.
    ///
    /// # Errors
    /// One that does not fit the grammar: its number, and what is wrong.
    pub fn new(language: &'static Language, sources: &[&str]) -> Result<Patterns, (usize, String)> {
        let grammar = (language.grammar)();
        let (mut words, mut locals, mut wide): (Vec<String>, Vec<Pattern>, Vec<_>) =
            Default::default();
        let mut local = String::new();
        for (origin, source) in sources.iter().enumerate() {
            for own in split(source) {
                let mut number = |word: String| {
                    words.iter().position(|known| *known == word).unwrap_or_else(|| {
                        words.push(word);
                        words.len() - 1
                    })
                };
                let needs = needed_words(own)
                    .into_iter()
                    .map(|group| group.into_iter().map(&mut number).collect());
                let pattern = Pattern { origin, needs: needs.collect() };
                if is_wide(own) {
                    wide.push((
                        Query::new(&grammar, own).map_err(|e| (origin, e.to_string()))?,
                        pattern,
                    ));
                } else {
                    local.push_str(own);
                    local.push('\n');
                    locals.push(pattern);
                }
            }
        }
        let local = Query::new(&grammar, &local).map_err(|error| {
            // Which it was is asked only when something is wrong.
            let wrong = sources.iter().position(|source| Query::new(&grammar, source).is_err());
            (wrong.unwrap_or(0), error.to_string())
        })?;
        let words = AhoCorasick::new(&words).map_err(|e| (0, e.to_string()))?;
        Ok(Patterns { local, locals, wide, words })
    }

    /// Whether any of them may be found in a text. Says no of most texts, without parsing them.
    pub fn may_match(&self, text: &str) -> bool {
        let mut has = vec![false; self.words.patterns_len()];
        for word in self.words.find_overlapping_iter(text) {
            has[word.pattern().as_usize()] = true;
        }
        let mut all = self.locals.iter().chain(self.wide.iter().map(|(_, pattern)| pattern));
        all.any(|pattern| pattern.may_match(|word| has[word]))
    }

    /// Where they are found, in the order of the text, in what touches `within`.
    pub fn matches<'t>(
        &'t self,
        tree: &'t SyntaxTree,
        text: &str,
        within: Range<usize>,
    ) -> Vec<Match<'t>> {
        let root = tree.tree.root_node();
        // Where each word begins, in the order of the text.
        let mut places = vec![Vec::new(); self.words.patterns_len()];
        for word in self.words.find_overlapping_iter(text) {
            places[word.pattern().as_usize()].push(word.start());
        }
        let mut found = Vec::new();
        let mut seek = |query: &'t Query, range: Range<usize>, origin: &dyn Fn(usize) -> usize| {
            let names = query.capture_names();
            let mut cursor = QueryCursor::new();
            cursor.set_match_limit(MATCH_LIMIT);
            cursor.set_byte_range(range);
            let mut matches = cursor.matches(query, root, text.as_bytes());
            while let Some(matched) = matches.next() {
                let captures = matched.captures().iter();
                let captures = captures.map(|c| (names[c.index as usize].into(), Piece(c.node)));
                found.push(Match {
                    origin: origin(matched.pattern_index),
                    captures: captures.collect(),
                });
            }
        };
        // Items that have all words of some pattern, neighbours together.
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut goes_on = false;
        for item in root.children(&mut root.walk()) {
            let range = item.byte_range();
            let has = |word: usize| {
                let places: &Vec<usize> = &places[word];
                let first = places.partition_point(|at| *at < range.start);
                places.get(first).is_some_and(|at| *at < range.end)
            };
            let touches = range.end >= within.start && range.start <= within.end;
            if !touches || !self.locals.iter().any(|pattern| pattern.may_match(has)) {
                goes_on = false;
                continue;
            }
            match ranges.last_mut().filter(|_| goes_on) {
                Some(last) => last.end = range.end,
                None => ranges.push(range),
            }
            goes_on = true;
        }
        for range in ranges {
            let range =
                range.start.max(within.start)..range.end.min(within.end.max(range.start + 1));
            seek(&self.local, range, &|index| self.locals[index].origin);
        }
        for (query, pattern) in &self.wide {
            if pattern.may_match(|word| !places[word].is_empty()) {
                seek(query, within.clone(), &|_| pattern.origin);
            }
        }
        found
            .sort_by_key(|found| found.captures.iter().map(|(_, piece)| piece.range().start).min());
        found
    }
}

/// The brackets and strings of a query, comments left out.
struct Outline {
    groups: Vec<Range<usize>>,
    strings: Vec<Range<usize>>,
}

impl Outline {
    fn of(query: &str) -> Outline {
        let bytes = query.as_bytes();
        let (mut open, mut groups, mut strings) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    let start = at;
                    at += 1;
                    while at < bytes.len() && bytes[at] != b'"' {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                    strings.push(start..at.min(bytes.len()));
                }
                b';' => at += query[at..].find('\n').unwrap_or(bytes.len() - at),
                b'(' | b'[' => open.push(at),
                b')' | b']' => groups.extend(open.pop().map(|start| start..at)),
                _ => {}
            }
            at += 1;
        }
        groups.sort_by_key(|group| group.start);
        Outline { groups, strings }
    }

    /// The groups directly in another one, or at the top.
    fn within(&self, outer: Option<&Range<usize>>) -> Vec<&Range<usize>> {
        let mut end = outer.map_or(0, |outer| outer.start + 1);
        let inside = |group: &&Range<usize>| {
            outer.is_none_or(|o| o.start < group.start && group.end < o.end)
        };
        let mut found = Vec::new();
        for group in self.groups.iter().filter(inside) {
            if group.start >= end {
                found.push(group);
                end = group.end;
            }
        }
        found
    }
}

/// The patterns of a query, each with what stands behind it.
fn split(source: &str) -> Vec<&str> {
    let outline = Outline::of(source);
    let starts: Vec<usize> = outline.within(None).iter().map(|group| group.start).collect();
    let ends = starts.iter().skip(1).copied().chain([source.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &source[start..end]).collect()
}

/// Whether a pattern may go over several items of a file.
fn is_wide(pattern: &str) -> bool {
    let outline = Outline::of(pattern);
    let top = outline.within(None);
    let roots = top
        .first()
        .filter(|_| pattern.starts_with("((") || pattern.starts_with("(["))
        .map_or(1, |outer| {
            outline
                .within(Some(outer))
                .iter()
                .filter(|group| !pattern[group.start..].starts_with("(#"))
                .count()
        });
    roots > 1 || FILES.iter().any(|kind| pattern.contains(kind))
}

/// Words that a text must have for a pattern to match, one of each group: those that captures are compared with which every
/// match has, as they stand in no alternative and in nothing optional.
fn needed_words(pattern: &str) -> Vec<Vec<String>> {
    let Outline { groups, strings } = Outline::of(pattern);
    let bytes = pattern.as_bytes();
    let in_string = |at: usize| strings.iter().any(|s| s.start <= at && at < s.end);
    let is_certain = |at: usize| {
        groups.iter().filter(|group| group.contains(&at)).all(|group| {
            let next = bytes.get(group.end + 1);
            bytes[group.start] == b'(' && !matches!(next, Some(b'?' | b'*'))
        })
    };
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || "_-.".contains(c));
    let mut words = Vec::new();
    for group in groups.iter().filter(|group| {
        ["(#eq? @", "(#any-of? @"].iter().any(|start| pattern[group.start..].starts_with(start))
    }) {
        let said = &pattern[group.start..group.end];
        let capture = &said[said.find('@').unwrap_or(0)..];
        let capture = &capture[..capture.find(char::is_whitespace).unwrap_or(capture.len())];
        let values: Vec<String> = strings
            .iter()
            .filter(|s| group.start < s.start && s.end <= group.end)
            .map(|s| pattern[s.start + 1..s.end].to_string())
            .collect();
        // The capture itself, not what is said of it.
        let mut made = pattern.match_indices(capture).filter(|(at, _)| {
            let said =
                groups.iter().any(|g| g.contains(at) && pattern[g.start..].starts_with("(#"));
            !in_string(*at) && !said && is_end(&pattern[at + capture.len()..])
        });
        // A quantifier of its own comes just before its name.
        let optional = |at: usize| pattern[..at].trim_end().ends_with(['?', '*']);
        if !values.is_empty()
            && values.iter().all(|value| !value.is_empty() && !value.contains('\\'))
            && made.next().is_some_and(|(at, _)| is_certain(at) && !optional(at))
            && made.next().is_none()
        {
            words.push(values);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_needed_only_where_every_match_has_them() {
        let words = |pattern| {
            needed_words(pattern).iter().map(|group| group.join("|")).collect::<Vec<_>>().join(" ")
        };
        let call = "((call function: (identifier) @f arguments: (arguments) @a) @site (#eq? @f \"len\") (#eq? @a \"()\"))";
        assert_eq!(words(call), "len ()");
        assert_eq!(words("([(a) @x (b) @y] (#eq? @x \"one\") (#eq? @y \"two\"))"), "");
        assert_eq!(words("((a (b)? @x (c) @y) (#eq? @x \"one\") (#eq? @y \"[\"))"), "[");
        assert_eq!(words("((a ((b) @x)* ) (#eq? @x \"one\"))"), "");
        assert_eq!(words("((a) @x (b) @xy (#eq? @x @xy) (#eq? @xy \"one\"))"), "one");
        assert_eq!(words("((a) @x (#any-of? @x \"one\" \"two\"))"), "one|two");
        assert_eq!(words("; (#eq? @x \"no\")\n((a) @x (#not-eq? @x \"no\"))"), "");
    }

    #[test]
    fn queries_fall_apart_into_patterns_and_those_of_several_items_are_known() {
        let query =
            "; one\n((a) @x (#eq? @x \"(\"))\n(b [(c) (d)]) @y\n((e) . (f))\n(program (g))\n";
        let found: Vec<(&str, bool)> =
            split(query).iter().map(|p| (p.trim(), is_wide(p))).collect();
        assert_eq!(
            found,
            [
                ("((a) @x (#eq? @x \"(\"))", false),
                ("(b [(c) (d)]) @y", false),
                ("((e) . (f))", true),
                ("(program (g))", true)
            ]
        );
    }

    #[test]
    fn matches_come_in_the_order_of_the_text_and_only_there() {
        let language = Language::by_name("python").unwrap();
        let sources = [
            "((call function: (identifier) @f) @site (#eq? @f \"len\"))",
            "(while_statement) @site",
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
        assert!(Patterns::new(language, &["(nonsense)"]).is_err());
    }
}
