//! Which settings suit a repository: candidates of method and learning rate, all trained a little, the better ones
//! further (successive halving, Jamieson & Talwalkar 2016). Every decision is written down as soon as it is made, so
//! that a run that was killed goes on and comes to the same end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::judge::{self, Judge, PLACES, RUNS};
use super::room::{config_of, fits, free_memory, shape_of, workers};
use super::{STRENGTHS, Watch};
use crate::generation::Model;
use crate::memory::Gate;
use crate::model::config::ModelConfig;
use crate::model::engine::Precision;
use crate::model::lora::{Base, Method};
use crate::model::weights::Weights;
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::Progress;
use crate::train::dataset::{Dataset, ExampleConfig};
use crate::train::documents::Documents;
use crate::train::trainer::{Lost, News as TrainNews, Start, Trainer};

/// What can be trained, cheapest first.
pub(super) const METHODS: [Method; 3] =
    [Method::Lora { rank: 8, alpha: 16.0 }, Method::Lora { rank: 32, alpha: 64.0 }, Method::Full];
/// Factors of the learning rate that the range test finds.
const FACTORS: [f64; 3] = [1.0 / 3.0, 1.0, 3.0];
/// Steps of a range test.
const RANGE_STEPS: u64 = 24;
/// Sequences of a step.
pub(super) const BATCH: usize = 4;
/// Share of a long run in which the rate falls.
pub(super) const DECAY: f64 = 0.3;
/// The long run has so many times the steps of a first trial.
const LONG: u64 = 16;
/// Steps of a first trial at least: fewer would not tell candidates apart.
const LEAST_STEPS: u64 = 4;
/// The same where there is one candidate, which is not tried but trained.
const LEAST_ALONE: u64 = 1;
/// How strong the candidates of the last round are tried.
const LAST_STRENGTHS: [f32; 2] = [0.5, 1.0];
/// Times that the long run sees a repository at most.
const MOST_EPOCHS: f64 = 16.0;

/// A name for people and folders.
pub(super) fn name_of(method: Method) -> String {
    method.rank().map_or("full".into(), |rank| format!("lora{rank}"))
}

/// What was decided before the first trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Candidates that are tried.
    pub candidates: usize,
    /// Steps of a first trial.
    pub steps: u64,
    /// Steps of the long runs.
    pub long: u64,
    /// Runs of lines that are scored after each trial.
    pub runs: usize,
    /// Lines that are asked for in the end.
    pub places: usize,
}

impl Plan {
    /// All candidates, with that many steps in a first trial, whatever the machine.
    pub(super) fn of_steps(steps: u64, places: Option<usize>, methods: usize) -> Plan {
        let places = places.unwrap_or(PLACES[1]);
        let (candidates, runs) = (methods * FACTORS.len(), places.min(RUNS[1]));
        Plan { candidates, steps, long: steps * LONG, runs, places }
    }

    /// Steps at which the long run is judged, the rate having fallen: a small repository is learnt sooner. With time for
    /// one candidate alone there is time for one length.
    pub(super) fn lengths(&self) -> Vec<u64> {
        match self.candidates {
            1 => vec![self.long],
            _ => vec![self.long / 2, self.long],
        }
    }

    /// The peak rate of the long runs, of a candidate that was tried with another: the best one falls with the 0.32th power
    /// of the tokens (Bjorck et al. 2025, Scaling Optimal LR Across Token Horizons).
    pub(super) fn long_rate(&self, tried: f64) -> f64 {
        let steps = rounds(self.candidates).last().map_or(self.long, |last| last.1 * self.steps);
        tried * (steps as f64 / self.long.max(steps) as f64).powf(0.32)
    }
}

/// Seconds that things take here.
pub(super) struct Costs {
    /// What went by already.
    pub(super) spent: f64,
    /// To score a run of lines.
    pub(super) run: f64,
    /// To answer at a place.
    pub(super) place: f64,
    /// To score general code.
    pub(super) general: f64,
    /// A step of the slowest method.
    pub(super) step: f64,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What is trained.
    pub method: Method,
    /// The peak learning rate.
    pub rate: f64,
    /// (steps, share of rests of newer lines that should come out exactly, memory mixed in) after each round.
    pub scores: Vec<(u64, f64)>,
    /// Whether it was given up, because its loss was lost.
    #[serde(default)]
    pub is_lost: bool,
}

impl Trial {
    /// The share after its last round.
    pub fn exact(&self) -> Option<f64> {
        self.scores.last().map(|(_, exact)| *exact)
    }

