//! The network for inference: quantized weights, a KV cache, no graph.
//!
//! The same weights and the same equations as [`super::transformer`], on plain slices: candle's fast
//! quantized kernels for the matrices, our own loops between them, all on candle's one thread pool.

use candle_core::quantized::QTensor;
use candle_core::utils::barrier_pool;
use candle_core::{Device, Storage, Tensor};

use super::attention;
use super::config::{Family, ModelConfig};
use super::kv_cache::KvCache;
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

/// One matrix (out, in) with an optional bias.
enum Matrix {
    Quantized(QTensor),
    Float { weight: Vec<f32>, inputs: usize },
}

impl Matrix {
    fn load(
        weights: &Weights,
        name: &str,
        precision: Precision,
    ) -> std::result::Result<Matrix, LoadError> {
        if precision == Precision::Quantized
            && let Some(quantized) = weights.quantized(name)?
        {
            return Ok(Matrix::Quantized(quantized));
        }
        let inputs = weights.dense(name)?.dims().last().copied().unwrap_or(0);
        Ok(Matrix::Float { weight: weights.vector(name)?, inputs })
    }

    fn outputs(&self) -> usize {
        match self {
            Matrix::Quantized(q) => q.shape().dims()[0],
            Matrix::Float { weight, inputs } => weight.len() / inputs,
        }
    }

    /// y (rows, out) = x (rows, in) · Wᵀ.
    fn forward(&self, x: &Activations) -> Result<Activations> {
        Ok(match self {
            Matrix::Quantized(q) => Activations(x.0.apply_op1_no_bwd(q)?),
            Matrix::Float { weight, inputs } => {
                let rows = x.0.elem_count() / inputs;
                let y = x.read(|x| float_matmul(x, weight, rows, *inputs));
                Activations::new(y, self.outputs())?
            }
        })
    }
}

/// Several matrices on the same input: one quantization of the input and one parallel region where
/// the kernels allow.
fn forward_together<const N: usize>(
    matrices: [&Matrix; N],
    x: &Activations,
) -> Result<[Activations; N]> {
    let quantized: Vec<&QTensor> = matrices
        .iter()
        .filter_map(|m| match m {
            Matrix::Quantized(q) => Some(q),
            Matrix::Float { .. } => None,
        })
        .collect();
    if quantized.len() == N
        && let Some(out) = QTensor::gemv_fused_shared_lhs(&quantized, &x.0)?
    {
        let mut out = out.into_iter().map(Activations);
        return Ok(std::array::from_fn(|_| out.next().expect("one output to each matrix")));
    }
    let mut out = Vec::with_capacity(N);
    for matrix in matrices {
        out.push(matrix.forward(x)?);
    }
    let mut out = out.into_iter();
    Ok(std::array::from_fn(|_| out.next().expect("one output to each matrix")))
}

/// A candle tensor (rows, features), f32, contiguous, used as a slice between two kernels.
struct Activations(Tensor);

impl Activations {
    fn new(data: Vec<f32>, features: usize) -> Result<Activations> {
        let rows = data.len() / features;
        Ok(Activations(Tensor::from_vec(data, (rows, features), &Device::Cpu)?))
    }

    fn read<R>(&self, f: impl FnOnce(&[f32]) -> R) -> R {
        let (storage, _) = self.0.storage_and_layout();
        match &*storage {
            Storage::Cpu(candle_core::CpuStorage::F32(data)) => f(data),
            _ => unreachable!("activations are f32 on the CPU"),
        }
    }
}

/// y (rows, out) = x (rows, in) · Wᵀ in f32. One row runs over both cores by outputs, which gemm
/// does not do.
fn float_matmul(x: &[f32], weight: &[f32], rows: usize, inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut y = vec![0f32; rows * outputs];
    if rows == 1 {
        const UNIT: usize = 64;
        for_each_chunk(&mut y, UNIT, |unit, y| {
            vectorize!(|| {
                for (i, y) in y.iter_mut().enumerate() {
                    let at = (unit * UNIT + i) * inputs;
                    *y = simd::dot(x, &weight[at..at + inputs]);
                }
            })
        });
    } else {
        super::ops::matmul_transposed(x, weight, &mut y, (rows, outputs, inputs));
    }
    y
}

/// Runs `f(index, chunk)` for every `size` elements of `data`, in parallel when there is enough to do.
pub(super) fn for_each_chunk(data: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let chunks = data.len().div_ceil(size);
    if data.len() < 8192 {
        return data.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
    let (start, length) = (data.as_mut_ptr() as usize, data.len());
    in_parallel(chunks, |range| {
        for i in range {
            let (from, to) = (i * size, ((i + 1) * size).min(length));
            // SAFETY: chunks are disjoint and lie inside `data`, which outlives the parallel region.
            let chunk =
                unsafe { std::slice::from_raw_parts_mut((start as *mut f32).add(from), to - from) };
            f(i, chunk);
        }
    });
}

/// Runs `f` over 0…`items` on candle's pool. A panic leaves the region only after its end: inside it
/// would poison the pool's lock, and with it every later operation of the process.
pub(super) fn in_parallel(items: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
    let panic = parking_lot::Mutex::new(None);
    barrier_pool().execute_chunked(items, |range| {
        let run = std::panic::AssertUnwindSafe(|| f(range));
        if let Err(payload) = std::panic::catch_unwind(run) {
            panic.lock().get_or_insert(payload);
        }
    });
    if let Some(payload) = panic.into_inner() {
        std::panic::resume_unwind(payload);
    }
}

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
    pub fn load(
        weights: &Weights,
        precision: Precision,
        context: usize,
    ) -> std::result::Result<Engine, LoadError> {
        let config = weights.config.clone();
        let context = context.min(config.max_position_embeddings);
        let matrix = |name: &str| Matrix::load(weights, name, precision);
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
            let h = self.norm(&x, &layer.input_layernorm)?;
            let attended = self.attend(layer, index, &h, cache, start, rows)?;
            add(&mut x, &layer.o_proj.forward(&attended)?);
            let h = self.norm(&x, &layer.post_attention_layernorm)?;
            let [gate, up] = forward_together([&layer.gate_proj, &layer.up_proj], &h)?;
            let h = self.swiglu(&gate, &up)?;
            add(&mut x, &layer.down_proj.forward(&h)?);
        }
        cache.extend(tokens);
        if n == 0 {
            return Ok(Vec::new());
        }
        let last = &x[(rows - n) * config.hidden_size..];
        let h = self.norm(last, &self.norm)?;
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
