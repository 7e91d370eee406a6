//! What code in general says: a pruned table of n-grams from the corpus of the shipped model, the outermost
//! tier of the memory.
//!
//! A context is kept for what it saves: the nats by which its counts predict the corpus better than the
//! context that is one token shorter, per byte that it takes (in the spirit of Stolcke 1998), and only if
//! several repositories have it.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustc_hash::FxHashSet;

use super::evidence::{Evidence, Level};
use super::segment::{Found, Segment};
use crate::tokenizer::TokenId;

const MAGIC: u32 = 0x6e67_7261;
const VERSION: u32 = 1;
/// Words of the header: magic, version, fingerprint (2), contexts, entries.
const HEADER: usize = 6;
/// Tokens of the longest context.
const ORDER: usize = 6;
/// Contexts are found by the upper bits of their hash, then by the lower ones.
const RADIX: u32 = 16;
/// Steps of the logarithm of a count in its byte.
const STEPS: f32 = 8.0;
/// Repositories that must have a context.
const REPOSITORIES: usize = 3;
/// Occurrences that a context must have.
const LEAST: usize = 8;

enum Words {
    Owned(Vec<u32>),
    Static(&'static [u32]),
}

/// The table.
pub struct General {
    words: Words,
    contexts: usize,
    entries: usize,
}

/// The table of the shipped model, part of the program, aligned so that it is used in place.
static SHIPPED: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/base/ngrams.bin"));

#[repr(align(4))]
struct Aligned<T: ?Sized>(T);

impl General {
    /// The table that comes with the program; nothing for a vocabulary other than the shipped model's.
    pub fn shipped(fingerprint: u64) -> Option<General> {
        General::embedded(&SHIPPED.0, fingerprint).ok()
    }

    /// Reads a table for a vocabulary; `fingerprint` names the tokenizer.
    ///
    /// # Errors
    /// Bytes that are no such table, or one for another tokenizer.
    pub fn read(bytes: &[u8], fingerprint: u64) -> Result<General> {
        General::new(Words::Owned(super::segment::words(bytes)), fingerprint)
    }

    /// Like [`General::read`], without a copy where the bytes are aligned.
    pub fn embedded(bytes: &'static [u8], fingerprint: u64) -> Result<General> {
        match bytemuck::try_cast_slice(bytes) {
            Ok(words) => General::new(Words::Static(words), fingerprint),
            Err(_) => General::read(bytes, fingerprint),
        }
    }

    /// Opens a table in a file.
    pub fn open(path: &Path, fingerprint: u64) -> Result<General> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        General::read(&bytes, fingerprint).with_context(|| format!("{}", path.display()))
    }

    fn new(words: Words, fingerprint: u64) -> Result<General> {
        let table = General { contexts: 0, entries: 0, words };
        let all = table.all();
        ensure!(all.len() >= HEADER && all[0] == MAGIC, "this is no table of n-grams");
        ensure!(all[1] == VERSION, "the table's layout is version {}, not {VERSION}", all[1]);
        if u64::from(all[2]) | u64::from(all[3]) << 32 != fingerprint {
            bail!("the table is for another tokenizer");
        }
        let (contexts, entries) = (all[4] as usize, all[5] as usize);
        let length = HEADER + (1 << RADIX) + 1 + 2 * contexts + 1 + entries;
        ensure!(all.len() == length, "the table is cut off");
        Ok(General { contexts, entries, ..table })
    }

    fn all(&self) -> &[u32] {
        match &self.words {
            Words::Owned(words) => words,
            Words::Static(words) => words,
        }
    }

    /// Contexts in the table.
    pub fn contexts(&self) -> usize {
        self.contexts
    }

    /// Bytes of the table.
    pub fn size_in_bytes(&self) -> usize {
        self.all().len() * 4
    }

    /// What followed the ends of a history.
    pub fn evidence(&self, history: &[TokenId]) -> Evidence {
        let longest = ORDER.min(history.len());
        let levels = (1..=longest).rev().filter_map(|n| self.level(&history[history.len() - n..]));
        Evidence { levels: levels.collect(), ..Evidence::default() }
    }

    fn level(&self, context: &[TokenId]) -> Option<Level> {
        let entries = &self.all()[self.find(hash(context))?];
        let (&total, rest) = entries.split_first()?;
        let counts: Vec<_> = rest.iter().map(|&e| (e >> 8, unpack(e))).collect();
        (!counts.is_empty()).then(|| Level { length: context.len(), counts, total: unpack(total) })
    }

