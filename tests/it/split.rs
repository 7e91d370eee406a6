//! Models in several GGUF files: any part stands for all, wherever a model is named, and what does not belong together
//! is told apart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nestling::model::engine::{Engine, Precision};
use nestling::model::gguf::{self, Gguf, Value};
use nestling::model::quantize::{FileType, write_gguf};
use nestling::model::weights::Weights;
use tempfile::tempdir;

use crate::house::House;
use crate::program::{Run, tiny};

type Metadata = BTreeMap<String, Value>;

/// The test model as one file.
fn whole(folder: &Path) -> PathBuf {
    let path = folder.join("whole.gguf");
    let weights = Weights::open(&tiny()).expect("the test model");
    write_gguf(&weights, "tiny", FileType::Q8_0, &path).expect("a file");
    path
}

fn part_name(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}

/// Cuts a file into parts as llama.cpp's gguf-split does: all metadata in the first, tensors in turn, none in the
/// first if `spared`. `change` is what somebody makes of the metadata of a part.
pub(crate) fn cut(
    file: &Path,
    into: &Path,
    count: usize,
    spared: bool,
    change: impl Fn(usize, &mut Metadata),
) -> Vec<PathBuf> {
    let bytes = std::fs::read(file).expect("the file");
    let Gguf { metadata, tensors } = Gguf::parse(&bytes).expect("a GGUF file");
    let stem = into.file_name().and_then(|name| name.to_str()).expect("a name");
    let first = usize::from(spared);
    let mut paths = Vec::new();
    for number in 0..count {
        let mut own = if number == 0 { metadata.clone() } else { Metadata::new() };
        own.insert("split.no".into(), Value::Integer(number as i64));
        own.insert("split.count".into(), Value::Integer(count as i64));
        own.insert("split.tensors.count".into(), Value::Integer(tensors.len() as i64));
        change(number, &mut own);
        let mine = tensors
            .iter()
            .enumerate()
            .filter(|(at, _)| number >= first && at % (count - first) == number - first);
        let mine: Vec<_> = mine
            .map(|(_, (name, info))| {
                let data = bytes[info.range.clone()].to_vec();
                (name.clone(), info.shape.clone(), info.dtype, data)
            })
            .collect();
        let path = into.with_file_name(part_name(stem, number + 1, count));
        let own: Vec<_> = own.into_iter().collect();
        let mut out = std::fs::File::create(&path).expect("a new file");
        gguf::write(&mut out, &own, &mine).expect("a part");
        paths.push(path);
    }
    paths
}

fn logits(path: &Path) -> Vec<f32> {
    let weights = Weights::open(path).expect("a model");
    let engine = Engine::load(&weights, Precision::Quantized, 64).expect("an engine");
    engine.forward(&mut engine.new_cache(), &[5, 80, 300, 7], 4).expect("logits")
}

fn refusal(path: &Path) -> String {
    Weights::open(path).err().expect("no model").to_string()
}

#[test]
fn any_part_is_the_whole_model() {
    let folder = tempdir().expect("a folder");
    let whole = whole(folder.path());
    let one = Weights::open(&whole).expect("the file");
    for (count, spared) in [(2, false), (4, false), (3, true)] {
        let stem = folder.path().join(format!("cut{count}"));
        let parts = cut(&whole, &stem, count, spared, |_, _| {});
        for part in &parts {
            let weights = Weights::open(part).expect("all parts");
            assert_eq!(weights.fingerprint(), one.fingerprint(), "{}", part.display());
            assert!(weights.file_size > one.file_size);
            assert_eq!(
                weights.tokenizer().expect("a tokenizer").encode("fn main"),
                one.tokenizer().expect("a tokenizer").encode("fn main")
            );
        }
        assert_eq!(logits(&parts[count - 1]), logits(&whole));
    }
    // One part of one is a model like any other, whatever it is called.
    let single = cut(&whole, &folder.path().join("single"), 1, false, |_, _| {});
    std::fs::rename(&single[0], folder.path().join("renamed.gguf")).expect("a name");
    assert_eq!(logits(&folder.path().join("renamed.gguf")), logits(&whole));
}

