//! `nestling eval replay`: commits typed again into the server.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{ModelArgs, Steps, show};
use crate::eval::replay::{ReplayOptions, replay};
use crate::eval::{machine, texts};

#[derive(clap::Args)]
pub(in crate::cli) struct ReplayArgs {
    /// A git repository; DIR@REV ends with that revision instead of HEAD
    #[arg(long, value_name = "DIR[@REV]")]
    repo: PathBuf,
    /// Type the last N commits that are no merges and change code
    #[arg(long, default_value_t = 10, value_name = "N")]
    commits: usize,
    /// Milliseconds from key to key; at the ends of lines eight times as long
    #[arg(long, default_value_t = 60, value_name = "MS")]
    key_ms: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn measure(own: ReplayArgs, args: &ModelArgs) -> Result<()> {
    let sources = texts::sources(std::slice::from_ref(&own.repo))?;
    let [source] = sources.as_slice() else {
        bail!("{} is a list; name one repository of it", own.repo.display());
    };
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let mut server = || {
        let mut command = Command::new(&program);
        command.arg("serve");
        if let Some(model) = &args.model {
            command.arg("--model").arg(model);
        }
        if args.float {
            command.arg("--float");
        }
        command
    };
    let options = ReplayOptions { commits: own.commits, key: Duration::from_millis(own.key_ms) };
    let mut steps = Steps::new("commits typed");
    let report = replay(source, &mut server, &options, &mut |done, all| steps.at(done, all))?;
    let mut value = serde_json::to_value(&report)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("key_ms".into(), json!(own.key_ms));
        fields.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        fields.insert("machine".into(), json!(machine::machine()));
    }
    show(own.json, &value, || report.to_string())
}