    /// Where the entries of a context lie, in words.
    fn find(&self, hash: u64) -> Option<Range<usize>> {
        let all = self.all();
        let radix = HEADER + (hash >> (64 - RADIX)) as usize;
        let bucket = (all[radix] as usize).min(self.contexts)..(all[radix + 1] as usize);
        let keys = HEADER + (1 << RADIX) + 1;
        let keys_of_bucket = all[keys..keys + self.contexts].get(bucket.clone())?;
        let at = bucket.start + keys_of_bucket.binary_search(&(hash as u32)).ok()?;
        let starts = &all[keys + self.contexts..keys + 2 * self.contexts + 1];
        let first = keys + 2 * self.contexts + 1;
        let (start, end) = (starts[at] as usize, starts[at + 1] as usize);
        (start <= end && end <= self.entries).then_some(first + start..first + end)
    }
}

/// FNV over the tokens; the length is part of it.
fn hash(context: &[TokenId]) -> u64 {
    let mixed = context.iter().fold(0xcbf2_9ce4_8422_2325 ^ context.len() as u64, |h, &t| {
        (h ^ u64::from(t)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn pack(token: TokenId, count: usize) -> u32 {
    token << 8 | ((count as f32).log2() * STEPS).round().min(255.0) as u32
}

fn unpack(entry: u32) -> f32 {
    ((entry & 0xff) as f32 / STEPS).exp2()
}

/// A context that could be kept.
struct Candidate {
    hash: u64,
    gain: f32,
    entries: Box<[u32]>,
}

/// Makes a table of at most `bytes` from the index of a corpus, in which files are named
/// `repository/path`. `say` hears of first tokens done, of how many.
pub fn distil(
    corpus: &Segment,
    vocabulary: usize,
    fingerprint: u64,
    bytes: usize,
    say: &mut dyn FnMut(usize, usize),
) -> Result<Vec<u8>> {
    let repositories = repositories(corpus);
    let mut walk =
        Walk { corpus, repositories, candidates: Vec::new(), counts: vec![0; vocabulary] };
    let all = corpus.run(0..corpus.places()).1;
    let mut unigrams = vec![0u32; vocabulary];
    all.iter().for_each(|&t| {
        if let Some(count) = unigrams.get_mut(t as usize) {
            *count += 1;
        }
    });
    let sum = all.len().max(1) as f32;
    let below: Vec<f32> = unigrams.iter().map(|&c| (c as f32 + 0.5) / sum).collect();
    for token in 0..vocabulary as TokenId {
        if let Some(Found { bucket, .. }) = corpus.find(&[token]) {
            walk.context(bucket, &mut vec![token], &below);
        }
        say(token as usize + 1, vocabulary);
    }
    let mut candidates = walk.candidates;
    let size = |c: &Candidate| 8 + 4 * c.entries.len();
    let worth = |c: &Candidate| c.gain / size(c) as f32;
    candidates.sort_unstable_by(|a, b| worth(b).total_cmp(&worth(a)));
    let mut room = bytes.saturating_sub(4 * (HEADER + (1 << RADIX) + 2));
    let fits = candidates.iter().take_while(|c| {
        let size = size(c);
        (size <= room).then(|| room -= size).is_some()
    });
    let count = fits.count();
    candidates.truncate(count);
    candidates.sort_unstable_by_key(|c| (c.hash >> (64 - RADIX), c.hash as u32));
    candidates.dedup_by_key(|c| (c.hash >> (64 - RADIX), c.hash as u32));
    table(&candidates, fingerprint)
}

fn table(candidates: &[Candidate], fingerprint: u64) -> Result<Vec<u8>> {
    let entries: usize = candidates.iter().map(|c| c.entries.len()).sum();
    let mut words = vec![
        MAGIC,
        VERSION,
        fingerprint as u32,
        (fingerprint >> 32) as u32,
        candidates.len() as u32,
        entries as u32,
    ];
    let mut radix = vec![0u32; (1 << RADIX) + 1];
    candidates.iter().for_each(|c| radix[(c.hash >> (64 - RADIX)) as usize + 1] += 1);
    (0..1 << RADIX).for_each(|i| radix[i + 1] += radix[i]);
    words.extend(radix);
    words.extend(candidates.iter().map(|c| c.hash as u32));
    let mut start = 0;
    for candidate in candidates {
        words.push(start);
        start += candidate.entries.len() as u32;
    }
    words.push(start);
    words.extend(candidates.iter().flat_map(|c| c.entries.iter().copied()));
    let mut bytes = Vec::with_capacity(words.len() * 4);
    bytes.write_all(bytemuck::cast_slice(&words))?;
    Ok(bytes)
}

/// The repository of each position, by the first part of its file's name.
fn repositories(corpus: &Segment) -> Vec<u8> {
    let mut of = vec![0u8; corpus.tokens().len()];
    let (mut last, mut number) = (String::new(), 0u8);
    for file in 0..corpus.files() {
        let (name, range, _) = corpus.file(file);
        let repository = name.split('/').next().unwrap_or_default();
        if repository != last {
            (last, number) = (repository.to_string(), number.wrapping_add(1));
        }
        of[range.start as usize..range.end as usize].fill(number);
    }
    of
}

struct Walk<'a> {
    corpus: &'a Segment,
    repositories: Vec<u8>,
    candidates: Vec<Candidate>,
    counts: Vec<u32>,
}

impl Walk<'_> {
    /// Judges a context, whose places are `places`, against the probabilities `below` of the shorter one, and
    /// those that begin one token earlier.
    fn context(&mut self, places: Range<usize>, context: &mut Vec<TokenId>, below: &[f32]) {
        if places.len() < LEAST {
            return;
        }
        let (positions, next) = self.corpus.run(places.clone());
        let mut seen = Vec::new();
        for &token in next {
            if let Some(count) = self.counts.get_mut(token as usize) {
                if *count == 0 {
                    seen.push(token);
                }
                *count += 1;
            }
        }
        let total: u32 = seen.iter().map(|&t| self.counts[t as usize]).sum();
        let several = {
            let mut found = FxHashSet::default();
            let each = positions.iter().map(|&p| self.repositories[p as usize - 1]);
            each.into_iter().any(|r| {
                found.insert(r);
                found.len() >= REPOSITORIES
            })
        };
        if !several || total == 0 {
            seen.iter().for_each(|&t| self.counts[t as usize] = 0);
            return;
        }
        let escape = seen.len() as f32;
        let share =
            |count: u32, below: f32| (count as f32 + escape * below) / (total as f32 + escape);
        let mut gain = 0.0;
        let mut kept: Vec<(TokenId, u32)> = Vec::new();
        for &token in &seen {
            let count = self.counts[token as usize];
            let better = (share(count, below[token as usize]) / below[token as usize]).ln();
            // A token that is no likelier here is as well left to the shorter context.
            if count >= 2 && better > 0.1 {
                gain += count as f32 * better;
                kept.push((token, count));
            }
        }
        if !kept.is_empty() {
            kept.sort_unstable_by_key(|&(_, count)| std::cmp::Reverse(count));
            kept.truncate(64);
            let entries = std::iter::once(pack(0, total as usize))
                .chain(kept.iter().map(|&(token, count)| pack(token, count as usize)));
            let hash = hash(&context.iter().rev().copied().collect::<Vec<_>>());
            self.candidates.push(Candidate { hash, gain, entries: entries.collect() });
        }
        let deeper = context.len() < ORDER;
        let own: Vec<f32> = match deeper {
            true => {
                let handed = escape / (total as f32 + escape);
                let mut own: Vec<f32> = below.iter().map(|p| p * handed).collect();
                seen.iter().for_each(|&t| {
                    own[t as usize] += self.counts[t as usize] as f32 / (total as f32 + escape);
                });
                own
            }
            false => Vec::new(),
        };
        seen.iter().for_each(|&t| self.counts[t as usize] = 0);
        if !deeper {
            return;
        }
        // Places are sorted by the token before the context: equal ones are runs.
        let back = context.len() as u32 + 1;
        let tokens = self.corpus.tokens();
        let before = |place: usize| {
            let position = self.corpus.position(place);
            tokens.get(position.wrapping_sub(back) as usize).copied().unwrap_or(TokenId::MAX)
        };
        let mut start = places.start;
        while start < places.end {
            let token = before(start);
            let mut end = start + 1;
            while end < places.end && before(end) == token {
                end += 1;
            }
            if (token as usize) < self.counts.len() {
                context.push(token);
                self.context(start..end, context, &own);
                context.pop();
            }
            start = end;
        }
    }
}
