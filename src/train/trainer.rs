//! The training loop. It knows batches, losses and checkpoints, and nothing of where texts come from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::config::ModelConfig;
use crate::model::lora::{self, Base, Method};
use crate::model::parameters::LowRank;
use crate::model::peft::Adapter;
use crate::model::safetensors::OwnedTensor;
use crate::tokenizer::Tokenizer;

use super::checkpoint::{self, Evaluation, Point, Progress};
use super::dataset::{Batch, Dataset};
use super::device::Gradients;
use super::energy::EnergyCounter;
use super::optimizer::{Optimizer, OptimizerConfig};
use super::recovery::{beside, is_lost};

/// The loss of a run is lost again and again, although its learning rate was lowered.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the loss ({loss}) is lost again and again after step {step}, although the learning rate was lowered: start anew with \
     a lower --learning-rate"
)]
pub struct Lost {
    loss: f32,
    step: u64,
}

/// Everything that decides a run besides model and data.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// What is trained.
    #[serde(skip_serializing_if = "Method::is_full")]
    pub method: Method,
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
    /// Seconds between two checkpoints: what a kill can cost at most. No part of the result.
    pub save_seconds: u64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Seed of the initial weights.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            method: Method::Full,
            batch: 4,
            warmup: 50,
            decay: 0.3,
            evaluate_every: 250,
            patience: 8,
            save_seconds: 50,
            optimizer: OptimizerConfig::default(),
            seed: 1,
        }
    }
}

