//! Completion with a model: prompt, generation under rules, shaping, ranking, the show filter.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generation::{
    CancelToken, Finish, Flow, GenerateOptions, Generation, Generator, Prompt,
};
use crate::memory::retrieval::{SharedRetrieval, Texts};
use crate::syntax::SyntaxTree;
use crate::text::TextEdit;

use super::prompt;
use super::retrieved::{self, Retrieved};
use super::rules::Rules;
use super::shape::{Site, rest_of_line, shape};
use super::{
    Completer, Completion, CompletionRequest, Progress, Silence, Suggestion, Timing, Trigger,
};

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct CompletionOptions {
    /// Tokens of one answer at most.
    pub max_tokens: usize,
    /// Time for an automatic answer. What there is by then is shown if it is whole lines.
    pub time_limit: Duration,
    /// Least probability at which an automatic answer is shown.
    pub show_threshold: f32,
    /// Whether lines of other files are put into the prompt.
    pub retrieval: bool,
    /// Share of the model's context that they may take, 0 to 1.
    pub retrieval_share: f64,
}

impl Default for CompletionOptions {
    fn default() -> CompletionOptions {
        CompletionOptions {
            max_tokens: 64,
            time_limit: Duration::from_millis(400),
            show_threshold: 0.08,
            retrieval: true,
            retrieval_share: 0.25,
        }
    }
}

/// An answer that was asked for keeps its later lines down to this probability of the whole…
const LIKELY: f32 = 1e-2;
/// …and its first line down to this one: below it the model is guessing wildly.
const HOPELESS: f32 = 1e-6;
/// Longest answer to an invoked request.
const INVOKED_TIME_LIMIT: Duration = Duration::from_secs(3);

/// A generator that answers completion requests.
pub struct ModelCompleter {
    generator: Generator,
    options: CompletionOptions,
    retrieved: Option<Retrieved>,
}

impl ModelCompleter {
    /// Uses the model under these options.
    pub fn new(generator: Generator, options: CompletionOptions) -> ModelCompleter {
        ModelCompleter { generator, options, retrieved: None }
    }

    /// Lets prompts begin with lines of the files that `index` knows and whose texts `texts` reads.
    pub fn set_retrieval(&mut self, index: Arc<SharedRetrieval>, texts: Arc<dyn Texts>) {
        self.retrieved = Some(Retrieved::new(index, texts));
    }

    /// The generator.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }
}

/// A request with its popup item applied: the text that the answer continues.
struct Place<'a> {
    text: std::borrow::Cow<'a, str>,
    offset: usize,
    /// What the final edit replaces and begins with, when a popup item is selected.
    selected: Option<&'a TextEdit>,
}

impl<'a> Place<'a> {
    fn new(request: &'a CompletionRequest) -> Place<'a> {
        let text = request.snapshot.document.text.as_str();
        match &request.selected {
            Some(edit) if edit.range.end <= text.len() => Place {
                text: crate::text::apply(text, std::slice::from_ref(edit)).into(),
                offset: edit.range.start + edit.new_text.len(),
                selected: Some(edit),
            },
            _ => Place { text: text.into(), offset: request.offset, selected: None },
        }
    }

    /// The edit on the document for an edit on this text.
    fn on_document(&self, edit: TextEdit) -> TextEdit {
        match self.selected {
            None => edit,
            Some(selected) => TextEdit {
                range: selected.range.start..selected.range.end + edit.range.len(),
                new_text: format!("{}{}", selected.new_text, edit.new_text),
            },
        }
    }
}

impl Completer for ModelCompleter {
    fn complete(
        &mut self,
        request: &CompletionRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Completion {
        let start = Instant::now();
        let mut completion = self.answer(request, progress, cancel, start);
        completion.timing.total = start.elapsed();
        completion
    }

    fn forget(&mut self, uri: &str) {
        self.generator.forget(uri);
        if let Some(retrieved) = &mut self.retrieved {
            retrieved.forget(uri);
        }
    }
}

impl ModelCompleter {
    fn answer(
        &mut self,
        request: &CompletionRequest,
        progress: &Progress,
        cancel: &CancelToken,
        start: Instant,
    ) -> Completion {
        let automatic = request.trigger == Trigger::Automatic;
        let place = Place::new(request);
        if automatic && inside_word(&place.text, place.offset) {
            return Completion::silent(Silence::InsideWord);
        }
        let document = &request.snapshot.document;
        let model = self.generator.model();
        let (context, room) = (model.engine.context(), self.options.max_tokens);
        let (text, offset) = (place.text.as_ref(), place.offset);
        let retrieved = match &mut self.retrieved {
            Some(retrieved) if self.options.retrieval => {
                let limit = (context as f64 * self.options.retrieval_share) as usize;
                let site = retrieved::Site { snapshot: &request.snapshot, text, offset };
                retrieved.tokens(&model.tokenizer, &site, limit, !automatic)
            }
            _ => &[],
        };
        let prompt =
            prompt::build(&model.tokenizer, document, (text, offset), retrieved, context, room);
        let rules = Rules::new(document, &place.text, place.offset);
        let indent = document.language.map_or("    ", |l| l.indent);
        let site = Site { text: &place.text, offset: place.offset, indent };
        let limit = if automatic { self.options.time_limit } else { INVOKED_TIME_LIMIT };
        let mut timing = Timing { prompt_tokens: prompt.tokens.len(), ..Timing::default() };
        let mut silence = Silence::Empty;
        let mut suggestions: Vec<Suggestion> = Vec::new();
        for rank in 0..request.items.max(1) {
            let options = GenerateOptions {
                max_tokens: self.options.max_tokens,
                first_rank: rank,
                deadline: Some(start + limit),
                ..GenerateOptions::default()
            };
            if rank > 0 && start.elapsed() >= limit {
                break;
            }
            let publish = (rank == 0).then_some(progress);
            let generation =
                run(&mut self.generator, &document.uri, &prompt, &options, &rules, publish, cancel);
            let (text, generation) = match generation {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(%error, "generation failed");
                    return Completion::silent(Silence::EngineFailed);
                }
            };
            if rank == 0 {
                timing.cached_tokens = generation.cached_tokens;
            }
            timing.generated_tokens += generation.generated_tokens;
            let whole = probability(&generation, text.len());
            tracing::debug!(text, probability = whole, finish = ?generation.finish, "generated");
            if generation.finish == Finish::Cancelled {
                silence = Silence::Cancelled;
                break;
            }
            // An alternative that time cut off is a fragment.
            if rank > 0 && generation.finish == Finish::Limit && start.elapsed() >= limit {
                break;
            }
            match self.suggestion(&site, &text, &generation, automatic, document.tree.as_ref()) {
                Ok(mut suggestion) => {
                    suggestion.edit = place.on_document(suggestion.edit);
                    if !suggestions.iter().any(|s| s.edit == suggestion.edit) {
                        suggestions.push(suggestion);
                    }
                }
                Err(reason) if rank == 0 => silence = reason,
                Err(_) => {}
            }
        }
        suggestions.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        let silence = suggestions.is_empty().then_some(silence);
        Completion { suggestions, silence, timing }
    }

