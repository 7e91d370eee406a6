//! `nestling fix`: files in, differences out; nothing written without `--apply`, nothing unproven with it.

use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};

use crate::house::House;
use crate::program::{Run, run};

fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn fix(path: &Path, more: &[&str]) -> Run {
    run(&[&["fix", text(path)], more].concat())
}

const BROKEN: &str = "def area(width, height:\n    return width * height\n";

#[test]
fn broken_syntax_becomes_a_diff_and_is_written_only_when_told() {
    let (_folder, path) = file("area.py", BROKEN);
    let shown = fix(&path, &[]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("+def area(width, height):\n"), "{shown:?}");
    assert!(shown.stderr.contains("(parses)") && shown.stderr.contains("1 repaired"), "{shown:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), BROKEN);
    let written = fix(&path, &["--apply", "--json"]);
    let json = written.json();
    assert_eq!(json["files"][0]["applied"], true);
    assert_eq!(json["files"][0]["fixed"][0]["evidence"]["proof"], "parses");
    let now = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(now, BROKEN.replace("height:", "height):"));
    let again = fix(&path, &[]);
    assert_eq!((again.code, &*again.stdout), (Some(0), ""), "{again:?}");
}

#[test]
fn what_the_compiler_finds_is_repaired_and_checked() {
    let source = "#include <stdio.h>\nint main(void) {\n    int count = 1;\n    printf(\"%d\", cuont);\n    return 0;\n}\n";
    let (_folder, path) = file("count.c", source);
    let done = fix(&path, &["--json"]);
    let json = done.json();
    let fixed = &json["files"][0]["fixed"][0];
    assert_eq!(fixed["evidence"]["proof"], "checks", "{json}");
    assert!(
        json["files"][0]["diff"]
            .as_str()
            .is_some_and(|d| d.contains("+    printf(\"%d\", count);")),
        "{json}"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), source);
}

#[test]
fn an_argument_that_is_missing_is_taken_from_where_the_same_is_called_elsewhere() {
    let source = "struct shelf;\nint put(struct shelf *s, const char *name, int count);\n\n\
                  void morning(struct shelf *s) {\n    put(s, \"loaf\", 12);\n}\n\n\
                  void evening(struct shelf *s) {\n    put(s, \"bun\");\n}\n";
    let (_folder, path) = file("shelf.c", source);
    let json = fix(&path, &["--json"]).json();
    let fixed = &json["files"][0]["fixed"][0];
    assert_eq!(fixed["evidence"]["proof"], "checks", "{json}");
    assert_eq!(fixed["origin"], "repository", "{json}");
    let diff = json["files"][0]["diff"].as_str().unwrap_or_default();
    assert!(diff.contains("+    put(s, \"bun\", 12);"), "{json}");
}

#[test]
fn rust_alone_is_checked_by_its_compiler_with_its_own_suggestions() {
    let (_folder, path) =
        file("lib.rs", "pub fn f() -> u8 {\n    let x = 1;\n    x += 1;\n    x\n}\n");
    let done = fix(&path, &[]);
    assert!(done.stdout.contains("+    let mut x = 1;"), "{done:?}");
    assert!(done.stderr.contains("checks: E0384 gone"), "{done:?}");
}

#[test]
fn failing_tests_lead_to_the_change_that_makes_them_pass() {
    let (folder, path) = file("larger.py", "def larger(a, b):\n    return a if a < b else b\n");
    let test = "import larger\nassert larger.larger(1, 2) == 2 and larger.larger(3, 2) == 3\n";
    std::fs::write(folder.path().join("test_larger.py"), test).expect("a file");
    let command = "python3 test_larger.py";
    let done = fix(&path, &["--test", command, "--json"]);
    let json = done.json();
    assert_eq!(json["files"][0]["tests"], true, "{json}");
    assert_eq!(json["files"][0]["fixed"][0]["evidence"]["proof"], "tests", "{json}");
    // What passes already is left alone; what no single change repairs is said.
    let (folder, path) = file("odd.py", "def odd():\n    pass\n");
    let test = "import odd\nassert odd.odd() == {'a': [1, 'b', 7.25]}\n";
    std::fs::write(folder.path().join("test_odd.py"), test).expect("a file");
    let done = fix(&path, &["--test", "python3 test_odd.py", "--time", "5s"]);
    assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{done:?}");
    assert!(done.stderr.contains("the tests fail"), "{done:?}");
}

