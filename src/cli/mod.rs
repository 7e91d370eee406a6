//! The command line: one file per subcommand, and the only printer to stdout.

mod complete;
mod doctor;
mod eval;
mod generate;
mod memory;
mod model;
mod quantize;
mod serve;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::generation::{Model, ModelSource};
use crate::model::engine::Precision;

/// A code model that lives in your editor: completion from a Transformer inside a language server.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    model: ModelArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 nothing found; 2 wrong use; 3 failure";

#[derive(clap::Args, Clone)]
struct ModelArgs {
    /// A GGUF file or a Hugging Face model directory, instead of the model inside the program
    #[arg(long, global = true, value_name = "PATH", env = "NESTLING_MODEL")]
    model: Option<PathBuf>,
    /// Compute with f32 weights: slower, for comparisons
    #[arg(long, global = true, hide = true)]
    float: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the language server on stdin and stdout
    Serve(serve::ServeArgs),
    /// Complete the code at a place in a file
    Complete(complete::CompleteArgs),
    /// Continue a text
    Generate(generate::GenerateArgs),
    /// Say which model is in use and what it is
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Say what works here, what does not, and why
    Doctor(doctor::DoctorArgs),
    /// Train a model from folders and git repositories
    Train(train::TrainArgs),
    /// Write a model as one GGUF file
    Quantize(quantize::QuantizeArgs),
    /// What is known of a repository: read it, or fit what is made of it
    #[command(subcommand)]
    Memory(memory::MemoryCommand),
    /// Measure models and the engine
    #[command(subcommand)]
    Eval(eval::EvalCommand),
}

impl ModelArgs {
    fn source(&self) -> ModelSource {
        self.model.clone().map_or(ModelSource::Embedded, ModelSource::Path)
    }

    fn load(&self) -> anyhow::Result<Model> {
        let precision = if self.float { Precision::Float } else { Precision::Quantized };
        Ok(Model::load(&self.source(), precision)?)
    }
}

/// Parses the arguments, runs the command, turns its result into an exit code.
pub fn run() -> ExitCode {
    limit_threads();
    let args = Args::parse();
    log_to_stderr();
    let result = match args.command {
        Command::Serve(own) => serve::run(own, &args.model),
        Command::Complete(own) => complete::run(own, &args.model),
        Command::Generate(own) => generate::run(own, &args.model),
        Command::Model(own) => model::run(own, &args.model),
        Command::Doctor(own) => doctor::run(own, &args.model),
        Command::Train(own) => train::run(own, &args.model),
        Command::Quantize(own) => quantize::run(own),
        Command::Memory(own) => memory::run(own, &args.model),
        Command::Eval(own) => eval::run(own, &args.model),
    };
    result.unwrap_or_else(|error| {
        eprintln!("nestling: {error:#}");
        ExitCode::from(3)
    })
}

/// Where indexes of workspaces are kept: the user's cache folder; nowhere if there is none.
fn store() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("nestling"))
}

/// candle and gemm read these once, before their first operation. One core is left to the editor when
/// there are more than two.
fn limit_threads() {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = if cores > 2 { cores - 1 } else { cores }.min(16);
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if std::env::var_os(name).is_none() {
            // SAFETY: the first thing the program does; no other thread exists yet.
            unsafe { std::env::set_var(name, threads.to_string()) };
        }
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NESTLING_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Wrong use that clap cannot see: exit code 2.
fn wrong_use(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("nestling: {message}");
    ExitCode::from(2)
}

/// Prints text to stdout; a closed pipe ends the output, not the program.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Prints one JSON object to stdout.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}
