//! The little statistics that the suites share: intervals of ratios, similarity of lines, tables of
//! text.

/// A sum of one quantity over a sum of another, gathered in groups that are taken to be independent:
/// bits over bytes by file, passes over problems by task.
#[derive(Clone, Debug, Default)]
pub(super) struct Ratio {
    groups: Vec<(f64, f64)>,
}

impl Ratio {
    /// One more group.
    pub(super) fn add(&mut self, part: f64, whole: f64) {
        self.groups.push((part, whole));
    }

    /// All of the first over all of the second; 0 without any.
    pub(super) fn value(&self) -> f64 {
        let (part, whole) = self.sums();
        if whole > 0.0 { part / whole } else { 0.0 }
    }

    /// Half the width of the 95 % interval: the ratio estimator's normal approximation, with groups as
    /// the unit that was sampled. `None` for fewer than two groups.
    pub(super) fn interval(&self) -> Option<f64> {
        let (count, (_, whole), ratio) = (self.groups.len() as f64, self.sums(), self.value());
        if self.groups.len() < 2 || whole <= 0.0 {
            return None;
        }
        let squares: f64 =
            self.groups.iter().map(|(part, whole)| (part - ratio * whole).powi(2)).sum();
        Some(1.96 * (count / (count - 1.0) * squares).sqrt() / whole)
    }

    fn sums(&self) -> (f64, f64) {
        self.groups.iter().fold((0.0, 0.0), |(a, b), (part, whole)| (a + part, b + whole))
    }
}

/// The value at a share (0 to 1) of sorted values; 0 if there are none.
pub(super) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * share) as usize).or(values.last()).copied().unwrap_or(0.0)
}

/// 1 − edit distance over the longer length, in characters: 1 for equal texts, 0 for nothing in common.
pub(super) fn edit_similarity(a: &str, b: &str) -> f64 {
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
pub(super) fn with_interval(value: f64, interval: Option<f64>, digits: usize) -> String {
    match interval {
        Some(interval) => format!("{value:.digits$} ± {interval:.digits$}"),
        None => format!("{value:.digits$}"),
    }
}

/// Rows in columns: the first to the left, the others to the right, as wide as they need to be.
pub(super) fn table(rows: &[Vec<String>]) -> String {
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
