//! The training loop. It knows batches, losses and checkpoints, and nothing of where texts come from.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::backprop::Backprop;
use crate::model::config::ModelConfig;
use crate::tokenizer::Tokenizer;

use super::checkpoint::{self, Evaluation, Point, Progress};
use super::dataset::{Batch, Dataset};
use super::optimizer::{Optimizer, OptimizerConfig};

/// Everything that decides a run besides model and data.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Sequences in one step.
    pub batch: usize,
    /// Steps until the learning rate is at its peak.
    pub warmup: u64,
    /// Share of the steps, at the end, in which the learning rate falls to nothing.
    pub decay: f64,
    /// Steps between two evaluations.
    pub evaluate_every: u64,
    /// Evaluations without a better loss until the learning rate starts to fall early.
    pub patience: usize,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Seed of the initial weights.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            batch: 4,
            warmup: 50,
            decay: 0.3,
            evaluate_every: 250,
            patience: 8,
            optimizer: OptimizerConfig::default(),
            seed: 1,
        }
    }
}

impl TrainConfig {
    /// Steps of the fall at the end of a run of `steps`.
    fn decay_steps(&self, steps: u64) -> u64 {
        ((self.decay * steps as f64) as u64).max(1)
    }

    /// Warm-up, stable, linear decay (trapezoid), as a factor of the peak.
    pub fn schedule(&self, step: u64, steps: u64) -> f64 {
        let warm = (step + 1) as f64 / self.warmup.max(1) as f64;
        let cool = steps.saturating_sub(step) as f64 / self.decay_steps(steps) as f64;
        warm.min(1.0).min(cool)
    }
}

/// What happens in a run.
pub enum News {
    /// A step was taken.
    Step {
        /// Steps taken, and of the whole run.
        step: (u64, u64),
        /// Training loss in nats per token.
        loss: f32,
        /// Tokens trained per second since this start.
        tokens_per_second: f64,
        /// Norm of the gradients before clipping.
        gradient_norm: f64,
        /// What the schedule does: warm-up, stable, decay.
        phase: &'static str,
    },
    /// The held-out loss was measured.
    Evaluated(Evaluation),
    /// Something went wrong and was dealt with, or ended early.
    Notice(String),
}

/// Seconds between two checkpoints: what a kill can cost at most.
const SAVE_SECONDS: u64 = 50;
/// Batches of one evaluation.
const EVALUATION_BATCHES: usize = 8;
/// A loss so far above its recent mean is lost, not noisy (nats).
const SPIKE: f32 = 2.0;

/// A model in training.
pub struct Trainer {
    backprop: Backprop,
    optimizer: Optimizer,
    config: TrainConfig,
    sequence: usize,
    /// What decides the result, as the checkpoint remembers it.
    settings: serde_json::Value,
}

impl Trainer {
    /// A model of random weights, or of those given by name.
    ///
    /// Random ones come from the seed: matrices normal with σ 0.02 (output projections of each layer
    /// zero, so that a layer starts as the identity), norms one, biases zero. `recompute` and `workers`
    /// are those of [`Backprop::new`].
    pub fn new(
        model: &ModelConfig,
        config: TrainConfig,
        settings: serde_json::Value,
        (workers, recompute): (usize, bool),
        start: Option<&dyn Fn(&str) -> Result<Vec<f32>>>,
    ) -> Result<Trainer> {
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut values = Vec::new();
        for (name, shape) in model.tensors() {
            let count = shape.iter().product();
            let zero = ["o_proj.weight", "down_proj.weight", "bias"];
            let value: Vec<f32> = match start {
                Some(start) => start(&name)?,
                None if zero.iter().any(|end| name.ends_with(end)) => vec![0.0; count],
                None if shape.len() == 1 => vec![1.0; count],
                None => (0..count).map(|_| normal(&mut rng) * 0.02).collect(),
            };
            values.push((name, shape, value));
        }
        let sequence = model.max_position_embeddings;
        let backprop = Backprop::new(model, sequence, workers, recompute);
        let optimizer = Optimizer::new(values, config.optimizer.clone());
        Ok(Trainer { backprop, optimizer, config, sequence, settings })
    }

