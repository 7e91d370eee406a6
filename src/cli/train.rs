//! `nestling train`: folders in, a model directory out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::train::recipe::{Message, Size, TrainRequest, train};

#[derive(Clone, Copy, ValueEnum)]
enum SizeArg {
    Tiny,
    Nano,
    Base,
}

#[derive(Args)]
pub(super) struct TrainArgs {
    /// Folders and git repositories (bare ones too)
    #[arg(required = true)]
    corpus: Vec<PathBuf>,
    /// The model directory to make
    #[arg(long)]
    out: PathBuf,
    /// Shape and recipe
    #[arg(long, value_enum, default_value = "nano")]
    size: SizeArg,
    /// Steps to train; by default what --budget allows, or the recipe's 2000
    #[arg(long)]
    steps: Option<u64>,
    /// Time that training may take, as in 90s, 20m or 2h
    #[arg(long, value_parser = parse_duration)]
    budget: Option<f64>,
    /// Go on from the checkpoint in the model directory
    #[arg(long)]
    resume: bool,
    /// Print the report as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: TrainArgs) -> Result<ExitCode> {
    let size = match args.size {
        SizeArg::Tiny => Size::Tiny,
        SizeArg::Nano => Size::Nano,
        SizeArg::Base => Size::Base,
    };
    let request = TrainRequest {
        corpus: args.corpus,
        out: args.out,
        size,
        steps: args.steps,
        budget: args.budget,
        resume: args.resume,
    };
    let stop = stop_on_ctrl_c();
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} {msg} {elapsed_precise} left {eta_precise}",
    )?);
    let mut logged = Instant::now();
    let report = train(&request, &stop, &mut |message| match message {
        Message::Collected { root, files } => {
            eprintln!("{}: {files} files so far", root.display());
        }
        Message::Tokenizer { found: true } => eprintln!("using the tokenizer that is there"),
        Message::Tokenizer { found: false } => eprintln!("training the tokenizer"),
        Message::Step { news, steps } => {
            bar.set_length(steps);
            bar.set_position(news.step);
            let text = format!(
                "loss {:.3} |g| {:.2} {:.0} tok/s",
                news.loss, news.gradient_norm, news.tokens_per_second
            );
            bar.set_message(text.clone());
            if let Some(held_out) = news.held_out {
                bar.suspend(|| {
                    eprintln!("step {}: {text}, held-out loss {held_out:.3}", news.step)
                });
            } else if bar.is_hidden() && logged.elapsed().as_secs() >= 20 {
                eprintln!("step {}/{steps}: {text}", news.step);
                logged = Instant::now();
            }
        }
    })?;
    bar.finish_and_clear();
    if args.json {
        super::print_json(&report)?;
    } else {
        eprintln!(
            "{} parameters, {} tokens in {:.0} s, {:.3} bits per byte held out",
            report.parameters, report.tokens, report.seconds, report.bits_per_byte
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A flag that Ctrl-C sets: the run then saves and ends. A second Ctrl-C ends it at once.
fn stop_on_ctrl_c() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("stopping after this step; --resume goes on from there");
        }
    });
    stop
}

/// Seconds of "90s", "20m", "2h" or a bare number of seconds.
fn parse_duration(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.char_indices().find(|(_, c)| c.is_alphabetic()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; use s, m or h")),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 => Ok(number * factor),
        _ => Err(format!("{text:?} is no duration; write it as 90s, 20m or 2h")),
    }
}
