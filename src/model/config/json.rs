//! The shape from Hugging Face's `config.json`.

use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, Details, ModelConfig};
use crate::model::family::{Activation, Family, NormKind};
use crate::model::rope::RopeTable;

/// The fields that decide, under the names that the families give them.
#[derive(Deserialize)]
struct Raw {
    vocab_size: usize,
    #[serde(alias = "n_embd")]
    hidden_size: usize,
    #[serde(alias = "n_inner")]
    intermediate_size: Option<usize>,
    #[serde(alias = "n_layer")]
    num_hidden_layers: usize,
    #[serde(alias = "n_head")]
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    multi_query: Option<bool>,
    head_dim: Option<usize>,
    #[serde(alias = "n_positions")]
    max_position_embeddings: Option<usize>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    #[serde(alias = "norm_epsilon", alias = "layer_norm_epsilon", alias = "layer_norm_eps")]
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_bias: Option<bool>,
    use_qkv_bias: Option<bool>,
    use_parallel_residual: Option<bool>,
    qk_layernorm: Option<bool>,
    #[serde(alias = "activation_function")]
    hidden_act: Option<String>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    scale_attn_weights: Option<bool>,
    embedding_multiplier: Option<f32>,
    attention_multiplier: Option<f32>,
    residual_multiplier: Option<f32>,
    logits_scaling: Option<f32>,
}

/// The families that look no further than a window where their files name one.
const WINDOWED: [Family; 2] = [Family::Starcoder2, Family::Phi3];

/// What models are that do not say how far their positions reach.
const POSITIONS: usize = 2048;

impl ModelConfig {
    /// Parses Hugging Face's `config.json`; fills in what older files leave out. A model with a sliding
    /// window reaches no further than that: within it, the window hides nothing.
    ///
    /// # Errors
    /// A family or a variant of one that cannot be run; sizes out of range.
    pub fn from_json(json: &str) -> Result<ModelConfig, ConfigError> {
        let error = |text: String| Err(ConfigError(text));
        let value: Value =
            serde_json::from_str(json).map_err(|e| ConfigError(format!("not JSON: {e}")))?;
        let family = value.get("model_type").and_then(|v| v.as_str()).unwrap_or("(none)");
        let Some(model_type) = Family::from_name(family) else {
            let known = Family::list(|row| Some(row.name));
            return error(format!("model_type \"{family}\" cannot be run; supported: {known}"));
        };
        let raw: Raw = serde_json::from_value(value).map_err(|e| ConfigError(e.to_string()))?;
        let traits = model_type.traits();
        let parts = [
            ("use_parallel_residual", raw.use_parallel_residual),
            ("qk_layernorm", raw.qk_layernorm),
        ];
        if let Some((name, _)) = parts.into_iter().find(|(_, is_there)| *is_there == Some(true)) {
            return error(format!(
                "a {} model with {name} cannot be run; supported: without",
                traits.name
            ));
        }
        let parameters = raw.rope_parameters.as_ref();
        let theta = parameters.and_then(|p| p.get("rope_theta")).and_then(|t| t.as_f64());
        let rope_theta = theta.or(raw.rope_theta).unwrap_or(10_000.0);
        let heads = raw.num_attention_heads.max(1);
        let head_dim = raw.head_dim.unwrap_or(raw.hidden_size / heads);
        let kv_heads = match (model_type, raw.multi_query) {
            (Family::GptBigcode, Some(false)) => heads,
            (Family::GptBigcode, _) => 1,
            _ => raw.num_key_value_heads.unwrap_or(heads),
        };
        let share = parameters.and_then(|p| p.get("partial_rotary_factor")?.as_f64());
        let share = share.or(raw.partial_rotary_factor).filter(|share| *share != 1.0);
        let rotary_dim = share.map(|share| (head_dim as f64 * share) as usize);
        // Qwen2's files name a window that they do not use.
        let is_slid = raw.use_sliding_window.unwrap_or(WINDOWED.contains(&model_type));
        let window = raw.sliding_window.filter(|_| is_slid).unwrap_or(usize::MAX);
        let epsilon = if traits.norm == NormKind::Layer { 1e-5 } else { 1e-6 };
        let biased = raw.use_bias.unwrap_or(traits.biased);
        let attention_bias = raw.attention_bias.unwrap_or(biased);
        let details = Details {
            attention_bias: (attention_bias || raw.use_qkv_bias == Some(true)) && !traits.qkv_bias,
            output_bias: attention_bias && !traits.qkv_bias,
            mlp_bias: raw.mlp_bias.unwrap_or(biased),
            activation: activation(raw.hidden_act.as_deref(), model_type)?,
            embedding_multiplier: match model_type {
                Family::Gemma => (raw.hidden_size as f32).sqrt(),
                _ => raw.embedding_multiplier.unwrap_or(1.0),
            },
            attention_multiplier: match raw.scale_attn_weights {
                Some(false) => Some(1.0),
                _ => raw.attention_multiplier,
            },
            residual_multiplier: raw.residual_multiplier.unwrap_or(1.0),
            logits_scaling: raw.logits_scaling.unwrap_or(1.0),
            rope_divisors: match parameters.or(raw.rope_scaling.as_ref()) {
                Some(scaling) if traits.rotary => {
                    rope_divisors(scaling, rotary_dim.unwrap_or(head_dim), rope_theta)?
                }
                _ => Vec::new(),
            },
            rotary_dim,
        };
        ModelConfig {
            model_type,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size.unwrap_or(raw.hidden_size.saturating_mul(4)),
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: raw.max_position_embeddings.unwrap_or(POSITIONS).min(window),
            rope_theta,
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(epsilon),
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(traits.tied),
            details,
        }
        .validated()
    }
}

