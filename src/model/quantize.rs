//! Which type each matrix gets, and writing a model as GGUF: matrices in block types, norms and biases
//! in f32, the tokenizer in the metadata. llama.cpp and our own engine read the same file.
//!
//! K-quants are blocks of 256 weights whose scales are quantized themselves. Their scales are searched so
//! that the squared error of a row is least where its inputs are large: each weight's error counts by the
//! mean square of its input ([`Moments`]), llama.cpp's idea of an importance matrix.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor};
use rayon::prelude::*;

use super::config::ModelConfig;
use super::family::gguf_name;
use super::gguf::{self, Value};
use super::groups::{Group, Part, types_by_part};
use super::weights::Weights;
use crate::files;

/// The types that matrices can be written in, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum FileType {
    /// 32-bit floats.
    #[serde(rename = "f32")]
    F32,
    /// 8-bit integers in blocks of 32 with a 16-bit scale: 8.5 bits per weight.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 6-bit integers in blocks of 256 with 16 scales of 8 bits: 6.56 bits per weight.
    #[serde(rename = "q6_k")]
    Q6K,
    /// 4-bit integers in blocks of 256 with 8 scales and minima of 6 bits: 4.5 bits per weight.
    #[serde(rename = "q4_k")]
    Q4K,
}

impl FileType {
    /// All of them, largest first.
    pub const ALL: [FileType; 4] = [FileType::F32, FileType::Q8_0, FileType::Q6K, FileType::Q4K];

    fn dtype(self) -> GgmlDType {
        match self {
            FileType::F32 => GgmlDType::F32,
            FileType::Q8_0 => GgmlDType::Q8_0,
            FileType::Q6K => GgmlDType::Q6K,
            FileType::Q4K => GgmlDType::Q4K,
        }
    }

    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FileType::F32 => "f32",
            FileType::Q8_0 => "q8_0",
            FileType::Q6K => "q6_k",
            FileType::Q4K => "q4_k",
        }
    }

    /// llama.cpp's number of a file that is mostly of this type, for its display only.
    fn number(self) -> i64 {
        match self {
            FileType::F32 => 0,
            FileType::Q8_0 => 7,
            FileType::Q6K => 18,
            FileType::Q4K => 15,
        }
    }

    /// This type, or the next larger one whose blocks fill rows of that many weights.
    pub fn fitting(self, columns: usize) -> FileType {
        let fits = |kind: FileType| columns.is_multiple_of(kind.dtype().block_size());
        let larger = FileType::ALL.into_iter().rev().filter(|kind| *kind <= self);
        larger.into_iter().find(|kind| fits(*kind)).unwrap_or(FileType::F32)
    }
}

/// Mean square of each input feature of a group's matrices, over some text.
pub type Moments = BTreeMap<Group, Vec<f32>>;

/// A type for every group of matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The types wanted; a matrix whose rows are no whole blocks gets the next larger type that fits.
    pub kinds: BTreeMap<Group, FileType>,
    /// What the scales of K-quants are fitted to; a group without any counts all inputs alike.
    pub moments: Moments,
}

impl Plan {
    /// One type for all, but never less than Q6_K for embedding and head: every token passes through
    /// them, and at Q4_K they cost more quality than any other group.
    pub fn uniform(config: &ModelConfig, kind: FileType) -> Plan {
        let kind_of = |group: &Group| match group.part {
            Part::Embedding | Part::Head => kind.min(FileType::Q6K),
            _ => kind,
        };
        let kinds = Group::all(config).into_keys().map(|group| (group, kind_of(&group))).collect();
        Plan { kinds, moments: Moments::new() }
    }

    /// The type that a tensor of that name and shape is written in.
    pub fn stored(&self, name: &str, shape: &[usize]) -> FileType {
        let kind = Group::of(name).and_then(|group| self.kinds.get(&group));
        let kind = kind.copied().unwrap_or(FileType::F32);
        kind.fitting(shape.last().copied().unwrap_or(0))
    }

    /// The types of each part's matrices.
    pub fn types(&self, config: &ModelConfig) -> Vec<(Part, String)> {
        let shapes: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        types_by_part(config, |name| self.stored(name, &shapes[name]).name())
    }

    /// Bytes of a tensor's data.
    pub fn bytes(&self, name: &str, shape: &[usize]) -> u64 {
        let dtype = self.stored(name, shape).dtype();
        (shape.iter().product::<usize>() / dtype.block_size() * dtype.type_size()) as u64
    }

    /// Bytes of all tensors' data in a file, which is padded.
    pub fn tensor_bytes(&self, config: &ModelConfig) -> u64 {
        let padded = |(name, shape): (String, Vec<usize>)| {
            self.bytes(&name, &shape).next_multiple_of(gguf::ALIGNMENT as u64)
        };
        config.tensors().into_iter().map(padded).sum()
    }

