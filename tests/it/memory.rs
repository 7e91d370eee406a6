//! The repository as a part of the model: from the command line, in the server, and in the decoder.

use std::path::Path;
use std::sync::Arc;

use nestling::generation::{
    CancelToken, Flow, GenerateOptions, Generated, Generator, Model, ModelSource, Prompt,
};
use nestling::memory::{Focus, FocusCache, Gate, Memory, Mixing};
use nestling::model::engine::Precision;
use nestling::suggest::{Completer, CompletionOptions, ModelCompleter};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::program::{Run, nestling, tiny};

/// A repository in which one file says what another one begins to say.
fn repository() -> (TempDir, String) {
    let folder = tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let body = "    let quokka = marsupial_registry.lookup(\"quokka\", Habitat::Rottnest);\n";
    let lines = |n: usize| format!("pub fn visit_{n}() {{\n{body}    quokka.greet({n});\n}}\n\n");
    write("src/visits.rs", &(0..20).map(lines).collect::<String>());
    write("src/other.rs", "pub fn unrelated(value: u32) -> u32 {\n    value + 1\n}\n");
    write("secret.pem", "let quokka = private_key;\n");
    let here = "use crate::visits;\n\npub fn again() {\n    let quokka = marsup\n}\n";
    write("src/here.rs", here);
    let root = folder.path().to_str().expect("UTF-8").to_string();
    (folder, root)
}

fn run(cache: &Path, arguments: &[&str]) -> Run {
    Run::of(nestling().env("XDG_CACHE_HOME", cache).args(arguments))
}

#[test]
fn what_the_repository_says_is_completed() {
    let ((_folder, root), cache) = (repository(), tempdir().expect("a folder"));
    let place = format!("{root}/src/here.rs:4:24");
    let with = run(cache.path(), &["complete", &place, "--json"]);
    let text = |run: &Run| run.json()["suggestions"][0]["text"].as_str().map(String::from);
    let wanted = "ial_registry.lookup(\"quokka\", Habitat::Rottnest);";
    assert_eq!(text(&with).as_deref(), Some(wanted), "{with:?}");
    let without = run(cache.path(), &["complete", &place, "--no-memory", "--json"]);
    assert_ne!(text(&without).as_deref(), Some(wanted));
}

/// One beginning that goes on in two ways.
#[test]
fn what_stands_behind_the_cursor_chooses_between_lines() {
    let (folder, cache) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    std::fs::create_dir(folder.path().join("src")).expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
    };
    let block = |n: usize, line: &str, behind: &str| {
        format!(
            "def visit_{n}(wombats):\n    burrow = dig_burrow(wombats)\n    {line}\n    {behind}\n\n\n"
        )
    };
    let often = |n| block(n, "burrow.inspect_ceiling(lamp)", "return burrow.map_of_tunnels()");
    write("src/often.py", &(0..3).map(often).collect::<String>());
    let seal = ("burrow.store_for_winter(acorns)", "seal_entrance(burrow)");
    let seldom = |n| block(n, seal.0, seal.1);
    write("src/seldom.py", &(3..5).map(seldom).collect::<String>());
    let complete = |behind: &str| {
        let here = "def again(wombats):\n    burrow = dig_burrow(wombats)\n    \n";
        write("src/here.py", &format!("{here}    {behind}\n"));
        let place = format!("{}/src/here.py:3:5", folder.path().display());
        let json = run(cache.path(), &["complete", &place, "--json"]).json();
        json["suggestions"][0]["text"].as_str().unwrap_or_default().to_string()
    };
    assert_eq!(complete("return burrow.map_of_tunnels()"), "burrow.inspect_ceiling(lamp)");
    assert_eq!(complete(seal.1), seal.0);
}

