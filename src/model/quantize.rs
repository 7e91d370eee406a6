//! Writing a model as GGUF: matrices in a block type, norms and biases in f32, the tokenizer in the
//! metadata. llama.cpp and our own engine read the same file.

use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::quantized::{GgmlDType, QTensor};

use super::config::Family;
use super::gguf::{self, Value};
use super::weights::{Weights, gguf_name};

/// The types that matrices can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// 32-bit floats.
    F32,
    /// 8-bit integers in blocks of 32 with a 16-bit scale.
    Q8_0,
}

impl FileType {
    fn dtype(self) -> GgmlDType {
        match self {
            FileType::F32 => GgmlDType::F32,
            FileType::Q8_0 => GgmlDType::Q8_0,
        }
    }

    /// llama.cpp's number, for its display only.
    fn number(self) -> i64 {
        match self {
            FileType::F32 => 0,
            FileType::Q8_0 => 7,
        }
    }
}

/// Quantizes every matrix and writes the file whole or not at all.
///
/// # Errors
/// A matrix whose rows are no whole blocks; a family whose files other engines expect in
/// another row order; a folder that cannot be written.
pub fn write_gguf(weights: &Weights, name: &str, kind: FileType, out: &Path) -> Result<()> {
    let (config, dtype) = (&weights.config, kind.dtype());
    if config.model_type == Family::Llama {
        anyhow::bail!("writing the llama family is not supported; supported: qwen2, qwen3");
    }
    let mut tensors = Vec::new();
    for (name, shape) in config.tensors() {
        let dense = weights.dense(&name)?;
        let dtype = if shape.len() == 2 { dtype } else { GgmlDType::F32 };
        let quantized = QTensor::quantize(&dense, dtype).with_context(|| {
            format!(
                "{name} of shape {shape:?} cannot be stored as {dtype:?}: rows must be whole blocks"
            )
        })?;
        tensors.push((gguf_name(&name), shape, dtype, quantized.data()?.into_owned()));
    }
    let metadata = metadata(weights, name, kind)?;
    let temporary = super::safetensors::temporary(out);
    let write = || -> Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(&temporary)?);
        gguf::write(&mut file, &metadata, &tensors)?;
        file.into_inner()?.sync_all()?;
        Ok(std::fs::rename(&temporary, out)?)
    };
    write()
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .with_context(|| format!("cannot write {}", out.display()))
}

fn metadata(weights: &Weights, name: &str, kind: FileType) -> Result<Vec<(String, Value)>> {
    let config = &weights.config;
    let tokenizer = weights.tokenizer()?;
    let mut vocabulary = tokenizer.to_gguf()?;
    // Rows of the embedding table without a token are padding.
    for id in vocabulary.tokens.len()..config.vocab_size {
        vocabulary.tokens.push(format!("[PAD{id}]"));
        vocabulary.types.push(5);
    }
    let integer = |n: usize| Value::Integer(n as i64);
    let text = |s: &str| Value::Text(s.to_string());
    let texts = |list: Vec<String>| Value::List(list.into_iter().map(Value::Text).collect());
    let own = |key: &str| format!("{}.{key}", config.model_type.name());
    let special = |key: &str, token: &str| {
        let id = tokenizer.special(token)?;
        Some((format!("tokenizer.ggml.{key}"), integer(id as usize)))
    };
    let mut metadata = vec![
        ("general.architecture".into(), text(config.model_type.name())),
        ("general.name".into(), text(name)),
        ("general.file_type".into(), Value::Integer(kind.number())),
        ("general.quantization_version".into(), Value::Integer(2)),
        (own("context_length"), integer(config.max_position_embeddings)),
        (own("embedding_length"), integer(config.hidden_size)),
        (own("block_count"), integer(config.num_hidden_layers)),
        (own("feed_forward_length"), integer(config.intermediate_size)),
        (own("attention.head_count"), integer(config.num_attention_heads)),
        (own("attention.head_count_kv"), integer(config.num_key_value_heads)),
        (own("attention.key_length"), integer(config.head_dim)),
        (own("attention.value_length"), integer(config.head_dim)),
        (own("rope.freq_base"), Value::Float(config.rope_theta)),
        (own("attention.layer_norm_rms_epsilon"), Value::Float(config.rms_norm_eps)),
        ("tokenizer.ggml.model".into(), text("gpt2")),
        ("tokenizer.ggml.pre".into(), text(&vocabulary.pre)),
        ("tokenizer.ggml.tokens".into(), texts(vocabulary.tokens)),
        (
            "tokenizer.ggml.token_type".into(),
            Value::List(vocabulary.types.into_iter().map(|t| Value::Integer(t as i64)).collect()),
        ),
        ("tokenizer.ggml.merges".into(), texts(vocabulary.merges)),
        ("tokenizer.ggml.add_bos_token".into(), Value::Bool(false)),
    ];
    metadata.extend(special("eos_token_id", "<|end|>"));
    metadata.extend(special("fim_pre_token_id", "<|prefix|>"));
    metadata.extend(special("fim_suf_token_id", "<|suffix|>"));
    metadata.extend(special("fim_mid_token_id", "<|middle|>"));
    Ok(metadata)
}
