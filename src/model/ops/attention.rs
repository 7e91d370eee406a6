//! Causal attention over one whole sequence and its gradients.

use super::{ONE_CORE, gemm};
use crate::model::simd::{self, vectorize};

/// The shape of one attention: query heads that share key/value heads in groups (GQA).
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Tokens of the sequence.
    pub sequence: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features of one head.
    pub head_dim: usize,
}

/// Query rows whose scores are held at once: (QUERIES, sequence) floats stay in the L2 cache.
const QUERIES: usize = 64;

impl Shape {
    /// Floats that `scratch` must hold.
    pub fn scratch(&self) -> usize {
        2 * QUERIES * self.sequence
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn strides(&self) -> (usize, usize) {
        (self.heads * self.head_dim, self.kv_heads * self.head_dim)
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let sequence = self.sequence;
        (0..sequence).step_by(QUERIES).map(move |start| (start, (start + QUERIES).min(sequence)))
    }

    /// Softmax of the causal scores of queries `start..end` into `scores` (queries, end).
    fn probabilities(
        &self,
        (start, end): (usize, usize),
        q: &[f32],
        k: &[f32],
        scores: &mut [f32],
    ) {
        let (q_stride, kv_stride) = self.strides();
        gemm(
            (end - start, end, self.head_dim),
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
}

/// y = softmax(q·kᵀ / √head_dim)·v, causal: q and y (sequence, heads·head_dim), k and v
/// (sequence, kv_heads·head_dim).
pub fn forward(q: &[f32], k: &[f32], v: &[f32], y: &mut [f32], shape: Shape, scratch: &mut [f32]) {
    let Shape { heads, kv_heads, head_dim, .. } = shape;
    let (q_stride, kv_stride) = shape.strides();
    for head in 0..heads {
        let (at, kv_at) = (head * head_dim, head / (heads / kv_heads) * head_dim);
        for (start, end) in shape.blocks() {
            shape.probabilities((start, end), &q[at..], &k[kv_at..], scratch);
            gemm(
                (end - start, head_dim, end),
                (&mut y[start * q_stride + at..], q_stride, 1),
                (scratch, end, 1),
                (&v[kv_at..], kv_stride, 1),
                (1.0, false),
                ONE_CORE,
            );
        }
    }
}

/// The gradients of q (written), k and v (added).
///
/// The probabilities are computed again, block by block, instead of being kept (as in
/// FlashAttention): dS = P ∘ (dY·Vᵀ − rowsum(dY ∘ Y)), dQ = dS·K, dK = dSᵀ·Q, dV = Pᵀ·dY.
pub fn backward(
    [q, k, v, y, dy]: [&[f32]; 5],
    [dq, dk, dv]: [&mut [f32]; 3],
    shape: Shape,
    scratch: &mut [f32],
) {
    let Shape { sequence, heads, kv_heads, head_dim } = shape;
    let (q_stride, kv_stride) = shape.strides();
    let (p, ds) = scratch.split_at_mut(QUERIES * sequence);
    for head in 0..heads {
        let (at, kv_at) = (head * head_dim, head / (heads / kv_heads) * head_dim);
        for (start, end) in shape.blocks() {
            let (rows, from) = (end - start, start * q_stride + at);
            shape.probabilities((start, end), &q[at..], &k[kv_at..], p);
            gemm(
                (rows, end, head_dim),
                (ds, end, 1),
                (&dy[from..], q_stride, 1),
                (&v[kv_at..], 1, kv_stride),
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
            gemm(
                (rows, head_dim, end),
                (&mut dq[from..], q_stride, 1),
                (ds, end, 1),
                (&k[kv_at..], kv_stride, 1),
                (shape.scale(), false),
                ONE_CORE,
            );
            gemm(
                (end, head_dim, rows),
                (&mut dk[kv_at..], kv_stride, 1),
                (ds, 1, end),
                (&q[from..], q_stride, 1),
                (shape.scale(), true),
                ONE_CORE,
            );
            gemm(
                (end, head_dim, rows),
                (&mut dv[kv_at..], kv_stride, 1),
                (p, 1, end),
                (&dy[from..], q_stride, 1),
                (1.0, true),
                ONE_CORE,
            );
        }
    }
}
