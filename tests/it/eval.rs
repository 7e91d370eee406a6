//! `nestling eval`: each measurement of a model, on small material, and its refusals.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::program::{Run, run};

/// A folder with a few source files of some size, each different.
fn repository(name: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a folder");
    let root = folder.path().join(name);
    std::fs::create_dir_all(root.join("src")).expect("a folder");
    for i in 0..6 {
        let rust: String = (0..12)
            .map(|j| {
                format!("pub fn {name}_{i}_{j}(value: u32) -> u32 {{\n    value + {j}\n}}\n\n")
            })
            .collect();
        let python: String = (0..12)
            .map(|j| format!("def {name}_{i}_{j}(value):\n    return value + {j}\n\n\n"))
            .collect();
        std::fs::write(root.join(format!("src/part_{i}.rs")), rust).expect("a file");
        std::fs::write(root.join(format!("src/part_{i}.py")), python).expect("a file");
    }
    (folder, root)
}

/// A suite of one task with two holes.
fn suite(folder: &Path) -> PathBuf {
    let problem = |line: usize, prompt: &str, suffix: &str, solution: &str| {
        json!({
            "task_id": format!("SingleLineInfilling/Made/0/L{line}"), "entry_point": "double",
            "prompt": prompt, "suffix": suffix, "canonical_solution": solution,
            "test": "def check(double):\n    assert double(4) == 8\n",
        })
        .to_string()
    };
    let path = folder.join("Made-SingleLine.jsonl");
    let lines = [
        problem(0, "def double(x):\n", "    return y\n", "    y = x * 2\n"),
        problem(1, "def double(x):\n    y = x * 2\n", "", "    return y\n"),
    ];
    std::fs::write(&path, lines.join("\n")).expect("a file");
    path
}

