//! The loss, from hidden states to nats, and its gradients.

use super::{ONE_CORE, gemm};
use crate::model::parameters::Weight;
use crate::model::simd::{self, vectorize};

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// Tokens whose logits are held at once.
const CHUNK: usize = 256;

/// Floats that `scratch` must hold for a vocabulary of that size.
pub fn scratch(vocabulary: usize) -> usize {
    CHUNK * vocabulary
}

/// Where the gradients of the loss go.
pub struct Gradients<'a> {
    /// Of the hidden states (tokens, d): written.
    pub hidden: &'a mut [f32],
    /// Of the weight (vocabulary, d): added, unless it is frozen.
    pub weight: Option<&'a mut [f32]>,
    /// What a nat counts.
    pub scale: f32,
}

/// Writes the cross-entropy in nats of each target into `nats` (0 for [`IGNORE`]), with the logits
/// hidden (tokens, d) · weightᵀ, weight (vocabulary, d).
///
/// The logits are made and consumed in chunks, never held whole. With `gradients` those of
/// scale · Σ nats are made on the way.
pub fn forward_backward(
    hidden: &[f32],
    weight: Weight<'_>,
    width: usize,
    targets: &[u32],
    nats: &mut [f32],
    mut gradients: Option<Gradients<'_>>,
    scratch: &mut [f32],
) {
    let vocabulary = weight.len() / width;
    for (chunk, targets) in targets.chunks(CHUNK).enumerate() {
        let (start, rows) = (chunk * CHUNK, targets.len());
        let h = &hidden[start * width..(start + rows) * width];
        let logits = &mut scratch[..rows * vocabulary];
        weight.each_block(width, |first, block| {
            gemm(
                (rows, block.len() / width, width),
                (&mut logits[first..], vocabulary, 1),
                (h, width, 1),
                (block, 1, width),
                (1.0, false),
                ONE_CORE,
            );
        });
        let scale = gradients.as_ref().map_or(1.0, |g| g.scale);
        let rows_of_logits = logits.chunks_exact_mut(vocabulary).zip(targets);
        for ((row, &target), nats) in rows_of_logits.zip(&mut nats[start..]) {
            if target == IGNORE {
                row.fill(0.0);
                *nats = 0.0;
                continue;
            }
            let picked = row[target as usize];
            let (top, total) = vectorize!(|| {
                let statistics = simd::softmax(row);
                for x in row.iter_mut() {
                    *x *= scale;
                }
                statistics
            });
            row[target as usize] -= scale;
            *nats = top + total.ln() - picked;
        }
        let Some(Gradients { hidden: dh, weight: dw, .. }) = &mut gradients else { continue };
        let dh = &mut dh[start * width..(start + rows) * width];
        weight.each_block(width, |first, block| {
            gemm(
                (rows, width, block.len() / width),
                (&mut *dh, width, 1),
                (&logits[first..], vocabulary, 1),
                (block, width, 1),
                (1.0, first > 0),
                ONE_CORE,
            );
        });
        if let Some(dw) = dw {
            gemm(
                (vocabulary, width, rows),
                (dw, width, 1),
                (logits, 1, vocabulary),
                (h, width, 1),
                (1.0, true),
                ONE_CORE,
            );
        }
    }
}
