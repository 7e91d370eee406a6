//! `nestling model`: the models of a workspace, which of them is in use, and what it is.

mod download;
mod import;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::import::Import;
use super::{InUse, ModelArgs, print, print_json, wrong_use};
use crate::generation::ModelSource;
use crate::store::{Choice, DEFAULT, FOLDER_VARIABLE, Store, Workspace};

#[derive(clap::Subcommand)]
pub(super) enum ModelCommand {
    /// The models that this workspace can use
    List {
        /// The workspace: a folder; of a repository, any of its folders
        #[arg(default_value = ".")]
        repo: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Describe the model that would be used
    Info {
        /// The workspace
        #[arg(default_value = ".")]
        repo: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Use another model in this workspace; a running server follows at once
    Use {
        /// One of the list; `default` is the model inside the program
        name: String,
        /// The workspace
        #[arg(default_value = ".")]
        repo: PathBuf,
    },
    /// Copy a model into this workspace's models: a GGUF file, a Hugging Face directory, an adapter, or what a
    /// Hugging Face cache (ORG/NAME), Ollama (NAME:TAG) or llama.cpp's cache have here
    Import {
        /// The file or directory, or the name that the model has in one of those stores
        #[arg(value_name = "PATH_OR_NAME")]
        what: String,
        /// The workspace
        #[arg(default_value = ".")]
        repo: PathBuf,
        /// What to call it; the name of the file if none is given
        #[arg(long)]
        name: Option<String>,
        /// Use it from now on
        #[arg(long = "use")]
        use_it: bool,
        /// Let it in only if it is better on newer code of the workspace, as a fine-tune is judged
        #[arg(long)]
        judge: bool,
    },
    /// Download a model and import it: the only command that uses the network
    Download(download::DownloadArgs),
    /// Remove a model from this workspace
    Remove {
        /// One of the list
        name: String,
        /// The workspace
        #[arg(default_value = ".")]
        repo: PathBuf,
    },
    /// Print the folder of this workspace's models
    Path {
        /// The workspace
        #[arg(default_value = ".")]
        repo: PathBuf,
    },
}

pub(super) fn run(command: ModelCommand, args: &ModelArgs) -> Result<ExitCode> {
    match command {
        ModelCommand::Info { repo, json } => info(args, &repo, json),
        ModelCommand::List { repo, json } => list(args, &workspace(&repo)?, json),
        ModelCommand::Use { name, repo } => {
            let workspace = workspace(&repo)?;
            if name != DEFAULT
                && let Err(error) = workspace.find(&name)
            {
                return Ok(wrong_use(error));
            }
            workspace.set_in_use(Some(&name))?;
            eprintln!("nestling: {name} is in use for {} now", workspace.root().display());
            Ok(ExitCode::SUCCESS)
        }
        ModelCommand::Import { what, repo, name, use_it, judge } => {
            let found = sources::find(&what)?;
            let from = found.name.as_ref().map(|_| what);
            let (path, title) = (&found.path, found.name);
            let judge_by = judge.then_some(repo.as_path());
            let import = Import { path, title, name, from, use_it, judge_by };
            import::import(args, import, &workspace(&repo)?)
        }
        ModelCommand::Download(own) => download::run(own, args),
        ModelCommand::Remove { name, repo } => {
            let workspace = workspace(&repo)?;
            if name == DEFAULT {
                return Ok(wrong_use("the default model is part of the program"));
            }
            if let Err(error) = workspace.find(&name) {
                return Ok(wrong_use(error));
            }
            let then = if workspace.remove(&name)? { ", the default is in use now" } else { "" };
            eprintln!("nestling: {name} is removed{then}");
            Ok(ExitCode::SUCCESS)
        }
        ModelCommand::Path { repo } => {
            print(&format!("{}\n", workspace(&repo)?.folder().display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn workspace(repo: &Path) -> Result<Workspace> {
    std::fs::metadata(repo)
        .with_context(|| format!("{}: name the folder of a workspace", repo.display()))?;
    let store = Store::of_user().with_context(|| {
        format!("there is no data folder for models here; name one by {FOLDER_VARIABLE}")
    })?;
    Ok(store.workspace(repo))
}

fn list(args: &ModelArgs, workspace: &Workspace, as_json: bool) -> Result<ExitCode> {
    let (in_use, problem) = match workspace.in_use() {
        Choice::Default => (DEFAULT.to_string(), None),
        Choice::Installed(model) => (model.name, None),
        Choice::Missing { reason, .. } => (DEFAULT.to_string(), Some(reason)),
    };
    let models = workspace.models();
    if as_json {
        let embedded = json!({
            "name": DEFAULT, "embedded": true, "in_use": in_use == DEFAULT,
            "bytes": ModelSource::embedded_size(),
        });
        let installed = models.iter().map(|model| {
            let made = model.made().map(seconds);
            json!({
                "name": model.name, "embedded": false, "in_use": in_use == model.name,
                "bytes": model.size(), "installed": made, "path": model.folder,
                "card": model.card(),
            })
        });
        print_json(&json!({
            "workspace": workspace.root(),
            "folder": workspace.folder(),
            "in_use": in_use,
            "problem": problem,
            "given": args.model,
            "models": std::iter::once(embedded).chain(installed).collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = models.iter().map(|model| model.name.len()).chain([DEFAULT.len()]).max();
    let width = width.unwrap_or_default();
    let line = |name: &str, bytes: u64, rest: &str| {
        let mark = if name == in_use { '*' } else { ' ' };
        format!("{mark} {name:<width$}  {:>8.1} MB  {rest}\n", bytes as f64 / 1e6)
    };
    let mut text = line(DEFAULT, ModelSource::embedded_size(), "inside the program");
    for model in &models {
        let made = model.made().map(date).unwrap_or_default();
        let rest = format!("{made}  {}", said(&model.card()));
        text += &line(&model.name, model.size(), rest.trim_end());
    }
    print(&text)?;
    if let Some(problem) = problem {
        eprintln!("nestling: {problem}");
    }
    if let Some(given) = &args.model {
        eprintln!("nestling: {} is given and takes the place of them all", given.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a card says in one line: what the model is, and each figure that is known before and after.
fn said(card: &Value) -> String {
    let what = card["what"].as_str().map(String::from);
    let before = card["before"].as_object().into_iter().flatten();
    let figures = before.filter_map(|(name, before)| {
        let (before, after) = (before.as_f64()?, card["after"][name].as_f64()?);
        Some(format!("{} {before:.3} → {after:.3}", name.replace('_', " ")))
    });
    what.into_iter().chain(figures).collect::<Vec<_>>().join(", ")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The day of a time in UTC, as 2026-11-24.
fn date(time: SystemTime) -> String {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut days, mut year) = (seconds(time) / 86_400, 1970);
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

/// Describes the model that would be used in a workspace.
fn info(args: &ModelArgs, repo: &Path, as_json: bool) -> Result<ExitCode> {
    let InUse { model, installed } = args.load_for(repo)?;
    let installed = installed.map(|installed| installed.folder);
    let path = args.model.as_ref().or(installed.as_ref());
    let config = model.config();
    let layout = model.tokenizer.fim().map(|layout| layout.name());
    if as_json {
        print_json(&json!({
            "name": model.name,
            "embedded": path.is_none(),
            "path": path,
            "family": config.model_type,
            "parameters": config.parameter_count(),
            "file_bytes": model.file_size,
            "context": model.engine.context(),
            "vocabulary": model.tokenizer.vocab_size(),
            "fim_layout": layout,
            "types": model.types.iter().map(|(part, types)| (part.name(), types.as_str())).collect::<BTreeMap<_, _>>(),
            "config": config,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let types = model.types.iter().map(|(part, types)| format!("{}: {types}", part.name()));
    let from = path.map_or("inside the program".into(), |p| p.display().to_string());
    print(&format!(
        "{name}: {from}\n\
         family       {family}, {layers} layers of {hidden}, {heads} heads ({kv} key/value)\n\
         parameters   {parameters:.1} million, {size:.1} MB\n\
         context      {context} tokens\n\
         vocabulary   {vocabulary}\n\
         types        {types}\n\
         fill-in      {layout}\n",
        name = model.name,
        family = config.model_type.name(),
        layers = config.num_hidden_layers,
        hidden = config.hidden_size,
        heads = config.num_attention_heads,
        kv = config.num_key_value_heads,
        parameters = config.parameter_count() as f64 / 1e6,
        size = model.file_size as f64 / 1e6,
        context = model.engine.context(),
        vocabulary = model.tokenizer.vocab_size(),
        types = types.collect::<Vec<_>>().join("\n             "),
        layout = layout.unwrap_or("none: only the text before the cursor is used"),
    ))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_have_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_781, "2026-11-24"),
            (20_818, "2026-12-31"),
            (20_819, "2027-01-01"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(days * 86_400 + 86_399)), expected);
        }
    }

    #[test]
    fn a_card_is_said_in_one_line() {
        let card = json!({
            "what": "fine-tuned", "before": {"exact_match": 0.21, "loss": 1.5, "note": "x"},
            "after": {"exact_match": 0.25, "other": 3},
        });
        assert_eq!(said(&card), "fine-tuned, exact match 0.210 → 0.250");
        assert_eq!(said(&Value::Null), "");
    }
}
