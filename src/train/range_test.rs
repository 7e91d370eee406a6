//! Short trials before a run: how long a step takes, and which learning rate suits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;

use crate::tokenizer::Tokenizer;

use super::dataset::Dataset;
use super::trainer::Trainer;

impl Trainer {
    /// Measured seconds of one step: the faster of two after one that warms up. The model is unchanged.
    pub fn seconds_per_step(&mut self, tokenizer: &Tokenizer, data: &Dataset) -> Result<f64> {
        let kept = self.optimizer.clone();
        let mut best = f64::INFINITY;
        for i in 0..3 {
            let batch = data.batch(tokenizer, i, self.config.batch);
            let start = Instant::now();
            self.step(&batch, 0.0)?;
            if i > 0 {
                best = best.min(start.elapsed().as_secs_f64());
            }
        }
        self.optimizer = kept;
        Ok(best)
    }

    /// Sets the peak learning rate, which changes the settings.
    pub(super) fn set_learning_rate(&mut self, rate: f64, settings: serde_json::Value) {
        self.config.optimizer.learning_rate = rate;
        self.optimizer.set_learning_rate(rate);
        let base = self.settings["base"].take();
        self.settings = settings;
        if !base.is_null() {
            self.settings["base"] = base;
        }
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
    ) -> Result<(Vec<(f64, f32)>, f64)> {
        let kept = self.optimizer.clone();
        let (mut curve, mut smooth, mut best) = (Vec::new(), f32::NAN, (f32::INFINITY, prior));
        for i in 0..steps {
            let rate = prior / 30.0 * 900f64.powf(i as f64 / (steps - 1).max(1) as f64);
            self.optimizer.set_learning_rate(rate);
            // Examples that the run itself never sees.
            let batch =
                data.batch(tokenizer, (1 << 41) + i * self.config.batch as u64, self.config.batch);
            let (loss, norm) = self.step(&batch, 1.0)?;
            smooth = if smooth.is_nan() { loss } else { smooth * 0.8 + loss * 0.2 };
            if !loss.is_finite() || !norm.is_finite() {
                break;
            }
            curve.push((rate, smooth));
            if smooth > best.0 + 0.5 {
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
        Ok((curve, (best.1 / 3.0).clamp(prior / 3.0, prior * 3.0)))
    }
}
