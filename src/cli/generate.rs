//! `nestling generate PROMPT`: continues a text, printing as it goes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::{ModelArgs, print, wrong_use};
use crate::generation::{CancelToken, Flow, GenerateOptions, Generator};
use crate::library::Model;

#[derive(clap::Args)]
pub(super) struct GenerateArgs {
    /// The text to continue
    prompt: String,
    /// Tokens at most
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_tokens: u32,
    /// 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Seed of sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: GenerateArgs, model: &ModelArgs) -> Result<ExitCode> {
    if !(0.0..=10.0).contains(&args.temperature) {
        return Ok(wrong_use("--temperature must lie in 0…10"));
    }
    let mut model = Model::from(Generator::new(model.load_for(Path::new("."))?.model));
    let options = GenerateOptions {
        max_tokens: args.max_tokens as usize,
        temperature: args.temperature,
        seed: args.seed,
        ..GenerateOptions::default()
    };
    let mut broken = Ok(());
    model.stream(&args.prompt, &options, &CancelToken::new(), &mut |piece| {
        broken = print(piece);
        if broken.is_ok() { Flow::Continue } else { Flow::Stop }
    })?;
    broken?;
    print("\n")?;
    Ok(ExitCode::SUCCESS)
}
