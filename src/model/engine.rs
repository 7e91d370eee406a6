//! The network for inference: quantized weights, a KV cache, no graph.
//!
//! The same weights and the same equations as [`super::transformer`], on plain slices: candle's fast
//! quantized kernels for the matrices, our own loops between them, all on candle's one thread pool.

use candle_core::{Device, Tensor};

use super::attention;
use super::config::ModelConfig;
use super::family::{Activation, NormKind, POSITIONS};
use super::groups::{Group, Part};
use super::kv_cache::KvCache;
use super::matrix::{Activations, Matrix, for_each_chunk, forward_together};
use super::quantize::Plan;
use super::rope::RopeTable;
use super::simd::{self, vectorize};
use super::weights::{LoadError, Weights};
use crate::tokenizer::TokenId;

/// In what type the matrices are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The file's own block type; anything wider as Q8_0.
    Quantized,
    /// f32, for comparisons.
    Float,
}

/// A failure inside a forward pass: a shape that the kernels refuse.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The cache cannot hold that many tokens.
    #[error("{wanted} tokens do not fit a context of {capacity}")]
    ContextFull {
        /// Tokens that the cache would hold.
        wanted: usize,
        /// Tokens that it can hold.
        capacity: usize,
    },
    /// A token outside the embedding table.
    #[error("token {0} is outside the vocabulary of {1}")]
    UnknownToken(TokenId, usize),
    /// candle's own error.
    #[error(transparent)]
    Kernel(#[from] candle_core::Error),
}

type Result<T> = std::result::Result<T, EngineError>;
type Loaded<T> = std::result::Result<T, LoadError>;

struct Layer {
    input_layernorm: Norm,
    q_proj: Matrix,
    k_proj: Matrix,
    v_proj: Matrix,
    biases: Option<[Vec<f32>; 3]>,
    norms: Option<[Vec<f32>; 2]>,
    o_proj: Linear,
    post_attention_layernorm: Norm,
    gate_proj: Option<Linear>,
    up_proj: Linear,
    down_proj: Linear,
}

/// A norm of the residual stream: LayerNorm if it has a bias, else RMSNorm.
struct Norm {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

struct Linear {
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

/// A loaded model that turns tokens into logits.
pub struct Engine {
    config: ModelConfig,
    embed_tokens: Matrix,
    layers: Vec<Layer>,
    /// What each position adds to the embedding, (positions, hidden), where positions are learned.
    embed_positions: Option<Vec<f32>>,
    norm: Norm,
    /// `None`: the embedding table is the output layer.
    lm_head: Option<Matrix>,
    /// `None`: positions are learned.
    rope: Option<RopeTable>,
    context: usize,
}

impl Engine {
    /// Reads all tensors. `context` bounds the positions, and so the caches; it is cut to what the
    /// model was made for.
    pub fn load(weights: &Weights, precision: Precision, context: usize) -> Loaded<Engine> {
        Engine::build(weights, context, &|name| Matrix::load(weights, name, precision))
    }

    /// Quantizes in memory: computes what [`Engine::load`] computes with the file of that plan.
    pub fn planned(weights: &Weights, plan: &Plan, context: usize) -> Loaded<Engine> {
        Engine::build(weights, context, &|name| Matrix::planned(weights, name, plan))
    }

    /// Gives one group of matrices the type that it has in `plan`; the others stay.
    pub fn replan(&mut self, weights: &Weights, plan: &Plan, group: Group) -> Loaded<()> {
        for (name, _) in Group::all(&self.config).remove(&group).unwrap_or_default() {
            let matrix = Matrix::planned(weights, &name, plan)?;
            if let Some(place) = self.matrix_mut(group, &name) {
                *place = matrix;
            }
        }
        Ok(())
    }

    fn matrix_mut(&mut self, group: Group, name: &str) -> Option<&mut Matrix> {
        match group.part {
            Part::Embedding => return Some(&mut self.embed_tokens),
            Part::Head => return self.lm_head.as_mut(),
            _ => {}
        }
        let layer = self.layers.get_mut(group.layer)?;
        Some(match name.rsplit('.').nth(1)? {
            "q_proj" => &mut layer.q_proj,
            "k_proj" => &mut layer.k_proj,
            "v_proj" => &mut layer.v_proj,
            "o_proj" => &mut layer.o_proj.weight,
            "gate_proj" => &mut layer.gate_proj.as_mut()?.weight,
            "up_proj" => &mut layer.up_proj.weight,
            "down_proj" => &mut layer.down_proj.weight,
            _ => return None,
        })
    }

