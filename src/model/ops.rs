//! Fused operations with a backward pass, on the CPU, f32.
//!
//! candle's own fused norm, rotary embedding, softmax and attention have no backward pass and stop
//! gradients silently. Each operation here computes its gradients itself and is checked against
//! finite differences. Shapes: (tokens, features), row-major; tokens = batch × sequence.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::rope::RopeTable;
use super::simd::{self, vectorize};

/// Rows handled by one task: long enough to pay for the task, short enough to balance two cores.
const ROWS: usize = 64;

// ---- plumbing ----------------------------------------------------------------------------------

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a fused operation needs contiguous input, got {layout:?}"),
    }
}

fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(cpu) => f(slice(cpu, layout)?),
        _ => candle_core::bail!("the fused operations run on the CPU only"),
    }
}

/// A strided view for [`gemm`]: (pointer, row stride, column stride).
pub(super) type View<'a> = (&'a [f32], usize, usize);

/// dst (m, n) = β·dst + α·lhs (m, k) · rhs (k, n), all with arbitrary strides.
pub(super) fn gemm(
    (m, n, k): (usize, usize, usize),
    dst: (&mut [f32], usize, usize),
    lhs: View<'_>,
    rhs: View<'_>,
    (alpha, accumulate): (f32, bool),
    parallelism: gemm::Parallelism,
) {
    let last = |rows: usize, cols: usize, rs: usize, cs: usize| (rows - 1) * rs + (cols - 1) * cs;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(last(m, n, dst.1, dst.2) < dst.0.len(), "gemm: destination too short");
    assert!(last(m, k, lhs.1, lhs.2) < lhs.0.len(), "gemm: left side too short");
    assert!(last(k, n, rhs.1, rhs.2) < rhs.0.len(), "gemm: right side too short");
    // SAFETY: the three assertions above keep every addressed element inside its slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.0.as_mut_ptr(),
            dst.2 as isize,
            dst.1 as isize,
            accumulate,
            lhs.0.as_ptr(),
            lhs.2 as isize,
            lhs.1 as isize,
            rhs.0.as_ptr(),
            rhs.2 as isize,
            rhs.1 as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

pub(super) const ALL_CORES: gemm::Parallelism = gemm::Parallelism::Rayon(0);
pub(super) const ONE_CORE: gemm::Parallelism = gemm::Parallelism::None;

/// y (rows, out) = x (rows, in) · Wᵀ on all cores.
pub(super) fn matmul_transposed(
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    (rows, outputs, inputs): (usize, usize, usize),
) {
    gemm(
        (rows, outputs, inputs),
        (y, outputs, 1),
        (x, inputs, 1),
        (weight, 1, inputs),
        (1.0, false),
        ALL_CORES,
    );
}

fn tensor(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

// ---- linear ------------------------------------------------------------------------------------

/// y (tokens, out) = x (tokens, in) · Wᵀ with W (out, in), the layout of checkpoints.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, Linear)
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, w_inputs)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        if inputs != w_inputs {
            candle_core::bail!("linear: input {:?} does not fit weight {:?}", xl.shape(), wl.shape())
        }
        let mut y = vec![0f32; rows * outputs];
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        matmul_transposed(x, w, &mut y, (rows, outputs, inputs));
        Ok((CpuStorage::F32(y), (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((rows, inputs), outputs) = (x.dims2()?, w.dim(0)?);
        let mut dx = vec![0f32; rows * inputs];
        let mut dw = vec![0f32; outputs * inputs];
        read(dy, |dy| {
            read(w, |w| {
                gemm(
                    (rows, inputs, outputs),
                    (&mut dx, inputs, 1),
                    (dy, outputs, 1),
                    (w, inputs, 1),
                    (1.0, false),
                    ALL_CORES,
                );
                Ok(())
            })?;
            read(x, |x| {
                gemm(
                    (outputs, inputs, rows),
                    (&mut dw, inputs, 1),
                    (dy, 1, outputs),
                    (x, inputs, 1),
                    (1.0, false),
                    ALL_CORES,
                );
                Ok(())
            })
        })?;
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, w)?)))
    }
}

