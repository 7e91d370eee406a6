//! `nestling eval`: measurements of models and of the engine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::{ModelArgs, print, print_json};
use crate::eval::{completion, engine};
use crate::generation::Generator;
use crate::suggest::{CompletionOptions, ModelCompleter};

#[derive(clap::Subcommand)]
pub(super) enum EvalCommand {
    /// Speed of the engine: tokens read and written per second
    Engine {
        /// Tokens of the prompt
        #[arg(long, default_value_t = 512)]
        prompt_tokens: usize,
        /// Tokens generated after it
        #[arg(long, default_value_t = 64)]
        decode_tokens: usize,
        /// Repetitions; the median is printed
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Rests of lines at random places of a repository, exactly completed
    Completion {
        /// A folder or git repository that the model was not trained on
        #[arg(long)]
        repo: PathBuf,
        /// Places
        #[arg(long, default_value_t = 200)]
        count: usize,
        /// Seed of the places
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: EvalCommand, args: &ModelArgs) -> Result<ExitCode> {
    match command {
        EvalCommand::Engine { prompt_tokens, decode_tokens, rounds, json } => {
            let model = args.load()?;
            let speed = engine::measure_rounds(&model, prompt_tokens, decode_tokens, rounds)?;
            if json {
                print_json(&speed)?;
            } else {
                print(&format!(
                    "prefill {:.0} tok/s, decode {:.0} tok/s\n",
                    speed.prefill_tok_s, speed.decode_tok_s
                ))?;
            }
        }
        EvalCommand::Completion { repo, count, seed, json } => {
            let generator = Generator::new(args.load()?);
            let mut completer = ModelCompleter::new(generator, CompletionOptions::default());
            let report = completion::line_rests(&mut completer, &repo, count, seed)?;
            if json {
                print_json(&report)?;
            } else {
                print(&report.to_string())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
