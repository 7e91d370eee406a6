//! `nestling complete FILE:LINE:COL`: what the editor would offer there, on the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::remote::RemoteArgs;
use super::{ModelArgs, print, print_json, wrong_use};
use crate::generation::CancelToken;
use crate::suggest::{Completer, CompletionRequest, Progress, Sources, explanation};
use crate::text::{Position, PositionEncoding, Text};
use crate::workspace::{Snapshot, read_file};

#[derive(clap::Args)]
pub(super) struct CompleteArgs {
    /// The place: line and column count from 1, columns in characters; the text after it is used too
    #[arg(value_name = "FILE:LINE:COL")]
    place: String,
    /// How many alternatives
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    count: u8,
    /// Do not look at the other files of the repository
    #[arg(long)]
    no_memory: bool,
    /// Say of each token how likely it was, who said so, and where in the repository it was read
    #[arg(long)]
    explain: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// How long the remote model is waited for: as long as the answer may take in all.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn run(args: CompleteArgs, model: &ModelArgs) -> Result<ExitCode> {
    let Some((path, line, column)) = parse_place(&args.place) else {
        return Ok(wrong_use(format!(
            "{:?} is no place; write FILE:LINE:COL, as in src/main.rs:12:5",
            args.place
        )));
    };
    let remote = match args.remote.client(Some(PATIENCE)) {
        Ok(remote) => remote,
        Err(code) => return Ok(code),
    };
    let mut document = read_file(Path::new(path))?;
    // The memory knows files by their whole paths.
    document.path = std::fs::canonicalize(path).ok().or(document.path);
    let offset = match offset_of(&document.text, line, column) {
        Ok(offset) => offset,
        Err(reason) => return Ok(wrong_use(format!("{}: {reason}", args.place))),
    };
    let request = CompletionRequest {
        items: args.count.into(),
        ..CompletionRequest::invoked(Snapshot::alone(document), offset)
    };
    let root = repository(Path::new(path));
    let mut completer = model.load_for(root.as_deref().unwrap_or(Path::new(path)))?.completer();
    if !args.no_memory
        && let Some(root) = root
        && let Some(memory) = completer.remember(&root)
    {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        if let Err(error) = memory.update(threads, &|_| {}, &|| true) {
            tracing::warn!("the repository is not known: {error:#}");
        }
    }
    completer.set_explain(args.explain);
    completer.set_sources(Sources { remote: remote.clone(), ..Sources::default() });
    let start = Instant::now();
    let completion = completer.complete(&request, &Progress::new(), &CancelToken::new());
    let waited = start.elapsed();
    let reason = completion.silence.map(|silence| silence.to_string());
    let first = completion.suggestions.first();
    let explained = match first.filter(|_| args.explain) {
        Some(first) => completer.explain(&request.snapshot.document, first),
        None => Vec::new(),
    };
    if args.json {
        let text = &request.snapshot.document.text;
        let place = |offset| {
            let p = text.position(offset, PositionEncoding::Utf32);
            json!({ "line": p.line + 1, "column": p.character + 1 })
        };
        let suggestions: Vec<_> = completion
            .suggestions
            .iter()
            .map(|s| {
                json!({
                    "text": s.edit.new_text,
                    "range": { "start": place(s.edit.range.start), "end": place(s.edit.range.end) },
                    "probability": s.probability,
                })
            })
            .collect();
        let timing = completion.timing;
        print_json(&json!({
            "explained": args.explain.then_some(&explained),
            "model": completer.name(),
            "suggestions": suggestions,
            "silence": reason,
            "remote": remote.as_ref().map(|client| {
                let health = client.health();
                json!({
                    "url": client.remote().origin(),
                    "answered": health.answers > 0,
                    "reason": health.failure.map(|(reason, _)| reason),
                    "milliseconds": health.times.last().map(|time| time.as_secs_f64() * 1000.0),
                })
            }),
            "timing": {
                "prompt_tokens": timing.prompt_tokens,
                "generated_tokens": timing.generated_tokens,
                "milliseconds": timing.total.as_secs_f64() * 1000.0,
            },
        }))?;
    } else {
        for suggestion in &completion.suggestions {
            print(&format!("{}\n", suggestion.edit.new_text))?;
        }
        if !explained.is_empty() {
            print(&format!("\n{}", explanation(&explained)))?;
        }
    }
    if let Some(client) = &remote {
        let health = client.health();
        let origin = client.remote().origin();
        let late = (health.answers == 0).then(|| match waited < PATIENCE {
            true => format!("the local answer was surer than {origin} could be, and came first"),
            false => format!("{origin} gave no answer within {} s", PATIENCE.as_secs()),
        });
        if let Some(reason) = health.failure.map(|(reason, _)| reason).or(late) {
            eprintln!("nestling: the remote model is not used: {reason}");
        }
    }
    match reason {
        Some(reason) => {
            eprintln!("nestling: nothing is suggested here: {reason}");
            Ok(ExitCode::from(1))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The repository that a file belongs to; nothing for a file outside of any.
pub(super) fn repository(file: &Path) -> Option<PathBuf> {
    let file = std::fs::canonicalize(file).ok()?;
    let above = file.ancestors().skip(1);
    let marks = [".git", "Cargo.toml", "pyproject.toml", "package.json", "go.mod"];
    let is_root = |folder: &&Path| folder.join(".git").exists();
    let root = above.clone().find(is_root);
    let project = || above.clone().find(|f| marks.iter().any(|mark| f.join(mark).exists()));
    // A folder named src has its project above it, with or without a mark.
    let source = || above.clone().find(|f| f.ends_with("src"))?.parent();
    root.or_else(project).or_else(source).map(Path::to_path_buf)
}

/// Splits from the right: paths may hold colons.
fn parse_place(place: &str) -> Option<(&str, usize, usize)> {
    let (rest, column) = place.rsplit_once(':')?;
    let (path, line) = rest.rsplit_once(':')?;
    let number = |text: &str| text.parse().ok().filter(|&n: &usize| n > 0);
    (!path.is_empty()).then_some((path, number(line)?, number(column)?))
}

fn offset_of(text: &Text, line: usize, column: usize) -> Result<usize, String> {
    if line > text.line_count() {
        return Err(format!("there is no line {line}; the file has {}", text.line_count()));
    }
    let characters = text.line(line - 1).chars().count();
    if column > characters + 1 {
        return Err(format!(
            "line {line} has {characters} characters; its last column is {}",
            characters + 1
        ));
    }
    let position = Position { line: line as u32 - 1, character: column as u32 - 1 };
    Ok(text.offset(position, PositionEncoding::Utf32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_split_from_the_right() {
        assert_eq!(parse_place("a:b.rs:3:7"), Some(("a:b.rs", 3, 7)));
        for wrong in ["a.rs", "a.rs:1", "a.rs:0:1", "a.rs:1:x", ":1:1", ""] {
            assert_eq!(parse_place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn columns_count_characters() {
        let text = Text::new("a🦀b\nx");
        assert_eq!(offset_of(&text, 1, 3), Ok(5));
        assert_eq!(offset_of(&text, 2, 2), Ok(8));
        assert!(offset_of(&text, 1, 5).unwrap_err().contains("last column is 4"));
        assert!(offset_of(&text, 3, 1).unwrap_err().contains("the file has 2"));
    }
}
