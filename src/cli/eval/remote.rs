//! `nestling eval remote`: what asking a remote model costs beside a bare socket that sends as much and reads as much.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::super::remote::RemoteArgs;
use super::super::{print, print_json, wrong_use};
use crate::generation::CancelToken;
use crate::remote::{Question, RemoteModel};

#[derive(clap::Args)]
pub(in crate::cli) struct RemoteEvalArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Questions to each side, one after the other
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Tokens of an answer
    #[arg(long, default_value_t = 16)]
    max_tokens: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// No server should need longer.
const LONGEST: Duration = Duration::from_secs(30);

pub(in crate::cli) fn run(args: RemoteEvalArgs) -> Result<ExitCode> {
    let client = match args.remote.client(None) {
        Ok(Some(client)) => client,
        Ok(None) => return Ok(wrong_use("name the server with --remote URL")),
        Err(code) => return Ok(code),
    };
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..args.rounds + 1 {
        // A server remembers what it has read: neither side may ask what the other asked before.
        let [question, other] = [2 * round, 2 * round + 1].map(|at| question(at, args.max_tokens));
        let start = Instant::now();
        let answer = client.ask(question);
        let whole = |answer: crate::remote::Answer| {
            answer.wait(start + LONGEST, &|_| false, &CancelToken::new())
        };
        let text = answer.and_then(whole);
        let took = start.elapsed();
        if text.is_none() {
            let reason = client.health().failure.map_or("no answer in time".into(), |(why, _)| why);
            bail!("{reason}");
        }
        let start = Instant::now();
        ask_bare(&client, &other)?;
        // The first question of each side connects.
        if round > 0 {
            ours.push(took);
            bare.push(start.elapsed());
        }
    }
    let at = |times: &mut Vec<Duration>, percent: usize| {
        times.sort_unstable();
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let [p50, bare50] = [&mut ours, &mut bare].map(|times| at(times, 50));
    let [p95, bare95] = [&mut ours, &mut bare].map(|times| at(times, 95));
    let overhead = p50 - bare50;
    match args.json {
        true => print_json(&json!({
            "rounds": args.rounds, "p50_ms": p50, "p95_ms": p95,
            "bare_p50_ms": bare50, "bare_p95_ms": bare95, "overhead_p50_ms": overhead,
        }))?,
        false => print(&format!(
            "{} questions: p50 {p50:.1} ms, p95 {p95:.1} ms; a bare socket p50 {bare50:.1} ms, p95 {bare95:.1} ms; \
             overhead {overhead:.1} ms\n",
            args.rounds
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One of many that cost a server the same.
fn question(number: usize, max_tokens: usize) -> Question {
    Question {
        path: "src/shapes.py".into(),
        language: "python",
        comment: Some("#"),
        prefix: format!(
            "def area_{number:04}(width, height):\n    \"\"\"The area.\"\"\"\n    return "
        ),
        suffix: "\n\n\ndef main():\n    pass\n".into(),
        others: Vec::new(),
        max_tokens,
        one_line: true,
    }
}

/// Asks over a connection of its own, without looking at what comes.
fn ask_bare(model: &RemoteModel, question: &Question) -> Result<()> {
    let origin = model.remote().origin();
    let Some(host) = origin.strip_prefix("http://") else {
        bail!("{origin}: only a server without TLS can be compared with a bare socket");
    };
    let (path, body) = model.request(question);
    let body = body.to_string();
    let address = if host.contains(':') { host.to_string() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address).with_context(|| format!("no way to {host}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONGEST))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let read = stream.read_to_end(&mut Vec::new())?;
    anyhow::ensure!(read > 0, "{host} answers a bare socket with nothing");
    Ok(())
}
