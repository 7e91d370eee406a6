//! The files of a model directory: each is written whole or not at all, the GGUF file last.

use std::path::Path;

use anyhow::{Context, Result};

use crate::files;
use crate::model::config::ModelConfig;
use crate::model::quantize::{FileType, write_gguf};
use crate::model::safetensors;
use crate::model::safetensors::OwnedTensor;
use crate::model::weights::Weights;

use super::pipeline::TrainReport;
use super::{card, report};

/// Everything beside the tokenizer.
///
/// # Errors
/// A full disk: what was there before is still whole, and so is the checkpoint.
pub(super) fn write_model(
    out: &Path,
    model: &ModelConfig,
    weights: &[OwnedTensor],
    report: &TrainReport,
) -> Result<()> {
    let write = || -> Result<()> {
        write_tensors(&out.join("model.safetensors"), weights)?;
        write_config(out, model)?;
        files::write(&out.join("training.json"), &serde_json::to_vec_pretty(report)?)?;
        files::write(&out.join("report.html"), report::html(report)?.as_bytes())?;
        files::write(&out.join("CARD.md"), card::markdown(report, model).as_bytes())?;
        let weights = Weights::open(out)?;
        write_gguf(&weights, "nestling", FileType::Q8_0, &out.join("model.gguf"))
    };
    let parameters = model.parameter_count();
    write().with_context(|| {
        format!(
            "the model cannot be written, but the run is saved: see that {} MB are free and run the same \
             command with --resume",
            (6 * parameters).div_ceil(1_000_000)
        )
    })
}

/// Owned tensors as a safetensors file.
///
/// # Errors
/// A full disk; nothing half-written stays.
pub fn write_tensors(path: &Path, tensors: &[OwnedTensor]) -> Result<()> {
    let views: Vec<_> =
        tensors.iter().map(|(name, shape, v)| (name.clone(), shape.clone(), &v[..])).collect();
    safetensors::write(path, &views)
}

/// Hugging Face's `config.json`.
///
/// # Errors
/// A full disk; nothing half-written stays.
pub fn write_config(out: &Path, config: &ModelConfig) -> Result<()> {
    let mut json = serde_json::to_value(config)?;
    json["architectures"] = serde_json::json!([config.model_type.traits().class]);
    json["hidden_act"] = "silu".into();
    json["attention_bias"] = false.into();
    json["torch_dtype"] = "float32".into();
    json["eos_token_id"] = 0.into();
    files::write(&out.join("config.json"), &serde_json::to_vec_pretty(&json)?)
}
