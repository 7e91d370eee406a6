//! Which line is offered: the one that was written token by token, or one that stands whole at a place like this one.
//!
//! A line may be the right one although one of its tokens is unlikely. What speaks for it then is that the text there
//! agrees with the text here: before the place, behind the line, in the names around. A conditional logit
//! (McFadden 1974), fitted on places whose answer is known, weighs that against the line's probability.

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::memory::Neighbour;
use crate::memory::retrieval::{hash, identifiers};
use crate::statistics::descend;
use crate::tokenizer::Tokenizer;

/// What is known of a line.
pub const FEATURES: [&str; 5] =
    ["log-probability", "written here", "log agreement before", "log agreement behind", "likeness"];

/// Places that are looked at.
pub(super) const NEIGHBOURS: usize = 48;
/// Lines before a place whose names are compared.
const WINDOW: usize = 10;

/// What speaks for a line beside its probability: the best of the places where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Support {
    /// Tokens before the line that agree with those before the cursor.
    pub agreement: usize,
    /// Characters that agree behind it, white space left out.
    pub behind: usize,
    /// Jaccard similarity of the names before it to those before the cursor, 0 to 1.
    pub likeness: f32,
}

impl Support {
    /// As features, in the order of the last of [`FEATURES`].
    pub fn features(&self) -> [f32; 3] {
        [(self.agreement as f32).ln_1p(), (self.behind as f32).ln_1p(), self.likeness]
    }

    fn raise(&mut self, other: &Support) {
        self.agreement = self.agreement.max(other.agreement);
        self.behind = self.behind.max(other.behind);
        self.likeness = self.likeness.max(other.likeness);
    }
}

/// The rest of a line, as it stands at other places.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Up to its end.
    pub text: String,
    /// With the line breaks up to what follows it.
    pub whole: String,
    /// What speaks for it.
    pub support: Support,
}

/// A cursor, as other places are compared with it.
pub(super) struct Around<'a> {
    names: FxHashSet<u64>,
    behind: &'a str,
    /// The next line, trimmed, where the cursor's is blank: it is not said again.
    next: Option<&'a str>,
}

impl<'a> Around<'a> {
    /// Looks around byte `offset` of `text`.
    pub(super) fn new(text: &'a str, offset: usize) -> Around<'a> {
        let behind = text[offset..].find('\n').map_or("", |end| &text[offset + end..]);
        let before = text[..offset].rsplit('\n').next().unwrap_or("");
        let next = behind.lines().map(str::trim).find(|line| !line.is_empty());
        let next = next.filter(|_| before.trim().is_empty());
        Around { names: names(&text[..offset]), behind, next }
    }

    fn support(&self, agreement: usize, before: &str, behind: &str) -> Support {
        let visible = |text: &'a str| text.chars().filter(|c| !c.is_whitespace());
        let there = behind.chars().filter(|c| !c.is_whitespace());
        let names = names(before);
        let both = names.intersection(&self.names).count();
        Support {
            agreement,
            behind: visible(self.behind).zip(there).take_while(|(a, b)| a == b).count(),
            likeness: both as f32 / (1 + names.len() + self.names.len() - both) as f32,
        }
    }
}

/// The names in the last lines of a text.
fn names(text: &str) -> FxHashSet<u64> {
    let start = text.rmatch_indices('\n').nth(WINDOW).map_or(0, |(at, _)| at + 1);
    identifiers(&text[start..]).map(hash).collect()
}

/// The lines that follow at the neighbours of a cursor, longest agreement first; an empty one where the line ends there.
/// They begin with `healed`, which is there already.
pub(super) fn lines(
    tokenizer: &Tokenizer,
    neighbours: &[Neighbour<'_>],
    healed: &[u8],
    around: &Around<'_>,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for place in neighbours {
        let behind = tokenizer.decode(place.behind);
        let begins = str::from_utf8(healed).ok().and_then(|healed| behind.strip_prefix(healed));
        let Some((rest, end)) = begins.and_then(|rest| Some((rest, rest.find('\n')?))) else {
            continue;
        };
        // Behind indentation, what stands deeper elsewhere is the same line.
        let space = if healed.ends_with(b" ") || healed.ends_with(b"\t") {
            rest[..end].len() - rest[..end].trim_start().len()
        } else {
            0
        };
        let text = rest[space..end].trim_end();
        if around.next == Some(text) {
            continue;
        }
        let before = tokenizer.decode(place.before);
        let support = around.support(place.agreement, &before, &rest[end..]);
        match lines.iter_mut().find(|line| line.text == text) {
            Some(line) => line.support.raise(&support),
            None => {
                let blank = rest.len() - rest[end..].trim_start().len();
                let whole = &rest[space..=rest[..blank].rfind('\n').unwrap_or(end)];
                lines.push(Line { text: text.to_string(), whole: whole.to_string(), support });
            }
        }
    }
    lines
}

/// What speaks for the first line of a text.
pub(super) fn support(lines: &[Line], text: &str) -> Support {
    let same = lines.iter().find(|line| line.text == first(text));
    same.map_or(Support::default(), |line| line.support)
}

fn first(text: &str) -> &str {
    text.lines().next().unwrap_or("").trim_end()
}

/// A line and its features.
pub type Weighed = (String, [f32; FEATURES.len()]);

/// A text that was written here.
pub(super) struct Own<'a> {
    pub(super) text: &'a str,
    /// Of its first line, with the end if it came to that.
    pub(super) log_prob: f32,
    /// Whether it did: fill-in-the-middle ends where the text behind the cursor begins, without a line break.
    pub(super) has_end: bool,
}

