//! The memory as seen from one cursor: which texts are near, which must not be known, and what they all say
//! about the next token.

mod neighbours;

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::chunks::Chunks;
use super::evidence::{Counter, Evidence, Scope, Source, gather, scan};
use super::gate::{Event, Features, Mixing, ModelView, TIERS};
use super::index::{Hidden, Memory, Shelf};
use super::segment::{self, Segment, SegmentBuilder};
use super::walk;
use crate::text::Text;
use crate::tokenizer::TokenId;
use crate::workspace::{Document, Snapshot};

pub use neighbours::Neighbour;

/// Open documents that are looked at, the last touched first.
const MOST_OPEN: usize = 12;
/// Larger documents are not looked through at each token.
const MOST_SCANNED: usize = 100_000;
/// Tokens of a history that are compared.
pub const MOST_HISTORY: usize = 512;

/// What is kept between two requests: tokens of lines, and small indexes of the other open documents.
#[derive(Default)]
pub struct FocusCache {
    chunks: Chunks,
    open: FxHashMap<String, (Text, Arc<Segment>)>,
    counters: Option<[Counter; 2]>,
    dense: Vec<f32>,
}

/// The memory for one place; see the module.
pub struct Focus<'a> {
    cache: &'a mut FocusCache,
    shelf: Shelf,
    mixing: Mixing,
    vocabulary: usize,
    before: Vec<TokenId>,
    after: Vec<TokenId>,
    open: Vec<Arc<Segment>>,
    /// For each segment of the shelf: what must not be known, and what is near.
    views: Vec<(Vec<Range<u32>>, Range<u32>)>,
    /// The last question and its answer: a draft and the step after it ask the same.
    last: (Vec<TokenId>, [Evidence; TIERS.len()]),
}

/// What mixing did at one token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixed {
    /// λ: what the memory counted.
    pub lambda: f32,
    /// Tokens of the longest agreement in any tier but the shipped one.
    pub length: usize,
    /// Probability that the memory gave its likeliest token, over all tiers.
    pub best: f32,
    /// Nats of entropy of the model alone.
    pub entropy: f32,
}

/// A place that says what a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// Which part of the memory.
    pub tier: &'static str,
    /// The file's name in the memory; nothing for the document itself.
    pub file: Option<String>,
    /// The tokens of the file before the place.
    pub before: Vec<TokenId>,
    /// How many of them agree with the text that is continued.
    pub agreement: usize,
}

