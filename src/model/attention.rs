//! Causal attention over a KV cache, for inference.
//!
//! One or a few queries (decoding, verifying a draft) run over vectors of positions; many queries
//! (prefill) run as matrix products on blocks that stay in the cache of the CPU.

use super::kv_cache::LayerCache;
use super::matrix::in_parallel;
use super::ops;
use super::simd::{self, vectorize};

/// Tokens from which matrix products and more than one core pay.
const MANY: usize = 12;

/// What attends to what.
pub(super) struct Shape {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// What the product of a query and a key is multiplied by.
    pub(super) scale: f32,
    /// Positions that the cache has room for.
    pub(super) capacity: usize,
    /// Position of the first query.
    pub(super) start: usize,
    /// Queries.
    pub(super) rows: usize,
}

/// Writes keys and values (rows, kv_heads·head_dim) behind what the layer's cache holds.
pub(super) fn store(shape: &Shape, k: &[f32], v: &[f32], cache: &mut LayerCache) {
    let &Shape { kv_heads, head_dim, capacity, start, rows, .. } = shape;
    let size = capacity * head_dim;
    let store_head = |head: usize, keys: &mut [f32], values: &mut [f32]| {
        store_keys(shape, head, k, keys);
        let width = kv_heads * head_dim;
        let values = values[start * head_dim..].chunks_exact_mut(head_dim);
        for (to, row) in values.zip(v.chunks_exact(width)) {
            to.copy_from_slice(&row[head * head_dim..][..head_dim]);
        }
    };
    let heads = cache.keys.chunks_exact_mut(size).zip(cache.values.chunks_exact_mut(size));
    if rows < MANY {
        heads.enumerate().for_each(|(head, (keys, values))| store_head(head, keys, values));
    } else {
        let heads: Vec<_> = heads.map(|pair| parking_lot::Mutex::new(Some(pair))).collect();
        in_parallel(kv_heads, |range| {
            for head in range {
                if let Some((keys, values)) = heads[head].lock().take() {
                    store_head(head, keys, values);
                }
            }
        });
    }
}

/// Transposes the new keys of one head, 16 positions at a time: whole vectors are written.
fn store_keys(shape: &Shape, head: usize, k: &[f32], keys: &mut [f32]) {
    const TILE: usize = 16;
    let &Shape { kv_heads, head_dim, capacity, start, .. } = shape;
    let width = kv_heads * head_dim;
    let column = head * head_dim;
    for (tile, rows) in k.chunks(TILE * width).enumerate() {
        let at = start + tile * TILE;
        let count = rows.len() / width;
        for d in 0..head_dim {
            let to = &mut keys[d * capacity + at..][..count];
            for (i, to) in to.iter_mut().enumerate() {
                *to = rows[i * width + column + d];
            }
        }
    }
}

/// softmax(scale·q·kᵀ)·v of q (rows, heads·head_dim) → the same shape.
pub(super) fn attend(shape: &Shape, q: &[f32], cache: &LayerCache) -> Vec<f32> {
    /// Queries of one block in prefill.
    const BLOCK: usize = 64;
    let mut out = vec![0f32; q.len()];
    let output = Output(out.as_mut_ptr());
    let block = if shape.rows < MANY { 1 } else { BLOCK };
    let blocks = shape.rows.div_ceil(block);
    // Late blocks see more keys; handing them out first balances the cores.
    in_parallel(shape.heads * blocks, |tasks| {
        for task in tasks {
            let (head, row) = (task % shape.heads, (blocks - 1 - task / shape.heads) * block);
            let rows = block.min(shape.rows - row);
            if block == 1 {
                one_query(shape, head, row, q, cache, output.head(shape, row, head));
            } else {
                many_queries(shape, head, (row, rows), q, cache, &output);
            }
        }
    });
    out
}

/// The result (rows, heads·head_dim), of which every task writes the heads of its own rows.
struct Output(*mut f32);

// SAFETY: tasks write disjoint parts, see `head`.
unsafe impl Sync for Output {}

impl Output {
    /// One head of one row. Each (row, head) belongs to exactly one task, which asks for it once at a
    /// time.
    #[allow(clippy::mut_from_ref)] // The parts are disjoint.
    fn head(&self, shape: &Shape, row: usize, head: usize) -> &mut [f32] {
        let at = (row * shape.heads + head) * shape.head_dim;
        // SAFETY: inside the result, as row < rows and head < heads; no other slice overlaps it.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), shape.head_dim) }
    }
}

