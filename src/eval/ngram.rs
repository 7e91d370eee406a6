//! The baseline of every language model: a 5-gram model with Jelinek–Mercer interpolation, over the same
//! tokens.
//!
//! p₀ = 1 / vocabulary and pₙ(w | h) = λ · c(h w) / c(h) + (1 − λ) · pₙ₋₁(w | h without its first token),
//! with h the n − 1 tokens before w. λ depends on n and on the power of two below c(h), as Jelinek and
//! Mercer proposed (1980), and is fitted by expectation maximization on documents that are not counted.
//! Where c(h) = 0 the shorter context answers. All tokens of the vocabulary together have probability 1.
//!
//! Counts are exact and need 8 bytes per token of the corpus: positions sorted by the five tokens that
//! begin there, so that a count is the length of a range.

use std::path::Path;

use anyhow::{Result, bail};
use rayon::prelude::*;

use crate::tokenizer::{FimLayout, TokenId, Tokenizer};
use crate::train::corpus;
use crate::train::sources::Source;

/// Tokens of the longest n-gram.
pub const ORDER: usize = 5;
/// λ is shared by contexts whose counts have the same power of two below them; the last takes the rest.
const BUCKETS: usize = 16;
/// One document of so many is kept out of the counts, for λ.
const KEPT_OUT: usize = 100;
const ROUNDS: usize = 30;

/// Gathers documents until it is full.
pub struct NgramBuilder {
    tokens: Vec<TokenId>,
    kept_out: Vec<Vec<TokenId>>,
    documents: usize,
    vocabulary: usize,
    end: TokenId,
    limit: usize,
}

/// A fitted model.
pub struct Ngram {
    tokens: Vec<TokenId>,
    /// Positions of `tokens` at which five tokens begin, sorted by these.
    positions: Vec<u32>,
    /// Where the positions of each first token begin, and the end.
    starts: Vec<u32>,
    vocabulary: usize,
    lambdas: [[f64; BUCKETS]; ORDER],
}

impl NgramBuilder {
    /// For a vocabulary whose `end` separates documents; at most `limit` tokens are counted.
    pub fn new(vocabulary: usize, end: TokenId, limit: usize) -> NgramBuilder {
        let limit = limit.min(u32::MAX as usize);
        let (tokens, kept_out) = (Vec::new(), Vec::new());
        NgramBuilder { tokens, kept_out, documents: 0, vocabulary, end, limit }
    }

    /// Takes in one document; `false` if it no longer fits. Ids outside the vocabulary are the caller's
    /// mistake and panic when the model is built.
    pub fn add(&mut self, document: &[TokenId]) -> bool {
        if self.tokens.len() + document.len() + 1 > self.limit {
            return false;
        }
        self.documents += 1;
        if self.documents % KEPT_OUT == 1 {
            self.kept_out.push(document.to_vec());
        } else {
            self.tokens.extend_from_slice(document);
            self.tokens.push(self.end);
        }
        true
    }

    /// Tokens counted so far.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Sorts and fits. A corpus of one document, or of nearly nothing, is an error.
    pub fn build(self) -> Result<Ngram> {
        let NgramBuilder { tokens, kept_out, vocabulary, .. } = self;
        if tokens.len() < ORDER || kept_out.is_empty() {
            bail!("the corpus of the n-gram model is too small: {} tokens", tokens.len());
        }
        let (positions, starts) = sorted(&tokens, vocabulary);
        let lambdas = [[0.5; BUCKETS]; ORDER];
        let mut ngram = Ngram { tokens, positions, starts, vocabulary, lambdas };
        ngram.fit(&kept_out);
        Ok(ngram)
    }
}

impl Ngram {
    /// Tokens that were counted.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Natural logarithm, negated, of the probability of `text` after `header`, which is seen and not
    /// scored.
    pub fn nats(&self, header: &[TokenId], text: &[TokenId]) -> f64 {
        let all = [header, text].concat();
        (header.len()..all.len()).map(|i| -self.probability(&all[..i], all[i]).ln()).sum()
    }

    /// The probability of `token` after `history`, of which the last four tokens count.
    pub fn probability(&self, history: &[TokenId], token: TokenId) -> f64 {
        let mut p = 1.0 / self.vocabulary as f64;
        for (n, (share, bucket)) in self.shares(history, token).enumerate() {
            let lambda = self.lambdas[n][bucket];
            p = lambda * share + (1.0 - lambda) * p;
        }
        p
    }

