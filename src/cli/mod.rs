//! The command line: one file per subcommand, and the only printer to stdout.

mod chat;
mod commit;
mod complete;
mod doctor;
mod document;
mod eval;
mod finetune;
mod fix;
mod generate;
mod memory;
mod model;
mod neighbour;
mod optimize;
mod project;
mod quantize;
mod remote;
mod serve;
mod settings;
mod train;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::generation::{Generator, Model, ModelSource};
use crate::model::engine::Precision;
use crate::store::{Choice, DEFAULT, Installed, Store};
use crate::suggest::{CompletionOptions, ModelCompleter};

/// A code model that lives in your editor: completion from a Transformer inside a language server.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    model: ModelArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 nothing found or gained; 2 wrong use; 3 failure";

#[derive(clap::Args, Clone)]
struct ModelArgs {
    /// A GGUF file or a Hugging Face model directory, instead of the model in use
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
    /// Repair files: what is broken, what checkers find, what tests show; differences on stdout, or --apply
    Fix(fix::FixArgs),
    /// Make files faster: rewrites that are known to help, each with what was proven of it
    Optimize(optimize::OptimizeArgs),
    /// Talk about a repository: questions, commands as /explain and /apply; sources are shown
    Chat(chat::ChatArgs),
    /// Write documentation comments for functions that have none; differences on stdout, or --apply
    Document(document::DocumentArgs),
    /// Write a message for what is about to be committed
    CommitMessage(commit::CommitArgs),
    /// The key of a server in the keyring of the system
    #[command(subcommand)]
    Remote(remote::RemoteCommand),
    /// Allow checkers to run code of a workspace, on a copy of it
    Trust(trust::TrustArgs),
    /// Continue a text
    Generate(generate::GenerateArgs),
    /// The models of a workspace: which is in use, what it is, another one
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// The settings that an editor can send
    Settings(settings::SettingsArgs),
    /// Say what works here, what does not, and why
    Doctor(doctor::DoctorArgs),
    /// Train a model from folders and git repositories; always anew or from --model, whatever is in use
    Train(train::TrainArgs),
    /// Let the model learn a repository; it is installed there if it is better, else nothing changes
    Finetune(finetune::FinetuneArgs),
    /// Write a model as one GGUF file
    Quantize(quantize::QuantizeArgs),
    /// What is known of a repository: read it, or fit what is made of it
    #[command(subcommand)]
    Memory(memory::MemoryCommand),
    /// Measure models and the engine: --model or the one inside the program, whatever is in use
    #[command(subcommand)]
    Eval(eval::EvalCommand),
}

impl ModelArgs {
    fn source(&self) -> ModelSource {
        self.model.clone().map_or(ModelSource::Embedded, ModelSource::Path)
    }

    /// The model that was given, or the one inside the program, whatever is in use: for what must come out the same
    /// everywhere.
    fn load(&self) -> anyhow::Result<Model> {
        self.load_from(&self.source())
    }

    fn load_from(&self, source: &ModelSource) -> anyhow::Result<Model> {
        let precision = if self.float { Precision::Float } else { Precision::Quantized };
        Ok(Model::load(source, precision)?)
    }

    /// The model that was given, or the one that the workspace around `path` uses. One that does not work is named
    /// on stderr, and the one inside the program takes its place.
    fn load_for(&self, path: &Path) -> anyhow::Result<InUse> {
        if self.model.is_none()
            && let Some(store) = Store::of_user()
        {
            let (name, reason) = match store.workspace(path).in_use() {
                Choice::Default => return self.load_installed(None),
                Choice::Missing { name, reason } => (name, reason),
                Choice::Installed(model) => match self.load_installed(Some(&model)) {
                    Ok(loaded) => return Ok(loaded),
                    Err(error) => (model.name, format!("{error:#}")),
                },
            };
            let reason = reason.replace('\n', " ");
            eprintln!("nestling: the model {name} cannot be used, {DEFAULT} is in use: {reason}");
        }
        self.load_installed(None)
    }

    /// An installed model with what lies beside it; the model that was given, or the one inside the program, without.
    fn load_installed(&self, installed: Option<&Installed>) -> anyhow::Result<InUse> {
        let Some(installed) = installed else {
            let mut model = self.load()?;
            if self.model.is_none() {
                model.name = DEFAULT.into();
            }
            return Ok(InUse { model, installed: None });
        };
        let mut model = self.load_from(&ModelSource::Path(installed.folder.clone()))?;
        model.name = installed.name.clone();
        Ok(InUse { model, installed: Some(installed.clone()) })
    }
}

/// A loaded model, and where it is installed if it is.
struct InUse {
    model: Model,
    installed: Option<Installed>,
}

impl InUse {
    /// A completer with the gate and the scale of answers that belong to the model, as far as it brought them.
    fn completer(self) -> ModelCompleter {
        let options = CompletionOptions { store: store(), ..CompletionOptions::default() };
        let mut completer = ModelCompleter::new(Generator::new(self.model), options);
        if let Some(installed) = &self.installed {
            if let Some(gate) = beside(installed, "gate.json") {
                completer.set_gate(gate);
            }
            if let Some(confidence) = beside(installed, "confidence.json") {
                completer.set_confidence(confidence);
            }
        }
        completer
    }
}

/// What a file beside an installed model holds; a broken one counts as missing.
fn beside<T: serde::de::DeserializeOwned>(installed: &Installed, file: &str) -> Option<T> {
    let text = installed.text(file)?;
    serde_json::from_str(&text)
        .inspect_err(|error| tracing::warn!("{file} of {} is not used: {error}", installed.name))
        .ok()
}

/// Parses the arguments, runs the command, turns its result into an exit code.
pub fn run() -> ExitCode {
    limit_threads();
    let args = Args::parse();
    log_to_stderr();
    let result = match args.command {
        Command::Serve(own) => serve::run(own, &args.model),
        Command::Complete(own) => complete::run(own, &args.model),
        Command::Fix(own) => fix::run(own, &args.model),
        Command::Optimize(own) => optimize::run(own, &args.model),
        Command::Chat(own) => chat::run(own, &args.model),
        Command::Document(own) => document::run(own, &args.model),
        Command::CommitMessage(own) => commit::run(own),
        Command::Remote(own) => remote::run(own),
        Command::Trust(own) => trust::run(own),
        Command::Generate(own) => generate::run(own, &args.model),
        Command::Model(own) => model::run(own, &args.model),
        Command::Settings(own) => settings::run(own),
        Command::Doctor(own) => doctor::run(own, &args.model),
        Command::Train(own) => train::run(own, &args.model),
        Command::Finetune(own) => finetune::run(own, &args.model),
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
    // What is wrong with a certificate is said by whoever asked.
    let filter = tracing_subscriber::EnvFilter::try_from_env("NESTLING_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("warn,rustls_platform_verifier=off")
    });
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
