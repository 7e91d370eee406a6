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

const TYPES: [GgmlDType; 14] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
    GgmlDType::Q8K,
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

/// A random llama whose matrices, the embedding table among them, are all of that type.
fn write(path: &Path, kind: GgmlDType) {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let tensors = shape().tensors().into_iter().map(|(name, shape)| {
        let kind = if shape.len() == 1 { GgmlDType::F32 } else { kind };
        let offset = if shape.len() == 1 { 1.0 } else { 0.0 };
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| 0.4 * random() + offset).collect();
        let dense = Tensor::from_vec(values, shape.clone(), &Device::Cpu).expect("a tensor");
        let blocks = QTensor::quantize(&dense, kind).expect("blocks");
        (gguf_name(&name), shape, kind, blocks.data().expect("bytes").into_owned())
    });
    let tensors: Vec<_> = tensors.collect();
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, &metadata(256, 512, 1), &tensors).expect("a file in memory");
    std::fs::write(path, bytes).expect("a new file");
}

#[test]
fn every_type_of_matrix_runs() {
    let directory = tempdir().expect("a temporary directory");
    let tokens: Vec<u32> = (0..24).map(|i| i * 7 % 64).collect();
    let logits = |path: &Path, precision: Precision| {
        let weights = Weights::open(path).expect("the file");
        let engine = Engine::load(&weights, precision, 64).expect("a model");
        let mut cache = engine.new_cache();
        // Many rows at once, then one: the kernels differ.
        engine.forward(&mut cache, &tokens, 1).expect("logits");
        engine.forward(&mut cache, &[3], 1).expect("logits")
    };
    let distance = |a: &[f32], b: &[f32]| {
        let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut b.iter().copied())
    };
    let whole = directory.path().join("whole.gguf");
    write(&whole, GgmlDType::F32);
    let exact = logits(&whole, Precision::Float);
    for kind in TYPES {
        let path = directory.path().join(format!("{kind:?}.gguf"));
        write(&path, kind);
        let dense = logits(&path, Precision::Float);
        // The kernels round what goes into a matrix to 8 bits; the weights are the same.
        let rounded = distance(&logits(&path, Precision::Quantized), &dense);
        assert!(rounded < 0.05, "{kind:?}: {rounded}");
        let lost = distance(&dense, &exact);
        let bound = match kind {
            GgmlDType::Q2K => 0.8,
            GgmlDType::Q3K => 0.5,
            GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q4K => 0.35,
            _ => 0.15,
        };
        assert!(lost < bound, "{kind:?}: {lost}");
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
    run.refused(3, &["giant.gguf", "GB of memory", "are free", "Q4_K_M"]);
}
