//! One text per question. `$0` marks the cursor.

use std::time::Duration;

use super::*;
use crate::text::Text;

#[track_caller]
fn parse(language: &str, marked: &str) -> (SyntaxTree, String, usize) {
    let offset = marked.find("$0").unwrap_or(marked.len());
    let text = marked.replacen("$0", "", 1);
    let language = Language::by_name(language).expect("a language of the table");
    let tree = SyntaxTree::parse(language, &text).expect("a small text parses");
    (tree, text, offset)
}

/// Checks the headers of all that encloses the cursor.
#[track_caller]
fn check_scopes(language: &str, marked: &str, expected: &[&str]) {
    let (tree, text, offset) = parse(language, marked);
    let scopes = tree.scopes(&text, offset);
    let headers: Vec<&str> = scopes.iter().map(|scope| &text[scope.header.clone()]).collect();
    assert_eq!(headers, expected, "{}", tree.tree.root_node().to_sexp());
}

/// Checks kind and name of every definition, in order.
#[track_caller]
fn check_outline(language: &str, text: &str, expected: &str) {
    let (tree, text, _) = parse(language, text);
    let entry =
        |scope: &Scope| format!("{:?} {}", scope.kind, scope.name.as_deref().unwrap_or("-"));
    let outline: Vec<String> = tree.outline(&text).iter().map(entry).collect();
    assert_eq!(outline.join(", "), expected, "{}", tree.tree.root_node().to_sexp());
}

#[track_caller]
fn check_imports(language: &str, text: &str, expected: &[&str]) {
    let (tree, text, _) = parse(language, text);
    let imports: Vec<&str> = tree.imports(&text).into_iter().map(|import| &text[import]).collect();
    assert_eq!(imports, expected);
}

#[track_caller]
fn check_place(language: &str, marked: &str, expected: Place) {
    let (tree, _, offset) = parse(language, marked);
    let tree_text = tree.tree.root_node().to_sexp();
    assert_eq!(tree.place(offset), expected, "{marked:?} {tree_text}");
}

/// Checks where the statement at the cursor ends: at `$1`, or nowhere if there is none.
#[track_caller]
fn check_end(language: &str, marked: &str) {
    let expected = marked.replacen("$0", "", 1).find("$1");
    let (tree, _, offset) = parse(language, &marked.replacen("$1", "", 1));
    let tree_text = tree.tree.root_node().to_sexp();
    assert_eq!(tree.node_end_after(offset), expected, "{marked:?} {tree_text}");
}

#[test]
fn every_query_fits_its_grammar_and_every_language_parses() {
    for language in Language::all() {
        query::Queries::of(language);
        let tree = SyntaxTree::parse(language, "").expect("an empty text parses");
        assert_eq!(tree.scopes("", 0), []);
        assert_eq!(tree.outline(""), []);
        assert_eq!(tree.place(0), Place::Code);
    }
}

#[test]
fn scopes_enclose_the_cursor_from_outside_in() {
    check_scopes(
        "rust",
        "mod m {\n    impl<T> Foo<T>\n    where\n        T: Copy,\n    {\n        fn f(&self) -> u8 {\n            if x { $0 }\n        }\n    }\n}\n",
        &["mod m", "impl<T> Foo<T>\n    where\n        T: Copy,", "fn f(&self) -> u8", "if x"],
    );
    check_scopes(
        "javascript",
        "class A {\n  m(x) {\n    for (const y of x) { $0 }\n  }\n}\n",
        &["class A", "m(x)", "for (const y of x)"],
    );
    check_scopes(
        "typescript",
        "export const f = async (x: number) => {\n  $0\n};\n",
        &["const f = async (x: number) =>"],
    );
    check_scopes(
        "tsx",
        "function App(): JSX.Element {\n  return <p onClick={() => { $0 }}/>;\n}\n",
        &["function App(): JSX.Element", "() =>"],
    );
    check_scopes(
        "go",
        "func (s *S) F(x int) error {\n\tswitch x {\n\tcase 1:\n\t\tf()$0\n\t}\n}\n",
        &["func (s *S) F(x int) error", "switch x {", "case 1:"],
    );
    check_scopes(
        "c",
        "static char *f(int x)\n{\n    while (x) { $0 }\n}\n",
        &["static char *f(int x)", "while (x)"],
    );
    check_scopes(
        "cpp",
        "namespace n {\ntemplate <class T> class A : B {\n  void f() { auto g = [&] { $0 }; }\n};\n}\n",
        &["namespace n", "class A : B", "void f()", "[&]"],
    );
    check_scopes(
        "java",
        "class A {\n  @Override public void f() throws E {\n    try { $0 } finally {}\n  }\n}\n",
        &["class A", "@Override public void f() throws E", "try"],
    );
    check_scopes("json", "{\"a\": {\"b\": [$0]}}", &["\"a\":", "\"b\":"]);
    check_scopes("toml", "[a]\nx = 1\n[b]\ny = [\n$0]\n", &["[b]", "y ="]);
    check_scopes("bash", "f() {\n  for x in *; do\n    $0\n  done\n}\n", &["f()", "for x in *;"]);
    check_scopes("markdown", "# A\n\n## B\n\ntext$0\n\n# C\n", &["# A", "## B"]);
}

