//! The training loop. It knows batches, losses and checkpoints, and nothing of where texts come from.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::backprop::Backprop;
use crate::model::config::ModelConfig;
use crate::tokenizer::Tokenizer;

use super::checkpoint::{self, Progress};
use super::dataset::Dataset;
use super::optimizer::{Optimizer, OptimizerConfig};

/// Everything that decides a run besides model and data.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainConfig {
    /// Sequences in one step.
    pub batch: usize,
    /// Tokens in one sequence.
    pub sequence: usize,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps until the learning rate is at its peak.
    pub warmup: u64,
    /// Share of the steps, at the end, in which the learning rate falls to nothing.
    pub decay: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Seed of the initial weights.
    pub seed: u64,
}

impl TrainConfig {
    /// Warm-up, stable, linear decay (trapezoid), as a factor of the peak.
    pub fn schedule(&self, step: u64) -> f64 {
        let warm = (step + 1) as f64 / self.warmup.max(1) as f64;
        let left = (self.steps.saturating_sub(step)) as f64;
        let cool = left / (self.decay * self.steps as f64).max(1.0);
        warm.min(1.0).min(cool)
    }
}

/// One line of news about a run.
pub struct News {
    /// Steps taken.
    pub step: u64,
    /// Training loss in nats per token.
    pub loss: f32,
    /// Held-out loss, if it was measured at this step.
    pub held_out: Option<f32>,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Tokens trained per second since this start.
    pub tokens_per_second: f64,
}

/// A model in training.
pub struct Trainer {
    backprop: Backprop,
    optimizer: Optimizer,
    config: TrainConfig,
    model_config: ModelConfig,
}

impl Trainer {
    /// Random weights from the seed: matrices normal with σ 0.02 (output projections of each layer
    /// zero, so that a layer starts as the identity), norms one, biases zero.
    pub fn new(model_config: ModelConfig, config: TrainConfig) -> Result<Trainer> {
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut variables = Vec::new();
        for (name, shape) in model_config.tensors() {
            let count = shape.iter().product();
            let data: Vec<f32> = if name.ends_with("o_proj.weight")
                || name.ends_with("down_proj.weight")
                || name.ends_with("bias")
            {
                vec![0.0; count]
            } else if shape.len() == 1 {
                vec![1.0; count]
            } else {
                (0..count).map(|_| normal(&mut rng) * 0.02).collect()
            };
            let tensor = Tensor::from_vec(data, shape, &Device::Cpu)?;
            variables.push((name, Var::from_tensor(&tensor)?));
        }
        let workers = rayon::current_num_threads().min(config.batch);
        let backprop = Backprop::new(&model_config, config.sequence, workers, false);
        let optimizer = Optimizer::new(variables, config.optimizer.clone())?;
        Ok(Trainer { backprop, optimizer, config, model_config })
    }

    /// Changes the length of the run; what was trained stays.
    pub fn set_steps(&mut self, steps: u64) {
        self.config.steps = steps;
    }

    /// Measured seconds of one step: the faster of two after one that warms up.
    pub fn seconds_per_step(&mut self, tokenizer: &Tokenizer, data: &Dataset) -> Result<f64> {
        let mut best = f64::INFINITY;
        for i in 0..3 {
            let start = Instant::now();
            let batch = data.batch(tokenizer, i, self.config.batch);
            self.loss_and_gradients(&batch)?;
            self.optimizer.step(self.backprop.gradients(), 0.0)?;
            if i > 0 {
                best = best.min(start.elapsed().as_secs_f64());
            }
        }
        Ok(best)
    }

    fn loss_and_gradients(&mut self, batch: &super::dataset::Batch) -> Result<f32> {
        let Trainer { backprop, optimizer, .. } = self;
        Ok(optimizer.with_weights(|weights| {
            backprop.loss_and_gradients(weights, &batch.tokens, &batch.targets)
        })?)
    }

