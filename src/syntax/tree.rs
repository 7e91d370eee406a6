//! Parse trees: made within limits, kept up to date edit by edit, asked about errors and ends.

use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tree_sitter::{InputEdit, Node, ParseOptions, Parser, Point, Tree};

use super::Language;
use crate::text::AppliedEdit;

/// A first parse may take its time: it happens once, when a file is opened.
const PARSE_LIMIT: Duration = Duration::from_millis(500);
/// Limits of parses that do not look at the clock: checks by the parser, one in about a hundred of its
/// operations. Some seconds, and 5 to 40 ms: many trials stand between two keystrokes.
const PARSE_CHECKS: u32 = 100_000;
const TRIAL_CHECKS: u32 = 400;

/// The parse tree of one version of a text. A clone is cheap and never changes afterwards.
///
/// The methods that take `text` want the one that the tree was made from; with another one the
/// answers are wrong, but nothing panics. Offsets are bytes, those past the end are harmless.
#[derive(Clone, Debug)]
pub struct SyntaxTree {
    pub(super) language: &'static Language,
    pub(super) tree: Tree,
    /// False between an edit and the parse that takes it in.
    current: bool,
}

impl SyntaxTree {
    /// Larger texts get no tree: error recovery in them can outlast any patience.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Parses a whole text; nothing if it is larger than [`SyntaxTree::MAX_BYTES`] or takes longer than
    /// half a second.
    pub fn parse(language: &'static Language, text: &str) -> Option<SyntaxTree> {
        let tree = parse_while(&mut within(PARSE_LIMIT), language, text, None)?;
        Some(SyntaxTree { language, tree, current: true })
    }

    /// The tree of another text in the same language.
    pub fn language_tree(&self, text: &str) -> Option<SyntaxTree> {
        SyntaxTree::parse(self.language, text)
    }

    /// Parses like [`SyntaxTree::parse`], but the limit is one of work, not of time: the answer depends on
    /// the text alone, however busy the machine.
    pub fn parse_steadily(language: &'static Language, text: &str) -> Option<SyntaxTree> {
        let tree = parse_while(&mut at_most(PARSE_CHECKS), language, text, None)?;
        Some(SyntaxTree { language, tree, current: true })
    }

    /// Follows an edit that led to `text`, reusing all that it left alone; `false` if that is more work than a trial is
    /// worth. For trying something out; see [`SyntaxTree::catch_up`] for keeping a tree.
    pub fn update(&mut self, edit: &AppliedEdit, text: &str) -> bool {
        self.edit(edit);
        self.catch_up_while(&mut at_most(TRIAL_CHECKS), text)
    }

    /// Parses what changed since the tree was current.
    ///
    /// `false` if the text has grown too large or half a second was not enough, as can happen while a
    /// bracket or quote is open. What the tree says of places away from the edits stays right, and a later call
    /// catches up. See [`SyntaxTree::is_current`].
    pub fn catch_up(&mut self, text: &str) -> bool {
        self.catch_up_while(&mut within(PARSE_LIMIT), text)
    }

    fn catch_up_while(&mut self, go_on: &mut dyn FnMut() -> bool, text: &str) -> bool {
        if !self.current
            && let Some(tree) = parse_while(go_on, self.language, text, Some(&self.tree))
        {
            self.tree = tree;
            self.current = true;
        }
        self.current
    }

    #[cfg(test)]
    pub(super) fn update_within(
        &mut self,
        limit: Duration,
        edit: &AppliedEdit,
        text: &str,
    ) -> bool {
        self.edit(edit);
        self.catch_up_while(&mut within(limit), text)
    }

    /// Moves the nodes as the edit moved the text, without parsing.
    pub fn edit(&mut self, edit: &AppliedEdit) {
        let point = |(row, column)| Point { row, column };
        self.tree.edit(&InputEdit {
            start_byte: edit.start,
            old_end_byte: edit.old_end,
            new_end_byte: edit.new_end,
            start_position: point(edit.start_point),
            old_end_position: point(edit.old_end_point),
            new_end_position: point(edit.new_end_point),
        });
        self.current = false;
    }

