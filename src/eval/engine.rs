//! Speed of the engine alone: fixed tokens in, tokens out, no text and no stopping.

use std::time::Instant;

use crate::generation::Model;
use crate::model::engine::EngineError;
use crate::tokenizer::TokenId;

/// Tokens per second.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Speed {
    /// Reading a prompt into an empty cache.
    pub prefill_tok_s: f64,
    /// Writing one token after the other behind it.
    pub decode_tok_s: f64,
}

/// One measurement, after a short warm-up.
pub fn measure(model: &Model, prompt: usize, decode: usize) -> Result<Speed, EngineError> {
    let engine = &model.engine;
    let prompt = prompt.min(engine.context().saturating_sub(decode)).max(1);
    let vocabulary = engine.config().vocab_size;
    // Ids that any vocabulary has, spread so that no cache line of the table is favoured.
    let tokens: Vec<TokenId> = (0..prompt).map(|i| (i * 37 % vocabulary) as TokenId).collect();
    let mut cache = engine.new_cache();
    engine.forward(&mut cache, &tokens[..prompt.min(16)], 1)?;
    cache.truncate(0);
    let start = Instant::now();
    engine.forward(&mut cache, &tokens, 1)?;
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for i in 0..decode {
        engine.forward(&mut cache, &[(i * 61 % vocabulary) as TokenId], 1)?;
    }
    let written = start.elapsed().as_secs_f64();
    Ok(Speed { prefill_tok_s: prompt as f64 / prefill, decode_tok_s: decode as f64 / written })
}

/// The median of several measurements, each figure by itself.
pub fn measure_rounds(
    model: &Model,
    prompt: usize,
    decode: usize,
    rounds: usize,
) -> Result<Speed, EngineError> {
    let mut speeds = Vec::new();
    for _ in 0..rounds.max(1) {
        speeds.push(measure(model, prompt, decode)?);
    }
    let median = |figure: fn(&Speed) -> f64| {
        let mut values: Vec<f64> = speeds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Speed { prefill_tok_s: median(|s| s.prefill_tok_s), decode_tok_s: median(|s| s.decode_tok_s) })
}
