//! Completion asked for at places of repositories that the model has not seen: how often is the first
//! suggestion what stands there, how often would it be shown, and is its probability worth its name?
//!
//! Several variants are asked at the same places and compared pair by pair. Each place is cold: its
//! document was just opened, and what was kept of it is forgotten afterwards.

mod ask;
mod calibration;
mod longest_match;
mod page;
mod places;
mod suite;
mod table;
mod variants;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::statistics::Figure;
pub(super) use ask::request;
pub use ask::{Answer, Variant, ask, run};
pub use calibration::{Bin, Reliability};
pub use page::html;
pub use places::{Place, draw};
pub use suite::{Suite, SuiteRepository};
pub use variants::{FLOOR, VARIANTS, memory, variant};

use super::texts::Repository;
use crate::statistics::{Ratio, paired_bootstrap};

/// What is to be completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A whole line: the cursor stands behind its indentation. No line is asked about twice, and none that
    /// the file has further up.
    Line,
    /// The rest of a line, from a word or mark inside of it on.
    #[default]
    Rest,
    /// The inside of a function or block of 2 to 10 lines; all lines count.
    Block,
}

/// What is known of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// What stands before the cursor.
    Left,
    /// What stands before the cursor and behind the answer. Where only new lines are asked about, what
    /// follows the answer in its run of new lines is not known either.
    #[default]
    Fim,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Line => "whole lines",
            Mode::Rest => "rests of lines",
            Mode::Block => "insides of blocks",
        })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Context::Left => "the text before",
            Context::Fim => "the text before and after",
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// Places in each repository at most.
    pub places: usize,
    /// What is to be completed.
    pub mode: Mode,
    /// What is known of the file.
    pub context: Context,
    /// Names of the languages asked about; all if empty.
    pub languages: Vec<String>,
    /// Seed of the places and of the bootstrap.
    pub seed: u64,
    /// Least probability at which what is shown without being asked for counts, on top of the completer's own
    /// judgement.
    pub show_threshold: f32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            places: 200,
            mode: Mode::default(),
            context: Context::default(),
            languages: Vec::new(),
            seed: 1,
            show_threshold: 0.0,
        }
    }
}

/// What some answers come to. All shares are percents with 95 % intervals; places are the unit sampled.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Places asked.
    pub places: usize,
    /// Places whose first suggestion is the answer.
    pub exact: Figure,
    /// Mean similarity of the first suggestion to the answer: 1 − edit distance over the longer length;
    /// no suggestion counts 0.
    pub similarity: Figure,
    /// Places with any suggestion.
    pub answered: Figure,
    /// Places where something is shown without being asked for.
    pub shown: Figure,
    /// Those of them where the text goes on like that; a beginning of a line may be.
    pub shown_exact: Figure,
    /// Characters of right and shown suggestions, of all characters of answers.
    pub completed: Figure,
    /// Milliseconds to an answer: median.
    pub milliseconds_p50: Figure,
    /// Milliseconds to an answer: 95th percentile.
    pub milliseconds_p95: Figure,
    /// Tokens for each pass of the network, in answers of which a part was copied from the memory; how many
    /// percent of the answers those are.
    pub drafted: (f64, f64),
}

/// The figures of one repository.
#[derive(Clone, Debug, Serialize)]
pub struct RepositoryFigures {
    /// Its name.
    pub repository: String,
    /// The commit that was read; none for a folder.
    pub revision: Option<String>,
    /// The commit after which lines are new, if only those were asked about.
    pub since: Option<String>,
    /// What came of it.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Exact match over answers of some length.
#[derive(Clone, Debug, Serialize)]
pub struct LengthFigures {
    /// Least number of characters.
    pub from: usize,
    /// Places.
    pub places: usize,
    /// Exact match in percent.
    pub exact: Figure,
}

/// One variant.
#[derive(Clone, Debug, Serialize)]
pub struct VariantReport {
    /// Its name.
    pub variant: String,
    /// All repositories together.
    #[serde(flatten)]
    pub figures: Figures,
    /// Each for itself.
    pub repositories: Vec<RepositoryFigures>,
    /// Whether its probabilities hold.
    pub reliability: Reliability,
    /// By length of the answer.
    pub lengths: Vec<LengthFigures>,
}

/// Two variants at the same places.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The one.
    pub from: String,
    /// The other.
    pub to: String,
    /// By how many percent points the other's exact match is higher.
    pub exact: Figure,
    /// How probable a difference so far from 0 is if there is none; two-sided, 10,000 resamples.
    pub p: f64,
}

