//! One generated text judged: when it is to stop, how much of it is likely enough, how it fits the place.

use std::ops::Range;

use crate::generation::{Finish, Flow, Generated, Generation};
use crate::syntax::SyntaxTree;

use super::confidence::{Beginning, Confidence, is_half};
use super::rules::Rules;
use super::shape::{Site, shape};
use super::{Progress, Silence, Suggestion};

/// An answer that was asked for keeps its later lines down to this probability of the whole…
const LIKELY: f32 = 1e-2;
/// …and its first line down to this one: below it the model is guessing wildly.
const HOPELESS: f32 = 1e-6;

/// How one answer is judged.
pub(super) struct Scale<'a> {
    pub(super) confidence: &'a Confidence,
    pub(super) beginnings: &'a [Beginning],
    /// Least probability of an automatic answer: then the wanted share of them is right.
    pub(super) least: f32,
    /// That share: the least probability of half a line, which is cut just where it is reached.
    pub(super) precision: f32,
    /// How likely the text is at least, whatever the model thinks of it: 0 for a text of its own.
    pub(super) floor: f32,
}

impl Scale<'_> {
    /// The probability that the user's text goes on with the first `length` bytes.
    pub(super) fn probability(&self, length: usize) -> f32 {
        let fits = self.beginnings.iter().find(|b| b.end >= length).or(self.beginnings.last());
        fits.map_or(0.0, |beginning| self.confidence.probability(beginning)).max(self.floor)
    }

    /// Whether the model holds all of a beginning of its text for at least so likely.
    fn is_likely(&self, generation: &Generation, text: &str, least: f32) -> bool {
        self.floor > 0.0 || probability(generation, text.trim_end().len()) >= least
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
pub(super) fn suggestion(
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
        false => scale.is_likely(generation, text, LIKELY),
    };
    text = confident_lines(text, enough);
    if automatic && (text.is_empty() || !enough(text)) {
        let short = if text.is_empty() { Silence::OutOfTime } else { Silence::LowConfidence };
        text = scale.sure_half(whole).ok_or(short)?;
    }
    let text = without_broken_lines(site, text, tree);
    let edit = shape(site, text)?;
    if !automatic && !scale.is_likely(generation, text, HOPELESS) {
        return Err(Silence::LowConfidence);
    }
    Ok(Suggestion { edit, probability: scale.probability(text.trim_end().len()) })
}

/// The stop rule of one generation: asks the rules, and publishes the text as far as they let it go.
pub(super) struct Stop<'a> {
    pub(super) rules: &'a Rules<'a>,
    pub(super) progress: Option<&'a Progress>,
    pub(super) cut: Option<usize>,
}

impl Stop<'_> {
    pub(super) fn after(&mut self, generated: Generated<'_>) -> Flow {
        self.cut = self.rules.cut(generated.text);
        if let Some(progress) = self.progress {
            progress.set(&generated.text[..self.cut.unwrap_or(generated.text.len())]);
        }
        if self.cut.is_some() { Flow::Stop } else { Flow::Continue }
    }

    pub(super) fn kept(&self, text: &str) -> String {
        text[..self.cut.unwrap_or(text.len()).min(text.len())].to_string()
    }
}

/// The probability that the first `length` bytes are exactly right, as the model sees it.
pub(super) fn probability(generation: &Generation, length: usize) -> f32 {
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