// ---- RMSNorm -----------------------------------------------------------------------------------

/// Root-mean-square normalization over rows of `weight.len()` features (Zhang & Sennrich 2019).
/// With a weight as long as one head it normalizes every head by itself (QK-norm).
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { epsilon: epsilon as f32 })
}

struct RmsNorm {
    epsilon: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(ROWS * w.len()).zip(x.par_chunks(ROWS * w.len())).for_each(|(y, x)| {
            vectorize(|| {
                for (y, x) in y.chunks_exact_mut(w.len()).zip(x.chunks_exact(w.len())) {
                    simd::rms_norm(x, w, self.epsilon, y);
                }
            })
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = read(x, |xs| read(w, |w| read(dy, |dy| Ok(self.gradients(xs, w, dy)))))?;
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, w)?)))
    }
}

impl RmsNorm {
    /// dx = s·(dy·w) − x·s³·mean(dy·w·x) and dw = Σ_rows dy·x·s, with s = 1/√(mean x² + ε).
    fn gradients(&self, x: &[f32], w: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = w.len();
        let mut dx = vec![0f32; x.len()];
        let dw = dx
            .par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * width))
            .zip(dy.par_chunks(ROWS * width))
            .map(|((dx, x), dy)| {
                let mut dw = vec![0f32; width];
                vectorize(|| {
                    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for ((dx, x), dy) in rows.zip(dy.chunks_exact(width)) {
                        let s = 1.0 / (simd::dot(x, x) / width as f32 + self.epsilon).sqrt();
                        for i in 0..width {
                            dx[i] = dy[i] * w[i];
                            dw[i] += dy[i] * x[i] * s;
                        }
                        let c = simd::dot(dx, x) * s * s * s / width as f32;
                        for i in 0..width {
                            dx[i] = dx[i] * s - x[i] * c;
                        }
                    }
                });
                dw
            })
            .reduce(
                || vec![0f32; width],
                |mut a, b| {
                    simd::axpy(1.0, &b, &mut a);
                    a
                },
            );
        (dx, dw)
    }
}

// ---- rotary embedding --------------------------------------------------------------------------

/// Rotary position embedding (Su et al. 2021) of x (batch·sequence, heads·head_dim); positions count
/// from 0 in each sequence.
pub fn rope(x: &Tensor, table: &Arc<RopeTable>, sequence: usize) -> Result<Tensor> {
    x.apply_op1(Rope { table: table.clone(), sequence, sign: 1.0 })
}

struct Rope {
    table: Arc<RopeTable>,
    sequence: usize,
    /// −1 rotates backwards: the transpose of a rotation, so its gradient.
    sign: f32,
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = xl.shape().dims2()?;
        if self.sequence > self.table.positions() || rows % self.sequence != 0 {
            candle_core::bail!("rope: {rows} rows are no whole sequences of {}", self.sequence)
        }
        let mut y = slice(x, xl)?.to_vec();
        y.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, rows)| {
            vectorize(|| {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    let (cos, sin) = self.table.row((block * ROWS + i) % self.sequence);
                    let mut signed = [0f32; RopeTable::MAX_PAIRS];
                    for (to, from) in signed.iter_mut().zip(sin) {
                        *to = from * self.sign;
                    }
                    for head in row.chunks_exact_mut(2 * cos.len()) {
                        simd::rotate(head, cos, &signed[..cos.len()]);
                    }
                }
            })
        });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let inverse =
            Rope { table: self.table.clone(), sequence: self.sequence, sign: -self.sign };
        Ok(Some(dy.contiguous()?.apply_op1_no_bwd(&inverse)?))
    }
}

// ---- SwiGLU ------------------------------------------------------------------------------------