    /// A name for people and folders.
    pub fn name(&self) -> String {
        format!("{} at {:.1e}", name_of(self.method), self.rate)
    }
}

/// A model, and all that trains it on one part of a repository.
pub(super) struct Bench<'a> {
    pub(super) weights: &'a dyn Fn() -> Result<Weights>,
    pub(super) base: Arc<Base>,
    pub(super) config: &'a ModelConfig,
    pub(super) tokenizer: &'a Arc<Tokenizer>,
    pub(super) folder: PathBuf,
    pub(super) seed: u64,
}

impl Bench<'_> {
    /// Tokens of a step.
    fn tokens_per_step(&self) -> f64 {
        (BATCH * shape_of(self.config).max_position_embeddings) as f64
    }

    /// The documents as examples in the layouts that the model is served with.
    pub(super) fn dataset(&self, documents: &Documents) -> Result<Dataset> {
        let sequence = shape_of(self.config).max_position_embeddings;
        let config = ExampleConfig { sequence, seed: self.seed, edits: 0.0, ..Default::default() };
        Dataset::new(documents.clone(), self.tokenizer, config)
    }

    /// As [`Bench::dataset`], each token weighed by what the memory leaves of it to the model.
    pub(super) fn weighed(
        &self,
        documents: &Documents,
        original: &Model,
        watch: &mut Watch<'_>,
    ) -> Result<Dataset> {
        let gate = Gate::shipped();
        self.dataset(&super::unexplained::weighed(documents, original, &gate, self.seed, watch)?)
    }

    pub(super) fn trainer(&self, method: Method, rate: f64, decay: f64) -> Result<Trainer> {
        let config = config_of(method, rate, decay);
        let settings = serde_json::json!({ "train": config, "seed": self.seed });
        // The base is there already.
        let free = free_memory().saturating_add(self.base.bytes());
        let recompute = fits(self.config, self.base.bytes(), method, free).0.unwrap_or(true);
        Trainer::new(
            &shape_of(self.config),
            config,
            settings,
            (workers(), recompute),
            Start::Base(self.base.clone()),
        )
    }

    /// Measured seconds of a step.
    pub(super) fn seconds_per_step(&self, method: Method, data: &Dataset) -> Result<f64> {
        self.trainer(method, 1e-3, 0.0)?.seconds_per_step(self.tokenizer, data)
    }

    /// The rate that a range test finds, with its curve.
    pub(super) fn range_test(
        &self,
        method: Method,
        data: &Dataset,
        watch: &Watch<'_>,
    ) -> Result<(f64, Vec<(f64, f32)>)> {
        let prior = if method.is_full() { 3e-4 } else { 8e-3 };
        let mut trainer = self.trainer(method, prior, 0.0)?;
        let (curve, rate) =
            trainer.range_test(self.tokenizer, data, prior, RANGE_STEPS, watch.stop)?;
        watch.check()?;
        Ok((rate, curve))
    }

    /// Trains a candidate up to `steps`, going on from where it was. With `is_long` its rate falls at the end. `None` if
    /// its loss is lost.
    pub(super) fn train(
        &self,
        trial: &Trial,
        data: &Dataset,
        (folder, steps, is_long): (&str, u64, bool),
        watch: &mut Watch<'_>,
    ) -> Result<Option<(Trainer, Progress)>> {
        let mut trainer =
            self.trainer(trial.method, trial.rate, if is_long { DECAY } else { 0.0 })?;
        let folder = self.folder.join(folder).join("checkpoint");
        std::fs::create_dir_all(folder.parent().unwrap_or(&self.folder)).with_context(|| {
            format!("cannot make {}; free some space and add --resume", folder.display())
        })?;
        let what = format!("training {}", trial.name());
        let stop = watch.stop;
        let mut news = |news: TrainNews| match news {
            TrainNews::Step { step, .. } => {
                watch.pause_and_say(&what, step.0 as usize, step.1 as usize)
            }
            TrainNews::Notice(text) => (watch.say)(super::News::Note(text)),
            TrainNews::Evaluated(_) => {}
        };
        let progress = trainer.run(
            self.tokenizer,
            (data, None),
            (&folder, steps),
            Vec::new(),
            stop,
            &mut news,
        );
        let progress = match progress {
            Err(error) if error.is::<Lost>() => {
                watch.note(format!("{} is given up: its loss is lost", trial.name()));
                return Ok(None);
            }
            progress => progress?,
        };
        if progress.step < progress.steps {
            watch.check()?;
        }
        Ok(Some((trainer, progress)))
    }

    /// The model that a run has made, at a strength: as it would be installed.
    pub(super) fn model(&self, trainer: &Trainer, is_long: bool, strength: f32) -> Result<Model> {
        let tensors = trainer.merged(!is_long, strength)?;
        let weights = (self.weights)()?.with_values(tensors)?;
        Ok(Model::of(&weights, Precision::Quantized, "tuned".into())?)
    }

    /// Steps that are worth it at most for a repository of so many bytes.
    pub(super) fn longest(&self, bytes: u64, data: &Dataset) -> u64 {
        let tokens = bytes as f64 / data.bytes_per_token;
        let steps = (MOST_EPOCHS * tokens / self.tokens_per_step()) as u64;
        steps.max(LEAST_STEPS * LONG)
    }

    /// How many candidates, steps and questions fit into a budget of seconds, for a repository of so many bytes.
    ///
    /// # Errors
    /// Too little time for any; the message says how much is needed.
    pub(super) fn plan(
        &self,
        methods: &[Method],
        (budget, places): (f64, Option<usize>),
        costs: Costs,
        bytes: u64,
        data: &Dataset,
    ) -> Result<Plan> {
        let Costs { spent, run, place, general, step } = costs;
        let longest = self.longest(bytes, data);
        let fitting = |share: f64, each: f64, [least, most]: [usize; 2]| {
            ((share * budget / each) as usize).clamp(least, most)
        };
        // Both models answer.
        let places = places.unwrap_or(fitting(0.2, 2.0 * place, PLACES));
        let mut least = f64::INFINITY;
        // All candidates; one rate of each method; one of all.
        for candidates in [methods.len() * FACTORS.len(), methods.len(), 1] {
            let rounds = rounds(candidates);
            let is_last = |round: usize| round + 1 == rounds.len();
            let models = |(round, &(keep, _)): (usize, &(usize, u64))| match is_last(round) {
                true => LAST_STRENGTHS.len() * keep,
                false => keep,
            };
            // The untouched model is judged, and the winner at each strength and length.
            let lengths = if candidates == 1 { 1 } else { 2 };
            let long = STRENGTHS.len() * lengths;
            let judged = rounds.iter().enumerate().map(models).sum::<usize>() + 1 + long;
            // General code is looked at with the untouched model and at each strength of the long runs and the last one;
            // in a search with the last candidates, too.
            let (least_steps, generals) = match candidates {
                1 => (LEAST_ALONE, 10.0),
                _ => (LEAST_STEPS, 19.0),
            };
            let runs = fitting(0.15, judged as f64 * run, RUNS);
            let tests = methods.len().min(candidates) as u64 * RANGE_STEPS;
            // Some things are small and many: a twentieth is left for them.
            let fixed = spent
                + 0.05 * budget
                + 2.0 * places as f64 * place
                + (judged * runs) as f64 * run
                + generals * general
                + tests as f64 * step;
            let steps = ((budget - fixed) / (cost(candidates) as f64 * step)) as u64;
            if fixed < budget && steps >= least_steps {
                let long = (steps * LONG).min(longest);
                let steps = (long / LONG).max(least_steps);
                return Ok(Plan { candidates, steps, long, runs, places });
            }
            least = least.min(fixed + (cost(candidates) * least_steps) as f64 * step);
        }
        bail!(
            "the budget is too small for this model on this machine, where a step takes {step:.1} s: give it at least \
             {:.0} minutes (--budget {0:.0}m)",
            (1.1 * least / 60.0).ceil()
        )
    }
}

