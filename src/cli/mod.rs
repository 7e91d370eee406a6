//! The command line: one file per subcommand, and the only printer to stdout.

mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A code model that lives in your editor.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model from folders and git repositories
    Train(train::TrainArgs),
}

/// Parses the arguments, runs the command, turns its result into an exit code.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Train(args) => train::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nestling: {error:#}");
            ExitCode::from(3)
        }
    }
}


/// Prints one JSON object to stdout.
#[allow(clippy::print_stdout)] // The answer of a command; the server never runs this.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
