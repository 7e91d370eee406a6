//! The shape of a network, read from `config.json` (`json`) or GGUF metadata (`gguf`) and validated once.

mod gguf;
mod json;

use serde::{Deserialize, Serialize};

pub(super) use self::gguf::{
    ACTIVATION, ROPE, config as gguf_config, vocabulary as gguf_vocabulary,
};
use super::family::{Activation, Family, NormKind, POSITIONS};

/// Sizes and constants of one decoder. Field names follow Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Which decoder.
    pub model_type: Family,
    /// Entries of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Features of one head.
    pub head_dim: usize,
    /// Largest position the model was made for.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// ε of the norms.
    pub rms_norm_eps: f64,
    /// Whether the output layer is the embedding table.
    pub tie_word_embeddings: bool,
    /// What else this model has.
    #[serde(default, skip_serializing_if = "Details::are_plain")]
    pub details: Details,
}

/// What a model may have beyond the traits of its family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Biases on q, k and v.
    pub attention_bias: bool,
    /// A bias on o.
    pub output_bias: bool,
    /// Biases in the feed-forward layer.
    pub mlp_bias: bool,
    /// Between the matrices of the feed-forward layer.
    pub activation: Activation,
    /// What embeddings are multiplied by.
    pub embedding_multiplier: f32,
    /// What the products of queries and keys are multiplied by; 1/√head_dim if nothing is said.
    pub attention_multiplier: Option<f32>,
    /// What the result of a block counts in the residual stream.
    pub residual_multiplier: f32,
    /// What logits are divided by.
    pub logits_scaling: f32,
    /// How many features of a head are rotated by their position, the first ones; all if nothing is said.
    pub rotary_dim: Option<usize>,
    /// What the rotary frequencies are divided by, rotary_dim/2 values; none if empty. Every way of stretching
    /// positions that is known here comes down to these.
    pub rope_divisors: Vec<f32>,
}

impl Default for Details {
    fn default() -> Details {
        Details {
            attention_bias: false,
            output_bias: false,
            mlp_bias: false,
            activation: Activation::Silu,
            embedding_multiplier: 1.0,
            attention_multiplier: None,
            residual_multiplier: 1.0,
            logits_scaling: 1.0,
            rotary_dim: None,
            rope_divisors: Vec::new(),
        }
    }
}

impl Details {
    fn are_plain(&self) -> bool {
        *self == Details::default()
    }
}

