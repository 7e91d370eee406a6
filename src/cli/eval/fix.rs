//! `nestling eval fix`: broken syntax repaired.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{ModelArgs, RepoArgs, Steps, show};
use crate::eval::fix::{fix, rows, table};
use crate::eval::{machine, texts};
use crate::syntax::Language;

#[derive(clap::Args)]
pub(in crate::cli) struct FixArgs {
    #[command(flatten)]
    repos: RepoArgs,
    /// Languages whose files are broken
    #[arg(long, value_delimiter = ',', default_value = "rust,python,typescript,go,c")]
    language: Vec<String>,
    /// Broken files of each language; a quarter each by deleting, inserting, doubling and swapping a token
    #[arg(long, default_value_t = 500, value_name = "N")]
    count: usize,
    /// Let the parser choose alone, without the model
    #[arg(long)]
    no_model: bool,
    /// Write every case as a line of JSON
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

pub(super) fn measure(own: FixArgs, args: &ModelArgs) -> Result<()> {
    if let Some(unknown) = own.language.iter().find(|name| Language::by_name(name).is_none()) {
        bail!("--language: there is no language {unknown:?}");
    }
    let repositories = texts::repositories(&own.repos.repo, None)?;
    let model = if own.no_model { None } else { Some(args.load()?) };
    let all = own.count * own.language.len();
    let mut steps = Steps::new("files broken and repaired");
    let mut done = 0;
    let mut say = |_: &str, _| {
        done += 1;
        steps.at(done, all);
    };
    let cases = fix(model, &repositories, &own.language, own.count, own.repos.seed, &mut say)?;
    if let Some(path) = &own.cases {
        write(path, &cases)?;
    }
    let rows = rows(&cases);
    let report = json!({
        "cases": cases.len(),
        "seed": own.repos.seed,
        "repositories": repositories.iter().map(|r| json!({ "name": r.name, "revision": r.revision }))
            .collect::<Vec<_>>(),
        "rows": rows,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine::machine(),
    });
    show(own.repos.json, &report, || table(&rows))
}

fn write(path: &Path, cases: &[impl serde::Serialize]) -> Result<()> {
    let lines: Vec<String> = cases.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    std::fs::write(path, lines.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}
