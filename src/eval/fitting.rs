//! Fits what the program ships with: the gate between model and memory, and the scale of its answers, on
//! repositories that the model was not trained on. Each file is judged by a memory that does not know it.

use std::sync::Arc;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::completion::{Context, Mode, Place, draw, memory, request};
use super::texts::Repository;
use crate::generation::{CancelToken, Generator, Model, fit};
use crate::memory::gate::Event;
use crate::memory::{FocusCache, Gate, Memory, Mixing};
use crate::suggest::choice::Choice;
use crate::suggest::confidence::{Answered, Beginning, Confidence, Walk, is_half};
use crate::suggest::{Completer, CompletionOptions, CompletionRequest, ModelCompleter, Progress};

/// Passes over the events of all repositories.
const ROUNDS: usize = 400;
/// What the choice between lines is fitted to.
const CHOSEN: [(Mode, Context); 4] = [
    (Mode::Rest, Context::Fim),
    (Mode::Rest, Context::Left),
    (Mode::Line, Context::Fim),
    (Mode::Line, Context::Left),
];
/// What the scale is fitted to.
const SCALED: [(Mode, Context); 3] =
    [(Mode::Rest, Context::Fim), (Mode::Rest, Context::Left), (Mode::Line, Context::Fim)];
/// Places of each repository, in multiples of what is asked for.
pub const KINDS: usize = CHOSEN.len() + SCALED.len() + 1;

/// Bits per token in one repository. All tokens of its windows count, in halves with and without the text
/// behind the window.
#[derive(Clone, Debug, Serialize)]
pub struct Bits {
    /// Its name.
    pub repository: String,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// By the model alone.
    pub model: f64,
    /// Mixed with the memory by the gate that the program has now.
    pub mixed: f64,
    /// How many percent lower that is.
    pub lower: f64,
    /// With one weight for all places, the best of nine.
    pub fixed: f64,
    /// With the gate fitted to the first half of the repository's windows, on the second half; and the gate as it
    /// was on the same half.
    pub refitted: (f64, f64),
}

/// A repository's memory and the events of its windows.
pub struct Gathered {
    name: String,
    memory: Arc<Memory>,
    events: Vec<Event>,
}

/// Gathers `windows` windows of each repository. `say` hears of windows done.
pub fn gather(
    model: &Model,
    repositories: &[Repository],
    windows: usize,
    seed: u64,
    say: &mut dyn FnMut(usize),
) -> Result<Vec<Gathered>> {
    let (mut kv, mut cache) = (model.engine.new_cache(), FocusCache::default());
    let mut all = Vec::new();
    for (number, repository) in repositories.iter().enumerate() {
        let memory = memory(repository, model.tokenizer.clone())?;
        let shelf = memory.shelf();
        let segment = &shelf.segments[0].0;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut events = Vec::new();
        for window in 0..windows {
            let at = rng.random_range(0..segment.tokens().len() as u32);
            let Some(index) = segment.file_at(at) else { continue };
            let (name, range, _) = segment.file(index);
            let tokens = &segment.tokens()[range.start as usize..range.end as usize];
            let file = (name, tokens);
            events.extend(fit::events(model, &mut kv, &memory, &mut cache, file, &mut rng)?);
            say(number * windows + window + 1);
        }
        all.push(Gathered { name: repository.name.clone(), memory, events });
    }
    Ok(all)
}

/// What the events say of the gate as it is.
pub fn bits(gathered: &Gathered) -> Bits {
    const LN_2: f64 = std::f64::consts::LN_2;
    let Gathered { name, memory, events } = gathered;
    let gate = memory.shelf().gate;
    let nats = |p: f32| -f64::from(p.max(1e-9).ln());
    let count = events.len().max(1) as f64;
    let model = events.iter().map(|e| nats(e.model)).sum::<f64>() / count / LN_2;
    let mixed = gate.nats(events) / LN_2;
    let fixed = (1..10).map(|i| {
        let rule = Mixing::Fixed(0.1 * i as f32);
        events.iter().map(|e| nats(rule.mixed(&gate, e))).sum::<f64>() / count / LN_2
    });
    let (learn, judge) = events.split_at(events.len() / 2);
    let own = gate.refitted(learn);
    Bits {
        repository: name.clone(),
        tokens: events.len(),
        model,
        mixed,
        lower: 100.0 * (1.0 - mixed / model),
        fixed: fixed.fold(f64::INFINITY, f64::min),
        refitted: (own.nats(judge) / LN_2, gate.nats(judge) / LN_2),
    }
}

/// The gate that fits all repositories, each with the same weight.
pub fn gate(gathered: &[Gathered]) -> Gate {
    let events: Vec<Event> = gathered.iter().flat_map(|g| g.events.iter().copied()).collect();
    Gate::default().fit(&events, ROUNDS, 1.0)
}

