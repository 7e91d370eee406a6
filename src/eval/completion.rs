//! Rests of lines: a cursor at a random token of a random line, the file as it is around it; does the
//! first suggestion complete the line exactly?

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::generation::CancelToken;
use crate::suggest::{Completer, CompletionRequest, Progress, Trigger};
use crate::text::Text;
use crate::train::corpus;
use crate::workspace::{Document, Snapshot};

/// What a suite of line rests gave.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LineRestReport {
    /// Places asked.
    pub places: usize,
    /// Lines completed exactly by the first suggestion.
    pub exact: usize,
    /// Places with any suggestion.
    pub answered: usize,
    /// Milliseconds to an answer: median and 95th percentile, the document's cache cold.
    pub milliseconds: (f64, f64),
    /// 95 % confidence interval of the exact share, in percent points.
    pub interval: f64,
}

impl fmt::Display for LineRestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |n: usize| 100.0 * n as f64 / self.places.max(1) as f64;
        writeln!(f, "places    {}", self.places)?;
        writeln!(f, "exact     {:.1} % ± {:.1}", percent(self.exact), self.interval)?;
        writeln!(f, "answered  {:.1} %", percent(self.answered))?;
        writeln!(
            f,
            "time      p50 {:.0} ms, p95 {:.0} ms",
            self.milliseconds.0, self.milliseconds.1
        )
    }
}

/// Asks at `count` random places of the files under `repo`.
///
/// A place is a word boundary inside a line of at least 12 characters that is no comment of its own;
/// the line's rest has at least 3 characters and is hidden from the model.
pub fn line_rests(
    completer: &mut dyn Completer,
    repo: &Path,
    count: usize,
    seed: u64,
) -> Result<LineRestReport> {
    let files = corpus::read(repo)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut exact, mut answered, mut times) = (0, 0, Vec::new());
    let (mut asked, mut tries) = (0, 0);
    while asked < count && tries < count * 100 {
        tries += 1;
        let file = &files[rng.random_range(0..files.len())];
        let Some((offset, end)) = place(&file.text, &mut rng) else { continue };
        asked += 1;
        let text = format!("{}{}", &file.text[..offset], &file.text[end..]);
        let uri = format!("file:///{}/{asked}/{}", file.repository, file.path);
        let document = Document::new(uri, file.language, 1, Text::new(text));
        let request = CompletionRequest {
            snapshot: Snapshot {
                document: document.into(),
                others: Vec::new(),
                recent_edits: Vec::new(),
            },
            offset,
            trigger: Trigger::Invoked,
            items: 1,
            selected: None,
        };
        let start = Instant::now();
        let completion = completer.complete(&request, &Progress::new(), &CancelToken::new());
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        if let Some(first) = completion.suggestions.first() {
            answered += 1;
            let line = first.edit.new_text.lines().next().unwrap_or("");
            exact += (line.trim_end() == file.text[offset..end].trim_end()) as usize;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let p = exact as f64 / asked.max(1) as f64;
    let interval = 196.0 * (p * (1.0 - p) / asked.max(1) as f64).sqrt();
    Ok(LineRestReport {
        places: asked,
        exact,
        answered,
        milliseconds: (at(0.5), at(0.95)),
        interval,
    })
}

/// A cursor and the end of its line, or nothing if the drawn line does not qualify.
fn place(text: &str, rng: &mut StdRng) -> Option<(usize, usize)> {
    let at = text.floor_char_boundary(rng.random_range(0..text.len()));
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    let line = &text[start..end];
    let trimmed = line.trim();
    if trimmed.len() < 12 || trimmed.starts_with(['#', '/', '*', '"']) {
        return None;
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let indent = line.len() - line.trim_start().len();
    let boundaries: Vec<usize> = line
        .char_indices()
        .zip(line.chars().skip(1))
        .filter(|((i, a), b)| *i >= indent && word(*a) != word(*b))
        .map(|((i, a), _)| i + a.len_utf8())
        .filter(|&i| line[i..].trim_end().len() >= 3)
        .collect();
    if boundaries.is_empty() {
        return None;
    }
    Some((start + boundaries[rng.random_range(0..boundaries.len())], end))
}
