//! Causal attention over whole sequences and its gradients, for training.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{ONE_CORE, gemm, read, slice, tensor};
use crate::model::simd::{self, vectorize};

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
        vectorize!(|| {
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
                            self.gradients([q, k, v, y, dy], &shared);
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
    fn gradients(&self, [q, k, v, y, dy]: [&[f32]; 5], (dq, dk, dv): &(Shared, Shared, Shared)) {
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
                    vectorize!(|| {
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
