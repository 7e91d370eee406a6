//! `nestling trust`: whether code of a workspace may be run, as build scripts and macros are by checkers, and whether
//! code may be sent to a server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::wrong_use;
use crate::config::Remote;
use crate::store::Store;

#[derive(clap::Args)]
pub(super) struct TrustArgs {
    /// The workspace
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Trust a server instead: code may be sent there when a setting names it
    #[arg(long, value_name = "URL", conflicts_with = "folder")]
    remote: Option<String>,
    /// Do not trust it any more
    #[arg(long)]
    revoke: bool,
}

pub(super) fn run(args: TrustArgs) -> Result<ExitCode> {
    let store = || Store::of_user().context("there is no data folder: set NESTLING_DATA");
    if let Some(url) = &args.remote {
        let remote = match Remote::at(url) {
            Ok(remote) => remote,
            Err(reason) => return Ok(wrong_use(format!("--remote {reason}"))),
        };
        let origin = remote.origin();
        store()?.allow_remote(origin, !args.revoke)?;
        match args.revoke {
            true => eprintln!("nothing is sent to {origin} any more"),
            false => {
                eprintln!("{origin} is trusted: code may be sent there when a setting names it")
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.folder.exists() {
        return Ok(wrong_use(format!("{}: no such folder", args.folder.display())));
    }
    let workspace = store()?.workspace(&args.folder);
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
