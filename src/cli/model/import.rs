//! `nestling model import`: a copy of somebody's model becomes one of the workspace.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::train::stop_on_ctrl_c;
use super::super::{ModelArgs, print, wrong_use};
use super::seconds;
use crate::finetune::{Accepted, News, Request, Watch, accept};
use crate::generation::{Model, ModelSource};
use crate::store::{Installed, Workspace};

const ADAPTER: &str = "adapter_config.json";

/// What is copied of every kind of model, if it is there.
const SMALL: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    ADAPTER,
    "gate.json",
    "confidence.json",
    "card.json",
];

/// Loads the model to see that it works, then installs a copy of it; with a repository to judge it by, only if it is
/// better there.
pub(super) fn import(
    args: &ModelArgs,
    path: &Path,
    workspace: &Workspace,
    (name, use_it): (Option<String>, bool),
    judge_by: Option<&PathBuf>,
) -> Result<ExitCode> {
    if let Some(name) = &name
        && workspace.find(name).is_ok()
    {
        return Ok(wrong_use(format!(
            "there is already a model {name:?} for {}; give another --name or remove it first",
            workspace.root().display()
        )));
    }
    // A model that does not work is not let in.
    let model = args.load_from(&ModelSource::Path(path.to_path_buf()))?;
    let accepted = match judge_by {
        Some(repo) => {
            let accepted = judge(args, path, repo)?;
            if !accepted.is_better {
                return Ok(ExitCode::from(1));
            }
            Some(accepted)
        }
        None => None,
    };
    let name = name.unwrap_or_else(|| workspace.free_name(&model.name));
    let installed = workspace.install(&name, |folder| {
        copy(path, folder)?;
        if let Some(Accepted { gate, .. }) = &accepted {
            std::fs::write(folder.join("gate.json"), serde_json::to_vec(gate)?)?;
        }
        let card = folder.join("card.json");
        if !card.exists() {
            std::fs::write(card, serde_json::to_vec_pretty(&card_of(&model, path))?)?;
        }
        Ok(())
    })?;
    if use_it {
        workspace.set_in_use(Some(&name))?;
    }
    let Installed { name, folder } = installed;
    let then = match use_it {
        true => " and in use".into(),
        false => format!("; `nestling model use {name}` uses it"),
    };
    eprintln!("nestling: {name} is installed in {}{then}", folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Judges the model beside the one that was given or is inside the program, and says how it did.
fn judge(args: &ModelArgs, path: &Path, repo: &Path) -> Result<Accepted> {
    let stop = stop_on_ctrl_c();
    let request = Request::of(repo.to_path_buf(), args.source());
    let mut say = |news| {
        if let News::Note(text) = news {
            eprintln!("{text}");
        }
    };
    let mut watch = Watch { stop: &stop, say: &mut say, busy: &|| None, waited: 0.0 };
    let accepted = accept(&request, path, &mut watch)?;
    let Accepted { places, before, after, gain, general, verdict, .. } = &accepted;
    print(&format!(
        "{verdict}\nof the rests of {places} newer lines {before} % come out exactly without it, {after} % with it: \
         {gain:+} points\ngeneral code: {:.3} bits per byte without it, {:.3} with it\n",
        general.0, general.1
    ))?;
    Ok(accepted)
}

/// The files of a model, and what may lie beside it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = |file: &Path, name: &str| -> Result<()> {
        std::fs::copy(file, to.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(())
    };
    if !from.is_dir() {
        return copy(from, "model.gguf");
    }
    // As a model directory is read: its GGUF file counts only without the others.
    let is_hugging_face = from.join("config.json").exists();
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_part = match is_hugging_face {
            true => name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"),
            false => ["model.gguf", "adapter_model.safetensors"].contains(&&*name),
        };
        if is_part || SMALL.contains(&&*name) {
            copy(&entry.path(), &name)?;
        }
    }
    name_base(from, &to.join(ADAPTER))
}

/// An adapter that names its base by a path from where it lay names it by its whole path.
fn name_base(from: &Path, file: &Path) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let key = "base_model_name_or_path";
    let name = PathBuf::from(config[key].as_str().unwrap_or_default());
    let places = [name.clone(), from.join(&name)];
    let found = places.iter().find(|place| !name.as_os_str().is_empty() && place.exists());
    if let Some(base) = found
        && name.is_relative()
    {
        config[key] = serde_json::to_value(std::fs::canonicalize(base)?)?;
        std::fs::write(file, serde_json::to_vec_pretty(&config)?)?;
    }
    Ok(())
}

fn card_of(model: &Model, path: &Path) -> Value {
    let from = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    json!({
        "what": "imported",
        "from": from,
        "family": model.config().model_type,
        "parameters": model.config().parameter_count(),
        "made": seconds(SystemTime::now()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The files that are copied of these.
    fn copied(files: &[&str]) -> Vec<String> {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in files {
            fs::write(from.path().join(file), "{}").unwrap();
        }
        copy(from.path(), to.path()).unwrap();
        let entries = fs::read_dir(to.path()).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_read_of_a_model_is_copied_and_nothing_else() {
        let full = ["config.json", "model-1.safetensors", "model.gguf", "report.html", "gate.json"];
        assert_eq!(copied(&full), ["config.json", "gate.json", "model-1.safetensors"]);
        assert_eq!(copied(&["model.gguf", "other.gguf", "card.json"]), ["card.json", "model.gguf"]);
        let adapter = ["adapter_config.json", "adapter_model.safetensors", "optimizer.bin"];
        assert_eq!(copied(&adapter), ["adapter_config.json", "adapter_model.safetensors"]);
    }

    #[test]
    fn the_base_of_an_adapter_is_found_from_anywhere() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("base")).unwrap();
        let base_after = |name: &str| {
            let config = json!({"r": 8, "base_model_name_or_path": name});
            fs::write(from.path().join(ADAPTER), config.to_string()).unwrap();
            copy(from.path(), to.path()).unwrap();
            let copied = fs::read(to.path().join(ADAPTER)).unwrap();
            let copied: Value = serde_json::from_slice(&copied).unwrap();
            assert_eq!(copied["r"], 8);
            copied["base_model_name_or_path"].as_str().unwrap().to_string()
        };
        let whole = fs::canonicalize(from.path().join("base")).unwrap();
        assert_eq!(Path::new(&base_after("base")), whole);
        for name in ["nestling-base", "", "/no/such/model"] {
            assert_eq!(base_after(name), name);
        }
    }
}