/// First trials' worth of steps that so many candidates cost, with the long run and the last one. A round goes on where
/// the one before ended, the long run from before its rate fell at half of its length.
fn cost(candidates: usize) -> u64 {
    let mut before = 0;
    let steps = rounds(candidates).into_iter().map(|(keep, factor)| {
        let further = factor - std::mem::replace(&mut before, factor);
        keep as u64 * further
    });
    let half = if candidates == 1 { 0.0 } else { DECAY * LONG as f64 / 2.0 };
    steps.sum::<u64>() + 2 * LONG + half.ceil() as u64
}

/// Candidates of each round, and how many times the steps of a first trial they have had after it. One alone has
/// nobody to be compared with.
fn rounds(candidates: usize) -> Vec<(usize, u64)> {
    match candidates {
        1 => Vec::new(),
        _ => vec![(candidates, 1), (candidates.div_ceil(2), 2), (candidates.div_ceil(4), 4)],
    }
}

/// A method with the rate that was found for it, and the curve of the test: (rate, smoothed loss).
pub type RangeTest = (Method, f64, Vec<(f64, f32)>);

/// What is known of a search; written after every decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// What decides the result: a search goes on only under the same.
    pub(super) settings: serde_json::Value,
    pub(super) plan: Option<Plan>,
    /// The model that it starts from, if it is not the one in the program, and the one that it must beat.
    #[serde(default)]
    pub(super) model: Option<PathBuf>,
    /// See `model`.
    #[serde(default)]
    pub(super) rival: Option<(String, PathBuf)>,
    /// What there was room for when it began.
    #[serde(default)]
    pub(super) methods: Vec<Method>,
    /// Whether the frozen weights are kept in blocks of 8 bits, because there was no room for floats.
    #[serde(default)]
    pub(super) is_small: bool,
    /// Bits per byte of general code of the untouched model.
    pub(super) general: Option<f64>,
    /// The rate of each method, with the curve of its range test.
    pub(super) rates: Vec<RangeTest>,
    pub(super) trials: Vec<Trial>,
    /// The winner after long runs.
    pub(super) longs: Vec<Long>,
    /// Seconds that went by in earlier starts.
    pub(super) seconds: f64,
}