/// silu(gate) · up, element by element (Shazeer 2020).
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gl: &Layout,
        up: &CpuStorage,
        ul: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(gate, gl)?, slice(up, ul)?);
        let mut y = vec![0f32; gate.len()];
        const CHUNK: usize = 1 << 14;
        y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(
            |((y, gate), up)| {
                vectorize(|| {
                    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
                        *y = simd::silu(g) * u;
                    }
                })
            },
        );
        Ok((CpuStorage::F32(y), gl.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut dgate = vec![0f32; gate.elem_count()];
        let mut dup = vec![0f32; up.elem_count()];
        const CHUNK: usize = 1 << 14;
        read(gate, |gate| {
            read(up, |up| {
                read(dy, |dy| {
                    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
                    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK));
                    outputs.zip(inputs.zip(dy.par_chunks(CHUNK))).for_each(
                        |((dgate, dup), ((gate, up), dy))| {
                            vectorize(|| {
                                for i in 0..dy.len() {
                                    let sigmoid = 1.0 / (1.0 + simd::exp(-gate[i]));
                                    let silu = gate[i] * sigmoid;
                                    dup[i] = dy[i] * silu;
                                    dgate[i] = dy[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
                                }
                            })
                        },
                    );
                    Ok(())
                })
            })
        })?;
        Ok((Some(tensor(dgate, gate)?), Some(tensor(dup, up)?)))
    }
}

// ---- causal attention --------------------------------------------------------------------------

/// The shape of one attention: sequences of equal length, query heads that share key/value heads
/// in groups (GQA).
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Tokens in each sequence.
    pub sequence: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features of one head.
    pub head_dim: usize,
}

/// Causal softmax attention: q (batch·sequence, heads·head_dim), k and v
/// (batch·sequence, kv_heads·head_dim) → (batch·sequence, heads·head_dim), scaled by 1/√head_dim.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, shape: AttentionShape) -> Result<Tensor> {
    q.apply_op3(k, v, Attention(shape))
}

struct Attention(AttentionShape);

/// Query rows whose scores are held at once: (QUERIES, sequence) floats stay in the L2 cache.
const QUERIES: usize = 64;

impl Attention {
    fn scale(&self) -> f32 {
        1.0 / (self.0.head_dim as f32).sqrt()
    }

    /// Softmax of the causal scores of queries `start..end` into `scores` (queries, end).
    fn probabilities(
        &self,
        (start, end): (usize, usize),
        q: &[f32],
        k: &[f32],
        scores: &mut [f32],
    ) {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.0;
        let (q_stride, kv_stride) = (heads * head_dim, kv_heads * head_dim);
        gemm(
            (end - start, end, head_dim),
            (scores, end, 1),
            (&q[start * q_stride..], q_stride, 1),
            (k, 1, kv_stride),
            (self.scale(), false),
            ONE_CORE,
        );
        vectorize(|| {
            for (i, row) in scores[..(end - start) * end].chunks_exact_mut(end).enumerate() {
                let (seen, future) = row.split_at_mut(start + i + 1);
                simd::softmax(seen);
                future.fill(0.0);
            }
        });
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let sequence = self.0.sequence;
        (0..sequence).step_by(QUERIES).map(move |start| (start, (start + QUERIES).min(sequence)))
    }
}

