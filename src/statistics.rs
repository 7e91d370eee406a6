//! The little statistics that all share: intervals of ratios, similarity of lines, a descent for fits of a few weights,
//! tables of text.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Standard deviations on each side of a 95 % interval.
const Z: f64 = 1.96;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// A sum of one quantity over a sum of another, gathered in groups that are taken to be independent:
/// bits over bytes by file, passes over problems by task.
#[derive(Clone, Debug, Default)]
pub struct Ratio {
    groups: Vec<(f64, f64)>,
}

impl Ratio {
    /// One more group.
    pub fn add(&mut self, part: f64, whole: f64) {
        self.groups.push((part, whole));
    }

    /// All of the first over all of the second; 0 without any.
    pub fn value(&self) -> f64 {
        let (part, whole) = self.sums();
        if whole > 0.0 { part / whole } else { 0.0 }
    }

    /// Half the width of the 95 % interval: the ratio estimator's normal approximation, with groups as
    /// the unit that was sampled. `None` for fewer than two groups.
    pub fn interval(&self) -> Option<f64> {
        let (count, (_, whole), ratio) = (self.groups.len() as f64, self.sums(), self.value());
        if self.groups.len() < 2 || whole <= 0.0 {
            return None;
        }
        let squares: f64 =
            self.groups.iter().map(|(part, whole)| (part - ratio * whole).powi(2)).sum();
        Some(Z * (count / (count - 1.0) * squares).sqrt() / whole)
    }

    fn sums(&self) -> (f64, f64) {
        self.groups.iter().fold((0.0, 0.0), |(a, b), (part, whole)| (a + part, b + whole))
    }
}

/// A measured value with its 95 % interval, where one is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Figure {
    /// The value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Figure {
    /// In percent, how many of `all` are such, with Wilson's interval: honest at the ends, too.
    pub fn share(such: usize, all: usize) -> Figure {
        if all == 0 {
            return Figure::default();
        }
        let (n, p, z2) = (all as f64, such as f64 / all as f64, Z * Z);
        let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
        Figure { value: 100.0 * p, low: Some(100.0 * low), high: Some(100.0 * high) }
    }

    /// A ratio of a part to its whole, in percent.
    pub fn ratio(ratio: &Ratio) -> Figure {
        let (value, half) = (100.0 * ratio.value(), ratio.interval().map(|half| 100.0 * half));
        let end = |x: f64| x.clamp(0.0, 100.0);
        let (low, high) = (half.map(|half| end(value - half)), half.map(|half| end(value + half)));
        Figure { value, low, high }
    }

    /// The value at a share (0 to 1) of sorted values; the interval by their order, which holds for any
    /// distribution.
    pub fn percentile(values: &mut [f64], share: f64) -> Figure {
        let value = percentile(values, share);
        let n = values.len() as f64;
        let half = Z * (n * share * (1.0 - share)).sqrt();
        let at = |rank: f64| {
            let inside = rank >= 0.0 && rank < n;
            inside.then(|| values[rank as usize])
        };
        let (low, high) = (at((n * share - half).floor()), at((n * share + half).ceil()));
        Figure { value, low, high }
    }
}

/// "12.3 (10.1 to 14.5)", or the value alone where there is no interval.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        match f.sign_plus() {
            true => write!(f, "{:+.digits$}", self.value)?,
            false => write!(f, "{:.digits$}", self.value)?,
        }
        match (self.low, self.high) {
            (Some(low), Some(high)) => write!(f, " ({low:.digits$} to {high:.digits$})"),
            _ => Ok(()),
        }
    }
}

/// The mean of differences between two answers to the same questions, by bootstrap over the questions:
/// the mean with its 95 % interval, and how probable a mean so far from 0 is if there is no difference
/// (two-sided). The same seed draws the same resamples.
pub fn paired_bootstrap(differences: &[f64], seed: u64) -> (Figure, f64) {
    let n = differences.len();
    if n == 0 {
        return (Figure::default(), 1.0);
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut mean = || (0..n).map(|_| differences[rng.random_range(0..n)]).sum::<f64>() / n as f64;
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean()).collect();
    let value = differences.iter().sum::<f64>() / n as f64;
    let (low, high) = (percentile(&mut means, 0.025), percentile(&mut means, 0.975));
    let share = |such: usize| (such + 1) as f64 / (RESAMPLES + 1) as f64;
    let below = share(means.iter().filter(|m| **m <= 0.0).count());
    let above = share(means.iter().filter(|m| **m >= 0.0).count());
    let p = (2.0 * below.min(above)).min(1.0);
    (Figure { value, low: Some(low), high: Some(high) }, p)
}