/// Why a configuration cannot be run; the text names the field, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ModelConfig {
    /// Checks every size, so that no later arithmetic can overflow or divide by zero.
    pub fn validated(self) -> Result<ModelConfig, ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 20),
            ("hidden_size", self.hidden_size, 1 << 15),
            ("intermediate_size", self.intermediate_size, 1 << 17),
            ("num_hidden_layers", self.num_hidden_layers, 256),
            ("num_attention_heads", self.num_attention_heads, 512),
            ("num_key_value_heads", self.num_key_value_heads, 512),
            ("head_dim", self.head_dim, 2 * super::rope::RopeTable::MAX_PAIRS),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
        ];
        for (name, value, limit) in sizes {
            if value == 0 || value > limit {
                return Err(ConfigError(format!("{name} is {value}; it must lie in 1…{limit}")));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % kv_heads != 0 {
            let text = format!("{heads} attention heads cannot share {kv_heads} key/value heads");
            return Err(ConfigError(text));
        }
        // For keys and values; large real models need 1 to 2 MiB.
        let per_token = 8 * self.num_hidden_layers * self.kv_size();
        if per_token > 4 << 20 {
            let text =
                format!("{per_token} bytes of KV cache per token; at most 4194304 can be run");
            return Err(ConfigError(text));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError(format!("head_dim {} is odd", self.head_dim)));
        }
        if !(self.rope_theta > 0.0 && self.rms_norm_eps >= 0.0) {
            return Err(ConfigError("rope_theta and rms_norm_eps must be positive".into()));
        }
        let details = &self.details;
        let factors = [
            ("embedding_multiplier", details.embedding_multiplier),
            ("attention_multiplier", self.attention_scale()),
            ("residual_multiplier", details.residual_multiplier),
            ("logits_scaling", details.logits_scaling),
        ];
        let divisors = details.rope_divisors.iter().map(|d| ("a factor of rope_scaling", *d));
        for (name, factor) in factors.into_iter().chain(divisors) {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(ConfigError(format!("{name} is {factor}; it must be more than 0")));
            }
        }
        let rotated = self.rotary_dim();
        if rotated == 0 || rotated > self.head_dim || !rotated.is_multiple_of(2) {
            let text =
                format!("{rotated} of {} features of a head cannot be rotated", self.head_dim);
            return Err(ConfigError(text));
        }
        let (pairs, divisors) = (rotated / 2, details.rope_divisors.len());
        if divisors != 0 && divisors != pairs {
            return Err(ConfigError(format!(
                "{divisors} factors of rope_scaling for {pairs} pairs"
            )));
        }
        Ok(self)
    }

    /// That the passes for training know this model.
    ///
    /// # Errors
    /// A family or a detail that they do not know; the text names it and those that they know.
    pub fn trainable(&self) -> Result<(), ConfigError> {
        let traits = self.model_type.traits();
        if traits.trainable && self.details.are_plain() {
            return Ok(());
        }
        let known = Family::list(|row| row.trainable.then_some(row.name));
        let what = match traits.trainable {
            false => format!("a {} model", traits.name),
            true => format!("a {} model with scaled positions or more biases", traits.name),
        };
        Err(ConfigError(format!(
            "{what} can be used but not trained here; supported: plain {known}; \
             train an adapter elsewhere, or start from one of those"
        )))
    }

    /// Whether q, k and v have biases.
    pub fn has_qkv_bias(&self) -> bool {
        self.model_type.traits().qkv_bias || self.details.attention_bias
    }

    /// What the product of a query and a key is multiplied by.
    pub fn attention_scale(&self) -> f32 {
        let plain = 1.0 / (self.head_dim as f32).sqrt();
        self.details.attention_multiplier.unwrap_or(plain)
    }

    /// Features of a head that are rotated by their position.
    pub fn rotary_dim(&self) -> usize {
        self.details.rotary_dim.unwrap_or(self.head_dim)
    }

    /// Query features: heads × head_dim.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Key (or value) features: kv_heads × head_dim.
    pub fn kv_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Every tensor of the checkpoint with its shape, in file order: the one list that training,
    /// loading and export share.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, ffn, q, kv) =
            (self.hidden_size, self.intermediate_size, self.query_size(), self.kv_size());
        let (traits, details) = (self.model_type.traits(), &self.details);
        let mut list = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, d])];
        if !traits.rotary {
            list.push((POSITIONS.to_string(), vec![self.max_position_embeddings, d]));
        }
        let norm_bias = traits.norm == NormKind::Layer;
        for layer in 0..self.num_hidden_layers {
            let mut add = |is_there: bool, name: &str, shape: &[usize]| {
                if is_there {
                    list.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
                }
            };
            add(true, "input_layernorm.weight", &[d]);
            add(norm_bias, "input_layernorm.bias", &[d]);
            add(true, "self_attn.q_proj.weight", &[q, d]);
            add(true, "self_attn.k_proj.weight", &[kv, d]);
            add(true, "self_attn.v_proj.weight", &[kv, d]);
            add(self.has_qkv_bias(), "self_attn.q_proj.bias", &[q]);
            add(self.has_qkv_bias(), "self_attn.k_proj.bias", &[kv]);
            add(self.has_qkv_bias(), "self_attn.v_proj.bias", &[kv]);
            add(traits.qk_norm, "self_attn.q_norm.weight", &[self.head_dim]);
            add(traits.qk_norm, "self_attn.k_norm.weight", &[self.head_dim]);
            add(true, "self_attn.o_proj.weight", &[d, q]);
            add(details.output_bias, "self_attn.o_proj.bias", &[d]);
            add(true, "post_attention_layernorm.weight", &[d]);
            add(norm_bias, "post_attention_layernorm.bias", &[d]);
            add(traits.gated, "mlp.gate_proj.weight", &[ffn, d]);
            add(traits.gated && details.mlp_bias, "mlp.gate_proj.bias", &[ffn]);
            add(true, "mlp.up_proj.weight", &[ffn, d]);
            add(details.mlp_bias, "mlp.up_proj.bias", &[ffn]);
            add(true, "mlp.down_proj.weight", &[d, ffn]);
            add(details.mlp_bias, "mlp.down_proj.bias", &[d]);
        }
        list.push(("model.norm.weight".to_string(), vec![d]));
        if norm_bias {
            list.push(("model.norm.bias".to_string(), vec![d]));
        }
        if !self.tie_word_embeddings {
            list.push(("lm_head.weight".to_string(), vec![self.vocab_size, d]));
        }
        list
    }

    /// Parameters in all tensors.
    pub fn parameter_count(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
