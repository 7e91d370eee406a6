//! The shape and the vocabulary from the metadata of a GGUF file, in llama.cpp's keys.

use std::collections::HashSet;

use super::{Details, ModelConfig};
use crate::model::family::{Activation, Family, NormKind, in_gguf};
use crate::model::gguf::{Gguf, GgufError, TensorInfo, Value};
use crate::model::rope::RopeTable;
use crate::tokenizer::GgufVocabulary;

type Result<T> = std::result::Result<T, GgufError>;

/// Divisors of the rotary frequencies, where positions are stretched by more than one factor.
pub(in crate::model) const ROPE: &str = "rope_freqs.weight";
/// The key of the function in the feed-forward layer. llama.cpp reads it for few architectures.
pub(in crate::model) const ACTIVATION: &str = "hidden_activation";

/// The shape of the network in a file. `values` reads a vector of 32-bit floats.
///
/// # Errors
/// An architecture or a variant of one that cannot be run; a tensor that would be left out.
pub(in crate::model) fn config(
    header: &Gguf,
    values: impl Fn(&TensorInfo) -> Option<Vec<f32>>,
) -> Result<ModelConfig> {
    let architecture = header.text("general.architecture")?;
    let Some(model_type) = Family::from_architecture(architecture) else {
        let known = Family::list(|row| Some(row.architecture));
        return Err(GgufError::Unsupported(format!(
            "architecture \"{architecture}\" cannot be run; supported: {known}"
        )));
    };
    let traits = model_type.traits();
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| header.size(&key(name));
    let float = |name: &str| header.float(&key(name));
    let has = |name: &str| header.tensors.contains_key(name);
    let heads = size("attention.head_count")?;
    let hidden = size("embedding_length")?;
    let head_dim = size("attention.key_length").unwrap_or(hidden / heads.max(1));
    let rotated = size("rope.dimension_count").ok().filter(|n| traits.rotary && *n != head_dim);
    // llama.cpp pairs the rows of a whole head.
    if let Some(rotated) = rotated.filter(|_| traits.paired) {
        return Err(GgufError::Unsupported(format!(
            "{rotated} of {head_dim} features of a head are rotated, which cannot be run; \
             supported: all of them"
        )));
    }
    let rope_divisors = match (header.tensors.get(ROPE), rope_factor(header, architecture)?) {
        (Some(info), None) => values(info).ok_or_else(|| {
            GgufError::Unsupported(format!("tensor {ROPE} is {:?}; supported: F32", info.dtype))
        })?,
        (None, Some(factor)) => {
            let pairs = RopeTable::pairs(rotated.unwrap_or(head_dim)).map_err(GgufError::Broken)?;
            vec![factor as f32; pairs]
        }
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => {
            let text = "positions are scaled twice, by a factor and by a tensor";
            return Err(GgufError::Unsupported(format!("{text}, which cannot be run")));
        }
    };
    let embedding = header.tensors.get("token_embd.weight");
    let Some(&vocab_size) = embedding.and_then(|e| e.shape.first()) else {
        return Err(GgufError::Broken("tensor token_embd.weight is missing".into()));
    };
    let epsilon = match traits.norm {
        NormKind::Layer => float("attention.layer_norm_epsilon").unwrap_or(1e-5),
        _ => float("attention.layer_norm_rms_epsilon").unwrap_or(1e-6),
    };
    let kv_heads = if model_type == Family::GptBigcode { 1 } else { heads };
    let multiplier = |name: &str| float(name).map(|x| x as f32);
    let details = Details {
        attention_bias: !traits.qkv_bias
            && (has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias")),
        output_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_up.bias"),
        activation: activation(header, architecture)?.unwrap_or(traits.activation),
        embedding_multiplier: match model_type {
            Family::Gemma => (hidden as f32).sqrt(),
            _ => multiplier("embedding_scale").unwrap_or(1.0),
        },
        attention_multiplier: multiplier("attention.scale"),
        residual_multiplier: multiplier("residual_scale").unwrap_or(1.0),
        logits_scaling: multiplier("logit_scale").unwrap_or(1.0),
        rotary_dim: rotated,
        rope_divisors,
    };
    if !has("blk.0.ffn_norm.weight") {
        return Err(GgufError::Unsupported(format!(
            "attention and feed-forward layers side by side, as this {architecture} has them, cannot be run; \
             supported: one behind the other"
        )));
    }
    let window = size("attention.sliding_window").ok().filter(|window| *window > 0);
    let config = ModelConfig {
        model_type,
        vocab_size,
        hidden_size: hidden,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: size("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: size("attention.head_count_kv").unwrap_or(kv_heads),
        head_dim,
        max_position_embeddings: size("context_length")?.min(window.unwrap_or(usize::MAX)),
        rope_theta: float("rope.freq_base").unwrap_or(10_000.0),
        rms_norm_eps: epsilon,
        tie_word_embeddings: !has("output.weight"),
        details,
    };
    let config = config.validated().map_err(|e| GgufError::Unsupported(e.to_string()))?;
    let known: HashSet<String> =
        config.tensors().iter().map(|(name, _)| in_gguf(&config, name, has).tensor).collect();
    match header.tensors.keys().find(|name| !known.contains(*name) && *name != ROPE) {
        Some(name) => Err(GgufError::Unsupported(format!(
            "tensor {name} belongs to a variant of {architecture} that cannot be run; \
             get a model without it"
        ))),
        None => Ok(config),
    }
}

/// The function of the feed-forward layer where a file names another than the family's usual one, as ours do.
fn activation(header: &Gguf, architecture: &str) -> Result<Option<Activation>> {
    let key = format!("{architecture}.{ACTIVATION}");
    let Some(Value::Text(name)) = header.metadata.get(&key) else { return Ok(None) };
    match Activation::named(name) {
        Some(activation) => Ok(Some(activation)),
        None => Err(GgufError::Unsupported(format!("{key} \"{name}\" cannot be run"))),
    }
}

/// By what all positions are divided, if they are.
fn rope_factor(header: &Gguf, architecture: &str) -> Result<Option<f64>> {
    let key = |name: &str| format!("{architecture}.{name}");
    let scaling = match header.metadata.get(&key("rope.scaling.type")) {
        Some(Value::Text(kind)) => kind.as_str(),
        _ => "none",
    };
    let factor = header.float(&key("rope.scaling.factor"));
    match scaling {
        // Older files have the factor alone.
        "none" => Ok(header.float(&key("rope.scale_linear"))),
        "linear" => Ok(factor.filter(|factor| *factor != 1.0)),
        _ => Err(GgufError::Unsupported(format!(
            "rope scaling \"{scaling}\" cannot be run; supported: none, linear"
        ))),
    }
}

/// The vocabulary of a file.
///
/// # Errors
/// A kind of tokenizer that is not known; lists that are missing or mixed.
pub(in crate::model) fn vocabulary(header: &Gguf) -> Result<GgufVocabulary> {
    let text = |v: &Value| match v {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let number = |v: &Value| match v {
        Value::Float(x) => Some(*x as f32),
        _ => None,
    };
    let integer = |v: &Value| match v {
        Value::Integer(n) => Some(*n as i32),
        _ => None,
    };
    let tokens = header.list("tokenizer.ggml.tokens", text)?;
    let types = header.list("tokenizer.ggml.token_type", integer);
    let mut vocabulary = GgufVocabulary {
        pre: header.text("tokenizer.ggml.pre").unwrap_or("default").to_string(),
        types: types.unwrap_or_else(|_| vec![1; tokens.len()]),
        tokens,
        ..GgufVocabulary::default()
    };
    match header.text("tokenizer.ggml.model")? {
        "gpt2" => vocabulary.merges = header.list("tokenizer.ggml.merges", text)?,
        "llama" => vocabulary.scores = header.list("tokenizer.ggml.scores", number)?,
        kind => {
            return Err(GgufError::Unsupported(format!(
                "tokenizer \"{kind}\" is not supported; supported: gpt2 (byte-level BPE) and llama \
                 (SentencePiece)"
            )));
        }
    }
    Ok(vocabulary)
}
