//! How far a model's predictions are from those of the original, on the same windows of text.

use rayon::prelude::*;

use super::text::windows;
use crate::generation::Model;
use crate::model::engine::{Engine, EngineError};
use crate::tokenizer::TokenId;
use crate::train::corpus::SourceFile;

/// Log-probabilities kept of the original: 128 MB.
const MOST_VALUES: usize = 1 << 25;
/// Windows' tokens looked at, if the vocabulary lets that many be kept.
const MOST_TOKENS: usize = 8_192;

/// Distance from the original on some text.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Distance {
    /// Mean Kullback-Leibler divergence of the predictions from the original's, in nats per token.
    pub kl: f64,
    /// Share of the tokens where the likeliest next token is the original's, in percent.
    pub top1: f64,
    /// Bits per byte of the text.
    pub bits_per_byte: f64,
}

/// What the original predicts.
pub(super) struct Original {
    windows: Vec<Vec<TokenId>>,
    /// Log-probabilities (window length − 1, vocabulary) of each window.
    log_probs: Vec<Vec<f32>>,
    bytes: usize,
}

impl Original {
    pub(super) fn new(
        model: &Model,
        files: &[SourceFile],
        most: usize,
    ) -> Result<Original, EngineError> {
        let most = most.min(MOST_TOKENS).min(MOST_VALUES / model.config().vocab_size);
        let windows = windows(model, files, most);
        let mut log_probs = Vec::with_capacity(windows.len());
        for window in &windows {
            log_probs.push(predict(&model.engine, window)?);
        }
        let scored = windows.iter().flat_map(|window| &window[1..]);
        let bytes = scored.map(|&token| model.tokenizer.bytes(token).len()).sum();
        Ok(Original { windows, log_probs, bytes })
    }

    /// Tokens whose prediction is compared.
    pub(super) fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.len() - 1).sum()
    }

    /// How far an engine with the same vocabulary is.
    pub(super) fn distance(&self, engine: &Engine) -> Result<Distance, EngineError> {
        let (mut kl, mut same, mut nats) = (0.0, 0.0, 0.0);
        let vocabulary = engine.config().vocab_size;
        for (window, original) in self.windows.iter().zip(&self.log_probs) {
            let predicted = predict(engine, window)?;
            let rows = predicted.par_chunks(vocabulary).zip(original.par_chunks(vocabulary));
            let sums = rows.zip(&window[1..]).map(|((q, p), &target)| {
                let kl: f64 = p.iter().zip(q).map(|(p, q)| f64::from(p.exp() * (p - q))).sum();
                let same = f64::from(u8::from(likeliest(p) == likeliest(q)));
                [kl, same, -f64::from(q[target as usize])]
            });
            let [a, b, c] = sums.reduce(|| [0.0; 3], |a, b| std::array::from_fn(|i| a[i] + b[i]));
            (kl, same, nats) = (kl + a, same + b, nats + c);
        }
        let tokens = self.tokens().max(1) as f64;
        Ok(Distance {
            // Rounding can leave a hair less than nothing between equals.
            kl: (kl / tokens).max(0.0),
            top1: 100.0 * same / tokens,
            bits_per_byte: nats / std::f64::consts::LN_2 / self.bytes.max(1) as f64,
        })
    }
}

/// Log-probabilities of the token after each of the window's but the last.
fn predict(engine: &Engine, window: &[TokenId]) -> Result<Vec<f32>, EngineError> {
    let (mut cache, rows) = (engine.new_cache(), window.len() - 1);
    let mut logits = engine.forward(&mut cache, &window[..rows], rows)?;
    logits.par_chunks_mut(engine.config().vocab_size).for_each(|row| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total = top + row.iter().map(|l| (l - top).exp()).sum::<f32>().ln();
        row.iter_mut().for_each(|l| *l -= total);
    });
    Ok(logits)
}

fn likeliest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0)
}
