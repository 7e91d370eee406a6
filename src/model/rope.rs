//! Cosines and sines of the rotary position embedding, computed once for all positions.

use super::config::ModelConfig;

/// Rows of cos(p·θᵢ) and sin(p·θᵢ) for positions p and pairs i, with θᵢ = base^(−2i/rotary_dim),
/// divided by what the model stretches positions by.
#[derive(Debug)]
pub struct RopeTable {
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Pairs of the largest head that the kernels hold in registers (head_dim 512).
    pub const MAX_PAIRS: usize = 256;

    /// Pairs of so many rotated features.
    ///
    /// # Errors
    /// More than the kernels hold.
    pub fn pairs(rotary_dim: usize) -> Result<usize, String> {
        match rotary_dim / 2 {
            pairs if pairs <= RopeTable::MAX_PAIRS => Ok(pairs),
            _ => Err(format!(
                "a head has {rotary_dim} rotated features; at most {} can be run",
                2 * RopeTable::MAX_PAIRS
            )),
        }
    }

    /// The table of that model for positions 0…`positions`−1.
    pub fn new(config: &ModelConfig, positions: usize) -> RopeTable {
        let (rotary_dim, base) = (config.rotary_dim(), config.rope_theta);
        let divisors = &config.details.rope_divisors;
        let pairs = rotary_dim / 2;
        let angle = |p: usize, i: usize| {
            // The reference implementations compute the frequency in f32.
            let frequency = 1.0 / (base as f32).powf(2.0 * i as f32 / rotary_dim as f32);
            (p as f32 * (frequency / divisors.get(i).unwrap_or(&1.0))) as f64
        };
        let each = |f: fn(f64) -> f64| {
            (0..positions)
                .flat_map(|p| (0..pairs).map(move |i| f(angle(p, i)) as f32))
                .collect::<Vec<f32>>()
        };
        RopeTable { pairs, cos: each(f64::cos), sin: each(f64::sin) }
    }

    /// Positions that the table covers.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.pairs.max(1)
    }

    /// (cosines, sines) of one position, rotary_dim/2 values each.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.pairs..(position + 1) * self.pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
