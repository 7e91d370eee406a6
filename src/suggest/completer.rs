//! Completion with a model: prompt, generation under rules, shaping, ranking, the show filter.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generation::{CancelToken, Finish, Flow, GenerateOptions, Generated, Generator, Reason};
use crate::memory::{Focus, FocusCache, Gate, Memory, Mixing, fingerprint};
use crate::model::kv_cache::KvCache;
use crate::remote::RemoteModel;
use crate::text::TextEdit;
use crate::workspace::{Document, Snapshot};

use super::candidate::{Scale, Stop, probability, suggestion};
use super::choice::{self, Around, Line, Own, Weighed};
use super::confidence::{Beginning, Confidence, beginnings};
use super::consult::{Consult, Cursor, probability_beside};
use super::explain::{Explained, explain};
use super::prompt;
use super::refit::Refit;
use super::repair::{Ask, Proposal, Weigher};
use super::retrieved::{self, Retrieved};
use super::rules::{Extent, Rules};
use super::shape::{Site, rest_of_line};
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
    /// Time for an answer that the user asked for.
    pub invoked_time_limit: Duration,
    /// Of all automatic answers that are shown, this share should be right, 0 to 1.
    pub precision: f32,
    /// Whether the memory is mixed in.
    pub memory: bool,
    /// How it is.
    pub mixing: Mixing,
    /// Whether long matches are copied on trial; the answers are the same.
    pub drafts: bool,
    /// How many lines that stand at other places are weighed against the own one.
    pub lines: usize,
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
            invoked_time_limit: Duration::from_secs(3),
            precision: 0.5,
            memory: true,
            mixing: Mixing::Gate,
            drafts: true,
            lines: 2,
            retrieval: true,
            retrieval_share: 0.25,
            explain: false,
            store: None,
        }
    }
}

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