    fn build(
        weights: &Weights,
        context: usize,
        matrix: &dyn Fn(&str) -> Loaded<Matrix>,
    ) -> Loaded<Engine> {
        let config = weights.config.clone();
        let context = context.min(config.max_position_embeddings);
        let traits = config.model_type.traits();
        let vector = |name: &str| weights.vector(name);
        let maybe = |is_there: bool, name: &str| is_there.then(|| vector(name)).transpose();
        let norm = |name: &str| {
            let bias = maybe(traits.norm == NormKind::Layer, &format!("{name}.bias"))?;
            Ok(Norm { weight: vector(&format!("{name}.weight"))?, bias })
        };
        let linear = |name: &str, biased: bool| {
            let bias = maybe(biased, &format!("{name}.bias"))?;
            Ok(Linear { weight: matrix(&format!("{name}.weight"))?, bias })
        };
        let (output_bias, mlp_bias) = (config.details.output_bias, config.details.mlp_bias);
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let name = |rest: &str| format!("model.layers.{layer}.{rest}");
            let matrix = |rest: &str| matrix(&name(rest));
            let vector = |rest: &str| vector(&name(rest));
            let biases = match config.has_qkv_bias() {
                true => Some([
                    vector("self_attn.q_proj.bias")?,
                    vector("self_attn.k_proj.bias")?,
                    vector("self_attn.v_proj.bias")?,
                ]),
                false => None,
            };
            let norms = match traits.qk_norm {
                true => {
                    Some([vector("self_attn.q_norm.weight")?, vector("self_attn.k_norm.weight")?])
                }
                false => None,
            };
            let gate_proj = match traits.gated {
                true => Some(linear(&name("mlp.gate_proj"), mlp_bias)?),
                false => None,
            };
            layers.push(Layer {
                input_layernorm: norm(&name("input_layernorm"))?,
                q_proj: matrix("self_attn.q_proj.weight")?,
                k_proj: matrix("self_attn.k_proj.weight")?,
                v_proj: matrix("self_attn.v_proj.weight")?,
                biases,
                norms,
                o_proj: linear(&name("self_attn.o_proj"), output_bias)?,
                post_attention_layernorm: norm(&name("post_attention_layernorm"))?,
                gate_proj,
                up_proj: linear(&name("mlp.up_proj"), mlp_bias)?,
                down_proj: linear(&name("mlp.down_proj"), mlp_bias)?,
            });
        }
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(matrix("lm_head.weight")?),
        };
        Ok(Engine {
            embed_tokens: matrix("model.embed_tokens.weight")?,
            layers,
            embed_positions: maybe(!traits.rotary, POSITIONS)?,
            norm: norm("model.norm")?,
            lm_head,
            rope: traits.rotary.then(|| RopeTable::new(&config, context)),
            context,
            config,
        })
    }

    /// The shape of the network.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Positions that the engine can handle.
    pub fn context(&self) -> usize {
        self.context
    }

