//! The report as text: figures by variant and repository, differences, reliability.

use std::fmt;

use super::{Figure, Figures, Report, VariantReport};
use crate::statistics::table;

pub(super) const HEAD: [&str; 13] = [
    "variant",
    "repository",
    "places",
    "exact %",
    "similar %",
    "answered %",
    "shown %",
    "right if shown %",
    "completed %",
    "p50 ms",
    "p95 ms",
    "drafted %",
    "tokens/step there",
];

/// A row for each repository, and one for all if there are several.
pub(super) fn rows(variant: &VariantReport) -> Vec<Vec<String>> {
    let row = |repository: &str, f: &Figures| {
        let percent = [f.exact, f.similarity, f.answered, f.shown, f.shown_exact, f.completed];
        let mut row = vec![variant.variant.clone(), repository.to_string(), f.places.to_string()];
        row.extend(percent.map(|figure| figure.to_string()));
        row.extend([f.milliseconds_p50, f.milliseconds_p95].map(|f| format!("{:.0}", f.value)));
        row.extend([format!("{:.0}", f.drafted.1), format!("{:.2}", f.drafted.0)]);
        row
    };
    let parts = &variant.repositories;
    let mut rows: Vec<_> = parts.iter().map(|r| row(&r.repository, &r.figures)).collect();
    if parts.len() != 1 {
        rows.push(row("all", &variant.figures));
    }
    rows
}

/// What a difference says.
pub(super) fn differences(report: &Report) -> Vec<Vec<String>> {
    let row = |d: &super::Difference| {
        let figure: Figure = d.exact;
        vec![d.from.clone(), d.to.clone(), format!("{figure:+.1}"), format!("{:.4}", d.p)]
    };
    report.differences.iter().map(row).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owned = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect();
        let mut text = vec![owned(&HEAD)];
        text.extend(self.variants.iter().flat_map(rows));
        f.write_str(&table(&text))?;
        if !self.differences.is_empty() {
            let mut text = vec![owned(&["from", "to", "exact match, points", "p"])];
            text.extend(differences(self));
            write!(f, "\n{}", table(&text))?;
        }
        for variant in &self.variants {
            let reliability = &variant.reliability;
            writeln!(
                f,
                "\nProbabilities of {}: calibration error {:.3}, Brier score {:.3}",
                variant.variant, reliability.calibration_error, reliability.brier
            )?;
            let mut text = vec![owned(&["predicted", "observed", "count"])];
            for bin in reliability.bins.iter().filter(|bin| bin.count > 0) {
                let share = |x: f64| format!("{x:.2}");
                text.push(vec![share(bin.predicted), share(bin.observed), bin.count.to_string()]);
            }
            f.write_str(&table(&text))?;
        }
        Ok(())
    }
}
