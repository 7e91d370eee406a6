//! `nestling eval`: measurements of models and of the engine.

mod completion;
mod fix;
mod optimize;
mod remote;
mod replay;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::completion::CompletionArgs;
pub(super) use self::completion::share;
use self::fix::FixArgs;
use self::optimize::OptimizeArgs;
use self::remote::RemoteEvalArgs;
use self::replay::ReplayArgs;
use super::{ModelArgs, print, print_json};
use crate::eval::completion::{Context as Known, Options, Report};
use crate::eval::greedy::{Greedy, greedy};
use crate::eval::infilling::{self, Checker, InfillingReport};
use crate::eval::perplexity::{LossReport, loss};
use crate::eval::{engine, machine, ngram, texts};
use crate::generation::{Generator, Model};
use crate::sandbox::{Limits, Sandbox};
use crate::suggest::{CompletionOptions, ModelCompleter};

#[derive(clap::Subcommand)]
pub(super) enum EvalCommand {
    /// Speed of the engine: tokens read and written per second
    Engine(EngineArgs),
    /// Bits per byte by language on repositories that the model was not trained on
    Loss(LossArgs),
    /// Completion at random places of repositories, how often exact and how often shown; variants compared
    Completion(Box<CompletionArgs>),
    /// Commits typed again into the server, key by key: keys saved, suggestions wrong, time and memory
    Replay(ReplayArgs),
    /// Files broken by one token, and how many are repaired, exactly and in what time
    Fix(Box<FixArgs>),
    /// Rewrites against their fixtures: how many right, how many that should not be
    Optimize(OptimizeArgs),
    /// What asking a remote model costs beside a bare socket
    Remote(RemoteEvalArgs),
    /// A line of a program, written by the model and run with the program's tests
    Infilling(InfillingArgs),
    /// The likeliest tokens after texts and how close each decision was: for comparing engines
    Tokens(TokensArgs),
    /// The index of a workspace: time to build it, its size, time of a question, for growing workspaces
    Memory(MemoryArgs),
    /// All of these but replay and tokens, in the form of a model card
    All(Box<AllArgs>),
}

#[derive(clap::Args)]
pub(super) struct EngineArgs {
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
}

