//! The decoding loop: one token at a time from a prompt, over a KV cache that outlives the request.

use std::cmp::Ordering;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{CancelToken, Model};
use crate::model::engine::EngineError;
use crate::model::kv_cache::KvCache;
use crate::tokenizer::TokenId;

/// Caches kept for documents: the one being edited and the ones looked at beside it.
const SLOTS: usize = 3;
/// Prompt tokens evaluated between two looks at the cancel token: about 20 ms on two cores.
const PREFILL_CHUNK: usize = 128;

/// Tokens to continue, and bytes with which the continuation has to begin.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// What the model sees.
    pub tokens: Vec<TokenId>,
    /// Bytes that were taken off the end of the text because the cursor may cut a token; generation
    /// must reproduce them (token healing). They are not part of the output.
    pub healed: Vec<u8>,
}

/// What is wanted of one continuation.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Seed of sampling.
    pub seed: u64,
    /// Rank of the first token: 0 for the likeliest, 1 for the second; makes alternatives differ.
    pub first_rank: usize,
    /// When to return what there is.
    pub deadline: Option<Instant>,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions { max_tokens: 64, temperature: 0.0, seed: 0, first_rank: 0, deadline: None }
    }
}

/// The text so far, as the stop rule sees it after each token.
pub struct Generated<'a> {
    /// Whole characters only; without the healed bytes.
    pub text: &'a str,
    /// Log-probability of each token so far.
    pub log_probs: &'a [f32],
}

/// The stop rule's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Another token.
    Continue,
    /// Enough.
    Stop,
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// The stop rule ended it.
    Rule,
    /// Tokens or time ran out, or the context is full.
    Limit,
    /// Nobody wants it any more.
    Cancelled,
}

/// One continuation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The text after the healed bytes.
    pub text: String,
    /// For every byte of `text`, the sum of the log-probabilities of the tokens that made everything up
    /// to and with it.
    pub log_prob_at: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
    /// Prompt tokens that were in the cache.
    pub cached_tokens: usize,
    /// Tokens made.
    pub generated_tokens: usize,
}

struct Slot {
    key: String,
    cache: KvCache,
    used: u64,
}

/// A model with the caches of the documents it works on. Owned by one thread.
pub struct Generator {
    model: Model,
    slots: Vec<Slot>,
    clock: u64,
}

impl Generator {
    /// Takes the model; caches are made when they are needed.
    pub fn new(model: Model) -> Generator {
        Generator { model, slots: Vec::new(), clock: 0 }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Frees the cache of a document that is gone.
    pub fn forget(&mut self, key: &str) {
        self.slots.retain(|slot| slot.key != key);
    }

    /// Continues `prompt`; `key` names the document whose cache is used.
    ///
    /// `rule` sees the text after each token. Prompts longer than the context are an error; see
    /// [`crate::model::engine::Engine::context`].
    pub fn generate(
        &mut self,
        key: &str,
        prompt: &Prompt,
        options: &GenerateOptions,
        rule: &mut dyn FnMut(Generated<'_>) -> Flow,
        cancel: &CancelToken,
    ) -> Result<Generation, EngineError> {
        let slot = self.slot(key);
        let (model, cache) = (&self.model, &mut self.slots[slot].cache);
        let mut decoding = Decoding::new(model, prompt, options);
        if prompt.tokens.is_empty() {
            return Ok(decoding.finish(Finish::End, 0));
        }
        // The last token is always evaluated: its logits are wanted.
        let reusable = prompt.tokens.len().saturating_sub(1);
        let cached = cache.keep_common_prefix(&prompt.tokens[..reusable]);
        let mut logits = Vec::new();
        let mut rest = &prompt.tokens[cached..];
        while !rest.is_empty() {
            if cancel.is_cancelled() {
                return Ok(decoding.finish(Finish::Cancelled, cached));
            }
            let (chunk, later) = rest.split_at(rest.len().min(PREFILL_CHUNK));
            logits = model.engine.forward(cache, chunk, later.is_empty() as usize)?;
            rest = later;
        }
        let finish = loop {
            if cancel.is_cancelled() {
                break Finish::Cancelled;
            }
            let Some(token) = decoding.pick(&logits) else { break Finish::End };
            let generated = Generated { text: decoding.text(), log_probs: &decoding.log_probs };
            if rule(generated) == Flow::Stop {
                break Finish::Rule;
            }
            let late = options.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let full = cache.tokens().len() + 1 > model.engine.context();
            if late || full || decoding.log_probs.len() >= options.max_tokens {
                break Finish::Limit;
            }
            logits = model.engine.forward(cache, &[token], 1)?;
        };
        Ok(decoding.finish(finish, cached))
    }

    /// The cache of that key: its own, an empty place, or the one that rested longest.
    fn slot(&mut self, key: &str) -> usize {
        self.clock += 1;
        let found = self.slots.iter().position(|slot| slot.key == key);
        let index = found.unwrap_or_else(|| {
            if self.slots.len() < SLOTS {
                let cache = self.model.engine.new_cache();
                self.slots.push(Slot { key: key.to_string(), cache, used: 0 });
                return self.slots.len() - 1;
            }
            let oldest = (0..self.slots.len()).min_by_key(|&i| self.slots[i].used).unwrap_or(0);
            self.slots[oldest].key = key.to_string();
            oldest
        });
        self.slots[index].used = self.clock;
        index
    }
}

/// The state of one continuation.
struct Decoding<'a> {
    model: &'a Model,
    options: &'a GenerateOptions,
    rng: StdRng,
    /// Healed bytes that are not yet reproduced.
    owed: Vec<u8>,
    bytes: Vec<u8>,
    log_probs: Vec<f32>,
    /// (bytes so far, log-probability so far) after each token.
    marks: Vec<(usize, f32)>,
    free_tokens: usize,
}

impl<'a> Decoding<'a> {
    fn new(model: &'a Model, prompt: &Prompt, options: &'a GenerateOptions) -> Decoding<'a> {
        Decoding {
            model,
            options,
            rng: StdRng::seed_from_u64(options.seed),
            owed: prompt.healed.clone(),
            bytes: Vec::new(),
            log_probs: Vec::new(),
            marks: Vec::new(),
            free_tokens: 0,
        }
    }