    /// Weights by checkpoint name, as they stand.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let parameters = self.optimizer.parameters.iter();
        parameters.map(|p| (p.name.clone(), p.var.as_tensor().detach())).collect()
    }

    /// Mean loss over `batches` fixed batches of `data`, in nats per token.
    pub fn evaluate(
        &mut self,
        tokenizer: &Tokenizer,
        data: &Dataset,
        batches: usize,
    ) -> Result<f32> {
        let mut total = 0.0;
        for index in 0..batches {
            let first = (1u64 << 40) + (index * self.config.batch) as u64;
            let batch = data.batch(tokenizer, first, self.config.batch);
            let Trainer { backprop, optimizer, .. } = self;
            total += optimizer.with_weights(|weights| {
                let counted = batch.targets.iter().filter(|&&t| t != crate::model::ops::IGNORE);
                backprop.nats(weights, &batch.tokens, &batch.targets)
                    / counted.count().max(1) as f64
            })?;
        }
        Ok((total / batches.max(1) as f64) as f32)
    }

    /// Trains until the steps are done or `stop` is set; saves every minute and at the end.
    ///
    /// With a checkpoint in `folder` the run continues where it was, to the same result.
    pub fn run(
        &mut self,
        tokenizer: &Tokenizer,
        data: &Dataset,
        held_out: &Dataset,
        folder: &Path,
        stop: &AtomicBool,
        news: &mut dyn FnMut(News),
    ) -> Result<Progress> {
        if data.bytes() == 0 {
            bail!("the corpus is empty: no file was worth learning from");
        }
        let TrainConfig { batch, sequence, steps, .. } = self.config;
        // The length may change: the stable phase of the schedule is the same for all lengths.
        let settings = TrainConfig { steps: 0, ..self.config.clone() };
        let fingerprint = checkpoint::fingerprint(&self.model_config, &settings, data.bytes());
        let mut progress =
            checkpoint::load(folder, &mut self.optimizer, &fingerprint)?.unwrap_or(Progress {
                step: 0,
                steps,
                seconds: 0.0,
                losses: Vec::new(),
                held_out: Vec::new(),
                fingerprint,
            });
        progress.steps = steps;
        let (start, before, first) = (Instant::now(), progress.seconds, progress.step);
        let mut saved = Instant::now();
        let mut bad_steps = 0;
        while progress.step < steps && !stop.load(Ordering::Relaxed) {
            let step = progress.step;
            let data = data.batch(tokenizer, step * batch as u64, batch);
            let value = self.loss_and_gradients(&data)?;
            let report =
                self.optimizer.step(self.backprop.gradients(), self.config.schedule(step))?;
            if value.is_finite() && report.gradient_norm.is_finite() {
                bad_steps = 0;
            } else {
                bad_steps += 1;
                if bad_steps > 20 {
                    bail!("the loss is not finite at step {step}: lower the learning rate");
                }
            }
            progress.step += 1;
            self.optimizer.step = progress.step;
            progress.seconds = before + start.elapsed().as_secs_f64();
            // JSON has no number for what is not finite.
            if step % 10 == 0 && value.is_finite() {
                progress.losses.push((step, value));
            }
            let due = progress.step % 250 == 0 || progress.step == steps;
            let measured = match due {
                true => Some(self.evaluate(tokenizer, held_out, 8)?),
                false => None,
            };
            let finite = measured.filter(|loss| loss.is_finite());
            progress.held_out.extend(finite.map(|loss| (progress.step, loss)));
            let trained = ((progress.step - first) as usize * batch * sequence) as f64;
            news(News {
                step: progress.step,
                loss: value,
                held_out: measured,
                gradient_norm: report.gradient_norm,
                tokens_per_second: trained / start.elapsed().as_secs_f64(),
            });
            if bad_steps == 0 && saved.elapsed().as_secs() >= 60 {
                checkpoint::save(folder, &self.optimizer, &progress)?;
                saved = Instant::now();
            }
        }
        checkpoint::save(folder, &self.optimizer, &progress).context("saving the checkpoint")?;
        Ok(progress)
    }
}

/// A standard normal number (Box–Muller).
fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f64, f64) = (rng.random_range(f64::EPSILON..1.0), rng.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
