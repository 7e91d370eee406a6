//! How likely it is that an answer is what the user would write: a logistic scale over what the model and the
//! memory thought of each of its tokens, fitted on places whose answer is known.

use serde::{Deserialize, Serialize};

use crate::generation::{Generation, Mark};
use crate::statistics::descend;

use super::choice::{Choice, Support};

/// What is known of the beginning of an answer up to one of its tokens.
pub const FEATURES: [&str; 15] = [
    "bias",
    "log-probability",
    "its square root",
    "worst token",
    "last token",
    "log tokens",
    "share of the memory",
    "belief of the memory",
    "log match length at the start",
    "entropy of the model",
    "ends the line",
    "taken whole from another place",
    "log agreement before it there",
    "log agreement behind it there",
    "likeness of that place",
];

/// A beginning of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// Bytes of it.
    pub end: usize,
    /// See [`FEATURES`].
    pub features: [f32; FEATURES.len()],
}

/// All beginnings of a generation that end with a token within its first `length` bytes, and that of all of
/// them. Bytes past the last token belong to none. `support` is what speaks for its first line, `is_recalled` whether
/// that was not written here but taken from another place.
pub fn beginnings(
    generation: &Generation,
    length: usize,
    support: &Support,
    is_recalled: bool,
) -> Vec<Beginning> {
    let places = support.features();
    let places = [f32::from(u8::from(is_recalled)), places[0], places[1], places[2]];
    let mut found: Vec<Beginning> = Vec::new();
    let mut seen: Vec<&Mark> = Vec::new();
    let text = &generation.text;
    for mark in &generation.marks {
        seen.push(mark);
        let end = mark.end.min(length);
        if !text.is_char_boundary(end) || end == 0 {
            continue;
        }
        let rest = &text[end..length.max(end)];
        let ends_line = rest.is_empty() || rest.starts_with('\n');
        found.push(Beginning { end, features: features(&seen, ends_line, places) });
        if mark.end >= length {
            break;
        }
    }
    found
}

fn features(marks: &[&Mark], ends_line: bool, places: [f32; 4]) -> [f32; FEATURES.len()] {
    let count = marks.len() as f32;
    let finite = |log_prob: f32| if log_prob.is_finite() { log_prob.max(-30.0) } else { -30.0 };
    let mean = |of: &dyn Fn(&Mark) -> f32| marks.iter().map(|m| of(m)).sum::<f32>() / count;
    let sum: f32 = marks.iter().map(|m| finite(m.log_prob)).sum();
    let worst = marks.iter().map(|m| finite(m.log_prob)).fold(0.0, f32::min);
    let (first, last) = (marks[0], marks[marks.len() - 1]);
    [
        1.0,
        sum.max(-30.0),
        (-sum).max(0.0).sqrt(),
        worst,
        finite(last.log_prob),
        count.ln(),
        mean(&|m| m.mixed.lambda),
        mean(&|m| m.mixed.best),
        (first.mixed.length as f32).ln_1p(),
        mean(&|m| m.mixed.entropy),
        f32::from(u8::from(ends_line)),
        places[0],
        places[1],
        places[2],
        places[3],
    ]
}

/// A fitted scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    weights: [f32; FEATURES.len()],
    /// For a wanted share of right ones among the shown, in percent: the probability from which to show.
    thresholds: Vec<(u32, f32)>,
    /// Which of several lines is the first.
    pub choice: Choice,
    /// Logits that are added for this user.
    #[serde(skip)]
    pub habit: f32,
}

impl Default for Confidence {
    /// The scale of the shipped model.
    fn default() -> Confidence {
        serde_json::from_str(include_str!("../../models/base/confidence.json"))
            .unwrap_or_else(|_| Confidence::naive())
    }
}

impl Confidence {
    /// Takes the model at its word.
    pub fn naive() -> Confidence {
        let mut weights = [0.0; FEATURES.len()];
        (weights[0], weights[1]) = (1.0, 1.0);
        Confidence {
            weights,
            thresholds: (1..20).map(|i| (5 * i, 0.05 * i as f32)).collect(),
            choice: Choice::default(),
            habit: 0.0,
        }
    }

    /// The probability that the text goes on as this beginning does.
    pub fn probability(&self, beginning: &Beginning) -> f32 {
        let logit: f32 = self.weights.iter().zip(&beginning.features).map(|(w, x)| w * x).sum();
        1.0 / (1.0 + (-(logit + self.habit)).exp())
    }

    /// From which probability to show, so that of all that is shown `precision` (0 to 1) is right.
    pub fn threshold(&self, precision: f32) -> f32 {
        let wanted = 100.0 * precision;
        let found = self.thresholds.iter().find(|(percent, _)| *percent as f32 >= wanted - 0.01);
        found.map_or(1.0, |(_, threshold)| *threshold)
    }