/// Lowers a loss by Adam (Kingma & Ba 2014), at a rate that falls to 0. `gradient` adds the slopes at the weights to zeros.
pub fn descend(
    weights: &mut [f32],
    rounds: usize,
    rate: f32,
    mut gradient: impl FnMut(&[f32], &mut [f32]),
) {
    let mut slopes = vec![0f32; weights.len()];
    let (mut mean, mut square) = (slopes.clone(), slopes.clone());
    for round in 1..=rounds {
        slopes.fill(0.0);
        gradient(weights, &mut slopes);
        let rate = rate * (1.0 - round as f32 / (rounds + 1) as f32);
        let first = 1.0 - 0.9f32.powi(round as i32);
        let second = 1.0 - 0.99f32.powi(round as i32);
        let moments = mean.iter_mut().zip(&mut square);
        for ((weight, slope), (m, s)) in weights.iter_mut().zip(&slopes).zip(moments) {
            *m += 0.1 * (slope - *m);
            *s += 0.01 * (slope * slope - *s);
            *weight -= rate * (*m / first) / ((*s / second).sqrt() + 1e-8);
        }
    }
}

/// The value at a share (0 to 1) of sorted values; 0 if there are none.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * share) as usize).or(values.last()).copied().unwrap_or(0.0)
}

/// 1 − edit distance over the longer length, in characters: 1 for equal texts, 0 for nothing in common.
pub fn edit_similarity(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 1.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    1.0 - row[b.len()] as f64 / longer as f64
}

/// "12.3 ± 0.4", or without the interval where there is none.
pub fn with_interval(value: f64, interval: Option<f64>, digits: usize) -> String {
    match interval {
        Some(interval) => format!("{value:.digits$} ± {interval:.digits$}"),
        None => format!("{value:.digits$}"),
    }
}

/// Rows in columns: the first to the left, the others to the right, as wide as they need to be.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_single_places_has_the_binomial_interval() {
        let mut share = Ratio::default();
        for i in 0..400 {
            share.add(f64::from(i % 4 == 0), 1.0);
        }
        assert_eq!(share.value(), 0.25);
        let binomial = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((share.interval().unwrap() - binomial).abs() < 1e-4);
    }

    #[test]
    fn equal_groups_leave_no_doubt_and_one_group_knows_nothing() {
        let mut ratio = Ratio::default();
        assert_eq!((ratio.value(), ratio.interval()), (0.0, None));
        ratio.add(1.0, 2.0);
        assert_eq!((ratio.value(), ratio.interval()), (0.5, None));
        ratio.add(50.0, 100.0);
        assert_eq!((ratio.value(), ratio.interval()), (0.5, Some(0.0)));
    }

    #[test]
    fn shares_have_wilsons_interval() {
        let figure = Figure::share(0, 100);
        assert_eq!((figure.value, figure.low), (0.0, Some(0.0)));
        assert!((figure.high.unwrap() - 3.70).abs() < 0.01);
        let figure = Figure::share(45, 100);
        assert_eq!(format!("{figure:.0}"), "45 (36 to 55)");
        assert_eq!(Figure::share(0, 0), Figure::default());
    }

    #[test]
    fn a_median_lies_between_its_neighbours() {
        let mut values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        let figure = Figure::percentile(&mut values, 0.5);
        assert_eq!((figure.value, figure.low, figure.high), (50.0, Some(40.0), Some(60.0)));
        assert_eq!(Figure::percentile(&mut [7.0], 0.95).high, None);
    }

    #[test]
    fn the_bootstrap_sees_what_is_there_and_no_more() {
        let of = |better: usize, worse: usize, same: usize| -> (Figure, f64) {
            let values = [(1.0, better), (-1.0, worse), (0.0, same)];
            let values: Vec<f64> =
                values.iter().flat_map(|&(value, count)| vec![value; count]).collect();
            paired_bootstrap(&values, 1)
        };
        let (figure, p) = of(40, 10, 150);
        assert_eq!(figure.value, 0.15);
        // The normal approximation: 0.15 ± 1.96 · sqrt((0.25 − 0.15²) / 200).
        let (low, high) = (figure.low.unwrap(), figure.high.unwrap());
        assert!((low - 0.084).abs() < 0.01 && (high - 0.216).abs() < 0.01, "{figure:?}");
        assert!(p < 0.001, "{p}");
        assert!(of(10, 10, 180).1 > 0.5);
        assert_eq!(of(0, 0, 20).1, 1.0);
        assert_eq!(of(40, 10, 150), (figure, p), "the same seed");
        assert_eq!(paired_bootstrap(&[], 1), (Figure::default(), 1.0));
    }

    #[test]
    fn similarity_counts_edits() {
        assert_eq!(edit_similarity("", ""), 1.0);
        assert_eq!(edit_similarity("abcd", "abcd"), 1.0);
        assert_eq!(edit_similarity("abcd", ""), 0.0);
        assert_eq!(edit_similarity("kitten", "sitting"), 1.0 - 3.0 / 7.0);
        assert_eq!(edit_similarity("größe", "grösse"), 1.0 - 2.0 / 6.0);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "± 1".into()]];
        assert_eq!(table(&rows), "a      10\nlong  ± 1\n");
    }
}