#[test]
fn what_is_closed_before_the_cursor_does_not_enclose_it() {
    check_scopes("rust", "fn f() {}$0", &[]);
    check_scopes("rust", "fn f() {}\n$0", &[]);
    check_scopes("rust", "fn f() { if x {}$0 }", &["fn f()"]);
    check_scopes("rust", "$0fn f() {}", &[]);
}

#[test]
fn indentation_decides_below_the_last_statement() {
    let text = "class A:\n    def f(self, x):\n        if x:\n            return 1\n";
    let all = ["class A:", "def f(self, x):", "if x:"];
    check_scopes("python", &format!("{text}            $0"), &all);
    check_scopes("python", &format!("{text}        $0"), &all[..2]);
    check_scopes("python", &format!("{text}\n    $0"), &all[..1]);
    check_scopes("python", &format!("{text}$0"), &[]);
    check_scopes(
        "python",
        &format!("{text}        $0\n    def g(self):\n        pass\n"),
        &all[..2],
    );
}

#[test]
fn a_body_that_is_not_written_yet_is_a_scope() {
    check_scopes("python", "class A:\n    def f(self):\n        $0", &["class A:", "def f(self):"]);
    check_scopes("python", "def f():\n    $0\n\ndef g():\n    pass\n", &["def f():"]);
    check_scopes("rust", "impl A {\n    fn f() {\n        $0", &["impl A", "fn f()"]);
    check_scopes("java", "class A {\n    void f() {\n        int x = $0", &["class A", "void f()"]);
    check_scopes("go", "func f() {\n\tif x {\n\t\t$0\n", &["func f()", "if x"]);
}

#[test]
fn lines_enclose_by_indentation_where_the_parser_gives_up() {
    let headers = ["class A", "run(x)"];
    check_scopes("javascript", "class A {\n  run(x) {\n    const y = [(( $0", &headers);
}

#[test]
fn outlines_list_definitions_and_members() {
    check_outline(
        "rust",
        "const N: u8 = 1;\nstruct S { a: u8 }\nimpl S {\n    fn f() { fn inner() {} }\n}\nmod m { pub fn g() {} }\nmacro_rules! mac { () => {} }\n",
        "Other N, Class S, Class S, Function f, Module m, Function g, Other mac",
    );
    check_outline(
        "python",
        "X = 1\n@d\nclass A:\n    @p\n    def f(self):\n        def inner(): pass\n\ndef g(): pass\n",
        "Other X, Class A, Function f, Function g",
    );
    check_outline(
        "javascript",
        "export class A { f() { const x = () => {}; } }\nconst g = () => 1;\nexport const K = 2;\nfunction* h() {}\n",
        "Class A, Function f, Function g, Other K, Function h",
    );
    check_outline(
        "typescript",
        "interface I { m(): void; p: string }\nenum E { A }\ntype T = I;\nnamespace N { export function f() {} }\nabstract class C { abstract a(): void; x = 1; }\n",
        "Class I, Function m, Other p, Class E, Other T, Module N, Function f, Class C, Function a, Other x",
    );
    check_outline("tsx", "export default function App() { return <a/>; }\n", "Function App");
    check_outline(
        "go",
        "package p\ntype S struct { a int }\ntype I interface { M() }\ntype A = int\nconst C = 1\nvar v int\nfunc (s S) F() { var w int; _ = w }\n",
        "Class S, Class I, Other A, Other C, Other v, Function F",
    );
    check_outline(
        "c",
        "#define N 1\ntypedef struct { int a; } T;\nstruct S { int b; };\nint proto(void);\nstatic int **f(void) { return 0; }\n",
        "Other N, Other T, Class -, Class S, Function proto, Function f",
    );
    check_outline(
        "cpp",
        "namespace n {\nclass A { void d(); int f() const { return 1; } };\ntemplate <class T> T g(T t) { return t; }\n}\nint A::h() { return 2; }\nusing U = int;\n",
        "Module n, Class A, Function d, Function f, Function g, Function A::h, Other U",
    );
    check_outline(
        "java",
        "class A { int x; A() {} void f() {} enum E { P } }\ninterface I { void g(); }\nrecord R(int a) {}\n",
        "Class A, Other x, Function A, Function f, Class E, Other P, Class I, Function g, Class R",
    );
    check_outline("json", "{\"a\": {\"b\": 1}, \"c\": []}", "Other a, Other c");
    check_outline("toml", "a = 1\n[b.c]\nd = { e = 1 }\n[[f]]\n", "Module b.c, Other d, Module f");
    check_outline(
        "bash",
        "X=1\nf() { Y=2; }\nfunction g { :; }\n",
        "Other X, Function f, Function g",
    );
    check_outline("markdown", "# A\n\n## B\ntext\n\nC\n===\n", "Module A, Module B, Module C");
}

