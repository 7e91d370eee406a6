//! `nestling model download`: a model from a Hugging Face hub or an address, imported once it is here.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::super::{ModelArgs, wrong_use};
use super::import::{Import, import, taken};
use super::workspace;
use crate::download::{Client, ENDPOINT, Listing, News, megabytes};
use crate::generation::MAX_CONTEXT;
use crate::model::config::ModelConfig;
use crate::model::estimate;

#[derive(clap::Args)]
pub(in crate::cli) struct DownloadArgs {
    /// ORG/NAME of a model, ORG/NAME/FILE of one of its GGUF files, or the address of a GGUF file
    #[arg(value_name = "NAME_OR_URL")]
    what: String,
    /// The workspace
    #[arg(default_value = ".")]
    repo: PathBuf,
    /// What to call it; the name of the model if none is given
    #[arg(long)]
    name: Option<String>,
    /// Use it from now on
    #[arg(long = "use")]
    use_it: bool,
    /// The hub
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = ENDPOINT)]
    endpoint: String,
    /// The SHA-256 that the file must have, where there is one file
    #[arg(long, value_name = "HEX", value_parser = parse_sum)]
    sha256: Option<String>,
}

fn parse_sum(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) {
        true => Ok(text.to_lowercase()),
        false => Err("a SHA-256 has 64 hexadecimal digits".into()),
    }
}

pub(super) fn run(own: DownloadArgs, args: &ModelArgs) -> Result<ExitCode> {
    let workspace = workspace(&own.repo)?;
    if let Some(refusal) = taken(&workspace, own.name.as_deref())? {
        return Ok(refusal);
    }
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
    let client = Client::new(&own.endpoint, token);
    let mut listing = client.list(&own.what)?;
    match (&mut listing.files[..], &own.sha256) {
        (_, None) => {}
        ([file], Some(sum)) => file.sha256 = Some(sum.clone()),
        (files, Some(_)) => {
            let count = files.len();
            return Ok(wrong_use(format!("--sha256 is for one file, and these are {count}")));
        }
    }
    fits(&listing)?;
    let cache =
        dirs::cache_dir().context("there is no cache folder; name one by XDG_CACHE_HOME")?;
    let size = match listing.bytes() {
        0 => String::new(),
        bytes => format!(", {}", megabytes(bytes)),
    };
    eprintln!("nestling: {}: {} files{size}", listing.name, listing.files.len());
    let bar = bar(&listing);
    let folder = client.fetch(&listing, &cache.join("nestling/downloads"), &mut |news| {
        match news {
            News::Bytes(bytes) => bar.set_position(bytes),
            News::File("config.json", path, _) => {
                // A model that cannot be run is not worth its weights.
                let config = ModelConfig::from_json(&std::fs::read_to_string(path)?)
                    .with_context(|| own.what.clone())?;
                if let Err(reason) = estimate::check(&config, MAX_CONTEXT, |_| "f16") {
                    bail!("{} {reason}", own.what);
                }
            }
            News::File(..) => {}
        }
        Ok(())
    });
    bar.finish_and_clear();
    let folder = folder?;
    let unsure: Vec<&str> = listing
        .files
        .iter()
        .filter(|file| file.sha256.is_none() && file.name.ends_with(".gguf"))
        .map(|file| file.name.as_str())
        .collect();
    if !unsure.is_empty() {
        let names = unsure.join(", ");
        eprintln!("nestling: no checksum of {names} is known; --sha256 would have compared one");
    }
    // Of a model in parts, the first stands for all.
    let path = match &listing.files[..] {
        [first, ..] if first.name.ends_with(".gguf") => folder.join(&first.name),
        _ => folder.clone(),
    };
    let asked = Import {
        path: &path,
        title: Some(listing.name.clone()),
        name: own.name,
        from: Some(own.what),
        use_it: own.use_it,
        judge_by: None,
    };
    let code = import(args, asked, &workspace)?;
    // What is installed is a copy. A folder that stays costs space and nothing else.
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::warn!("{}: {error}", folder.display());
    }
    Ok(code)
}

/// Files that are larger than the memory that is free make no model that can be used here.
fn fits(listing: &Listing) -> Result<()> {
    match estimate::free_memory() {
        Some(free) if listing.bytes() > free => bail!(
            "{} has {} and {} of memory are free; take a smaller model, or a smaller type of it",
            listing.name,
            megabytes(listing.bytes()),
            megabytes(free)
        ),
        _ => Ok(()),
    }
}

fn bar(listing: &Listing) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    let bar = ProgressBar::new(listing.bytes());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
