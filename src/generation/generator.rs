//! The decoding loop: one token at a time from a prompt, over a KV cache that outlives the request.

use std::cmp::Ordering;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{CancelToken, Model};
use crate::memory::{Focus, Mixed, Recalled};
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
    /// The end of the text that the answer continues, as tokens: what the memory looks for.
    pub history: Vec<TokenId>,
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
    /// Whether long matches of the memory are copied on trial. The answer is the same, in fewer steps.
    pub drafts: bool,
    /// Whether the answer will end with its line: nothing behind a line break is then drafted.
    pub one_line: bool,
    /// Whether it is told of each token where it comes from.
    pub explain: bool,
    /// A text to go along, instead of choosing: for what the model thinks of it. It takes one or two steps.
    pub dictated: Option<String>,
    /// Whether it goes on by itself behind what was dictated.
    pub goes_on: bool,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions {
            max_tokens: 64,
            temperature: 0.0,
            seed: 0,
            first_rank: 0,
            deadline: None,
            drafts: true,
            one_line: false,
            explain: false,
            dictated: None,
            goes_on: false,
        }
    }
}

/// The text so far, as the stop rule sees it after each token.
pub struct Generated<'a> {
    /// Whole characters only; without the healed bytes.
    pub text: &'a str,
    /// Log-probability of each token so far.
    pub log_probs: &'a [f32],
}

/// Where one token of an answer ends.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Bytes of the text up to its end.
    pub end: usize,
    /// Its log-probability.
    pub log_prob: f32,
    /// What the memory had to do with it.
    pub mixed: Mixed,
}

/// Where one token of an answer comes from.
#[derive(Clone, Debug)]
pub struct Reason {
    /// Bytes of the text up to its end.
    pub end: usize,
    /// Its probability.
    pub probability: f32,
    /// What the model alone gave it.
    pub by_model: f32,
    /// λ: what the memory counted.
    pub memory: f32,
    /// Where the memory has it from.
    pub recalled: Option<Recalled>,
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
    /// The tokens one by one.
    pub marks: Vec<Mark>,
    /// Forward passes after the prompt.
    pub steps: usize,
    /// Tokens that were copied from the memory on trial, and those of them that stood the trial.
    pub drafted: (usize, usize),
    /// Of each token where it comes from, if that was asked for.
    pub reasons: Vec<Reason>,
}

impl Generation {
    /// Log-probability of the first line with its end, as far as it was generated: what makes answers of
    /// different lengths comparable.
    pub fn line_log_prob(&self) -> f32 {
        let line = self.text.find('\n').unwrap_or(usize::MAX);
        let mut sum = 0.0;
        for mark in &self.marks {
            sum += mark.log_prob;
            if mark.end > line {
                break;
            }
        }
        sum
    }
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

