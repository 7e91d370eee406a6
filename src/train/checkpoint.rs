//! Saving and restoring a run: weights, moments and progress, replaced as a whole or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::model::safetensors;

use super::optimizer::{Optimizer, Parameter};

const STATE: &str = "optimizer.safetensors";
const PROGRESS: &str = "progress.json";

/// What was measured on documents kept back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Steps taken before it.
    pub step: u64,
    /// Loss of the weights, nats per token.
    pub loss: f32,
    /// Loss of their running average.
    pub average: f32,
}

impl Evaluation {
    /// The better of the two.
    pub fn best(&self) -> f32 {
        self.loss.min(self.average)
    }
}

/// One point of the training curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps taken before it.
    pub step: u64,
    /// Mean training loss since the point before, nats per token.
    pub loss: f32,
    /// Norm of the gradients.
    pub gradient_norm: f32,
    /// Learning rate.
    pub rate: f32,
    /// Tokens per second since this start.
    pub speed: f32,
}

/// How far a run is, and all that was seen on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Steps of the whole run, for which its schedule is made.
    pub steps: u64,
    /// Steps that were asked for; more than `steps` when the run ends early.
    pub asked: u64,
    /// Step at which the learning rate began to fall before its time, because nothing improved.
    pub stopped_early: Option<u64>,
    /// Seconds of training so far, over all starts.
    pub seconds: f64,
    /// Seconds of processor time so far.
    pub cpu_seconds: f64,
    /// Joules by the processor's counters so far; 0 where they cannot be read.
    pub joules: f64,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// (rate, smoothed loss) of the range test, if there was one.
    pub range_test: Vec<(f64, f32)>,
    /// Times that the run went back to a checkpoint because the loss was lost.
    pub rollbacks: u32,
    /// Factor of the learning rate that the rollbacks left.
    pub damping: f64,
    /// Running mean of the training loss, and how many steps in a row were far above it.
    pub recent: (Option<f32>, u32),
    /// The training curve, thinned.
    pub curve: Vec<Point>,
    /// Evaluations in order.
    pub held_out: Vec<Evaluation>,
    /// The settings that decide the result: a checkpoint only continues the run that made it.
    pub settings: serde_json::Value,
}

/// Writes the checkpoint beside the old one and renames it over: a kill leaves one of the two whole.
///
/// # Errors
/// A full disk, for one; the old checkpoint is untouched then.
pub fn save(folder: &Path, optimizer: &Optimizer, progress: &Progress) -> Result<()> {
    let fresh = folder.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    let bytes: usize = optimizer.parameters.iter().map(|p| 16 * p.value.len()).sum();
    write(&fresh, optimizer, progress)
        .inspect_err(|_| drop(std::fs::remove_dir_all(&fresh)))
        .with_context(|| {
            let megabytes = bytes.div_ceil(1_000_000);
            format!("cannot save to {} ({megabytes} MB must be free)", folder.display())
        })?;
    let old = folder.with_extension("old");
    // Without `folder`, after a kill between the two renames, `old` is the only whole one.
    if folder.exists() {
        let _ = std::fs::remove_dir_all(&old);
        std::fs::rename(folder, &old)
            .with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    std::fs::rename(&fresh, folder)
        .with_context(|| format!("cannot write {}", folder.display()))?;
    let _ = std::fs::remove_dir_all(&old);
    Ok(())
}

fn write(folder: &Path, optimizer: &Optimizer, progress: &Progress) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut tensors = Vec::new();
    for p in &optimizer.parameters {
        for (kind, values) in slots(p) {
            if !values.is_empty() {
                tensors.push((format!("{kind}.{}", p.name), p.shape.clone(), values));
            }
        }
    }
    safetensors::write(&folder.join(STATE), &tensors)?;
    std::fs::write(folder.join(PROGRESS), serde_json::to_vec(progress)?)?;
    // Some disks say only now that they are full, and a machine may lose its power.
    for name in [STATE, PROGRESS] {
        std::fs::OpenOptions::new().write(true).open(folder.join(name))?.sync_all()?;
    }
    Ok(())
}

fn slots(p: &Parameter) -> [(&'static str, &[f32]); 4] {
    [("value", &p.value), ("first", &p.first), ("second", &p.second), ("average", &p.average)]
}

/// The folder with a whole checkpoint: `folder`, or what a kill left beside it.
fn whole(folder: &Path) -> Option<PathBuf> {
    [folder.to_path_buf(), folder.with_extension("old")]
        .into_iter()
        .find(|f| f.join(PROGRESS).exists())
}

/// How far the run is that left a checkpoint here, if there is one.
///
/// # Errors
/// A checkpoint that cannot be read.
pub fn progress(folder: &Path) -> Result<Option<Progress>> {
    let Some(folder) = whole(folder) else { return Ok(None) };
    let path = folder.join(PROGRESS);
    let read = || -> Result<Progress> {
        let progress: Progress = serde_json::from_slice(&std::fs::read(&path)?)?;
        let asked = if progress.asked == 0 { progress.steps } else { progress.asked };
        Ok(Progress { asked, ..progress })
    };
    read().map(Some).with_context(|| format!("{} is broken: delete the folder", path.display()))
}

/// Restores what [`save`] wrote; `None` when there is nothing.
///
/// # Errors
/// A checkpoint of a run with other settings (the difference is named), or one that is broken.
pub fn load(
    folder: &Path,
    optimizer: &mut Optimizer,
    settings: &serde_json::Value,
) -> Result<Option<Progress>> {
    let (Some(place), Some(progress)) = (whole(folder), progress(folder)?) else {
        return Ok(None);
    };
    if let Some(difference) = difference("", &progress.settings, settings) {
        bail!(
            "{}: this checkpoint belongs to a run with other settings: {difference}. Use those, or \
             delete the folder to start anew",
            place.display()
        );
    }
    let state = place.join(STATE);
    let bytes =
        std::fs::read(&state).with_context(|| format!("cannot read {}", state.display()))?;
    let tensors = ::safetensors::SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is broken: delete the folder", state.display()))?;
    for p in &mut optimizer.parameters {
        let name = p.name.clone();
        let slots = [
            ("value", &mut p.value),
            ("first", &mut p.first),
            ("second", &mut p.second),
            ("average", &mut p.average),
        ];
        for (kind, values) in slots {
            if values.is_empty() {
                continue;
            }
            let found = tensors.tensor(&format!("{kind}.{name}")).ok();
            let found = found.filter(|t| t.data().len() == 4 * values.len());
            let Some(tensor) = found else { bail!("{} lacks {kind}.{name}", state.display()) };
            for (value, bytes) in values.iter_mut().zip(tensor.data().chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
    optimizer.step = progress.step;
    optimizer.damping = progress.damping;
    optimizer.set_learning_rate(progress.learning_rate);
    Ok(Some(progress))
}

/// The first setting that differs, as text.
fn difference(at: &str, old: &serde_json::Value, new: &serde_json::Value) -> Option<String> {
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object()) {
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let null = serde_json::Value::Null;
        return keys.into_iter().find_map(|key| {
            let at = format!("{at}{}{key}", if at.is_empty() { "" } else { "." });
            difference(&at, old.get(key).unwrap_or(&null), new.get(key).unwrap_or(&null))
        });
    }
    (old != new).then(|| format!("{at} was {old} and is {new}"))
}
