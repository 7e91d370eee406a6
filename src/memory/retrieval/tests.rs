//! Texts in, chosen lines out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Edit, Kind, Open, Query, Retrieval, SharedRetrieval, Snippet, Texts};
use crate::syntax::{Language, SyntaxTree};

/// Files in memory.
#[derive(Default)]
pub(super) struct Repository {
    pub(super) files: BTreeMap<String, String>,
    pub(super) index: Retrieval,
}

impl Texts for Repository {
    fn text(&self, path: &str) -> Option<Arc<str>> {
        self.files.get(path).map(|text| text.as_str().into())
    }

    fn name(&self, file: &Path) -> String {
        file.to_string_lossy().into_owned()
    }
}

impl Repository {
    pub(super) fn of(files: &[(&str, &str)]) -> Repository {
        let mut repository = Repository::default();
        for (path, text) in files {
            let language = Language::by_path(Path::new(path)).expect("a known language");
            repository.index.update(path, Some(language), text);
            repository.index.update_symbols(path, language, text);
            repository.files.insert(path.to_string(), text.to_string());
        }
        repository
    }

    /// What is retrieved at the `|` in a file.
    pub(super) fn at(&self, path: &str, marked: &str) -> Vec<Snippet> {
        self.with(path, marked, &[], &[])
    }

    fn with(&self, path: &str, marked: &str, open: &[Open], recent: &[Edit]) -> Vec<Snippet> {
        let offset = marked.find('|').expect("a cursor");
        let text = marked.replacen('|', "", 1);
        let language = Language::by_path(Path::new(path));
        let tree = language.and_then(|language| SyntaxTree::parse_steadily(language, &text));
        let tree = tree.as_ref();
        let query = Query { path, text: &text, offset, language, tree, open, recent };
        self.index.retrieve(&query, self)
    }
}

fn shown(snippets: &[Snippet]) -> Vec<(Kind, &str, &str)> {
    snippets.iter().map(|s| (s.kind, s.path.as_str(), s.text.as_str())).collect()
}

fn paths(snippets: &[Snippet], kind: Kind) -> Vec<&str> {
    snippets.iter().filter(|s| s.kind == kind).map(|s| s.path.as_str()).collect()
}

const SHAPE: &str = "\
use std::fmt;

/// A shape.
pub struct Shape {
    pub width: u32,
    pub height: u32,
}

impl Shape {
    pub fn area_of_shape(&self) -> u32 {
        self.width * self.height
    }
}
";

#[test]
fn definitions_of_used_names_are_found() {
    let repository = Repository::of(&[("src/shape.rs", SHAPE)]);
    let definitions = |marked: &str| {
        let mut found = repository.at("src/main.rs", marked);
        found.retain(|snippet| snippet.kind == Kind::Definition);
        found
    };
    let found = definitions("fn main() {\n    let x: Shape = |\n}\n");
    let lines = "pub struct Shape {\n    pub width: u32,\n    pub height: u32,\n}\n";
    assert_eq!(shown(&found), [(Kind::Definition, "src/shape.rs", lines)]);
    let found = definitions("fn main() {\n    x.area_of_shape() + |\n}\n");
    let header = "    pub fn area_of_shape(&self) -> u32 {\n";
    assert_eq!(shown(&found), [(Kind::Definition, "src/shape.rs", header)]);
    // A value is no call, and what the file itself defines is known.
    for text in ["let area_of_shape = |", "struct Shape;\nfn f() { Shape| }\n"] {
        assert_eq!(definitions(text), [], "{text}");
    }
}

#[test]
fn the_lines_on_the_cursor_s_line_come_first() {
    let files = [("src/a.rs", "pub struct Apple;\n"), ("src/b.rs", "pub struct Berry;\n")];
    let found = Repository::of(&files).at("x/c.rs", "fn f(a: Apple) {\n    Berry::|\n}\n");
    assert_eq!(paths(&found, Kind::Definition), ["src/b.rs", "src/a.rs"]);
}

#[test]
fn ambiguous_names_are_left_out_unless_the_file_is_near() {
    let text = "pub fn build_it(count: u32) -> u32 { count }\n";
    let names = ["a/one.rs", "b/two.rs", "c/three.rs", "d/four.rs", "e/five.rs"];
    let repository = Repository::of(&names.map(|name| (name, text)));
    let call = "fn f() {\n    build_it(|\n}\n";
    assert_eq!(paths(&repository.at("src/main.rs", call), Kind::Definition), [""; 0]);
    let found = repository.at("src/main.rs", &format!("use crate::d::four::build_it;\n{call}"));
    assert_eq!(paths(&found, Kind::Definition), ["d/four.rs"]);
    let found = repository.at("c/other.rs", call);
    assert_eq!(paths(&found, Kind::Definition), ["c/three.rs"]);
}

const OPENING: &str = "\
def open_store(path, retries):
    store = Store(path)
    store.configure(retries=retries)
    return store
";

fn filler(lines: usize) -> String {
    (0..lines).map(|i| format!("value_{i} = compute_{i}()\n")).collect()
}

