//! Completion with a model: prompt, generation under rules, shaping, ranking, the show filter.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generation::{
    CancelToken, Finish, Flow, GenerateOptions, Generated, Generation, Generator, Reason,
};
use crate::memory::{Focus, FocusCache, Gate, Memory, Mixing, fingerprint};
use crate::model::kv_cache::KvCache;
use crate::syntax::SyntaxTree;
use crate::text::TextEdit;
use crate::workspace::Document;

use super::confidence::{Beginning, Confidence, beginnings, is_half};
use super::explain::{Explained, explain};
use super::prompt;
use super::refit::Refit;
use super::repair::{Ask, Proposal, Weigher};
use super::retrieved::{self, Retrieved};
use super::rules::{Extent, Rules};
use super::shape::{Site, rest_of_line, shape};
use super::{
    Completer, Completion, CompletionRequest, Progress, Silence, Sources, Suggestion, Timing,
    Trigger,
};

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct CompletionOptions {
    /// Tokens of one answer at most.
    pub max_tokens: usize,
    /// Time for an automatic answer. What there is by then is shown if it is whole lines.
    pub time_limit: Duration,
    /// Of all automatic answers that are shown, this share should be right, 0 to 1.
    pub precision: f32,
    /// Whether the memory is mixed in.
    pub memory: bool,
    /// How it is.
    pub mixing: Mixing,
    /// Whether long matches are copied on trial; the answers are the same.
    pub drafts: bool,
    /// Where the first token of an answer is less likely than this, the second choice is tried as well, and
    /// the likelier whole wins.
    pub unsure: f32,
    /// Whether lines of other files are put into the prompt.
    pub retrieval: bool,
    /// Share of the model's context that they may take, 0 to 1.
    pub retrieval_share: f64,
    /// Whether it is kept where each token of an answer comes from.
    pub explain: bool,
    /// Where memories are kept from one start to the next; nowhere if there is no place.
    pub store: Option<PathBuf>,
}

impl Default for CompletionOptions {
    fn default() -> CompletionOptions {
        CompletionOptions {
            max_tokens: 64,
            time_limit: Duration::from_millis(400),
            precision: 0.5,
            memory: true,
            mixing: Mixing::Gate,
            drafts: true,
            unsure: 0.5,
            retrieval: true,
            retrieval_share: 0.25,
            explain: false,
            store: None,
        }
    }
}

/// An answer that was asked for keeps its later lines down to this probability of the whole…
const LIKELY: f32 = 1e-2;
/// …and its first line down to this one: below it the model is guessing wildly.
const HOPELESS: f32 = 1e-6;
/// Longest answer to an invoked request.
const INVOKED_TIME_LIMIT: Duration = Duration::from_secs(3);

/// The memory of one folder, and what of it stands in the prompts now.
struct Remembered {
    memory: Arc<Memory>,
    retrieved: Retrieved,
}

impl Remembered {
    fn new(memory: Arc<Memory>) -> Remembered {
        let retrieved = Retrieved::new(memory.retrieval().clone(), memory.texts().clone());
        Remembered { memory, retrieved }
    }
}

/// A generator that answers completion requests.
pub struct ModelCompleter {
    generator: Generator,
    options: CompletionOptions,
    confidence: Confidence,
    /// That of the model, if it brought one; it counts before what was fitted to a workspace with another model.
    gate: Option<Gate>,
    memories: Vec<Remembered>,
    focus: FocusCache,
    beginnings: (String, Vec<Beginning>),
    /// Where the tokens of that answer come from.
    reasons: Vec<Reason>,
    refit: Refit,
    /// Keys and values of texts that are weighed.
    weighed: Option<KvCache>,
}

