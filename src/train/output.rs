//! The files of a model directory: each is written whole or not at all, the GGUF file last.

use std::path::Path;

use anyhow::{Context, Result};

use crate::model::config::{Family, ModelConfig};
use crate::model::quantize::{FileType, write_gguf};
use crate::model::safetensors;
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
    weights: &[(String, Vec<usize>, &[f32])],
    report: &TrainReport,
) -> Result<()> {
    let write = || -> Result<()> {
        safetensors::write(&out.join("model.safetensors"), weights)?;
        write_config(out, model)?;
        write_whole(&out.join("training.json"), &serde_json::to_vec_pretty(report)?)?;
        write_whole(&out.join("report.html"), report::html(report)?.as_bytes())?;
        write_whole(&out.join("CARD.md"), card::markdown(report, model).as_bytes())?;
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

/// Hugging Face's `config.json`.
pub(super) fn write_config(out: &Path, config: &ModelConfig) -> Result<()> {
    let mut json = serde_json::to_value(config)?;
    let architecture = match config.model_type {
        Family::Llama => "LlamaForCausalLM",
        Family::Qwen2 => "Qwen2ForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
    };
    json["architectures"] = serde_json::json!([architecture]);
    json["hidden_act"] = "silu".into();
    json["attention_bias"] = false.into();
    json["torch_dtype"] = "float32".into();
    json["eos_token_id"] = 0.into();
    write_whole(&out.join("config.json"), &serde_json::to_vec_pretty(&json)?)
}

pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let fresh = safetensors::temporary(path);
    std::fs::write(&fresh, content)
        .and_then(|()| std::fs::rename(&fresh, path))
        .inspect_err(|_| drop(std::fs::remove_file(&fresh)))
        .with_context(|| format!("cannot write {}", path.display()))
}
