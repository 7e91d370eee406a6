//! What was tuned as a model of the workspace: written beside the run, looked at there, and moved in as a whole.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::make;
use crate::generation::{EMBEDDED_NAME, ModelSource};
use crate::memory::Gate;
use crate::model::quantize::{FileType, write_gguf};
use crate::store::Workspace;
use crate::train::trainer::Trainer;

/// Writes what a run has made of `base`, at a strength, into a folder that is emptied first: an adapter, or all weights
/// as one GGUF file of that name. Says where it can be loaded from.
///
/// # Errors
/// A full disk.
pub(super) fn write(
    trainer: &Trainer,
    base: &ModelSource,
    (name, strength): (&str, f32),
    folder: &Path,
) -> Result<ModelSource> {
    let _ = std::fs::remove_dir_all(folder);
    make(folder)?;
    if let Some(mut adapter) = trainer.adapter(false) {
        adapter.weaken(strength);
        adapter.base_name = Some(match base {
            ModelSource::Embedded => EMBEDDED_NAME.into(),
            ModelSource::Path(path) => std::path::absolute(path)?.display().to_string(),
        });
        adapter.write(folder)?;
        return Ok(ModelSource::Path(folder.to_path_buf()));
    }
    let weights = base.weights()?.with_values(trainer.merged(false, strength)?)?;
    let file = folder.join("model.gguf");
    write_gguf(&weights, name, FileType::Q8_0, &file)?;
    Ok(ModelSource::Path(file))
}

/// Puts beside a result how the memory is weighed with it, and what is known of it.
pub(super) fn describe(result: &Path, gate: &Gate, card: &Value) -> Result<()> {
    std::fs::write(result.join("gate.json"), serde_json::to_vec(gate)?)?;
    std::fs::write(result.join("card.json"), serde_json::to_vec_pretty(card)?)?;
    Ok(())
}

/// That a folder can take a result: it is empty, or not there yet.
pub(super) fn check_out(out: &Path) -> Result<()> {
    if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: name another folder", out.display());
    }
    make(out)
}

/// Copies a result into a folder.
pub(super) fn copy(result: &Path, out: &Path) -> Result<()> {
    make(out)?;
    for entry in std::fs::read_dir(result)? {
        let entry = entry?;
        std::fs::copy(entry.path(), out.join(entry.file_name()))
            .with_context(|| format!("cannot write into {}", out.display()))?;
    }
    Ok(())
}

/// Moves a result into the workspace under this name, or the next that is free; the name it got.
pub(super) fn put_in_place(workspace: &Workspace, name: &str, result: &Path) -> Result<String> {
    let name = workspace.free_name(name);
    let installed = workspace.install(&name, |folder| {
        for entry in std::fs::read_dir(result)? {
            let entry = entry?;
            std::fs::rename(entry.path(), folder.join(entry.file_name()))?;
        }
        Ok(())
    })?;
    Ok(installed.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::search::{Bench, METHODS};
    use super::*;
    use crate::generation::Model;
    use crate::model::engine::Precision;
    use crate::model::lora::{Base, Method};
    use crate::store::{Choice, Store};

    #[test]
    fn what_is_put_in_place_can_be_loaded_and_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Store::at(folder.path().join("data")).workspace(folder.path());
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny");
        let source = ModelSource::Path(tiny);
        let open = || Ok(source.weights()?);
        let weights = source.weights().unwrap();
        let original = Model::of(&weights, Precision::Quantized, "base".into()).unwrap();
        let bench = Bench {
            weights: &open,
            base: Arc::new(Base::load(&weights).unwrap()),
            config: &weights.config,
            tokenizer: &original.tokenizer,
            folder: folder.path().join("run"),
            seed: 1,
        };
        let text = original.tokenizer.encode("def area(width, height):\n    return");
        let answer = |model: &Model| {
            let mut cache = model.engine.new_cache();
            model.engine.forward(&mut cache, &text, 1).unwrap()
        };
        let (gate, card) = (Gate::default(), json!({ "what": "a test" }));
        for (method, names) in
            [(METHODS[0], ["tuned", "tuned-2"]), (Method::Full, ["all", "all-2"])]
        {
            // Nothing was learnt yet: what is written must answer as its base does.
            let trainer = bench.trainer(method, 1e-3, 0.0).unwrap();
            for name in names {
                let result = folder.path().join("result");
                let written = write(&trainer, &source, (names[0], 1.0), &result).unwrap();
                let model = Model::load(&written, Precision::Quantized).unwrap();
                let (own, base) = (answer(&model), answer(&original));
                let off = own.iter().zip(&base).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 0.2, "{name}: {off}");
                describe(&result, &gate, &card).unwrap();
                copy(&result, &folder.path().join(format!("out/{name}"))).unwrap();
                assert_eq!(put_in_place(&workspace, names[0], &result).unwrap(), name);
                workspace.set_in_use(Some(name)).unwrap();
                let Choice::Installed(found) = workspace.in_use() else { panic!("{name}") };
                assert_eq!((found.name.as_str(), found.card()), (name, card.clone()));
                let gate_file = found.text("gate.json").unwrap();
                assert_eq!(serde_json::from_str::<Gate>(&gate_file).unwrap(), gate);
                for place in [found.folder, folder.path().join(format!("out/{name}"))] {
                    Model::load(&ModelSource::Path(place), Precision::Quantized).unwrap();
                }
            }
        }
    }
}
