//! How much each tier of the memory is believed at each token: a logistic gate over what is known of the
//! match and of the model, fitted by gradient on the probability of what really came.
//!
//! With λ the sum of the tiers' shares, p = (1−λ)·p_model + λ·p_memory, where p_memory is the tiers' own
//! mixture. The shares are a softmax, which for one tier is the logistic function.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use crate::statistics::descend;

/// From near to far: the file itself, open files, the file's folder, the repository, what was shipped.
pub const TIERS: [&str; 5] = ["file", "open", "folder", "repository", "general"];
/// What is known of a tier's match and of the model.
pub const FEATURES: [&str; 14] = [
    "bias",
    "log length",
    "length 8 and more",
    "length 16 and more",
    "one continuation",
    "log count",
    "share of the likeliest",
    "log distance",
    "model's entropy",
    "model's best",
    "same best",
    "model's belief in the best",
    "length beyond nearer tiers",
    "short",
];

/// Features of each tier, and whether it has anything to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Features {
    tiers: [Option<[f32; FEATURES.len()]>; TIERS.len()],
}

/// What the gate needs to know of the model's own prediction.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelView {
    /// In nats.
    pub entropy: f32,
    /// Probability of its likeliest token.
    pub best: f32,
    /// That token.
    pub token: u32,
}

impl Features {
    /// Describes one tier. `best` is its likeliest token with its probability, `belief` the model's in that token;
    /// `nearer` the longest agreement among the tiers before.
    pub fn describe(
        &mut self,
        tier: usize,
        evidence: &Evidence,
        best: (u32, f32),
        belief: f32,
        nearer: usize,
        model: &ModelView,
    ) {
        let Some(level) = evidence.levels.first() else { return };
        let length = level.length as f32;
        let flag = |condition: bool| f32::from(u8::from(condition));
        self.tiers[tier] = Some([
            1.0,
            length.ln_1p(),
            flag(level.length >= 8),
            flag(level.length >= 16),
            flag(level.counts.len() == 1),
            level.total.ln_1p().min(8.0),
            best.1,
            evidence.distance.map_or(0.0, |d| (d as f32).ln_1p() / 4.0),
            model.entropy,
            model.best,
            flag(best.0 == model.token),
            belief,
            (length.ln_1p() - (nearer as f32).ln_1p()).max(-1.0),
            flag(level.length <= 2),
        ]);
    }

    /// Whether a tier has anything to say.
    pub fn has(&self, tier: usize) -> bool {
        self.tiers[tier].is_some()
    }
}

/// One place in a text: what every source of predictions gave to the token that came.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What was known before.
    pub features: Features,
    /// Each tier's probability of it, what the tier leaves open filled up by the model.
    pub tiers: [f32; TIERS.len()],
    /// The model's.
    pub model: f32,
}

/// Shares of the model and of each tier; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// 1 − λ.
    pub model: f32,
    /// What each tier gets of λ.
    pub tiers: [f32; TIERS.len()],
}

/// The weights of the gate: a row of [`FEATURES`] for each of [`TIERS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    weights: [[f32; FEATURES.len()]; TIERS.len()],
}

impl Default for Gate {
    /// A guess: long matches and single continuations are believed.
    fn default() -> Gate {
        let mut row = [0.0; FEATURES.len()];
        (row[0], row[1], row[3], row[4], row[6]) = (-4.0, 1.0, 1.0, 0.5, 2.0);
        Gate { weights: [row; TIERS.len()] }
    }
}

/// The gates of the ablations.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mixing {
    /// The fitted gate.
    #[default]
    Gate,
    /// λ is the same everywhere; the nearest tier with the longest match speaks for the memory.
    Fixed(f32),
    /// The memory alone, until it knows nothing more.
    MemoryAlone,
    /// The model alone.
    ModelAlone,
}

impl Gate {
    /// The weights that come with the program, fitted on repositories that its model was not trained on.
    pub fn shipped() -> Gate {
        serde_json::from_str(include_str!("../../models/base/gate.json")).unwrap_or_default()
    }