fn activation(name: Option<&str>, family: Family) -> Result<Activation, ConfigError> {
    let usual = family.traits().activation;
    Ok(match name {
        None => usual,
        // The first gemma models say "gelu" and were trained with the approximation.
        Some("gelu") if family == Family::Gemma => usual,
        Some(name) => Activation::named(name).ok_or_else(|| {
            let known = Activation::NAMES.map(|row| row.0).join(", ");
            ConfigError(format!("hidden_act \"{name}\" cannot be run; supported: {known}"))
        })?,
    })
}

/// What each rotary frequency is divided by.
fn rope_divisors(scaling: &Value, rotary_dim: usize, theta: f64) -> Result<Vec<f32>, ConfigError> {
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
    let kind = kind.and_then(Value::as_str).unwrap_or("default");
    let number = |name: &str| {
        let number = scaling.get(name).and_then(Value::as_f64);
        number.ok_or_else(|| ConfigError(format!("rope_scaling \"{kind}\" has no {name}")))
    };
    let pairs = RopeTable::pairs(rotary_dim).map_err(ConfigError)?;
    match kind {
        "default" => Ok(Vec::new()),
        "linear" => Ok(vec![number("factor")? as f32; pairs]),
        "llama3" => {
            let (factor, original) =
                (number("factor")?, number("original_max_position_embeddings")?);
            let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
            let divisor = |i: usize| {
                let frequency = theta.powf(-2.0 * i as f64 / rotary_dim as f64);
                // How often the pair turns within the positions of the first training.
                let turns = original * frequency / std::f64::consts::TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 / (kept + (1.0 - kept) / factor)) as f32
            };
            Ok((0..pairs).map(divisor).collect())
        }
        _ => Err(ConfigError(format!(
            "rope_scaling \"{kind}\" cannot be run; supported: default, linear, llama3"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: Value) -> Result<ModelConfig, String> {
        ModelConfig::from_json(&json.to_string()).map_err(|e| e.to_string())
    }

    fn llama() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 8, "hidden_size": 64, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 4096,
        })
    }

    #[test]
    fn what_the_files_of_published_models_say_is_understood() {
        let starcoder = parse(json!({
            "model_type": "gpt_bigcode", "vocab_size": 49152, "n_embd": 6144, "n_head": 48,
            "n_inner": 24576, "n_layer": 40, "n_positions": 8192, "activation_function": "gelu",
            "layer_norm_epsilon": 1e-5, "multi_query": true, "scale_attn_weights": true,
        }));
        let starcoder = starcoder.unwrap();
        assert_eq!((starcoder.kv_size(), starcoder.tie_word_embeddings), (128, true));
        assert_eq!(starcoder.details.activation, Activation::Gelu);
        let tensors = starcoder.tensors();
        assert!(tensors.iter().any(|(name, _)| name.ends_with("mlp.down_proj.bias")));
        assert!(!tensors.iter().any(|(name, _)| name.contains("gate_proj")));
        let starcoder2 = json!({
            "model_type": "starcoder2", "vocab_size": 49152, "hidden_size": 3072, "use_bias": true,
            "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
            "intermediate_size": 12288, "max_position_embeddings": 16384, "sliding_window": 4096,
            "norm_epsilon": 1e-5, "rope_theta": 999999.44,
        });
        assert_eq!(parse(starcoder2).unwrap().max_position_embeddings, 4096);
        let mut deepseek = llama();
        deepseek["rope_scaling"] = json!({"type": "linear", "factor": 4.0});
        let deepseek = parse(deepseek).unwrap();
        assert_eq!(deepseek.details.rope_divisors, [4.0; 16]);
        let error = deepseek.trainable().unwrap_err().to_string();
        assert!(error.contains("llama") && error.contains("qwen3"), "{error}");
        assert!(parse(llama()).unwrap().trainable().is_ok());
    }

    #[test]
    fn what_cannot_be_run_is_named_with_what_can() {
        for (key, value, words) in [
            ("model_type", json!("gpt_neox"), ["gpt_neox", "starcoder2"]),
            ("rope_scaling", json!({"type": "yarn", "factor": 4.0}), ["yarn", "linear"]),
            ("rope_scaling", json!({"type": "linear"}), ["linear", "factor"]),
            ("hidden_act", json!("relu6"), ["relu6", "silu"]),
            ("logits_scaling", json!(0), ["logits_scaling", "more than 0"]),
            ("use_parallel_residual", json!(true), ["use_parallel_residual", "without"]),
            ("partial_rotary_factor", json!(0.1), ["3 of 32 features", "rotated"]),
            ("partial_rotary_factor", json!(1.5), ["48 of 32 features", "rotated"]),
            ("head_dim", json!(1u64 << 44), ["17592186044416 rotated", "at most 512"]),
        ] {
            let mut json = llama();
            json[key] = value;
            if key == "head_dim" {
                json["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
            }
            let error = parse(json).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