#[test]
fn similar_windows_are_found_in_the_right_file() {
    let other = format!("{}{OPENING}{}", filler(40), filler(40));
    let repository = Repository::of(&[("a/x.py", &filler(90)), ("a/y.py", &other)]);
    let query =
        "def load(path, retries):\n    store = Store(path)\n    store.configure(retries=|\n";
    let found = repository.at("b/z.py", query);
    assert_eq!(paths(&found, Kind::SimilarWindow), ["a/y.py"]);
    assert!(found[0].text.contains("return store"), "{found:?}");
    assert!(found[0].score > 0.1);
    // How it goes on is what is wanted: half a window later, if the match reaches as far.
    let found = repository.at("b/z.py", &format!("{}{OPENING}|", filler(60)));
    let lines: Vec<&str> = found[0].text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (16, "value_56 = compute_56()"), "{found:?}");
    // Not from the file itself, not where little is alike, not from other languages.
    assert_eq!(repository.at("a/y.py", query), []);
    assert_eq!(repository.at("b/z.py", "store = something_else(|\n"), []);
    assert_eq!(repository.at("b/z.py", "|"), []);
    assert_eq!(paths(&repository.at("b/z.rs", query), Kind::SimilarWindow), [""; 0]);
}

#[test]
fn imports_decide_between_equals() {
    let names = ["a/one.py", "b/two.py", "c/three.py", "d/four.py", "e/five.py"];
    let texts = names.map(|name| match name {
        "d/four.py" => format!("import sqlite_store\n{OPENING}"),
        _ => format!("import json_module\n{OPENING}"),
    });
    let files: Vec<(&str, &str)> =
        names.into_iter().zip(texts.iter().map(String::as_str)).collect();
    let repository = Repository::of(&files);
    let found = repository.at("z/z.py", &format!("import sqlite_store\n\n\n{OPENING}|"));
    let windows = paths(&found, Kind::SimilarWindow);
    assert_eq!(windows.len(), 3);
    assert_eq!(windows[0], "d/four.py");
}

#[test]
fn recent_edits_come_in() {
    let repository = Repository::default();
    let text = format!("{}{OPENING}{}", filler(20), filler(20));
    let edit = |line| Edit { path: Cow::Borrowed("a/y.py"), text: &text, line };
    let query = "def load(path, retries):\n    store = Store(path)\n    |";
    let found = repository.with("b/z.py", query, &[], &[edit(3), edit(22), edit(9999)]);
    assert_eq!(paths(&found, Kind::RecentEdit), ["a/y.py"]);
    assert_eq!(found[0].text.lines().count(), 8);
    assert!(found[0].text.contains("store.configure"), "{found:?}");
    assert_eq!(repository.with("a/y.py", query, &[], &[edit(22)]), [], "its own file");
}

#[test]
fn open_documents_count_in_place_of_the_index() {
    let query =
        "def load(path, retries):\n    store = Store(path)\n    store.configure(retries=|\n";
    let repository = Repository::of(&[("a/x.py", OPENING)]);
    let open = |text| [Open { path: "a/x.py".into(), language: Language::by_name("python"), text }];
    assert_eq!(repository.with("b/z.py", query, &open("nothing = 1\n"), &[]), []);
    let fresh = OPENING.replace("return store", "return store.fresh()");
    let found = repository.with("b/z.py", query, &open(&fresh), &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].text.contains("store.fresh()"));
}

#[test]
fn what_changed_on_disk_is_not_shown() {
    let mut repository = Repository::of(&[("src/shape.rs", SHAPE)]);
    let text = "é".repeat(SHAPE.len() / 2);
    repository.files.insert("src/shape.rs".into(), text);
    assert_eq!(repository.at("src/main.rs", "fn main() {\n    let x: Shape = |\n}\n"), []);
    repository.files.clear();
    assert_eq!(repository.at("src/main.rs", "fn main() {\n    let x: Shape = |\n}\n"), []);
}

#[test]
fn secrets_stay_where_they_are() {
    let key = "password = \"Zk3pQ9vX7rT2mW8yL4nB6cF1hJ5dG0sA\"\n";
    let repository = Repository::of(&[("a/x.py", &format!("{OPENING}{key}"))]);
    assert_eq!(repository.at("b/z.py", &format!("{OPENING}|")), []);
}

#[test]
fn a_new_text_replaces_the_old_one() {
    let rust = Language::by_name("rust").expect("a row of the table");
    let mut index = Retrieval::new();
    assert!(index.update("a.rs", Some(rust), SHAPE));
    let before = index.to_bytes();
    index.update_symbols("a.rs", rust, SHAPE);
    assert!(!index.update("a.rs", Some(rust), SHAPE), "the same text is no news");
    assert_ne!(index.to_bytes(), before, "symbols stay");
    assert!(index.update("a.rs", Some(rust), "fn other() {}\n"));
    assert!(index.remove("a.rs") && !index.remove("a.rs") && index.is_empty());
}

#[test]
fn readers_keep_their_version() {
    let shared = SharedRetrieval::default();
    let before = shared.snapshot();
    shared.change(|index| {
        index.update("a.rs", None, SHAPE);
    });
    assert_eq!((before.len(), shared.snapshot().len()), (0, 1));
}

#[test]
fn memory_stays_below_its_bound() {
    // Different identifiers in every line: code repeats itself more.
    let files: Vec<(String, String)> = (0..200)
        .map(|file| {
            let line = |i: usize| {
                format!("    let name_{file}_{i} = self.part_{i}.compute(&other_{file}, {i})?;\n")
            };
            let body: String = (0..20).map(line).collect();
            let function =
                |i: usize| format!("pub fn work_{file}_{i}(x: u32) -> u32 {{\n{body}}}\n");
            (format!("src/part/file_{file}.rs"), (0..10).map(function).collect())
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let repository = Repository::of(&files);
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    // 3.4 bytes of source are a token.
    let per_token = repository.index.size_in_bytes() as f64 / (bytes as f64 / 3.4);
    assert!(per_token < 8.0, "{per_token}");
}