/// The choice between lines and the scale that fit the answers at `places` places of each repository and kind, and the
/// thresholds that fit as many lines, typed key by key. `say` hears of places done, [`KINDS`] times as many as `places`.
pub fn confidence(
    model: Model,
    gate: &Gate,
    repositories: &[Repository],
    gathered: &[Gathered],
    places: usize,
    seed: u64,
    say: &mut dyn FnMut(usize),
) -> Confidence {
    let mut completer = ModelCompleter::new(Generator::new(model), CompletionOptions::default());
    let (mut samples, mut walks, mut done) = (Vec::new(), Vec::new(), 0);
    let mut choices = Vec::new();
    completer.set_survey(true);
    for (repository, Gathered { memory, .. }) in repositories.iter().zip(gathered) {
        memory.set_gate(gate.clone());
        completer.set_memory(Some(memory.clone()));
        for (mode, context) in CHOSEN {
            for place in draw(repository, mode, &[], seed, places) {
                let request = request(repository, &place, context);
                completer.complete(&request, &Progress::new(), &CancelToken::new());
                let text = &repository.files[place.file].text;
                let line = text[place.cursor..].lines().next().unwrap_or("").trim_end();
                let lines = completer.surveyed().iter();
                choices.push(lines.map(|(text, x)| (*x, text == line)).collect());
                completer.forget(&request.snapshot.document.uri);
                done += 1;
                say(done);
            }
        }
    }
    completer.set_survey(false);
    let choice = Choice::fit(&choices);
    let mut scale = Confidence::naive();
    scale.choice = choice;
    completer.set_confidence(scale);
    for (repository, Gathered { memory, .. }) in repositories.iter().zip(gathered) {
        completer.set_memory(Some(memory.clone()));
        for (mode, context) in SCALED {
            for place in draw(repository, mode, &[], seed, places) {
                let request = request(repository, &place, context);
                let text = &repository.files[place.file].text;
                let answered = ask(&mut completer, &request, text, false);
                samples.extend(answered.beginnings);
                completer.forget(&request.snapshot.document.uri);
                done += 1;
                say(done);
            }
        }
        // Other lines than those that the scale is fitted to.
        for place in draw(repository, Mode::Line, &[], seed + 1, places) {
            walks.push(walk(&mut completer, repository, &place));
            done += 1;
            say(done);
        }
    }
    Confidence::fit(&samples, &walks, choice)
}

/// Types the line at a place and asks before each key.
fn walk(completer: &mut ModelCompleter, repository: &Repository, place: &Place) -> Walk {
    /// Keys of a line at most.
    const MOST: usize = 60;
    let text = &repository.files[place.file].text;
    let keys = (place.cursor..place.end).take(MOST);
    let mut uri = String::new();
    let walk = keys.map(|cursor| {
        if !text.is_char_boundary(cursor) {
            return Answered::default();
        }
        let request = request(repository, &Place { cursor, ..place.clone() }, Context::Fim);
        uri.clone_from(&request.snapshot.document.uri);
        ask(completer, &request, text, true)
    });
    let walk = walk.collect();
    completer.forget(&uri);
    walk
}

/// What is answered at the cursor's place in `truth`: all beginnings, or, of one line, those that could come into
/// sight, as [`Answered`] wants them.
fn ask(
    completer: &mut ModelCompleter,
    request: &CompletionRequest,
    truth: &str,
    one_line: bool,
) -> Answered {
    completer.complete(request, &Progress::new(), &CancelToken::new());
    let truth = &truth[request.offset..];
    let (text, beginnings) = completer.last_beginnings();
    let judge = |b: &Beginning| (b.clone(), is_right(&text[..b.end], text, truth));
    let same = text.bytes().zip(truth.bytes()).take_while(|(a, b)| a == b);
    let agrees = same.count();
    if !one_line {
        return Answered { beginnings: beginnings.iter().map(judge).collect(), agrees };
    }
    let line = text.lines().next().unwrap_or("").trim_end().len();
    let whole = beginnings.iter().find(|b| b.end >= line).or(beginnings.last());
    let whole = whole.filter(|_| line > 0).map(|b| Beginning { end: line, ..b.clone() });
    let halves = beginnings.iter().filter(|b| b.end < line && is_half(text, b.end)).cloned();
    Answered { beginnings: halves.chain(whole).map(|b| judge(&b)).collect(), agrees }
}

/// Whether the truth goes on like this beginning of an answer; where it ends a line, that must end there, too.
fn is_right(beginning: &str, text: &str, truth: &str) -> bool {
    let ends_line = text[beginning.len()..].chars().next().is_none_or(|c| c == '\n');
    let Some(rest) = truth.strip_prefix(beginning.trim_end_matches('\n')) else { return false };
    !ends_line
        || rest.trim_start_matches([' ', '\t', '\r']).starts_with('\n')
        || rest.trim().is_empty()
}
