//! `nestling settings`: the settings that an editor can send, with their defaults; as a JSON Schema with `--json`.

use std::process::ExitCode;

use anyhow::Result;

use super::{print, print_json};
use crate::config::{SETTINGS, schema};

#[derive(clap::Args)]
pub(super) struct SettingsArgs {
    /// Print a JSON Schema
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: SettingsArgs) -> Result<ExitCode> {
    if args.json {
        print_json(&schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    for setting in SETTINGS {
        let default = setting.schema()["default"].to_string();
        print(&format!("{:<22}{default:<10}{}\n", setting.name, setting.about))?;
    }
    Ok(ExitCode::SUCCESS)
}