impl ModelCompleter {
    /// Uses the model under these options.
    pub fn new(generator: Generator, options: CompletionOptions) -> ModelCompleter {
        // Documents outside of any folder: what they say themselves, other open ones, and code in general.
        let tokenizer = generator.model().tokenizer.clone();
        let outside = Arc::new(Memory::open(Path::new(""), None, tokenizer));
        ModelCompleter {
            generator,
            options,
            confidence: Confidence::default(),
            gate: None,
            memories: vec![Remembered::new(outside)],
            focus: FocusCache::default(),
            beginnings: Default::default(),
            reasons: Vec::new(),
            refit: Refit::default(),
            weighed: None,
        }
    }

    /// From now on, mixes in what this memory knows, and nothing else.
    pub fn set_memory(&mut self, memory: Option<Arc<Memory>>) {
        self.memories = memory.into_iter().map(Remembered::new).collect();
        self.focus = FocusCache::default();
    }

    /// Weighs answers by this scale.
    pub fn set_confidence(&mut self, confidence: Confidence) {
        self.confidence = confidence;
    }

    /// Weighs every memory by this gate, which belongs to the model.
    pub fn set_gate(&mut self, gate: Gate) {
        self.memories.iter().for_each(|known| known.memory.set_gate(gate.clone()));
        self.gate = Some(gate);
    }

    /// The probability from which automatic answers are shown.
    pub fn threshold(&self) -> f32 {
        self.confidence.threshold(self.options.precision)
    }

    /// The last answer as it was generated, first choice, with its beginnings: what a scale is fitted to.
    pub fn last_beginnings(&self) -> (&str, &[Beginning]) {
        (&self.beginnings.0, &self.beginnings.1)
    }

    /// From now on, keeps where each token of an answer comes from.
    pub fn set_explain(&mut self, explain: bool) {
        self.options.explain = explain;
    }

    /// Why the first of the last suggestions, those for `document`, reads as it does.
    pub fn explain(&self, document: &Document, suggestion: &Suggestion) -> Vec<Explained> {
        let path = document.path.as_deref().unwrap_or(Path::new(""));
        let known = self.memories.iter().find(|known| path.starts_with(known.memory.root()));
        let root = known.map_or(Path::new(""), |known| known.memory.root());
        let tokenizer = &self.generator.model().tokenizer;
        explain(&self.reasons, &suggestion.edit.new_text, tokenizer, root)
    }

    /// Gives the generator back.
    pub fn into_generator(self) -> Generator {
        self.generator
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
        self.memories.iter_mut().for_each(|known| known.retrieved.forget(uri));
    }

    fn remember(&mut self, root: &Path) -> Option<Arc<Memory>> {
        let tokenizer = self.generator.model().tokenizer.clone();
        let memory = Arc::new(Memory::open(root, self.options.store.as_deref(), tokenizer));
        if let Some(gate) = &self.gate {
            memory.set_gate(gate.clone());
        }
        self.take_in(memory.clone());
        Some(memory)
    }

    fn fits(&self, memory: &Memory) -> bool {
        memory.fingerprint() == fingerprint(&self.generator.model().tokenizer)
    }

    fn adopt(&mut self, memory: Arc<Memory>) {
        // It may still be weighed for the model before this one.
        match &self.gate {
            Some(gate) => memory.set_gate(gate.clone()),
            None => memory.reset_gate(),
        }
        self.take_in(memory);
    }

    fn leave(&mut self, root: &Path) {
        self.memories.retain(|known| known.memory.root() != root);
        self.refit = Refit::default();
    }

    fn set_sources(&mut self, sources: Sources) {
        (self.options.memory, self.options.retrieval) = (sources.memory, sources.retrieval);
    }

    fn proposals(&mut self, ask: &Ask<'_>, cancel: &CancelToken) -> Vec<Proposal> {
        super::repair::proposals(Some(self), ask, cancel)
    }

    fn name(&self) -> String {
        self.generator.model().name.clone()
    }

    fn idle(&mut self) -> bool {
        // What would be fitted here is kept for the models without a gate of their own.
        if self.gate.is_some() || !self.options.memory {
            return false;
        }
        let memories = self.memories.iter().map(|known| known.memory.clone()).collect::<Vec<_>>();
        self.refit.step(self.generator.model(), &memories, &mut self.focus)
    }
}