#[derive(clap::Args)]
pub(super) struct TokensArgs {
    /// The texts to continue
    #[arg(required = true)]
    prompts: Vec<String>,
    /// Tokens at most after each
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// Go along these token ids first, and say what was likeliest at each of them
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    follow: Vec<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct RepoArgs {
    /// Folders, git repositories (bare ones too) or lists of them that the model was not trained on;
    /// DIR@REV reads a revision: a hash, tag or branch
    #[arg(long, required = true, num_args = 1.., value_name = "DIR[@REV]")]
    repo: Vec<PathBuf>,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct TextArgs {
    /// Bytes of each language at most, whole files drawn by the seed
    #[arg(long, default_value_t = 500_000)]
    max_bytes: usize,
    /// Only these languages
    #[arg(long, num_args = 1.., value_name = "NAME")]
    language: Vec<String>,
    /// Rests of lines in each language that are scored with the text on both sides
    #[arg(long, default_value_t = 50)]
    middles: usize,
    /// Compare with a 5-gram model of these folders, repositories or lists of them: those of the
    /// model's training
    #[arg(long, num_args = 1.., value_name = "CORPUS")]
    ngram: Vec<PathBuf>,
    /// Tokens that the 5-gram model counts at most; 8 bytes of memory each
    #[arg(long, default_value_t = 100_000_000)]
    ngram_tokens: usize,
}

#[derive(clap::Args)]
pub(super) struct LossArgs {
    #[command(flatten)]
    repos: RepoArgs,
    #[command(flatten)]
    texts: TextArgs,
}

#[derive(clap::Args)]
pub(super) struct MemoryArgs {
    /// Folders, git repositories or lists of them that the workspaces are put together from
    #[arg(long, required = true, num_args = 1.., value_name = "DIR[@REV]")]
    repo: Vec<PathBuf>,
    /// Millions of tokens of each workspace
    #[arg(long, value_name = "M[,M...]", value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 5.0])]
    sizes: Vec<f64>,
    /// Threads that read
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct SandboxArgs {
    /// Python with which programs are run
    #[arg(long, default_value = "python3")]
    python: String,
    /// Seconds after which a program is killed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Run programs without namespaces, where the system refuses them: network and files are then open
    #[arg(long)]
    weak_sandbox: bool,
}

#[derive(clap::Args)]
pub(super) struct InfillingArgs {
    /// HumanEval-Infilling's single lines, as .jsonl or .jsonl.gz
    #[arg(long, value_name = "FILE")]
    suite: PathBuf,
    /// Problems, drawn by the seed; all by default
    #[arg(long)]
    count: Option<usize>,
    /// Seed of the sample
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run the suite's own lines, too: whatever fails there fails because of this machine
    #[arg(long)]
    reference: bool,
    /// Write every line with what became of it to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct AllArgs {
    #[command(flatten)]
    repos: RepoArgs,
    #[command(flatten)]
    texts: TextArgs,
    /// HumanEval-Infilling's single lines, as .jsonl or .jsonl.gz
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// Places in each repository
    #[arg(long = "places", alias = "count", default_value_t = 300, value_name = "N")]
    count: usize,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

pub(super) fn run(command: EvalCommand, args: &ModelArgs) -> Result<ExitCode> {
    match command {
        EvalCommand::Engine(own) => {
            let model = args.load()?;
            let speed =
                engine::measure_rounds(&model, own.prompt_tokens, own.decode_tokens, own.rounds)?;
            show(own.json, &speed, || speed_line(&speed))?;
        }
        EvalCommand::Loss(own) => {
            let model = args.load()?;
            let report = measure_loss(&model, &own.repos, &own.texts)?;
            show(own.repos.json, &report, || report.to_string())?;
        }
        EvalCommand::Completion(own) => completion::measure(*own, args)?,
        EvalCommand::Remote(own) => return remote::run(own),
        EvalCommand::Replay(own) => replay::measure(own, args)?,
        EvalCommand::Optimize(own) => optimize::measure(own)?,
        EvalCommand::Fix(own) => fix::measure(*own, args)?,
        EvalCommand::Infilling(own) => {
            let (model, count) = (args.load()?, own.count);
            let mut suite = Suite::open(&own.suite, count, own.seed, &own.sandbox)?;
            if own.reference {
                suite.reference()?;
            }
            let generator = suite.model(Generator::new(model))?;
            let options = CompletionOptions::default();
            suite.service(&mut ModelCompleter::new(generator, options))?;
            if let Some(path) = &own.samples {
                let lines = suite.samples.iter().map(|s| s.to_string() + "\n");
                std::fs::write(path, lines.collect::<String>())
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            show(own.json, &suite.report, || suite.report.to_string())?;
        }
        EvalCommand::Tokens(own) => {
            let model = args.load()?;
            let each = own
                .prompts
                .iter()
                .map(|prompt| greedy(&model, prompt, own.max_tokens, &own.follow));
            let texts = each.collect::<Result<Vec<_>, _>>()?;
            let ids = |g: &Greedy| g.tokens.iter().map(|id| format!("{id} ")).collect::<String>();
            show(own.json, &json!({ "texts": texts }), || {
                texts.iter().map(|g| ids(g).trim_end().to_string() + "\n").collect()
            })?;
        }
        EvalCommand::Memory(own) => {
            let tokenizer = args.load()?.tokenizer;
            let repositories = texts::repositories(&own.repo, None)?;
            let sizes: Vec<usize> = own.sizes.iter().map(|m| (m * 1e6) as usize).collect();
            let mut steps = Steps::new("workspaces");
            let mut say = |done| steps.at(done, sizes.len());
            let report = crate::eval::memory::cost(
                &tokenizer,
                &repositories,
                &sizes,
                own.threads,
                &mut say,
            )?;
            drop(steps);
            show(own.json, &report, || report.to_string())?;
        }
        EvalCommand::All(own) => all(*own, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn all(own: AllArgs, args: &ModelArgs) -> Result<()> {
    // What can be refused is refused before anything takes time.
    let suite = own.suite.as_ref().map(|path| Suite::open(path, None, 1, &own.sandbox));
    let mut suite = suite.transpose()?;
    let model = args.load()?;
    let speed = engine::measure_rounds(&model, 512, 64, 5)?;
    let (name, size) = (model.name.clone(), model.file_size as f64 / 1e6);
    let tensors = model.config().tensors();
    let parameters: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let shape = format!("{parameters} parameters, {size:.1} MB");
    let losses = measure_loss(&model, &own.repos, &own.texts)?;
    let mut generator = Generator::new(model);
    if let Some(suite) = &mut suite {
        generator = suite.model(generator)?;
    }
    let mut completer = ModelCompleter::new(generator, CompletionOptions::default());
    if let Some(suite) = &mut suite {
        suite.service(&mut completer)?;
    }
    let both = rests(&mut completer, &own.repos, own.count, Known::Fim)?;
    let left = rests(&mut completer, &own.repos, own.count, Known::Left)?;
    let infilling = suite.map(|suite| suite.report);
    let (machine, version) = (machine::machine(), env!("CARGO_PKG_VERSION"));
    let value = json!({
        "version": version, "machine": machine, "model": name, "shape": shape, "engine": speed,
        "loss": losses, "completion": both, "completion_left_only": left, "infilling": infilling,
    });
    show(own.repos.json, &value, || {
        let mut text = format!("nestling {version}, model {name}: {shape}\n{machine}\n");
        text += &format!("\nEngine\n{}", speed_line(&speed));
        text += &format!("\nBits per byte, context {}\n{losses}", losses.context);
        text += &format!("\nRests of lines\n{both}\nRests of lines, text before alone\n{left}");
        if let Some(report) = &infilling {
            text += &format!("\n{}, pass@1\n{report}", report.suite);
        }
        text
    })
}

fn speed_line(speed: &engine::Speed) -> String {
    format!("prefill {:.0} tok/s, decode {:.0} tok/s\n", speed.prefill_tok_s, speed.decode_tok_s)
}

pub(super) fn show(
    json: bool,
    value: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> Result<()> {
    if json { print_json(value) } else { print(&text()) }
}

fn measure_loss(model: &Model, repos: &RepoArgs, own: &TextArgs) -> Result<LossReport> {
    let repositories = texts::repositories(&repos.repo, None)?;
    let sources = texts::sources(&own.ngram)?;
    let wanted =
        |language: &str| own.language.is_empty() || own.language.iter().any(|l| l == language);
    let files = repositories.into_iter().flat_map(|repository| repository.files);
    let files = files.filter(|f| wanted(f.language)).collect();
    let files = texts::sample(files, own.max_bytes, repos.seed);
    let counted = match sources.as_slice() {
        [] => None,
        sources => {
            let mut steps = Steps::new("5-gram model");
            let mut done = 0;
            let mut say = |_: &Path, _: usize| {
                done += 1;
                steps.at(done, sources.len());
            };
            Some(ngram::count(&model.tokenizer, sources, own.ngram_tokens, &mut say)?)
        }
    };
    let mut steps = Steps::new("bytes scored");
    let mut say = |what, done: usize, all: usize| {
        steps.bar.set_message(what);
        steps.at(done, all);
    };
    loss(model, counted.as_ref(), &files, own.middles, repos.seed, &mut say)
}

fn rests(
    completer: &mut ModelCompleter,
    repos: &RepoArgs,
    places: usize,
    context: Known,
) -> Result<Report> {
    let repositories = texts::repositories(&repos.repo, None)?;
    let options = Options { places, seed: repos.seed, context, ..Options::default() };
    completion::ask(&mut [("default".into(), completer)], &repositories, &options)
}

/// A suite, its checker, and the scores so far.
struct Suite {
    problems: Vec<infilling::Problem>,
    checker: Checker,
    report: InfillingReport,
    samples: Vec<serde_json::Value>,
}

impl Suite {
    fn open(path: &Path, count: Option<usize>, seed: u64, own: &SandboxArgs) -> Result<Suite> {
        let problems = infilling::read_suite(path, count, seed)?;
        let sandbox = if own.weak_sandbox {
            Sandbox::weak()
        } else {
            Sandbox::new().context("programs are not run here without --weak-sandbox")?
        };
        let time = Duration::from_secs(own.timeout);
        let limits = Limits { wall: time, cpu: time, ..Limits::default() };
        let checker = Checker::new(&own.python, sandbox, limits)?;
        let suite = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let suite = suite.split('.').next().unwrap_or_default().to_string();
        let report = InfillingReport { suite, scores: Vec::new() };
        Ok(Suite { problems, checker, report, samples: Vec::new() })
    }

    fn reference(&mut self) -> Result<()> {
        let lines = self.problems.iter().map(|p| p.canonical_solution.trim_end().to_string());
        self.score("reference", lines.collect(), Instant::now())
    }

    fn model(&mut self, mut generator: Generator) -> Result<Generator> {
        let (start, mut steps) = (Instant::now(), Steps::new("lines by the model"));
        let (problems, all) = (&self.problems, self.problems.len());
        let mut say = |done| steps.at(done, all);
        let lines = infilling::model_lines(&mut generator, problems, &mut say)?;
        self.score("model", lines, start)?;
        Ok(generator)
    }

    fn service(&mut self, completer: &mut ModelCompleter) -> Result<()> {
        let (start, mut steps) = (Instant::now(), Steps::new("lines by the service"));
        let all = self.problems.len();
        let mut say = |done| steps.at(done, all);
        let lines = infilling::service_lines(completer, &self.problems, &mut say);
        self.score("service", lines, start)
    }

    fn score(&mut self, writer: &'static str, lines: Vec<String>, start: Instant) -> Result<()> {
        let (mut steps, all) = (Steps::new("programs run"), self.problems.len());
        let mut say = |done| steps.at(done, all);
        let verdicts = self.checker.verdicts(&self.problems, &lines, &mut say)?;
        let score = infilling::score(writer, &self.problems, &lines, &verdicts, start.elapsed());
        self.report.scores.push(score);
        for ((problem, line), verdict) in self.problems.iter().zip(lines).zip(verdicts) {
            self.samples.push(json!({
                "task_id": problem.task_id, "completion": line + "\n", "writer": writer,
                "verdict": verdict,
            }));
        }
        Ok(())
    }
}

/// Progress on stderr: a bar on a terminal, elsewhere a line now and then.
pub(super) struct Steps {
    bar: ProgressBar,
    said: Instant,
}

impl Steps {
    pub(super) fn new(what: &'static str) -> Steps {
        let bar = ProgressBar::no_length().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta_precise}")
        {
            bar.set_style(style);
        }
        Steps { bar, said: Instant::now() }
    }

    pub(super) fn at(&mut self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && self.said.elapsed().as_secs() >= 20 {
            eprintln!("{}: {done} of {all}", self.bar.message());
            self.said = Instant::now();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