/// What a long run of the winner came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Long {
    /// Steps.
    pub steps: u64,
    /// (strength, share of rests of newer lines that should come out exactly, bits per byte of general code).
    pub strengths: Vec<(f32, f64, f64)>,
    /// How the memory is weighed with the untouched model and at the best strength, fitted to those lines.
    pub gates: [Gate; 2],
}

impl Long {
    /// The strength at which most rests should come out, among those that forget little; the weakest of equals.
    pub(super) fn best(&self, base_general: f64) -> Option<(f32, f64, f64)> {
        let kept = self.strengths.iter().filter(|(_, _, g)| *g <= super::GENERAL * base_general);
        kept.rev().max_by(|a, b| a.1.total_cmp(&b.1)).copied()
    }
}

impl State {
    /// The state that a killed run left, if there is one.
    pub(super) fn load(file: &Path) -> Result<Option<State>> {
        if !file.exists() {
            return Ok(None);
        }
        let read = || -> Result<State> { Ok(serde_json::from_slice(&std::fs::read(file)?)?) };
        read()
            .map(Some)
            .with_context(|| format!("{} is broken; start anew with --fresh", file.display()))
    }

    pub(super) fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        crate::files::write(file, &text).context("free some space and add --resume")
    }

    /// The best of the candidates that were tried longest; `None` if all were given up.
    pub(super) fn best(&self) -> Option<&Trial> {
        let left = self.trials.iter().filter(|trial| !trial.is_lost);
        let most = left.clone().map(|trial| trial.scores.len()).max()?;
        // Of equals the first.
        let tried = left.filter(|trial| trial.scores.len() == most).rev();
        tried.max_by(|a, b| a.exact().unwrap_or(0.0).total_cmp(&b.exact().unwrap_or(0.0)))
    }

    /// Gives a candidate up, and writes that down.
    pub(super) fn give_up(&mut self, lost: &Trial, file: &Path) -> Result<()> {
        let same = self.trials.iter_mut().filter(|trial| **trial == *lost);
        same.for_each(|trial| trial.is_lost = true);
        self.save(file)
    }
}

