//! Why this text: for each token of an answer how likely it was, who said so, and where in the repository it was read.

use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::generation::Reason;
use crate::tokenizer::Tokenizer;

/// Why a piece of a suggestion stands there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The piece: the bytes of one token, as far as they are in the suggestion.
    pub text: String,
    /// How likely it was, 0 to 1.
    pub probability: f32,
    /// How likely the model alone thought it.
    #[serde(rename = "model")]
    pub by_model: f32,
    /// How much the memory counted, 0 to 1.
    pub memory: f32,
    /// Where the memory had read it.
    pub origin: Option<Origin>,
}

/// A place that said what comes next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Origin {
    /// Which part of the memory: `file`, `open`, `folder` or `repository`.
    pub tier: &'static str,
    /// The file below the root of the repository, or its URI if it is open; nothing for the document itself.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: usize,
    /// Tokens before it that agree with the text before the cursor.
    pub agreement: usize,
    /// What the head of the file says of its licence.
    pub licence: Option<String>,
}

/// Cuts an answer into its tokens, up to the end of what is shown of it.
pub(super) fn explain(
    reasons: &[Reason],
    shown: &str,
    tokenizer: &Tokenizer,
    root: &Path,
) -> Vec<Explained> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for reason in reasons {
        let Range { start: from, end } = start..reason.end.min(shown.len());
        start = end.max(from);
        // A piece may end within a character; the next one has it whole.
        let (from, end) = (shown.floor_char_boundary(from), shown.floor_char_boundary(end));
        if from >= end {
            continue;
        }
        let origin = reason.recalled.as_ref().map(|recalled| {
            let breaks =
                |&token: &u32| tokenizer.bytes(token).iter().filter(|&&b| b == b'\n').count();
            Origin {
                tier: recalled.tier,
                file: recalled.file.clone(),
                line: 1 + recalled.before.iter().map(breaks).sum::<usize>(),
                agreement: recalled.agreement,
                licence: recalled.file.as_ref().and_then(|file| licence_of(&root.join(file))),
            }
        });
        pieces.push(Explained {
            text: shown[from..end].to_string(),
            probability: reason.probability,
            by_model: reason.by_model,
            memory: reason.memory,
            origin,
        });
    }
    pieces
}

/// A row for each piece, for people.
pub fn explanation(explained: &[Explained]) -> String {
    let mut text = String::from("  likely   model  memory  text                      read in\n");
    for Explained { text: piece, probability, by_model, memory, origin } in explained {
        let origin = origin.as_ref().map_or(String::new(), |origin| {
            let file = origin.file.as_deref().unwrap_or("this file");
            let licence = origin.licence.as_ref().map_or(String::new(), |l| format!("; {l}"));
            format!("{file}:{} ({} tokens agree{licence})", origin.line, origin.agreement)
        });
        let percent = |share: f32| format!("{:.0} %", 100.0 * share);
        let row = format!(
            "{:>8}{:>8}{:>8}  {:<24}  {origin}",
            percent(*probability),
            percent(*by_model),
            percent(*memory),
            format!("{piece:?}"),
        );
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// What the first lines of a file say of its licence.
fn licence_of(path: &Path) -> Option<String> {
    const LINES: usize = 30;
    const MOST: usize = 120;
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().take(LINES).find(|line| {
        let line = line.to_lowercase();
        ["spdx-license-identifier", "licensed under", "licence", "license", "copyright"]
            .iter()
            .any(|word| line.contains(word))
    })?;
    let line = line.trim().trim_start_matches(['/', '*', '#', '-', ';', '!', '<', '"', ' ']);
    Some(
        line[..line.floor_char_boundary(MOST)]
            .trim_end_matches(['*', '/', '-', '>', ' '])
            .to_string(),
    )
}
