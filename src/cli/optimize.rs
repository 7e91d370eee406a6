//! `nestling optimize`: what could be faster, and what was proven of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use similar::TextDiff;

use super::{print, wrong_use};
use crate::memory::walk;
use crate::suggest::optimize::{Rules, rewrites};
use crate::syntax::Language;
use crate::text::apply;
use crate::workspace::read_file;

#[derive(clap::Args)]
pub(super) struct OptimizeArgs {
    /// Files, or folders whose files are looked at
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A folder of rules (python.toml, rust.toml …) to take instead of the catalogue
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
}

pub(super) fn run(args: OptimizeArgs) -> Result<ExitCode> {
    let mut files = Vec::new();
    for path in &args.paths {
        if !path.exists() {
            return Ok(wrong_use(format!("{}: no such file or folder", path.display())));
        }
        match path.is_dir() {
            true => {
                let known = |name: &str| Language::by_path(Path::new(name)).is_some();
                let found = walk::walk(path).into_iter().filter(|file| known(&file.name));
                files.extend(found.map(|file| path.join(&file.name)));
            }
            false => files.push(path.clone()),
        }
    }
    for path in files {
        let Ok(document) = read_file(&path) else { continue };
        let (Some(language), Some(tree)) = (document.language, &document.tree) else { continue };
        let own = match &args.rules {
            Some(folder) => {
                let file = folder.join(format!("{}.toml", language.name));
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                Some(Rules::read(&text, language)?)
            }
            None => None,
        };
        let source = document.text.as_str();
        for rewrite in rewrites(tree, &document.text, 0..source.len(), own.as_ref()) {
            let line = document.text.line_of(rewrite.place.start) + 1;
            let after = apply(source, &rewrite.edits);
            let diff = TextDiff::from_lines(source, &after);
            let name = path.display().to_string();
            let diff = diff.unified_diff().context_radius(2).header(&name, &name).to_string();
            print(&format!("{}:{line}: {}: {}\n{diff}\n", path.display(), rewrite.rule, rewrite.title))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
