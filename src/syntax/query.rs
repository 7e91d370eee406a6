//! Tree-sitter queries: compiled once per language, and what their captures mean.
//! `@function @class @module @block @other` mark a scope, `@name` and `@body` its parts; `@import` an import.

use std::ops::Range;

use tree_sitter::{Node, Query, QueryCursor, QueryMatch, StreamingIterator};

use super::{Language, ScopeKind};

/// Enough for any real file; a bound on the work that a hostile one can cause.
const MATCH_LIMIT: u32 = 4096;

/// The compiled queries of one language.
#[derive(Debug)]
pub(super) struct Queries {
    scopes: Query,
    imports: Query,
}

/// One match of a scope query.
pub(super) struct ScopeMatch<'tree> {
    pub(super) node: Node<'tree>,
    pub(super) kind: ScopeKind,
    pub(super) name: Option<Node<'tree>>,
    pub(super) body: Option<Node<'tree>>,
    /// Which pattern of the file it was, from 0.
    pub(super) pattern: usize,
}

impl Queries {
    /// The queries of `language`; the first call compiles them, which takes milliseconds.
    ///
    /// Panics if a query file of ours does not fit its grammar: a mistake in the build, not in any
    /// input, and a test compiles all of them.
    pub(super) fn of(language: &'static Language) -> &'static Queries {
        language.queries.get_or_init(|| {
            let compile = |file: &str, source: &str| {
                Query::new(&(language.grammar)(), source)
                    .unwrap_or_else(|error| panic!("queries/{}/{file}: {error}", language.name))
            };
            Queries {
                scopes: compile("scopes.scm", language.sources.scopes),
                imports: compile("imports.scm", language.sources.imports),
            }
        })
    }

    /// What those of `nodes` are that are scopes.
    pub(super) fn scopes_among<'tree>(
        &self,
        nodes: &[Node<'tree>],
        text: &str,
    ) -> Vec<ScopeMatch<'tree>> {
        let mut found = Vec::new();
        let mut cursor = cursor(0);
        for node in nodes {
            for_each_match(&mut cursor, &self.scopes, *node, text, |matched| {
                found.extend(scope_of(&self.scopes, matched));
            });
        }
        found
    }

    /// The scopes at most `depth` levels below `root`, and `root` itself if it is one.
    pub(super) fn scopes_below<'tree>(
        &self,
        root: Node<'tree>,
        text: &str,
        depth: u32,
    ) -> Vec<ScopeMatch<'tree>> {
        let mut found = Vec::new();
        for_each_match(&mut cursor(depth), &self.scopes, root, text, |matched| {
            found.extend(scope_of(&self.scopes, matched));
        });
        found
    }

    /// The import nodes at most `depth` levels below `root` that touch `bytes`.
    pub(super) fn imports<'tree>(
        &self,
        root: Node<'tree>,
        text: &str,
        bytes: Range<usize>,
        depth: u32,
    ) -> Vec<Node<'tree>> {
        let names = self.imports.capture_names();
        let mut found = Vec::new();
        let mut cursor = cursor(depth);
        cursor.set_byte_range(bytes);
        for_each_match(&mut cursor, &self.imports, root, text, |matched| {
            let captures = matched.captures().iter();
            let imports = captures.filter(|capture| names[capture.index as usize] == "import");
            found.extend(imports.map(|capture| capture.node));
        });
        found
    }
}

fn cursor(depth: u32) -> QueryCursor {
    let mut cursor = QueryCursor::new();
    cursor.set_match_limit(MATCH_LIMIT);
    cursor.set_max_start_depth(Some(depth));
    cursor
}

fn for_each_match<'tree>(
    cursor: &mut QueryCursor,
    query: &Query,
    root: Node<'tree>,
    text: &str,
    mut visit: impl FnMut(&QueryMatch<'_, 'tree>),
) {
    let mut matches = cursor.matches(query, root, text.as_bytes());
    while let Some(matched) = matches.next() {
        visit(matched);
    }
}

fn scope_of<'tree>(query: &Query, matched: &QueryMatch<'_, 'tree>) -> Option<ScopeMatch<'tree>> {
    let (mut scope, mut name, mut body) = (None, None, None);
    for capture in matched.captures() {
        let kind = match query.capture_names()[capture.index as usize] {
            "name" => {
                name = Some(capture.node);
                continue;
            }
            "body" => {
                body = Some(capture.node);
                continue;
            }
            "function" => ScopeKind::Function,
            "class" => ScopeKind::Class,
            "module" => ScopeKind::Module,
            "block" => ScopeKind::Block,
            _ => ScopeKind::Other,
        };
        scope = Some((capture.node, kind));
    }
    let pattern = matched.pattern_index;
    scope.map(|(node, kind)| ScopeMatch { node, kind, name, body, pattern })
}
