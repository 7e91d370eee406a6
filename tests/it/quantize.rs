//! Quantized files: what the engine computes with them, and how they are chosen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nestling::model::engine::{Engine, Precision};
use nestling::model::groups::{Group, Part};
use nestling::model::quantize::{FileType, Plan, file_size, write_plan};
use nestling::model::transformer::Transformer;
use nestling::model::weights::Weights;
use serde_json::Value;
use tempfile::tempdir;

use crate::program::{Run, listing, nestling, tiny};

/// A network whose rows fill the blocks of K-quants.
fn base() -> Weights {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base/model.gguf");
    Weights::open(&path).expect("the default model")
}

/// Every type at once: layers alternate, and each part differs from its neighbours.
fn mixed(weights: &Weights) -> Plan {
    let mut plan = Plan::uniform(&weights.config, FileType::Q8_0);
    for (group, kind) in &mut plan.kinds {
        *kind = match (group.part, group.layer % 2) {
            (Part::Embedding | Part::Head | Part::FeedForwardOut, _) => FileType::Q6K,
            (Part::AttentionIn, 0) | (Part::FeedForwardIn, 1) => FileType::Q4K,
            (Part::AttentionOut, _) => FileType::Q4K,
            _ => FileType::Q8_0,
        };
    }
    plan
}

fn tokens(weights: &Weights) -> Vec<u32> {
    let tokenizer = weights.tokenizer().expect("a tokenizer");
    let code =
        "fn largest(values: &[i64]) -> Option<i64> {\n    let mut best = None;\n    for value";
    let mut tokens = tokenizer.encode(code);
    tokens.truncate(24);
    tokens
}

/// Relative distance: |a − b| / |b|.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    };
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[test]
fn a_mixed_file_computes_what_its_weights_say() {
    let (directory, source) = (tempdir().expect("a directory"), base());
    let (file, plan) = (directory.path().join("mixed.gguf"), mixed(&source));
    write_plan(&source, "mixed", &plan, &file).expect("a file");
    let written = std::fs::metadata(&file).expect("metadata").len();
    assert_eq!(file_size(&source, "mixed", &plan).expect("a size"), written);
    let weights = Weights::open(&file).expect("the file");
    for (name, shape) in weights.config.tensors() {
        assert_eq!(weights.stored_type(&name), plan.stored(&name, &shape).name(), "{name}");
    }
    let tokens = tokens(&weights);
    let exact = Transformer::new(&weights.config, &mut |name, _| {
        Ok(weights.dense(name).expect("the file holds every tensor"))
    });
    let exact = exact.and_then(|model| model.logits(&tokens, tokens.len())).expect("logits");
    let exact = exact.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");

    let all = |engine: &Engine| {
        engine.forward(&mut engine.new_cache(), &tokens, tokens.len()).expect("logits")
    };
    let engine = Engine::load(&weights, Precision::Quantized, 64).expect("an engine");
    let float = Engine::load(&weights, Precision::Float, 64).expect("an engine");
    assert!(distance(&all(&float), &exact) < 1e-4);
    // The kernels round the activations to 8 bits.
    let together = all(&engine);
    let off = distance(&together, &exact);
    assert!(off < 0.02, "{off}");
    // In memory as from the file, to the bit.
    let planned = Engine::planned(&source, &plan, 64).expect("an engine");
    assert_eq!(all(&planned), together);
    // One token at a time goes through other kernels.
    let mut cache = engine.new_cache();
    let one_by_one: Vec<f32> = tokens
        .iter()
        .flat_map(|&token| engine.forward(&mut cache, &[token], 1).expect("logits"))
        .collect();
    let off = distance(&one_by_one, &exact);
    assert!(off < 0.02, "{off}");
}

#[test]
fn a_group_changes_alone() {
    let source = base();
    let (from, to) = (Plan::uniform(&source.config, FileType::Q8_0), mixed(&source));
    let mut engine = Engine::planned(&source, &from, 64).expect("an engine");
    let tokens = tokens(&source);
    let all = |engine: &Engine| {
        engine.forward(&mut engine.new_cache(), &tokens, tokens.len()).expect("logits")
    };
    let before = all(&engine);
    for group in Group::all(&source.config).into_keys() {
        engine.replan(&source, &to, group).expect("the group");
    }
    let wanted = all(&Engine::planned(&source, &to, 64).expect("an engine"));
    assert_eq!(all(&engine), wanted);
    assert_ne!(before, wanted);
}