#[test]
fn it_is_said_where_each_token_was_read() {
    let ((folder, root), cache) = (repository(), tempdir().expect("a folder"));
    let visits = folder.path().join("src/visits.rs");
    let text = std::fs::read_to_string(&visits).expect("a file");
    std::fs::write(&visits, format!("// SPDX-License-Identifier: MIT\n{text}")).expect("a file");
    let place = format!("{root}/src/here.rs:4:24");
    let json = run(cache.path(), &["complete", &place, "--explain", "--json"]).json();
    let shown = json["suggestions"][0]["text"].as_str().expect("a text");
    let pieces = json["explained"].as_array().expect("a list");
    assert_eq!(pieces.iter().filter_map(|piece| piece["text"].as_str()).collect::<String>(), shown);
    let share =
        |piece: &Value, key: &str| piece[key].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p));
    for piece in pieces {
        assert!(["probability", "model", "memory"].iter().all(|key| share(piece, key)), "{piece}");
    }
    let recalled: Vec<&Value> =
        pieces.iter().map(|piece| &piece["origin"]).filter(|o| !o.is_null()).collect();
    assert!(recalled.len() * 2 > pieces.len(), "{json}");
    let text = std::fs::read_to_string(&visits).expect("a file");
    let lines: Vec<&str> = text.lines().collect();
    for origin in recalled {
        assert_eq!((&origin["tier"], &origin["file"]), (&"folder".into(), &"src/visits.rs".into()));
        assert_eq!(origin["licence"], "SPDX-License-Identifier: MIT");
        let line = origin["line"].as_u64().expect("a line") as usize;
        assert!(lines[line - 1].contains("marsupial_registry"), "line {line}: {}", lines[line - 1]);
    }
    let table = run(cache.path(), &["complete", &place, "--explain"]).stdout;
    assert!(
        table.contains("src/visits.rs:") && table.contains("SPDX-License-Identifier: MIT"),
        "{table}"
    );
}

#[test]
fn planted_secrets_never_come_out() {
    let ((folder, root), cache) = (repository(), tempdir().expect("a folder"));
    let key = "AKIAQ3EGZ7WN5TB2XJ4M";
    let token = "x9Kq2Vb7Lm4Rt8Wz1Yc6Nd3P";
    let write = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).expect("a file");
    };
    write(".env", format!("AWS_ACCESS_KEY_ID={key}\nWOMBAT_TOKEN={token}\n").repeat(5));
    write("src/keys.rs", format!("pub const WOMBAT_KEY: &str = \"{key}\";\n").repeat(5));
    write("src/login.rs", format!("pub const WOMBAT_TOKEN: &str = \"{token}\";\n").repeat(5));
    for (name, before) in [
        ("src/a.rs", "pub const WOMBAT_KEY: &str = \""),
        ("src/b.rs", "pub const WOMBAT_TOKEN: &str = \""),
        ("src/c.rs", "AWS_ACCESS_KEY_ID="),
        ("src/d.rs", "WOMBAT_TOKEN="),
    ] {
        write(name, format!("{before}\n"));
        let place = format!("{root}/{name}:1:{}", before.len() + 1);
        let run = run(cache.path(), &["complete", &place, "-n", "5", "--explain", "--json"]);
        for secret in [&key[4..], token] {
            let leaks = (0..secret.len() - 5).any(|at| run.stdout.contains(&secret[at..at + 6]));
            assert!(!leaks, "{name}: {run:?}");
        }
    }
}

