//! The command line: what each command prints, and how it refuses what it cannot use.

use std::path::Path;

use proptest::prelude::*;
use tempfile::tempdir;

use crate::program::{Run, listing, nestling, place_after, project, run, tiny};

/// Places at which even a tiny model has something to say.
fn places() -> [String; 4] {
    [
        place_after("rust/src/span.rs", "pub fn merge(&"),
        place_after("rust/src/lib.rs", "pub use "),
        place_after("python/pantry/items.py", "def is_empty(self) -> bool:\n        return "),
        place_after("python/pantry/shopping.py", "for shelf in "),
    ]
}

/// The first of the places at which these options bring a suggestion.
#[track_caller]
fn complete(options: &[&str]) -> (String, Run) {
    for place in places() {
        let run = run(&[&["complete", &place], options].concat());
        match run.code {
            Some(0) => return (place, run.done()),
            Some(1) => assert!(run.stderr.contains("nothing is suggested here: "), "{run:?}"),
            _ => panic!("{place}: {run:?}"),
        }
    }
    panic!("silence at every place");
}

#[test]
fn complete_prints_the_suggestion() {
    let (_, run) = complete(&[]);
    assert!(!run.stdout.trim().is_empty());
}

#[test]
fn complete_as_json_says_what_goes_where() {
    let (place, run) = complete(&["--json"]);
    let json = run.json();
    assert_eq!(json["silence"], serde_json::Value::Null);
    let suggestion = &json["suggestions"][0];
    assert!(suggestion["text"].as_str().is_some_and(|text| !text.trim().is_empty()), "{json}");
    let probability = suggestion["probability"].as_f64().expect("a probability");
    assert!((0.0..=1.0).contains(&probability), "{json}");
    let (start, end) = (&suggestion["range"]["start"], &suggestion["range"]["end"]);
    let at = |end: &str| place.ends_with(end);
    assert!(at(&format!(":{}:{}", start["line"], start["column"])), "{place}: {json}");
    assert!(end["column"].as_u64() >= start["column"].as_u64(), "{json}");
    for key in ["prompt_tokens", "generated_tokens", "milliseconds"] {
        assert!(json["timing"][key].as_f64().is_some_and(|n| n > 0.0), "{key}: {json}");
    }
}

#[test]
fn several_suggestions_are_different_ones() {
    let mut most = 0;
    for place in places() {
        let json = run(&["complete", &place, "-n", "3", "--json"]).json();
        let suggestions = json["suggestions"].as_array().expect("a list");
        let mut texts: Vec<_> = suggestions.iter().map(|s| s["text"].as_str()).collect();
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count, "{json}");
        assert!(count <= 3, "{json}");
        most = most.max(count);
    }
    assert!(most > 1, "never more than one");
}

#[test]
fn silence_has_a_reason_and_its_own_exit_code() {
    let directory = tempdir().expect("a temporary directory");
    let file = directory.path().join("empty.rs");
    std::fs::write(&file, "").expect("a new file");
    let run = run(&["complete", &format!("{}:1:1", file.display()), "--json"]);
    let json = run.json();
    let is_silent = json["suggestions"].as_array().is_some_and(Vec::is_empty);
    assert_eq!(is_silent, json["silence"].is_string(), "{json}");
    assert_eq!(run.code, Some(i32::from(is_silent)), "{run:?}");
    assert_eq!(run.stderr.contains("nothing is suggested here: "), is_silent, "{run:?}");
}

#[test]
fn a_place_that_does_not_exist_is_wrong_use() {
    let file = project("rust/src/lib.rs");
    let refused = |place: String, words: &[&str]| run(&["complete", &place]).refused(2, words);
    refused(format!("{file}:9:1"), &[&file, "there is no line 9", "the file has 8"]);
    refused(format!("{file}:1:900"), &[&file, "line 1", "its last column is"]);
    for place in ["", ":", ":1", ":1:", ":0:1", ":1:0", ":-1:1", ":1:x", ":1:99999999999999999999"]
    {
        refused(format!("{file}{place}"), &[&file, "write FILE:LINE:COL"]);
    }
}

