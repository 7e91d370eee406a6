//! `nestling trust`: whether code of a workspace may be run, as build scripts and macros are by checkers.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::wrong_use;
use crate::store::Store;

#[derive(clap::Args)]
pub(super) struct TrustArgs {
    /// The workspace
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Do not trust it any more
    #[arg(long)]
    revoke: bool,
}

pub(super) fn run(args: TrustArgs) -> Result<ExitCode> {
    if !args.folder.exists() {
        return Ok(wrong_use(format!("{}: no such folder", args.folder.display())));
    }
    let store = Store::of_user().context("there is no data folder: set NESTLING_DATA")?;
    let workspace = store.workspace(&args.folder);
    workspace.set_trusted(!args.revoke)?;
    let root = workspace.root().display();
    match args.revoke {
        true => eprintln!("{root} is not trusted"),
        false => {
            eprintln!("{root} is trusted: checkers that run its code may be run, on a copy of it")
        }
    }
    Ok(ExitCode::SUCCESS)
}