impl Own<'_> {
    /// The log-probability of its first line with the end.
    fn weigh(&self, weigh: &mut impl FnMut(&Line) -> Option<f32>) -> Option<f32> {
        if self.has_end {
            return Some(self.log_prob);
        }
        let text = first(self.text).to_string();
        weigh(&Line { whole: format!("{text}\n"), text, support: Support::default() })
    }

    /// The lines that could be offered instead.
    fn others<'l>(&self, lines: &'l [Line]) -> impl Iterator<Item = &'l Line> {
        let own = first(self.text);
        lines.iter().filter(move |line| !line.text.is_empty() && line.text != own)
    }
}

/// The own line and those of other places, as a choice sees them.
pub(super) fn survey(
    own: &Own<'_>,
    lines: &[Line],
    mut weigh: impl FnMut(&Line) -> Option<f32>,
) -> Vec<Weighed> {
    const MOST: usize = 6;
    let text = first(own.text).to_string();
    let Some(log_prob) = own.weigh(&mut weigh) else { return Vec::new() };
    let mut all = vec![(text, features(log_prob, true, &support(lines, own.text)))];
    let weighed =
        |line: &Line| Some((line.text.clone(), features(weigh(line)?, false, &line.support)));
    all.extend(own.others(lines).take(MOST).filter_map(weighed));
    all
}

/// A fitted choice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    weights: [f32; FEATURES.len()],
}

impl Default for Choice {
    /// The likelier one.
    fn default() -> Choice {
        Choice { weights: [1.0, 0.0, 0.0, 0.0, 0.0] }
    }
}

/// The features of one line.
pub fn features(log_prob: f32, is_own: bool, support: &Support) -> [f32; FEATURES.len()] {
    /// Less says nothing more.
    const LEAST: f32 = -60.0;
    let log_prob = if log_prob.is_nan() { LEAST } else { log_prob.max(LEAST) };
    let [before, behind, likeness] = support.features();
    [log_prob, f32::from(u8::from(is_own)), before, behind, likeness]
}

impl Choice {
    /// What a line is worth; only differences mean anything.
    fn worth(&self, features: &[f32; FEATURES.len()]) -> f32 {
        self.weights.iter().zip(features).map(|(w, x)| w * x).sum()
    }