#[test]
fn what_makes_the_tests_pass_may_not_break_the_check() {
    let source = "def larger(a, b):\n    return a if a < b else b\n";
    let (folder, path) = file("larger.py", source);
    let test = "import larger\nassert larger.larger(1, 2) == 2 and larger.larger(3, 2) == 3\n";
    std::fs::write(folder.path().join("test_larger.py"), test).expect("a file");
    let command = "python3 test_larger.py";
    // The check takes the file as it is and nothing else.
    let check = "test $(cat larger.py | cksum | cut -d' ' -f1) = $(cat original)";
    let sum = std::process::Command::new("cksum").arg(&path).output().expect("a sum").stdout;
    let sum = String::from_utf8_lossy(&sum).split(' ').next().map(String::from);
    let check = check.replace("$(cat original)", &sum.expect("a number"));
    let both = ["--test", command, "--check", &check, "--time", "10s", "--apply"];
    let done = fix(&path, &both);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("the tests fail"), "{done:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), source);
    let tests_alone = fix(&path, &["--test", command, "--time", "10s"]);
    assert!(tests_alone.stdout.contains("a > b"), "{tests_alone:?}");
}

#[test]
fn what_was_asked_to_prove_a_repair_must_prove_it_before_it_is_written() {
    let (folder, path) = file("area.py", BROKEN);
    std::fs::create_dir(folder.path().join("tests")).expect("a folder");
    std::fs::write(folder.path().join("tests/fails.py"), "exit(1)\n").expect("a file");
    let run = |arguments: &[&str]| {
        let mut command = crate::program::nestling();
        command.current_dir(folder.path()).args(["fix", "area.py"]).args(arguments);
        Run::of(&mut command)
    };
    // Where there is no repository, commands find what lies here.
    for unproven in [["--test", "python3 tests/fails.py"], ["--check", "sleep 60"]] {
        let done = run(&[&unproven[..], &["--time", "4s", "--apply"]].concat());
        assert_eq!(done.code, Some(3), "{done:?}");
        assert!(done.stderr.contains("area.py: not written: "), "{done:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), BROKEN);
    }
    std::fs::write(folder.path().join("tests/fails.py"), "import area\n").expect("a file");
    let passes = "PYTHONPATH=. python3 tests/fails.py";
    let done = run(&["--test", passes, "--apply"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("(tests pass)"), "{done:?}");
}

#[test]
fn several_files_end_in_a_table_and_one_that_cannot_be_written_stops_no_other() {
    let folder = tempdir().expect("a folder");
    for name in ["a.py", "b.py", "fine.py"] {
        let text = if name == "fine.py" { "x = 1\n" } else { BROKEN };
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let closed = folder.path().join("a.py");
    let mut permissions = std::fs::metadata(&closed).expect("a file").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&closed, permissions).expect("a file");
    let done = fix(folder.path(), &["--apply", "--no-model"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let row = |name: &str| done.stderr.lines().filter(|line| line.ends_with(name)).count();
    assert_eq!((row("no"), row("yes")), (1, 1), "{done:?}");
    assert!(done.stderr.contains("a.py: not written: ") && !done.stderr.contains("fine.py"));
    let written = std::fs::read_to_string(folder.path().join("b.py")).expect("a file");
    assert!(written.starts_with("def area(width, height):"));
}

#[test]
fn a_file_that_is_too_large_to_be_parsed_is_said_to_be() {
    let (_folder, path) = file("large.py", &"x = 1\n".repeat(900_000));
    let done = fix(&path, &["--no-model"]);
    assert!(done.stderr.contains("too large to be parsed"), "{done:?}");
}

#[test]
fn checkers_that_hang_crash_or_print_rubbish_cost_a_line_and_nothing_else() {
    let source = "def f():\n    return 1\n";
    let (_folder, path) = file("f.py", source);
    for (check, said) in [
        ("sleep 60", "took more than"),
        ("kill -SEGV $$", "the check fails"),
        ("head -c 4000 /dev/urandom; exit 1", "the check fails"),
        ("no-such-checker", "no-such-checker: "),
    ] {
        let done = fix(&path, &["--check", check, "--time", "3s", "--apply", "--no-model"]);
        assert!(done.stderr.contains(said), "{check}: {done:?}");
        assert_eq!(done.code, Some(1), "nothing is known to be right: {check}: {done:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), source);
    }
}

#[test]
fn what_cannot_be_repaired_or_written_is_left_as_it_is() {
    let hopeless = ")))((( class def ]] : = = if (\n".repeat(5);
    let (_folder, path) = file("hopeless.py", &hopeless);
    let done = fix(&path, &["--apply"]);
    assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{done:?}");
    assert!(done.stderr.contains("that no change of a token repairs"), "{done:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), hopeless);
    let (_folder, path) = file("area.py", BROKEN);
    let mut permissions = std::fs::metadata(&path).expect("a file").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).expect("a file");
    let done = fix(&path, &["--apply"]);
    assert!(done.stderr.contains("read-only"), "{done:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), BROKEN);
}

#[test]
fn wrong_use_is_said() {
    let missing = run(&["fix", "/no/such/file.rs"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    let (_folder, path) = file("a.bin", "a\0b");
    let binary = fix(&path, &[]);
    assert!(binary.stderr.contains("binary"), "{binary:?}");
}

#[test]
fn a_folder_is_looked_through_and_its_code_runs_only_when_trusted() {
    let house = House::new();
    let root = &house.work();
    std::fs::create_dir(root.join("src")).expect("a folder");
    let manifest = "[package]\nname = \"made\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    std::fs::write(root.join("Cargo.toml"), manifest).expect("a file");
    std::fs::write(
        root.join("src/lib.rs"),
        "pub fn f() -> u8 {\n    let x = 1;\n    x += 1;\n    x\n}\n",
    )
    .expect("a file");
    let with = |arguments: &[&str]| Run::of(house.command().args(arguments));
    let untrusted = with(&["fix", text(root)]);
    assert!(untrusted.stderr.contains("nestling trust"), "{untrusted:?}");
    assert_eq!((untrusted.code, &*untrusted.stdout), (Some(1), ""), "nothing was checked");
    assert_eq!(with(&["trust", text(root)]).code, Some(0));
    // What the compiler keeps from the first time is of a text that was repaired.
    for _ in 0..2 {
        let trusted = with(&["fix", text(root)]);
        assert!(trusted.stdout.contains("+    let mut x = 1;"), "{trusted:?}");
        assert_eq!(trusted.code, Some(0), "{trusted:?}");
    }
    assert_eq!(with(&["trust", text(root), "--revoke"]).code, Some(0));
    assert!(with(&["fix", text(root)]).stderr.contains("nestling trust"));
    // The user's own tests are no code that somebody slipped in; what they prove is written.
    std::fs::write(root.join("src/lib.rs"), "pub fn f() -> u8 {\n    (1 + 2\n}\n").expect("a file");
    let tested = with(&["fix", text(&root.join("src/lib.rs")), "--test", "true", "--apply"]);
    assert!(tested.stderr.contains("(tests pass)") && tested.stderr.contains("written"));
    let now = std::fs::read_to_string(root.join("src/lib.rs")).expect("a file");
    assert_eq!(now, "pub fn f() -> u8 {\n    (1 + 2)\n}\n", "{tested:?}");
}
