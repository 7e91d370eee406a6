//! `nestling memory`: the index of a repository, and what the program ships with beside its model.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::eval::{Steps, show};
use super::{ModelArgs, store};
use crate::eval::{fitting, texts};
use crate::memory::segment::SegmentBuilder;
use crate::memory::{Memory, chunks, fingerprint, general};
use crate::train::documents::Documents;

#[derive(clap::Subcommand)]
pub(super) enum MemoryCommand {
    /// Read a repository, as the editor does by itself, and say what is known of it
    Index(IndexArgs),
    /// Fit the gate between model and memory, and the scale of answers, on repositories
    Fit(FitArgs),
    /// Make the table of general code from a prepared corpus
    Table(TableArgs),
}

#[derive(clap::Args)]
pub(super) struct IndexArgs {
    /// The repository's folder
    #[arg(default_value = ".")]
    repo: PathBuf,
    /// Forget what was kept and read everything
    #[arg(long)]
    fresh: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct FitArgs {
    /// Folders, git repositories or lists of them that the model was not trained on
    #[arg(long, required = true, num_args = 1.., value_name = "DIR[@REV]")]
    repo: Vec<PathBuf>,
    /// Write gate.json and confidence.json into this folder; without it, only measure
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Fit the scale of answers to lines that are new since this share of the history, 0 to 1: what people type
    #[arg(long, value_name = "SHARE", value_parser = super::eval::share)]
    since: Option<f64>,
    /// Windows of 192 tokens in each repository
    #[arg(long, default_value_t = 80)]
    windows: usize,
    /// Places of each kind in each repository
    #[arg(long, default_value_t = 100)]
    places: usize,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct TableArgs {
    /// The prepared corpus: the folder `data` of a training
    data: PathBuf,
    /// Write the table to this file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Bytes of the table at most
    #[arg(long, default_value_t = 10_000_000)]
    max_bytes: usize,
    /// Tokens that are counted at most; 24 bytes of memory each
    #[arg(long, default_value_t = 100_000_000)]
    tokens: usize,
}

pub(super) fn run(command: MemoryCommand, args: &ModelArgs) -> Result<ExitCode> {
    match command {
        MemoryCommand::Index(own) => index(own, args)?,
        MemoryCommand::Fit(own) => fit(own, args)?,
        MemoryCommand::Table(own) => table(own, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn index(own: IndexArgs, args: &ModelArgs) -> Result<()> {
    if !own.repo.is_dir() {
        bail!("{}: is no folder. Name the folder of a repository.", own.repo.display());
    }
    let root = std::fs::canonicalize(&own.repo)?;
    let store = store();
    let tokenizer = args.load_for(&root)?.model.tokenizer;
    let open = || Memory::open(&root, store.as_deref(), tokenizer.clone());
    let mut memory = open();
    if own.fresh {
        memory.forget();
        memory = open();
    }
    let steps = parking_lot::Mutex::new(Steps::new("files"));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let say = |p: crate::memory::IndexProgress| steps.lock().at(p.files, p.of);
    let update = memory.update(threads, &say, &|| true)?;
    drop(steps);
    show(own.json, &json!({ "root": root, "store": store, "index": update }), || {
        let each = |bytes: usize| bytes as f64 / update.tokens.max(1) as f64;
        format!(
            "{}: {} files, {} tokens; {} files read now\n{:.1} bytes a token, and {:.1} to retrieve \
             lines\nread {:.2} s, sorted {:.2} s, retrieval {:.2} s\n",
            root.display(),
            update.files,
            update.tokens,
            update.read,
            each(update.bytes),
            each(update.retrieval_bytes),
            update.read_seconds,
            update.sort_seconds,
            update.retrieval_seconds
        )
    })
}

fn fit(own: FitArgs, args: &ModelArgs) -> Result<()> {
    let repositories = texts::repositories(&own.repo, own.since)?;
    let model = args.load()?;
    let mut steps = Steps::new("windows");
    let all = own.windows * repositories.len();
    let mut say = |done| steps.at(done, all);
    let gathered = fitting::gather(&model, &repositories, own.windows, own.seed, &mut say)?;
    drop(steps);
    let bits: Vec<fitting::Bits> = gathered.iter().map(fitting::bits).collect();
    if let Some(out) = &own.out {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let gate = fitting::gate(&gathered);
        let mut steps = Steps::new("places");
        let all = fitting::KINDS * own.places * repositories.len();
        let mut say = |done| steps.at(done, all);
        let (places, seed) = (own.places, own.seed);
        let scale =
            fitting::confidence(model, &gate, &repositories, &gathered, places, seed, &mut say);
        drop(steps);
        let write = |name: &str, json: String| {
            let path = out.join(name);
            std::fs::write(&path, json + "\n")
                .with_context(|| format!("cannot write {}", path.display()))
        };
        write("gate.json", serde_json::to_string(&gate)?)?;
        write("confidence.json", serde_json::to_string(&scale)?)?;
    }
    show(own.json, &json!({ "bits": bits }), || {
        let mut text = "bits per token: model alone, one weight, gate (lower by), refitted half against before\n"
            .to_string();
        for b in &bits {
            text += &format!(
                "{}: {:.3}, {:.3}, {:.3} ({:.1} %), {:.3} against {:.3}\n",
                b.repository, b.model, b.fixed, b.mixed, b.lower, b.refitted.0, b.refitted.1
            );
        }
        text
    })
}

fn table(own: TableArgs, args: &ModelArgs) -> Result<()> {
    let tokenizer = args.load()?.tokenizer;
    let documents = Documents::open(&own.data)?;
    let mut order: Vec<usize> = (0..documents.list().len()).collect();
    order.sort_by_key(|&i| (documents.list()[i].repository, documents.list()[i].path.clone()));
    let mut builder = SegmentBuilder::new(tokenizer.vocab_size());
    let (mut chunks, mut tokens) = (chunks::Chunks::default(), Vec::new());
    let mut steps = Steps::new("documents");
    for (done, &index) in order.iter().enumerate() {
        let document = &documents.list()[index];
        tokens.clear();
        chunks.encode(&tokenizer, &documents.text(index), &mut tokens);
        if builder.tokens() + tokens.len() > own.tokens {
            break;
        }
        builder.add(&format!("{}/{}", document.repository, document.path), 0, &tokens);
        steps.at(done + 1, order.len());
    }
    drop(steps);
    let (counted, name) = (builder.tokens(), fingerprint(&tokenizer));
    let corpus = builder.build(name)?;
    let mut steps = Steps::new("contexts");
    let mut say = |done, all| steps.at(done, all);
    let bytes = general::distil(&corpus, tokenizer.vocab_size(), name, own.max_bytes, &mut say)?;
    drop(steps);
    std::fs::write(&own.out, &bytes)
        .with_context(|| format!("cannot write {}", own.out.display()))?;
    let contexts = general::General::read(&bytes, name)?.contexts();
    super::print(&format!(
        "{}: {contexts} contexts, {} bytes, of {counted} tokens\n",
        own.out.display(),
        bytes.len()
    ))
}
