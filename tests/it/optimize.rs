//! `nestling optimize`: rewrites found, proven, written only when they were; and the catalogue against its fixtures.

use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};

use crate::program::{Run, nestling, run};

fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

fn optimize(path: &Path, more: &[&str]) -> Run {
    run(&[&["optimize", path.to_str().expect("UTF-8")], more].concat())
}

/// Two things to rewrite, and a wrong one that a user's own rule will bring.
const SLOW: &str = "def kept(xs: list[int], ys: list[int]):\n    known = sorted(xs)\n    out = []\n    for y in ys:\n        \
                    if y in known:\n            out.append(y * 2)\n    return out\n";

#[test]
fn what_could_be_faster_is_ranked_and_nothing_is_run_or_written() {
    let (_folder, path) = file("kept.py", SLOW);
    let found = optimize(&path, &["--json"]);
    let json = found.json();
    let rules: Vec<&str> = json["rewrites"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["rewrite"]["rule"].as_str().expect("a name"))
        .collect();
    assert_eq!(rules, ["py-set-lookup", "py-comprehension-if"], "order before share: {json}");
    assert_eq!(json["rewrites"][0]["summary"], "precondition holds · parses");
    assert_eq!(json["rewrites"][0]["faster"], false, "nothing is faster that was not measured");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), SLOW);
    let profile = path.with_extension("folded");
    std::fs::write(&profile, "main;kept (kept.py:3) 90\nmain;other 10\n").expect("a file");
    let ranked = optimize(&path, &["--json", "--profile", profile.to_str().expect("UTF-8")]);
    assert!(ranked.json()["rewrites"][0]["worth"].as_f64() < json["rewrites"][0]["worth"].as_f64());
    std::fs::write(&profile, "nothing of the kind\n").expect("a file");
    let wrong = optimize(&path, &["--profile", profile.to_str().expect("UTF-8")]);
    assert!(wrong.code == Some(3) && wrong.stderr.contains("folded stacks"), "{wrong:?}");
}

#[test]
fn what_was_proven_is_written_and_the_tests_of_the_project_have_a_say() {
    let (folder, path) = file("kept.py", SLOW);
    let page = folder.path().join("page.html");
    let done = optimize(
        &path,
        &["--apply", "--json", "--rule", "py-set-lookup", "--html", page.to_str().expect("UTF-8")],
    );
    let json = done.json();
    let summary = json["rewrites"][0]["summary"].as_str().expect("a text");
    assert!(summary.contains("same results on 200 inputs"), "{summary}");
    assert_eq!(json["rewrites"][0]["applied"], true, "{json}");
    let now = std::fs::read_to_string(&path).expect("a file");
    assert!(
        now.contains("    known_2 = set(known)\n    for y in ys:\n        if y in known_2:\n"),
        "{now}"
    );
    assert!(std::fs::read_to_string(&page).expect("a page").contains("py-set-lookup"));
    // With tests that fail before any change nothing is claimed, and with those that fail after it nothing is written.
    std::fs::write(&path, SLOW).expect("a file");
    let failing = optimize(&path, &["--test", "false", "--json"]);
    assert!(
        failing.json()["notes"][0].as_str().is_some_and(|n| n.contains("before any change")),
        "{failing:?}"
    );
    let choosy = optimize(
        &path,
        &["--test", "! grep -q 'set(' kept.py", "--apply", "--json", "--rule", "py-set-lookup"],
    );
    // The command runs where the user is, which is not the project: the tests see the copy only by a full path.
    assert_eq!(choosy.json()["rewrites"].as_array().map(Vec::len), Some(1), "{choosy:?}");
}

#[test]
fn a_rewrite_that_does_something_else_is_refused() {
    let rule = "[[rule]]\nname = \"wrong\"\ntitle = \"Forget the last\"\nwhy = \"None.\"\nsource = \"a test\"\ngain = \"order\"\n\
                query = '''(return_statement (identifier) @x) @site'''\nedits = [{ replace = \"site\", with = \"return $x[:2]\" }]\n";
    let (folder, path) = file("kept.py", SLOW);
    std::fs::write(folder.path().join("python.toml"), rule).expect("a file");
    let rules = folder.path().to_str().expect("UTF-8");
    let done = optimize(&path, &["--prove", "--apply", "--rules", rules, "--json"]);
    let json = done.json();
    assert!(
        json["rewrites"][0]["evidence"]["refused"]
            .as_str()
            .is_some_and(|why| why.contains("something else")),
        "{json}"
    );
    assert_eq!(done.code, Some(1));
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), SLOW);
    std::fs::write(folder.path().join("python.toml"), rule.replace("@x", "@y")).expect("a file");
    std::fs::write(
        folder.path().join("python.toml"),
        rule.replace("gain = \"order\"", "where = [\"sideways @x\"]\ngain = \"order\""),
    )
    .expect("a file");
    let wrong = optimize(&path, &["--rules", rules]);
    assert!(
        wrong.code == Some(3) && wrong.stderr.contains("there is no condition \"sideways\""),
        "{wrong:?}"
    );
}

