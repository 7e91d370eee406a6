//! `nestling eval completion`: which variants are asked, where, and in what form the figures come.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{ModelArgs, Steps, show};
use crate::eval::completion::{
    Context, FLOOR, Mode, Options, Report, Suite, VARIANTS, Variant, html, run, variant,
};
use crate::eval::texts::{self, Repository};

#[derive(clap::Args)]
pub(in crate::cli) struct CompletionArgs {
    /// Folders, git repositories (bare ones too) or lists of them that the model was not trained on;
    /// DIR@REV reads a revision: a hash, tag or branch
    #[arg(long, num_args = 1.., value_name = "DIR[@REV]", required_unless_present = "suite")]
    repo: Vec<PathBuf>,
    /// Repositories and settings from a file; what is given beside it wins
    #[arg(long, value_name = "FILE", conflicts_with = "repo")]
    suite: Option<PathBuf>,
    /// Where the suite's repositories lie: DIR/owner+name, DIR/owner/name or DIR/name
    #[arg(long, value_name = "DIR", requires = "suite")]
    clones: Option<PathBuf>,
    /// Places in each repository at most, 200 by default
    #[arg(long, alias = "count", value_name = "N")]
    places: Option<usize>,
    /// What is to be completed, rest by default
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// What is known of the file, fim by default
    #[arg(long, value_enum)]
    context: Option<Context>,
    /// Only files in these languages
    #[arg(long, num_args = 1.., value_name = "NAME")]
    language: Vec<String>,
    /// Ask only about lines that are new since this share of the history, 0 to 1
    ///
    /// Of the first-parent history of n commits, the one at SHARE · n is the past. Places are drawn from lines
    /// that the files have now and did not have then; lines that a renamed file kept are not new. All other
    /// files are known as they are now, with what else is new in them. Of the file itself, the text before the
    /// cursor is known and, with --context fim, what follows the run of new lines that the answer is part of.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    since: Option<f64>,
    /// Seed of places and bootstrap
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to compare, at the same places
    #[arg(long, value_delimiter = ',', default_value = "default", value_parser = names())]
    variants: Vec<String>,
    /// Write the report as a page with pictures and examples
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every answer as a line of JSON
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    let all = VARIANTS.iter().map(|&(name, help, _)| (name, help)).chain([FLOOR]);
    let value = all.map(|(name, help)| clap::builder::PossibleValue::new(name).help(help));
    value.collect::<Vec<_>>().into()
}

pub(in crate::cli) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "a share is at least 0 and less than 1".to_string())
}

pub(super) fn measure(own: CompletionArgs, args: &ModelArgs) -> Result<()> {
    let suite = own.suite.as_deref().map(Suite::read).transpose()?;
    let defaults = Options { seed: own.seed, ..Options::default() };
    let of_suite = suite.as_ref().map(|suite| Options {
        places: suite.places,
        mode: suite.mode,
        context: suite.context,
        languages: suite.languages.clone(),
        ..defaults.clone()
    });
    let mut options = of_suite.unwrap_or(defaults);
    options.places = own.places.unwrap_or(options.places);
    options.mode = own.mode.unwrap_or(options.mode);
    options.context = own.context.unwrap_or(options.context);
    if !own.language.is_empty() {
        options.languages = own.language;
    }
    let mut name = None;
    let repositories = match (suite, &own.suite) {
        (Some(mut suite), Some(path)) => {
            suite.since = own.since.or(suite.since);
            let found = suite.repositories(path, own.clones.as_deref())?;
            name = Some(suite.name);
            found
        }
        _ => texts::repositories(&own.repo, own.since)?,
    };
    let mut made = Vec::new();
    for name in &own.variants {
        if made.iter().any(|(other, _)| other == name) {
            bail!("--variants names {name} twice");
        }
        if let Some(variant) = variant(name, || args.load())? {
            made.push((name.clone(), variant));
        }
    }
    let mut variants: Vec<(String, &mut dyn Variant)> = Vec::new();
    for (name, variant) in &mut made {
        variants.push((name.clone(), variant.as_mut()));
    }
    let mut report = ask(&mut variants, &repositories, &options)?;
    report.suite = name;
    if let Some(path) = &own.html {
        write(path, &html(&report)?)?;
    }
    if let Some(path) = &own.answers {
        write(path, &lines(&report)?)?;
    }
    show(own.json, &report, || report.to_string())
}

/// Asks with a bar of progress.
pub(super) fn ask(
    variants: &mut [(String, &mut dyn Variant)],
    repositories: &[Repository],
    options: &Options,
) -> Result<Report> {
    let mut steps = Steps::new("places");
    run(variants, repositories, options, &mut |done, all| steps.at(done, all))
}

/// A JSON object in a line for each answer.
fn lines(report: &Report) -> Result<String> {
    let mut lines = String::new();
    for (variant, answers) in report.variants.iter().zip(&report.answers) {
        for answer in answers {
            let repository = &variant.repositories[answer.repository].repository;
            let mut line = json!({ "variant": variant.variant, "repository": repository });
            if let (Value::Object(line), Value::Object(rest)) =
                (&mut line, serde_json::to_value(answer)?)
            {
                line.extend(rest);
            }
            lines += &format!("{line}\n");
        }
    }
    Ok(lines)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