#[test]
fn an_index_is_made_once_and_follows_the_files() {
    let ((folder, root), cache) = (repository(), tempdir().expect("a folder"));
    let index = |more: &[&str]| -> Value {
        let run = run(cache.path(), &[&["memory", "index", &root, "--json"], more].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        run.json()["index"].clone()
    };
    let first = index(&[]);
    assert_eq!((&first["read"], &first["is_new"]), (&3.into(), &true.into()), "{first}");
    assert_eq!(index(&[])["read"], 0);
    std::fs::write(folder.path().join("src/new.rs"), "pub fn new() {}\n").expect("a file");
    assert_eq!(index(&[])["read"], 1);
    assert_eq!(index(&["--fresh"])["read"], 4);
    let missing = run(cache.path(), &["memory", "index", "/no/such/folder"]);
    missing.refused(3, &["/no/such/folder", "is no folder"]);
}

/// Asks for the rests of lines all over a text, with drafts and without; steps taken in all by each.
fn rests(generator: &mut Generator, memory: &Memory, text: &str) -> [usize; 2] {
    let tokenizer = memory.tokenizer().clone();
    let mut cache = FocusCache::default();
    let mut steps = [0, 0];
    for (at, _) in text.match_indices(' ').step_by(13) {
        let history = tokenizer.encode(&text[..at]);
        let header = tokenizer.file_header("src/here.rs");
        let from = history.len().saturating_sub(300);
        let tokens = [header.as_slice(), &history[from..]].concat();
        let prompt = Prompt { tokens, healed: Vec::new(), history: history.clone() };
        let texts = [true, false].map(|drafts| {
            let options = GenerateOptions { max_tokens: 24, drafts, ..GenerateOptions::default() };
            let before = history.clone();
            let own = Some("src/here.rs");
            let mut focus =
                Focus::of_tokens(memory, &mut cache, own, &[], before, vec![], Mixing::Gate);
            let mut rule = |_: Generated<'_>| Flow::Continue;
            let cancel = CancelToken::new();
            let done = generator
                .generate("", &prompt, &options, Some(&mut focus), &mut rule, &cancel)
                .expect("a generation");
            steps[usize::from(!drafts)] += done.steps;
            done.text
        });
        assert_eq!(texts[0], texts[1], "after {:?}", &text[at.saturating_sub(40)..at]);
    }
    steps
}

#[test]
fn drafts_change_the_steps_and_nothing_else() {
    let model = Model::load(&ModelSource::Embedded, Precision::Quantized).expect("the model");
    let tokenizer = model.tokenizer.clone();
    let mut generator = Generator::new(model);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/memory");
    let read = |name: &str| std::fs::read_to_string(source.join(name)).expect("a source file");
    let names = ["evidence.rs", "segment.rs", "focus.rs", "gate.rs", "index.rs"];
    let files = names.map(|name| (name, read(name)));
    let memory_of = |copied: bool| {
        // With a copy of the file at another place, everything is a long match; without, little is.
        let files = files.iter().filter(|(name, _)| copied || *name != "segment.rs");
        let files = files.map(|(name, text)| (*name, text.as_str()));
        Memory::of_texts(Path::new("/r"), tokenizer.clone(), files).expect("a memory")
    };
    let text = &files[1].1[..files[1].1.floor_char_boundary(4000)];
    let [with, without] = rests(&mut generator, &memory_of(true), text);
    assert!(with * 9 <= without * 5, "{with} steps with drafts, {without} without");
    let [with, without] = rests(&mut generator, &memory_of(false), text);
    assert!(with <= without, "{with} steps with drafts, {without} without");
}

#[test]
fn a_memory_of_another_tokenizer_is_made_anew() {
    let (work, store) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    std::fs::write(work.path().join("a.rs"), "fn a() {}\n".repeat(9)).expect("a file");
    let tokenizer = |size| {
        let texts = ["fn abc() { let value = 1; }\n".repeat(9)];
        let made = nestling::tokenizer::train(texts.iter().map(String::as_str), size);
        Arc::new(made.expect("a tokenizer"))
    };
    for size in [300, 310, 300] {
        let memory = Memory::open(work.path(), Some(store.path()), tokenizer(size));
        let update = memory.update(1, &|_| {}, &|| true).expect("an update");
        assert_eq!(update.files, 1);
        assert!(update.tokens > 9, "{update:?}");
    }
}

#[test]
fn a_memory_moves_to_a_model_with_the_same_tokens_and_is_weighed_by_its_gate() {
    let ((_folder, root), store) = (repository(), tempdir().expect("a folder"));
    let completer = |source: &ModelSource| {
        let model = Model::load(source, Precision::Quantized).expect("a model");
        let store = Some(store.path().to_path_buf());
        let options = CompletionOptions { store, ..CompletionOptions::default() };
        ModelCompleter::new(Generator::new(model), options)
    };
    let mut first = completer(&ModelSource::Embedded);
    let memory = first.remember(Path::new(&root)).expect("a memory");
    let mut own = completer(&ModelSource::Embedded);
    own.set_gate(Gate::default());
    assert!(own.fits(&memory) && !completer(&ModelSource::Path(tiny())).fits(&memory));
    own.adopt(memory.clone());
    assert_eq!(*memory.shelf().gate, Gate::default());
    first.adopt(memory.clone());
    assert_eq!(*memory.shelf().gate, Gate::shipped());
    // What was fitted to the workspace counts, but not for a model with a gate of its own.
    let mut fitted = serde_json::to_value(Gate::shipped()).expect("JSON");
    fitted["weights"][0][0] = 0.125.into();
    std::fs::write(memory.gate_file().expect("a file"), fitted.to_string()).expect("a file");
    first.adopt(memory.clone());
    assert_eq!(serde_json::to_value(&*memory.shelf().gate).expect("JSON"), fitted);
    own.adopt(memory.clone());
    assert_eq!(*memory.shelf().gate, Gate::default());
}