/// Disjoint strided writes from several tasks: each task owns one head of one sequence.
struct Shared(*mut f32, usize);
// SAFETY: tasks write disjoint (sequence, head) columns, see the callers.
unsafe impl Sync for Shared {}
impl Shared {
    /// # Safety
    /// No two tasks may touch the same elements of the slice.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice(&self, start: usize) -> &mut [f32] {
        // SAFETY: start ≤ length by construction; disjointness is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), self.1 - start) }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let AttentionShape { sequence, heads, kv_heads, head_dim } = self.0;
        let (q, k, v) = (slice(q, ql)?, slice(k, kl)?, slice(v, vl)?);
        let (q_stride, kv_stride) = (heads * head_dim, kv_heads * head_dim);
        let batch = q.len() / (sequence * q_stride);
        if q.len() != batch * sequence * q_stride || k.len() != batch * sequence * kv_stride {
            candle_core::bail!("attention: q {:?}, k {:?} do not fit {:?}", ql, kl, self.0)
        }
        let mut out = vec![0f32; q.len()];
        let shared = Shared(out.as_mut_ptr(), out.len());
        (0..batch * heads).into_par_iter().for_each(|task| {
            let (sequence_index, head) = (task / heads, task % heads);
            let kv_head = head / (heads / kv_heads);
            let q = &q[sequence_index * sequence * q_stride + head * head_dim..];
            let at = sequence_index * sequence * kv_stride + kv_head * head_dim;
            let (k, v) = (&k[at..], &v[at..]);
            let mut scores = vec![0f32; QUERIES * sequence];
            for (start, end) in self.blocks() {
                self.probabilities((start, end), q, k, &mut scores);
                let at = (sequence_index * sequence + start) * q_stride + head * head_dim;
                // SAFETY: this task alone writes this head's columns of this sequence.
                let out = unsafe { shared.slice(at) };
                gemm(
                    (end - start, head_dim, end),
                    (out, q_stride, 1),
                    (&scores, end, 1),
                    (v, kv_stride, 1),
                    (1.0, false),
                    ONE_CORE,
                );
            }
        });
        Ok((CpuStorage::F32(out), ql.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (mut dq, mut dk, mut dv) =
            (vec![0f32; q.elem_count()], vec![0f32; k.elem_count()], vec![0f32; v.elem_count()]);
        let shared = (
            Shared(dq.as_mut_ptr(), dq.len()),
            Shared(dk.as_mut_ptr(), dk.len()),
            Shared(dv.as_mut_ptr(), dv.len()),
        );
        read(q, |q| {
            read(k, |k| {
                read(v, |v| {
                    read(y, |y| {
                        read(dy, |dy| {
                            self.gradients((q, k, v, y, dy), &shared);
                            Ok(())
                        })
                    })
                })
            })
        })?;
        Ok((Some(tensor(dq, q)?), Some(tensor(dk, k)?), Some(tensor(dv, v)?)))
    }
}

impl Attention {
    /// The probabilities are computed again, block by block, instead of being kept (as in
    /// FlashAttention): dS = P ∘ (dY·Vᵀ − rowsum(dY ∘ Y)), dQ = dS·K, dK = dSᵀ·Q, dV = Pᵀ·dY.
    fn gradients(
        &self,
        (q, k, v, y, dy): (&[f32], &[f32], &[f32], &[f32], &[f32]),
        (dq, dk, dv): &(Shared, Shared, Shared),
    ) {
        let AttentionShape { sequence, heads, kv_heads, head_dim } = self.0;
        let (q_stride, kv_stride) = (heads * head_dim, kv_heads * head_dim);
        let (batch, group) = (q.len() / (sequence * q_stride), heads / kv_heads);
        (0..batch * kv_heads).into_par_iter().for_each(|task| {
            let (sequence_index, kv_head) = (task / kv_heads, task % kv_heads);
            let kv_at = sequence_index * sequence * kv_stride + kv_head * head_dim;
            let (k, v) = (&k[kv_at..], &v[kv_at..]);
            // SAFETY: this task alone writes this key/value head's columns of this sequence.
            let (dk, dv) = unsafe { (dk.slice(kv_at), dv.slice(kv_at)) };
            let mut p = vec![0f32; QUERIES * sequence];
            let mut ds = vec![0f32; QUERIES * sequence];
            for head in kv_head * group..(kv_head + 1) * group {
                let q_at = sequence_index * sequence * q_stride + head * head_dim;
                let (q, y, dy) = (&q[q_at..], &y[q_at..], &dy[q_at..]);
                for (start, end) in self.blocks() {
                    let (rows, from) = (end - start, start * q_stride);
                    self.probabilities((start, end), q, k, &mut p);
                    gemm(
                        (rows, end, head_dim),
                        (&mut ds, end, 1),
                        (&dy[from..], q_stride, 1),
                        (v, 1, kv_stride),
                        (1.0, false),
                        ONE_CORE,
                    );
                    vectorize(|| {
                        for i in 0..rows {
                            let at = from + i * q_stride;
                            let d = simd::dot(&dy[at..at + head_dim], &y[at..at + head_dim]);
                            let (ds, p) = (&mut ds[i * end..][..end], &p[i * end..][..end]);
                            for (ds, p) in ds.iter_mut().zip(p) {
                                *ds = p * (*ds - d);
                            }
                        }
                    });
                    // SAFETY: query heads of this group belong to this task alone.
                    let dq = unsafe { dq.slice(q_at + from) };
                    gemm(
                        (rows, head_dim, end),
                        (dq, q_stride, 1),
                        (&ds, end, 1),
                        (k, kv_stride, 1),
                        (self.scale(), false),
                        ONE_CORE,
                    );
                    gemm(
                        (end, head_dim, rows),
                        (dk, kv_stride, 1),
                        (&ds, 1, end),
                        (&q[from..], q_stride, 1),
                        (self.scale(), true),
                        ONE_CORE,
                    );
                    gemm(
                        (end, head_dim, rows),
                        (dv, kv_stride, 1),
                        (&p, 1, end),
                        (&dy[from..], q_stride, 1),
                        (1.0, true),
                        ONE_CORE,
                    );
                }
            }
        });
    }
}

// ---- cross-entropy -----------------------------------------------------------------------------

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// Mean cross-entropy in nats over the targets that are not [`IGNORE`], of the logits
/// hidden (tokens, d) · weightᵀ with weight (vocabulary, d).
///
/// The logits are made and consumed in chunks, never held whole, and the gradients are computed on
/// the way because the loss is the root of the graph.
pub fn cross_entropy(hidden: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<Tensor> {
    hidden.apply_op2(weight, CrossEntropy { targets: targets.to_vec(), gradients: Mutex::new(None) })
}

struct CrossEntropy {
    targets: Vec<u32>,
    gradients: Mutex<Option<(Vec<f32>, Vec<f32>)>>,
}

/// Tokens whose logits are held at once.
const CHUNK_TOKENS: usize = 1024;

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((tokens, width), vocabulary) = (hl.shape().dims2()?, wl.shape().dims2()?.0);
        if tokens != self.targets.len() {
            candle_core::bail!("cross_entropy: {tokens} rows, {} targets", self.targets.len())
        }
        let (hidden, weight) = (slice(hidden, hl)?, slice(weight, wl)?);
        let counted = self.targets.iter().filter(|&&t| t != IGNORE).count().max(1) as f32;
        let mut loss = 0f64;
        let mut dh = vec![0f32; hidden.len()];
        let mut dw = vec![0f32; weight.len()];
        let mut logits = vec![0f32; CHUNK_TOKENS.min(tokens) * vocabulary];
        for start in (0..tokens).step_by(CHUNK_TOKENS) {
            let rows = CHUNK_TOKENS.min(tokens - start);
            let h = &hidden[start * width..(start + rows) * width];
            let logits = &mut logits[..rows * vocabulary];
            gemm(
                (rows, vocabulary, width),
                (logits, vocabulary, 1),
                (h, width, 1),
                (weight, 1, width),
                (1.0, false),
                ALL_CORES,
            );
            loss += logits
                .par_chunks_mut(vocabulary)
                .zip(&self.targets[start..start + rows])
                .map(|(row, &target)| {
                    if target == IGNORE {
                        row.fill(0.0);
                        return 0f64;
                    }
                    let picked = row[target as usize];
                    let (top, total) = vectorize(|| {
                        let statistics = simd::softmax(row);
                        for x in row.iter_mut() {
                            *x /= counted;
                        }
                        statistics
                    });
                    row[target as usize] -= 1.0 / counted;
                    (top + total.ln() - picked) as f64
                })
                .sum::<f64>();
            gemm(
                (rows, width, vocabulary),
                (&mut dh[start * width..(start + rows) * width], width, 1),
                (logits, vocabulary, 1),
                (weight, width, 1),
                (1.0, false),
                ALL_CORES,
            );
            gemm(
                (vocabulary, width, rows),
                (&mut dw, width, 1),
                (logits, 1, vocabulary),
                (h, width, 1),
                (1.0, true),
                ALL_CORES,
            );
        }
        *self.gradients.lock().expect("no panic holds this lock") = Some((dh, dw));
        Ok((CpuStorage::F32(vec![(loss / counted as f64) as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _loss: &Tensor,
        dloss: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradients = self.gradients.lock().expect("no panic holds this lock").take();
        let Some((dh, dw)) = gradients else {
            candle_core::bail!("cross_entropy: backward ran twice")
        };
        let scale = dloss.to_scalar::<f32>()? as f64;
        let scaled = |data, like| tensor(data, like)?.affine(scale, 0.0);
        Ok((Some(scaled(dh, hidden)?), Some(scaled(dw, weight)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn random(shape: (usize, usize), seed: u64) -> Var {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let data: Vec<f32> = (0..shape.0 * shape.1).map(|_| rng.random_range(-1.0..1.0)).collect();
        Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// Compares the gradient of Σ f·c (c fixed and random) with central differences.
    fn check(inputs: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let loss = |inputs: &[Tensor]| -> Result<Tensor> {
            let y = f(inputs)?;
            if y.rank() == 0 {
                return Ok(y);
            }
            let c = random(y.dims2()?, 99);
            (y * c.as_tensor())?.sum_all()
        };
        let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
        let gradients = loss(&tensors).unwrap().backward().unwrap();
        for (which, var) in inputs.iter().enumerate() {
            let analytic = gradients.get(var).unwrap().flatten_all().unwrap();
            let analytic = analytic.to_vec1::<f32>().unwrap();
            let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for i in (0..values.len()).step_by(values.len() / 7 + 1) {
                let at = |delta: f32| {
                    let mut moved = values.clone();
                    moved[i] += delta;
                    let mut tensors = tensors.clone();
                    tensors[which] = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
                    loss(&tensors).unwrap().to_scalar::<f32>().unwrap()
                };
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                let error = (numeric - analytic[i]).abs();
                assert!(error < 2e-2 * (1.0 + numeric.abs()), "{which}[{i}]: {numeric} {analytic:?}");
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (x, w) = (random((6, 16), 1), random((8, 16), 2));
        check(&[x.clone(), w], |t| linear(&t[0], &t[1]));
        check(&[x.clone(), random((1, 16), 3)], |t| rms_norm(&t[0], &t[1].flatten_all()?, 1e-5));
        check(&[x.clone(), random((6, 16), 4)], |t| swiglu(&t[0], &t[1]));
        let table = Arc::new(RopeTable::new(8, 10_000.0, 16));
        check(&[x], |t| rope(&t[0], &table, 3));
        let shape = AttentionShape { sequence: 5, heads: 4, kv_heads: 2, head_dim: 8 };
        let (q, k, v) = (random((10, 32), 5), random((10, 16), 6), random((10, 16), 7));
        check(&[q, k, v], |t| attention(&t[0], &t[1], &t[2], shape));
        let targets = [0, 3, IGNORE, 7, 1, 1];
        check(&[random((6, 16), 8), random((8, 16), 9)], |t| {
            cross_entropy(&t[0], &t[1], &targets)
        });
    }
}