    /// An empty cache of the whole context.
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(&self.config, self.context)
    }

    /// Appends `tokens` to the cache and returns the logits (n, vocabulary) of the last `n` of them,
    /// row after row.
    pub fn forward(&self, cache: &mut KvCache, tokens: &[TokenId], n: usize) -> Result<Vec<f32>> {
        self.forward_watched(cache, tokens, n, &mut |_, _| {})
    }

    /// [`Engine::forward`] that shows `watch` the input (rows, features) of every group of matrices; the
    /// output layer's is that of [`Part::Head`], or of [`Part::Embedding`] where the two are tied.
    pub fn forward_watched(
        &self,
        cache: &mut KvCache,
        tokens: &[TokenId],
        n: usize,
        watch: &mut dyn FnMut(Group, &[f32]),
    ) -> Result<Vec<f32>> {
        let config = &self.config;
        let (start, rows) = (cache.tokens().len(), tokens.len());
        let (wanted, capacity) = (start + rows, self.context.min(cache.capacity()));
        if wanted > capacity {
            return Err(EngineError::ContextFull { wanted, capacity });
        }
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= config.vocab_size) {
            return Err(EngineError::UnknownToken(token, config.vocab_size));
        }
        let n = n.min(rows);
        if rows == 0 {
            return Ok(Vec::new());
        }
        let counts = config.details.residual_multiplier;
        let mut x = self.embed(tokens, start)?; // (rows, hidden)
        for (index, layer) in self.layers.iter().enumerate() {
            let mut see =
                |part, x: &Activations| x.read(|x| watch(Group { part, layer: index }, x));
            let h = self.norm(&x, &layer.input_layernorm)?;
            see(Part::AttentionIn, &h);
            let attended = self.attend(layer, index, &h, cache, start, rows)?;
            see(Part::AttentionOut, &attended);
            layer.o_proj.add(&mut x, &attended, counts)?;
            let h = self.norm(&x, &layer.post_attention_layernorm)?;
            see(Part::FeedForwardIn, &h);
            let h = self.feed_forward(layer, &h)?;
            see(Part::FeedForwardOut, &h);
            layer.down_proj.add(&mut x, &h, counts)?;
        }
        cache.extend(tokens);
        if n == 0 {
            return Ok(Vec::new());
        }
        let last = &x[(rows - n) * config.hidden_size..];
        let h = self.norm(last, &self.norm)?;
        let part = if self.lm_head.is_some() { Part::Head } else { Part::Embedding };
        h.read(|x| watch(Group { part, layer: 0 }, x));
        let logits = self.lm_head.as_ref().unwrap_or(&self.embed_tokens).forward(&h)?;
        let mut logits = logits.read(<[f32]>::to_vec);
        let scaling = config.details.logits_scaling;
        if scaling != 1.0 {
            logits.iter_mut().for_each(|x| *x /= scaling);
        }
        Ok(logits)
    }

    /// The embeddings (rows, hidden) of tokens at positions `start…`.
    fn embed(&self, tokens: &[TokenId], start: usize) -> Result<Vec<f32>> {
        let width = self.config.hidden_size;
        let mut x: Vec<f32> = match &self.embed_tokens {
            #[cfg(target_arch = "x86_64")]
            Matrix::Packed(table) => {
                let mut x = Vec::with_capacity(tokens.len() * width);
                tokens.iter().for_each(|&token| table.row(token as usize, &mut x));
                x
            }
            Matrix::Quantized(table) => {
                let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
                Activations(table.embedding(&ids)?).read(<[f32]>::to_vec)
            }
            Matrix::Float { weight, .. } => tokens
                .iter()
                .flat_map(|&t| &weight[t as usize * width..(t as usize + 1) * width])
                .copied()
                .collect(),
        };
        let factor = self.config.details.embedding_multiplier;
        if factor != 1.0 {
            x.iter_mut().for_each(|x| *x *= factor);
        }
        if let Some(positions) = &self.embed_positions {
            simd::axpy(1.0, &positions[start * width..], &mut x);
        }
        Ok(x)
    }

    fn norm(&self, x: &[f32], norm: &Norm) -> Result<Activations> {
        let (width, epsilon) = (norm.weight.len(), self.config.rms_norm_eps as f32);
        let (weight, mut out) = (&norm.weight[..], vec![0f32; x.len()]);
        for_each_chunk(&mut out, width, |row, out| {
            let x = &x[row * width..(row + 1) * width];
            match &norm.bias {
                None => vectorize!(|| simd::rms_norm(x, weight, epsilon, out)),
                Some(bias) => vectorize!(|| simd::layer_norm(x, weight, bias, epsilon, out)),
            }
        });
        Activations::new(out, width)
    }

    /// What goes into the last matrix of the feed-forward layer.
    fn feed_forward(&self, layer: &Layer, h: &Activations) -> Result<Activations> {
        let up_proj = &layer.up_proj;
        let Some(gate_proj) = &layer.gate_proj else {
            let up = biased(up_proj.weight.forward(h)?, up_proj)?;
            return self.activate(&up, None);
        };
        let [gate, up] = forward_together([&gate_proj.weight, &up_proj.weight], h)?;
        self.activate(&biased(gate, gate_proj)?, Some(&biased(up, up_proj)?))
    }

    /// The activation of `x`, times `factor` where the layer is gated.
    fn activate(&self, x: &Activations, factor: Option<&Activations>) -> Result<Activations> {
        const UNIT: usize = 2048;
        let mut out = vec![0f32; x.0.elem_count()];
        // A macro: a function that is passed on might be called, not inlined.
        macro_rules! each {
            ($f:path) => {
                x.read(|x| match factor {
                    Some(factor) => factor.read(|factor| {
                        for_each_chunk(&mut out, UNIT, |unit, out| {
                            let from = unit * UNIT;
                            vectorize!(|| {
                                let pairs = x[from..].iter().zip(&factor[from..]);
                                for (y, (&x, &factor)) in out.iter_mut().zip(pairs) {
                                    *y = $f(x) * factor;
                                }
                            })
                        })
                    }),
                    None => for_each_chunk(&mut out, UNIT, |unit, out| {
                        vectorize!(|| {
                            for (y, &x) in out.iter_mut().zip(&x[unit * UNIT..]) {
                                *y = $f(x);
                            }
                        })
                    }),
                })
            };
        }
        match self.config.details.activation {
            Activation::Silu => each!(simd::silu),
            Activation::Gelu => each!(simd::gelu),
            Activation::GeluTanh => each!(simd::gelu_tanh),
        }
        Activations::new(out, self.config.intermediate_size)
    }

    /// Attention of `rows` new tokens at positions `start…` over everything in the cache.
    fn attend(
        &self,
        layer: &Layer,
        index: usize,
        h: &Activations,
        cache: &mut KvCache,
        start: usize,
        rows: usize,
    ) -> Result<Activations> {
        let [q, k, v] = forward_together([&layer.q_proj, &layer.k_proj, &layer.v_proj], h)?;
        let biases = layer.biases.as_ref();
        let norms = layer.norms.as_ref();
        let bias = |i: usize| biases.map(|b| &*b[i]);
        let norm = |i: usize| norms.map(|n| &*n[i]);
        let q = self.place(&q, self.config.query_size(), bias(0), norm(0), start);
        let k = self.place(&k, self.config.kv_size(), bias(1), norm(1), start);
        let shape = attention::Shape {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            scale: self.config.attention_scale(),
            capacity: cache.capacity(),
            start,
            rows,
        };
        let cache = cache.layer(index);
        match bias(2) {
            None => v.read(|v| attention::store(&shape, &k, v, cache)),
            Some(bias) => {
                let mut v = v.read(<[f32]>::to_vec);
                v.chunks_exact_mut(bias.len()).for_each(|row| simd::axpy(1.0, bias, row));
                attention::store(&shape, &k, &v, cache);
            }
        }
        Activations::new(attention::attend(&shape, &q, cache), self.config.query_size())
    }

    /// Adds the bias, normalizes every head (qwen3) and rotates it by its position, as far as the family has
    /// these.
    fn place(
        &self,
        x: &Activations,
        width: usize,
        bias: Option<&[f32]>,
        norm: Option<&[f32]>,
        start: usize,
    ) -> Vec<f32> {
        let epsilon = self.config.rms_norm_eps as f32;
        let mut out = vec![0f32; x.0.elem_count()];
        x.read(|x| {
            for_each_chunk(&mut out, width, |row, out| {
                vectorize!(|| {
                    out.copy_from_slice(&x[row * width..(row + 1) * width]);
                    if let Some(bias) = bias {
                        simd::axpy(1.0, bias, out);
                    }
                    let rotation = self.rope.as_ref().map(|rope| rope.row(start + row));
                    for head in out.chunks_exact_mut(self.config.head_dim) {
                        if let Some(norm) = norm {
                            simd::rms_norm_in_place(head, norm, epsilon);
                        }
                        if let Some((cos, sin)) = rotation {
                            simd::rotate(head, cos, sin);
                        }
                    }
                })
            })
        });
        out
    }
}

impl Linear {
    /// x += counts · (h·Wᵀ + bias).
    fn add(&self, x: &mut [f32], h: &Activations, counts: f32) -> Result<()> {
        const UNIT: usize = 4096;
        self.weight.forward(h)?.read(|y| {
            for_each_chunk(x, UNIT, |unit, x| {
                vectorize!(|| simd::axpy(counts, &y[unit * UNIT..], x))
            });
        });
        if let Some(bias) = &self.bias {
            x.chunks_exact_mut(bias.len()).for_each(|row| simd::axpy(counts, bias, row));
        }
        Ok(())
    }
}

/// Adds the bias of the layer whose product this is.
fn biased(y: Activations, layer: &Linear) -> Result<Activations> {
    let Some(bias) = &layer.bias else { return Ok(y) };
    let mut y = y.read(<[f32]>::to_vec);
    y.chunks_exact_mut(bias.len()).for_each(|row| simd::axpy(1.0, bias, row));
    Activations::new(y, bias.len())
}
