//! What followed where a history stood before: counts by length of agreement, for one tier of the memory,
//! and the probabilities that they make together.

use std::ops::Range;

use super::segment::{Found, Segment};
use crate::tokenizer::TokenId;

/// Lengths of agreement, in tokens, at which counts are taken below the longest.
const LENGTHS: [usize; 12] = [48, 32, 24, 16, 12, 9, 7, 5, 4, 3, 2, 1];
/// Lengths that are looked at for one answer.
const MOST_LEVELS: usize = 6;
/// Places that are counted one by one; of longer runs, that many are taken at even distances.
const MOST_PLACES: usize = 192;
/// Hidden places that are passed over on each side in search of the longest agreement.
const MOST_HIDDEN: usize = 256;

/// The counts after all places that agree with the history over at least `length` tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Tokens that agree.
    pub length: usize,
    /// Each token that followed, with how often it did.
    pub counts: Vec<(TokenId, f32)>,
    /// How often anything followed: their sum, or more where rare ones were left out.
    pub total: f32,
}

/// Where a long match goes on: tokens that can be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Number of the segment, or of the text, in the tier's own order.
    pub text: usize,
    /// Where the next token stands in it.
    pub position: u32,
}

/// What one tier has seen after a history, longest agreement first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Never empty of counts.
    pub levels: Vec<Level>,
    /// A place of longest agreement, the nearest or newest.
    pub source: Option<Source>,
    /// Tokens between that place and the cursor, where the tier knows.
    pub distance: Option<u32>,
}

impl Evidence {
    /// Tokens of the longest agreement; 0 if nothing was found.
    pub fn length(&self) -> usize {
        self.levels.first().map_or(0, |level| level.length)
    }

    /// Probabilities of the tokens that were seen, in `dense` with their ids in `seen`, and what is left for
    /// all others. PPM's recursion: each length trusts itself by its count and hands the rest to the next
    /// shorter one (method C of Moffat 1990, with a share of the escape that falls with the length).
    ///
    /// `dense` has a place for each token and must be 0 there; whoever calls clears it by `seen`.
    pub fn blend(&self, dense: &mut [f32], seen: &mut Vec<TokenId>) -> f32 {
        let mut rest = 1.0;
        for level in self.levels.iter().rev() {
            let escape = level.counts.len() as f32 * escape_weight(level.length);
            let sum = level.total + escape;
            let known: f32 = level.counts.iter().map(|(_, count)| count).sum();
            let handed = (1.0 - known / sum).max(0.0);
            seen.iter().for_each(|&t| dense[t as usize] *= handed);
            rest *= handed;
            for &(token, count) in &level.counts {
                let place = &mut dense[token as usize];
                if *place == 0.0 {
                    seen.push(token);
                }
                *place += count / sum;
            }
        }
        rest
    }
}

/// How much one distinct token weighs as a sign that another may come.
fn escape_weight(length: usize) -> f32 {
    match length {
        0..=2 => 1.0,
        3..=5 => 0.6,
        6..=11 => 0.3,
        _ => 0.15,
    }
}

/// Counts by token, cleared without touching all of them.
#[derive(Default)]
pub struct Counter {
    dense: Vec<f32>,
    seen: Vec<TokenId>,
}

impl Counter {
    /// For a vocabulary of that size.
    pub fn new(vocabulary: usize) -> Counter {
        Counter { dense: vec![0.0; vocabulary], seen: Vec::new() }
    }

    fn add(&mut self, token: TokenId, weight: f32) {
        // The end of a file is no token.
        if let Some(place) = self.dense.get_mut(token as usize) {
            if *place == 0.0 {
                self.seen.push(token);
            }
            *place += weight;
        }
    }

    fn level(&self, length: usize) -> Option<Level> {
        let counts: Vec<(TokenId, f32)> =
            self.seen.iter().map(|&t| (t, self.dense[t as usize])).collect();
        let total = counts.iter().map(|(_, count)| count).sum();
        (!counts.is_empty()).then_some(Level { length, counts, total })
    }

    fn clear(&mut self) {
        self.seen.drain(..).for_each(|t| self.dense[t as usize] = 0.0);
    }
}

/// A segment with what of it counts.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// The index.
    pub segment: &'a Segment,
    /// Ranges of positions that are out of date or must not be known, sorted.
    pub hidden: &'a [Range<u32>],
    /// The positions of the files in the cursor's folder.
    pub near: Range<u32>,
}

impl Scope<'_> {
    fn shows(&self, position: u32) -> bool {
        let at = self.hidden.partition_point(|range| range.end <= position);
        self.hidden.get(at).is_none_or(|range| position < range.start)
    }

    /// The longest agreement that is not hidden around place `at`, with its place.
    fn longest(
        &self,
        history: &[TokenId],
        bucket: &Range<usize>,
        at: usize,
    ) -> Option<(usize, usize)> {
        let shown = |place: &usize| self.shows(self.segment.position(*place));
        let right = (at..bucket.end).take(MOST_HIDDEN).find(shown);
        let left = (bucket.start..at).rev().take(MOST_HIDDEN).find(shown);
        let each = right.into_iter().chain(left);
        each.map(|p| (self.segment.agreement(history, self.segment.position(p)), p))
            .max_by_key(|&(length, _)| length)
    }

    /// Positions that agree longest with `history`, `most` at most, each with its tokens of agreement; longest first.
    pub fn nearest(&self, history: &[TokenId], most: usize) -> Vec<(usize, u32)> {
        let Some(Found { bucket, at, .. }) = self.segment.find(history) else { return Vec::new() };
        let position = |place| self.segment.position(place);
        let shown = |position: &u32| self.shows(*position);
        let right = (at..bucket.end).take(MOST_HIDDEN).map(position).filter(shown).take(most);
        let left = (bucket.start..at).rev().take(MOST_HIDDEN).map(position).filter(shown);
        let agreement = |p| (self.segment.agreement(history, p), p);
        let mut nearest: Vec<_> = right.chain(left.take(most)).map(agreement).collect();
        nearest.sort_by_key(|&(length, _)| std::cmp::Reverse(length));
        nearest.truncate(most);
        nearest
    }
}