    /// Whole characters of the bytes so far.
    fn text(&self) -> &str {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&self.bytes[..e.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// Chooses the next token and takes in its bytes; `None` if it ends the text.
    fn pick(&mut self, logits: &[f32]) -> Option<TokenId> {
        let tokenizer = &self.model.tokenizer;
        let token = if self.owed.is_empty() {
            let rank = if self.free_tokens == 0 { self.options.first_rank } else { 0 };
            self.free_tokens += 1;
            self.sample(logits, rank)
        } else {
            let fits = tokenizer.compatible(&self.owed);
            // Whether the cursor stands at the end of a token is the model's to say: all that fit compete.
            let best =
                fits.iter().copied().max_by(|&a, &b| order(logits[a as usize], logits[b as usize]));
            let token = best?;
            let bytes = tokenizer.bytes(token);
            let reproduced = bytes.len().min(self.owed.len());
            self.owed.drain(..reproduced);
            let log_prob = restricted_log_prob(logits, &fits, token);
            self.take(&bytes[reproduced..], log_prob);
            return Some(token);
        };
        let ends = tokenizer.fim().is_some_and(|layout| layout.is_end(token));
        if ends || tokenizer.is_special(token) {
            return None;
        }
        let log_prob = logits[token as usize] - log_sum_exp(logits.iter().copied());
        self.take(tokenizer.bytes(token), log_prob);
        Some(token)
    }

    fn take(&mut self, bytes: &[u8], log_prob: f32) {
        self.bytes.extend_from_slice(bytes);
        self.log_probs.push(log_prob);
        let so_far = self.marks.last().map_or(0.0, |(_, sum)| *sum);
        self.marks.push((self.bytes.len(), so_far + log_prob));
    }

    fn sample(&mut self, logits: &[f32], rank: usize) -> TokenId {
        if self.options.temperature > 0.0 {
            return self.draw(logits);
        }
        if rank == 0 {
            return argmax(logits);
        }
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        let rank = rank.min(ids.len() - 1);
        ids.select_nth_unstable_by(rank, |&a, &b| order(logits[b], logits[a]));
        ids[rank] as TokenId
    }

    fn draw(&mut self, logits: &[f32]) -> TokenId {
        let temperature = self.options.temperature;
        let top = log_sum_exp(logits.iter().map(|l| l / temperature));
        let mut left: f32 = self.rng.random();
        for (id, logit) in logits.iter().enumerate() {
            left -= (logit / temperature - top).exp();
            if left <= 0.0 {
                return id as TokenId;
            }
        }
        argmax(logits)
    }

    fn finish(self, finish: Finish, cached_tokens: usize) -> Generation {
        let text = self.text().to_string();
        let mut log_prob_at = Vec::with_capacity(text.len());
        for (end, sum) in &self.marks {
            log_prob_at.resize((*end).min(text.len()), *sum);
        }
        log_prob_at.resize(text.len(), self.marks.last().map_or(0.0, |(_, sum)| *sum));
        let generated_tokens = self.log_probs.len();
        Generation { text, log_prob_at, finish, cached_tokens, generated_tokens }
    }
}

fn order(a: f32, b: f32) -> Ordering {
    a.total_cmp(&b)
}

fn argmax(logits: &[f32]) -> TokenId {
    let best = (0..logits.len()).max_by(|&a, &b| order(logits[a], logits[b]).then(b.cmp(&a)));
    best.unwrap_or(0) as TokenId
}

fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let top = values.clone().fold(f32::NEG_INFINITY, f32::max);
    top + values.map(|v| (v - top).exp()).sum::<f32>().ln()
}

/// The log-probability of `token` among those that fit.
fn restricted_log_prob(logits: &[f32], fits: &[TokenId], token: TokenId) -> f32 {
    logits[token as usize] - log_sum_exp(fits.iter().map(|&id| logits[id as usize]))
}