impl<'a> Focus<'a> {
    /// Looks from byte `offset` of `text`, which is what the snapshot's document is or becomes. `after` is
    /// where the text behind the cursor begins that may be known.
    pub fn new(
        memory: &Memory,
        cache: &'a mut FocusCache,
        snapshot: &Snapshot,
        text: &str,
        before: Range<usize>,
        after: Range<usize>,
        mixing: Mixing,
    ) -> Focus<'a> {
        let vocabulary = memory.tokenizer().vocab_size();
        let tokens = |text: &str, cache: &mut FocusCache| {
            let mut tokens = Vec::new();
            cache.chunks.encode(memory.tokenizer(), text, &mut tokens);
            tokens
        };
        let (before, after) = (tokens(&text[before], cache), tokens(&text[after], cache));
        let document = &snapshot.document;
        let others = snapshot.others.iter().filter(|d| walk::unfit(d.text.as_str()).is_none());
        let others: Vec<&Arc<Document>> = others.take(MOST_OPEN).collect();
        cache.open.retain(|uri, _| others.iter().any(|d| d.uri == *uri));
        let mut open = Vec::new();
        for other in &others {
            let known = cache.open.get(&other.uri).filter(|(text, _)| text.is_same(&other.text));
            if let Some((_, segment)) = known {
                open.push(segment.clone());
                continue;
            }
            let mut builder = SegmentBuilder::new(vocabulary);
            builder.add(&other.uri, 0, &tokens(other.text.as_str(), cache));
            if let Ok(segment) = builder.build(memory.fingerprint()) {
                let segment = Arc::new(segment);
                open.push(segment.clone());
                cache.open.insert(other.uri.clone(), (other.text.clone(), segment));
            }
        }
        // What the editor has open is newer than what is on disk.
        let name = |d: &Arc<Document>| walk::name_below(memory.root(), d.path.as_deref()?);
        let stale: Vec<String> = snapshot.others.iter().filter_map(name).collect();
        let own = name(document);
        let focus = Focus::of_tokens(memory, cache, own.as_deref(), &stale, before, after, mixing);
        Focus { open, ..focus }
    }

    /// Looks from between two texts of tokens, those of the file `own`. Neither it nor the files named by `stale`
    /// are known from disk.
    pub fn of_tokens(
        memory: &Memory,
        cache: &'a mut FocusCache,
        own: Option<&str>,
        stale: &[String],
        before: Vec<TokenId>,
        after: Vec<TokenId>,
        mixing: Mixing,
    ) -> Focus<'a> {
        let (shelf, vocabulary) = (memory.shelf(), memory.tokenizer().vocab_size());
        let folder = own.and_then(|own| own.rsplit_once('/')).map(|(folder, _)| folder);
        let view = |(segment, hidden): &(Arc<Segment>, Hidden)| {
            let mut hidden = hidden.to_vec();
            let names = stale.iter().map(String::as_str).chain(own);
            hidden.extend(names.filter_map(|name| find(segment, name)));
            hidden.sort_unstable_by_key(|range| range.start);
            (hidden, folder.map_or(0..0, |folder| within(segment, folder)))
        };
        let views = shelf.segments.iter().map(view).collect();
        if cache.counters.is_none() || cache.dense.len() != vocabulary {
            cache.counters = Some([Counter::new(vocabulary), Counter::new(vocabulary)]);
            cache.dense = vec![0.0; vocabulary];
        }
        let (open, last) = (Vec::new(), Default::default());
        Focus { cache, shelf, mixing, vocabulary, before, after, open, views, last }
    }

    /// Takes a token into the text before the cursor.
    pub fn push(&mut self, token: TokenId) {
        self.before.push(token);
        self.last.0.clear();
    }

    /// The text before the cursor.
    pub fn before(&self) -> &[TokenId] {
        &self.before
    }

    /// What the tiers say after `history`, which ends where the text before the cursor and what was generated
    /// since end.
    fn evidence(&mut self, history: &[TokenId]) -> [Evidence; TIERS.len()] {
        let history = &history[history.len().saturating_sub(MOST_HISTORY)..];
        if self.last.0 == history {
            return self.last.1.clone();
        }
        let Some(counters) = &mut self.cache.counters else { return Default::default() };
        let file = match self.before.len() + self.after.len() <= MOST_SCANNED {
            true => scan(&[&self.before, &self.after], history, &mut counters[0]),
            false => Evidence::default(),
        };
        let open = self.open.iter().map(|segment| Scope { segment, hidden: &[], near: 0..0 });
        let [open, _] = gather(&open.collect::<Vec<_>>(), history, counters);
        let views = self.shelf.segments.iter().zip(&self.views);
        let scopes: Vec<Scope> = views
            .map(|((segment, _), (hidden, near))| Scope { segment, hidden, near: near.clone() })
            .collect();
        let [repository, folder] = gather(&scopes, history, counters);
        let general = self.shelf.general.as_ref().map(|general| general.evidence(history));
        let all = [file, open, folder, repository, general.unwrap_or_default()];
        self.last = (history.to_vec(), all.clone());
        all
    }

    /// Mixes what the memory knows into the model's prediction: `logits` become log-probabilities.
    pub fn mix(&mut self, history: &[TokenId], logits: &mut [f32]) -> Mixed {
        let probabilities = softmax(logits);
        if self.mixing == Mixing::ModelAlone {
            logits.iter_mut().for_each(|p| *p = p.ln());
            return Mixed { entropy: probabilities.entropy, ..Mixed::default() };
        }
        let (tiers, features, mut mixed) = self.describe(history, logits, &probabilities);
        let lengths: [usize; TIERS.len()] = std::array::from_fn(|i| tiers[i].0.length());
        let shares = self.mixing.shares(&self.shelf.gate, &features, &lengths);
        mixed.lambda = 1.0 - shares.model;
        let open: f32 = tiers.iter().zip(&shares.tiers).map(|(tier, s)| s * tier.2).sum();
        let model = match self.mixing {
            // Alone, the memory has nobody to ask about what it never saw.
            Mixing::MemoryAlone if mixed.lambda > 0.0 => 1e-6 + open * 1e-3,
            _ => shares.model + open,
        };
        logits.iter_mut().for_each(|p| *p *= model);
        for ((_, seen, _), share) in tiers.iter().zip(&shares.tiers) {
            for &(token, p) in seen {
                logits[token as usize] += share * p;
            }
        }
        logits.iter_mut().for_each(|p| *p = p.max(1e-30).ln());
        mixed
    }

    /// What the gate learns from when `token` came after `history`.
    pub fn event(&mut self, history: &[TokenId], logits: &mut [f32], token: TokenId) -> Event {
        let probabilities = softmax(logits);
        let (tiers, features, _) = self.describe(history, logits, &probabilities);
        let model = logits.get(token as usize).copied().unwrap_or(0.0);
        let of = |(_, seen, open): &Tier| {
            let own = seen.iter().find(|(t, _)| *t == token).map_or(0.0, |(_, p)| *p);
            own + open * model
        };
        Event { features, tiers: std::array::from_fn(|i| of(&tiers[i])), model }
    }

    fn describe(
        &mut self,
        history: &[TokenId],
        probabilities: &[f32],
        view: &ModelView,
    ) -> (Vec<Tier>, Features, Mixed) {
        let evidence = self.evidence(history);
        let mut features = Features::default();
        let mut mixed = Mixed { entropy: view.entropy, ..Mixed::default() };
        let mut tiers = Vec::with_capacity(TIERS.len());
        let (mut ids, mut nearer) = (Vec::new(), 0);
        for (index, evidence) in evidence.into_iter().enumerate() {
            ids.clear();
            let open = evidence.blend(&mut self.cache.dense, &mut ids);
            let seen: Vec<(TokenId, f32)> = ids
                .iter()
                .map(|&t| (t, std::mem::take(&mut self.cache.dense[t as usize])))
                .collect();
            let best = seen.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            if let Some(best) = best {
                let belief = probabilities.get(best.0 as usize).copied().unwrap_or(0.0);
                features.describe(index, &evidence, best, belief, nearer, view);
                mixed.best = mixed.best.max(best.1);
                if index + 1 < TIERS.len() {
                    nearer = nearer.max(evidence.length());
                }
            }
            tiers.push((evidence, seen, open));
        }
        mixed.length = nearer;
        (tiers, features, mixed)
    }

    /// Where `token` stands after an agreement with `history`: of the places that the tiers know best, the one that
    /// agrees longest, the nearest first.
    pub fn recall(&mut self, history: &[TokenId], token: TokenId) -> Option<Recalled> {
        let tiers = self.evidence(history);
        let mut best: Option<Recalled> = None;
        for (tier, evidence) in tiers.iter().enumerate() {
            let Some(Source { text, position }) = evidence.source.clone() else { continue };
            let agreement = evidence.length();
            if best.as_ref().is_some_and(|best| best.agreement >= agreement) {
                continue;
            }
            let at = position as usize;
            let place = if tier == 0 {
                let all =
                    [self.before.as_slice(), if text == 0 { &[] } else { &self.after }].concat();
                let at = if text == 0 { at } else { self.before.len() + at };
                (all.get(at) == Some(&token)).then(|| (None, all[..at].to_vec()))
            } else {
                let segment = match tier {
                    1 => self.open.get(text),
                    _ => self.shelf.segments.get(text).map(|(segment, _)| segment),
                };
                segment.filter(|segment| segment.tokens().get(at) == Some(&token)).map(|segment| {
                    let file = segment.file_at(position).unwrap_or(0);
                    let (name, range, _) = segment.file(file);
                    let before = segment.tokens()[range.start as usize..at].to_vec();
                    (Some(name.to_string()), before)
                })
            };
            if let Some((file, before)) = place {
                best = Some(Recalled { tier: TIERS[tier], file, before, agreement });
            }
        }
        best
    }

    /// Tokens that stood after the longest agreement with `history`, if it is of at least `least`
    /// tokens: what to copy on trial. Ends with a file.
    pub fn draft(&mut self, history: &[TokenId], least: usize, most: usize) -> Vec<TokenId> {
        if self.mixing == Mixing::ModelAlone {
            return Vec::new();
        }
        let tiers = self.evidence(history);
        let longest = tiers.iter().take(4).map(Evidence::length).max().unwrap_or(0);
        let best = tiers.iter().take(4).position(|e| e.length() == longest && longest >= least);
        let Some((tier, Some(source))) = best.map(|tier| (tier, tiers[tier].source.clone())) else {
            return Vec::new();
        };
        let Source { text, position } = source;
        let tokens: &[u32] = match (tier, text) {
            (0, 0) => &self.before,
            (0, _) => &self.after,
            (1, _) => self.open.get(text).map_or(&[], |s| s.tokens()),
            _ => self.shelf.segments.get(text).map_or(&[], |(s, _)| s.tokens()),
        };
        let rest = tokens.get(position as usize..).unwrap_or_default().iter().copied();
        rest.take_while(|&t| (t as usize) < self.vocabulary).take(most).collect()
    }
}