    /// Shapes one generation, or says why it is not shown.
    fn suggestion(
        &self,
        site: &Site<'_>,
        text: &str,
        generation: &Generation,
        automatic: bool,
        tree: Option<&SyntaxTree>,
    ) -> Result<Suggestion, Silence> {
        let mut text = text;
        // A generation that ran out of tokens ends in the middle of a line: keep the whole lines.
        if generation.finish == Finish::Limit {
            match text.rfind('\n') {
                Some(end) => text = &text[..end],
                None if automatic => return Err(Silence::OutOfTime),
                None => {}
            }
        }
        let wanted = if automatic { self.options.show_threshold } else { LIKELY };
        text = confident_lines(text, generation, wanted);
        let text = without_broken_lines(site, text, tree);
        let edit = shape(site, text)?;
        let probability = probability(generation, text.trim_end().len());
        let least = if automatic { self.options.show_threshold } else { HOPELESS };
        if probability < least {
            return Err(Silence::LowConfidence);
        }
        Ok(Suggestion { edit, probability })
    }
}

/// Generates under the rules; returns the text as far as the rules let it go.
fn run(
    generator: &mut Generator,
    key: &str,
    prompt: &Prompt,
    options: &GenerateOptions,
    rules: &Rules<'_>,
    progress: Option<&Progress>,
    cancel: &CancelToken,
) -> Result<(String, Generation), crate::model::engine::EngineError> {
    let mut cut = None;
    let mut stop = |generated: crate::generation::Generated<'_>| {
        cut = rules.cut(generated.text);
        if let Some(progress) = progress {
            progress.set(&generated.text[..cut.unwrap_or(generated.text.len())]);
        }
        if cut.is_some() { Flow::Stop } else { Flow::Continue }
    };
    let generation = generator.generate(key, prompt, options, &mut stop, cancel)?;
    let end = cut.unwrap_or(generation.text.len()).min(generation.text.len());
    Ok((generation.text[..end].to_string(), generation))
}

/// The probability that the first `length` bytes are exactly right, as the model sees it.
fn probability(generation: &Generation, length: usize) -> f32 {
    let at = length.min(generation.log_prob_at.len());
    // NaN.max(0.0) is 0: broken weights are not certain of anything.
    if at == 0 { 0.0 } else { generation.log_prob_at[at - 1].exp().max(0.0) }
}

/// Drops last lines until the probability of the whole reaches the threshold, but keeps the first.
fn confident_lines<'a>(text: &'a str, generation: &Generation, threshold: f32) -> &'a str {
    let mut text = text;
    while probability(generation, text.trim_end().len()) < threshold {
        match text.trim_end().rfind('\n') {
            Some(end) if !text[..end].trim().is_empty() => text = &text[..end],
            _ => break,
        }
    }
    text
}

/// Drops last lines that break the syntax of a file around it: of several lines, those stay that do not
/// add errors to the parse.
fn without_broken_lines<'a>(site: &Site<'_>, text: &'a str, tree: Option<&SyntaxTree>) -> &'a str {
    let current = |tree: &&SyntaxTree| tree.is_current() && text.contains('\n');
    let Some(tree) = tree.filter(current) else { return text };
    let errors = tree.error_count(0..site.text.len());
    let mut best = text;
    loop {
        let mut with = crate::text::Text::new(site.text);
        let applied = with.replace(site.offset..site.offset, best);
        let mut tree = tree.clone();
        let parsed = tree.update(&applied, with.as_str());
        let whole: Range<usize> = 0..with.len();
        if !parsed || tree.error_count(whole) <= errors {
            return best;
        }
        match best.trim_end().rfind('\n') {
            Some(end) if !best[..end].trim().is_empty() => best = &best[..end],
            _ => return text,
        }
    }
}

/// Whether the cursor has word characters on both sides.
fn inside_word(text: &str, offset: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let before = text[..offset].chars().next_back().is_some_and(word);
    before && rest_of_line(text, offset).starts_with(word)
}