#[test]
fn imports_are_found_without_their_line_break() {
    check_imports(
        "rust",
        "use a::{\n    b,\n};\nextern crate c;\nfn f() { use d::e; }\n",
        &["use a::{\n    b,\n};", "extern crate c;", "use d::e;"],
    );
    check_imports(
        "python",
        "from __future__ import a\nimport b\ntry:\n    from c import d\nexcept E:\n    pass\n",
        &["from __future__ import a", "import b", "from c import d"],
    );
    check_imports(
        "javascript",
        "import a from 'a';\nexport * from './b';\nconst c = require('c'), d = 1;\nconst e = f('g');\n",
        &["import a from 'a';", "export * from './b';", "const c = require('c'), d = 1;"],
    );
    check_imports(
        "typescript",
        "import type { A } from 'a';\nimport b = require('b');\n",
        &["import type { A } from 'a';", "import b = require('b');"],
    );
    check_imports("tsx", "import * as React from 'react';\n", &["import * as React from 'react';"]);
    check_imports(
        "go",
        "package p\nimport (\n\t\"fmt\"\n)\nimport \"os\"\n",
        &["import (\n\t\"fmt\"\n)", "import \"os\""],
    );
    check_imports(
        "c",
        "#ifdef A\n#include <a.h>\n#endif\n#include \"b.h\"\n",
        &["#include <a.h>", "#include \"b.h\""],
    );
    check_imports(
        "cpp",
        "#include <vector>\nusing namespace std;\n",
        &["#include <vector>", "using namespace std;"],
    );
    check_imports(
        "java",
        "package p;\nimport a.B;\nimport static a.C.*;\n",
        &["import a.B;", "import static a.C.*;"],
    );
    check_imports("bash", "source a.sh\n. b.sh\necho c\n", &["source a.sh", ". b.sh"]);
    check_imports("json", "{\"import\": 1}", &[]);
}

#[test]
fn places_in_comments() {
    check_place("rust", "let a; // x$0\nlet b;", Place::Comment);
    check_place("rust", "/// x$0\nfn f() {}", Place::Comment);
    check_place("rust", "/// x\n$0fn f() {}", Place::Code);
    check_place("rust", "/* x$0 */", Place::Comment);
    check_place("rust", "/* x */$0", Place::Code);
    check_place("c", "int a; // x$0", Place::Comment);
    check_place("c", "/* x */$0 int a;", Place::Code);
    check_place("java", "/* x */$0", Place::Code);
    check_place("python", "a = 1  # x$0\n", Place::Comment);
    check_place("python", "a = 1  # x\n$0", Place::Code);
    check_place("go", "// x$0\npackage p", Place::Comment);
    check_place("toml", "a = 1 # x$0\n", Place::Comment);
    check_place("bash", "# x$0\ny", Place::Comment);
    check_place("typescript", "f(); // x$0\n", Place::Comment);
}

