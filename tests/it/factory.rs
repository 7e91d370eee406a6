//! `nestling train` as a person runs it: files in, a model directory out, and back again after a kill.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::{TempDir, tempdir};

use crate::program::{Run, nestling};

/// A shape that trains in a moment and saves at every step.
const RECIPE: &str = "\
[model]
vocab_size = 400
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
[train]
batch = 2
warmup = 5
evaluate_every = 10
save_seconds = 0
[examples]
sequence = 64
";

/// Five small repositories and a recipe beside them.
fn corpus() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    for name in ["amber", "birch", "cedar", "daisy", "elder"] {
        let repository = folder.path().join("code").join(name);
        std::fs::create_dir_all(&repository).unwrap();
        std::fs::write(
            repository.join("LICENSE"),
            "MIT License\n\nPermission is hereby granted, free of charge, to any person",
        )
        .unwrap();
        for file in ["shelf", "clock", "river"] {
            let functions = (0..12).map(|i| {
                let name = format!("{name}_{file}_{i}");
                format!("pub fn {name}(first_{name}: u8) -> u8 {{\n    first_{name} + {i}\n}}\n\n")
            });
            let text: String = functions.collect();
            std::fs::write(repository.join(format!("{file}.rs")), text).unwrap();
        }
    }
    // Names are text, whatever they look like.
    std::fs::write(folder.path().join("code/amber/<i>.xyz"), "unknown").unwrap();
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, RECIPE).unwrap();
    // A list of what to train on, as larger corpora have.
    let list = folder.path().join("list.txt");
    let names = ["amber", "birch", "cedar", "daisy", "elder"];
    let lines = names.map(|name| folder.path().join("code").join(name).display().to_string());
    std::fs::write(&list, lines.join("\n")).unwrap();
    (folder, list)
}

fn train(corpus: &(TempDir, PathBuf), out: &Path, arguments: &[&str]) -> Command {
    let mut command = nestling();
    let recipe = corpus.0.path().join("recipe.toml");
    command.arg("train").arg(&corpus.1).arg("--out").arg(out).arg("--config").arg(recipe);
    command.args(["--size", "tiny"]).args(arguments);
    command
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_killed_run_ends_like_an_unbroken_one() {
    let corpus = corpus();
    let (whole, killed) = (tempdir().unwrap(), tempdir().unwrap());
    let (whole, killed) = (whole.path().join("model"), killed.path().join("model"));
    let arguments = ["--steps", "300", "--range-test", "true", "--json"];
    let run = Run::of(&mut train(&corpus, &whole, &arguments));
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = run.json();

    // What came out is complete, and nothing half-written lies about.
    for name in ["config.json", "tokenizer.json", "model.safetensors", "model.gguf", "train.toml"] {
        assert!(whole.join(name).exists(), "{name}");
    }
    let names: Vec<_> =
        std::fs::read_dir(&whole).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().contains(".part")), "{names:?}");
    let page = read(&whole.join("report.html"));
    assert_eq!(page.matches("<svg").count(), 5, "four curves and the range test");
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http") && !elsewhere.contains("src="), "it loads something");
    assert!(page.contains("&lt;i&gt;.xyz") && !page.contains("<i>"), "a name became markup");
    let card = read(&whole.join("CARD.md"));
    for words in ["| rust |", "MIT", "held out", "Wh", "--steps 300", "found by a range test"] {
        assert!(card.contains(words), "{words} is missing: {card}");
    }
    assert!(!card.contains("Unfinished"), "{card}");
    let described =
        Run::of(nestling().args(["model", "info", "--model"]).arg(whole.join("model.gguf")));
    assert_eq!(described.code, Some(0), "{described:?}");

    // Kill another one twice, as nothing can prevent, and ask for the same again.
    let progress = killed.join("checkpoint/progress.json");
    for (least, resume) in [(20, &[][..]), (120, &["--resume"][..])] {
        let mut command = train(&corpus, &killed, &[&arguments[..], resume].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&progress).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if json["step"].as_u64().is_some_and(|step| step >= least) {
                break;
            }
            let state = child.try_wait().unwrap();
            assert!(state.is_none() && started.elapsed().as_secs() < 120, "{state:?} {text}");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!killed.join("model.gguf").exists(), "it was over before it was killed");
    }
    let run = Run::of(&mut train(&corpus, &killed, &[&arguments[..], &["--resume"]].concat()));
    assert_eq!(run.code, Some(0), "{run:?}");
    let again = run.json();
    for what in ["held_out", "range_test", "learning_rate", "step"] {
        assert_eq!(report["progress"][what], again["progress"][what], "{what}");
    }
    for name in ["model.safetensors", "model.gguf", "train.toml"] {
        let same =
            std::fs::read(whole.join(name)).unwrap() == std::fs::read(killed.join(name)).unwrap();
        assert!(same, "{name} differs");
    }
}

#[test]
fn what_a_resumed_run_cannot_be_is_named_and_nothing_is_changed() {
    let corpus = corpus();
    let folder = tempdir().unwrap();
    let out = folder.path().join("model");
    let run = |arguments: &[&str]| Run::of(&mut train(&corpus, &out, arguments));
    run(&["--resume", "--steps", "4"]).refused(3, &["holds no checkpoint", "--resume"]);
    assert!(!out.exists());
    let first = run(&["--steps", "4"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stderr.contains("bits per byte"), "{first:?}");
    run(&["--steps", "4"]).refused(3, &["earlier run", "--resume"]);
    let recipe = read(&out.join("train.toml"));
    let other = run(&["--steps", "4", "--resume", "--learning-rate", "0.5"]);
    assert_eq!(other.code, Some(3), "{other:?}");
    assert!(other.stderr.contains("learning_rate was 0.008 and is 0.5"), "{other:?}");
    assert_eq!(read(&out.join("train.toml")), recipe);

    // More of the corpus than before.
    let more = corpus.0.path().join("code/amber/more.rs");
    std::fs::write(
        more,
        "pub fn entirely_new_function(argument: u8) -> u8 { argument }\n".repeat(9),
    )
    .unwrap();
    let grown = run(&["--steps", "4", "--resume"]);
    assert_eq!(grown.code, Some(3), "{grown:?}");
    assert!(grown.stderr.contains("corpus.bytes was"), "{grown:?}");
}

#[test]
fn a_run_that_cannot_begin_says_what_would_do() {
    let corpus = corpus();
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let steps = ["--steps", "2"];
    Run::of(&mut train(&corpus, &file, &steps)).refused(3, &["is a file", "--out"]);
    let out = folder.path().join("model");
    let none = Run::of(&mut train(&corpus, &out, &["--steps", "0"]));
    assert_eq!(none.code, Some(2), "{none:?}");
    let wrong = Run::of(&mut train(&corpus, &out, &["--steps", "2", "--learning-rate", "7"]));
    wrong.refused(2, &["learning rate of 7"]);
    let mut command = nestling();
    command.arg("train").arg(&corpus.1).arg("--out").arg(&out);
    let run = Run::of(command.args(["--budget", "1s"]));
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stderr.contains("too small for any model: the smallest (tiny) needs"), "{run:?}");
}