    /// The shares for one place.
    pub fn shares(&self, features: &Features) -> Shares {
        let mut logits = [f32::NEG_INFINITY; TIERS.len()];
        for ((logit, row), tier) in logits.iter_mut().zip(&self.weights).zip(&features.tiers) {
            if let Some(tier) = tier {
                *logit = row.iter().zip(tier).map(|(w, x)| w * x).sum();
            }
        }
        // The model's logit is 0.
        let top = logits.iter().copied().fold(0.0, f32::max);
        let model = (-top).exp();
        let tiers = logits.map(|logit| (logit - top).exp());
        let sum = model + tiers.iter().sum::<f32>();
        Shares { model: model / sum, tiers: tiers.map(|t| t / sum) }
    }

    /// Nats that the events cost on average.
    pub fn nats(&self, events: &[Event]) -> f64 {
        let cost = |event: &Event| -f64::from(self.mixed(event).max(1e-9).ln());
        events.iter().map(cost).sum::<f64>() / events.len().max(1) as f64
    }

    /// The probability that model and memory mixed give to an event.
    pub fn mixed(&self, event: &Event) -> f32 {
        let shares = self.shares(&event.features);
        let tiers = shares.tiers.iter().zip(&event.tiers).map(|(share, p)| share * p);
        shares.model * event.model + tiers.sum::<f32>()
    }

    /// [`Gate::mixed`] by a gate that is fitted to the repository, as a running server does, and asked about the other
    /// half of the events than it was fitted to.
    pub fn mixed_refitted(&self, events: &[Event]) -> Vec<f32> {
        let (first, second) = events.split_at(events.len() / 2);
        let halves = [(self.refitted(second), first), (self.refitted(first), second)];
        let mixed = |(gate, half): &(Gate, &[Event])| -> Vec<f32> {
            half.iter().map(|event| gate.mixed(event)).collect()
        };
        halves.iter().flat_map(mixed).collect()
    }

    /// The share of an event's mixed probability that the memory has not given: 1 where it knew nothing of the token,
    /// near 0 where it alone foresaw it.
    pub fn left_to_model(&self, event: &Event) -> f32 {
        let shares = self.shares(&event.features);
        // What a tier leaves open is filled up by the model, and belongs to it.
        let counted = |p: f32| (p - event.model).max(0.0);
        let tiers = shares.tiers.iter().zip(&event.tiers).map(|(share, &p)| share * counted(p));
        1.0 - (tiers.sum::<f32>() / self.mixed(event).max(1e-9)).min(1.0)
    }

    /// These weights fitted to a repository: they hold where it says little.
    pub fn refitted(&self, events: &[Event]) -> Gate {
        const ROUNDS: usize = 150;
        const PRIOR: f32 = 3000.0;
        self.fit(events, ROUNDS, PRIOR)
    }

    /// Fits the weights to events by Adam, drawn towards the weights it starts from with the strength of
    /// `prior` events: few events change little.
    pub fn fit(&self, events: &[Event], rounds: usize, prior: f32) -> Gate {
        const RATE: f32 = 0.03;
        let mut gate = self.clone();
        if events.is_empty() {
            return gate;
        }
        let each = 1.0 / (events.len() as f32 + prior);
        let pull = 0.1 * prior * each;
        let mut tried = self.clone();
        let weights = gate.weights.as_flattened_mut();
        descend(weights, rounds, RATE, |weights, gradient| {
            tried.weights.as_flattened_mut().copy_from_slice(weights);
            for event in events {
                let shares = tried.shares(&event.features);
                let mixed = tried.mixed(event).max(1e-9);
                for (tier, row) in gradient.chunks_exact_mut(FEATURES.len()).enumerate() {
                    let Some(x) = &event.features.tiers[tier] else { continue };
                    let share = shares.tiers[tier];
                    // ∂(−ln p)/∂logit
                    let slope = share * (1.0 - event.tiers[tier] / mixed) * each;
                    row.iter_mut().zip(x).for_each(|(g, x)| *g += slope * x);
                }
            }
            let moved = weights.iter().zip(self.weights.as_flattened());
            gradient.iter_mut().zip(moved).for_each(|(g, (w, start))| *g += pull * (w - start));
        });
        gate
    }
}