impl TrainConfig {
    /// Steps of the fall at the end of a run of `steps`.
    pub(super) fn decay_steps(&self, steps: u64) -> u64 {
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

/// Batches of one evaluation.
const EVALUATION_BATCHES: usize = 8;

/// Gives the weights of a tensor by its name.
pub type TensorSource<'a> = &'a dyn Fn(&str) -> Result<Vec<f32>>;

/// Where a run begins.
pub enum Start<'a> {
    /// Random weights: matrices normal with σ 0.02 (output projections of each layer zero, so that a layer
    /// starts as the identity), norms one, biases zero.
    Random,
    /// Weights that are copied.
    Tensors(TensorSource<'a>),
    /// Weights that stay beside the run: frozen under an adapter, or to go back to in part.
    Base(Arc<Base>),
}

/// A model in training.
pub struct Trainer {
    model: ModelConfig,
    base: Option<Arc<Base>>,
    gradients: Gradients,
    pub(super) optimizer: Optimizer,
    pub(super) config: TrainConfig,
    sequence: usize,
    /// What decides the result, as the checkpoint remembers it.
    pub(super) settings: serde_json::Value,
}

impl Trainer {
    /// A model that trains by `config.method`, all that is random coming from the seed. An adapter begins
    /// as PEFT's does, A uniform in ±1/√in and B zero, and the checkpoint continues it over the same base
    /// only. `recompute` and `workers` are those of [`Backprop::new`].
    ///
    /// [`Backprop::new`]: crate::model::backprop::Backprop::new
    ///
    /// # Errors
    /// An adapter without a base, or a rank that makes none.
    pub fn new(
        model: &ModelConfig,
        config: TrainConfig,
        mut settings: serde_json::Value,
        (workers, recompute): (usize, bool),
        start: Start<'_>,
    ) -> Result<Trainer> {
        let method = config.method;
        method.check().map_err(anyhow::Error::msg)?;
        let base = match &start {
            Start::Base(base) => Some(base.clone()),
            _ if method.is_full() => None,
            _ => bail!("an adapter is trained over a model: none is given to start from"),
        };
        if let Some(base) = base.as_ref().filter(|_| !method.is_full()) {
            settings["base"] = base.fingerprint().into();
        }
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut values = Vec::new();
        for (at, (name, shape)) in method.tensors(model).into_iter().enumerate() {
            let count = shape.iter().product();
            let zero = ["o_proj.weight", "down_proj.weight", "bias", "lora_B.weight"];
            let value: Vec<f32> = match &start {
                Start::Tensors(source) => source(&name)?,
                Start::Base(base) if method.is_full() => base.tensor(at),
                _ if zero.iter().any(|end| name.ends_with(end)) => vec![0.0; count],
                _ if shape.len() == 1 => vec![1.0; count],
                Start::Base(_) => {
                    let bound = 1.0 / (shape[1] as f32).sqrt();
                    (0..count).map(|_| rng.random_range(-bound..bound)).collect()
                }
                Start::Random => (0..count).map(|_| normal(&mut rng) * 0.02).collect(),
            };
            values.push((name, shape, value));
        }
        let sequence = model.max_position_embeddings;
        let gradients = Gradients::cpu(model, method, sequence, workers, recompute);
        let optimizer = Optimizer::new(values, config.optimizer.clone());
        let model = model.clone();
        Ok(Trainer { model, base, gradients, optimizer, config, sequence, settings })
    }

    /// Computes losses and gradients elsewhere from now on.
    pub fn set_gradients(&mut self, gradients: Gradients) {
        self.gradients = gradients;
    }

    pub(super) fn step(&mut self, batch: &Batch, scale: f64) -> Result<(f32, f64)> {
        let trained = self.optimizer.weights();
        let weights = self.config.method.parameters(self.base.as_deref(), &trained);
        let loss = self.gradients.loss_and_gradients(&weights, &batch.tokens, batch.targets())?;
        Ok(match loss.is_finite() {
            true => (loss, self.optimizer.step(self.gradients.gradients(), scale)),
            false => (loss, f64::NAN),
        })
    }

    /// What is trained as it stands, (name, shape, values): the average if that is asked for.
    pub fn weights(&self, average: bool) -> Vec<(String, Vec<usize>, &[f32])> {
        let values = if average { self.optimizer.averages() } else { self.optimizer.weights() };
        let parameters = self.optimizer.parameters.iter().zip(values);
        parameters.map(|(p, value)| (p.name.clone(), p.shape.clone(), value)).collect()
    }

    /// The adapter as it stands, for [`Adapter::write`]; `None` when every weight is trained.
    pub fn adapter(&self, average: bool) -> Option<Adapter> {
        let method = self.config.method;
        let base = self.base.as_ref().filter(|_| !method.is_full())?;
        let mut adapter = Adapter::new(&self.weights(average), method.scale());
        adapter.fingerprint = Some(base.fingerprint().to_string());
        Some(adapter)
    }

    /// All weights of the model, (name, shape, values): the base at `strength` 0, what the run made of it at
    /// 1, and in between what lies between, W + strength · (tuned − W). Frozen weights come as they are.
    ///
    /// # Errors
    /// A strength under 1 for a run that has no base.
    pub fn merged(&self, average: bool, strength: f32) -> Result<Vec<OwnedTensor>> {
        if self.base.is_none() && strength != 1.0 {
            bail!("a run from scratch has no base to go back to");
        }
        let trained = if average { self.optimizer.averages() } else { self.optimizer.weights() };
        let weights = self.config.method.parameters(self.base.as_deref(), &trained);
        let tensors = self.model.tensors().into_iter().enumerate().map(|(at, (name, shape))| {
            let mut values = weights.weight(at).to_vec();
            if let Some(adapter) = weights.low_rank(at) {
                let scale = adapter.scale * strength;
                lora::merge(&mut values, LowRank { scale, ..adapter });
            } else if let Some(base) = self.base.as_ref().filter(|_| strength != 1.0) {
                for (value, base) in values.iter_mut().zip(base.tensor(at)) {
                    *value = base + strength * (*value - base);
                }
            }
            (name, shape, values)
        });
        Ok(tensors.collect())
    }

    /// Mean loss over fixed batches of `data`, of the weights and of their average.
    pub fn evaluate(
        &mut self,
        tokenizer: &Tokenizer,
        data: &Dataset,
        batches: usize,
    ) -> Result<Evaluation> {
        let mut sums = [0f64; 2];
        for index in 0..batches {
            let first = (1u64 << 40) + (index * self.config.batch) as u64;
            let batch = data.batch(tokenizer, first, self.config.batch);
            let averaged = self.config.optimizer.average > 0;
            let sets = [self.optimizer.weights(), self.optimizer.averages()];
            for (sum, trained) in sums.iter_mut().zip(sets).take(1 + averaged as usize) {
                let weights = self.config.method.parameters(self.base.as_deref(), &trained);
                *sum += self.gradients.nats(&weights, &batch.tokens, batch.targets())?;
            }
            if !averaged {
                sums[1] = sums[0];
            }
        }
        let tokens = (batches * self.config.batch * self.sequence).max(1) as f64;
        // What is no number could not be read back.
        let [loss, average] = sums.map(|sum| ((sum / tokens) as f32).min(f32::MAX));
        Ok(Evaluation { step: self.optimizer.step, loss, average })
    }

    /// Trains until the steps are done or `stop` is set; saves every minute and at the end.
    ///
    /// With a checkpoint in `folder` the run continues where it was, to the same result. When a run that
    /// was already cooling down is given more steps, it goes on from where the cooling began. Without
    /// `held_out` nothing is evaluated, and the run does not end early.
    ///
    /// # Errors
    /// A first or last checkpoint that cannot be written, a checkpoint of another run, a [`Lost`] loss.
    pub fn run(
        &mut self,
        tokenizer: &Tokenizer,
        (data, held_out): (&Dataset, Option<&Dataset>),
        (folder, steps): (&Path, u64),
        range_test: Vec<(f64, f32)>,
        stop: &AtomicBool,
        news: &mut dyn FnMut(News),
    ) -> Result<Progress> {
        let mut progress = self.resume(folder, steps, range_test, news)?;
        let batch = self.config.batch;
        let (start, mut tokens) = (Instant::now(), 0);
        let (seconds_before, cpu_before) = (progress.seconds, progress.cpu_seconds - cpu_seconds());
        let mut energy = EnergyCounter::open(Path::new("/sys/class/powercap"));
        let mut saved = Instant::now();
        let (mut sum, mut count) = (0f64, 0u32);
        let mut rollbacks_in_a_row = 0;
        let mut ready = data.batch(tokenizer, progress.step * batch as u64, batch);
        loop {
            if stop.load(Ordering::Relaxed) && progress.step < progress.steps {
                break;
            }
            if let Some(held_out) = held_out.filter(|_| self.evaluation_is_due(&progress)) {
                // It may take long, and a resumed run makes up for it.
                if saved.elapsed().as_secs() >= self.config.save_seconds / 5
                    && progress.recent.1 == 0
                {
                    self.save(folder, &progress, news);
                    saved = Instant::now();
                }
                let evaluation = self.evaluate(tokenizer, held_out, EVALUATION_BATCHES)?;
                progress.held_out.push(evaluation);
                news(News::Evaluated(evaluation));
                let step = progress.step;
                self.keep_best(folder, &progress, news);
                self.stop_early(folder, &mut progress, news)?;
                if progress.step != step {
                    ready = data.batch(tokenizer, progress.step * batch as u64, batch);
                }
            }
            let step = progress.step;
            if step >= progress.steps {
                break;
            }
            if progress.steps - step == self.config.decay_steps(progress.steps) {
                self.save(&beside(folder, "stable"), &progress, news);
            }
            let scale = self.config.schedule(step, progress.steps);
            let now = std::mem::take(&mut ready);
            // The examples of the next step are made while this one runs.
            let (loss, norm) = std::thread::scope(|scope| {
                let next = scope.spawn(|| data.batch(tokenizer, (step + 1) * batch as u64, batch));
                let result = self.step(&now, scale)?;
                ready = next.join().map_err(|_| anyhow::anyhow!("making examples failed"))?;
                anyhow::Ok(result)
            })?;
            progress.seconds = seconds_before + start.elapsed().as_secs_f64();
            progress.cpu_seconds = cpu_before + cpu_seconds();
            progress.joules += energy.joules();
            if is_lost(&mut progress.recent, loss, norm) {
                rollbacks_in_a_row += 1;
                if rollbacks_in_a_row > 4 {
                    return Err(Lost { loss, step }.into());
                }
                self.roll_back(folder, &mut progress, (loss, rollbacks_in_a_row), news)?;
                ready = data.batch(tokenizer, progress.step * batch as u64, batch);
                continue;
            }
            (sum, count) = (sum + loss as f64, count + 1);
            progress.step += 1;
            tokens += batch * self.sequence;
            let speed = tokens as f64 / start.elapsed().as_secs_f64();
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
            // While the loss is high the last good state is the one to go back to.
            if saved.elapsed().as_secs() >= self.config.save_seconds
                && progress.recent.1 == 0
                && progress.step < progress.steps
            {
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

    /// Whether the weights as they are have still to be evaluated: at every interval and at the end.
    fn evaluation_is_due(&self, progress: &Progress) -> bool {
        let step = progress.step;
        let due = step.is_multiple_of(self.config.evaluate_every) || step == progress.steps;
        step > 0 && due && progress.held_out.last().is_none_or(|e| e.step != step)
    }
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
