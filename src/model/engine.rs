//! The network for inference: quantized weights, a KV cache, no graph.
//!
//! The same weights and the same equations as [`super::transformer`], on plain slices: candle's fast
//! quantized kernels for the matrices, our own loops between them, all on candle's one thread pool.

use candle_core::{Device, Tensor};

use super::attention;
use super::config::{Family, ModelConfig};
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
    input_layernorm: Vec<f32>,
    q_proj: Matrix,
    k_proj: Matrix,
    v_proj: Matrix,
    biases: Option<[Vec<f32>; 3]>,
    norms: Option<[Vec<f32>; 2]>,
    o_proj: Matrix,
    post_attention_layernorm: Vec<f32>,
    gate_proj: Matrix,
    up_proj: Matrix,
    down_proj: Matrix,
}

/// A loaded model that turns tokens into logits.
pub struct Engine {
    config: ModelConfig,
    embed_tokens: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None`: the embedding table is the output layer.
    lm_head: Option<Matrix>,
    rope: RopeTable,
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
            "o_proj" => &mut layer.o_proj,
            "gate_proj" => &mut layer.gate_proj,
            "up_proj" => &mut layer.up_proj,
            "down_proj" => &mut layer.down_proj,
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
        let vector = |name: &str| weights.vector(name);
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let name = |rest: &str| format!("model.layers.{layer}.{rest}");
            let matrix = |rest: &str| matrix(&name(rest));
            let vector = |rest: &str| vector(&name(rest));
            let biases = match config.model_type {
                Family::Qwen2 => Some([
                    vector("self_attn.q_proj.bias")?,
                    vector("self_attn.k_proj.bias")?,
                    vector("self_attn.v_proj.bias")?,
                ]),
                _ => None,
            };
            let norms = match config.model_type {
                Family::Qwen3 => {
                    Some([vector("self_attn.q_norm.weight")?, vector("self_attn.k_norm.weight")?])
                }
                _ => None,
            };
            layers.push(Layer {
                input_layernorm: vector("input_layernorm.weight")?,
                q_proj: matrix("self_attn.q_proj.weight")?,
                k_proj: matrix("self_attn.k_proj.weight")?,
                v_proj: matrix("self_attn.v_proj.weight")?,
                biases,
                norms,
                o_proj: matrix("self_attn.o_proj.weight")?,
                post_attention_layernorm: vector("post_attention_layernorm.weight")?,
                gate_proj: matrix("mlp.gate_proj.weight")?,
                up_proj: matrix("mlp.up_proj.weight")?,
                down_proj: matrix("mlp.down_proj.weight")?,
            });
        }
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(matrix("lm_head.weight")?),
        };
        Ok(Engine {
            embed_tokens: matrix("model.embed_tokens.weight")?,
            layers,
            norm: vector("model.norm.weight")?,
            lm_head,
            rope: RopeTable::new(config.head_dim, config.rope_theta, context),
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
        let mut x = self.embed(tokens)?; // (rows, hidden)
        for (index, layer) in self.layers.iter().enumerate() {
            let mut see =
                |part, x: &Activations| x.read(|x| watch(Group { part, layer: index }, x));
            let h = self.norm(&x, &layer.input_layernorm)?;
            see(Part::AttentionIn, &h);
            let attended = self.attend(layer, index, &h, cache, start, rows)?;
            see(Part::AttentionOut, &attended);
            add(&mut x, &layer.o_proj.forward(&attended)?);
            let h = self.norm(&x, &layer.post_attention_layernorm)?;
            see(Part::FeedForwardIn, &h);
            let [gate, up] = forward_together([&layer.gate_proj, &layer.up_proj], &h)?;
            let h = self.swiglu(&gate, &up)?;
            see(Part::FeedForwardOut, &h);
            add(&mut x, &layer.down_proj.forward(&h)?);
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
        Ok(logits.read(<[f32]>::to_vec))
    }

    fn embed(&self, tokens: &[TokenId]) -> Result<Vec<f32>> {
        let width = self.config.hidden_size;
        match &self.embed_tokens {
            Matrix::Quantized(table) => {
                let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
                Ok(Activations(table.embedding(&ids)?).read(<[f32]>::to_vec))
            }
            Matrix::Float { weight, .. } => Ok(tokens
                .iter()
                .flat_map(|&t| &weight[t as usize * width..(t as usize + 1) * width])
                .copied()
                .collect()),
        }
    }

    fn norm(&self, x: &[f32], weight: &[f32]) -> Result<Activations> {
        let (width, epsilon) = (weight.len(), self.config.rms_norm_eps as f32);
        let mut out = vec![0f32; x.len()];
        for_each_chunk(&mut out, width, |row, out| {
            vectorize!(|| simd::rms_norm(&x[row * width..(row + 1) * width], weight, epsilon, out))
        });
        Activations::new(out, width)
    }

    fn swiglu(&self, gate: &Activations, up: &Activations) -> Result<Activations> {
        const UNIT: usize = 2048;
        let mut out = vec![0f32; gate.0.elem_count()];
        gate.read(|gate| {
            up.read(|up| {
                for_each_chunk(&mut out, UNIT, |unit, out| {
                    let from = unit * UNIT;
                    vectorize!(|| {
                        for ((x, &g), &u) in out.iter_mut().zip(&gate[from..]).zip(&up[from..]) {
                            *x = simd::silu(g) * u;
                        }
                    })
                })
            })
        });
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

    /// Adds the bias (qwen2), normalizes every head (qwen3) and rotates it by its position.
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
                    let (cos, sin) = self.rope.row(start + row);
                    for head in out.chunks_exact_mut(self.config.head_dim) {
                        if let Some(norm) = norm {
                            simd::rms_norm_in_place(head, norm, epsilon);
                        }
                        simd::rotate(head, cos, sin);
                    }
                })
            })
        });
        out
    }
}

fn add(x: &mut [f32], y: &Activations) {
    const UNIT: usize = 4096;
    y.read(|y| {
        for_each_chunk(x, UNIT, |unit, x| vectorize!(|| simd::axpy(1.0, &y[unit * UNIT..], x)));
    });
}