#[test]
fn effects_code_that_does_not_parse_and_benchmarks_that_fail_are_said() {
    let source = "def count(path):\n    n = 0\n    for c in str(open(path).read()):\n        if c in [\"a\", \"b\", \"c\", \"d\"]:\n            n += 1\n    return n\n";
    let (_folder, path) = file("count.py", source);
    let done = optimize(&path, &["--prove", "--json"]);
    let summary = done.json()["rewrites"][0]["summary"].to_string();
    assert!(summary.contains("not compared: it uses `open`"), "{summary}");
    let bench = optimize(&path, &["--bench", "exit 3", "--json"]);
    assert!(bench.json()["notes"].to_string().contains("benchmark"), "{bench:?}");
    let (_folder, broken) = file("broken.py", "def f(:\n  for x in\n");
    let none = optimize(&broken, &[]);
    assert!(none.code == Some(1) && none.stderr.contains("0 rewrite(s)"), "{none:?}");
    let missing = optimize(Path::new("no/such.py"), &[]);
    assert!(missing.code == Some(2) && missing.stderr.contains("no such file"), "{missing:?}");
}

#[test]
fn functions_of_rust_and_javascript_are_compared_too() {
    let rust = "pub fn firsts(lines: &[String]) -> Vec<char> {\n    let mut out = Vec::new();\n    for line in lines {\n        if let Some(c) = line.chars().nth(0) {\n            out.push(c);\n        }\n    }\n    out\n}\n";
    let rule = |query: &str, with: &str| {
        format!(
            "[[rule]]\nname = \"own\"\ntitle = \"t\"\nwhy = \"w\"\nsource = \"s\"\ngain = \"constant\"\nquery = '''{query}'''\nedits = [{{ replace = \"site\", with = \"{with}\" }}]\n"
        )
    };
    let check = |name: &str, source: &str, language: &str, query: &str, with: &str, said: &str| {
        let (folder, path) = file(name, source);
        std::fs::write(folder.path().join(format!("{language}.toml")), rule(query, with))
            .expect("a file");
        let rules = folder.path().to_str().expect("UTF-8");
        let done = optimize(&path, &["--prove", "--rules", rules, "--json", "--time", "10s"]);
        let summary = done.json()["rewrites"][0]["summary"].to_string();
        assert!(summary.contains(said), "{summary}");
    };
    let nth = "((field_identifier) @site (#eq? @site \"nth\"))";
    let call = "((call_expression arguments: (arguments (integer_literal))) @site)";
    check("a.rs", rust, "rust", call, "line.chars().next()", "same results on 200 inputs");
    check("a.rs", rust, "rust", call, "line.chars().last()", "something else");
    check("a.rs", rust, "rust", nth, "nothing", "refused: rustc finds");
    let script = "export function total(xs) {\n  let sum = 0;\n  for (const x of xs) sum += x;\n  return sum;\n}\n";
    let augmented = "((augmented_assignment_expression) @site)";
    check("a.js", script, "javascript", augmented, "sum = sum + x", "same results on 200 inputs");
    check("a.js", script, "javascript", augmented, "sum = sum - x", "something else");
}

#[test]
fn the_catalogue_keeps_its_fixtures() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/optimize");
    let done = run(&["eval", "optimize", "--fixtures", folder, "--json"]);
    let json = done.json();
    let (mut rules, mut hits, mut right) = (0, 0, 0);
    for (language, score) in json.as_object().expect("languages") {
        let number = |key: &str| score[key].as_u64().expect("a number");
        assert_eq!(
            number("covered"),
            number("rules"),
            "{language}: a rule has no fixture of each kind"
        );
        assert_eq!(
            (number("matched"), number("different")),
            (0, 0),
            "{language}: {}",
            score["trouble"]
        );
        // What is installed is run; a machine without Go says so and goes on.
        assert!(
            number("run") == number("hits") || language == "go",
            "{language}: {}",
            score["trouble"]
        );
        (rules, hits, right) =
            (rules + number("rules"), hits + number("hits"), right + number("right"));
    }
    assert!(rules >= 40, "{rules} rules");
    assert_eq!(right, hits, "{json}");
}

