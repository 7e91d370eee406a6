//! `nestling serve`: the language server on stdin and stdout.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use super::ModelArgs;
use super::remote::RemoteArgs;
use crate::server::{ServeOptions, serve};
use crate::store::{Installed, Store};
use crate::suggest::{Completer, fallback};

#[derive(clap::Args)]
pub(super) struct ServeArgs {
    /// Accepted because editors pass it; it is the only way
    #[arg(long, hide = true)]
    stdio: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: ServeArgs, model: &ModelArgs) -> Result<ExitCode> {
    let remote = match args.remote.client(None) {
        Ok(remote) => remote,
        Err(code) => return Ok(code),
    };
    let (model, given) = (model.clone(), model.model.clone());
    let factory = move |installed: Option<&Installed>| -> Result<Box<dyn Completer>> {
        Ok(Box::new(model.load_installed(installed)?.completer()))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("nestling-io")
        .enable_all()
        .build()?;
    let options = ServeOptions {
        factory: Arc::new(factory),
        store: Store::of_user(),
        model: given,
        remote,
        fallback,
    };
    let code = runtime.block_on(serve(options, tokio::io::stdin(), tokio::io::stdout()));
    // A running generation or the blocking read of stdin would delay an orderly end.
    std::process::exit(code)
}
