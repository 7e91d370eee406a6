//! `nestling commit-message`: a message for what is about to be committed, in the manner of the repository.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{print, print_json};
use crate::suggest::message::{SUBJECTS, message};
use crate::workspace::Repository;

#[derive(clap::Args)]
pub(super) struct CommitArgs {
    /// A folder of the repository
    #[arg(long, default_value = ".", value_name = "DIR")]
    repo: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: CommitArgs) -> Result<ExitCode> {
    let repository = Repository::around(&args.repo)?;
    let (changes, is_staged) = repository.pending()?;
    if changes.is_empty() {
        eprintln!("nestling: nothing has changed in {}", repository.root().display());
        return Ok(ExitCode::from(1));
    }
    let branch = repository.branch();
    let text = message(&changes, &repository.subjects(SUBJECTS), branch.as_deref());
    if !is_staged {
        eprintln!("nestling: nothing is staged: this is about all changes of files that git knows");
    }
    if args.json {
        let files: Vec<&String> = changes.iter().map(|change| &change.path).collect();
        print_json(&json!({ "message": text, "staged": is_staged, "files": files }))?;
    } else {
        print(&format!("{text}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
