//! `nestling serve`: the language server on stdin and stdout.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use super::{ModelArgs, store};
use crate::generation::Generator;
use crate::server::{ServeOptions, serve};
use crate::suggest::{Completer, CompletionOptions, ModelCompleter, fallback};

#[derive(clap::Args)]
pub(super) struct ServeArgs {
    /// Accepted because editors pass it; it is the only way
    #[arg(long, hide = true)]
    stdio: bool,
}

pub(super) fn run(_args: ServeArgs, model: &ModelArgs) -> Result<ExitCode> {
    let model = model.clone();
    let factory = move || -> Result<Box<dyn Completer>> {
        let generator = Generator::new(model.load()?);
        let options = CompletionOptions { store: store(), ..CompletionOptions::default() };
        Ok(Box::new(ModelCompleter::new(generator, options)))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("nestling-io")
        .enable_all()
        .build()?;
    let options = ServeOptions { factory: Arc::new(factory), fallback };
    let code = runtime.block_on(serve(options, tokio::io::stdin(), tokio::io::stdout()));
    // A running generation or the blocking read of stdin would delay an orderly end.
    std::process::exit(code)
}