    /// Matrices that do not get the type wanted for them, with the type they get.
    pub fn fallbacks(&self, config: &ModelConfig) -> Vec<(String, FileType)> {
        let matrices = Group::all(config).into_iter().flat_map(|(group, matrices)| {
            matrices.into_iter().map(move |(name, shape)| (group, name, shape))
        });
        matrices
            .filter_map(|(group, name, shape)| {
                let stored = self.stored(&name, &shape);
                (self.kinds.get(&group) != Some(&stored)).then_some((name, stored))
            })
            .collect()
    }

    /// A dense matrix in its planned type.
    pub(super) fn quantize(&self, name: &str, dense: &Tensor) -> candle_core::Result<QTensor> {
        let kind = self.stored(name, dense.dims());
        if !matches!(kind, FileType::Q6K | FileType::Q4K) {
            return QTensor::quantize(dense, kind.dtype());
        }
        let moments = Group::of(name).and_then(|group| self.moments.get(&group));
        let columns = dense.dims().last().copied().unwrap_or(0);
        let mut importance = match moments {
            Some(moments) if moments.len() == columns => moments.clone(),
            _ => vec![1.0; columns],
        };
        // An input that was never seen may still come: no weight is worth nothing.
        let mean = importance.iter().sum::<f32>() / columns.max(1) as f32;
        importance.iter_mut().for_each(|x| *x += 1e-3 * mean + f32::MIN_POSITIVE);
        QTensor::quantize_imatrix(dense, &importance, kind.dtype())
    }

    /// The type that most weights have.
    fn main_kind(&self, config: &ModelConfig) -> FileType {
        let mut weights: BTreeMap<FileType, usize> = BTreeMap::new();
        for (name, shape) in config.tensors() {
            *weights.entry(self.stored(&name, &shape)).or_default() +=
                shape.iter().product::<usize>();
        }
        weights.into_iter().max_by_key(|(_, n)| *n).map_or(FileType::F32, |(kind, _)| kind)
    }
}

/// Writes every matrix in one type; see [`write_plan`].
pub fn write_gguf(weights: &Weights, name: &str, kind: FileType, out: &Path) -> Result<()> {
    write_plan(weights, name, &Plan::uniform(&weights.config, kind), out)
}

/// Quantizes every matrix and writes the file whole or not at all.
///
/// # Errors
/// A family whose files other engines expect in another row order; a folder that cannot be written.
pub fn write_plan(weights: &Weights, name: &str, plan: &Plan, out: &Path) -> Result<()> {
    let config = &weights.config;
    let metadata = metadata(weights, name, plan.main_kind(config))?;
    let tensors = config
        .tensors()
        .into_par_iter()
        .map(|(name, shape)| {
            let kind = plan.stored(&name, &shape);
            let quantized = plan.quantize(&name, &weights.dense(&name)?)?;
            Ok((gguf_name(&name), shape, kind.dtype(), quantized.data()?.into_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    files::replace(out, |file| {
        gguf::write(file, &metadata, &tensors)?;
        file.flush()?;
        Ok(file.get_ref().sync_all()?)
    })
}

/// The size in bytes of the file that [`write_plan`] would write.
pub fn file_size(weights: &Weights, name: &str, plan: &Plan) -> Result<u64> {
    let config = &weights.config;
    let metadata = metadata(weights, name, plan.main_kind(config))?;
    let described = |(name, shape): (String, Vec<usize>)| {
        let dtype = plan.stored(&name, &shape).dtype();
        (gguf_name(&name), shape, dtype, Vec::new())
    };
    // Offsets have a fixed width: the head is as long without the data.
    let mut head = Vec::new();
    gguf::write(
        &mut head,
        &metadata,
        &config.tensors().into_iter().map(described).collect::<Vec<_>>(),
    )?;
    Ok(head.len() as u64 + plan.tensor_bytes(config))
}

fn metadata(weights: &Weights, name: &str, kind: FileType) -> Result<Vec<(String, Value)>> {
    let config = &weights.config;
    let traits = config.model_type.traits();
    if !traits.trainable || traits.paired || config.trainable().is_err() {
        let name = traits.name;
        anyhow::bail!("writing a {name} model is not supported; supported: plain qwen2, qwen3");
    }
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
    let template = weights.chat_template()?.unwrap_or_default();
    metadata.extend(special("eos_token_id", "<|end|>").or(special("eos_token_id", &template.eos)));
    metadata.extend(special("bos_token_id", &template.bos));
    if !template.source.is_empty() {
        metadata.push(("tokenizer.chat_template".into(), text(&template.source)));
    }
    metadata.extend(special("fim_pre_token_id", "<|prefix|>"));
    metadata.extend(special("fim_suf_token_id", "<|suffix|>"));
    metadata.extend(special("fim_mid_token_id", "<|middle|>"));
    Ok(metadata)
}
