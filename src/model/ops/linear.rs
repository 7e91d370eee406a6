//! The matrix product with a weight, and its gradients; and what an adapter adds to both.

use super::{ONE_CORE, gemm};
use crate::model::parameters::LowRank;
use crate::model::simd::{self, vectorize};

/// (rows, out, in) of y = x · Wᵀ.
pub type Dims = (usize, usize, usize);

/// y (rows, out) = x (rows, in) · Wᵀ with W (out, in), the layout of checkpoints; added to y if asked.
pub fn forward(x: &[f32], weight: &[f32], y: &mut [f32], (rows, out, inp): Dims, add: bool) {
    gemm((rows, out, inp), (y, out, 1), (x, inp, 1), (weight, 1, inp), (1.0, add), ONE_CORE);
}

/// The same for some of the outputs: y is the first of them in rows of that many.
pub fn forward_into(
    x: &[f32],
    weight: &[f32],
    (y, stride): (&mut [f32], usize),
    (rows, out, inp): Dims,
) {
    gemm((rows, out, inp), (y, stride, 1), (x, inp, 1), (weight, 1, inp), (1.0, false), ONE_CORE);
}

/// dx (rows, in) = dy (rows, out) · W, added to dx if asked.
pub fn backward_input(
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    (rows, out, inp): Dims,
    add: bool,
) {
    gemm((rows, inp, out), (dx, inp, 1), (dy, out, 1), (weight, inp, 1), (1.0, add), ONE_CORE);
}

/// dW (out, in) += dyᵀ · x.
pub fn backward_weight(dy: &[f32], x: &[f32], dweight: &mut [f32], (rows, out, inp): Dims) {
    gemm((out, inp, rows), (dweight, inp, 1), (dy, 1, out), (x, inp, 1), (1.0, true), ONE_CORE);
}

/// y += b in every row.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    vectorize!(|| y.chunks_exact_mut(bias.len()).for_each(|row| simd::axpy(1.0, bias, row)));
}

/// db += the sum of the rows of dy.
pub fn backward_bias(dy: &[f32], dbias: &mut [f32]) {
    vectorize!(|| dy.chunks_exact(dbias.len()).for_each(|row| simd::axpy(1.0, row, dbias)));
}

/// low (rows, rank) = x · Aᵀ, which the backward pass wants again, and y += scale · low · Bᵀ.
pub fn forward_low_rank(
    x: &[f32],
    adapter: LowRank<'_>,
    low: &mut Vec<f32>,
    y: &mut [f32],
    (rows, out, inp): Dims,
) {
    let LowRank { a, b, rank, scale } = adapter;
    low.resize(rows * rank, 0.0);
    gemm((rows, rank, inp), (low, rank, 1), (x, inp, 1), (a, 1, inp), (1.0, false), ONE_CORE);
    gemm((rows, out, rank), (y, out, 1), (low, rank, 1), (b, 1, rank), (scale, true), ONE_CORE);
}

/// With du (rows, rank) = scale · dy · B: dA += duᵀ · x, dB += scale · dyᵀ · low, and dx += du · A if asked.
pub fn backward_low_rank(
    dy: &[f32],
    (x, low): (&[f32], &[f32]),
    adapter: LowRank<'_>,
    (da, db): (&mut [f32], &mut [f32]),
    (dx, du): (Option<&mut [f32]>, &mut Vec<f32>),
    (rows, out, inp): Dims,
) {
    let LowRank { a, b, rank, scale } = adapter;
    du.resize(rows * rank, 0.0);
    gemm((rows, rank, out), (du, rank, 1), (dy, out, 1), (b, rank, 1), (scale, false), ONE_CORE);
    gemm((rank, inp, rows), (da, inp, 1), (du, 1, rank), (x, inp, 1), (1.0, true), ONE_CORE);
    gemm((out, rank, rows), (db, rank, 1), (dy, 1, out), (low, rank, 1), (scale, true), ONE_CORE);
    if let Some(dx) = dx {
        gemm((rows, inp, rank), (dx, inp, 1), (du, rank, 1), (a, inp, 1), (1.0, true), ONE_CORE);
    }
}
