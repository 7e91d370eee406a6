//! The report as one page with pictures and examples. It loads nothing from elsewhere.

use anyhow::Result;

use super::{Answer, Figure, Report, RepositoryFigures, VariantReport, table};
use crate::train::page::{self, escaped};
use crate::train::plot::{Axes, Series, svg};

/// Examples on a page.
const EXAMPLES: usize = 20;
/// Bars of the latency histogram.
const STEPS: usize = 40;

/// The page.
pub fn html(report: &Report) -> Result<String> {
    let options = &report.options;
    let name = report.suite.as_deref().unwrap_or("random places");
    let mut page = page::head(&format!("Completion: {name}"));
    let facts = [
        ("asked for", options.mode.to_string()),
        ("known", options.context.to_string()),
        ("places in each repository at most", options.places.to_string()),
        ("seed", options.seed.to_string()),
        ("shown from a probability of", options.show_threshold.to_string()),
        ("program", format!("nestling {}", report.version)),
        ("machine", report.machine.clone()),
    ];
    let facts = facts.map(|(name, value)| vec![name.to_string(), value]);
    page += &page::table(&[], &[false, false], facts);
    let mut numbers = [true; table::HEAD.len()];
    numbers[..2].fill(false);
    page += &page::table(&table::HEAD, &numbers, report.variants.iter().flat_map(table::rows));
    page += "<p>In brackets: intervals of 95 %; places are the unit sampled.</p>\n";
    if !report.differences.is_empty() {
        let head = ["from", "to", "exact match, points", "p"];
        let rows = table::differences(report);
        page += &page::table(&head, &[false, false, true, true], rows);
    }
    let revisions = report.variants.first().into_iter().flat_map(|v| &v.repositories).map(|r| {
        let cell = |commit: &Option<String>| commit.clone().unwrap_or_default();
        vec![r.repository.clone(), cell(&r.revision), cell(&r.since)]
    });
    page += &page::table(&["repository", "commit", "lines since"], &[false; 3], revisions);
    for (caption, picture) in pictures(report)? {
        page += &page::figure(&picture, &caption);
    }
    page += "<h2>Examples</h2>\n";
    let places = report.answers.first().map_or(0, Vec::len);
    for place in (0..places).step_by(places.div_ceil(EXAMPLES).max(1)) {
        page += &example(report, place);
    }
    Ok(page + "</html>\n")
}

/// One place, and what each variant said there.
fn example(report: &Report, place: usize) -> String {
    let first: &Answer = &report.answers[0][place];
    let repository = &report.variants[0].repositories[first.repository].repository;
    let heading = format!("{repository}/{}:{}", first.path, first.line);
    let mut text = format!("<h3>{}</h3>\n<pre>{}", escaped(&heading), escaped(&first.before));
    text += &format!("<mark>{}</mark></pre>\n", escaped(&first.wanted));
    let rows = report.variants.iter().zip(&report.answers).map(|(variant, answers)| {
        let answer = &answers[place];
        let verdict = if answer.exact { "exact" } else { "" };
        let probability = answer.probability.map_or(String::new(), |p| format!("{p:.2}"));
        let got = answer.got.clone().unwrap_or_default();
        vec![variant.variant.clone(), got, probability, verdict.to_string()]
    });
    let head = ["variant", "suggested", "probability", ""];
    text + &page::table(&head, &[false, false, true, false], rows)
}

type Points = Vec<(f64, f64)>;

/// Each picture after what is to be seen in it.
fn pictures(report: &Report) -> Result<Vec<(String, String)>> {
    let variants = &report.variants;
    let each = |points: &dyn Fn(&VariantReport) -> (Points, Points)| {
        let series = |variant| {
            let (points, bars) = points(variant);
            Series { name: &variant.variant, points, bars, ..Series::default() }
        };
        variants.iter().map(series).collect::<Vec<Series<'_>>>()
    };
    let names = variants.first().map_or(&[][..], |first| &first.repositories);
    let name = |(at, r): (usize, &RepositoryFigures)| format!("{} {}", at + 1, r.repository);
    let names: Vec<String> = names.iter().enumerate().map(name).collect();

    let mut reliability = each(&|variant| {
        let bins = variant.reliability.bins.iter().filter(|bin| bin.count > 0);
        (bins.map(|bin| (bin.predicted, bin.observed)).collect(), Vec::new())
    });
    let even = vec![(0.0, 0.0), (1.0, 1.0)];
    reliability.push(Series { name: "as promised", points: even, ..Series::default() });

    let shift = |index: usize| 0.12 * (index as f64 - (variants.len() as f64 - 1.0) / 2.0);
    let exact: Vec<Series<'_>> = variants
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let figures = variant.repositories.iter().map(|r| r.figures.exact);
            let (mut points, mut bars, mut labels) = (Vec::new(), Vec::new(), Vec::new());
            for (at, figure) in figures.enumerate() {
                points.push((at as f64 + 1.0 + shift(index), figure.value));
                bars.push(ends(figure));
                labels.push(String::new());
            }
            Series { name: &variant.variant, points, labels, bars }
        })
        .collect();

    let lengths = each(&|variant| {
        let points = variant.lengths.iter().map(|l| (l.from.max(1) as f64, l.exact.value));
        (points.collect(), variant.lengths.iter().map(|l| ends(l.exact)).collect())
    });

    let mut slowest: Vec<f64> = report.answers.iter().flatten().map(|a| a.milliseconds).collect();
    slowest.sort_by(f64::total_cmp);
    // The rare ones far out would press all others together.
    let end = slowest.get(slowest.len() * 99 / 100).copied().unwrap_or(1.0).max(1e-3);
    let mut latency = Vec::new();
    for (variant, answers) in variants.iter().zip(&report.answers) {
        let mut counts = [0.0; STEPS];
        for answer in answers {
            let step = (answer.milliseconds / end * STEPS as f64) as usize;
            counts[step.min(STEPS - 1)] += 1.0;
        }
        let at = |step: usize| end * step as f64 / STEPS as f64;
        let tops = counts.iter().enumerate();
        let points = tops.flat_map(|(i, &count)| [(at(i), count), (at(i + 1), count)]).collect();
        latency.push(Series { name: &variant.variant, points, ..Series::default() });
    }

    let counts: Vec<String> = variants.iter().map(counts).collect();
    let axes = |title, x, y, log_x| Axes { title, x, y, log_x };
    Ok(vec![
        (
            format!(
                "How often suggestions are exact, by the probability they came with. Count in each \
                 tenth: {}.",
                counts.join("; ")
            ),
            svg(&axes("Reliability", "predicted", "observed", false), &reliability)?,
        ),
        (
            format!("Exact match with intervals in each repository: {}.", names.join(", ")),
            svg(&axes("Exact match", "repository", "percent", false), &exact)?,
        ),
        (
            "Exact match by the length of the answer, from the length at each point on."
                .to_string(),
            svg(&axes("Exact match by length", "characters", "percent", true), &lengths)?,
        ),
        (
            "Time to an answer from nothing kept; the slowest hundredth is in the last step."
                .to_string(),
            svg(&axes("Latency", "milliseconds", "answers", false), &latency)?,
        ),
    ])
}

fn ends(figure: Figure) -> (f64, f64) {
    (figure.low.unwrap_or(figure.value), figure.high.unwrap_or(figure.value))
}

fn counts(variant: &VariantReport) -> String {
    let counts = variant.reliability.bins.iter().map(|bin| bin.count.to_string());
    format!("{}: {}", variant.variant, counts.collect::<Vec<_>>().join(", "))
}
