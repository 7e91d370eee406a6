//! The language table, parse trees, scopes and outlines. The only user of tree-sitter.
