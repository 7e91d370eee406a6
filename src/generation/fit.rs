//! Events for the gate: what the model and each tier of the memory gave to the tokens of a file that the
//! memory has to do without.

use rand::Rng;
use rand::rngs::StdRng;

use super::Model;
use crate::memory::gate::Event;
use crate::memory::{Focus, FocusCache, Memory, Mixing};
use crate::model::engine::EngineError;
use crate::model::kv_cache::KvCache;
use crate::tokenizer::TokenId;

/// Tokens that are scored in one window, and how many before them the model sees.
pub const WINDOW: usize = 192;
const CONTEXT: usize = 256;

/// Scores one window, drawn by `rng`, of the file `name`. Half of the windows know the text behind them, as a
/// cursor in the middle of a file does. Nothing for a file without tokens.
pub fn events(
    model: &Model,
    kv: &mut KvCache,
    memory: &Memory,
    cache: &mut FocusCache,
    (name, tokens): (&str, &[TokenId]),
    rng: &mut StdRng,
) -> Result<Vec<Event>, EngineError> {
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let start = rng.random_range(0..tokens.len().saturating_sub(WINDOW).max(1));
    let end = (start + WINDOW).min(tokens.len());
    let after = if rng.random_bool(0.5) { tokens[end..].to_vec() } else { Vec::new() };
    events_within(model, kv, memory, cache, name, (&tokens[..start], &tokens[start..end], &after))
}

/// Scores the tokens between two texts of the file `name`; those behind them are known to the memory.
pub fn events_within(
    model: &Model,
    kv: &mut KvCache,
    memory: &Memory,
    cache: &mut FocusCache,
    name: &str,
    (before, scored, after): (&[TokenId], &[TokenId], &[TokenId]),
) -> Result<Vec<Event>, EngineError> {
    let Some((_, known)) = scored.split_last() else { return Ok(Vec::new()) };
    let mut header = model.tokenizer.file_header(name);
    header.truncate(model.engine.context() / 4);
    let room = model.engine.context().saturating_sub(header.len() + scored.len());
    let context = &before[before.len() - before.len().min(CONTEXT.min(room))..];
    let window = [&header, context, known].concat();
    kv.truncate(0);
    // The first token of a text follows its header.
    let mut logits = model.engine.forward(kv, &window, scored.len())?;
    let (before, after) = (before.to_vec(), after.to_vec());
    let mut focus = Focus::of_tokens(memory, cache, Some(name), &[], before, after, Mixing::Gate);
    let width = model.config().vocab_size;
    let rows = logits.chunks_exact_mut(width).zip(scored);
    let mut events = Vec::with_capacity(scored.len());
    for (row, &token) in rows {
        let history = focus.before()[focus.before().len().saturating_sub(512)..].to_vec();
        events.push(focus.event(&history, row, token));
        focus.push(token);
    }
    Ok(events)
}
