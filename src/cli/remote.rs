//! The options that name a remote model, and `nestling remote`: its key in the keyring of the system.

use std::io::{BufRead, IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::wrong_use;
use crate::config::{KEY_VARIABLE, PROTOCOLS, Remote};
use crate::remote::{RemoteModel, log_in, log_out};

#[derive(clap::Subcommand)]
pub(super) enum RemoteCommand {
    /// Put the key of a server into the keyring of the system: typed unseen, or from a pipe
    Login {
        /// The server; its scheme, host and port count
        url: String,
    },
    /// Take it out again
    Logout {
        /// The server
        url: String,
    },
}

pub(super) fn run(command: RemoteCommand) -> Result<ExitCode> {
    let (RemoteCommand::Login { url } | RemoteCommand::Logout { url }) = &command;
    let remote = match Remote::at(url) {
        Ok(remote) => remote,
        Err(reason) => return Ok(wrong_use(format!("the address {reason}"))),
    };
    let origin = remote.origin();
    let failed = |reason: String| anyhow!(reason);
    if matches!(command, RemoteCommand::Logout { .. }) {
        let was_there = log_out(origin, KEY_VARIABLE).map_err(failed)?;
        let told = if was_there { "is out of the keyring" } else { "is not in the keyring" };
        eprintln!("nestling: the key for {origin} {told}");
        return Ok(if was_there { ExitCode::SUCCESS } else { ExitCode::from(1) });
    }
    log_in(origin, &typed_key(origin)?, KEY_VARIABLE).map_err(failed)?;
    eprintln!("nestling: the key for {origin} is in the keyring");
    if std::env::var_os(KEY_VARIABLE).is_some() {
        eprintln!("nestling: {KEY_VARIABLE} is set, and what it holds counts before that");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is typed, and not shown; the first line where nobody types.
fn typed_key(origin: &str) -> Result<String> {
    /// Longer is no key.
    const LONGEST: u64 = 16 << 10;
    let key = match std::io::stdin().is_terminal() {
        true => rpassword::prompt_password(format!("Key for {origin}: ")),
        false => {
            let mut line = String::new();
            std::io::stdin().lock().take(LONGEST).read_line(&mut line).map(|_| line)
        }
    };
    Ok(key.context("the key cannot be read")?.trim().to_string())
}

#[derive(clap::Args, Clone)]
pub(super) struct RemoteArgs {
    /// Ask this server as well: the code around the cursor is sent there, with the key in NESTLING_REMOTE_KEY or the keyring
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
    /// How it is asked
    #[arg(long, requires = "remote", value_parser = PROTOCOLS, default_value = PROTOCOLS[0])]
    protocol: String,
    /// The model there
    #[arg(
        long,
        requires = "remote",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    remote_model: String,
    /// The family of that model, if its server does not know a suffix: qwen2.5-coder, starcoder, …
    #[arg(
        long,
        requires = "remote",
        value_name = "FAMILY",
        default_value = "",
        hide_default_value = true
    )]
    markers: String,
}

impl RemoteArgs {
    /// The client for it; `None` if none was named. Wrong use is told, with the exit code.
    pub(super) fn client(
        &self,
        patience: Option<Duration>,
    ) -> Result<Option<RemoteModel>, ExitCode> {
        let Some(url) = &self.remote else { return Ok(None) };
        let remote = Remote::at(url).map_err(|reason| format!("--remote {reason}"));
        let remote = remote.and_then(|remote| remote.with_protocol(&self.protocol));
        let client = remote.and_then(|remote| {
            let (model, markers) = (self.remote_model.clone(), self.markers.clone());
            RemoteModel::new(Remote { model, markers, ..remote }, patience)
        });
        client.map(Some).map_err(wrong_use)
    }
}