/// The memory that speaks for a document: of the innermost folder around it, else the last one.
fn about(memories: &[Remembered], document: &Document) -> Option<usize> {
    let path = document.path.as_deref().unwrap_or(Path::new(""));
    let around = memories.iter().position(|known| path.starts_with(known.memory.root()));
    around.or(memories.len().checked_sub(1))
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
    /// Whether all lines are weighed that could be offered, and what the last ones were.
    survey: Option<Vec<Weighed>>,
    /// Where the tokens of the last suggestions come from, each with its edit.
    reasons: Vec<(TextEdit, Vec<Reason>)>,
    refit: Refit,
    /// Keys and values of texts that are weighed.
    weighed: Option<KvCache>,
    /// A model elsewhere, and what it is asked just now.
    remote: Option<RemoteModel>,
    consult: Option<Consult>,
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
            survey: None,
            reasons: Vec::new(),
            refit: Refit::default(),
            weighed: None,
            remote: None,
            consult: None,
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

    /// From now on, weighs all lines that could be offered: what a choice is fitted to.
    pub fn set_survey(&mut self, survey: bool) {
        self.survey = survey.then(Vec::new);
    }

    /// The lines of the last survey, the own one first.
    pub fn surveyed(&self) -> &[Weighed] {
        self.survey.as_deref().unwrap_or_default()
    }

    /// From now on, keeps where each token of an answer comes from.
    pub fn set_explain(&mut self, explain: bool) {
        self.options.explain = explain;
    }

    /// Why one of the last suggestions, those for `document`, reads as it does.
    pub fn explain(&self, document: &Document, suggestion: &Suggestion) -> Vec<Explained> {
        let path = document.path.as_deref().unwrap_or(Path::new(""));
        let known = self.memories.iter().find(|known| path.starts_with(known.memory.root()));
        let root = known.map_or(Path::new(""), |known| known.memory.root());
        let tokenizer = &self.generator.model().tokenizer;
        let own = self.reasons.iter().find(|(edit, _)| *edit == suggestion.edit);
        let reasons = own.map_or(&[][..], |(_, reasons)| reasons);
        explain(reasons, &suggestion.edit.new_text, tokenizer, root)
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
        self.consult.take_if(|consult| consult.uri() == uri);
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
        (self.remote, self.consult) = (sources.remote, None);
    }

    fn proposals(&mut self, ask: &Ask<'_>, cancel: &CancelToken) -> Vec<Proposal> {
        super::repair::proposals(Some(self), ask, cancel)
    }

    fn explained(
        &mut self,
        request: &CompletionRequest,
        cancel: &CancelToken,
    ) -> Option<(Suggestion, Vec<Explained>)> {
        let was = std::mem::replace(&mut self.options.explain, true);
        let completion = self.complete(request, &Progress::new(), cancel);
        self.options.explain = was;
        let first = completion.suggestions.into_iter().next()?;
        let pieces = self.explain(&request.snapshot.document, &first);
        Some((first, pieces))
    }

    fn generator(&mut self) -> Option<&mut Generator> {
        Some(&mut self.generator)
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
        let known = about(&self.memories, document).filter(|_| self.options.memory);
        let memory = known.map(|at| &*self.memories[at].memory);
        work(&mut Weigher { model, kv, memory, cache: &mut self.focus, name })
    }

    /// Lines of the repository that resemble a place or define what it uses, the best last.
    pub(super) fn nearby(&self, snapshot: &Snapshot, offset: usize) -> Vec<String> {
        let known = about(&self.memories, &snapshot.document).filter(|_| self.options.retrieval);
        let site = retrieved::Site { snapshot, text: snapshot.document.text.as_str(), offset };
        known.map(|at| self.memories[at].retrieved.around(&site)).unwrap_or_default()
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
        let mut known = about(&self.memories, document).map(|at| &mut self.memories[at]);
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
        let cursor = Cursor { document, text, offset };
        let earlier = self.consult.take();
        self.consult = self.remote.as_ref().and_then(|client| {
            let known = known.as_ref().filter(|_| self.options.retrieval);
            let others = || known.map(|known| known.retrieved.texts(&document.uri));
            let others = || others().unwrap_or_default();
            Consult::at(earlier, client, cursor, &rules, others, self.options.max_tokens)
        });
        let mut focus = known.filter(|_| self.options.memory).map(|known| {
            let history = prompt::history_end(&place.text[..place.offset], &prompt.healed);
            let after = place.offset..place.text.len();
            let (cache, mixing) = (&mut self.focus, self.options.mixing.clone());
            let snapshot = &request.snapshot;
            Focus::new(&known.memory, cache, snapshot, &place.text, 0..history, after, mixing)
        });
        let asks_for_lines = self.options.lines > 0
            && self.options.mixing != Mixing::ModelAlone
            && rest_of_line(text, offset).trim().is_empty();
        let around = Around::new(text, offset);
        let indent = document.language.map_or("    ", |l| l.indent);
        let site = Site { text: &place.text, offset: place.offset, indent };
        let CompletionOptions { time_limit, invoked_time_limit, .. } = self.options;
        let limit = if automatic { time_limit } else { invoked_time_limit };
        let precision = request.precision.unwrap_or(self.options.precision);
        self.confidence.habit = request.habit;
        let mut timing = Timing { prompt_tokens: prompt.tokens.len(), ..Timing::default() };
        let mut silence = Silence::Empty;
        let items = request.items.max(1);
        // Each with what its first line is worth, in nats.
        let mut suggestions: Vec<(f32, Suggestion)> = Vec::new();
        self.reasons.clear();
        let (mut tries, mut best) = (items, f32::NEG_INFINITY);
        // Lines that stand at other places, and the one of them that is better than the own one.
        let (mut lines, mut recalled, mut written) = (Vec::new(), None, 0);
        // The probability that the likeliest of its own is right, and whether a better one may still come.
        let (mut own, mut is_provisional) = (0.0, false);
        for rank in 0.. {
            // The model's own choices first, then what the remote one says.
            let is_own = rank < tries && (rank == 0 || start.elapsed() < limit);
            let beside = probability_beside(own);
            let line = recalled.take_if(|_| is_own && rank > 0);
            let is_recalled = line.is_some();
            written += usize::from(is_own && !is_recalled);
            let dictated = match is_own {
                true => line,
                false => {
                    let Some(consult) = self.consult.take() else { break };
                    let latest = if beside > own { start + limit } else { start };
                    let heard = consult.heard(cursor, &rules, latest, cancel);
                    if heard.is_none() && consult.is_coming() && !cancel.is_cancelled() {
                        self.consult = Some(consult);
                        is_provisional = beside > own;
                    }
                    let Some(text) = heard else { break };
                    Some(text)
                }
            };
            let options = GenerateOptions {
                max_tokens: self.options.max_tokens,
                first_rank: written - 1,
                goes_on: is_recalled && rules.extent == Extent::Block,
                deadline: is_own.then_some(start + limit),
                drafts: self.options.drafts,
                one_line: rules.extent == Extent::Line,
                explain: self.options.explain,
                dictated,
                ..GenerateOptions::default()
            };
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
                (silence, self.consult) = (Silence::Cancelled, None);
                break;
            }
            // An alternative that time cut off is a fragment.
            let is_late = generation.finish == Finish::Limit && start.elapsed() >= limit;
            if rank > 0 && is_late && !(is_recalled && text.contains('\n')) {
                break;
            }
            let worth = generation.line_log_prob();
            if let (0, Some(focus)) = (rank, focus.as_mut().filter(|_| asks_for_lines)) {
                let tokenizer = self.generator.model().tokenizer.clone();
                let neighbours = focus.neighbours(&prompt.history, choice::NEIGHBOURS);
                lines = choice::lines(&tokenizer, &neighbours, &prompt.healed, &around);
                let mut weigh = |line: &Line| {
                    let dictated = Some(line.whole.clone());
                    let options = GenerateOptions { dictated, explain: false, ..options.clone() };
                    let (memory, mut rule) = (Some(&mut *focus), |_: Generated<'_>| Flow::Continue);
                    let line =
                        self.generator.generate(key, &prompt, &options, memory, &mut rule, cancel);
                    line.ok().filter(|l| l.finish == Finish::End).map(|l| l.line_log_prob())
                };
                let has_end = generation.text.contains('\n');
                let own = Own { text: &text, log_prob: worth, has_end };
                if let Some(survey) = &mut self.survey {
                    *survey = choice::survey(&own, &lines, &mut weigh);
                }
                let better = self.confidence.choice.better(&own, &lines, self.options.lines, weigh);
                recalled = better.map(|line| line.whole.clone());
                tries = tries.max(1 + usize::from(recalled.is_some()));
            }
            let tree = document.tree.as_ref();
            let support = choice::support(&lines, &text);
            let beginnings = beginnings(&generation, text.trim_end().len(), &support, is_recalled);
            let scale = Scale {
                confidence: &self.confidence,
                beginnings: &beginnings,
                least: self.confidence.threshold(precision),
                precision,
                floor: if is_own { 0.0 } else { beside },
            };
            let shaped = suggestion(&scale, &site, &text, &generation, automatic, tree);
            let probability = scale.probability(text.trim_end().len());
            let worth = match is_own {
                // Behind what is said elsewhere, if that is better still.
                true if is_recalled => f32::MAX,
                true => worth,
                false if probability > own => f32::INFINITY,
                false => f32::NEG_INFINITY,
            };
            let is_better = worth > best && (shaped.is_ok() || !is_recalled);
            if is_own && (is_better || rank == 0) {
                own = probability;
                (self.beginnings, best) = ((text, beginnings), worth);
            }
            match shaped {
                Ok(mut suggestion) => {
                    suggestion.edit = place.on_document(suggestion.edit);
                    match suggestions.iter_mut().find(|(_, s)| s.edit == suggestion.edit) {
                        // Said by both, it is worth what the surer one says.
                        Some((known, _)) => *known = known.max(worth),
                        None => {
                            self.reasons.push((suggestion.edit.clone(), generation.reasons));
                            suggestions.push((worth, suggestion));
                        }
                    }
                }
                Err(reason) if rank == 0 => silence = reason,
                Err(_) => {}
            }
        }
        suggestions.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let suggestions: Vec<_> = suggestions.into_iter().take(items).map(|(_, s)| s).collect();
        let silence = suggestions.is_empty().then_some(silence);
        Completion { suggestions, silence, timing, is_provisional }
    }
}

/// Whether the cursor has word characters on both sides.
fn inside_word(text: &str, offset: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let before = text[..offset].chars().next_back().is_some_and(word);
    before && rest_of_line(text, offset).starts_with(word)
}
