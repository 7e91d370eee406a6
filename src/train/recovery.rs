//! Where a run goes on from: after a stop, when it is made longer, and when its loss is lost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::checkpoint::{self, Evaluation, Progress};
use super::trainer::{News, Trainer};

/// A loss so far above its recent mean (nats), so many steps in a row, is lost and not noisy: a single odd
/// batch passes, because its gradients are clipped.
const SPIKE: f32 = 2.0;
const SPIKE_STEPS: u32 = 3;

impl Trainer {
    /// The progress to go on from: none yet, the checkpoint's, or that of the stable phase.
    pub(super) fn resume(
        &mut self,
        folder: &Path,
        steps: u64,
        range_test: Vec<(f64, f32)>,
        news: &mut dyn FnMut(News),
    ) -> Result<Progress> {
        let before = checkpoint::progress(folder)?;
        let cooling = before.as_ref().is_some_and(|p| {
            p.asked != steps && p.step > p.steps - self.config.decay_steps(p.steps).min(p.steps)
        });
        let (mut from, stable) = (folder.to_path_buf(), beside(folder, "stable"));
        if cooling && checkpoint::progress(&stable)?.is_some() {
            from = stable;
        } else if cooling {
            news(News::Notice(format!(
                "{} is gone: the longer run goes on from weights whose learning rate had fallen",
                stable.display()
            )));
        }
        let found = checkpoint::load(&from, &mut self.optimizer, &self.settings)?;
        let (resumes, new) = (found.is_some() && from == folder, found.is_none());
        let mut progress = found.unwrap_or_else(|| Progress {
            learning_rate: self.config.optimizer.learning_rate,
            range_test,
            damping: 1.0,
            settings: self.settings.clone(),
            ..Progress::default()
        });
        self.config.optimizer.learning_rate = progress.learning_rate;
        if progress.asked != steps {
            (progress.asked, progress.steps, progress.stopped_early) = (steps, steps, None);
        }
        if progress.step > progress.steps {
            bail!(
                "the checkpoint in {} has {} steps already: ask for more than that",
                from.display(),
                progress.step
            );
        }
        if new {
            // States of an earlier run are none of this one.
            for name in ["stable", "best"] {
                let _ = std::fs::remove_dir_all(beside(folder, name));
            }
        }
        if !resumes {
            // There must be something to go back to, and a full disk is better known now.
            checkpoint::save(folder, &self.optimizer, &progress)?;
        }
        Ok(progress)
    }

    /// Saves if it can; a full disk costs nothing but the news of it.
    pub(super) fn save(&self, folder: &Path, progress: &Progress, news: &mut dyn FnMut(News)) {
        if let Err(error) = checkpoint::save(folder, &self.optimizer, progress) {
            news(News::Notice(format!("{error:#}; training goes on and tries again in a minute")));
        }
    }

    /// Back to the last checkpoint with half the learning rate; a quarter of it at the second time
    /// in a row, and so on.
    pub(super) fn roll_back(
        &mut self,
        folder: &Path,
        progress: &mut Progress,
        (loss, times): (f32, i32),
        news: &mut dyn FnMut(News),
    ) -> Result<()> {
        let now = std::mem::take(progress);
        let before = checkpoint::load(folder, &mut self.optimizer, &self.settings)?;
        let before = before.with_context(|| {
            format!(
                "the loss is {loss} at step {}, and {} is gone: start anew with a lower --learning-rate",
                now.step,
                folder.display()
            )
        })?;
        self.optimizer.damping *= 0.5f64.powi(times);
        *progress = Progress {
            asked: now.asked,
            steps: now.steps,
            stopped_early: now.stopped_early,
            seconds: now.seconds,
            cpu_seconds: now.cpu_seconds,
            joules: now.joules,
            rollbacks: now.rollbacks + 1,
            damping: self.optimizer.damping,
            ..before
        };
        news(News::Notice(format!(
            "the loss is {loss} at step {}: back to step {} with {} of the learning rate",
            now.step, progress.step, progress.damping
        )));
        Ok(())
    }

    /// Whether the learning rate has not begun to fall.
    fn is_stable(&self, progress: &Progress) -> bool {
        progress.steps - progress.step > self.config.decay_steps(progress.steps)
    }

    /// Keeps the state if the evaluation just made is the best so far.
    pub(super) fn keep_best(&self, folder: &Path, progress: &Progress, news: &mut dyn FnMut(News)) {
        let losses: Vec<f32> = progress.held_out.iter().map(Evaluation::best).collect();
        let Some((last, earlier)) = losses.split_last() else { return };
        if self.is_stable(progress) && *last < least(earlier) {
            self.save(&beside(folder, "best"), progress, news);
        }
    }

    /// Lets the learning rate fall, from the best state on, when the held-out loss no longer improves: it
    /// is the fall that makes good weights of it.
    pub(super) fn stop_early(
        &mut self,
        folder: &Path,
        progress: &mut Progress,
        news: &mut dyn FnMut(News),
    ) -> Result<()> {
        let losses: Vec<f32> = progress.held_out.iter().map(Evaluation::best).collect();
        let Some(at) = losses.len().checked_sub(self.config.patience.max(1)) else {
            return Ok(());
        };
        let (earlier, recent) = losses.split_at(at);
        if earlier.is_empty() || !self.is_stable(progress) || least(recent) < least(earlier) {
            return Ok(());
        }
        let now = std::mem::take(progress);
        let best = checkpoint::load(&beside(folder, "best"), &mut self.optimizer, &self.settings)?;
        *progress = match best {
            Some(best) => Progress {
                asked: now.asked,
                seconds: now.seconds,
                cpu_seconds: now.cpu_seconds,
                joules: now.joules,
                rollbacks: now.rollbacks,
                damping: now.damping,
                ..best
            },
            // It could not be saved, which was said.
            None => now,
        };
        self.optimizer.damping = progress.damping;
        // decay · steps = steps − step.
        progress.steps = (progress.step as f64 / (1.0 - self.config.decay)).ceil() as u64;
        progress.stopped_early = Some(progress.step);
        news(News::Notice(format!(
            "the held-out loss has not improved over {} evaluations: the learning rate falls from the \
             best state, step {}, to step {}",
            self.config.patience, progress.step, progress.steps
        )));
        // What is lost from now on must not lead back to before.
        self.save(folder, progress, news);
        Ok(())
    }
}

fn least(losses: &[f32]) -> f32 {
    losses.iter().copied().fold(f32::INFINITY, f32::min)
}

/// Whether a step was lost: no number, or the last of several far above the running mean, which is
/// carried on here.
pub(super) fn is_lost((recent, high): &mut (Option<f32>, u32), loss: f32, norm: f64) -> bool {
    if recent.is_some_and(|recent| loss > recent + SPIKE) {
        *high += 1;
    } else if loss.is_finite() {
        *high = 0;
        *recent = Some(recent.map_or(loss, |recent| recent * 0.95 + loss * 0.05));
    }
    !loss.is_finite() || !norm.is_finite() || *high >= SPIKE_STEPS
}

/// Where another state of the run is kept: `stable`, before the fall of the learning rate, from which a
/// longer run goes on, and `best`, to which a run returns that no longer improves.
pub(super) fn beside(folder: &Path, name: &str) -> PathBuf {
    folder.with_file_name(format!("checkpoint-{name}"))
}