impl Mixing {
    /// What this rule gives to the token of an event; the match lengths are those that the features hold.
    pub fn mixed(&self, gate: &Gate, event: &Event) -> f32 {
        let length = |tier: &Option<[f32; FEATURES.len()]>| tier.map_or(0.0, |x| x[1].exp_m1());
        let lengths = event.features.tiers.each_ref().map(|tier| length(tier).round() as usize);
        let shares = self.shares(gate, &event.features, &lengths);
        let tiers = shares.tiers.iter().zip(&event.tiers).map(|(share, p)| share * p);
        shares.model * event.model + tiers.sum::<f32>()
    }

    /// The shares under this rule; `lengths` are the tiers' longest agreements.
    pub fn shares(
        &self,
        gate: &Gate,
        features: &Features,
        lengths: &[usize; TIERS.len()],
    ) -> Shares {
        let nothing = Shares { model: 1.0, tiers: [0.0; TIERS.len()] };
        match self {
            Mixing::Gate => gate.shares(features),
            Mixing::ModelAlone => nothing,
            Mixing::Fixed(lambda) => {
                // The longest, and of equals the nearest.
                let best = (0..TIERS.len()).filter(|&t| features.has(t)).rev();
                let Some(best) = best.max_by_key(|&t| lengths[t]) else { return nothing };
                let mut shares = Shares { model: 1.0 - lambda, ..nothing };
                shares.tiers[best] = *lambda;
                shares
            }
            Mixing::MemoryAlone => {
                let mut shares = gate.shares(features);
                let sum: f32 = shares.tiers.iter().sum();
                if sum > 0.0 {
                    shares.tiers.iter_mut().for_each(|t| *t /= sum);
                    shares.model = 0.0;
                }
                shares
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Level;
    use super::*;

    fn event(length: usize, right: bool) -> Event {
        let level = Level { length, counts: vec![(1, 1.0)], total: 1.0 };
        let evidence = Evidence { levels: vec![level], ..Evidence::default() };
        let mut features = Features::default();
        let model = ModelView { entropy: 2.0, best: 0.3, token: 2 };
        features.describe(0, &evidence, (1, 0.8), 0.1, 0, &model);
        let mut tiers = [0.0; TIERS.len()];
        tiers[0] = if right { 0.8 } else { 0.02 };
        Event { features, tiers, model: 0.1 }
    }

    #[test]
    fn shares_sum_to_one_and_absent_tiers_get_nothing() {
        let shares = Gate::default().shares(&event(9, true).features);
        assert!((shares.model + shares.tiers.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(shares.tiers[0] > 0.0 && shares.tiers[1..].iter().all(|&t| t == 0.0));
        let empty = Gate::default().shares(&Features::default());
        assert_eq!(empty.model, 1.0);
    }

    #[test]
    fn what_the_memory_foresaw_is_not_left_to_the_model() {
        let gate = Gate::default();
        assert!(gate.left_to_model(&event(20, true)) < 0.3);
        assert_eq!(gate.left_to_model(&event(20, false)), 1.0);
        let nothing = Event { features: Features::default(), tiers: [0.0; 5], model: 0.1 };
        assert_eq!(gate.left_to_model(&nothing), 1.0);
    }

    #[test]
    fn a_fit_learns_which_matches_to_believe_and_a_prior_holds_it_back() {
        let events: Vec<Event> =
            (0..400).map(|i| if i % 2 == 0 { event(20, true) } else { event(2, false) }).collect();
        let start = Gate::default();
        let gate = start.fit(&events, 300, 1.0);
        assert!(gate.nats(&events) < start.nats(&events) - 0.05);
        let share = |gate: &Gate, e: Event| gate.shares(&e.features).tiers[0];
        assert!(share(&gate, event(20, true)) > 0.9);
        assert!(share(&gate, event(2, true)) < 0.1);
        let nats = start.mixed_refitted(&events).iter().map(|p| f64::from(-p.ln())).sum::<f64>();
        assert!(nats / 400.0 < start.nats(&events), "other events, same habit");
        let held = start.fit(&events[..2], 300, 1e6);
        assert!((share(&held, event(2, true)) - share(&start, event(2, true))).abs() < 0.05);
    }
}