impl ModelCompleter {
    /// Gives `work` what weighs texts of a document that is called `name`.
    pub(super) fn with_weigher<R>(
        &mut self,
        document: &Document,
        name: &str,
        work: impl FnOnce(&mut Weigher<'_>) -> R,
    ) -> R {
        let model = self.generator.model();
        let kv = self.weighed.get_or_insert_with(|| model.engine.new_cache());
        let path = document.path.as_deref().unwrap_or(Path::new(""));
        let known = self.memories.iter().find(|known| path.starts_with(known.memory.root()));
        let known = known.or(self.memories.last()).filter(|_| self.options.memory);
        let memory = known.map(|known| &*known.memory);
        work(&mut Weigher { model, kv, memory, cache: &mut self.focus, name })
    }

    /// The lines around a place as the model corrects them, seeing them; `None` for families that never learnt it, or
    /// where it has nothing to say.
    pub(super) fn corrected(
        &mut self,
        document: &Document,
        within: Range<usize>,
        cancel: &CancelToken,
    ) -> Option<(Range<usize>, String)> {
        const LINES: usize = 8;
        const AROUND: usize = 1_200;
        let (text, source) = (&document.text, document.text.as_str());
        let first = text.line_of(within.start);
        let last = text.line_of(within.end.saturating_sub(1).max(within.start)).min(first + LINES);
        let range = text.line_range(first).start..text.line_range(last).end;
        let from = source.floor_char_boundary(range.start.saturating_sub(AROUND));
        let to = source.floor_char_boundary((range.end + AROUND / 2).min(source.len()));
        let tokenizer = self.generator.model().tokenizer.clone();
        let path = prompt::short_path(document.path.as_deref().unwrap_or(Path::new("")));
        let parts = [&source[from..range.start], &source[range.clone()], &source[range.end..to]];
        let tokens = tokenizer.repair_prompt(&path, parts[0], parts[1], parts[2])?;
        let max_tokens = tokenizer.encode(parts[1]).len() + 24;
        if tokens.len() + max_tokens >= self.generator.model().engine.context() {
            return None;
        }
        let prompt = crate::generation::Prompt { tokens, ..Default::default() };
        let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        let mut rule = |_: Generated<'_>| Flow::Continue;
        let key = format!("{} corrected", document.uri);
        let written = self.generator.generate(&key, &prompt, &options, None, &mut rule, cancel);
        self.generator.forget(&key);
        let written = written.ok().filter(|written| written.finish == Finish::End)?;
        Some((range, written.text))
    }

    /// Counts a memory from now on, in place of the one of the same folder.
    fn take_in(&mut self, memory: Arc<Memory>) {
        self.memories.retain(|known| known.memory.root() != memory.root());
        self.memories.push(Remembered::new(memory));
        // A folder inside another one speaks for its own files.
        self.memories.sort_by_key(|known| std::cmp::Reverse(known.memory.root().as_os_str().len()));
        self.refit = Refit::default();
    }

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
        let path = document.path.as_deref().unwrap_or(Path::new(""));
        let known = self.memories.iter().position(|known| path.starts_with(known.memory.root()));
        let mut known = match known {
            Some(at) => self.memories.get_mut(at),
            None => self.memories.last_mut(),
        };
        let retrieved = match &mut known {
            Some(known) if self.options.retrieval => {
                let limit = (context as f64 * self.options.retrieval_share) as usize;
                let site = retrieved::Site { snapshot: &request.snapshot, text, offset };
                known.retrieved.tokens(&model.tokenizer, &site, limit, !automatic)
            }
            _ => &[],
        };
        let prompt =
            prompt::build(&model.tokenizer, document, (text, offset), retrieved, context, room);
        let rules = Rules::new(document, &place.text, place.offset);
        let mut focus = known.filter(|_| self.options.memory).map(|known| {
            let history = prompt::history_end(&place.text[..place.offset], &prompt.healed);
            let after = place.offset..place.text.len();
            let (cache, mixing) = (&mut self.focus, self.options.mixing.clone());
            let snapshot = &request.snapshot;
            Focus::new(&known.memory, cache, snapshot, &place.text, 0..history, after, mixing)
        });
        let indent = document.language.map_or("    ", |l| l.indent);
        let site = Site { text: &place.text, offset: place.offset, indent };
        let limit = if automatic { self.options.time_limit } else { INVOKED_TIME_LIMIT };
        let precision = request.precision.unwrap_or(self.options.precision);
        self.confidence.habit = request.habit;
        let mut timing = Timing { prompt_tokens: prompt.tokens.len(), ..Timing::default() };
        let mut silence = Silence::Empty;
        let items = request.items.max(1);
        // Each with what its first line is worth, in nats.
        let mut suggestions: Vec<(f32, Suggestion)> = Vec::new();
        let (mut tries, mut best) = (items, f32::NEG_INFINITY);
        for rank in 0.. {
            if rank >= tries {
                break;
            }
            let options = GenerateOptions {
                max_tokens: self.options.max_tokens,
                first_rank: rank,
                deadline: Some(start + limit),
                drafts: self.options.drafts,
                one_line: rules.extent == Extent::Line,
                explain: self.options.explain,
                ..GenerateOptions::default()
            };
            if rank > 0 && start.elapsed() >= limit {
                break;
            }
            let publish = (rank == 0).then_some(progress);
            let key = &document.uri;
            let mut stop = Stop { rules: &rules, progress: publish, cut: None };
            let mut rule = |generated: Generated<'_>| stop.after(generated);
            let memory = focus.as_mut();
            let generation =
                self.generator.generate(key, &prompt, &options, memory, &mut rule, cancel);
            let generation = generation.map(|generation| (stop.kept(&generation.text), generation));
            let (text, generation) = match generation {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(%error, "generation failed");
                    return Completion::silent(Silence::EngineFailed);
                }
            };
            if rank == 0 {
                timing.cached_tokens = generation.cached_tokens;
                if generation.first_free.exp() < self.options.unsure {
                    tries = tries.max(2);
                }
            }
            timing.generated_tokens += generation.generated_tokens;
            timing.steps += generation.steps;
            timing.drafted_tokens += generation.drafted.1;
            let whole = probability(&generation, text.len());
            tracing::debug!(
                text, probability = whole, finish = ?generation.finish, steps = generation.steps,
                drafted = ?generation.drafted, "generated"
            );
            if generation.finish == Finish::Cancelled {
                silence = Silence::Cancelled;
                break;
            }
            // An alternative that time cut off is a fragment.
            if rank > 0 && generation.finish == Finish::Limit && start.elapsed() >= limit {
                break;
            }
            let tree = document.tree.as_ref();
            let beginnings = beginnings(&generation, text.trim_end().len());
            let scale = Scale {
                confidence: &self.confidence,
                beginnings: &beginnings,
                least: self.confidence.threshold(precision),
                precision,
            };
            let shaped = suggestion(&scale, &site, &text, &generation, automatic, tree);
            let worth = generation.line_log_prob();
            if worth > best || rank == 0 {
                (self.beginnings, best) = ((text, beginnings), worth);
                self.reasons = generation.reasons;
            }
            match shaped {
                Ok(mut suggestion) => {
                    suggestion.edit = place.on_document(suggestion.edit);
                    if !suggestions.iter().any(|(_, s)| s.edit == suggestion.edit) {
                        suggestions.push((worth, suggestion));
                    }
                }
                Err(reason) if rank == 0 => silence = reason,
                Err(_) => {}
            }
        }
        suggestions.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let suggestions: Vec<_> = suggestions.into_iter().take(items).map(|(_, s)| s).collect();
        let silence = suggestions.is_empty().then_some(silence);
        Completion { suggestions, silence, timing }
    }
}