#[test]
fn the_last_place_of_a_file_is_one() {
    let file = project("rust/src/lib.rs");
    let run = run(&["complete", &format!("{file}:8:1")]);
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
}

#[test]
fn files_that_are_no_source_text_are_refused() {
    let directory = tempdir().expect("a temporary directory");
    let write = |name: &str, content: &[u8]| {
        std::fs::write(directory.path().join(name), content).expect("a new file");
    };
    write("binary.rs", b"fn main() {\0}");
    write("latin.rs", b"// caf\xe9\n");
    let large = std::fs::File::create(directory.path().join("large.rs")).expect("a new file");
    large.set_len(50_000_001).expect("a sparse file");
    std::fs::create_dir(directory.path().join("folder")).expect("a new directory");
    let before = listing(directory.path());
    for (name, words) in [
        ("missing.rs", ["no such file", "Check the path"]),
        ("folder", ["is a directory", "Name a file"]),
        ("binary.rs", ["is a binary file", "Name a text file"]),
        ("latin.rs", ["is not UTF-8 (byte 6)", "Convert it"]),
        ("large.rs", ["50000001 bytes", "Name a smaller file"]),
    ] {
        let mut command = nestling();
        let place = format!("{name}:1:1");
        command.current_dir(directory.path()).arg("--model").arg(tiny());
        let run = Run::of(command.args(["complete", &place]));
        run.refused(3, &[&[name], &words[..]].concat());
    }
    assert_eq!(listing(directory.path()), before, "something was written");
}

/// Asks for a model at `model`, a path in `directory`, and expects a refusal with these words.
#[track_caller]
fn check_model_refused(directory: &Path, model: &str, words: &[&str]) {
    let before = listing(directory);
    let place = place_after("rust/src/lib.rs", "pub use");
    for arguments in [&["complete", &place][..], &["model", "info"], &["generate", "fn"]] {
        let mut command = nestling();
        let command = command.current_dir(directory).args(["--model", model]).args(arguments);
        Run::of(command).refused(3, &[&[model], words].concat());
    }
    assert_eq!(listing(directory), before, "something was written");
}

/// A copy of the test model in a directory of its own, as `model`, after a change.
#[track_caller]
fn check_broken_directory(change: impl FnOnce(&Path), words: &[&str]) {
    let directory = tempdir().expect("a temporary directory");
    let copy = directory.path().join("model");
    std::fs::create_dir(&copy).expect("a new directory");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(tiny().join(name), copy.join(name)).expect("a copy of the test model");
    }
    change(&copy);
    check_model_refused(directory.path(), "model", words);
}

#[test]
fn a_model_that_is_not_there_is_refused() {
    let directory = tempdir().expect("a temporary directory");
    std::fs::create_dir(directory.path().join("hollow")).expect("a new directory");
    check_model_refused(directory.path(), "missing.gguf", &["no such file", "give a GGUF file"]);
    check_model_refused(directory.path(), "hollow", &["config.json", "a model directory needs"]);
}

