//! Rests of lines: a cursor at a random token of a random line, the file as it is around it; does the
//! first suggestion complete the line exactly?

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::statistics::{Ratio, edit_similarity, percentile, table, with_interval};
use crate::generation::CancelToken;
use crate::suggest::{Completer, CompletionRequest, Progress, Trigger};
use crate::text::Text;
use crate::train::corpus::SourceFile;
use crate::workspace::{Document, Snapshot};

/// What is asked.
#[derive(Clone, Debug)]
pub struct LineRestOptions {
    /// Places in each repository.
    pub count: usize,
    /// Seed of the places.
    pub seed: u64,
    /// Whether the model sees the text after the line. Without, the setting is that of RepoEval's lines
    /// with the file alone.
    pub suffix: bool,
    /// Probability from which a suggestion counts as shown without being asked for.
    pub show_threshold: f32,
}

/// What a suite of line rests gave.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LineRestReport {
    /// The repository, or `all`.
    pub repository: String,
    /// Places asked.
    pub places: usize,
    /// Lines completed exactly by the first suggestion.
    pub exact: usize,
    /// Places with any suggestion.
    pub answered: usize,
    /// Milliseconds to an answer: median and 95th percentile, the document's cache cold.
    pub milliseconds: (f64, f64),
    /// Half the width of the 95 % confidence interval of the exact share, in percent points; places are
    /// the unit sampled.
    pub interval: f64,
    /// Mean similarity of the first suggestion's first line to the line's rest: 1 − edit distance over the
    /// longer length, in percent; no suggestion counts 0.
    pub edit_similarity: f64,
    /// Places where the suggestion is likely enough to be shown without being asked for.
    pub shown: usize,
    /// Those of them that are exact.
    pub shown_exact: usize,
    /// Whether the text after the line was seen.
    pub suffix: bool,
    /// The parts of `all`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<LineRestReport>,
}

impl fmt::Display for LineRestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "repository",
            "places",
            "exact %",
            "similar %",
            "answered %",
            "shown %",
            "right if shown %",
            "p50 ms",
            "p95 ms",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        let all = (self.repositories.len() != 1).then_some(self);
        for r in self.repositories.iter().chain(all) {
            let percent = |n: usize, of: usize| 100.0 * n as f64 / of.max(1) as f64;
            rows.push(vec![
                r.repository.clone(),
                r.places.to_string(),
                with_interval(percent(r.exact, r.places), Some(r.interval), 1),
                format!("{:.1}", r.edit_similarity),
                format!("{:.1}", percent(r.answered, r.places)),
                format!("{:.1}", percent(r.shown, r.places)),
                format!("{:.1}", percent(r.shown_exact, r.shown)),
                format!("{:.0}", r.milliseconds.0),
                format!("{:.0}", r.milliseconds.1),
            ]);
        }
        f.write_str(&table(&rows))
    }
}

/// What one place gave.
#[derive(Clone)]
struct Answer {
    answered: bool,
    exact: bool,
    shown: bool,
    similarity: f64,
    milliseconds: f64,
}

/// Asks at random places of each repository's files, given with the repository's name.
///
/// A place is a word boundary inside a line of at least 12 characters that is no comment of its own;
/// the line's rest has at least 3 characters and is hidden from the model. `say` hears of places done.
pub fn line_rests(
    completer: &mut dyn Completer,
    repositories: &[(String, Vec<SourceFile>)],
    options: &LineRestOptions,
    say: &mut dyn FnMut(usize),
) -> Result<LineRestReport> {
    let (mut all, mut parts) = (Vec::new(), Vec::new());
    for (name, files) in repositories {
        if files.is_empty() {
            bail!("{name}: no source file to ask about");
        }
        let before = all.len();
        let mut heard = |done: usize| say(before + done);
        let answers = ask(completer, files, options, &mut heard);
        parts.push(report(name, &answers, options));
        all.extend(answers);
    }
    Ok(LineRestReport { repositories: parts, ..report("all", &all, options) })
}