#[test]
fn what_does_not_belong_together_is_named() {
    let folder = tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let whole = whole(folder.path());
    #[track_caller]
    fn holds(refusal: &str, words: &[&str]) {
        for word in words {
            assert!(refusal.contains(word), "{word:?} is missing: {refusal}");
        }
    }
    let parts = cut(&whole, &at("gone"), 3, false, |_, _| {});
    std::fs::remove_file(&parts[1]).expect("the part");
    for part in [&parts[0], &parts[2]] {
        holds(&refusal(part), &["gone-00002-of-00003.gguf: part 2 of 3 is missing", "again"]);
    }
    // Not called as what it is: where the others are cannot be known.
    std::fs::copy(&parts[2], at("blob")).expect("a copy");
    holds(&refusal(&at("blob")), &["part 3 of 3", "NAME-00003-of-00003.gguf"]);
    std::fs::rename(at("blob"), &parts[1]).expect("a name");
    holds(&refusal(&parts[0]), &["gone-00002", "belongs to another model", "part 2 of 3"]);

    let set = |key: &'static str, of: usize, value: i64| {
        move |number: usize, own: &mut Metadata| {
            if number == of {
                own.insert(key.into(), Value::Integer(value));
            }
        }
    };
    for (key, of, value, words) in [
        ("split.tensors.count", 1, 3, ["lies-00002", "split.tensors.count differ"]),
        ("split.count", 1, 7, ["lies-00002", "part 2 of 2"]),
        ("split.count", 0, i64::from(u16::MAX), ["part 1 of 65535", "not called so"]),
        ("split.count", 0, -1, ["part 1 of 4294967295", "not called so"]),
        ("split.no", 0, i64::from(i32::MAX), ["part 2147483648 of 2", "not called so"]),
        ("split.no", 1, 0, ["lies-00002", "part 2 of 2"]),
    ] {
        let parts = cut(&whole, &at("lies"), 2, false, set(key, of, value));
        holds(&refusal(&parts[0]), &words);
    }
    // All parts agree, and are wrong.
    let all = |value: Value| {
        move |_: usize, own: &mut Metadata| {
            own.insert("split.tensors.count".into(), value.clone());
        }
    };
    let parts = cut(&whole, &at("lies"), 2, false, all(Value::Integer(1_000_000)));
    holds(&refusal(&parts[0]), &["tensors and it says 1000000"]);
    let parts = cut(&whole, &at("lies"), 2, false, all(Value::Text("many".into())));
    holds(&refusal(&parts[0]), &["does not say how many"]);

    // A part of a model of the same name that was cut elsewhere.
    let parts = cut(&whole, &at("mixed"), 2, false, |_, _| {});
    let others = cut(&whole, &at("other"), 2, true, |_, _| {});
    std::fs::copy(&others[1], &parts[1]).expect("a copy");
    holds(&refusal(&parts[0]), &["mixed-00002", "another model", "is in two parts"]);
    let named = |_: usize, own: &mut Metadata| {
        own.insert("general.name".into(), Value::Text("another".into()));
    };
    let parts = cut(&whole, &at("mixed"), 2, false, |_, _| {});
    let others = cut(&whole, &at("other"), 2, false, named);
    std::fs::copy(&others[1], &parts[1]).expect("a copy");
    holds(&refusal(&parts[0]), &["another model", "general.name differ"]);
    // Half a part.
    let parts = cut(&whole, &at("short"), 2, false, |_, _| {});
    let half = std::fs::read(&parts[1]).expect("the part");
    std::fs::write(&parts[1], &half[..half.len() / 2]).expect("less of it");
    holds(&refusal(&parts[0]), &["short-00002", "truncated"]);
}

#[test]
fn models_in_parts_are_imported_from_everywhere() {
    let house = House::new();
    std::fs::create_dir(house.work().join(".git")).expect("a folder");
    let root = house.folder.path();
    let whole = whole(root);
    let expected = logits(&whole);
    let place = |folder: &str| {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).expect("folders");
        folder
    };
    let folder = place("alone");
    let parts = cut(&whole, &folder.join("coder-q8"), 3, true, |_, _| {});
    cut(&whole, &place("llama").join("org_Large_large"), 2, false, |_, _| {});
    cut(&whole, &place("hub/models--org--quants/snapshots/abc").join("q8"), 2, false, |_, _| {});
    let blobs = place("ollama/blobs");
    std::fs::copy(&parts[0], blobs.join("sha256-1")).expect("a blob");
    let layer = serde_json::json!(
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:1"}
    );
    let manifest = serde_json::json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let manifests = place("ollama/manifests/registry.ollama.ai/library/big");
    std::fs::write(manifests.join("latest"), manifest).expect("a manifest");
    let run = |arguments: &[&str]| {
        let mut command = house.command();
        command.args(arguments);
        command.env("OLLAMA_MODELS", root.join("ollama")).env("LLAMA_CACHE", root.join("llama"));
        Run::of(command.env("HF_HUB_CACHE", root.join("hub")))
    };
    let path = |path: &Path| path.to_str().expect("UTF-8").to_string();
    for (what, name) in [
        (path(&parts[1]), "coder-q8"),
        (path(&folder), "coder-q8-2"),
        ("large".into(), "large"),
        ("org/quants".into(), "quants"),
        ("org/quants/q8-00002-of-00002.gguf".into(), "q8"),
    ] {
        let imported = run(&["model", "import", &what]);
        assert_eq!(imported.code, Some(0), "{imported:?}");
        assert!(imported.stderr.contains(&format!("{name} is installed")), "{imported:?}");
    }
    let list = run(&["model", "list", "--json"]).json();
    for model in &list["models"].as_array().expect("a list")[1..] {
        let folder = PathBuf::from(model["path"].as_str().expect("a path"));
        assert!(logits(&folder) == expected, "{model}");
        assert!(!folder.join("model.gguf").exists(), "{model}");
    }
    run(&["model", "use", "large"]);
    let info = run(&["model", "info", "--json"]).json();
    assert_eq!((&info["name"], &info["family"]), (&"large".into(), &"qwen3".into()), "{info}");
    let given = run(&["model", "info", "--json", "--model", &path(&parts[2])]).json();
    assert_eq!(given["name"], "coder-q8", "{given}");
    run(&["model", "import", "big"]).refused(3, &["sha256-1", "part 1 of 3", "not called so"]);
}
