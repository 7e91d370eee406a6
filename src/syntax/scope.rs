//! What encloses a place, what a file defines and what it imports.

use std::ops::Range;

use rustc_hash::FxHashSet;
use tree_sitter::Node;

use super::lines;
use super::query::{Queries, ScopeMatch};
use super::{BlockStyle, SyntaxTree};
use crate::text::floor_boundary;

/// How deep things are looked for below the file, or below a type that was found: past the wrappers
/// (`export`, `#ifdef`, `try`, templates) that real files have, short of what functions contain.
const DEPTH: u32 = 4;
/// Where wrapped imports are looked for; further down in a long file only bare ones are.
const HEAD_BYTES: usize = 1 << 15;

/// A definition or block of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// All of it, in bytes.
    pub range: Range<usize>,
    /// From its start up to its body, without the space between; the first line if it has no body.
    pub header: Range<usize>,
    /// What it is called, as written; nothing for blocks.
    pub name: Option<String>,
    /// What it is.
    pub kind: ScopeKind,
}

/// What a [`Scope`] is, in words that fit every language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeKind {
    /// A function or method.
    Function,
    /// What has members: class, struct, enum, trait, interface, implementation.
    Class,
    /// What holds definitions: module, namespace; the tables and sections of data and prose.
    Module,
    /// A nested block with its header: `if`, `for`, `match`, a closure.
    Block,
    /// Constants, type names, macros, entries; and lines that enclose by indentation where the parser
    /// had to give up.
    Other,
}

impl SyntaxTree {
    /// What encloses `offset`, outermost first.
    ///
    /// Works in code that is being written: a block whose closer is missing reaches to the cursor, one
    /// that ends by indentation takes in the empty line below it if the cursor is indented deeper than
    /// its header, and where the parser found only an error, lines enclose by their indentation.
    pub fn scopes(&self, text: &str, offset: usize) -> Vec<Scope> {
        let offset = floor_boundary(text, offset);
        let written = text[..offset].trim_end().len();
        let path = self.path_to(written.saturating_sub(1)..written);
        let nodes = path.get(1..).unwrap_or_default();
        let mut found = Queries::of(self.language).scopes_among(nodes, text);
        found.retain(|scope| self.encloses(scope.node, text, offset));

        let mut scopes = outermost_first(found, text);
        if path.iter().any(|node| node.is_error()) {
            let marks = self.language.line_comment;
            for line in lines::enclosing_by_indentation(text, offset, marks) {
                if !scopes.iter().any(|scope| touches(&scope.header, &line)) {
                    let range = line.start..offset;
                    scopes.push(Scope { range, header: line, name: None, kind: ScopeKind::Other });
                }
            }
            scopes.sort_by_key(|scope| scope.range.start);
        }
        scopes
    }

    /// The import, use and include lines in order, each without the line break.
    pub fn imports(&self, text: &str) -> Vec<Range<usize>> {
        let root = self.tree.root_node();
        let queries = Queries::of(self.language);
        let mut nodes = queries.imports(root, text, 0..HEAD_BYTES, DEPTH);
        if text.len() > HEAD_BYTES {
            nodes.extend(queries.imports(root, text, HEAD_BYTES..text.len(), 1));
        }
        let mut imports: Vec<Range<usize>> =
            nodes.iter().map(|node| trimmed(*node, text)).collect();
        imports.sort_by_key(|range| (range.start, usize::MAX - range.end));
        imports.dedup_by(|inner, outer| inner.end <= outer.end);
        imports
    }

    /// The definitions of the file and the members of its types, in order; nothing from inside of
    /// functions.
    pub fn outline(&self, text: &str) -> Vec<Scope> {
        let queries = Queries::of(self.language);
        let mut found = Vec::new();
        let mut visited = FxHashSet::default();
        let mut open = vec![self.tree.root_node()];
        while let Some(node) = open.pop() {
            if !visited.insert(node.id()) {
                continue;
            }
            for scope in queries.scopes_below(node, text, DEPTH) {
                if matches!(scope.kind, ScopeKind::Class | ScopeKind::Module) {
                    open.push(scope.body.unwrap_or(scope.node));
                }
                found.push(scope);
            }
        }
        let mut inside_function_until = 0;
        let mut outline = outermost_first(found, text);
        outline.retain(|scope| {
            if scope.range.start < inside_function_until || scope.kind == ScopeKind::Block {
                return false;
            }
            if scope.kind == ScopeKind::Function {
                inside_function_until = scope.range.end;
            }
            true
        });
        outline
    }

    fn encloses(&self, node: Node, text: &str, offset: usize) -> bool {
        let (start, end) = (node.start_byte(), node.end_byte());
        if offset <= start || offset < end {
            return start < offset && offset < end;
        }
        // Only space lies between the end of the node and the cursor.
        match self.language.block {
            BlockStyle::Braces => ends_with_missing(node),
            BlockStyle::Indentation => {
                let between = text.get(end..offset).unwrap_or_default();
                let same_line = !between.contains(['\n', '\r']);
                let header = lines::indent_at(text, start);
                same_line || lines::indent_at(text, offset) > header
            }
            BlockStyle::None => true,
        }
    }
}

/// Turns matches into scopes. Of several matches for one node the earliest pattern of the file stays,
/// of several nodes with one body the outermost.
fn outermost_first(mut found: Vec<ScopeMatch>, text: &str) -> Vec<Scope> {
    found.sort_by_key(|scope| {
        let parts = usize::from(scope.name.is_some()) + usize::from(scope.body.is_some());
        let (start, end) = (scope.node.start_byte(), scope.node.end_byte());
        (start, usize::MAX - end, scope.pattern, 2 - parts)
    });
    let mut seen_nodes = Vec::new();
    let mut seen_bodies = Vec::new();
    found.retain(|scope| {
        let body = scope.body.map(|body| body.id());
        let known = seen_nodes.last() == Some(&scope.node.byte_range())
            || body.is_some_and(|body| seen_bodies.contains(&body));
        seen_nodes.push(scope.node.byte_range());
        // Nested scopes follow each other closely, so a short memory is enough.
        if seen_bodies.len() > 8 {
            seen_bodies.remove(0);
        }
        seen_bodies.extend(body);
        !known
    });
    found.iter().map(|scope| to_scope(scope, text)).collect()
}

fn to_scope(scope: &ScopeMatch, text: &str) -> Scope {
    let range = trimmed(scope.node, text);
    let whole = &text[range.clone()];
    let header_len = match scope.body {
        Some(body) if body.start_byte() > range.start => {
            body.start_byte().min(range.end) - range.start
        }
        _ => whole.find(['\n', '\r']).unwrap_or(whole.len()),
    };
    let header = range.start..range.start + whole[..header_len].trim_end().len();
    let name = scope.name.and_then(|name| text.get(name.byte_range()));
    Scope { range, header, name: name.map(|name| name.trim().to_string()), kind: scope.kind }
}

/// The bytes of a node without the space around them; some grammars count the line break in.
fn trimmed(node: Node, text: &str) -> Range<usize> {
    let start = node.start_byte().min(text.len());
    let end = node.end_byte().min(text.len());
    let Some(whole) = text.get(start..end) else {
        return start..start;
    };
    start..start + whole.trim_end().len()
}

fn ends_with_missing(node: Node) -> bool {
    let mut last = node;
    while let Some(child) = last.child_count().checked_sub(1).and_then(|at| last.child(at)) {
        last = child;
    }
    last.is_missing()
}

fn touches(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start <= b.end && b.start <= a.end
}
