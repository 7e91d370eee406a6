//! `nestling model import`: a copy of somebody's model becomes one of the workspace.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::train::stop_on_ctrl_c;
use super::super::{ModelArgs, print, wrong_use};
use super::seconds;
use crate::download::megabytes;
use crate::finetune::{Accepted, News, Request, Watch, accept};
use crate::generation::{MAX_CONTEXT, Model, ModelSource};
use crate::model::estimate;
use crate::model::split::SplitName;
use crate::model::weights::Weights;
use crate::store::{Installed, Workspace, check_name};

const ADAPTER: &str = "adapter_config.json";

/// What is copied of every kind of model, if it is there.
const SMALL: [&str; 8] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    ADAPTER,
    "gate.json",
    "confidence.json",
    "card.json",
];

/// A model, and what to do with it.
pub(super) struct Import<'a> {
    /// A GGUF file, a model directory or an adapter.
    pub(super) path: &'a Path,
    /// What to call it if nobody says; `None`: as the file.
    pub(super) title: Option<String>,
    /// What the user calls it.
    pub(super) name: Option<String>,
    /// Where it comes from, for its card; `None`: from that path.
    pub(super) from: Option<String>,
    /// Use it from now on.
    pub(super) use_it: bool,
    /// The repository on whose newer code it must be better.
    pub(super) judge_by: Option<&'a Path>,
}

/// The refusal of a name that a model of the workspace has already.
///
/// # Errors
/// No model can be called so.
pub(super) fn taken(workspace: &Workspace, name: Option<&str>) -> Result<Option<ExitCode>> {
    let Some(name) = name else { return Ok(None) };
    check_name(name)?;
    Ok(workspace.find(name).is_ok().then(|| {
        wrong_use(format!(
            "there is already a model {name:?} for {}; give another --name or remove it first",
            workspace.root().display()
        ))
    }))
}

/// Loads the model to see that it works, then installs a copy of it; with a repository to judge it by, only if it is
/// better there.
pub(super) fn import(
    args: &ModelArgs,
    import: Import<'_>,
    workspace: &Workspace,
) -> Result<ExitCode> {
    let Import { path, title, name, from, use_it, judge_by } = import;
    if let Some(refusal) = taken(workspace, name.as_deref())? {
        return Ok(refusal);
    }
    let source = ModelSource::Path(path.to_path_buf());
    eprintln!("nestling: {}", expected(&source.weights()?));
    // A model that does not work is not let in.
    let model = args.load_from(&source)?;
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
    let name = name.unwrap_or_else(|| workspace.free_name(title.as_ref().unwrap_or(&model.name)));
    let installed = workspace.install(&name, |folder| {
        copy(path, folder)?;
        if let Some(Accepted { gate, .. }) = &accepted {
            std::fs::write(folder.join("gate.json"), serde_json::to_vec(gate)?)?;
        }
        let card = folder.join("card.json");
        if !card.exists() {
            std::fs::write(card, serde_json::to_vec_pretty(&card_of(&model, path, from))?)?;
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

/// What the model will need and how fast it will be, before it is loaded.
fn expected(weights: &Weights) -> String {
    /// A suggestion that is worth showing, and how long one may wait for it.
    const TOKENS: f64 = 8.0;
    const WAIT: f64 = 0.2;
    let config = &weights.config;
    let memory = estimate::memory(config, MAX_CONTEXT, |name| weights.held_type(name));
    let free = estimate::free_memory();
    let free = free.map(|free| format!(" ({} are free)", megabytes(free))).unwrap_or_default();
    let mut text = format!("this model needs about {} of memory{free}", megabytes(memory));
    if let Some(speed) = estimate::weights_per_second(weights) {
        let token = estimate::token_time(config, speed).as_secs_f64();
        text += &format!(
            "; estimated from one matrix, it writes {:.0} tokens a second here, {:.0} within 200 ms, and {TOKENS} \
             take a model of at most {:.0} million weights of its type",
            1.0 / token,
            WAIT / token,
            speed * WAIT / TOKENS / 1e6
        );
    }
    text
}

/// The files of a model, and what may lie beside it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = |file: &Path, name: &str| -> Result<()> {
        std::fs::copy(file, to.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(())
    };
    if !from.is_dir() {
        let Some(part) = SplitName::of(from) else { return copy(from, "model.gguf") };
        let files = part.all().map(|name| from.with_file_name(name));
        let files = files.zip(SplitName { stem: "model", ..part }.all());
        return files.filter(|(file, _)| file.exists()).try_for_each(|(file, to)| copy(&file, &to));
    }
    // As a model directory is read: its GGUF file counts only without the others.
    let is_hugging_face = from.join("config.json").exists();
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_part = match is_hugging_face {
            true => name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"),
            false => {
                ["model.gguf", "adapter_model.safetensors"].contains(&&*name)
                    || SplitName::parse(&name).is_some_and(|part| part.stem == "model")
            }
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

fn card_of(model: &Model, path: &Path, from: Option<String>) -> Value {
    let path = || std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let from = from.map_or_else(|| json!(path()), Value::String);
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
        let parts = ["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"];
        assert_eq!(copied(&[&parts[..], &["x-00001-of-00001.gguf"]].concat()), parts);
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
