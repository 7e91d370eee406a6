//! `nestling quantize MODEL --out FILE`: a model directory as one GGUF file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::model::quantize::{FileType, write_gguf};
use crate::model::weights::Weights;

#[derive(Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Type {
    F32,
    #[value(name = "q8_0")]
    Q8_0,
}

#[derive(clap::Args)]
pub(super) struct QuantizeArgs {
    /// A model directory or GGUF file
    source: PathBuf,
    /// The GGUF file to write
    #[arg(long)]
    out: PathBuf,
    /// Type of the matrices
    #[arg(long = "type", value_enum, default_value = "q8_0")]
    kind: Type,
}

pub(super) fn run(args: QuantizeArgs) -> Result<ExitCode> {
    let weights = Weights::open(&args.source)?;
    let name = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let kind = match args.kind {
        Type::F32 => FileType::F32,
        Type::Q8_0 => FileType::Q8_0,
    };
    write_gguf(&weights, &name, kind, &args.out)?;
    let after = std::fs::metadata(&args.out)?.len();
    eprintln!("{}: {:.1} MB", args.out.display(), after as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}