    /// c(h w) / c(h) and the bucket of c(h), for contexts of 0, 1, … tokens as far as they were seen.
    fn shares(
        &self,
        history: &[TokenId],
        token: TokenId,
    ) -> impl Iterator<Item = (f64, usize)> + use<'_> {
        let history = history[history.len().saturating_sub(ORDER - 1)..].to_vec();
        (0..=history.len()).map_while(move |length| {
            let context = &history[history.len() - length..];
            let mut range = 0..self.positions.len();
            for (depth, &t) in context.iter().enumerate() {
                range = self.narrow(range, depth, t);
            }
            let total = range.len();
            let count = self.narrow(range, length, token).len();
            let bucket = total.checked_ilog2()? as usize;
            Some((count as f64 / total as f64, bucket.min(BUCKETS - 1)))
        })
    }

    /// Of positions that agree in their first `depth` tokens, those with `token` next.
    fn narrow(
        &self,
        range: std::ops::Range<usize>,
        depth: usize,
        token: TokenId,
    ) -> std::ops::Range<usize> {
        if depth == 0 {
            let start =
                |token| self.starts.get(token).map_or(self.positions.len(), |&s| s as usize);
            return start(token as usize)..start(token as usize + 1);
        }
        let at = |position: &u32| self.tokens[*position as usize + depth];
        let inside = &self.positions[range.clone()];
        let from = inside.partition_point(|p| at(p) < token);
        let length = inside[from..].partition_point(|p| at(p) == token);
        range.start + from..range.start + from + length
    }

    /// Expectation maximization: λ becomes the share of tokens for which a context answered itself among
    /// those for which it was asked.
    fn fit(&mut self, documents: &[Vec<TokenId>]) {
        let observed: Vec<Vec<(f64, usize)>> = documents
            .par_iter()
            .flat_map_iter(|document| {
                (1..document.len()).map(|i| self.shares(&document[..i], document[i]).collect())
            })
            .collect();
        for _ in 0..ROUNDS {
            // Half a token each way keeps λ inside (0, 1) where a bucket saw nearly nothing.
            let mut counts = [[(0.5, 1.0); BUCKETS]; ORDER];
            for shares in &observed {
                let mut below = 1.0 / self.vocabulary as f64;
                let mut mixed = [0.0; ORDER];
                for (n, &(share, bucket)) in shares.iter().enumerate() {
                    let lambda = self.lambdas[n][bucket];
                    below = lambda * share + (1.0 - lambda) * below;
                    mixed[n] = below;
                }
                let mut asked = 1.0;
                for (n, &(share, bucket)) in shares.iter().enumerate().rev() {
                    let itself = asked * self.lambdas[n][bucket] * share / mixed[n];
                    counts[n][bucket].0 += itself;
                    counts[n][bucket].1 += asked;
                    asked -= itself;
                }
            }
            self.lambdas = counts.map(|row| row.map(|(itself, asked)| itself / asked));
        }
    }
}

/// Counts the files of these repositories, one repository after the other, the way a model sees them in
/// training: header, text, end. Stops at `limit` tokens. `say` hears of each repository and of the tokens
/// so far.
pub fn count(
    tokenizer: &Tokenizer,
    sources: &[Source],
    limit: usize,
    say: &mut dyn FnMut(&Path, usize),
) -> Result<Ngram> {
    let end = tokenizer.fim().and_then(FimLayout::end).unwrap_or(0);
    let mut builder = NgramBuilder::new(tokenizer.vocab_size(), end, limit);
    for source in sources {
        let files = corpus::read_source(source)?;
        let documents: Vec<Vec<TokenId>> = files
            .par_iter()
            .map(|f| [tokenizer.file_header(&f.path), tokenizer.encode(&f.text)].concat())
            .collect();
        let full = !documents.iter().all(|document| builder.add(document));
        say(&source.root, builder.tokens());
        if full {
            break;
        }
    }
    builder.build()
}

