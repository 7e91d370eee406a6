//! How much likelier a text becomes by an edit, as model and memory see it: the difference of the log-probabilities of
//! the lines around the edit, with it and without.

use std::collections::HashMap;

use crate::generation::Model;
use crate::memory::chunks::Chunks;
use crate::memory::{Focus, FocusCache, Memory, Mixing};
use crate::model::engine::EngineError;
use crate::model::kv_cache::KvCache;
use crate::text::{Text, TextEdit};
use crate::tokenizer::TokenId;

/// Bytes before the edited line that the model sees, and bytes behind the edit that are scored at least and at most.
const BEFORE: usize = 700;
const LEAST_AFTER: usize = 24;
const MOST_AFTER: usize = 100;
/// Tokens that are scored at most.
const MOST_TOKENS: usize = 96;
/// Tokens of the file that the memory looks at on each side.
const AROUND: usize = 30_000;

/// What judges texts.
pub struct Weigher<'a> {
    /// The network.
    pub model: &'a Model,
    /// Keys and values, kept between calls.
    pub kv: &'a mut KvCache,
    /// What is known of the repository.
    pub memory: Option<&'a Memory>,
    /// What is kept between two looks into it.
    pub cache: &'a mut FocusCache,
    /// The file's name below the memory's root.
    pub name: &'a str,
}

impl Weigher<'_> {
    /// Nats that each edit of `text` gains, of which the likeliest come first; `None` where the model cannot tell, or
    /// `go_on`, told how many were weighed, says that it is late.
    pub fn gains(
        &mut self,
        text: &Text,
        edits: &[&TextEdit],
        go_on: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Option<f32>>, EngineError> {
        let source = text.as_str();
        // What one line has in common is computed once: the line of the likeliest edit first, and each from its likeliest on.
        let lines: Vec<usize> = edits.iter().map(|edit| text.line_of(edit.range.start)).collect();
        let mut turns = HashMap::new();
        for (at, &line) in lines.iter().enumerate() {
            turns.entry(line).or_insert(at);
        }
        let mut order: Vec<usize> = (0..edits.len()).collect();
        order.sort_by_key(|&at| turns[&lines[at]]);
        let (mut gains, mut without) = (vec![None; edits.len()], HashMap::new());
        let mut chunks = Chunks::default();
        for (weighed, at) in order.into_iter().enumerate() {
            if !go_on(weighed) {
                break;
            }
            let edit = edits[at];
            let start = text.line_range(text.line_of(edit.range.start)).start;
            let start = start.max(source.floor_char_boundary(edit.range.start.saturating_sub(200)));
            let end = self.end(source, edit.range.end);
            // Edits of one place are compared with the same text without them.
            let before = match without.get(&(start, end)) {
                Some(&known) => known,
                None => {
                    let known = self.nats(source, start, &source[start..end], end, &mut chunks)?;
                    without.insert((start, end), known);
                    known
                }
            };
            let with =
                [&source[start..edit.range.start], &edit.new_text, &source[edit.range.end..end]];
            let after = self.nats(source, start, &with.concat(), end, &mut chunks)?;
            gains[at] = Some(before - after);
        }
        Ok(gains)
    }

    /// Where what is scored ends: with a line, where enough of the text has been seen.
    fn end(&self, source: &str, edit: usize) -> usize {
        let least = source.floor_char_boundary((edit + LEAST_AFTER).min(source.len()));
        let most = source.floor_char_boundary((edit + MOST_AFTER).min(source.len()));
        source[least..most].find('\n').map_or(most, |at| least + at + 1)
    }

    /// Nats of `middle` between `source[..start]` and `source[end..]`.
    fn nats(
        &mut self,
        source: &str,
        start: usize,
        middle: &str,
        end: usize,
        chunks: &mut Chunks,
    ) -> Result<f32, EngineError> {
        let tokenizer = &self.model.tokenizer;
        let window = source.floor_char_boundary(start.saturating_sub(BEFORE));
        let window = source[window..start].find('\n').map_or(window, |at| window + at + 1);
        let mut prefix = tokenizer.file_header(self.name);
        prefix.truncate(self.model.engine.context() / 4);
        prefix.extend(tokenizer.encode(&source[window..start]));
        let mut scored = tokenizer.encode(middle);
        let room = self.model.engine.context().saturating_sub(prefix.len() + 1);
        scored.truncate(MOST_TOKENS.min(room));
        let (Some((last, known)), Some((_, seen))) = (prefix.split_last(), scored.split_last())
        else {
            return Ok(0.0);
        };
        let common = self.kv.keep_common_prefix(known);
        let input = [&known[common..], &[*last], seen].concat();
        let mut logits = self.model.engine.forward(self.kv, &input, scored.len())?;
        self.kv.truncate(known.len());
        let width = self.model.config().vocab_size;
        let rows = logits.chunks_exact_mut(width).zip(&scored);
        let Some(memory) = self.memory else {
            return Ok(rows.map(|(row, &token)| cross_entropy(row, token)).sum());
        };
        let from = source.floor_char_boundary(start.saturating_sub(AROUND));
        let to = source.floor_char_boundary((end + AROUND).min(source.len()));
        let [mut before, mut after] = [Vec::new(), Vec::new()];
        chunks.encode(tokenizer, &source[from..start], &mut before);
        chunks.encode(tokenizer, &source[end..to], &mut after);
        let own = Some(self.name);
        let mut focus = Focus::of_tokens(memory, self.cache, own, &[], before, after, Mixing::Gate);
        let mut nats = 0.0;
        for (row, &token) in rows {
            let history = focus.before()[focus.before().len().saturating_sub(512)..].to_vec();
            focus.mix(&history, row);
            nats -= row[token as usize];
            focus.push(token);
        }
        Ok(nats)
    }
}

fn cross_entropy(logits: &[f32], token: TokenId) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - top).exp()).sum();
    top + sum.ln() - logits[token as usize]
}