    /// Continues `prompt`; `key` names the document whose cache is used. `memory` is mixed into each
    /// prediction.
    ///
    /// `rule` sees the text after each token. Prompts longer than the context are an error; see
    /// [`crate::model::engine::Engine::context`].
    pub fn generate(
        &mut self,
        key: &str,
        prompt: &Prompt,
        options: &GenerateOptions,
        memory: Option<&mut Focus<'_>>,
        rule: &mut dyn FnMut(Generated<'_>) -> Flow,
        cancel: &CancelToken,
    ) -> Result<Generation, EngineError> {
        let slot = self.slot(key);
        let (model, cache) = (&self.model, &mut self.slots[slot].cache);
        let mut decoding = Decoding::new(model, prompt, options, memory);
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
        // Row r of the logits follows the first r drafted tokens.
        let (mut row, mut draft, mut start) = (0, Vec::new(), cache.tokens().len());
        let width = logits.len();
        let finish = loop {
            if cancel.is_cancelled() {
                break Finish::Cancelled;
            }
            let current = &mut logits[row * width..(row + 1) * width];
            let Some(token) = decoding.pick(current) else { break Finish::End };
            let generated = Generated { text: decoding.text(), log_probs: &decoding.log_probs };
            if rule(generated) == Flow::Stop {
                break Finish::Rule;
            }
            let late = options.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let room = (model.engine.context() - start - row)
                .min(options.max_tokens.saturating_sub(decoding.marks.len()));
            if late || room == 0 {
                break Finish::Limit;
            }
            let was_drafted = draft.get(row) == Some(&token);
            decoding.judge(was_drafted, row, draft.len());
            if was_drafted {
                row += 1;
                continue;
            }
            cache.truncate(start + row);
            draft = decoding.draft(room - 1);
            let batch = [&[token], draft.as_slice()].concat();
            logits = model.engine.forward(cache, &batch, batch.len())?;
            decoding.steps += 1;
            (start, row) = (start + row + 1, 0);
        };
        cache.truncate(start + row);
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
struct Decoding<'a, 'f> {
    model: &'a Model,
    options: &'a GenerateOptions,
    rng: StdRng,
    memory: Option<&'a mut Focus<'f>>,
    /// The text so far as tokens, from somewhere before the cursor.
    history: Vec<TokenId>,
    /// Healed bytes that are not yet reproduced.
    owed: Vec<u8>,
    bytes: Vec<u8>,
    log_probs: Vec<f32>,
    marks: Vec<Mark>,
    free_tokens: usize,
    /// Tokens that the next draft may have: trials that fail make it shorter.
    draft_length: usize,
    steps: usize,
    drafted: (usize, usize),
    reasons: Vec<Reason>,
    /// Those that are still to come of a text that is dictated.
    dictated: Option<std::vec::IntoIter<TokenId>>,
}

/// Tokens that must agree before anything is copied, and how many are copied at most.
const DRAFT_AFTER: usize = 8;
const LONGEST_DRAFT: usize = 16;

impl<'a, 'f> Decoding<'a, 'f> {
    fn new(
        model: &'a Model,
        prompt: &Prompt,
        options: &'a GenerateOptions,
        memory: Option<&'a mut Focus<'f>>,
    ) -> Decoding<'a, 'f> {
        let dictated = options.dictated.as_ref().map(|text| {
            // A word that is cut within a character has no text to begin with.
            let whole = str::from_utf8(&prompt.healed).map(|healed| format!("{healed}{text}"));
            model.tokenizer.encode(&whole.unwrap_or_default()).into_iter()
        });
        Decoding {
            model,
            options,
            rng: StdRng::seed_from_u64(options.seed),
            memory,
            history: prompt.history.clone(),
            owed: prompt.healed.clone(),
            bytes: Vec::new(),
            log_probs: Vec::new(),
            marks: Vec::new(),
            free_tokens: 0,
            draft_length: LONGEST_DRAFT / 2,
            steps: 0,
            drafted: (0, 0),
            reasons: Vec::new(),
            dictated,
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
    fn pick(&mut self, logits: &mut [f32]) -> Option<TokenId> {
        let tokenizer = &self.model.tokenizer;
        let alone = self.options.explain.then(|| logits.to_vec());
        let mixed = match &mut self.memory {
            Some(memory) => memory.mix(&self.history, logits),
            None => Mixed::default(),
        };
        let logits = &*logits;
        let dictated = match &mut self.dictated {
            Some(tokens) => match tokens.next() {
                None if !self.options.goes_on => return None,
                next => next,
            },
            None => None,
        };
        if !self.owed.is_empty() {
            let fits = tokenizer.compatible(&self.owed);
            // Whether the cursor stands at the end of a token is the model's to say: all that fit compete.
            let best =
                fits.iter().copied().max_by(|&a, &b| order(logits[a as usize], logits[b as usize]));
            let token = dictated.or(best)?;
            let bytes = tokenizer.bytes(token);
            let reproduced = bytes.len().min(self.owed.len());
            self.owed.drain(..reproduced);
            let log_prob = restricted_log_prob(logits, &fits, token);
            self.take(token, reproduced, log_prob, mixed);
            self.explain(token, alone);
            return Some(token);
        }
        let rank = if self.free_tokens == 0 { self.options.first_rank } else { 0 };
        self.free_tokens += 1;
        let token = dictated.unwrap_or_else(|| self.sample(logits, rank));
        let ends = tokenizer.fim().is_some_and(|layout| layout.is_end(token));
        if ends || tokenizer.is_special(token) {
            return None;
        }
        let log_prob = logits[token as usize] - log_sum_exp(logits.iter().copied());
        self.take(token, 0, log_prob, mixed);
        self.explain(token, alone);
        Some(token)
    }

    /// Takes in a token without its first bytes, which were there already.
    fn take(&mut self, token: TokenId, reproduced: usize, log_prob: f32, mixed: Mixed) {
        self.history.push(token);
        self.bytes.extend_from_slice(&self.model.tokenizer.bytes(token)[reproduced..]);
        self.log_probs.push(log_prob);
        self.marks.push(Mark { end: self.bytes.len(), log_prob, mixed });
    }

    /// Notes where the token that was taken last comes from; `alone` are the model's logits for it.
    fn explain(&mut self, token: TokenId, alone: Option<Vec<f32>>) {
        let (Some(alone), Some(mark)) = (alone, self.marks.last()) else { return };
        let by_model = (alone[token as usize] - log_sum_exp(alone.iter().copied())).exp();
        let history = &self.history[..self.history.len() - 1];
        let recalled = self.memory.as_mut().and_then(|memory| memory.recall(history, token));
        self.reasons.push(Reason {
            end: mark.end,
            probability: mark.log_prob.exp(),
            by_model,
            memory: mark.mixed.lambda,
            recalled,
        });
    }

    /// At most `room` tokens that probably come next, to be tried in one step.
    fn draft(&mut self, room: usize) -> Vec<TokenId> {
        let dictated = self.dictated.as_ref();
        if let Some(tokens) = dictated.filter(|t| t.len() > 0 || !self.options.goes_on) {
            return tokens.as_slice()[..tokens.len().min(room)].to_vec();
        }
        let most = room.min(self.draft_length);
        let wanted = self.options.drafts && self.options.temperature == 0.0;
        let Some(memory) = self.memory.as_mut().filter(|_| wanted && most > 0) else {
            return Vec::new();
        };
        let mut draft = memory.draft(&self.history, DRAFT_AFTER, most);
        if self.options.one_line {
            let breaks = |&t: &TokenId| self.model.tokenizer.bytes(t).contains(&b'\n');
            let end = draft.iter().position(breaks).map_or(draft.len(), |at| at + 1);
            draft.truncate(end);
        }
        self.drafted.0 += draft.len();
        draft
    }

    /// Learns from the trial of one drafted token, number `row` of `length`.
    fn judge(&mut self, is_right: bool, row: usize, length: usize) {
        if is_right {
            self.drafted.1 += 1;
            if row + 1 == length {
                self.draft_length = (self.draft_length * 2).min(LONGEST_DRAFT);
            }
        } else if row < length {
            self.draft_length = (self.draft_length / 2).max(2);
        }
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
        let mut sum = 0.0;
        for mark in &self.marks {
            sum += mark.log_prob;
            log_prob_at.resize(mark.end.min(text.len()), sum);
        }
        log_prob_at.resize(text.len(), sum);
        Generation {
            text,
            log_prob_at,
            finish,
            cached_tokens,
            generated_tokens: self.marks.len(),
            marks: self.marks,
            steps: self.steps,
            drafted: self.drafted,
            reasons: self.reasons,
        }
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
