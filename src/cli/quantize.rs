//! `nestling quantize MODEL --out FILE`: a model as one GGUF file, as small as it can be.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use crate::eval::compression::{CompressionOptions, CompressionReport, compress};
use crate::model::quantize::{BlockType, uniform, write_gguf};
use crate::model::weights::Weights;
use crate::train::corpus;
use crate::train::plot::{Axes, Series, svg};

#[derive(clap::Args)]
pub(super) struct QuantizeArgs {
    /// A model directory or GGUF file
    source: PathBuf,
    /// The GGUF file to write
    #[arg(long)]
    out: PathBuf,
    /// Type of the matrices; auto chooses for each of them, measured on --repo
    #[arg(long = "type", default_value = "q8_0", value_parser = ["f32", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "auto"])]
    kind: String,
    /// Code to measure on, which the model was not trained on
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// auto: size of the matrices at most, in percent of Q8_0
    #[arg(long, default_value_t = 50.0, value_name = "PERCENT")]
    max_size: f64,
    /// auto: points of exact match that may be lost
    #[arg(long, default_value_t = 0.5, value_name = "PERCENT")]
    max_loss: f64,
    /// auto: places of the exact match
    #[arg(long, default_value_t = 400)]
    count: usize,
    /// auto: seed of the places
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// auto: draw size against divergence and speed into this SVG file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print the table as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: QuantizeArgs) -> Result<ExitCode> {
    if args.kind == "auto" {
        return auto(&args);
    }
    let weights = Weights::open(&args.source)?;
    let name = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let kind = BlockType::ALL.into_iter().find(|kind| kind.name() == args.kind);
    let kind = kind.context("clap lets no other type through")?;
    let types = uniform(&weights, kind);
    let other: Vec<&String> =
        types.iter().filter(|(_, fitting)| **fitting != kind).map(|(name, _)| name).collect();
    if let [first, ..] = other[..] {
        let larger = types[first].name();
        eprintln!(
            "{} matrices keep a larger type, {first} for one {larger}: their rows are no whole blocks of {}",
            other.len(),
            kind.name()
        );
    }
    write_gguf(&weights, &name, &types, &args.out)?;
    let after = std::fs::metadata(&args.out)?.len();
    eprintln!("{}: {:.1} MB", args.out.display(), after as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}

fn auto(args: &QuantizeArgs) -> Result<ExitCode> {
    let Some(repo) = &args.repo else {
        return Ok(super::wrong_use("--type auto measures on code: name a repository with --repo"));
    };
    let options = CompressionOptions {
        share: args.max_size / 100.0,
        max_loss: args.max_loss,
        min_agreement: 0.97,
        places: args.count,
        seed: args.seed,
    };
    let files = corpus::read(repo)?;
    let bar = ProgressBar::no_length();
    let report = compress(&args.source, &files, &options, &args.out, &mut |what, done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(what.to_string());
    })?;
    bar.finish_and_clear();
    if let Some(path) = &args.picture {
        std::fs::write(path, picture(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.json {
        true => super::print_json(&report)?,
        false => super::print(&report.to_string())?,
    }
    Ok(if report.accepted { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Size against what it costs, each point a type.
fn picture(report: &CompressionReport) -> Result<String> {
    let per_place = 100.0 / report.places.max(1) as f64;
    let labels = || -> Vec<String> {
        let rows = report.rows.iter();
        rows.map(|row| format!("{} {:.0} tok/s", row.name, row.speed.decode_tok_s)).collect()
    };
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let exact = report.rows.iter().map(|r| (megabytes(r.bytes), r.exact as f64 * per_place));
    let axes = Axes {
        title: "Size against exact lines, with the speed of decoding",
        x: "MB",
        y: "exact %",
        log_x: false,
    };
    svg(&axes, &[Series { name: "exact lines", points: exact.collect(), labels: labels() }])
}
