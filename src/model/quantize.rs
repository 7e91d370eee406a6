//! Writing a model as GGUF: each matrix in a block type, norms and biases in f32, the tokenizer in the
//! metadata. llama.cpp and our own engine read the same file.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor};

use super::config::Family;
use super::gguf::{self, Value};
use super::weights::{Weights, gguf_name};

/// The types that a matrix can be written in, from the largest to the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockType {
    /// 32-bit floats.
    F32,
    /// 8-bit integers in blocks of 32 with a 16-bit scale: 8.5 bits a weight.
    Q8_0,
    /// 6-bit integers in blocks of 256 with 8-bit scales for each 16: 6.6 bits a weight.
    Q6K,
    /// 5-bit integers in blocks of 256 with 6-bit scales and minima for each 32: 5.5 bits a weight.
    Q5K,
    /// The same with 4-bit integers: 4.5 bits a weight.
    Q4K,
    /// 3-bit integers in blocks of 256 with 6-bit scales for each 16: 3.4 bits a weight.
    Q3K,
}

impl BlockType {
    /// All of them, in order.
    pub const ALL: [BlockType; 6] = [
        BlockType::F32,
        BlockType::Q8_0,
        BlockType::Q6K,
        BlockType::Q5K,
        BlockType::Q4K,
        BlockType::Q3K,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        ["f32", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k"][self as usize]
    }

    fn dtype(self) -> GgmlDType {
        match self {
            BlockType::F32 => GgmlDType::F32,
            BlockType::Q8_0 => GgmlDType::Q8_0,
            BlockType::Q6K => GgmlDType::Q6K,
            BlockType::Q5K => GgmlDType::Q5K,
            BlockType::Q4K => GgmlDType::Q4K,
            BlockType::Q3K => GgmlDType::Q3K,
        }
    }

    /// llama.cpp's number of a file that is mostly of this type, for its display only.
    fn number(self) -> i64 {
        [0, 7, 18, 17, 15, 12][self as usize]
    }

    /// Bytes of a matrix of that shape.
    pub fn bytes(self, shape: &[usize]) -> usize {
        let dtype = self.dtype();
        shape.iter().product::<usize>() / dtype.block_size() * dtype.type_size()
    }

    /// This type, or the next larger one whose blocks the rows fill: 256 for the K types, 32 for Q8_0.
    pub fn fitting(self, shape: &[usize]) -> BlockType {
        let fits = |kind: &&BlockType| {
            shape.len() == 2 && shape[1].is_multiple_of(kind.dtype().block_size())
        };
        let larger = BlockType::ALL[..=self as usize].iter().rev();
        larger.copied().find(|kind| fits(&kind)).unwrap_or(BlockType::F32)
    }
}

/// The type of each matrix by its name in the checkpoint.
pub type BlockTypes = BTreeMap<String, BlockType>;

/// Every matrix of the model in `kind`, or in what fits its rows.
pub fn uniform(weights: &Weights, kind: BlockType) -> BlockTypes {
    let matrices = weights.config.tensors().into_iter().filter(|(_, shape)| shape.len() == 2);
    matrices.map(|(name, shape)| (name, kind.fitting(&shape))).collect()
}

/// The values that a matrix has after it was written in `kind` and read again.
pub fn rounded(weights: &Weights, name: &str, kind: BlockType) -> Result<Vec<f32>> {
    let quantized = QTensor::quantize(&weights.dense(name)?, kind.dtype())?;
    Ok(quantized.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

/// Quantizes the matrices and writes the file whole or not at all. Matrices that `types` does not name
/// are written as f32.
///
/// # Errors
/// A matrix whose rows are no whole blocks; a family whose files other engines expect in
/// another row order; a folder that cannot be written.
pub fn write_gguf(weights: &Weights, name: &str, types: &BlockTypes, out: &Path) -> Result<()> {
    let config = &weights.config;
    if config.model_type == Family::Llama {
        anyhow::bail!("writing the llama family is not supported; supported: qwen2, qwen3");
    }
    let mut tensors = Vec::new();
    for (name, shape) in config.tensors() {
        let dense = weights.dense(&name)?;
        let dtype = types.get(&name).copied().unwrap_or(BlockType::F32).dtype();
        let quantized = QTensor::quantize(&dense, dtype).with_context(|| {
            format!(
                "{name} of shape {shape:?} cannot be stored as {dtype:?}: rows must be whole blocks"
            )
        })?;
        tensors.push((gguf_name(&name), shape, dtype, quantized.data()?.into_owned()));
    }
    // The commonest type names the file.
    let count = |kind: BlockType| types.values().filter(|&&k| k == kind).count();
    let mostly = BlockType::ALL.into_iter().max_by_key(|&kind| count(kind));
    let metadata = metadata(weights, name, mostly.unwrap_or(BlockType::F32))?;
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
fn metadata(weights: &Weights, name: &str, kind: BlockType) -> Result<Vec<(String, Value)>> {
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
