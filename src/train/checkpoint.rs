//! Saving and restoring a run: weights, moments and progress, replaced as a whole or not at all.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};

use crate::model::config::ModelConfig;
use crate::model::safetensors;

use super::optimizer::Optimizer;

const STATE: &str = "optimizer.safetensors";
const PROGRESS: &str = "progress.json";

/// How far a run is.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Seconds of training so far, over all starts.
    pub seconds: f64,
    /// Steps of the whole run, for which its schedule was made.
    #[serde(default)]
    pub steps: u64,
    /// Training loss (nats per token) by step, thinned.
    pub losses: Vec<(u64, f32)>,
    /// Held-out loss by step.
    pub held_out: Vec<(u64, f32)>,
    /// The run's settings: a checkpoint only continues the run that made it.
    pub fingerprint: String,
}

/// Writes the checkpoint beside the old one and renames it over: a kill leaves one of the two whole.
pub fn save(folder: &Path, optimizer: &Optimizer, progress: &Progress) -> Result<()> {
    let mut tensors = Vec::new();
    for p in &optimizer.parameters {
        tensors.push((format!("value.{}", p.name), p.var.as_tensor().clone()));
        tensors.push((format!("first.{}", p.name), p.first.clone()));
        tensors.extend(p.second.iter().map(|s| (format!("second.{}", p.name), s.clone())));
    }
    let fresh = folder.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    safetensors::write(&fresh.join(STATE), &tensors)?;
    std::fs::write(fresh.join(PROGRESS), serde_json::to_vec_pretty(progress)?)?;
    let old = folder.with_extension("old");
    // Without `folder`, after a kill between the two renames, `old` is the only whole one.
    if folder.exists() {
        let _ = std::fs::remove_dir_all(&old);
        std::fs::rename(folder, &old)?;
    }
    std::fs::rename(&fresh, folder)?;
    let _ = std::fs::remove_dir_all(&old);
    Ok(())
}

/// The length of the run that left a checkpoint here.
pub fn planned_steps(folder: &Path) -> Option<u64> {
    let folders = [folder.to_path_buf(), folder.with_extension("old")];
    let text = folders.iter().find_map(|f| std::fs::read_to_string(f.join(PROGRESS)).ok())?;
    let progress: Progress = serde_json::from_str(&text).ok()?;
    (progress.steps > 0).then_some(progress.steps)
}

/// Restores what [`save`] wrote; `None` when there is nothing.
///
/// # Errors
/// A checkpoint of another run, or one that is broken.
pub fn load(
    folder: &Path,
    optimizer: &mut Optimizer,
    fingerprint: &str,
) -> Result<Option<Progress>> {
    let candidates = [folder.to_path_buf(), folder.with_extension("old")];
    let Some(folder) = candidates.into_iter().find(|f| f.join(PROGRESS).exists()) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(folder.join(PROGRESS))?;
    let progress: Progress = serde_json::from_str(&text)
        .with_context(|| format!("{} is broken", folder.join(PROGRESS).display()))?;
    if progress.fingerprint != fingerprint {
        bail!(
            "{}: this checkpoint belongs to a run with other settings; delete it to start anew",
            folder.display()
        );
    }
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(folder.join(STATE), &Device::Cpu)?;
    let get = |name: String| {
        tensors.get(&name).cloned().with_context(|| format!("the checkpoint lacks {name}"))
    };
    for p in &mut optimizer.parameters {
        p.var.set(&get(format!("value.{}", p.name))?)?;
        p.first = get(format!("first.{}", p.name))?;
        if p.second.is_some() {
            p.second = Some(get(format!("second.{}", p.name))?);
        }
    }
    optimizer.step = progress.step;
    Ok(Some(progress))
}

/// The fingerprint of a run: everything that decides its result.
pub fn fingerprint(model: &ModelConfig, settings: &impl serde::Serialize, data: u64) -> String {
    let text = serde_json::to_string(&(model, settings, data)).unwrap_or_default();
    use std::hash::{Hash, Hasher};
    let mut hasher = rustc_hash::FxHasher::default();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
