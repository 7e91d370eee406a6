//! The network as a graph of candle's primitive operations, which all have a backward pass: it trains on
//! any device candle knows, and is the reference for [`super::backprop`], the CPU's own passes.
//! Bottom up: attention, feed-forward, layer, model. Field names are checkpoint names; shapes stand
//! beside the tensors: B sequences of S tokens, T = B·S.

use candle_core::{D, Device, Result, Tensor};

use super::config::ModelConfig;
use super::ops::{IGNORE, Targets};
use super::rope::RopeTable;

/// Gives the tensor of that name and shape: a trainable variable, or a frozen weight.
pub type TensorSource<'a> = &'a mut dyn FnMut(&str, &[usize]) -> Result<Tensor>;

fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)
}

fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// Cosines and sines (S, head_dim/2), and −∞ above the diagonal (S, S).
struct Positions {
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl Positions {
    fn new(config: &ModelConfig, sequence: usize, device: &Device) -> Result<Positions> {
        let table = RopeTable::new(config, sequence);
        let rows: Vec<_> = (0..sequence).map(|p| table.row(p)).collect();
        let cos: Vec<f32> = rows.iter().flat_map(|(cos, _)| cos.to_vec()).collect();
        let sin: Vec<f32> = rows.iter().flat_map(|(_, sin)| sin.to_vec()).collect();
        let shape = (sequence, config.head_dim / 2);
        let mask = (0..sequence)
            .flat_map(|i| (0..sequence).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }));
        Ok(Positions {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
            mask: Tensor::from_vec(mask.collect::<Vec<f32>>(), (sequence, sequence), device)?,
        })
    }

    /// Rotates x (B, heads, S, head_dim).
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let (cos, sin) = (&self.cos, &self.sin);
        let low = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
        let high = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
        Tensor::cat(&[low, high], D::Minus1)
    }
}

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
        positions: &Positions,
    ) -> Result<Tensor> {
        let sequence = positions.mask.dim(0)?;
        let mut q = linear(x, &self.q_proj)?; // (T, heads·head_dim)
        let mut k = linear(x, &self.k_proj)?; // (T, kv_heads·head_dim)
        let mut v = linear(x, &self.v_proj)?;
        if let Some([q_bias, k_bias, v_bias]) = &self.biases {
            q = q.broadcast_add(q_bias)?;
            k = k.broadcast_add(k_bias)?;
            v = v.broadcast_add(v_bias)?;
        }
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let split = |x: Tensor, heads: usize| {
            x.reshape(((), sequence, heads, config.head_dim)) // (B, S, heads, head_dim)
        };
        let (mut q, mut k, v) = (split(q, heads)?, split(k, kv_heads)?, split(v, kv_heads)?);
        if let Some([q_norm, k_norm]) = &self.norms {
            q = rms_norm(&q, q_norm, config.rms_norm_eps)?;
            k = rms_norm(&k, k_norm, config.rms_norm_eps)?;
        }
        let turn = |x: Tensor| x.transpose(1, 2)?.contiguous(); // (B, heads, S, head_dim)
        let (q, k, v) = (positions.rotate(&turn(q)?)?, positions.rotate(&turn(k)?)?, turn(v)?);
        let share = |x: Tensor| {
            let (b, _, s, h) = x.dims4()?;
            let group = heads / kv_heads;
            x.unsqueeze(2)?.expand((b, kv_heads, group, s, h))?.reshape((b, heads, s, h))
        };
        let (k, v) = (share(k)?, share(v)?);
        let scores = (q.matmul(&k.t()?)? / (config.head_dim as f64).sqrt())?; // (B, heads, S, S)
        let y = softmax(&scores.broadcast_add(&positions.mask)?)?.matmul(&v)?;
        let y = y.transpose(1, 2)?.reshape(((), heads * config.head_dim))?;
        linear(&y, &self.o_proj) // (T, hidden)
    }
}

struct Mlp {
    gate_proj: Tensor,
    up_proj: Tensor,
    down_proj: Tensor,
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = linear(x, &self.gate_proj)?; // (T, intermediate)
        let up = linear(x, &self.up_proj)?;
        linear(&(gate.silu()? * up)?, &self.down_proj) // (T, hidden)
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
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    lm_head: Tensor,
}

impl Transformer {
    /// Builds the network from whatever `source` gives, on the device of those tensors.
    ///
    /// # Errors
    /// A model that is not [`ModelConfig::trainable`]; whatever `source` says.
    pub fn new(config: &ModelConfig, source: TensorSource<'_>) -> Result<Transformer> {
        config.trainable().map_err(candle_core::Error::wrap)?;
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
            let biases = match config.has_qkv_bias() {
                true => Some([
                    get("self_attn.q_proj.bias")?,
                    get("self_attn.k_proj.bias")?,
                    get("self_attn.v_proj.bias")?,
                ]),
                false => None,
            };
            let norms = match config.model_type.traits().qk_norm {
                true => Some([get("self_attn.q_norm.weight")?, get("self_attn.k_norm.weight")?]),
                false => None,
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
        Ok(Transformer { config: config.clone(), embed_tokens, layers, norm, lm_head })
    }

    /// The last hidden states (T, hidden) of `tokens`, which are whole sequences of `sequence`.
    pub fn hidden(&self, tokens: &[u32], sequence: usize) -> Result<Tensor> {
        let device = self.embed_tokens.device();
        let positions = Positions::new(&self.config, sequence, device)?;
        let ids = Tensor::from_slice(tokens, tokens.len(), device)?;
        let epsilon = self.config.rms_norm_eps;
        let mut x = self.embed_tokens.index_select(&ids, 0)?; // (T, hidden)
        for layer in &self.layers {
            let h = rms_norm(&x, &layer.input_layernorm, epsilon)?;
            x = (x + layer.self_attn.forward(&h, &self.config, &positions)?)?;
            let h = rms_norm(&x, &layer.post_attention_layernorm, epsilon)?;
            x = (x + layer.mlp.forward(&h)?)?;
        }
        rms_norm(&x, &self.norm, epsilon)
    }

    /// The logits (T, vocabulary) of `tokens`.
    pub fn logits(&self, tokens: &[u32], sequence: usize) -> Result<Tensor> {
        linear(&self.hidden(tokens, sequence)?, &self.lm_head)
    }

    /// The mean cross-entropy in nats of `targets`, weighed by what they count.
    pub fn loss<'t>(
        &self,
        tokens: &[u32],
        targets: impl Into<Targets<'t>>,
        sequence: usize,
    ) -> Result<Tensor> {
        let targets = targets.into();
        let logits = self.logits(tokens, sequence)?;
        let device = logits.device();
        let places = targets.ids.len();
        let counts: Vec<f32> = (0..places).map(|at| targets.count(at)).collect();
        let counted = f64::from(targets.total().max(f32::MIN_POSITIVE));
        let ids = targets.ids.iter();
        let picked: Vec<u32> = ids.map(|&t| if t == IGNORE { 0 } else { t }).collect();
        let picked = Tensor::from_vec(picked, (places, 1), device)?;
        let counts = Tensor::from_vec(counts, (places, 1), device)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
        let total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?; // (T, 1)
        let nats = ((total - shifted.gather(&picked, D::Minus1)?)? * counts)?;
        nats.sum_all()? / counted
    }
}