/// What came of it all.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The suite, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Version of the program.
    pub version: &'static str,
    /// What it ran on.
    pub machine: String,
    /// What was asked.
    pub options: Options,
    /// In the order in which they were given.
    pub variants: Vec<VariantReport>,
    /// Between any two of them.
    pub differences: Vec<Difference>,
    /// Every answer: by variant, and within each in the order of the places.
    #[serde(skip)]
    pub answers: Vec<Vec<Answer>>,
}

/// Least lengths of the classes of answers, in characters.
const LENGTHS: [usize; 6] = [0, 10, 20, 40, 80, 160];

impl Report {
    fn new(
        names: &[&str],
        repositories: &[Repository],
        options: &Options,
        answers: Vec<Vec<Answer>>,
    ) -> Report {
        let variants: Vec<VariantReport> = names
            .iter()
            .zip(&answers)
            .map(|(name, answers)| VariantReport::new(name, repositories, answers))
            .collect();
        let mut differences = Vec::new();
        for (i, from) in names.iter().enumerate() {
            for (j, to) in names.iter().enumerate().skip(i + 1) {
                let hit = |answer: &Answer| 100.0 * f64::from(u8::from(answer.exact));
                let pairs = answers[i].iter().zip(&answers[j]);
                let each: Vec<f64> = pairs.map(|(from, to)| hit(to) - hit(from)).collect();
                let (exact, p) = paired_bootstrap(&each, options.seed);
                let (from, to) = (from.to_string(), to.to_string());
                differences.push(Difference { from, to, exact, p });
            }
        }
        Report {
            suite: None,
            version: env!("CARGO_PKG_VERSION"),
            machine: super::machine::machine(),
            options: options.clone(),
            variants,
            differences,
            answers,
        }
    }
}

impl VariantReport {
    fn new(name: &str, repositories: &[Repository], answers: &[Answer]) -> VariantReport {
        let of = |(index, repository): (usize, &Repository)| RepositoryFigures {
            repository: repository.name.clone(),
            revision: repository.revision.clone(),
            since: repository.since.as_ref().map(|since| since.commit.clone()),
            figures: Figures::new(answers.iter().filter(|a| a.repository == index)),
        };
        let suggested = answers.iter().filter_map(|a| Some((a.probability? as f64, a.exact)));
        let until = LENGTHS[1..].iter().copied().chain([usize::MAX]);
        let length = |(from, until)| {
            let inside = answers.iter().filter(|a| (from..until).contains(&a.characters()));
            let places = inside.clone().count();
            let exact = Figure::share(inside.filter(|a| a.exact).count(), places);
            LengthFigures { from, places, exact }
        };
        VariantReport {
            variant: name.to_string(),
            figures: Figures::new(answers.iter()),
            repositories: repositories.iter().enumerate().map(of).collect(),
            reliability: Reliability::new(suggested),
            lengths: LENGTHS.into_iter().zip(until).map(length).filter(|l| l.places > 0).collect(),
        }
    }
}

impl Figures {
    fn new<'a>(answers: impl Iterator<Item = &'a Answer> + Clone) -> Figures {
        let (mut similarity, mut completed) = (Ratio::default(), Ratio::default());
        for answer in answers.clone() {
            similarity.add(answer.similarity, 1.0);
            let offered = answer.offered.as_ref().filter(|_| answer.right);
            let saved = offered.map_or(0, |text| text.chars().count());
            completed.add(saved as f64, answer.characters() as f64);
        }
        let count = |f: fn(&Answer) -> bool| answers.clone().filter(|a| f(a)).count();
        let (places, shown) = (count(|_| true), count(|a| a.shown));
        let mut times: Vec<f64> = answers.clone().map(|a| a.milliseconds).collect();
        Figures {
            places,
            exact: Figure::share(count(|a| a.exact), places),
            similarity: Figure::ratio(&similarity),
            answered: Figure::share(count(|a| a.probability.is_some()), places),
            shown: Figure::share(shown, places),
            shown_exact: Figure::share(count(|a| a.right), shown),
            completed: Figure::ratio(&completed),
            milliseconds_p50: Figure::percentile(&mut times, 0.5),
            milliseconds_p95: Figure::percentile(&mut times, 0.95),
            drafted: drafted(answers),
        }
    }
}

fn drafted<'a>(answers: impl Iterator<Item = &'a Answer> + Clone) -> (f64, f64) {
    let some = answers.clone().filter(|a| a.drafted > 0);
    let sum = |of: fn(&Answer) -> usize| some.clone().map(of).sum::<usize>() as f64;
    let share = 100.0 * some.clone().count() as f64 / answers.count().max(1) as f64;
    (sum(|a| a.tokens) / sum(|a| a.steps).max(1.0), share)
}

#[cfg(test)]
mod tests;