#[test]
fn broken_model_directories_are_refused() {
    let weights = "model.safetensors";
    let read = |file: &Path| std::fs::read(file).expect("the test model");
    let write = |file: &Path, content: &[u8]| std::fs::write(file, content).expect("a new file");
    let without = |name: &'static str| {
        move |model: &Path| std::fs::remove_file(model.join(name)).expect("the test model")
    };
    check_broken_directory(without(weights), &["model: ", "holds no *.safetensors", "again"]);
    check_broken_directory(without("tokenizer.json"), &["model/tokenizer.json", "needs"]);
    check_broken_directory(
        |model| {
            let bytes = read(&model.join(weights));
            write(&model.join(weights), &bytes[..bytes.len() / 2]);
        },
        &["model/model.safetensors", "again"],
    );
    check_broken_directory(
        |model| {
            let mut bytes = read(&model.join(weights));
            bytes[..8].fill(0xff);
            write(&model.join(weights), &bytes);
        },
        &["model/model.safetensors", "again"],
    );
    check_broken_directory(
        |model| write(&model.join("config.json"), b"{\"model_type\": \"gpt_neox\"}"),
        &["model/config.json", "\"gpt_neox\" cannot be run", "supported: llama, qwen2, qwen3"],
    );
    check_broken_directory(
        |model| {
            let config = String::from_utf8(read(&model.join("config.json"))).expect("UTF-8");
            let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
            config["num_hidden_layers"] = 7.into();
            write(&model.join("config.json"), config.to_string().as_bytes());
        },
        &["tensor model.layers.", "is missing", "again"],
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    check_broken_directory(
        |model| {
            let file = model.join("tokenizer.json");
            let text = std::fs::read_to_string(&file).expect("the test model");
            let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let vocabulary = json["model"]["vocab"].as_object_mut().expect("a vocabulary");
            let count = vocabulary.len();
            for id in count..count + 500 {
                vocabulary.insert(format!("token{id}"), id.into());
            }
            std::fs::write(file, json.to_string()).expect("a new file");
        },
        &["model/tokenizer.json", "do not belong together", "that came with"],
    );
    check_broken_directory(
        |model| std::fs::write(model.join("tokenizer.json"), "words").expect("a new file"),
        &["model/tokenizer.json", "not a tokenizer.json", "again"],
    );
}

/// The test model as a GGUF file of these bytes.
fn gguf() -> Vec<u8> {
    let directory = tempdir().expect("a temporary directory");
    let file = directory.path().join("tiny.gguf");
    let run = Run::of(nestling().arg("quantize").arg(tiny()).arg("--out").arg(&file));
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{run:?}");
    std::fs::read(file).expect("the file that was written")
}

#[test]
fn broken_gguf_files_are_refused() {
    let directory = tempdir().expect("a temporary directory");
    let whole = gguf();
    let mut huge_count = whole.clone();
    huge_count[8..16].fill(0xff);
    let mut version = whole.clone();
    version[4] = 99;
    for (name, bytes, word) in [
        ("empty.gguf", &[][..], "is empty"),
        ("words.gguf", b"once upon a time", "not a GGUF file"),
        ("header.gguf", &whole[..whole.len() / 50], "truncated"),
        ("tensors.gguf", &whole[..whole.len() - 1], "truncated"),
        ("count.gguf", &huge_count, "exceeds the file"),
        ("version.gguf", &version, "version 99"),
    ] {
        std::fs::write(directory.path().join(name), bytes).expect("a new file");
        let way_out = if name == "version.gguf" { "supported: 2 and 3" } else { "again" };
        check_model_refused(directory.path(), name, &[word, way_out]);
    }
}

#[test]
fn a_quantized_model_is_the_model() {
    let directory = tempdir().expect("a temporary directory");
    let file = directory.path().join("small.gguf");
    std::fs::write(&file, gguf()).expect("a new file");
    let info = |model: &Path| {
        let run = Run::of(nestling().args(["model", "info", "--json", "--model"]).arg(model));
        run.done().json()
    };
    let (small, large) = (info(&file), info(&tiny()));
    assert_eq!((&small["name"], &small["embedded"]), (&"small".into(), &false.into()));
    for key in ["family", "parameters", "context", "vocabulary", "fim_layout"] {
        assert!(!large[key].is_null(), "{large}");
        assert_eq!(small[key], large[key], "{key}");
    }
    let bytes = std::fs::metadata(&file).expect("metadata").len();
    assert_eq!(small["file_bytes"].as_u64(), Some(bytes));
    assert!(small["file_bytes"].as_u64() < large["file_bytes"].as_u64());
}

