//! What a GGUF file says of a model beside its tensors, in llama.cpp's keys: its shape, and its vocabulary.

use anyhow::Result;

use super::FileType;
use crate::model::chat_template::bos_and_eos;
use crate::model::config::{ACTIVATION, Details, ModelConfig};
use crate::model::family::{Family, NormKind};
use crate::model::gguf::Value;
use crate::model::weights::Weights;
use crate::tokenizer::Additions;

type Entries = Vec<(String, Value)>;

fn integer(n: usize) -> Value {
    Value::Integer(n as i64)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

/// All metadata of a file that is mostly of this type.
///
/// # Errors
/// A model or a vocabulary that GGUF has no words for.
pub(super) fn of(weights: &Weights, name: &str, kind: FileType) -> Result<Entries> {
    let config = &weights.config;
    let traits = config.model_type.traits();
    if let Some(reason) = unwritable(config) {
        let name = traits.name;
        let reason = format!(
            "this {name} model {reason}, which GGUF has no words for; use its model directory"
        );
        return Err(weights.error(reason).into());
    }
    let mut entries = vec![
        ("general.architecture".into(), text(traits.architecture)),
        ("general.name".into(), text(name)),
        ("general.file_type".into(), Value::Integer(kind.number())),
        ("general.quantization_version".into(), Value::Integer(2)),
    ];
    let own = |(key, value)| (format!("{}.{key}", traits.architecture), value);
    entries.extend(shape(config).into_iter().map(own));
    // A vocabulary that came in GGUF is taken over as it is.
    entries.extend(match weights.metadata() {
        Some(gguf) => {
            let all = gguf.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer."));
            all.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        None => vocabulary(weights)?,
    });
    Ok(entries)
}

/// What of this model would be lost.
fn unwritable(config: &ModelConfig) -> Option<&'static str> {
    let (traits, details, plain) =
        (config.model_type.traits(), &config.details, Details::default());
    let multipliers = |details: &Details| {
        (details.residual_multiplier, details.logits_scaling, details.attention_multiplier)
    };
    let is_scaled = multipliers(details) != multipliers(&plain)
        || config.model_type != Family::Gemma && details.embedding_multiplier != 1.0;
    let is_stretched = super::rope_tensor(config).is_some();
    match config.model_type {
        family if is_scaled && family != Family::Granite => Some("has multipliers"),
        family if is_stretched && !matches!(family, Family::Llama | Family::Granite) => {
            Some("stretches each frequency of its positions by another factor")
        }
        _ if (details.output_bias || details.mlp_bias) && !traits.gguf_biases => {
            Some("has biases on its outputs")
        }
        Family::Gemma if !config.tie_word_embeddings => Some("has an output layer of its own"),
        _ => None,
    }
}

/// The keys of the shape, without the name of the architecture.
fn shape(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let (traits, details) = (config.model_type.traits(), &config.details);
    let float = |x: f32| Value::Float(f64::from(x));
    let mut entries = vec![
        ("context_length", integer(config.max_position_embeddings)),
        ("embedding_length", integer(config.hidden_size)),
        ("block_count", integer(config.num_hidden_layers)),
        ("feed_forward_length", integer(config.intermediate_size)),
        ("attention.head_count", integer(config.num_attention_heads)),
        ("attention.head_count_kv", integer(config.num_key_value_heads)),
        ("attention.key_length", integer(config.head_dim)),
        ("attention.value_length", integer(config.head_dim)),
    ];
    let epsilon = match traits.norm {
        NormKind::Layer => "attention.layer_norm_epsilon",
        NormKind::Rms | NormKind::RmsLessOne => "attention.layer_norm_rms_epsilon",
    };
    entries.push((epsilon, Value::Float(config.rms_norm_eps)));
    if traits.rotary {
        entries.push(("rope.freq_base", Value::Float(config.rope_theta)));
        entries.push(("rope.dimension_count", integer(config.rotary_dim())));
    }
    if let Some(factor) = details.rope_divisors.first()
        && super::rope_tensor(config).is_none()
    {
        entries.push(("rope.scaling.type", text("linear")));
        entries.push(("rope.scaling.factor", float(*factor)));
    }
    if config.model_type == Family::Granite {
        entries.extend([
            ("attention.scale", float(config.attention_scale())),
            ("embedding_scale", float(details.embedding_multiplier)),
            ("residual_scale", float(details.residual_multiplier)),
            ("logit_scale", float(details.logits_scaling)),
        ]);
    }
    if config.model_type == Family::StableLm {
        entries.push(("use_parallel_residual", Value::Bool(false)));
    }
    // llama.cpp computes with the family's usual one; for those of the supported families that is close.
    if details.activation != traits.activation {
        entries.push((ACTIVATION, text(details.activation.name())));
    }
    entries
}

/// The vocabulary of a model directory, its special tokens and the template of talks.
fn vocabulary(weights: &Weights) -> Result<Entries> {
    let tokenizer = weights.tokenizer()?;
    let mut vocabulary =
        tokenizer.to_gguf().map_err(|error| weights.error(format!("{error:#}")))?;
    let is_sentencepiece = !vocabulary.scores.is_empty();
    // Rows of the embedding table without a token are padding.
    let worst = vocabulary.scores.iter().copied().fold(0.0, f32::min);
    for id in vocabulary.tokens.len()..weights.config.vocab_size {
        vocabulary.tokens.push(format!("[PAD{id}]"));
        vocabulary.types.push(5);
        if is_sentencepiece {
            vocabulary.scores.push(worst);
        }
    }
    let texts = |list: Vec<String>| Value::List(list.into_iter().map(Value::Text).collect());
    let types = vocabulary.types.into_iter().map(|kind| Value::Integer(i64::from(kind)));
    let Additions { start, end, space } = tokenizer.additions();
    let mut entries = vec![
        ("model", text(if is_sentencepiece { "llama" } else { "gpt2" })),
        ("pre", text(&vocabulary.pre)),
        ("tokens", texts(vocabulary.tokens)),
        ("token_type", Value::List(types.collect())),
        ("add_bos_token", Value::Bool(start)),
        ("add_eos_token", Value::Bool(end)),
    ];
    if is_sentencepiece {
        let scores = vocabulary.scores.into_iter().map(|score| Value::Float(f64::from(score)));
        entries.push(("scores", Value::List(scores.collect())));
        entries.push(("add_space_prefix", Value::Bool(space)));
    } else {
        entries.push(("merges", texts(vocabulary.merges)));
    }
    let [bos, eos] = bos_and_eos(weights.path())?;
    // Our own models first: all of theirs end with the same token.
    let special = [
        ("eos_token_id", ["<|end|>", &eos]),
        ("bos_token_id", [&bos, ""]),
        ("fim_pre_token_id", ["<|prefix|>", ""]),
        ("fim_suf_token_id", ["<|suffix|>", ""]),
        ("fim_mid_token_id", ["<|middle|>", ""]),
    ];
    for (key, names) in special {
        let id = names.iter().find_map(|name| tokenizer.special(name));
        entries.extend(id.map(|id| (key, integer(id as usize))));
    }
    let mut entries: Entries =
        entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    if let Some(template) = weights.chat_template()? {
        entries.push(("tokenizer.chat_template".into(), text(&template.source)));
    }
    Ok(entries)
}