/// The evidence of all scopes together, and of their near parts alone.
pub fn gather(
    scopes: &[Scope<'_>],
    history: &[TokenId],
    counters: &mut [Counter; 2],
) -> [Evidence; 2] {
    struct Search {
        scope: usize,
        found: Found,
        longest: usize,
        run: Range<usize>,
    }
    let mut searches: Vec<Search> = Vec::new();
    for (scope, s) in scopes.iter().enumerate() {
        let Some(found) = s.segment.find(history) else { continue };
        let Some((longest, _)) = s.longest(history, &found.bucket, found.at) else { continue };
        let run = found.at..found.at;
        searches.push(Search { scope, found, longest, run });
    }
    let mut evidence = [Evidence::default(), Evidence::default()];
    let longest = searches.iter().map(|s| s.longest).max().unwrap_or(0);
    let below = LENGTHS.iter().copied().filter(|&length| length < longest);
    let lengths = std::iter::once(longest).filter(|&l| l > 0).chain(below).take(MOST_LEVELS);
    for length in lengths {
        let mut counted = 0;
        for search in searches.iter_mut().filter(|s| s.longest >= length) {
            let scope = &scopes[search.scope];
            let run = scope.segment.widen(history, length, &search.found, search.run.clone());
            counted += run.len();
            for new in [run.start..search.run.start, search.run.end..run.end] {
                let step = new.len().div_ceil(MOST_PLACES).max(1);
                let (positions, next) = scope.segment.run(new);
                let each = positions.iter().zip(next).step_by(step);
                for (&position, &token) in each.filter(|(p, _)| scope.shows(**p)) {
                    let near = scope.near.contains(&position);
                    counters[0].add(token, step as f32);
                    let source = Source { text: search.scope, position };
                    if near {
                        counters[1].add(token, step as f32);
                        evidence[1].source.get_or_insert_with(|| source.clone());
                    }
                    evidence[0].source.get_or_insert(source);
                }
            }
            search.run = run;
        }
        for (counter, evidence) in counters.iter().zip(&mut evidence) {
            // A longer level that says the same already says it better.
            let new = counter
                .level(length)
                .filter(|level| evidence.levels.last().is_none_or(|last| last.total < level.total));
            evidence.levels.extend(new);
        }
        if counted > MOST_PLACES {
            break;
        }
    }
    // A near place goes on more likely as the text here will.
    if evidence[1].length() == evidence[0].length() && evidence[1].source.is_some() {
        evidence[0].source = evidence[1].source.clone();
    }
    counters.iter_mut().for_each(Counter::clear);
    evidence
}

/// A place in plain texts where a history stood before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    /// Tokens that agree.
    pub(super) agreement: usize,
    /// Tokens between it and the cursor.
    distance: u32,
    /// The token that followed.
    next: TokenId,
    /// Number of the text.
    pub(super) text: usize,
    /// Where that token stands in it.
    pub(super) position: u32,
}

/// The places of plain texts of tokens, searched from end to end: longest agreement first, of equals the nearest. The
/// first text ends where the history does; the others stand behind the cursor.
pub(super) fn hits(texts: &[&[TokenId]], history: &[TokenId]) -> Vec<Hit> {
    let Some(&last) = history.last() else { return Vec::new() };
    let cursor = texts.first().map_or(0, |before| before.len());
    let mut hits: Vec<Hit> = Vec::new();
    for (text, tokens) in texts.iter().enumerate() {
        let followed = tokens.len().saturating_sub(1);
        for at in (0..followed).filter(|&at| tokens[at] == last) {
            let before = tokens[..=at].iter().rev();
            let agreement = before.zip(history.iter().rev()).take_while(|(a, b)| a == b).count();
            let distance = if text == 0 { cursor - at } else { at + 1 } as u32;
            let (next, position) = (tokens[at + 1], at as u32 + 1);
            hits.push(Hit { agreement, distance, next, text, position });
        }
    }
    hits.sort_unstable_by(|a, b| b.agreement.cmp(&a.agreement).then(a.distance.cmp(&b.distance)));
    hits
}

/// The evidence of [`hits`]: for the file that is being written, which changes with each key.
pub fn scan(texts: &[&[TokenId]], history: &[TokenId], counter: &mut Counter) -> Evidence {
    let hits = hits(texts, history);
    let Some(&Hit { agreement: longest, distance, text, position, .. }) = hits.first() else {
        return Evidence::default();
    };
    let mut levels: Vec<Level> = Vec::new();
    let below = LENGTHS.iter().copied().filter(|&length| length < longest);
    let mut rest = hits.iter().peekable();
    for length in std::iter::once(longest).chain(below).take(MOST_LEVELS) {
        let mut is_first = true;
        while let Some(hit) = rest.next_if(|hit| hit.agreement >= length) {
            // Of equal agreements the nearest says most.
            counter.add(hit.next, if is_first { 2.0 } else { 1.0 });
            is_first = false;
        }
        let new = counter
            .level(length)
            .filter(|level| levels.last().is_none_or(|last| last.total < level.total));
        levels.extend(new);
    }
    counter.clear();
    Evidence { levels, source: Some(Source { text, position }), distance: Some(distance) }
}