#[test]
fn smaller_types_are_farther_and_importance_helps() {
    let source = base();
    let name = "model.layers.0.mlp.gate_proj.weight";
    let group = Group { part: Part::FeedForwardIn, layer: 0 };
    let exact = source.vector(name).expect("weights");
    // A tenth of the inputs carries nearly everything.
    let width = source.config.hidden_size;
    let moments: Vec<f32> = (0..width).map(|i| if i % 10 == 0 { 1.0 } else { 0.001 }).collect();
    let importance = moments.clone();
    let error = |kind, moments: Option<&Vec<f32>>| {
        let mut plan = Plan::uniform(&source.config, kind);
        plan.moments = moments.map(|m| BTreeMap::from([(group, m.clone())])).unwrap_or_default();
        let directory = tempdir().expect("a directory");
        let file = directory.path().join("one.gguf");
        write_plan(&source, "one", &plan, &file).expect("a file");
        let quantized = Weights::open(&file).and_then(|w| w.vector(name)).expect("weights");
        let each = exact.iter().zip(&quantized).zip(importance.iter().cycle());
        each.map(|((a, b), moment)| f64::from((a - b).powi(2) * moment)).sum::<f64>()
    };
    let large = error(FileType::Q6K, None);
    let small = error(FileType::Q4K, None);
    let fitted = error(FileType::Q4K, Some(&moments));
    assert!(large < small / 4.0, "{large} {small}");
    assert!(fitted < small * 0.9, "{fitted} {small}");
}

/// Runs `quantize` on a model with these arguments, into a directory that is returned.
fn quantize(model: &Path, arguments: &[&str]) -> (tempfile::TempDir, PathBuf, Run) {
    let directory = tempdir().expect("a directory");
    let out = directory.path().join("small.gguf");
    let mut command = nestling();
    command.arg("quantize").arg(model).arg("--out").arg(&out).args(arguments);
    let run = Run::of(&mut command);
    (directory, out, run)
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["report"]["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
}

#[test]
fn auto_measures_and_keeps_its_promise() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base/model.gguf");
    let directory = tempdir().expect("a directory");
    let picture = directory.path().join("picture.svg");
    let arguments = [
        "--type",
        "auto",
        "--places",
        "4",
        "--rounds",
        "1",
        "--json",
        "--max-loss",
        "100",
        "--picture",
    ];
    let arguments = [&arguments[..], &[picture.to_str().expect("UTF-8")]].concat();
    let (_kept, out, run) = quantize(&model, &arguments);
    assert_eq!(run.code, Some(0), "{run:?}");
    let json = run.json();
    let (auto, full) = (row(&json, "auto"), row(&json, "q8_0"));
    assert!(auto["top1"].as_f64() >= Some(97.0), "{json}");
    assert!(auto["bytes"].as_u64() <= full["bytes"].as_u64(), "{json}");
    assert_eq!(auto["bytes"].as_u64(), std::fs::metadata(&out).ok().map(|m| m.len()));
    assert!(row(&json, "f32")["kl"].as_f64() < Some(1e-6), "{json}");
    let kl = |name: &str| row(&json, name)["kl"].as_f64().expect("a number");
    assert!(kl("q8_0") < kl("q6_k") && kl("q6_k") < kl("q4_k"), "{json}");
    let picture = std::fs::read_to_string(picture).expect("a picture");
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    for name in ["f32", "q8_0", "q6_k", "q4_k", "auto"] {
        assert!(picture.contains(&format!(">{name}</text>")), "{name}");
    }
}

#[test]
fn what_cannot_be_had_is_refused_with_the_table() {
    let (directory, _, run) = quantize(
        &tiny(),
        &["--type", "auto", "--places", "4", "--rounds", "1", "--max-size", "10%"],
    );
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.contains("q8_0") && run.stdout.contains("bits per byte"), "{run:?}");
    assert!(run.stdout.contains("refused: ") && run.stdout.contains("is the least"), "{run:?}");
    assert!(listing(directory.path()).is_empty(), "something was written");
    quantize(&tiny(), &["--max-size", "10%"]).2.refused(2, &["--max-size", "auto"]);
}

#[test]
fn rows_that_fill_no_blocks_get_a_larger_type() {
    let (_directory, out, run) = quantize(&tiny(), &["--type", "q4_k"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("do not fill blocks: stored as q8_0"), "{run:?}");
    let info = Run::of(nestling().args(["model", "info", "--json", "--model"]).arg(&out)).done();
    let types = &info.json()["types"];
    assert_eq!(types["feed-forward out"], "q4_k", "{types}");
    assert_eq!(types["attention in"], "q8_0", "{types}");
}