    /// Whether the tree is that of the newest text. If not, errors and ends are those of an older one.
    pub fn is_current(&self) -> bool {
        self.current
    }

    /// The language that the text was parsed as.
    pub fn language(&self) -> &'static Language {
        self.language
    }

    /// How many errors and missing pieces touch `range`.
    pub fn error_count(&self, range: Range<usize>) -> usize {
        let mut count = 0;
        let mut open = vec![self.tree.root_node()];
        while let Some(node) = open.pop() {
            let apart = node.end_byte() < range.start || node.start_byte() > range.end;
            if apart || !node.has_error() {
                continue;
            }
            count += usize::from(node.is_error() || node.is_missing());
            open.extend(node.children(&mut node.walk()));
        }
        count
    }

    /// The end of the smallest statement, item or block that starts at or before `offset`, goes on
    /// after it and parsed without error. Nothing at the top level between items, and nothing from a
    /// tree that is not current.
    pub fn node_end_after(&self, offset: usize) -> Option<usize> {
        if !self.current {
            return None;
        }
        let path = self.path_to(offset..offset.saturating_add(1));
        let pair = path.windows(2).rev().find(|pair| {
            let (parent, node) = (pair[0], pair[1]);
            let inside = node.start_byte() <= offset && offset < node.end_byte();
            inside && self.is_statement(node, parent)
        })?;
        (!pair[1].has_error()).then(|| pair[1].end_byte())
    }

    /// The places of all named nodes without errors whose length in bytes lies in `lengths`.
    pub fn nodes(&self, lengths: Range<usize>) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut open = vec![self.tree.root_node()];
        while let Some(node) = open.pop() {
            let range = node.byte_range();
            if range.len() < lengths.start {
                continue;
            }
            if node.is_named() && !node.has_error() && lengths.contains(&range.len()) {
                found.push(range);
            }
            open.extend(node.children(&mut node.walk()));
        }
        found
    }

    /// The nodes that span `bytes`, from the root to the smallest.
    pub(super) fn path_to(&self, bytes: Range<usize>) -> Vec<Node<'_>> {
        let root = self.tree.root_node();
        let mut path = vec![root];
        let end = bytes.end.min(root.end_byte());
        let Some(leaf) = root.descendant_for_byte_range(bytes.start.min(end), end) else {
            return path;
        };
        let mut node = root;
        while node != leaf {
            let Some(child) = node.child_with_descendant(leaf) else { break };
            path.push(child);
            node = child;
        }
        path
    }

    fn is_statement(&self, node: Node, parent: Node) -> bool {
        let containers = self.language.containers;
        let entry = node.is_named() && !node.is_extra() && containers.contains(&parent.kind());
        entry || containers.contains(&node.kind())
    }
}

thread_local! {
    /// One parser per language and thread: making one is slow, sharing one is not allowed.
    static PARSERS: RefCell<FxHashMap<&'static str, Parser>> = RefCell::default();
}

fn within(limit: Duration) -> impl FnMut() -> bool {
    let started = Instant::now();
    move || started.elapsed() <= limit
}

fn at_most(checks: u32) -> impl FnMut() -> bool {
    let mut done = 0;
    move || {
        done += 1;
        done <= checks
    }
}

/// Parses as long as `go_on` says so.
fn parse_while(
    go_on: &mut dyn FnMut() -> bool,
    language: &'static Language,
    text: &str,
    old: Option<&Tree>,
) -> Option<Tree> {
    if text.len() > SyntaxTree::MAX_BYTES {
        return None;
    }
    PARSERS.with_borrow_mut(|parsers| {
        let parser = parsers.entry(language.name).or_insert_with(|| {
            let mut parser = Parser::new();
            // A grammar that does not fit fails every parse below; a test parses every language.
            let _ = parser.set_language(&(language.grammar)());
            parser
        });
        let mut progress = |_: &_| match go_on() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let mut read = |byte: usize, _| text.as_bytes().get(byte..).unwrap_or_default();
        let options = ParseOptions::new().progress_callback(&mut progress);
        let tree = parser.parse_with_options(&mut read, old, Some(options));
        if tree.is_none() {
            parser.reset();
        }
        tree
    })
}
