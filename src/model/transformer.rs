//! The network as a differentiable graph, for training. Bottom up: attention, feed-forward, layer,
//! model. Field names are checkpoint names. Shapes stand beside the tensors: T = batch × sequence.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::config::{Family, ModelConfig};
use super::ops::{self, AttentionShape};
use super::rope::RopeTable;

/// Gives the tensor of that name and shape: a trainable variable, or a frozen weight.
pub type TensorSource<'a> = &'a mut dyn FnMut(&str, &[usize]) -> Result<Tensor>;

struct SelfAttention {
    q_proj: Tensor,
    k_proj: Tensor,
    v_proj: Tensor,
    o_proj: Tensor,
    biases: Option<[Tensor; 3]>,
    norms: Option<[Tensor; 2]>,
}

impl SelfAttention {
    fn forward(
        &self,
        x: &Tensor, // (T, hidden)
        config: &ModelConfig,
        rope: &Arc<RopeTable>,
        sequence: usize,
    ) -> Result<Tensor> {
        let mut q = ops::linear(x, &self.q_proj)?; // (T, heads·head_dim)
        let mut k = ops::linear(x, &self.k_proj)?; // (T, kv_heads·head_dim)
        let mut v = ops::linear(x, &self.v_proj)?;
        if let Some([q_bias, k_bias, v_bias]) = &self.biases {
            q = q.broadcast_add(q_bias)?;
            k = k.broadcast_add(k_bias)?;
            v = v.broadcast_add(v_bias)?;
        }
        if let Some([q_norm, k_norm]) = &self.norms {
            q = ops::rms_norm(&q, q_norm, config.rms_norm_eps)?;
            k = ops::rms_norm(&k, k_norm, config.rms_norm_eps)?;
        }
        let q = ops::rope(&q, rope, sequence)?;
        let k = ops::rope(&k, rope, sequence)?;
        let shape = AttentionShape {
            sequence,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        };
        ops::linear(&ops::attention(&q, &k, &v, shape)?, &self.o_proj) // (T, hidden)
    }
}

struct Mlp {
    gate_proj: Tensor,
    up_proj: Tensor,
    down_proj: Tensor,
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = ops::linear(x, &self.gate_proj)?; // (T, intermediate)
        let up = ops::linear(x, &self.up_proj)?;
        ops::linear(&ops::swiglu(&gate, &up)?, &self.down_proj) // (T, hidden)
    }
}

struct Layer {
    input_layernorm: Tensor,
    self_attn: SelfAttention,
    post_attention_layernorm: Tensor,
    mlp: Mlp,
}

/// A decoder-only Transformer whose operations all have a backward pass.
pub struct Transformer {
    config: ModelConfig,
    rope: Arc<RopeTable>,
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    lm_head: Tensor,
}

impl Transformer {
    /// Builds the network from whatever `source` gives, for sequences of up to `positions` tokens.
    pub fn new(
        config: &ModelConfig,
        positions: usize,
        source: TensorSource<'_>,
    ) -> Result<Transformer> {
        let shapes: std::collections::HashMap<String, Vec<usize>> =
            config.tensors().into_iter().collect();
        let mut get = |name: &str| match shapes.get(name) {
            Some(shape) => source(name, shape),
            None => candle_core::bail!("{name} is no tensor of a {}", config.model_type.name()),
        };
        let embed_tokens = get("model.embed_tokens.weight")?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let mut get = |name: &str| get(&format!("model.layers.{layer}.{name}"));
            let biases = match config.model_type {
                Family::Qwen2 => Some([
                    get("self_attn.q_proj.bias")?,
                    get("self_attn.k_proj.bias")?,
                    get("self_attn.v_proj.bias")?,
                ]),
                _ => None,
            };
            let norms = match config.model_type {
                Family::Qwen3 => {
                    Some([get("self_attn.q_norm.weight")?, get("self_attn.k_norm.weight")?])
                }
                _ => None,
            };
            layers.push(Layer {
                input_layernorm: get("input_layernorm.weight")?,
                self_attn: SelfAttention {
                    q_proj: get("self_attn.q_proj.weight")?,
                    k_proj: get("self_attn.k_proj.weight")?,
                    v_proj: get("self_attn.v_proj.weight")?,
                    o_proj: get("self_attn.o_proj.weight")?,
                    biases,
                    norms,
                },
                post_attention_layernorm: get("post_attention_layernorm.weight")?,
                mlp: Mlp {
                    gate_proj: get("mlp.gate_proj.weight")?,
                    up_proj: get("mlp.up_proj.weight")?,
                    down_proj: get("mlp.down_proj.weight")?,
                },
            });
        }
        let norm = get("model.norm.weight")?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.clone(),
            false => get("lm_head.weight")?,
        };
        let rope = Arc::new(RopeTable::new(config.head_dim, config.rope_theta, positions));
        Ok(Transformer { config: config.clone(), rope, embed_tokens, layers, norm, lm_head })
    }

    /// The last hidden states (T, hidden) of `tokens`, which are whole sequences of `sequence`.
    pub fn hidden(&self, tokens: &[u32], sequence: usize) -> Result<Tensor> {
        let ids = Tensor::from_slice(tokens, tokens.len(), self.embed_tokens.device())?;
        let epsilon = self.config.rms_norm_eps;
        let mut x = self.embed_tokens.index_select(&ids, 0)?; // (T, hidden)
        for layer in &self.layers {
            let h = ops::rms_norm(&x, &layer.input_layernorm, epsilon)?;
            x = (x + layer.self_attn.forward(&h, &self.config, &self.rope, sequence)?)?;
            let h = ops::rms_norm(&x, &layer.post_attention_layernorm, epsilon)?;
            x = (x + layer.mlp.forward(&h)?)?;
        }
        ops::rms_norm(&x, &self.norm, epsilon)
    }

    /// The logits (T, vocabulary) of `tokens`.
    pub fn logits(&self, tokens: &[u32], sequence: usize) -> Result<Tensor> {
        ops::linear(&self.hidden(tokens, sequence)?, &self.lm_head)
    }

    /// The mean cross-entropy in nats of `targets`; [`ops::IGNORE`] does not count.
    pub fn loss(&self, tokens: &[u32], targets: &[u32], sequence: usize) -> Result<Tensor> {
        ops::cross_entropy(&self.hidden(tokens, sequence)?, &self.lm_head, targets)
    }
}