/// All positions at which five tokens begin, sorted by them; where each first token's begin.
fn sorted(tokens: &[TokenId], vocabulary: usize) -> (Vec<u32>, Vec<u32>) {
    // Only whole windows: then the counts of a context's successors sum to its own.
    let count = tokens.len() + 1 - ORDER;
    let mut starts = vec![0u32; vocabulary + 1];
    tokens[..count].iter().for_each(|&t| starts[t as usize + 1] += 1);
    (0..vocabulary).for_each(|t| starts[t + 1] += starts[t]);
    let (mut next, mut positions) = (starts.clone(), vec![0u32; count]);
    for (position, &token) in tokens[..count].iter().enumerate() {
        positions[next[token as usize] as usize] = position as u32;
        next[token as usize] += 1;
    }
    let mut groups = Vec::new();
    let mut rest = &mut positions[..];
    for token in 0..vocabulary {
        let (group, later) = rest.split_at_mut((starts[token + 1] - starts[token]) as usize);
        groups.push(group);
        rest = later;
    }
    groups.into_par_iter().filter(|group| group.len() > 1).for_each(|group| {
        let key = |&p: &u32| {
            let following = &tokens[p as usize + 1..p as usize + ORDER];
            following.iter().fold(0u128, |key, &t| key << 32 | u128::from(t))
        };
        let mut keyed: Vec<(u128, u32)> = group.iter().map(|p| (key(p), *p)).collect();
        keyed.sort_unstable();
        group.iter_mut().zip(keyed).for_each(|(place, (_, p))| *place = p);
    });
    (positions, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// Documents in which each token mostly follows the last two by a rule.
    fn documents(count: usize) -> Vec<Vec<TokenId>> {
        let mut rng = StdRng::seed_from_u64(3);
        let document = |rng: &mut StdRng| {
            let mut tokens = vec![1, 2];
            for i in 2..60 {
                let ruled = 1 + (tokens[i - 1] * 3 + tokens[i - 2]) % 6;
                tokens.push(if rng.random_bool(0.8) { ruled } else { rng.random_range(1..7) });
            }
            tokens
        };
        (0..count).map(|_| document(&mut rng)).collect()
    }

    fn build(documents: &[Vec<TokenId>]) -> Ngram {
        let mut builder = NgramBuilder::new(8, 0, 1_000_000);
        documents.iter().for_each(|d| assert!(builder.add(d)));
        builder.build().unwrap()
    }

    #[test]
    fn probabilities_sum_to_one_after_any_history() {
        let ngram = build(&documents(250));
        let mut rng = StdRng::seed_from_u64(1);
        // Token 7 was never seen; the last histories are those at the corpus's end.
        let mut histories: Vec<Vec<TokenId>> =
            (0..300).map(|i| (0..i % 7).map(|_| rng.random_range(0..8)).collect()).collect();
        histories.extend((1..6).map(|n| ngram.tokens[ngram.tokens.len() - n..].to_vec()));
        for history in histories {
            let sum: f64 = (0..8).map(|token| ngram.probability(&history, token)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum} after {history:?}");
            assert!((0..8).all(|token| ngram.probability(&history, token) > 0.0));
        }
    }

    #[test]
    fn what_was_seen_is_learnt_and_kept_out_documents_are_not_counted() {
        let documents = documents(300);
        let ngram = build(&documents);
        assert_eq!(ngram.tokens(), 297 * 61);
        let fresh = &self::documents(320)[300..];
        let nats: f64 = fresh.iter().map(|d| ngram.nats(&d[..2], &d[2..])).sum();
        let per_token = nats / (20.0 * 58.0);
        // The rule's own entropy: 0.8 + 0.2/6 for the token, the rest for five others.
        let (right, wrong) = (0.8 + 0.2 / 6.0f64, 0.2 / 6.0f64);
        let entropy = -(right * right.ln() + 5.0 * wrong * wrong.ln());
        assert!((entropy - 0.03..entropy + 0.12).contains(&per_token), "{per_token} {entropy}");
    }

    #[test]
    fn counts_are_those_of_a_search() {
        let ngram = build(&documents(120));
        let windows: Vec<&[TokenId]> = ngram.tokens.windows(ORDER).collect();
        let mut rng = StdRng::seed_from_u64(2);
        for _ in 0..100 {
            let history: Vec<TokenId> = (0..4).map(|_| rng.random_range(0..8)).collect();
            let token = rng.random_range(0..8);
            for (length, (share, _)) in ngram.shares(&history, token).enumerate() {
                let context = &history[4 - length..];
                let total = windows.iter().filter(|w| w.starts_with(context)).count();
                let whole = [context, &[token]].concat();
                let count = windows.iter().filter(|w| w.starts_with(&whole)).count();
                assert_eq!(share, count as f64 / total as f64);
            }
        }
    }

    #[test]
    fn the_limit_holds_and_too_little_is_an_error() {
        let mut builder = NgramBuilder::new(8, 0, 100);
        assert!(builder.add(&[1; 50]) && builder.add(&[2; 50]) && !builder.add(&[3; 50]));
        assert_eq!(builder.tokens(), 51);
        assert!(NgramBuilder::new(8, 0, 100).build().is_err());
    }
}
