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
fn completion_is_told_by_repository() {
    let ((_a, first), (_b, second)) = (repository("first"), repository("second"));
    let repos = ["completion", "--repo", text(&first), text(&second), "--count", "5"];
    let json = done(&repos);
    assert_eq!((&json["places"], &json["suffix"]), (&10.into(), &true.into()), "{json}");
    for key in ["exact", "answered", "milliseconds", "interval", "edit_similarity", "shown"] {
        assert!(!json[key].is_null(), "{key}: {json}");
    }
    let parts = json["repositories"].as_array().expect("a list");
    let names: Vec<_> = parts.iter().filter_map(|part| part["repository"].as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(done(&[&repos[..], &["--no-suffix"]].concat())["suffix"], false);
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
    let options = ["--count", "2", "--middles", "2", "--weak-sandbox"];
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
