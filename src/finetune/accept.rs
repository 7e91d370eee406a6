//! A model that was tuned elsewhere, judged by the lines that one that was tuned here is judged by: it is let in only
//! if it completes more of them exactly and has not forgotten general code.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::generation::{Model, ModelSource};
use crate::memory::{Gate, fingerprint};
use crate::model::engine::Precision;
use crate::statistics::Figure;

use super::data::Data;
use super::judge::{self, Judge, RUNS};
use super::report::{Compared, uncertain};
use super::{GENERAL, Request, Watch, source_of};

/// Rests of lines that are asked for: enough to tell two points from none.
const PLACES: usize = 500;

/// What a judgement came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Accepted {
    /// Rests of newer lines that were asked for.
    pub places: usize,
    /// Share of them that comes out exactly, of the model without and with the change.
    pub before: Figure,
    /// See `before`.
    pub after: Figure,
    /// The gain in points.
    pub gain: Figure,
    /// Bits per byte of general code, before and after.
    pub general: (f64, f64),
    /// In words.
    pub verdict: String,
    /// Whether it is let in.
    pub is_better: bool,
    /// How the memory is weighed.
    #[serde(skip)]
    pub gate: Gate,
}

/// Judges `tuned` beside the model of the request, on top of the memory of the repository.
///
/// # Errors
/// A repository that gives too little, a model that cannot be loaded or reads text as other tokens, a stop.
pub fn accept(request: &Request, tuned: &Path, watch: &mut Watch<'_>) -> Result<Accepted> {
    let data = Data::read(&source_of(request)?, request.seed)?;
    let original = Model::load(&request.model, Precision::Quantized)?;
    let tuned = Model::load(&ModelSource::Path(tuned.to_path_buf()), Precision::Quantized)?;
    let tokenizer = original.tokenizer.clone();
    ensure!(
        fingerprint(&tokenizer) == fingerprint(&tuned.tokenizer),
        "the model has another tokenizer than the one in the program, so that they cannot be compared: name the \
         model that it was made of with --model"
    );
    // What is nearest to the judged lines has been learnt from: the gate is that of the model as it was.
    let gate = {
        let mut judge = Judge::new(&data.search, &tokenizer, request.seed)?;
        judge.limit(RUNS[1], 0);
        Gate::shipped().refitted(&judge.lines(&original, watch)?.events)
    };
    let general = (judge::general(&original)?, judge::general(&tuned)?);
    let mut judge = Judge::new(&data.last, &tokenizer, request.seed)?;
    judge.limit(0, request.places.unwrap_or(PLACES));
    let before = judge.answers(original, &gate, watch)?;
    let after = judge.answers(tuned, &gate, watch)?;
    let Compared { places, before, after, gain, .. } = Compared::of(&before, &after, request.seed);
    let forgets = general.1 > GENERAL * general.0;
    let is_better = !forgets && gain.low.is_some_and(|low| low > 0.0);
    let verdict = match (forgets, is_better) {
        (true, _) => "it forgets more than 2 % of general code".to_string(),
        (false, true) => "better, and certain at 95 %".to_string(),
        (false, false) => uncertain(gain, places),
    };
    Ok(Accepted { places, before, after, gain, general, verdict, is_better, gate })
}
