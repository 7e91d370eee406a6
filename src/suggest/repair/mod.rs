//! Repairs: candidates → those that hold → the likeliest. What is offered says what was proven about it.

mod fix;
pub mod mutations;
mod propose;
pub mod syntax;
mod weigh;

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::generation::CancelToken;
use crate::syntax::SyntaxTree;
use crate::text::Text;

pub use fix::{Check, Evidence, Fixed, Fixing, Outcome, fix};
pub use propose::{Ask, Origin, Proposal, proposals};
pub use syntax::{Candidate, Change};
pub use weigh::Weigher;

/// Candidates that the model is asked about.
const MOST_WEIGHED: usize = 40;
/// Share of the time for the parser; the rest is the model's.
const PARSING: f64 = 0.4;

/// Repairs of broken syntax, likeliest first. `weigher` weighs them; without it the parser alone decides.
pub fn syntax_repairs(
    (tree, text): (&SyntaxTree, &Text),
    within: Option<Range<usize>>,
    weigher: Option<&mut Weigher<'_>>,
    limit: Duration,
    cancel: &CancelToken,
) -> Vec<Candidate> {
    let start = Instant::now();
    let mut found = syntax::candidates(tree, text, within, start + limit.mul_f64(PARSING));
    for candidate in &mut found {
        candidate.worth += habit(candidate.change);
    }
    found.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    found.truncate(MOST_WEIGHED);
    if let Some(weigher) = weigher {
        let edits: Vec<_> = found.iter().map(|candidate| &candidate.edit).collect();
        let go_on = || start.elapsed() < limit && !cancel.is_cancelled();
        match weigher.gains(text, &edits, &go_on) {
            Ok(gains) => {
                for (candidate, gain) in found.iter_mut().zip(gains) {
                    // What there was no time for comes after what was weighed.
                    candidate.worth += gain.unwrap_or(-30.0);
                }
            }
            Err(error) => tracing::error!(%error, "repairs are not weighed"),
        }
        found.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    }
    found
}

/// Nats that speak for a kind of mistake: how often people make it, against how many ways there are to repair it so.
fn habit(change: Change) -> f32 {
    match change {
        Change::Insert => 0.0,
        Change::Undouble => 2.0,
        Change::Delete => 0.0,
        Change::Swap => 1.0,
        Change::Replace => -4.0,
    }
}