/// How one answer is judged.
struct Scale<'a> {
    confidence: &'a Confidence,
    beginnings: &'a [Beginning],
    /// Least probability of an automatic answer: then the wanted share of them is right.
    least: f32,
    /// That share: the least probability of half a line, which is cut just where it is reached.
    precision: f32,
}

impl Scale<'_> {
    /// The probability that the user's text goes on with the first `length` bytes.
    fn probability(&self, length: usize) -> f32 {
        let fits = self.beginnings.iter().find(|b| b.end >= length).or(self.beginnings.last());
        fits.map_or(0.0, |beginning| self.confidence.probability(beginning))
    }

    /// The longest beginning of the first line that is likely enough and ends with a word; a sure half of
    /// a line is better than an unsure whole one.
    fn sure_half<'a>(&self, text: &'a str) -> Option<&'a str> {
        let least = self.least.max(self.precision);
        let line = text.lines().next().unwrap_or("").len();
        let sure = |b: &&Beginning| is_half(text, b.end) && self.confidence.probability(b) >= least;
        let mut halves = self.beginnings.iter().rev().filter(|b| b.end < line);
        halves.find(sure).map(|b| text[..b.end].trim_end())
    }
}

/// Shapes one generation, or says why it is not shown.
fn suggestion(
    scale: &Scale<'_>,
    site: &Site<'_>,
    text: &str,
    generation: &Generation,
    automatic: bool,
    tree: Option<&SyntaxTree>,
) -> Result<Suggestion, Silence> {
    let mut text = text;
    let whole = text;
    // A generation that ran out of tokens ends in the middle of a line: keep the whole lines.
    if generation.finish == Finish::Limit {
        match text.rfind('\n') {
            Some(end) => text = &text[..end],
            None if automatic => text = "",
            None => {}
        }
    }
    let enough = |text: &str| match automatic {
        true => scale.probability(text.trim_end().len()) >= scale.least,
        false => probability(generation, text.trim_end().len()) >= LIKELY,
    };
    text = confident_lines(text, enough);
    if automatic && (text.is_empty() || !enough(text)) {
        let short = if text.is_empty() { Silence::OutOfTime } else { Silence::LowConfidence };
        text = scale.sure_half(whole).ok_or(short)?;
    }
    let text = without_broken_lines(site, text, tree);
    let edit = shape(site, text)?;
    let length = text.trim_end().len();
    if !automatic && probability(generation, length) < HOPELESS {
        return Err(Silence::LowConfidence);
    }
    Ok(Suggestion { edit, probability: scale.probability(length) })
}