fn ask(
    completer: &mut dyn Completer,
    files: &[SourceFile],
    options: &LineRestOptions,
    say: &mut dyn FnMut(usize),
) -> Vec<Answer> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let (mut answers, mut tries) = (Vec::new(), 0);
    while answers.len() < options.count && tries < options.count * 100 {
        tries += 1;
        let file = &files[rng.random_range(0..files.len())];
        let Some((offset, end)) = place(&file.text, &mut rng) else { continue };
        let after = if options.suffix { &file.text[end..] } else { "" };
        let text = format!("{}{after}", &file.text[..offset]);
        let uri = format!("file:///{}/{}/{}", file.repository, answers.len() + 1, file.path);
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
        let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
        let wanted = file.text[offset..end].trim_end();
        let first = completion.suggestions.first();
        let line = first.and_then(|s| s.edit.new_text.lines().next()).unwrap_or("").trim_end();
        answers.push(Answer {
            answered: first.is_some(),
            exact: first.is_some() && line == wanted,
            shown: first.is_some_and(|s| s.probability >= options.show_threshold),
            similarity: 100.0 * edit_similarity(line, wanted),
            milliseconds,
        });
        say(answers.len());
    }
    answers
}

fn report(repository: &str, answers: &[Answer], options: &LineRestOptions) -> LineRestReport {
    let (mut exact, mut similar) = (Ratio::default(), Ratio::default());
    for answer in answers {
        exact.add(f64::from(u8::from(answer.exact)), 1.0);
        similar.add(answer.similarity, 1.0);
    }
    let count = |f: fn(&Answer) -> bool| answers.iter().filter(|a| f(a)).count();
    let mut times: Vec<f64> = answers.iter().map(|a| a.milliseconds).collect();
    LineRestReport {
        repository: repository.to_string(),
        places: answers.len(),
        exact: count(|a| a.exact),
        answered: count(|a| a.answered),
        milliseconds: (percentile(&mut times, 0.5), percentile(&mut times, 0.95)),
        interval: 100.0 * exact.interval().unwrap_or(1.0),
        edit_similarity: similar.value(),
        shown: count(|a| a.shown),
        shown_exact: count(|a| a.shown && a.exact),
        suffix: options.suffix,
        repositories: Vec::new(),
    }
}

/// A cursor and the end of its line, or nothing if the drawn line does not qualify.
pub(super) fn place(text: &str, rng: &mut StdRng) -> Option<(usize, usize)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggest::{Completion, Suggestion};
    use crate::text::TextEdit;

    /// Knows the lines of one text, and answers with the rest of the one that begins like the cursor's.
    struct Oracle(&'static str, Vec<String>);

    impl Completer for Oracle {
        fn complete(
            &mut self,
            request: &CompletionRequest,
            _: &Progress,
            _: &CancelToken,
        ) -> Completion {
            let text = request.snapshot.document.text.as_str();
            self.1.push(text[request.offset..].to_string());
            let start = text[..request.offset].rfind('\n').map_or(0, |at| at + 1);
            let before = &text[start..request.offset];
            let line = self.0.lines().find(|line| line.starts_with(before)).unwrap();
            let new_text = line[before.len()..].to_string();
            let edit = TextEdit { range: request.offset..request.offset, new_text };
            let probability = if before.len() > 10 { 0.9 } else { 0.01 };
            let suggestions = vec![Suggestion { edit, probability }];
            Completion { suggestions, ..Completion::default() }
        }
    }

    const TEXT: &str = "let first_value = compute(1, 2);\nreturn second.call(first_value);\n";

    fn ask_oracle(suffix: bool) -> (LineRestReport, Vec<String>) {
        let file = SourceFile {
            path: "a.rs".into(),
            repository: "r".into(),
            language: "rust",
            text: TEXT.into(),
        };
        let repositories =
            [("one".to_string(), vec![file.clone()]), ("two".to_string(), vec![file])];
        let options = LineRestOptions { count: 20, seed: 1, suffix, show_threshold: 0.5 };
        let mut oracle = Oracle(TEXT, Vec::new());
        let report = line_rests(&mut oracle, &repositories, &options, &mut |_| {}).unwrap();
        (report, oracle.1)
    }

    #[test]
    fn who_knows_the_lines_is_right_everywhere() {
        let (report, after) = ask_oracle(true);
        assert_eq!((report.places, report.exact, report.answered), (40, 40, 40));
        assert_eq!((report.edit_similarity, report.interval), (100.0, 0.0));
        assert!(report.shown > 0 && report.shown < 40 && report.shown_exact == report.shown);
        assert_eq!(report.repositories.len(), 2);
        assert_eq!(report.repositories[0].places, 20);
        assert!(after.iter().any(|text| text.contains("return")));
    }

    #[test]
    fn without_the_suffix_nothing_follows_the_cursor() {
        let (report, after) = ask_oracle(false);
        assert_eq!(report.exact, 40);
        assert!(after.iter().all(String::is_empty));
    }
}
