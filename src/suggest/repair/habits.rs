//! How likely a change that parses is the right one: by the kind of mistake that it undoes, by what the text gains by it
//! and by what it takes away. The figures are fitted to what people corrected: `nestling eval fix --history --fit`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::statistics::descend;

/// Nats; what a change gains beyond that says less: text that is copied or dropped gains much.
const MUCH: f32 = 3.0;
/// What a change is taken to gain that there was no time to weigh, and what counts at most, either way.
pub(super) const UNWEIGHED: f32 = -15.0;
const MOST: f32 = 15.0;
/// Bytes that count at most.
const MOST_BYTES: usize = 60;
/// Features beside the kinds.
const FEATURES: usize = 5;

/// What speaks for a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Signals {
    /// The kind of mistake that it undoes.
    pub kind: &'static str,
    /// Nats that speak for it beside others of its kind before any model is asked.
    pub prior: f32,
    /// Nats that the text gains by it.
    pub gain: f32,
    /// Bytes that it makes the text longer or shorter by.
    pub longer: isize,
}

impl Signals {
    fn features(&self) -> [f32; FEATURES] {
        let gain = self.gain.clamp(UNWEIGHED, MOST);
        let bytes = self.longer.unsigned_abs().min(MOST_BYTES) as f32;
        let [added, removed] = if self.longer < 0 { [0.0, bytes] } else { [bytes, 0.0] };
        let removes = f32::from(u8::from(self.longer < 0));
        [gain.min(MUCH), (gain - MUCH).max(0.0), added, removed, removes]
    }
}

/// Fitted figures, all in nats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Habits {
    /// For a nat gained, for one beyond [`MUCH`], for a byte added, for one taken away, and for taking away at all.
    weights: [f32; FEATURES],
    /// How often people correct a kind of mistake, against how many changes of that kind there are.
    kinds: BTreeMap<String, f32>,
}

/// Changes among which one was right, and its index.
pub type Choice = (Vec<Signals>, usize);

impl Habits {
    /// The figures that come with the program, for mistakes that nothing has placed.
    pub fn shipped() -> &'static Habits {
        static SHIPPED: LazyLock<Habits> = LazyLock::new(|| {
            let text = include_str!("../../../models/base/habits.json");
            serde_json::from_str(text).unwrap_or_default()
        });
        &SHIPPED
    }

    /// For what a checker has found: code that is committed is mostly beyond these, so commits say nothing of their kinds.
    /// What is taken away must not gain by that alone; a byte of code costs about as much as is set off here.
    pub fn of_reported() -> &'static Habits {
        static REPORTED: Habits =
            Habits { weights: [1.0, 1.0, 0.0, -0.8, 0.0], kinds: BTreeMap::new() };
        &REPORTED
    }

    /// Nats that speak for a change before it is weighed.
    pub fn prior(&self, signals: &Signals) -> f32 {
        signals.prior + self.kinds.get(signals.kind).copied().unwrap_or(0.0)
    }

    /// Nats that speak for a change.
    pub fn worth(&self, signals: &Signals) -> f32 {
        let features = signals.features();
        self.prior(signals) + self.weights.iter().zip(features).map(|(w, x)| w * x).sum::<f32>()
    }

    /// Fits the figures so that the right change is likely among the others of its choice (a conditional logit).
    pub fn fit(choices: &[Choice]) -> Habits {
        const ROUNDS: usize = 600;
        const RATE: f32 = 0.05;
        /// What a kind is drawn to 0 by, in choices.
        const PRIOR: f32 = 0.4;
        let mut kinds: Vec<&'static str> =
            choices.iter().flat_map(|(signals, _)| signals.iter().map(|s| s.kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        type Row = ([f32; FEATURES], usize, f32);
        let row = |signals: &Signals| -> Row {
            let kind = kinds.binary_search(&signals.kind).unwrap_or(0);
            (signals.features(), FEATURES + kind, signals.prior)
        };
        let rows: Vec<(Vec<Row>, usize)> =
            choices.iter().map(|(all, right)| (all.iter().map(row).collect(), *right)).collect();
        let mut weights = vec![0f32; FEATURES + kinds.len()];
        let each = 1.0 / choices.len().max(1) as f32;
        descend(&mut weights, ROUNDS, RATE, |weights, gradient| {
            for (rows, right) in &rows {
                let score = |(features, kind, prior): &Row| {
                    let sum: f32 = features.iter().zip(weights).map(|(x, w)| x * w).sum();
                    sum + weights[*kind] + prior
                };
                let scores: Vec<f32> = rows.iter().map(score).collect();
                let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = scores.iter().map(|score| (score - top).exp()).sum();
                for (at, ((features, kind, _), score)) in rows.iter().zip(&scores).enumerate() {
                    let wanted = f32::from(u8::from(at == *right));
                    let off = each * ((score - top).exp() / sum - wanted);
                    gradient.iter_mut().zip(features).for_each(|(g, x)| *g += off * x);
                    gradient[*kind] += off;
                }
            }
            let known = gradient.iter_mut().zip(weights).skip(FEATURES);
            known.for_each(|(g, w)| *g += each * PRIOR * w);
        });
        let mut fitted = [0.0; FEATURES];
        fitted.copy_from_slice(&weights[..FEATURES]);
        let kinds = kinds.iter().zip(&weights[FEATURES..]);
        Habits { weights: fitted, kinds: kinds.map(|(kind, w)| (kind.to_string(), *w)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_figures_are_read_and_like_what_reads_well() {
        let habits = Habits::shipped();
        assert_ne!(habits, &Habits::default());
        let number = Signals { kind: "number", ..Signals::default() };
        assert!(habits.worth(&Signals { gain: 3.0, ..number }) > habits.worth(&number));
        assert!(habits.worth(&Signals { gain: UNWEIGHED, ..number }) < habits.worth(&number));
    }

    #[test]
    fn a_fit_learns_which_kinds_people_correct_and_what_gains_say() {
        let signals = |kind, gain| Signals { kind, gain, ..Signals::default() };
        let choice = |i: usize| {
            let all = vec![
                signals("often", (i % 3) as f32),
                signals("seldom", (i % 3) as f32),
                signals("often", (i % 3) as f32 - 1.0),
            ];
            (all, if i % 5 == 4 { 1 } else { 0 })
        };
        let habits = Habits::fit(&(0..60).map(choice).collect::<Vec<_>>());
        let worth = |kind, gain| habits.worth(&signals(kind, gain));
        assert!(worth("often", 1.0) > worth("seldom", 1.0));
        assert!(worth("often", 1.0) > worth("often", 0.0));
        assert_eq!(Habits::fit(&[]), Habits::default(), "nothing to learn from");
    }
}