#[test]
fn a_quantized_model_is_written_whole_or_not_at_all() {
    let directory = tempdir().expect("a temporary directory");
    let before = listing(directory.path());
    let quantize = |source: &Path, out: &str| {
        let mut command = nestling();
        Run::of(
            command.current_dir(directory.path()).arg("quantize").arg(source).args(["--out", out]),
        )
    };
    quantize(&tiny(), "no/such/folder.gguf").refused(3, &["no/such/folder.gguf", "cannot write"]);
    quantize(Path::new("missing"), "new.gguf").refused(3, &["missing", "no such file"]);
    assert_eq!(listing(directory.path()), before, "something was written");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happened to a model file, the program works with it or says that it cannot.
    #[test]
    fn no_model_file_brings_the_program_down(
        flips in prop::collection::vec((0.0..1.0f64, any::<bool>(), any::<u8>()), 0..6),
        kept in prop_oneof![3 => Just(1.0), 1 => 0.0..1.0f64],
    ) {
        thread_local!(static WHOLE: Vec<u8> = gguf());
        let mut bytes = WHOLE.with(Clone::clone);
        for (at, is_in_header, byte) in flips {
            // Half of the blows hit what everything else depends on.
            let reach = if is_in_header { 1500.min(bytes.len()) } else { bytes.len() };
            bytes[(at * reach as f64) as usize] = byte;
        }
        bytes.truncate((kept * bytes.len() as f64) as usize);
        let directory = tempdir()?;
        std::fs::write(directory.path().join("some.gguf"), bytes)?;
        let mut command = nestling();
        command.current_dir(directory.path()).args(["--model", "some.gguf"]);
        let run = Run::of(command.args(["generate", "fn main", "--max-tokens", "4"]));
        match run.code {
            Some(0) => prop_assert!(run.stdout.ends_with('\n'), "{:?}", run),
            Some(3) => run.refused(3, &["some.gguf: "]),
            _ => prop_assert!(false, "{:?}", run),
        }
    }
}

#[test]
fn generate_says_the_same_twice() {
    let say = |options: &[&str]| {
        let arguments = [&["generate", "fn main() {", "--max-tokens", "24"], options].concat();
        run(&arguments).done().stdout
    };
    let text = say(&[]);
    assert!(!text.trim().is_empty());
    assert_eq!(say(&["--temperature", "0"]), text);
    let wild = ["--temperature", "1.5", "--seed", "7"];
    assert_eq!(say(&wild), say(&wild));
    assert_ne!(say(&wild), say(&["--temperature", "1.5", "--seed", "8"]));
}

#[test]
fn generate_refuses_a_temperature_that_is_none() {
    for wrong in ["99", "nan", "inf"] {
        run(&["generate", "x", "--temperature", wrong]).refused(2, &["--temperature", "0…10"]);
    }
}

#[test]
fn doctor_names_each_part() {
    let run = run(&["doctor", "--json"]);
    let json = run.json();
    let checks = json["checks"].as_array().expect("a list");
    for part in ["processor", "model", "memory", "languages", "nvim", "code"] {
        let check = checks.iter().find(|check| check["check"] == part);
        let check = check.unwrap_or_else(|| panic!("no {part}: {json}"));
        assert!(check["detail"].as_str().is_some_and(|text| !text.is_empty()), "{check}");
    }
    // Only a processor without the fast instructions may be found wanting here.
    assert_eq!(run.code, Some(i32::from(json["ok"] != true)), "{json}");
    assert!(checks.iter().all(|c| c["ok"] == true || c["check"] == "processor"), "{json}");
}

#[test]
fn doctor_says_why_a_model_does_not_work() {
    let run = Run::of(nestling().args(["--model", "missing.gguf", "doctor", "--json"]));
    let json = run.json();
    let checks = json["checks"].as_array().expect("a list");
    let model = checks.iter().find(|check| check["check"] == "model").expect("a check");
    assert_eq!((run.code, &model["ok"]), (Some(1), &false.into()), "{json}");
    assert!(model["detail"].as_str().is_some_and(|text| text.contains("missing.gguf")), "{json}");
}

#[test]
fn eval_engine_gives_its_figures() {
    let sizes = ["--prompt-tokens", "32", "--decode-tokens", "8", "--rounds", "1"];
    let json = run(&[&["eval", "engine", "--json"], &sizes[..]].concat()).done().json();
    for key in ["prefill_tok_s", "decode_tok_s"] {
        assert!(json[key].as_f64().is_some_and(|speed| speed > 0.0), "{json}");
    }
}