/// A ruff that says this of `kept.py`.
#[cfg(unix)]
fn linter(folder: &Path, says: &str) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("ruff");
    let says = says.replace("FILE", "'$PWD'/kept.py");
    std::fs::write(&path, format!("#!/bin/sh\nprintf '%s' '{says}'\nexit 1\n")).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&rest)))
        .expect("a path")
}

#[cfg(unix)]
#[test]
fn linters_propose_what_the_catalogue_has_not_and_unsure_ones_need_a_proof() {
    let text = "def kept(xs: list[int]) -> list[int]:\n    return list(x + 1 for x in xs)\n";
    let (folder, path) = file("kept.py", text);
    let finding = |applicability: &str, new: &str| {
        format!(
            r#"[{{"filename": "FILE", "code": "C400", "message": "Unnecessary generator", "location": {{"row": 2, "column": 12}},
            "end_location": {{"row": 2, "column": 35}}, "fix": {{"message": "Rewrite as a list comprehension", "applicability": "{applicability}",
            "edits": [{{"content": "{new}", "location": {{"row": 2, "column": 12}}, "end_location": {{"row": 2, "column": 35}}}}]}}}}]"#
        )
    };
    let ask = |path_variable: &std::ffi::OsString, more: &[&str]| {
        let mut command = nestling();
        command.env("PATH", path_variable).arg("optimize").arg(&path).arg("--json").args(more);
        Run::of(&mut command)
    };
    let right = "[x + 1 for x in xs]";
    let sure = linter(folder.path(), &finding("safe", right));
    let found = ask(&sure, &[]).json();
    assert_eq!(found["rewrites"][0]["rewrite"]["rule"], "C400", "{found}");
    assert_eq!(found["rewrites"][0]["rewrite"]["function"][0], "kept", "{found}");
    let unsure = linter(folder.path(), &finding("unsafe", right));
    assert_eq!(ask(&unsure, &[]).json()["rewrites"], serde_json::json!([]));
    let proven = ask(&unsure, &["--apply", "--time", "3s"]).json();
    assert_eq!(proven["rewrites"][0]["applied"], true, "{proven}");
    let now = std::fs::read_to_string(&path).expect("a file");
    assert!(now.contains("return [x + 1 for x in xs]\n"), "{now}");
    std::fs::write(&path, text).expect("a file");
    let wrong = linter(folder.path(), &finding("unsafe", "[x + 2 for x in xs]"));
    let refused = ask(&wrong, &["--apply", "--time", "3s"]).json();
    assert_eq!(
        refused["rewrites"],
        serde_json::json!([]),
        "what is unsure and wrong is not offered"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
}

#[test]
fn projects_are_rewritten_as_a_whole_and_what_breaks_them_is_named() {
    let root = tempdir().expect("a folder");
    for name in ["good", "choosy", "broken"] {
        std::fs::create_dir(root.path().join(name)).expect("a folder");
        std::fs::write(root.path().join(name).join("kept.py"), SLOW).expect("a file");
    }
    let list = root.path().join("list.toml");
    let text = r#"
        [[project]]
        folder = "good"
        command = "python3 -c 'import kept; assert kept.kept([1, 2], [2, 3]) == [4]'"
        [[project]]
        folder = "choosy"
        command = "! grep -q 'set(' kept.py"
        [[project]]
        folder = "broken"
        command = "echo never; false"
    "#;
    std::fs::write(&list, text).expect("a file");
    let (list, own) = (list.to_str().expect("UTF-8"), root.path().to_str().expect("UTF-8"));
    let done = run(&["eval", "optimize", "--projects", list, "--root", own, "--json"]).json();
    let [good, choosy, broken] = [0, 1, 2].map(|i| done["projects"][i].clone());
    assert_eq!(
        (good["passes"].as_bool(), good["rewrites"]["py-set-lookup"].as_u64()),
        (Some(true), Some(1))
    );
    assert_eq!(
        (choosy["passes"].as_bool(), &choosy["broken"][0][0]),
        (Some(false), &"py-set-lookup".into())
    );
    assert_eq!(broken["unusable"], "never");
    assert_eq!(std::fs::read_to_string(root.path().join("good/kept.py")).expect("a file"), SLOW);
}