/// The stop rule of one generation: asks the rules, and publishes the text as far as they let it go.
struct Stop<'a> {
    rules: &'a Rules<'a>,
    progress: Option<&'a Progress>,
    cut: Option<usize>,
}

impl Stop<'_> {
    fn after(&mut self, generated: Generated<'_>) -> Flow {
        self.cut = self.rules.cut(generated.text);
        if let Some(progress) = self.progress {
            progress.set(&generated.text[..self.cut.unwrap_or(generated.text.len())]);
        }
        if self.cut.is_some() { Flow::Stop } else { Flow::Continue }
    }

    fn kept(&self, text: &str) -> String {
        text[..self.cut.unwrap_or(text.len()).min(text.len())].to_string()
    }
}

/// The probability that the first `length` bytes are exactly right, as the model sees it.
fn probability(generation: &Generation, length: usize) -> f32 {
    let at = length.min(generation.log_prob_at.len());
    // NaN.max(0.0) is 0: broken weights are not certain of anything.
    if at == 0 { 0.0 } else { generation.log_prob_at[at - 1].exp().max(0.0) }
}

/// Drops last lines until what is left is likely enough, but keeps the first.
fn confident_lines(text: &str, enough: impl Fn(&str) -> bool) -> &str {
    let mut text = text;
    while !enough(text) {
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
