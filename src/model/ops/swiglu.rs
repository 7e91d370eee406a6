//! The gated activation of the feed-forward layer and its gradients.

use crate::model::simd::{self, vectorize};

/// y = silu(gate) · up, element by element (Shazeer 2020).
pub fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    vectorize!(|| {
        for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
            *y = simd::silu(g) * u;
        }
    });
}

/// Replaces gate and up by their gradients.
pub fn backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    vectorize!(|| {
        for ((g, u), &dy) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
            let sigmoid = 1.0 / (1.0 + simd::exp(-*g));
            let silu = *g * sigmoid;
            *g = dy * *u * (sigmoid + silu * (1.0 - sigmoid));
            *u = dy * silu;
        }
    });
}