    /// Measured seconds of one step: the faster of two after one that warms up. The model is unchanged.
    pub fn seconds_per_step(&mut self, tokenizer: &Tokenizer, data: &Dataset) -> f64 {
        let kept = self.optimizer.clone();
        let mut best = f64::INFINITY;
        for i in 0..3 {
            let batch = data.batch(tokenizer, i, self.config.batch);
            let start = Instant::now();
            self.step(&batch, 0.0);
            if i > 0 {
                best = best.min(start.elapsed().as_secs_f64());
            }
        }
        self.optimizer = kept;
        best
    }

    /// The learning-rate range test (Smith 2017): from these weights the rate grows exponentially from a
    /// thirtieth to thirty times `prior`, one step each, until the smoothed loss turns up. Returns the
    /// curve and a third of the rate at which the smoothed loss was lowest, within a factor 3 of
    /// `prior`. The model is unchanged.
    pub fn range_test(
        &mut self,
        tokenizer: &Tokenizer,
        data: &Dataset,
        prior: f64,
        steps: u64,
        stop: &AtomicBool,
    ) -> (Vec<(f64, f32)>, f64) {
        let kept = self.optimizer.clone();
        let (mut curve, mut smooth, mut best) = (Vec::new(), f32::NAN, (f32::INFINITY, prior));
        for i in 0..steps {
            let rate = prior / 30.0 * 900f64.powf(i as f64 / (steps - 1).max(1) as f64);
            self.optimizer.set_learning_rate(rate);
            // Examples that the run itself never sees.
            let batch =
                data.batch(tokenizer, (1 << 41) + i * self.config.batch as u64, self.config.batch);
            let (loss, norm) = self.step(&batch, 1.0);
            smooth = if smooth.is_nan() { loss } else { smooth * 0.8 + loss * 0.2 };
            curve.push((rate, smooth));
            if !loss.is_finite() || !norm.is_finite() || smooth > best.0 + 0.5 {
                break;
            }
            if smooth < best.0 {
                best = (smooth, rate);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        self.optimizer = kept;
        (curve, (best.1 / 3.0).clamp(prior / 3.0, prior * 3.0))
    }

    /// Sets the peak learning rate.
    pub fn set_learning_rate(&mut self, rate: f64) {
        self.config.optimizer.learning_rate = rate;
        self.optimizer.set_learning_rate(rate);
    }

    fn step(&mut self, batch: &Batch, scale: f64) -> (f32, f64) {
        let loss = self.backprop.loss_and_gradients(
            &self.optimizer.weights(),
            &batch.tokens,
            &batch.targets,
        );
        match loss.is_finite() {
            true => (loss, self.optimizer.step(self.backprop.gradients(), scale)),
            false => (loss, f64::NAN),
        }
    }

    /// The weights as they stand, (name, shape, values): the average if that is asked for.
    pub fn weights(&self, average: bool) -> Vec<(String, Vec<usize>, &[f32])> {
        let values = if average { self.optimizer.averages() } else { self.optimizer.weights() };
        let parameters = self.optimizer.parameters.iter().zip(values);
        parameters.map(|(p, value)| (p.name.clone(), p.shape.clone(), value)).collect()
    }

    /// Mean loss over fixed batches of `data`, of the weights and of their average.
    pub fn evaluate(
        &mut self,
        tokenizer: &Tokenizer,
        data: &Dataset,
        batches: usize,
    ) -> Evaluation {
        let mut sums = [0f64; 2];
        for index in 0..batches {
            let first = (1u64 << 40) + (index * self.config.batch) as u64;
            let batch = data.batch(tokenizer, first, self.config.batch);
            let sets = [self.optimizer.weights(), self.optimizer.averages()];
            for (sum, weights) in sums.iter_mut().zip(sets) {
                *sum += self.backprop.nats(&weights, &batch.tokens, &batch.targets);
            }
        }
        let tokens = (batches * self.config.batch * self.sequence).max(1) as f64;
        let [loss, average] = sums.map(|sum| (sum / tokens) as f32);
        Evaluation { step: self.optimizer.step, loss, average }
    }

    /// Trains until the steps are done or `stop` is set; saves every minute and at the end.
    ///
    /// With a checkpoint in `folder` the run continues where it was, to the same result. When a run that
    /// was already cooling down is given more steps, it goes on from where the cooling began.
    pub fn run(
        &mut self,
        tokenizer: &Tokenizer,
        (data, held_out): (&Dataset, &Dataset),
        (folder, steps): (&Path, u64),
        range_test: Vec<(f64, f32)>,
        stop: &AtomicBool,
        news: &mut dyn FnMut(News),
    ) -> Result<Progress> {
        let mut progress = self.resume(folder, steps, range_test)?;
        let batch = self.config.batch;
        let (start, first) = (Instant::now(), progress.step);
        let (seconds_before, cpu_before) = (progress.seconds, progress.cpu_seconds - cpu_seconds());
        let mut saved = Instant::now();
        let mut recent = f32::NAN;
        let (mut sum, mut count) = (0f64, 0u32);
        let mut rollbacks_in_a_row = 0;
        let mut ready = data.batch(tokenizer, progress.step * batch as u64, batch);
        while progress.step < progress.steps && !stop.load(Ordering::Relaxed) {
            let step = progress.step;
            if progress.steps - step == self.config.decay_steps(progress.steps) {
                self.save(&stable(folder), &progress, news);
            }
            let scale = self.config.schedule(step, progress.steps);
            let now = std::mem::replace(&mut ready, Batch { tokens: vec![], targets: vec![] });
            // The examples of the next step are made while this one runs.
            let (loss, norm) = std::thread::scope(|scope| {
                let next = scope.spawn(|| data.batch(tokenizer, (step + 1) * batch as u64, batch));
                let result = self.step(&now, scale);
                ready = next.join().map_err(|_| anyhow::anyhow!("making examples failed"))?;
                anyhow::Ok(result)
            })?;
            if !loss.is_finite() || !norm.is_finite() || loss > recent + SPIKE {
                rollbacks_in_a_row += 1;
                if rollbacks_in_a_row > 4 {
                    bail!(
                        "the loss ({loss}) is lost again and again after step {step}, although the \
                         learning rate was lowered: start anew with a lower --learning-rate"
                    );
                }
                self.roll_back(folder, &mut progress, (loss, rollbacks_in_a_row), news)?;
                recent = f32::NAN;
                ready = data.batch(tokenizer, progress.step * batch as u64, batch);
                continue;
            }
            recent = if recent.is_nan() { loss } else { recent * 0.95 + loss * 0.05 };
            (sum, count) = (sum + loss as f64, count + 1);
            progress.step += 1;
            progress.seconds = seconds_before + start.elapsed().as_secs_f64();
            progress.cpu_seconds = cpu_before + cpu_seconds();
            let trained = ((progress.step - first) as usize * batch * self.sequence) as f64;
            let speed = trained / start.elapsed().as_secs_f64();
            if step % 10 == 0 {
                let rate = self.config.optimizer.learning_rate * self.optimizer.damping * scale;
                progress.curve.push(Point {
                    step,
                    loss: (sum / count as f64) as f32,
                    gradient_norm: norm as f32,
                    rate: rate as f32,
                    speed: speed as f32,
                });
                (sum, count) = (0.0, 0);
            }
            news(News::Step {
                step: (progress.step, progress.steps),
                loss,
                tokens_per_second: speed,
                gradient_norm: norm,
                phase: match scale {
                    s if s >= 1.0 => "stable",
                    _ if step < self.config.warmup => "warm-up",
                    _ => "decay",
                },
            });
            let last = progress.step == progress.steps;
            if progress.step % self.config.evaluate_every == 0 || last {
                let evaluation = self.evaluate(tokenizer, held_out, EVALUATION_BATCHES);
                progress.held_out.push(evaluation);
                news(News::Evaluated(evaluation));
                self.stop_early(&mut progress, news);
            }
            if saved.elapsed().as_secs() >= SAVE_SECONDS && !last {
                self.save(folder, &progress, news);
                saved = Instant::now();
                rollbacks_in_a_row = 0;
            }
        }
        checkpoint::save(folder, &self.optimizer, &progress).context(
            "the run cannot be saved; free some space and run the same command with --resume",
        )?;
        Ok(progress)
    }

    /// The progress to go on from: none yet, the checkpoint's, or that of the stable phase.
    fn resume(
        &mut self,
        folder: &Path,
        steps: u64,
        range_test: Vec<(f64, f32)>,
    ) -> Result<Progress> {
        let before = checkpoint::progress(folder)?;
        let cooling = before.is_some_and(|p| {
            p.steps != steps && p.step > p.steps - self.config.decay_steps(p.steps)
        });
        let from = if cooling { stable(folder) } else { folder.to_path_buf() };
        let found = checkpoint::load(&from, &mut self.optimizer, &self.settings)?;
        let mut progress = found.unwrap_or_else(|| Progress {
            learning_rate: self.config.optimizer.learning_rate,
            range_test,
            damping: 1.0,
            settings: self.settings.clone(),
            ..Progress::default()
        });
        self.config.optimizer.learning_rate = progress.learning_rate;
        if progress.stopped_early.is_none() || progress.steps < steps {
            progress.steps = steps;
            progress.stopped_early = None;
        }
        if progress.step > progress.steps {
            bail!(
                "the checkpoint in {} has {} steps already: ask for more than that",
                folder.display(),
                progress.step
            );
        }
        Ok(progress)
    }

    /// Saves if it can; a full disk costs nothing but the news of it.
    fn save(&self, folder: &Path, progress: &Progress, news: &mut dyn FnMut(News)) {
        if let Err(error) = checkpoint::save(folder, &self.optimizer, progress) {
            news(News::Notice(format!("{error:#}; training goes on and tries again in a minute")));
        }
    }

    /// Back to the last checkpoint, or to the start, with half the learning rate.
    fn roll_back(
        &mut self,
        folder: &Path,
        progress: &mut Progress,
        (loss, times): (f32, i32),
        news: &mut dyn FnMut(News),
    ) -> Result<()> {
        let (step, seconds) = (progress.step, (progress.seconds, progress.cpu_seconds));
        let rollbacks = progress.rollbacks + 1;
        if let Some(before) = checkpoint::load(folder, &mut self.optimizer, &self.settings)? {
            let (steps, early) = (progress.steps, progress.stopped_early);
            *progress = Progress { steps, stopped_early: early, ..before };
        } else {
            bail!(
                "the loss is {loss} at step {step}, before the first checkpoint: start anew with a \
                 lower --learning-rate"
            );
        }
        progress.rollbacks = rollbacks;
        (progress.seconds, progress.cpu_seconds) = seconds;
        self.optimizer.damping *= 0.5f64.powi(times);
        progress.damping = self.optimizer.damping;
        news(News::Notice(format!(
            "the loss is {loss} at step {step}: back to step {} with {} of the learning rate",
            progress.step, progress.damping
        )));
        Ok(())
    }

    /// Lets the learning rate fall from here when the held-out loss no longer improves.
    fn stop_early(&self, progress: &mut Progress, news: &mut dyn FnMut(News)) {
        let losses: Vec<f32> = progress.held_out.iter().map(Evaluation::best).collect();
        let Some((recent, earlier)) = losses
            .len()
            .checked_sub(self.config.patience.max(1))
            .map(|at| (&losses[at..], &losses[..at]))
        else {
            return;
        };
        let least = |list: &[f32]| list.iter().copied().fold(f32::INFINITY, f32::min);
        let stable = progress.steps - progress.step > self.config.decay_steps(progress.steps);
        if earlier.is_empty() || !stable || least(recent) < least(earlier) {
            return;
        }
        // decay · steps = steps − step.
        progress.steps = (progress.step as f64 / (1.0 - self.config.decay)).ceil() as u64;
        progress.stopped_early = Some(progress.step);
        news(News::Notice(format!(
            "the held-out loss has not improved over {} evaluations: the learning rate falls from now \
             to step {}",
            self.config.patience, progress.steps
        )));
    }
}

/// Where the state before the fall of the learning rate is kept: a longer run goes on from there.
fn stable(folder: &Path) -> std::path::PathBuf {
    folder.with_file_name("checkpoint-stable")
}

/// Processor time of this process in seconds (Unix; else 0).
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or("").split_whitespace();
    // utime and stime, in hundredths of a second on every Linux.
    fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A standard normal number (Box–Muller).
fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f64, f64) = (rng.random_range(f64::EPSILON..1.0), rng.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
