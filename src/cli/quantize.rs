//! `nestling quantize MODEL --out FILE`: a model directory as one GGUF file, as small as it may be.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use super::{print, print_json, wrong_use};
use crate::eval::compression::{Options, Report, Size, Texts, compress, moments};
use crate::generation::{Model, ModelSource};
use crate::model::quantize::{FileType, Plan, write_plan};
use crate::model::weights::Weights;

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Type {
    F32,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6_k")]
    Q6K,
    #[value(name = "q4_k")]
    Q4K,
    /// A type for every group of matrices, by measurement
    Auto,
}

#[derive(clap::Args)]
pub(super) struct QuantizeArgs {
    /// A model directory or GGUF file
    source: PathBuf,
    /// The GGUF file to write
    #[arg(long)]
    out: PathBuf,
    /// Type of the matrices; embedding and head are never smaller than q6_k
    #[arg(long = "type", value_enum, default_value = "q8_0")]
    kind: Type,
    /// With auto: refuse a larger file; bytes (4000000, 4MB) or a share of the q8_0 file (60%).
    /// Without, half of the q8_0 file is aimed at and quality decides
    #[arg(long, value_parser = parse_size)]
    max_size: Option<Size>,
    /// Points of exact match that may be lost; auto: 0.5. A type that loses more is refused
    #[arg(long, value_name = "POINTS")]
    max_loss: Option<f64>,
    /// Measure on this folder or git repository, which the model was not trained on (repeatable)
    #[arg(long)]
    repo: Vec<PathBuf>,
    /// Places of the exact match
    #[arg(long, default_value_t = 400)]
    places: usize,
    /// Rounds of the measurement of speed; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seed of texts and places
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw size, quality and speed into this SVG file
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_size(text: &str) -> Result<Size, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !"0123456789.".contains(c)).unwrap_or(text.len()));
    let number: f64 =
        number.parse().map_err(|_| format!("{text:?} does not start with a number"))?;
    match unit.trim() {
        "%" => Ok(Size::Percent(number)),
        "" | "B" => Ok(Size::Bytes(number as u64)),
        "KB" => Ok(Size::Bytes((number * 1e3) as u64)),
        "MB" => Ok(Size::Bytes((number * 1e6) as u64)),
        "GB" => Ok(Size::Bytes((number * 1e9) as u64)),
        other => Err(format!("{other:?} is no unit; write bytes, KB, MB, GB or %")),
    }
}

pub(super) fn run(args: QuantizeArgs) -> Result<ExitCode> {
    let kind = match args.kind {
        Type::F32 => Some(FileType::F32),
        Type::Q8_0 => Some(FileType::Q8_0),
        Type::Q6K => Some(FileType::Q6K),
        Type::Q4K => Some(FileType::Q4K),
        Type::Auto => None,
    };
    if kind.is_some() && args.max_size.is_some() {
        return Ok(wrong_use("--max-size needs --type auto: every other type has its size"));
    }
    let weights = ModelSource::Path(args.source.clone()).weights()?;
    let name = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let measured = kind.is_none()
        || args.max_loss.is_some()
        || args.picture.is_some()
        || !args.repo.is_empty();
    let (plan, report) = match kind {
        Some(kind) if !measured => (Some(unmeasured(&weights, kind)?), None),
        _ => {
            let mut report = measure(&weights, kind, &name, &args)?;
            (report.plan.take(), Some(report))
        }
    };
    if let Some(plan) = &plan {
        write_plan(&weights, &name, plan, &args.out)?;
        let fallbacks = plan.fallbacks(&weights.config);
        if let [(first, kind), rest @ ..] = &*fallbacks {
            let others =
                if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
            eprintln!("{first}{others} do not fill blocks: stored as {}", kind.name());
        }
    }
    if let (Some(report), Some(path)) = (&report, &args.picture) {
        std::fs::write(path, report.picture())?;
    }
    let bytes = if plan.is_some() { Some(std::fs::metadata(&args.out)?.len()) } else { None };
    if args.json {
        let types = plan.as_ref().map(|plan| plan.types(&weights.config));
        print_json(
            &json!({ "written": bytes.map(|_| &args.out), "bytes": bytes, "types": types, "report": report }),
        )?;
    } else if let Some(report) = &report {
        print(&report.to_string())?;
    }
    let Some(bytes) = bytes else { return Ok(ExitCode::from(1)) };
    eprintln!("{}: {:.1} MB", args.out.display(), bytes as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}

/// One type for all; the scales of K-quants are fitted to the program's own text.
fn unmeasured(weights: &Weights, kind: FileType) -> Result<Plan> {
    let mut plan = Plan::uniform(&weights.config, kind);
    if matches!(kind, FileType::Q6K | FileType::Q4K) {
        let model =
            Model::planned(weights, &Plan::uniform(&weights.config, FileType::Q8_0), "q8_0")?;
        plan.moments = moments(&model, &Texts::built_in())?;
    }
    Ok(plan)
}

fn measure(
    weights: &Weights,
    kind: Option<FileType>,
    name: &str,
    args: &QuantizeArgs,
) -> Result<Report> {
    let texts = match args.repo.as_slice() {
        [] => Texts::built_in(),
        roots => {
            let mut files = Vec::new();
            for root in roots {
                files.extend(crate::train::corpus::read(root)?);
            }
            if files.is_empty() {
                bail!("{}: no source file to measure on", roots[0].display());
            }
            Texts::new(files, args.seed)
        }
    };
    let options = Options {
        name: name.to_string(),
        kind,
        max_size: args.max_size,
        max_loss: args.max_loss,
        places: args.places,
        seed: args.seed,
        rounds: args.rounds,
    };
    let mut said = "";
    compress(weights, &texts, &options, &mut |what, done, all| {
        if said != what {
            eprintln!("measuring {what}");
            said = what;
        }
        tracing::debug!("{what}: {done} of {all}");
    })
}
