//! The shape of a network, read from `config.json` or GGUF metadata and validated once.

use serde::{Deserialize, Serialize};

/// The decoder families that the engine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// RMSNorm, RoPE, GQA, SwiGLU.
    Llama,
    /// Llama with biases on q, k and v.
    Qwen2,
    /// Llama with a norm on every query and key head.
    Qwen3,
}

impl Family {
    /// Name used by `model_type` in config.json and `general.architecture` in GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The family of that name, if the engine can run it.
    pub fn from_name(name: &str) -> Option<Family> {
        [Family::Llama, Family::Qwen2, Family::Qwen3].into_iter().find(|f| f.name() == name)
    }
}

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
}

/// Why a configuration cannot be run; the text names the field, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ModelConfig {
    /// Parses Hugging Face's `config.json`; fills in what older files leave out.
    pub fn from_json(json: &str) -> Result<ModelConfig, ConfigError> {
        #[derive(Deserialize)]
        struct Raw {
            model_type: String,
            vocab_size: usize,
            hidden_size: usize,
            intermediate_size: usize,
            num_hidden_layers: usize,
            num_attention_heads: usize,
            num_key_value_heads: Option<usize>,
            head_dim: Option<usize>,
            #[serde(default = "default_positions")]
            max_position_embeddings: usize,
            rope_theta: Option<f64>,
            rope_scaling: Option<serde_json::Value>,
            rope_parameters: Option<serde_json::Value>,
            #[serde(default = "default_epsilon")]
            rms_norm_eps: f64,
            #[serde(default)]
            tie_word_embeddings: bool,
            #[serde(default)]
            attention_bias: bool,
            #[serde(default)]
            mlp_bias: bool,
            hidden_act: Option<String>,
            #[serde(default)]
            use_sliding_window: bool,
        }
        fn default_positions() -> usize {
            2048
        }
        fn default_epsilon() -> f64 {
            1e-6
        }
        let error = |text: String| Err(ConfigError(text));
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|e| ConfigError(format!("not JSON: {e}")))?;
        let family = value.get("model_type").and_then(|v| v.as_str()).unwrap_or("(none)");
        let Some(model_type) = Family::from_name(family) else {
            return error(format!(
                "model_type \"{family}\" cannot be run; supported: llama, qwen2, qwen3"
            ));
        };
        let raw: Raw = serde_json::from_value(value).map_err(|e| ConfigError(e.to_string()))?;
        debug_assert_eq!(raw.model_type, model_type.name());
        let parameters = raw.rope_parameters.as_ref();
        let scaling = parameters.or(raw.rope_scaling.as_ref());
        let rope_type = scaling
            .and_then(|s| s.get("rope_type").or_else(|| s.get("type")))
            .and_then(|t| t.as_str())
            .unwrap_or("default");
        if rope_type != "default" {
            return error(format!("rope_type \"{rope_type}\" cannot be run; supported: default"));
        }
        if raw.mlp_bias || (raw.attention_bias && model_type != Family::Qwen2) {
            return error("attention_bias and mlp_bias are not supported".into());
        }
        if raw.use_sliding_window {
            return error("use_sliding_window is not supported".into());
        }
        if !matches!(raw.hidden_act.as_deref(), None | Some("silu" | "swish")) {
            return error(format!(
                "hidden_act {:?} cannot be run; supported: silu",
                raw.hidden_act
            ));
        }
        let theta = parameters.and_then(|p| p.get("rope_theta")).and_then(|t| t.as_f64());
        let heads = raw.num_attention_heads.max(1);
        ModelConfig {
            model_type,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads.unwrap_or(heads),
            head_dim: raw.head_dim.unwrap_or(raw.hidden_size / heads),
            max_position_embeddings: raw.max_position_embeddings,
            rope_theta: theta.or(raw.rope_theta).unwrap_or(10_000.0),
            rms_norm_eps: raw.rms_norm_eps,
            tie_word_embeddings: raw.tie_word_embeddings,
        }
        .validated()
    }

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
        Ok(self)
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
        let mut list = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, d])];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: &[usize]| {
                list.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[d]);
            add("self_attn.q_proj.weight", &[q, d]);
            add("self_attn.k_proj.weight", &[kv, d]);
            add("self_attn.v_proj.weight", &[kv, d]);
            if self.model_type == Family::Qwen2 {
                add("self_attn.q_proj.bias", &[q]);
                add("self_attn.k_proj.bias", &[kv]);
                add("self_attn.v_proj.bias", &[kv]);
            }
            if self.model_type == Family::Qwen3 {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("self_attn.o_proj.weight", &[d, q]);
            add("post_attention_layernorm.weight", &[d]);
            add("mlp.gate_proj.weight", &[ffn, d]);
            add("mlp.up_proj.weight", &[ffn, d]);
            add("mlp.down_proj.weight", &[d, ffn]);
        }
        list.push(("model.norm.weight".to_string(), vec![d]));
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
