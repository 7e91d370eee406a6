//! The options that name a remote model.

use super::wrong_use;
use crate::config::{PROTOCOLS, Remote};
use crate::remote::RemoteModel;

use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args, Clone)]
pub(super) struct RemoteArgs {
    /// Ask this server as well: the code around the cursor is sent there, with the key in NESTLING_REMOTE_KEY
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
