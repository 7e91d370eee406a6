//! `nestling generate PROMPT`: continues a text, printing as it goes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::{ModelArgs, print, wrong_use};
use crate::generation::{CancelToken, Flow, GenerateOptions, Generator, Prompt};

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
    let mut generator = Generator::new(model.load_for(Path::new("."))?.model);
    let model = generator.model();
    let mut tokens = model.tokenizer.encode(&args.prompt);
    if tokens.is_empty() {
        tokens.push(model.tokenizer.special("<|end|>").unwrap_or(0));
    }
    let room = model.engine.context().saturating_sub(args.max_tokens.min(256) as usize);
    let tokens = tokens.split_off(tokens.len().saturating_sub(room.max(1)));
    let options = GenerateOptions {
        max_tokens: args.max_tokens as usize,
        temperature: args.temperature,
        seed: args.seed,
        ..GenerateOptions::default()
    };
    let mut printed = 0;
    let mut broken = Ok(());
    let prompt = Prompt { tokens, ..Prompt::default() };
    generator.generate(
        "",
        &prompt,
        &options,
        None,
        &mut |generated| {
            broken = print(&generated.text[printed..]);
            printed = generated.text.len();
            if broken.is_ok() { Flow::Continue } else { Flow::Stop }
        },
        &CancelToken::new(),
    )?;
    broken?;
    print("\n")?;
    Ok(ExitCode::SUCCESS)
}
