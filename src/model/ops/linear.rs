//! The matrix product with a weight, and its gradients.

use super::{ONE_CORE, gemm};
use crate::model::simd::{self, vectorize};

/// (rows, out, in) of y = x · Wᵀ.
pub type Dims = (usize, usize, usize);

/// y (rows, out) = x (rows, in) · Wᵀ with W (out, in), the layout of checkpoints; added to y if asked.
pub fn forward(x: &[f32], weight: &[f32], y: &mut [f32], (rows, out, inp): Dims, add: bool) {
    gemm((rows, out, inp), (y, out, 1), (x, inp, 1), (weight, 1, inp), (1.0, add), ONE_CORE);
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