    /// The line that is better than the own one. `weigh` says the log-probability of a line with its end, `None` if there
    /// is no time for it; it is asked about at most `most` lines that could win, and about the own one if that did not come
    /// to its end.
    pub(super) fn better<'l>(
        &self,
        own: &Own<'_>,
        lines: &'l [Line],
        most: usize,
        mut weigh: impl FnMut(&Line) -> Option<f32>,
    ) -> Option<&'l Line> {
        let worth = |log_prob, line: &Line| self.worth(&features(log_prob, false, &line.support));
        let of_own = |log_prob| self.worth(&features(log_prob, true, &support(lines, own.text)));
        let mut order: Vec<&Line> = own.others(lines).collect();
        // Nothing is likelier than certain.
        order.sort_by(|a, b| worth(0.0, b).total_cmp(&worth(0.0, a)));
        let first = order.first().filter(|line| worth(0.0, line) > of_own(own.log_prob))?;
        tracing::debug!(line = first.text, support = ?first.support, "stands elsewhere");
        let mut best = (of_own(own.weigh(&mut weigh)?), None);
        for line in order.into_iter().take(most) {
            if worth(0.0, line) <= best.0 {
                break;
            }
            let worth = weigh(line).map(|log_prob| worth(log_prob, line));
            if let Some(worth) = worth.filter(|worth| *worth > best.0) {
                best = (worth, Some(line));
            }
        }
        best.1
    }

    /// Fits the weights to lines of which some were right, place by place.
    pub fn fit(places: &[Vec<([f32; FEATURES.len()], bool)>]) -> Choice {
        const ROUNDS: usize = 800;
        const RATE: f32 = 0.02;
        let mut choice = Choice::default();
        let mut tried = choice;
        let places: Vec<_> = places.iter().filter(|place| place.iter().any(|(_, y)| *y)).collect();
        descend(&mut choice.weights, ROUNDS, RATE, |weights, gradient| {
            tried.weights.copy_from_slice(weights);
            for place in &places {
                let worth: Vec<f32> = place.iter().map(|(x, _)| tried.worth(x)).collect();
                let top = worth.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let each: Vec<f32> = worth.iter().map(|worth| (worth - top).exp()).collect();
                let all: f32 = each.iter().sum();
                let right: f32 = each.iter().zip(*place).filter(|(_, p)| p.1).map(|(e, _)| e).sum();
                for (e, (x, is_right)) in each.iter().zip(*place) {
                    let wanted = if *is_right { e / right } else { 0.0 };
                    gradient.iter_mut().zip(x).for_each(|(g, x)| *g += (e / all - wanted) * x);
                }
            }
            let size = places.len().max(1) as f32;
            gradient.iter_mut().zip(weights).for_each(|(g, w)| *g = *g / size + 1e-4 * w);
        });
        // What is likelier is never worse: the search for the best relies on it.
        choice.weights[0] = choice.weights[0].max(0.0);
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, agreement: usize, behind: usize) -> Line {
        let support = Support { agreement, behind, likeness: 0.0 };
        Line { text: text.into(), whole: format!("{text}\n"), support }
    }

    #[test]
    fn a_line_is_known_by_what_stands_around_it() {
        let texts = [
            "let a = open(path);\nlet b = read(a);\nclose(a);\n",
            "let a = open(path);\nlet b = skip(a);\nwrite(a);\n",
        ];
        let tokenizer = crate::tokenizer::train(texts.into_iter(), 300).unwrap();
        let tokens: Vec<_> = texts.iter().map(|text| tokenizer.encode(text)).collect();
        let place = |tokens: &'static [u32]| {
            let text = tokenizer.decode(tokens);
            let at = tokenizer.encode(&text[..text.find("let b").unwrap()]).len();
            Neighbour { agreement: at, before: &tokens[..at], behind: &tokens[at..] }
        };
        let places: Vec<_> = tokens.into_iter().map(|t| place(t.leak())).collect();
        let text = "let a = open(path);\nlet \nwrite(a);\n";
        let around = Around::new(text, text.find("\nwrite").unwrap());
        let found = lines(&tokenizer, &places, b"let ", &around);
        let texts: Vec<&str> = found.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["b = read(a);", "b = skip(a);"]);
        assert_eq!(found[1].whole, "b = skip(a);\n");
        let behind = found.iter().map(|line| line.support.behind).collect::<Vec<_>>();
        assert_eq!(behind, [0, "write(a);".len()]);
        assert_eq!(support(&found, "b = skip(a);\nmore"), found[1].support);
        assert_eq!(support(&found, "b = other(a);"), Support::default());
    }

    #[test]
    fn only_lines_that_could_win_are_weighed() {
        let choice = Choice { weights: [1.0, 0.5, 1.0, 1.0, 0.0] };
        let lines = [line("a", 1, 0), line("b", 9, 9), line("c", 9, 0), line("d", 9, 1)];
        let written = |text, log_prob| Own { text, log_prob, has_end: true };
        let ask = |own: f32, most: usize, log_prob: f32| {
            let mut asked = String::new();
            let better = choice.better(&written("x", own), &lines, most, |line| {
                asked += &line.text;
                Some(log_prob)
            });
            (better.map(|line| line.text.clone()), asked)
        };
        // The best of three that are worth a look.
        assert_eq!(ask(-2.0, 4, -1.0), (Some("b".into()), "b".into()));
        assert_eq!(ask(-2.0, 4, -9.0), (None, "bdca".into()));
        assert_eq!(ask(-2.0, 2, -9.0), (None, "bd".into()));
        // A sure one is not questioned.
        assert_eq!(choice.better(&written("b", 0.0), &lines, 4, |_| unreachable!()), None);
        // No time, no change.
        assert_eq!(choice.better(&written("x", -9.0), &lines, 4, |_| None), None);
        // One that did not come to its end is weighed with it, as the others are.
        let cut = Own { has_end: false, ..written("x", -2.0) };
        let weigh = |line: &Line| Some(if line.text == "x" { -9.0 } else { -6.0 });
        assert_eq!(choice.better(&written("x", -2.0), &lines[..1], 4, weigh), None);
        assert_eq!(choice.better(&cut, &lines[..1], 4, weigh), Some(&lines[0]));
    }

    #[test]
    fn the_fit_finds_what_tells_right_lines() {
        // Right is what agrees behind, whatever the probability says.
        let place = |i: usize| {
            let right = Support { behind: 5 + i, ..Support::default() };
            let wrong = Support { agreement: 4, ..Support::default() };
            vec![
                (features(-1.0 - i as f32, true, &wrong), false),
                (features(-3.0 - i as f32, false, &right), true),
            ]
        };
        let places: Vec<_> = (0..20).map(place).collect();
        let choice = Choice::fit(&places);
        let picked = |place: &Vec<([f32; FEATURES.len()], bool)>| {
            let best =
                place.iter().max_by(|a, b| choice.worth(&a.0).total_cmp(&choice.worth(&b.0)));
            best.unwrap().1
        };
        assert!(places.iter().all(picked), "{choice:?}");
    }
}