/// Tries all candidates. In the last round only strengths count at which general code costs no more than
/// `most_general` bits per byte.
pub(super) fn halving(
    bench: &Bench<'_>,
    (data, judge, gate, most_general): (&Dataset, &Judge<'_>, &Gate, f64),
    (state, file): (&mut State, &Path),
    plan: &Plan,
    watch: &mut Watch<'_>,
) -> Result<()> {
    if state.trials.is_empty() {
        let factors: &[f64] = if plan.candidates > state.rates.len() { &FACTORS } else { &[1.0] };
        let trial = |&(method, rate, _): &(Method, f64, _), factor: f64| {
            let rate = rate * factor;
            Trial { method, rate, scores: Vec::new(), is_lost: false }
        };
        let rates = state.rates.iter();
        let trials = rates.flat_map(|found| factors.iter().map(move |&f| trial(found, f)));
        state.trials = trials.take(plan.candidates).collect();
        state.save(file)?;
    }
    let rounds = rounds(plan.candidates);
    for (round, &(keep, factor)) in rounds.iter().enumerate() {
        let mut order: Vec<usize> = (0..state.trials.len()).collect();
        // Those that reached the last round, best first; later starts find the same order.
        order.retain(|&i| state.trials[i].scores.len() >= round);
        let before = |i: &usize| match round {
            0 => 0.0,
            _ => state.trials[*i].scores[round - 1].1,
        };
        order.sort_by(|a, b| before(b).total_cmp(&before(a)).then(a.cmp(b)));
        for (done, &i) in order[..keep.min(order.len())].iter().enumerate() {
            if state.trials[i].scores.len() > round || state.trials[i].is_lost {
                continue;
            }
            (watch.say)(super::News::Round(round + 1, done, keep));
            let (trial, steps) = (state.trials[i].clone(), factor * plan.steps);
            let folder = format!("trial-{i}");
            let Some((trainer, _)) = bench.train(&trial, data, (&folder, steps, false), watch)?
            else {
                state.give_up(&trial, file)?;
                continue;
            };
            let is_last = round + 1 == rounds.len();
            let strengths: &[f32] = if is_last { &LAST_STRENGTHS } else { &[1.0] };
            // What forgets too much at any strength comes behind all others.
            let mut exact = 0.0;
            for &strength in strengths {
                let model = bench.model(&trainer, false, strength)?;
                if !is_last || judge::general(&model)? <= most_general {
                    exact = judge.lines(&model, watch)?.exact(gate).max(exact);
                }
            }
            state.trials[i].scores.push((steps, exact));
            state.save(file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let rate = 0.0011304120593436037;
        let scores = vec![(4, 2.2534 + 1e-15)];
        let trial = Trial { method: METHODS[1], rate, scores, is_lost: false };
        let state = State { trials: vec![trial], general: Some(0.1 + 0.2), ..State::default() };
        state.save(&file).unwrap();
        assert_eq!(State::load(&file).unwrap(), Some(state));
        assert_eq!(State::load(&folder.path().join("none.json")).unwrap(), None);
        std::fs::write(&file, "{").unwrap();
        assert!(format!("{:#}", State::load(&file).unwrap_err()).contains("--fresh"));
    }

    #[test]
    fn the_best_strength_is_the_weakest_of_equals_that_forgets_little() {
        let gates = [Gate::default(), Gate::default()];
        let long = |strengths: &[(f32, f64, f64)]| Long {
            steps: 1,
            strengths: strengths.to_vec(),
            gates: gates.clone(),
        };
        let best = |strengths| long(strengths).best(1.0).map(|best| best.0);
        assert_eq!(best(&[(0.25, 0.3, 1.0), (0.5, 0.4, 1.01), (1.0, 0.4, 1.02)]), Some(0.5));
        assert_eq!(best(&[(0.25, 0.3, 1.0), (1.0, 0.9, 1.03)]), Some(0.25), "it forgets too much");
        assert_eq!(best(&[(0.25, 0.3, f64::MAX)]), None);
    }

    #[test]
    fn who_was_given_up_is_not_the_best_and_the_best_was_tried_longest() {
        let trial = |rate: f64, scores: &[f64], is_lost| Trial {
            method: METHODS[0],
            rate,
            scores: scores.iter().map(|&exact| (1, exact)).collect(),
            is_lost,
        };
        let best = |trials: &[Trial]| {
            let state = State { trials: trials.to_vec(), ..State::default() };
            state.best().map(|trial| trial.rate)
        };
        let trials = [
            trial(1.0, &[0.9], false),
            trial(2.0, &[0.1, 0.2], false),
            trial(3.0, &[0.1, 0.3], true),
        ];
        assert_eq!(best(&trials), Some(2.0));
        assert_eq!(best(&trials[..1]), Some(1.0));
        assert_eq!(best(&trials[2..]), None);
    }

    #[test]
    fn a_run_that_is_longer_than_the_trials_has_a_lower_rate() {
        let plan = Plan::of_steps(6, None, 3);
        // Four times the steps of the last round.
        assert!((plan.long_rate(1e-2) - 0.642e-2).abs() < 1e-5);
        // Nothing was tried.
        assert_eq!(Plan { candidates: 1, ..plan }.long_rate(1e-2), 1e-2);
        assert_eq!(Plan { long: 10, ..plan }.long_rate(1e-2), 1e-2);
    }

    #[test]
    fn each_round_keeps_half_and_a_search_of_one_keeps_it() {
        assert_eq!(rounds(9), [(9, 1), (5, 2), (3, 4)]);
        assert_eq!(rounds(3), [(3, 1), (2, 2), (1, 4)]);
        assert!(rounds(1).is_empty());
        // Each goes on from where it was: 9 + 5 + 2·3 first trials, two long runs and the end of half of one.
        assert_eq!((cost(9), cost(1)), (20 + 2 * LONG + 3, 2 * LONG));
    }
}