#[test]
fn places_in_strings() {
    check_place("rust", "let a = \"x$0\";", Place::String);
    check_place("rust", "let a = \"$0\";", Place::String);
    check_place("rust", "let a = \"x\"$0;", Place::Code);
    check_place("rust", "let a = $0\"x\";", Place::Code);
    check_place("rust", "let a = r#\"x$0\"#;", Place::String);
    check_place("rust", "let a = '$0x';", Place::String);
    check_place("python", "a = 'x$0'", Place::String);
    check_place("python", "a = f'{x$0}'", Place::Code);
    check_place("python", "a = f'{x}$0'", Place::String);
    check_place("python", "\"\"\"x\n$0\n\"\"\"\n", Place::String);
    check_place("javascript", "a = `x${y$0}z`", Place::Code);
    check_place("javascript", "a = `x${y}z$0`", Place::String);
    check_place("typescript", "let a: str$0ing;", Place::Code);
    check_place("go", "a := `x$0`", Place::String);
    check_place("c", "char *a = \"x$0\";", Place::String);
    check_place("cpp", "auto a = R\"(x$0)\";", Place::String);
    check_place("java", "String a = \"x$0\";", Place::String);
    check_place("json", "{\"a$0\": 1}", Place::String);
    check_place("toml", "a = \"x$0\"\n", Place::String);
    check_place("bash", "echo \"x$0\"\n", Place::String);
    check_place("bash", "echo \"$(ls$0)\"\n", Place::Code);
    check_place("bash", "cat <<E\nx$0\nE\n", Place::String);
}

#[test]
fn errors_are_counted_where_they_are() {
    let (tree, text, _) = parse("rust", "fn a() { let x = ; }\nfn b() { 1 }\n");
    let second = text.find("fn b").unwrap();
    assert_eq!(tree.error_count(0..second - 1), 1);
    assert_eq!(tree.error_count(second..text.len()), 0);
    let (tree, text, _) = parse("rust", "fn a() { f(1; }\n");
    assert!(tree.error_count(0..text.len()) > 0);
}

#[test]
fn statements_end_where_the_grammar_says() {
    check_end("rust", "fn f() {\n    $0let x = g(|y| {\n        y\n    });$1\n    x\n}\n");
    check_end("rust", "fn f() {\n    let x = 1;\n    $0x + 1$1\n}\n");
    check_end("rust", "fn f() {\n    x;$0\n}$1\n");
    check_end("rust", "$0fn f() {}$1\nfn g() {}\n");
    check_end("rust", "fn f() {}\n$0\nfn g() {}\n");
    check_end("rust", "fn f() {\n    let x = (1$0;\n}\n");
    check_end(
        "python",
        "def f():\n    if x:\n        $0return [\n            1]$1\n    return 2\n",
    );
    check_end("go", "func f() {\n\t$0if x {\n\t\ty()\n\t}$1\n\tz()\n}\n");
    check_end("typescript", "class A {\n  $0f(): void {\n  }$1\n  g() {}\n}\n");
    check_end("c", "int f(void) { $0for (;;) { x(); }$1 return 1; }\n");
    check_end("java", "class A { void f() { $0g();$1 h(); } }\n");
    check_end("json", "{$0\"a\": [1],$1 \"b\": 2}".replacen("],$1", "]$1,", 1).as_str());
}

#[test]
fn a_text_over_the_limit_gets_no_tree() {
    let language = Language::by_name("json").unwrap();
    assert!(SyntaxTree::parse(language, &" ".repeat(SyntaxTree::MAX_BYTES + 1)).is_none());

    let mut text = Text::new(" ".repeat(SyntaxTree::MAX_BYTES));
    let mut tree = SyntaxTree::parse(language, text.as_str()).unwrap();
    let edit = text.replace(0..0, " ");
    assert!(!tree.update(&edit, text.as_str()));
}

#[test]
fn a_parse_that_ran_out_of_time_is_caught_up_with_later() {
    let language = Language::by_name("rust").unwrap();
    let mut text = Text::new("fn a() {}\n");
    let mut tree = SyntaxTree::parse(language, text.as_str()).unwrap();
    let edit = text.replace(0..0, &"fn f() { a(b[c]) }\n".repeat(20_000));
    assert!(!tree.update_within(Duration::ZERO, &edit, text.as_str()));
    assert!(!tree.is_current());
    assert_eq!(tree.node_end_after(0), None);

    let edit = text.replace(0..0, " ");
    assert!(tree.update_within(Duration::MAX, &edit, text.as_str()));
    assert_eq!(tree.outline(text.as_str()).len(), 20_001);
}
