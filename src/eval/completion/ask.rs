//! Every variant at every place.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{Context, Mode, Options, Place, Report, draw};
use crate::eval::texts::{Repository, file_uri};
use crate::generation::CancelToken;
use crate::statistics::edit_similarity;
use crate::suggest::{Completer, CompletionRequest, Progress, Suggestion, Trigger};
use crate::syntax::SyntaxTree;
use crate::text::Text;
use crate::workspace::{Document, Snapshot};

/// One way of completing, among those compared. Any [`Completer`] is one that knows nothing of the
/// repository but the open document.
pub trait Variant {
    /// The completer for the places of `repository`, called once before they are asked about: the time to
    /// read its files. A place's document is `file:///<repository name>/<path of the file>`, so that the
    /// variant can tell which of the files it must not look into.
    fn prepare(&mut self, repository: &Repository) -> Result<&mut dyn Completer>;
}

impl<C: Completer> Variant for C {
    fn prepare(&mut self, _: &Repository) -> Result<&mut dyn Completer> {
        Ok(self)
    }
}

/// What one variant said at one place.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Index of the repository.
    #[serde(skip)]
    pub repository: usize,
    /// Path of the file.
    pub path: String,
    /// The cursor's line, from 1.
    pub line: usize,
    /// The last lines before the cursor.
    pub before: String,
    /// What stands there.
    pub wanted: String,
    /// What was suggested, cut to the lines that are judged.
    pub got: Option<String>,
    /// The suggestion's probability of being wanted; none without a suggestion.
    pub probability: Option<f32>,
    /// Whether the suggestion is what stands there, up to space at the ends of lines.
    pub exact: bool,
    /// What is shown without being asked for, maybe only the sure beginning of a line.
    pub offered: Option<String>,
    /// Whether anything is.
    pub shown: bool,
    /// Whether what stands there begins with it.
    pub right: bool,
    /// 1 − edit distance over the longer length.
    pub similarity: f64,
    /// Time to the answer.
    pub milliseconds: f64,
    /// Tokens of it.
    pub tokens: usize,
    /// Passes of the network after the prompt.
    pub steps: usize,
    /// Tokens that were copied from the memory.
    pub drafted: usize,
}

impl Answer {
    /// Length of what stands there.
    pub fn characters(&self) -> usize {
        self.wanted.chars().count()
    }
}

/// Lines before the cursor that an answer keeps.
const KEPT_LINES: usize = 6;

/// Asks all variants at the same places of each repository. `say` hears of answers, done and in all.
///
/// # Errors
/// A repository without any place, or one that a variant cannot read.
pub fn run(
    variants: &mut [(String, &mut dyn Variant)],
    repositories: &[Repository],
    options: &Options,
    say: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    let draw = |repository: &Repository| {
        draw(repository, options.mode, &options.languages, options.seed, options.places)
    };
    let places: Vec<Vec<Place>> = repositories.iter().map(draw).collect();
    if let Some(index) = places.iter().position(Vec::is_empty) {
        bail!(
            "{}: no place to ask about; are there files in its languages?",
            repositories[index].name
        );
    }
    let all = variants.len() * places.iter().map(Vec::len).sum::<usize>();
    let mut done = 0;
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); variants.len()];
    for (index, (repository, places)) in repositories.iter().zip(&places).enumerate() {
        for ((_, variant), answers) in variants.iter_mut().zip(&mut answers) {
            let completer = variant.prepare(repository)?;
            for place in places {
                let answer = ask(completer, repository, place, options);
                answers.push(Answer { repository: index, ..answer });
                done += 1;
                say(done, all);
            }
        }
    }
    let names: Vec<&str> = variants.iter().map(|(name, _)| name.as_str()).collect();
    Ok(Report::new(&names, repositories, options, answers))
}

/// Asks at one place of a document that is open for the first time, and makes the completer forget it.
pub fn ask(
    completer: &mut dyn Completer,
    repository: &Repository,
    place: &Place,
    options: &Options,
) -> Answer {
    let file = &repository.files[place.file];
    let (before, wanted) = (&file.text[..place.cursor], &file.text[place.cursor..place.end]);
    let request = request(repository, place, options.context);
    let uri = request.snapshot.document.uri.clone();
    let start = Instant::now();
    let completion = completer.complete(&request, &Progress::new(), &CancelToken::new());
    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    // What would come into sight by itself while the user types: less, or nothing.
    let request = CompletionRequest { trigger: Trigger::Automatic, ..request };
    let automatic = completer.complete(&request, &Progress::new(), &CancelToken::new());
    let sure = |s: &&Suggestion| s.probability >= options.show_threshold;
    let offered = automatic.suggestions.first().filter(sure);
    let offered = offered.map(|suggestion| judged(before, suggestion, options.mode));
    completer.forget(&uri);

    let first = completion.suggestions.first();
    let got = first.map(|suggestion| judged(before, suggestion, options.mode));
    let wanted = trimmed(wanted);
    let start = before.rmatch_indices('\n').nth(KEPT_LINES).map_or(0, |(at, _)| at + 1);
    Answer {
        repository: 0,
        path: file.path.clone(),
        line: before.matches('\n').count() + 1,
        before: before[start..].to_string(),
        probability: first.map(|s| s.probability),
        exact: got.as_ref() == Some(&wanted),
        shown: offered.is_some(),
        right: offered.as_ref().is_some_and(|text| !text.is_empty() && wanted.starts_with(text)),
        offered,
        similarity: got.as_ref().map_or(0.0, |got| edit_similarity(got, &wanted)),
        wanted,
        got,
        milliseconds,
        tokens: completion.timing.generated_tokens,
        steps: completion.timing.steps,
        drafted: completion.timing.drafted_tokens,
    }
}

/// The question at a place, asked by the user.
pub(in crate::eval) fn request(
    repository: &Repository,
    place: &Place,
    context: Context,
) -> CompletionRequest {
    let file = &repository.files[place.file];
    let before = &file.text[..place.cursor];
    let after = match context {
        Context::Left => "",
        Context::Fim => &file.text[place.resume..],
    };
    let uri = file_uri(&Path::new("/").join(&repository.name).join(&file.path));
    let text = Text::new(format!("{before}{after}"));
    let mut document = Document::unparsed(uri, file.language, 1, text);
    // The answer is one about the text, not about the machine.
    document.tree = document
        .language
        .and_then(|language| SyntaxTree::parse_steadily(language, document.text.as_str()));
    let snapshot = Snapshot::alone(document);
    let (offset, trigger) = (place.cursor, Trigger::Invoked);
    let (selected, precision, habit) = (None, None, 0.0);
    CompletionRequest { snapshot, offset, trigger, items: 1, selected, precision, habit }
}

/// What would stand behind the cursor, as far as it is judged.
fn judged(before: &str, suggestion: &Suggestion, mode: Mode) -> String {
    let typed = before.get(suggestion.edit.range.start..).unwrap_or_default();
    let text = &suggestion.edit.new_text;
    let text = text.strip_prefix(typed).unwrap_or(text);
    match mode {
        Mode::Block => trimmed(text),
        Mode::Line | Mode::Rest => trimmed(text.lines().next().unwrap_or_default()),
    }
}

/// Without space at the ends of lines, and without empty lines at the end.
fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}
