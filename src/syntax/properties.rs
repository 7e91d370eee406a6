//! What must hold for every text and every edit, however hostile.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::text::Text;

/// Something valid to start from, in every language.
const SEEDS: [(&str, &str); 13] = [
    (
        "rust",
        "use a::b;\n/// Doc.\nimpl A {\n    fn f(&self) -> u8 {\n        if x { \"s\" } else { 'c' }\n    }\n}\n",
    ),
    (
        "python",
        "import a\n\nclass A:\n    def f(self):\n        \"\"\"Doc.\"\"\"\n        if x:\n            return f'{y}'\n",
    ),
    (
        "javascript",
        "import a from 'b';\nclass A {\n  f() { return `x${y}` }\n}\nconst g = () => { /* c */ };\n",
    ),
    ("typescript", "interface I { a: string }\nexport function f<T>(x: T): T {\n  return x;\n}\n"),
    ("tsx", "const A = (p: P) => {\n  return <a b={c}>text</a>;\n};\n"),
    ("go", "package p\n\nimport \"fmt\"\n\nfunc f() {\n\tfor {\n\t\tfmt.Println(`x`)\n\t}\n}\n"),
    ("c", "#include <a.h>\nint f(int x) {\n  if (x) { return \"s\"[0]; }\n  return 1; // c\n}\n"),
    (
        "cpp",
        "namespace n {\ntemplate <class T> struct S { T t; void f() { g([&] { h(); }); } };\n}\n",
    ),
    ("java", "import a.B;\nclass A {\n  void f() { try { g(); } finally { h(\"s\"); } }\n}\n"),
    ("json", "{\"a\": [1, {\"b\": null}], \"c\": \"d\"}\n"),
    ("toml", "[a]\nb = \"c\" # d\n[[e]]\nf = [1, 2]\n"),
    ("bash", "f() {\n  if [ -n \"$x\" ]; then echo \"$(y)\"; fi\n}\ncat <<E\nz\nE\n"),
    ("markdown", "# A\n\ntext\n\n- b\n- c\n\n```rust\nfn f() {}\n```\n"),
];

/// Where, how many bytes go, what comes.
type Edit = (prop::sample::Index, usize, String);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let piece = prop::sample::select(vec![
        "", "a", " ", "\n", "\r\n", "\r", "\t", "    ", "(", ")", "{", "}", "[", "]", "\"", "'",
        "`", "#", "//", "/*", "*/", ";", ":", ",", "<", ">", "${", "fn f() {", "def g():",
        "class B", "if x", "else", "𝒳", "é", "\0", "\\", "```", "- ", "<<E", "=", "->",
    ]);
    let new = prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    prop::collection::vec((any::<prop::sample::Index>(), 0..20usize, new), 1..10)
}

/// Makes the edits one by one, in text and tree.
fn make(edits: &[Edit], text: &mut Text, tree: &mut SyntaxTree) {
    for (at, len, new) in edits {
        let start = at.index(text.len() + 1);
        let edit = text.replace(start..start + len, new);
        // No time limit, so that a busy machine does not change the outcome.
        assert!(tree.update_within(Duration::MAX, &edit, text.as_str()));
    }
}

/// Every node with its bytes: two trees of one text are equal if these are.
fn dump(tree: &SyntaxTree) -> Vec<(&str, std::ops::Range<usize>)> {
    let mut nodes = Vec::new();
    let mut open = vec![tree.tree.root_node()];
    while let Some(node) = open.pop() {
        nodes.push((node.kind(), node.byte_range()));
        open.extend(node.children(&mut node.walk()));
    }
    nodes
}

proptest! {
    /// Error recovery depends on what the parser saw before, so trees of broken texts may differ; what
    /// parses without error has one tree.
    #[test]
    fn an_updated_tree_equals_a_fresh_one(seed in 0..SEEDS.len(), edits in edits()) {
        let (name, start) = SEEDS[seed];
        let language = Language::by_name(name).unwrap();
        let mut text = Text::new(start);
        let mut tree = SyntaxTree::parse(language, start).unwrap();
        for edit in &edits {
            make(std::slice::from_ref(edit), &mut text, &mut tree);
            let fresh = SyntaxTree::parse(language, text.as_str()).unwrap();
            if !fresh.tree.root_node().has_error() {
                prop_assert_eq!(dump(&tree), dump(&fresh), "{}", text.as_str());
            }
        }
        // And back to the valid text in one more edit, through whatever mess there is now.
        let whole = text.replace(0..text.len(), start);
        prop_assert!(tree.update_within(Duration::MAX, &whole, start));
        let fresh = SyntaxTree::parse(language, start).unwrap();
        prop_assert_eq!(dump(&tree), dump(&fresh));
    }

    /// Some edits reach the parser late, as after a parse that ran out of time.
    #[test]
    fn no_place_in_no_text_panics(
        seed in 0..SEEDS.len(),
        edits in edits(),
        late in prop::collection::vec(("\\PC*", any::<prop::sample::Index>()), 0..2),
    ) {
        let (name, start) = SEEDS[seed];
        let language = Language::by_name(name).unwrap();
        let mut text = Text::new(start);
        let mut tree = SyntaxTree::parse(language, start).unwrap();
        make(&edits, &mut text, &mut tree);
        for (new, at) in late {
            let start = at.index(text.len() + 1);
            let edit = text.replace(start..start + new.len() % 7, &new);
            tree.edit(&edit);
        }
        check_every_offset(&tree, text.as_str())?;
        let edit = text.replace(0..0, " ");
        prop_assert!(tree.update_within(Duration::MAX, &edit, text.as_str()));
        check_every_offset(&tree, text.as_str())?;
    }
}

fn check_every_offset(tree: &SyntaxTree, content: &str) -> Result<(), TestCaseError> {
    for scope in tree.outline(content) {
        prop_assert!(content.get(scope.range).is_some());
        prop_assert!(content.get(scope.header).is_some());
    }
    for import in tree.imports(content) {
        prop_assert!(content.get(import).is_some());
    }
    for offset in 0..content.len() + 3 {
        for scope in tree.scopes(content, offset) {
            prop_assert!(scope.range.start <= offset);
            prop_assert!(scope.header.end <= scope.range.end.max(offset));
            prop_assert!(content.get(scope.header).is_some());
        }
        tree.place(offset);
        tree.error_count(offset..offset + 2);
        if let Some(end) = tree.node_end_after(offset) {
            prop_assert!(end > offset && end <= content.len());
        }
    }
    Ok(())
}