/// A tier's evidence, its probabilities, and what it leaves open.
type Tier = (Evidence, Vec<(TokenId, f32)>, f32);

/// Turns logits into probabilities and says what the gate wants to know of them.
fn softmax(logits: &mut [f32]) -> ModelView {
    let (mut token, mut top) = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > top {
            (token, top) = (id as u32, logit);
        }
    }
    let mut sum = 0.0;
    logits.iter_mut().for_each(|l| {
        *l = (*l - top).exp();
        sum += *l;
    });
    let scale = 1.0 / sum;
    let mut entropy = 0.0;
    logits.iter_mut().for_each(|l| {
        *l *= scale;
        entropy -= *l * l.max(1e-30).ln();
    });
    ModelView { entropy, best: scale, token }
}

/// The range of a file by its name; names are sorted.
fn find(segment: &Segment, name: &str) -> Option<Range<u32>> {
    let at = partition(segment, |other| other < name);
    let (found, range, _) = (at < segment.files()).then(|| segment.file(at))?;
    (found == name).then_some(range)
}

/// The range of all files below a folder.
fn within(segment: &Segment, folder: &str) -> Range<u32> {
    let prefix = format!("{folder}/");
    let first = partition(segment, |name| name < prefix.as_str());
    let end = partition(segment, |name| name < prefix.as_str() || name.starts_with(&prefix));
    let start = |at: usize| match at < segment.files() {
        true => segment.file(at).1.start,
        false => segment.tokens().len() as u32,
    };
    start(first)..start(end)
}

fn partition(segment: &Segment, before: impl Fn(&str) -> bool) -> usize {
    segment::partition(0..segment.files(), |file| before(segment.file(file).0))
}
