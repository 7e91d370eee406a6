//! Root-mean-square normalization and its gradients.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{ROWS, read, slice, tensor};
use crate::model::simd::{self, vectorize};

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
            vectorize!(|| {
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
                vectorize!(|| {
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
