//! The loss, from hidden states to nats, and its gradients.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{ALL_CORES, gemm, slice, tensor};
use crate::model::simd::{self, vectorize};

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// Mean cross-entropy in nats over the targets that are not [`IGNORE`], of the logits
/// hidden (tokens, d) · weightᵀ with weight (vocabulary, d).
///
/// The logits are made and consumed in chunks, never held whole, and the gradients are computed on
/// the way because the loss is the root of the graph.
pub fn cross_entropy(hidden: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<Tensor> {
    hidden
        .apply_op2(weight, CrossEntropy { targets: targets.to_vec(), gradients: Mutex::new(None) })
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
                    let (top, total) = vectorize!(|| {
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
