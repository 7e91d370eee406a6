//! The places where a history stood before that agree with it longest, each with the text around it.

use std::ops::Range;

use super::{Focus, MOST_HISTORY, MOST_SCANNED};
use crate::memory::evidence::{Scope, hits};
use crate::tokenizer::TokenId;

/// Tokens before and behind a place that are looked at.
const BEFORE: usize = 160;
const BEHIND: usize = 96;

/// One place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour<'a> {
    /// Tokens before it that agree with the history.
    pub agreement: usize,
    /// Tokens before it, of the same file.
    pub before: &'a [TokenId],
    /// Tokens from it on, of the same file.
    pub behind: &'a [TokenId],
}

impl Focus<'_> {
    /// The places that agree longest with `history`, `most` at most; of equals the nearest tier's come first.
    pub fn neighbours(&self, history: &[TokenId], most: usize) -> Vec<Neighbour<'_>> {
        let history = &history[history.len().saturating_sub(MOST_HISTORY)..];
        let mut found = Vec::new();
        if self.before.len() + self.after.len() <= MOST_SCANNED {
            let texts: [&[TokenId]; 2] = [&self.before, &self.after];
            for hit in hits(&texts, history).iter().take(most) {
                found.push(self.neighbour(hit.agreement, texts[hit.text], hit.position as usize));
            }
        }
        const OPEN: (&[Range<u32>], Range<u32>) = (&[], 0..0);
        let open = self.open.iter().map(|segment| (segment, OPEN));
        let views = self.views.iter().map(|(hidden, near)| (hidden.as_slice(), near.clone()));
        let shelf = self.shelf.segments.iter().map(|(segment, _)| segment).zip(views);
        for (segment, (hidden, near)) in open.chain(shelf) {
            let nearest = Scope { segment, hidden, near }.nearest(history, most);
            let tokens = segment.tokens();
            found.extend(
                nearest.iter().map(|&(length, at)| self.neighbour(length, tokens, at as usize)),
            );
        }
        found.sort_by_key(|place| std::cmp::Reverse(place.agreement));
        found.truncate(most);
        found
    }

    fn neighbour<'t>(&self, agreement: usize, tokens: &'t [TokenId], at: usize) -> Neighbour<'t> {
        let (before, behind) = tokens.split_at(at.min(tokens.len()));
        // What is no token stands between files.
        let inside = |token: &TokenId| (*token as usize) < self.vocabulary;
        let first = before.iter().rev().take(BEFORE).take_while(|t| inside(t)).count();
        let last = behind.iter().take(BEHIND).take_while(|t| inside(t)).count();
        Neighbour { agreement, before: &before[before.len() - first..], behind: &behind[..last] }
    }
}
