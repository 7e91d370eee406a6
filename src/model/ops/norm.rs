//! Root-mean-square normalization and its gradients.

use crate::model::simd::{self, vectorize};

/// y = x / √(mean x² + ε) · w over rows of `w.len()` features (Zhang & Sennrich 2019). With a weight as
/// long as one head it normalizes every head by itself (QK-norm).
pub fn forward(x: &[f32], w: &[f32], epsilon: f32, y: &mut [f32]) {
    vectorize!(|| {
        for (y, x) in y.chunks_exact_mut(w.len()).zip(x.chunks_exact(w.len())) {
            simd::rms_norm(x, w, epsilon, y);
        }
    });
}

/// dx += s·(dy·w) − x·s³·mean(dy·w·x) and, if it is wanted, dw += Σ_rows dy·x·s, with
/// s = 1/√(mean x² + ε).
pub fn backward(
    x: &[f32],
    w: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    mut dw: Option<&mut [f32]>,
) {
    let width = w.len();
    vectorize!(|| {
        let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((dx, x), dy) in rows.zip(dy.chunks_exact(width)) {
            let s = 1.0 / (simd::dot(x, x) / width as f32 + epsilon).sqrt();
            let c = simd::dot3(dy, w, x) * s * s * s / width as f32;
            let Some(dw) = dw.as_deref_mut() else {
                for i in 0..width {
                    dx[i] += dy[i] * w[i] * s - x[i] * c;
                }
                continue;
            };
            let dw = &mut dw[..width];
            for i in 0..width {
                dw[i] += dy[i] * x[i] * s;
                dx[i] += dy[i] * w[i] * s - x[i] * c;
            }
        }
    });
}
