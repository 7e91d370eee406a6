//! The loss, from hidden states to nats, and its gradients.

use super::{ONE_CORE, gemm};
use crate::model::parameters::Weight;
use crate::model::simd::{self, vectorize};

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// What follows each token, and how much that counts.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// A token id for each place, or [`IGNORE`].
    pub ids: &'a [u32],
    /// What the nats of each place are multiplied by; empty for 1 everywhere.
    pub counts: &'a [f32],
}

impl<'a> From<&'a [u32]> for Targets<'a> {
    fn from(ids: &'a [u32]) -> Targets<'a> {
        Targets { ids, counts: &[] }
    }
}

impl<'a> From<&'a Vec<u32>> for Targets<'a> {
    fn from(ids: &'a Vec<u32>) -> Targets<'a> {
        Targets::from(&ids[..])
    }
}

impl<'a> Targets<'a> {
    /// What place `at` counts.
    pub fn count(&self, at: usize) -> f32 {
        match self.ids[at] {
            IGNORE => 0.0,
            _ => self.counts.get(at).copied().unwrap_or(1.0),
        }
    }

    /// What all places count together.
    pub fn total(&self) -> f32 {
        (0..self.ids.len()).map(|at| self.count(at)).sum()
    }

    /// Sequences of that length, one after the other.
    pub fn sequences(self, length: usize) -> impl Iterator<Item = Targets<'a>> {
        self.ids.chunks(length).enumerate().map(move |(i, ids)| {
            let counts = self.counts.get(i * length..i * length + ids.len()).unwrap_or(&[]);
            Targets { ids, counts }
        })
    }

    /// Some of the places.
    pub fn range(self, range: std::ops::Range<usize>) -> Targets<'a> {
        let counts = self.counts.get(range.clone()).unwrap_or(&[]);
        Targets { ids: &self.ids[range], counts }
    }
}

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

/// Writes the cross-entropy in nats of each target, times what it counts, into `nats`, with the logits
/// hidden (tokens, d) · weightᵀ, weight (vocabulary, d).
///
/// The logits are made and consumed in chunks, never held whole. With `gradients` those of
/// scale · Σ nats are made on the way.
pub fn forward_backward(
    hidden: &[f32],
    weight: Weight<'_>,
    width: usize,
    targets: Targets<'_>,
    nats: &mut [f32],
    mut gradients: Option<Gradients<'_>>,
    scratch: &mut [f32],
) {
    let vocabulary = weight.len() / width;
    for (chunk, targets) in targets.sequences(CHUNK).enumerate() {
        let (start, rows) = (chunk * CHUNK, targets.ids.len());
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
        let rows_of_logits = logits.chunks_exact_mut(vocabulary).zip(targets.ids);
        for (at, ((row, &target), nats)) in rows_of_logits.zip(&mut nats[start..]).enumerate() {
            let count = targets.count(at);
            if count == 0.0 {
                row.fill(0.0);
                *nats = 0.0;
                continue;
            }
            let (picked, scale) = (row[target as usize], scale * count);
            let (top, total) = vectorize!(|| {
                let statistics = simd::softmax(row);
                for x in row.iter_mut() {
                    *x *= scale;
                }
                statistics
            });
            row[target as usize] -= scale;
            *nats = count * (top + total.ln() - picked);
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