fn one_query(
    shape: &Shape,
    head: usize,
    row: usize,
    q: &[f32],
    cache: &LayerCache,
    out: &mut [f32],
) {
    let &Shape { heads, kv_heads, head_dim, scale, capacity, start, .. } = shape;
    let kv_head = head / (heads / kv_heads);
    let seen = start + row + 1;
    let at = row * heads * head_dim + head * head_dim;
    let q = &q[at..at + head_dim];
    let keys = &cache.keys[kv_head * capacity * head_dim..][..capacity * head_dim];
    let values = &cache.values[kv_head * capacity * head_dim..][..seen * head_dim];
    vectorize!(|| {
        // Positions in blocks of 64: their sums stay in registers while the features pass by.
        const LANES: usize = 64;
        let mut scores = vec![0f32; seen.next_multiple_of(LANES)];
        for (block, scores) in scores.chunks_exact_mut(LANES).enumerate() {
            let from = block * LANES;
            let mut sums = [0f32; LANES];
            if from + LANES <= capacity {
                for (d, &q) in q.iter().enumerate() {
                    let keys: &[f32; LANES] =
                        keys[d * capacity + from..][..LANES].try_into().expect("LANES long");
                    for i in 0..LANES {
                        sums[i] += q * keys[i];
                    }
                }
            } else {
                for (d, &q) in q.iter().enumerate() {
                    let keys = &keys[d * capacity + from..(d + 1) * capacity];
                    simd::axpy(q, keys, &mut sums[..keys.len()]);
                }
            }
            for i in 0..LANES {
                scores[i] = sums[i] * scale;
            }
        }
        let scores = &mut scores[..seen];
        simd::softmax(scores);
        weighted_sum(scores, values, out);
    })
}

/// out = Σ weights[i] · rows[i], with four partial sums to hide the latency of the additions.
#[inline(always)]
fn weighted_sum(weights: &[f32], rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    if width == 64 {
        let mut sums = [[0f32; 64]; 2];
        let mut pairs = weights.chunks_exact(2).zip(rows.chunks_exact(128));
        for (w, rows) in &mut pairs {
            for i in 0..64 {
                sums[0][i] += w[0] * rows[i];
                sums[1][i] += w[1] * rows[64 + i];
            }
        }
        if weights.len() % 2 == 1 {
            let last = weights.len() - 1;
            for i in 0..64 {
                sums[0][i] += weights[last] * rows[last * 64 + i];
            }
        }
        for i in 0..64 {
            out[i] = sums[0][i] + sums[1][i];
        }
    } else {
        out.fill(0.0);
        for (&w, row) in weights.iter().zip(rows.chunks_exact(width)) {
            simd::axpy(w, row, out);
        }
    }
}

fn many_queries(
    shape: &Shape,
    head: usize,
    (row, rows): (usize, usize),
    q: &[f32],
    cache: &LayerCache,
    out: &Output,
) {
    let &Shape { heads, kv_heads, head_dim, scale, capacity, start, .. } = shape;
    let kv_head = head / (heads / kv_heads);
    let width = heads * head_dim;
    let seen = start + row + rows;
    let at = row * width + head * head_dim;
    let keys = &cache.keys[kv_head * capacity * head_dim..];
    let values = &cache.values[kv_head * capacity * head_dim..];
    let mut scores = vec![0f32; rows * seen];
    ops::gemm(
        (rows, seen, head_dim),
        (&mut scores, seen, 1),
        (&q[at..], width, 1),
        (keys, capacity, 1),
        (scale, false),
        ops::ONE_CORE,
    );
    vectorize!(|| {
        for (i, scores) in scores.chunks_exact_mut(seen).enumerate() {
            let (visible, future) = scores.split_at_mut(start + row + i + 1);
            simd::softmax(visible);
            future.fill(0.0);
        }
    });
    let mut sums = vec![0f32; rows * head_dim];
    ops::gemm(
        (rows, head_dim, seen),
        (&mut sums, head_dim, 1),
        (&scores, seen, 1),
        (values, head_dim, 1),
        (1.0, false),
        ops::ONE_CORE,
    );
    for (i, sums) in sums.chunks_exact(head_dim).enumerate() {
        out.head(shape, row + i, head).copy_from_slice(sums);
    }
}