    /// Fits the weights to beginnings that were right or wrong, and the thresholds to lines being typed; all of them
    /// answers that this choice made.
    pub fn fit(samples: &[(Beginning, bool)], walks: &[Walk], choice: Choice) -> Confidence {
        const ROUNDS: usize = 1500;
        const RATE: f32 = 0.02;
        let mut scale = Confidence { choice, ..Confidence::naive() };
        let mut tried = scale.clone();
        descend(&mut scale.weights, ROUNDS, RATE, |weights, gradient| {
            tried.weights.copy_from_slice(weights);
            for (beginning, right) in samples {
                let off = tried.probability(beginning) - f32::from(u8::from(*right));
                gradient.iter_mut().zip(&beginning.features).for_each(|(g, x)| *g += off * x);
            }
            let size = samples.len().max(1) as f32;
            gradient.iter_mut().zip(weights).for_each(|(g, w)| *g = *g / size + 1e-4 * w);
        });
        let threshold = |percent: u32| scale.lowest(walks, percent as f32 / 100.0);
        scale.thresholds = (2..20).map(|i| (5 * i, threshold(5 * i))).collect();
        scale
    }

    /// The lowest probability from which to show, so that at least `precision` of what comes into sight is right.
    fn lowest(&self, walks: &[Walk], precision: f32) -> f32 {
        /// Fewer say too little.
        const LEAST: usize = 20;
        let thresholds = (1..100).map(|i| 0.01 * i as f32);
        let mut good = thresholds.filter(|&least| {
            let seen = walks.iter().map(|walk| self.seen(walk, least, precision));
            let (shown, right) = seen.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
            shown >= LEAST && right as f32 >= precision * shown as f32
        });
        good.next().unwrap_or(1.0)
    }

    /// How often something comes into sight while a line is typed by somebody who takes what is right, and how
    /// often that is right. What is wrong stays in sight until a key disagrees.
    fn seen(&self, walk: &Walk, least: f32, precision: f32) -> (usize, usize) {
        let (mut at, mut shown, mut right) = (0, 0, 0);
        while let Some(answer) = walk.get(at) {
            let sure = |(index, (beginning, _)): &(usize, &(Beginning, bool))| {
                let ends_line = *index + 1 == answer.beginnings.len();
                let least = if ends_line { least } else { least.max(precision) };
                self.probability(beginning) >= least
            };
            match answer.beginnings.iter().enumerate().rev().find(sure) {
                None => at += 1,
                Some((_, (beginning, true))) => {
                    (shown, right) = (shown + 1, right + 1);
                    at += beginning.end.max(1);
                }
                Some(_) => {
                    shown += 1;
                    at += answer.agrees + 1;
                }
            }
        }
        (shown, right)
    }
}

/// Whether the first `end` bytes of an answer can be shown without the rest of their line: they do not cut a word,
/// and are long enough to be read sooner than typed.
pub fn is_half(text: &str, end: usize) -> bool {
    const LEAST: usize = 4;
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let Some((half, rest)) = text.split_at_checked(end) else { return false };
    let cuts_word = half.ends_with(word) && rest.starts_with(word);
    !cuts_word && half.trim().len() >= LEAST
}

/// What was answered at one place of a line.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// The beginnings that may be shown, and whether the line goes on like that; the last is the whole answer.
    pub beginnings: Vec<(Beginning, bool)>,
    /// Bytes of the answer that agree with what is typed next.
    pub agrees: usize,
}

/// A line being typed: the answers before each of its bytes (empty inside of characters).
pub type Walk = Vec<Answered>;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(log_prob: f32) -> Beginning {
        let mut features = [0.0; FEATURES.len()];
        (features[0], features[1]) = (1.0, log_prob);
        Beginning { end: 1, features }
    }

    #[test]
    fn a_fitted_scale_says_what_happens_and_shows_what_was_asked_for() {
        // The model believes in half of what it says at −0.1 and in all of what it says at −2; it is the
        // other way round.
        let samples: Vec<(Beginning, bool)> =
            (0..800)
                .map(|i| {
                    if i % 2 == 0 {
                        (sample(-0.1), i % 20 < 18)
                    } else {
                        (sample(-2.0), i % 20 < 2)
                    }
                })
                .collect();
        let walk = |(beginning, right): &(Beginning, bool)| {
            vec![Answered { beginnings: vec![(beginning.clone(), *right)], agrees: 0 }]
        };
        let walks: Vec<Walk> = samples.iter().map(walk).collect();
        let scale = Confidence::fit(&samples, &walks, Choice::default());
        assert!((scale.probability(&sample(-0.1)) - 0.9).abs() < 0.03);
        assert!((scale.probability(&sample(-2.0)) - 0.1).abs() < 0.03);
        let shown = |precision| {
            let least = scale.threshold(precision);
            samples.iter().filter(|(b, _)| scale.probability(b) >= least).count()
        };
        assert_eq!((shown(0.85), shown(0.45), shown(0.99)), (400, 800, 0));
    }

    #[test]
    fn while_typing_a_wrong_answer_counts_once_and_a_right_one_is_taken() {
        let scale = Confidence::naive();
        let mut sure = sample(1.0);
        let answer = |right, end, agrees| {
            sure.end = end;
            Answered { beginnings: vec![(sure.clone(), right)], agrees }
        };
        let mut answer = answer;
        // The first stays in sight for two keys that agree, the second is taken with three bytes.
        let walk = vec![
            answer(false, 5, 2),
            answer(true, 4, 4),
            answer(true, 3, 3),
            answer(true, 3, 3),
            answer(true, 2, 2),
            answer(true, 1, 1),
        ];
        assert_eq!(scale.seen(&walk, 0.5, 0.5), (2, 1));
        assert_eq!(scale.seen(&walk, 0.99, 0.5), (0, 0));
    }
}
