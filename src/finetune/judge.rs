//! What a model is worth in a repository whose memory is switched on: how probable the newer lines are, which rests of
//! lines come out exactly, and what it still knows of general code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Watch;
use super::data::{MOST_PLACES, Part};
use super::exact;
use crate::eval::completion::{Answer, Context, Mode, Options, Place, ask, draw, memory};
use crate::eval::compression::Texts;
use crate::eval::perplexity;
use crate::generation::{Generator, Model, ModelSource, fit};
use crate::memory::gate::Event;
use crate::memory::{FocusCache, Gate, Memory, chunks::Chunks};
use crate::model::engine::Precision;
use crate::suggest::{CompletionOptions, ModelCompleter};
use crate::text::Text;
use crate::tokenizer::{TokenId, Tokenizer};

/// Tokens of one run of lines that are scored.
const RUN: usize = 96;
/// Runs whose tokens are scored, and lines of which the rest is asked for: at least and at most.
pub(super) const RUNS: [usize; 2] = [30, 300];
pub(super) const PLACES: [usize; 2] = [100, MOST_PLACES];
/// Longer than any answer takes.
const NO_HURRY: Duration = Duration::from_secs(3600);
/// Bytes of general code that are scored, in each language.
const GENERAL_BYTES: usize = 20_000;

/// The lines that models are judged by, with the memory of their repository.
pub(super) struct Judge<'a> {
    part: &'a Part,
    memory: Arc<Memory>,
    runs: Vec<Run>,
    places: &'a [Place],
}

/// The events of some lines, one line after the other.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) events: Vec<Event>,
    /// Events of each line.
    lengths: Vec<usize>,
}

impl Lines {
    /// The share of rests that should come out exactly with a gate like this one, fitted to the repository.
    pub(super) fn exact(&self, gate: &Gate) -> f64 {
        let probabilities = gate.mixed_refitted(&self.events);
        let mut left = &probabilities[..];
        let shares = self.lengths.iter().map(|&length| {
            let (line, rest) = left.split_at(length);
            left = rest;
            exact::share(line)
        });
        // A broken model foresees nothing.
        (shares.sum::<f64>() / self.lengths.len().max(1) as f64).max(0.0)
    }
}

/// Lines to score, with what is known around them.
struct Run {
    name: String,
    before: Vec<TokenId>,
    scored: Vec<TokenId>,
    after: Vec<TokenId>,
}

impl<'a> Judge<'a> {
    /// Draws the lines by a seed.
    pub(super) fn new(part: &'a Part, tokenizer: &Arc<Tokenizer>, seed: u64) -> Result<Judge<'a>> {
        let memory = memory(&part.judge, tokenizer.clone())?;
        let mut chunks = Chunks::default();
        let mut encode = |text: &str| {
            let mut tokens = Vec::new();
            chunks.encode(tokenizer, text, &mut tokens);
            tokens
        };
        let lines = draw(&part.judge, Mode::Line, &[], seed, RUNS[1]);
        let runs = lines.iter().map(|place| {
            let file = &part.judge.files[place.file];
            let text = Text::new(file.text.as_str());
            let start = text.line_range(text.line_of(place.cursor)).start;
            let end = (place.resume + 1).min(file.text.len()).max(place.end);
            let mut scored = encode(&file.text[start..end]);
            scored.truncate(RUN);
            let (before, after) = (encode(&file.text[..start]), encode(&file.text[end..]));
            Run { name: file.path.clone(), before, scored, after }
        });
        let runs = runs.collect();
        Ok(Judge { part, memory, runs, places: &part.places })
    }

    /// Keeps no more than so many runs and places.
    pub(super) fn limit(&mut self, runs: usize, places: usize) {
        self.runs.truncate(runs);
        self.places = &self.places[..places.min(self.places.len())];
    }

    /// Measured seconds to score a run and to answer at a place.
    pub(super) fn seconds(&self, source: &ModelSource, gate: &Gate) -> Result<(f64, f64)> {
        const TRIED: usize = 6;
        let model = Model::load(source, Precision::Quantized)?;
        let start = Instant::now();
        self.score(&model, &self.runs[..self.runs.len().min(TRIED)], &mut |_| Ok(()))?;
        let scored = start.elapsed().as_secs_f64() / self.runs.len().clamp(1, TRIED) as f64;
        let start = Instant::now();
        self.ask(model, gate, self.places.iter().take(TRIED), &mut |_| Ok(()))?;
        Ok((scored, start.elapsed().as_secs_f64() / self.places.len().clamp(1, TRIED) as f64))
    }

    /// What the gate between model and memory sees at each token of the newer lines.
    pub(super) fn lines(&self, model: &Model, watch: &mut Watch<'_>) -> Result<Lines> {
        let all = self.runs.len();
        self.score(model, &self.runs, &mut |done| watch.step("newer lines weighed", done, all))
    }

    fn score(
        &self,
        model: &Model,
        runs: &[Run],
        say: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Lines> {
        let (mut kv, mut cache) = (model.engine.new_cache(), FocusCache::default());
        let mut lines = Lines::default();
        for (done, run) in runs.iter().enumerate() {
            say(done)?;
            let texts = (&run.before[..], &run.scored[..], &run.after[..]);
            let name = &run.name;
            let events = fit::events_within(model, &mut kv, &self.memory, &mut cache, name, texts)?;
            lines.lengths.push(events.len());
            lines.events.extend(events);
        }
        Ok(lines)
    }

    /// Asks for the rests of newer lines, as an editor does.
    pub(super) fn answers(
        &self,
        model: Model,
        gate: &Gate,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Answer>> {
        let all = self.places.len();
        let mut say = |done| watch.step("rests of lines asked for", done, all);
        self.ask(model, gate, self.places.iter(), &mut say)
    }

    fn ask<'p>(
        &self,
        model: Model,
        gate: &Gate,
        places: impl Iterator<Item = &'p Place>,
        say: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Answer>> {
        self.memory.set_gate(gate.clone());
        // What else the machine does must not decide what is installed.
        let (time_limit, invoked_time_limit) = (NO_HURRY, NO_HURRY);
        let unhurried = CompletionOptions { time_limit, invoked_time_limit, ..Default::default() };
        let mut completer = ModelCompleter::new(Generator::new(model), unhurried);
        completer.set_memory(Some(self.memory.clone()));
        let options = Options { mode: Mode::Rest, context: Context::Fim, ..Options::default() };
        let mut answers = Vec::new();
        for (done, place) in places.enumerate() {
            say(done)?;
            answers.push(ask(&mut completer, &self.part.judge, place, &options));
        }
        Ok(answers)
    }
}

/// Bits per byte of code that came with the program and is in nobody's repository but its own; a large number for a
/// broken model.
pub(super) fn general(model: &Model) -> Result<f64> {
    let files = crate::eval::texts::sample(Texts::built_in().judged, GENERAL_BYTES, 1);
    let report = perplexity::loss(model, None, &files, 0, 1, &mut |_, _, _| {})?;
    let bytes: usize = report.languages.iter().map(|l| l.bytes).sum();
    let bits: f64 = report.languages.iter().map(|l| l.bits_per_byte * l.bytes as f64).sum();
    // What is no number could not be written down.
    Ok((bits / bytes.max(1) as f64).min(f64::MAX))
}
