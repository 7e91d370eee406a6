//! Messages for all kinds of changes, in all manners.

use super::*;

fn change(path: &str, before: Option<&str>, after: Option<&str>) -> FileChange {
    let text = |text: Option<&str>| text.map(String::from);
    FileChange { path: path.into(), moved_from: None, before: text(before), after: text(after) }
}

fn of(changes: &[FileChange], subjects: &[&str]) -> String {
    let subjects: Vec<String> = subjects.iter().map(|s| s.to_string()).collect();
    message(changes, &subjects, None)
}

const CODE: &str =
    "pub fn open(path: &Path) -> File {\n    File::open(path)\n}\n\npub const LIMIT: usize = 5;\n";

#[test]
fn definitions_that_come_go_and_change() {
    let after = |from: &str, to: &str| {
        let text = CODE.replacen(from, to, 1);
        assert_ne!(text, CODE);
        of(&[change("src/files.rs", Some(CODE), Some(&text))], &[])
    };
    assert_eq!(
        after("pub const", "pub fn close(file: File) {\n    drop(file)\n}\n\npub const"),
        "Add close to files"
    );
    assert_eq!(after("pub const LIMIT: usize = 5;\n", ""), "Remove LIMIT from files");
    assert_eq!(after("fn open", "fn open_file"), "Rename open to open_file");
    assert_eq!(after("= 5", "= 10"), "Set LIMIT to 10");
    assert_eq!(
        after("File::open(path)", "File::options().read(true).open(path)"),
        "Change open in files"
    );
    assert_eq!(
        after("path: &Path)", "path: &Path, mode: Mode)"),
        "Change the signature of open in files"
    );
    assert_eq!(
        after("    File::open", "    // At once.\n    File::open"),
        "Document open in files"
    );
}

#[test]
fn files_as_a_whole() {
    assert_eq!(of(&[change("src/net/mod.rs", None, Some("mod a;\n"))], &[]), "Add net");
    assert_eq!(of(&[change("web/door.ts", Some("let a = 1;\n"), None)], &[]), "Remove door");
    let mut moved = change("src/net/door.rs", Some("mod a;\n"), Some("mod a;\n"));
    moved.moved_from = Some("src/door.rs".into());
    assert_eq!(of(&[moved.clone()], &[]), "Move door to src/net");
    moved.moved_from = Some("src/gate.rs".into());
    assert_eq!(of(&[moved], &[]), "Rename gate.rs to door.rs");
    let many: Vec<FileChange> =
        (0..30).map(|n| change(&format!("src/part{n}.rs"), None, Some("mod a;\n"))).collect();
    let text = of(&many, &[]);
    assert!(text.starts_with("Add part0, part1 and 28 more\n\n- src/part0.rs: new\n"), "{text}");
    assert!(text.ends_with("- and 19 files more") && text.lines().count() == 14, "{text}");
}

#[test]
fn what_goes_with_the_code_is_told_below_it() {
    let text = of(
        &[
            change("README.md", Some("# A\n"), Some("# A\n\n## Use\n")),
            change("tests/files.rs", Some(""), Some("#[test]\nfn closed() {}\n")),
            change("src/files.rs", Some(""), Some("pub fn close() {}\n")),
        ],
        &[],
    );
    assert_eq!(
        text,
        "Add close to files\n\n- src/files.rs: add close to files\n- tests/files.rs: test closed\n- README.md: add Use to README"
    );
}

#[test]
fn dependencies_by_name_and_version() {
    let manifest = "[package]\nversion = \"0.1.0\"\n\n[dependencies]\nserde = \"1.0\"\n";
    let after = |from: &str, to: &str| {
        let text = manifest.replacen(from, to, 1);
        let lock = change("Cargo.lock", Some("a"), Some("b"));
        of(&[lock, change("Cargo.toml", Some(manifest), Some(&text))], &[])
    };
    assert_eq!(after("\"1.0\"", "{ version = \"1.1\" }"), "Update serde to 1.1");
    assert_eq!(after("0.1.0", "0.2.0"), "Set the version to 0.2.0");
    assert_eq!(after("serde =", "rand = \"0.9\"\nserde ="), "Add rand");
    assert_eq!(
        of(&[change("yarn.lock", Some("a"), Some("b"))], &[]),
        "Update the locked dependencies"
    );
    assert_eq!(
        of(
            &[change(
                "package.json",
                Some("{\n  \"dependencies\": {\n    \"@a/b\": \"^1.0.0\"\n"),
                Some("{\n  \"dependencies\": {\n    \"@a/b\": \"^1.2.0\"\n")
            )],
            &[]
        ),
        "Update @a/b to 1.2.0"
    );
}

#[test]
fn in_the_manner_of_the_repository() {
    let add = [change("src/net/http.rs", Some(""), Some("pub fn close() {}\n"))];
    assert_eq!(
        of(&add, &["fix(net): keep it open", "feat: add gates", "docs: say so"]),
        "feat(net): add close to http"
    );
    assert_eq!(of(&add, &["net/http: keep it open", "io: add gates"]), "net: add close to http");
    assert_eq!(
        of(&add, &["Added gates.", "Fixed doors.", "Removed walls."]),
        "Added close to http."
    );
    assert_eq!(of(&add, &["adds gates", "fixes doors"]), "adds close to http");
    assert_eq!(
        message(&add, &["AB-1: Add gates".into()], Some("feature/AB-12-doors")),
        "AB-12: Add close to http"
    );
    let change =
        [change("a.py", Some("def f():\n    return 1\n"), Some("def f():\n    return 2\n"))];
    let manner = ["feat: a".to_string(), "refactor: b".into(), "refactor: c".into()];
    assert_eq!(message(&change, &manner, None), "refactor: change f in a");
    assert_eq!(message(&change, &manner, Some("fix/door")), "fix: change f in a");
}

#[test]
fn whatever_changes_there_is_a_line() {
    for (path, before, after) in [
        ("logo.png", None, None),
        ("a", Some("x"), Some("")),
        ("データ/ファイル.py", Some("def 開く():\n  pass\n"), Some("def 閉じる():\n  return 1\n")),
        ("broken.rs", Some("fn ("), Some("fn ) {{{")),
        ("x.py", Some("def a(): pass\n"), Some("def a(): pass\ndef a(): pass\n")),
    ] {
        let text = of(&[change(path, before, after)], &[]);
        let first = text.lines().next().unwrap_or_default();
        assert!(!first.is_empty() && first.chars().count() <= LONGEST, "{path}: {text}");
    }
    assert_eq!(of(&[], &[]), "");
}
