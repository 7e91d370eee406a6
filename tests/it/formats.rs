//! What model files hold: every type that matrices come in, and what is said of those that cannot be used.

use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use nestling::model::config::ModelConfig;
use nestling::model::engine::{Engine, Precision};
use nestling::model::family::gguf_name;
use nestling::model::gguf::{self, Value};
use nestling::model::weights::Weights;
use tempfile::tempdir;

use crate::program::{Run, nestling};

/// Each type with the bits that it gives a weight.
const TYPES: [(GgmlDType, i32); 14] = [
    (GgmlDType::F32, 20),
    (GgmlDType::F16, 11),
    (GgmlDType::BF16, 8),
    (GgmlDType::Q4_0, 4),
    (GgmlDType::Q4_1, 4),
    (GgmlDType::Q5_0, 5),
    (GgmlDType::Q5_1, 5),
    (GgmlDType::Q8_0, 8),
    (GgmlDType::Q2K, 2),
    (GgmlDType::Q3K, 3),
    (GgmlDType::Q4K, 4),
    (GgmlDType::Q5K, 5),
    (GgmlDType::Q6K, 6),
    (GgmlDType::Q8K, 8),
];

/// The metadata of a llama whose rows fill the blocks of every type.
fn metadata(hidden: i64, ffn: i64, layers: i64) -> Vec<(String, Value)> {
    let integer = |key: &str, n: i64| (format!("llama.{key}"), Value::Integer(n));
    vec![
        ("general.architecture".into(), Value::Text("llama".into())),
        integer("context_length", 64),
        integer("embedding_length", hidden),
        integer("block_count", layers),
        integer("feed_forward_length", ffn),
        integer("attention.head_count", 4),
        integer("attention.head_count_kv", 2),
        integer("attention.key_length", 64),
    ]
}

fn shape() -> ModelConfig {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 64, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "max_position_embeddings": 64, "tie_word_embeddings": true,
    });
    ModelConfig::from_json(&json.to_string()).expect("a shape")
}

/// A random llama whose matrices, the embedding table among them, are all of that type; returns the values
/// of each tensor before they were rounded.
fn write(path: &Path, kind: GgmlDType) -> Vec<(String, Vec<f32>)> {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let (mut exact, mut tensors) = (Vec::new(), Vec::new());
    for (name, shape) in shape().tensors() {
        let is_vector = shape.len() == 1;
        let (kind, offset) = if is_vector { (GgmlDType::F32, 1.0) } else { (kind, 0.0) };
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| 0.4 * random() + offset).collect();
        let dense = Tensor::from_slice(&values, shape.clone(), &Device::Cpu).expect("a tensor");
        let blocks = QTensor::quantize(&dense, kind).expect("blocks");
        let bytes = blocks.data().expect("bytes").into_owned();
        tensors.push((gguf_name(&name), shape, kind, bytes));
        exact.push((name, values));
    }
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, &metadata(256, 512, 1), &tensors).expect("a file in memory");
    std::fs::write(path, bytes).expect("a new file");
    exact
}

/// |a − b| / |b|.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
    square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut b.iter().copied())
}

#[test]
fn every_type_of_matrix_runs() {
    let directory = tempdir().expect("a temporary directory");
    let tokens: Vec<u32> = (0..24).map(|i| i * 7 % 64).collect();
    for (kind, bits) in TYPES {
        let path = directory.path().join("model.gguf");
        let exact = write(&path, kind);
        let weights = Weights::open(&path).expect("the file");
        for (name, values) in &exact {
            // Rows of queries and keys lie in pairs in such a file.
            if !name.contains("q_proj") && !name.contains("k_proj") {
                let lost = distance(&weights.vector(name).expect("values"), values);
                assert!(lost < 1.6 / f32::powi(2.0, bits), "{kind:?} {name}: {lost}");
            }
        }
        let logits = |precision: Precision| {
            let engine = Engine::load(&weights, precision, 64).expect("a model");
            let mut cache = engine.new_cache();
            // Many rows at once, then one: the kernels differ.
            engine.forward(&mut cache, &tokens, 1).expect("logits");
            engine.forward(&mut cache, &[3], 1).expect("logits")
        };
        // The kernels round what goes into a matrix to 8 bits; the weights are the same.
        let rounded = distance(&logits(Precision::Quantized), &logits(Precision::Float));
        assert!(rounded < 0.05, "{kind:?}: {rounded}");
    }
}

/// Where the type of a tensor stands: behind its name, its rank and its sizes.
fn type_at(bytes: &[u8], tensor: &str, rank: usize) -> usize {
    let name = tensor.as_bytes();
    let at = bytes.windows(name.len()).position(|window| window == name).expect("the tensor");
    at + name.len() + 4 + 8 * rank
}

#[test]
fn a_type_that_cannot_be_run_is_named_with_the_way_out() {
    let directory = tempdir().expect("a temporary directory");
    let path = directory.path().join("small.gguf");
    write(&path, GgmlDType::Q8_0);
    let whole = std::fs::read(&path).expect("the file");
    for (number, name) in [(23u8, "IQ4_XS"), (39, "MXFP4"), (99, "99 (unknown)")] {
        let mut bytes = whole.clone();
        let at = type_at(&bytes, "blk.0.ffn_up.weight", 2);
        bytes[at] = number;
        std::fs::write(&path, bytes).expect("the file again");
        let mut command = nestling();
        let run = Run::of(command.args(["generate", "fn", "--model"]).arg(&path));
        run.refused(3, &["small.gguf", "blk.0.ffn_up.weight", name, "Q4_K_M"]);
        assert!(!run.stderr.contains("download or copy"), "the file is whole: {run:?}");
    }
}

/// Sparse: its terabytes are on no disk.
#[test]
fn a_model_that_does_not_fit_is_refused_before_it_is_read() {
    let directory = tempdir().expect("a temporary directory");
    let path = directory.path().join("giant.gguf");
    let (hidden, ffn, layers) = (1 << 15, 1 << 17, 16);
    let config = ModelConfig {
        hidden_size: hidden,
        intermediate_size: ffn,
        num_hidden_layers: layers,
        ..shape()
    };
    // A head without its bytes: offsets are multiples of the alignment, as sizes are here.
    let mut head = Vec::new();
    let mut size = 0;
    let tensors: Vec<_> = config
        .tensors()
        .into_iter()
        .map(|(name, shape)| (gguf_name(&name), shape, GgmlDType::F32, Vec::new()))
        .collect();
    let metadata = metadata(hidden as i64, ffn as i64, layers as i64);
    gguf::write(&mut head, &metadata, &tensors).expect("a head in memory");
    for (name, shape, ..) in &tensors {
        let at = type_at(&head, name, shape.len()) + 4;
        head[at..at + 8].copy_from_slice(&(size as u64).to_le_bytes());
        size += shape.iter().product::<usize>() * 4;
    }
    std::fs::write(&path, &head).expect("a new file");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
    if let Err(error) = file.set_len((head.len() + size) as u64) {
        return eprintln!("skipped: no sparse file of {size} bytes here ({error})");
    }
    let mut command = nestling();
    let run = Run::of(command.args(["generate", "fn", "--model"]).arg(&path));
    run.refused(3, &["giant.gguf", "GB of memory", "are free", "billion parameters fit"]);
}