#[track_caller]
fn done(arguments: &[&str]) -> Value {
    let run = run(&[&["eval"], arguments, &["--json"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn loss_is_told_by_language_beside_the_ngram_model() {
    let ((_a, held_out), (_b, corpus)) = (repository("first"), repository("second"));
    let json = done(&["loss", "--repo", text(&held_out), "--ngram", text(&corpus)]);
    let languages = json["languages"].as_array().expect("a list");
    let names: Vec<&str> = languages.iter().filter_map(|l| l["language"].as_str()).collect();
    assert_eq!(names, ["rust", "python"], "{json}");
    for language in languages {
        assert_eq!(language["files"], 6);
        for key in ["bits_per_byte", "interval", "ngram_bits_per_byte", "tokens"] {
            assert!(language[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {language}");
        }
        assert!(language["middles"]["bits_per_byte"].as_f64().is_some_and(|x| x > 0.0));
        // Code so alike is child's play for counts.
        assert!(language["ngram_bits_per_byte"].as_f64().is_some_and(|x| x < 3.0), "{json}");
    }
    assert!(json["ngram_tokens"].as_u64().is_some_and(|tokens| tokens > 1000), "{json}");
    let table = run(&["eval", "loss", "--repo", text(&held_out), "--middles", "0"]);
    assert!(table.stdout.contains("bits per byte") && table.stdout.contains("rust"), "{table:?}");
}

#[test]
fn completion_is_told_by_variant_and_repository() {
    let ((folder, first), (_b, second)) = (repository("first"), repository("second"));
    let page = folder.path().join("report.html");
    let lines = folder.path().join("answers.jsonl");
    let files = ["--html", text(&page), "--answers", text(&lines)];
    let repos = ["completion", "--repo", text(&first), text(&second), "--places", "5"];
    let json = done(&[&repos[..], &files].concat());
    for key in ["version", "machine", "options", "variants", "differences"] {
        assert!(!json[key].is_null(), "{key}: {json}");
    }
    assert_eq!((&json["options"]["mode"], &json["options"]["seed"]), (&"rest".into(), &1.into()));
    let variant = &json["variants"][0];
    assert_eq!((&variant["variant"], &variant["places"]), (&"default".into(), &10.into()));
    for key in ["exact", "similarity", "answered", "shown", "completed", "milliseconds_p50"] {
        assert!(variant[key]["value"].is_number(), "{key}: {json}");
    }
    assert!(variant["exact"]["high"].is_number() && variant["reliability"]["brier"].is_number());
    let parts = variant["repositories"].as_array().expect("a list");
    let names: Vec<_> = parts.iter().filter_map(|part| part["repository"].as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("<svg") && page.contains("<mark>"), "{page}");
    let loads = ["src=", "href=", "url(", "@import", "<script"];
    assert!(loads.iter().all(|word| !page.contains(word)), "{page}");
    let lines = std::fs::read_to_string(lines).expect("the answers");
    assert_eq!(lines.lines().count(), 10);
    for line in lines.lines() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        assert!(answer["wanted"].is_string() && answer["variant"] == "default", "{line}");
    }
    for (mode, context) in [("line", "left"), ("rest", "fim")] {
        let json = done(&[&repos[..], &["--mode", mode, "--context", context]].concat());
        assert_eq!(
            (&json["options"]["mode"], &json["options"]["context"]),
            (&mode.into(), &context.into())
        );
    }
    let none = run(&[&["eval"], &repos[..], &["--mode", "block"]].concat());
    none.refused(3, &["first", "no place"]);
}

/// A git repository whose first commit has `files` of [`repository`], and whose second adds to one.
fn history() -> (TempDir, PathBuf) {
    let (folder, root) = repository("first");
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
        let output = git.arg("-C").arg(&root).args(arguments).output().expect("git runs");
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "old"]);
    let path = root.join("src/part_0.py");
    let before = std::fs::read_to_string(&path).expect("a file");
    let added = "def added(value, other):\n    return compute(value, other) + 1\n\n\n";
    std::fs::write(&path, added.to_string() + &before).expect("a file");
    git(&["commit", "-q", "-a", "-m", "two"]);
    (folder, root)
}

#[test]
fn a_repository_is_read_as_of_a_revision() {
    let (folder, root) = history();
    let at = |revision: &str| format!("{}@{revision}", text(&root));
    let commit = |json: &Value| json["variants"][0]["repositories"][0]["revision"].to_string();
    let ask = |repo: &str| done(&["completion", "--places", "3", "--repo", repo]);
    let (old, new) = (ask(&at("old")), ask(text(&root)));
    assert!(commit(&old).len() == 42 && commit(&old) != commit(&new), "{old}");
    assert_eq!(commit(&ask(&at("main"))), commit(&new));
    // What is there as it is written wins.
    let copied = folder.path().join("first@old");
    std::fs::rename(root.join("src"), &copied).expect("a folder");
    assert_eq!(commit(&ask(text(&copied))), "null");

    let refused = |repo: &str, words: &[&str]| {
        run(&["eval", "completion", "--repo", repo]).refused(3, words);
    };
    refused(&at("nowhere"), &["first", "\"nowhere\"", "hash, tag or branch"]);
    refused(&format!("{}@main", text(&copied)), &["no git repository", "\"main\""]);
}

#[test]
fn commits_are_typed_again() {
    let (_folder, root) = history();
    let json = done(&["replay", "--repo", text(&root), "--commits", "3", "--key-ms", "5"]);
    assert_eq!(json["commits"].as_array().map(Vec::len), Some(1), "the first has no parent");
    assert_eq!((&json["hunks"], &json["key_ms"]), (&1.into(), &5.into()), "{json}");
    let number = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key}: {json}"));
    assert_eq!(number("keys_without"), 59, "{json}");
    assert!(number("keys") > 0 && number("keys") <= 59 && number("asked") > 0, "{json}");
    assert!(number("shown") >= number("accepted") && json["saved"].is_number(), "{json}");
    #[cfg(target_os = "linux")]
    assert!(number("memory_peak") > 1_000_000 && json["processor_seconds_per_minute"].is_number());
    let nothing = run(&["eval", "replay", "--repo", &format!("{}@old", text(&root))]);
    nothing.refused(3, &["no commit"]);
    let folder = run(&["eval", "replay", "--repo", text(&root.join("src"))]);
    folder.refused(3, &["no git repository"]);
}

#[test]
fn suites_name_repositories_and_new_lines() {
    let (folder, root) = history();
    let path = folder.path().join("suite.toml");
    let suite = "name = \"mine\"\nmode = \"line\"\ncontext = \"left\"\nplaces = 9\nsince = 0.5\n";
    let write = |dir: &str| {
        let repository = format!("[[repository]]\ndir = \"{dir}\"\nrevision = \"main\"\n");
        std::fs::write(&path, format!("{suite}{repository}")).expect("a file");
    };
    write("first");
    let json = done(&["completion", "--suite", text(&path)]);
    assert_eq!((&json["suite"], &json["options"]["mode"]), (&"mine".into(), &"line".into()));
    let variant = &json["variants"][0];
    // The two lines of code that the second commit added.
    assert_eq!(variant["places"], 2, "{json}");
    assert!(variant["repositories"][0]["since"].is_string(), "{json}");
    write("owner+first");
    let clones = root.parent().expect("a folder");
    let given = ["--clones", text(clones), "--context", "fim", "--places", "1"];
    let json = done(&[&["completion", "--suite", text(&path)], &given[..]].concat());
    assert_eq!(json["variants"][0]["places"], 1);
    assert_eq!(json["options"]["context"], "fim", "{json}");
    let missing = run(&["eval", "completion", "--suite", text(&path)]);
    missing.refused(3, &["owner+first", "--clones"]);
}

#[test]
#[cfg(target_os = "linux")]
fn infilling_runs_programs_and_all_gathers_everything() {
    let (folder, repo) = repository("first");
    let (suite, samples) = (suite(folder.path()), folder.path().join("samples.jsonl"));
    let options = ["--reference", "--weak-sandbox", "--samples", text(&samples)];
    let json = done(&[&["infilling", "--suite", text(&suite)], &options[..]].concat());
    let writers: Vec<_> = json["scores"].as_array().expect("a list").iter().collect();
    assert_eq!(writers.len(), 3, "{json}");
    assert_eq!((&writers[0]["writer"], &writers[0]["passed"]), (&"reference".into(), &2.into()));
    let samples = std::fs::read_to_string(samples).expect("the samples");
    assert_eq!(samples.lines().count(), 6);
    assert!(samples.contains(r#""completion":"    y = x * 2\n""#), "{samples}");
    let options = ["--places", "2", "--middles", "2", "--weak-sandbox"];
    let all = ["all", "--repo", text(&repo), "--suite", text(&suite)];
    let json = done(&[&all[..], &options[..]].concat());
    let parts = ["machine", "model", "engine", "loss", "completion", "completion_left_only"];
    for part in parts.iter().chain(&["infilling"]) {
        assert!(!json[part].is_null(), "{part}: {json}");
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let (folder, repo) = repository("first");
    let refused = |arguments: &[&str], word: &str| {
        let run: Run = run(&[&["eval"], arguments].concat());
        run.refused(3, &[word]);
    };
    refused(&["loss", "--repo", "no/such/folder"], "no/such/folder");
    refused(&["loss", "--repo", text(&repo), "--ngram", "no/such/corpus"], "no/such/corpus");
    refused(&["completion", "--repo", "no/such/folder"], "no/such/folder");
    refused(&["infilling", "--suite", "no/such.jsonl.gz"], "no/such.jsonl.gz");
    let broken = folder.path().join("broken.jsonl");
    std::fs::write(&broken, "{\n").expect("a file");
    refused(&["infilling", "--suite", text(&broken)], "broken.jsonl:1");
    refused(
        &["infilling", "--suite", text(&suite(folder.path())), "--python", "no-python"],
        "no-python",
    );
}

#[test]
fn what_people_corrected_is_looked_for_among_the_proposals() {
    let folder = tempdir().expect("a folder");
    let (root, out) = (folder.path().join("work"), folder.path().join("habits.json"));
    std::fs::create_dir(&root).expect("a folder");
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-C"]);
        assert!(git.arg(&root).args(arguments).status().expect("git runs").success());
    };
    let commit = |message: &str, code: &str| {
        let file =
            format!("def last(items):\n{code}\n\n\ndef first(items):\n    return items[0]\n");
        std::fs::write(root.join("a.py"), file).expect("a file");
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", message]);
    };
    git(&["init", "-q"]);
    commit("start", "    n = len(items)\n    return items[n]");
    let history = ["fix", "--history", "--repo", text(&root)];
    let none: Run = run(&[&["eval"], &history[..]].concat());
    none.refused(3, &["work", "corrects"]);
    commit("fix an off by one", "    n = len(items)\n    return items[n - 1]");
    commit("fix empty lists", "    n = len(items)\n    return items[max(n, 1) - 1] if n else None");
    let json = done(&history);
    let results = json["results"].as_array().expect("a list");
    let mut tried: Vec<bool> = results.iter().map(|r| r["tried"] == true).collect();
    tried.sort_unstable();
    assert_eq!(tried, [false, true], "{json}");
    let found = results.iter().find(|r| r["tried"] == true).expect("one");
    let rank = found["rank"].as_u64().expect("a rank") as usize;
    assert_eq!(found["proposals"][rank]["kind"], "off by one", "{json}");
    let few = run(&[&["eval"], &history[..], &["--fit", text(&out)]].concat());
    few.refused(3, &["1 corrections", "--count"]);
    assert!(!out.exists());
}
