//! The report of a run as one page: curves, what was trained on, what went wrong. It loads nothing from
//! elsewhere.

use std::fmt::Display;

use anyhow::Result;

use super::energy;
use super::page::{self, escaped, table};
use super::pipeline::TrainReport;
use super::plot::{Axes, Series, svg};
use super::prepare::{Amount, CorpusReport};

/// A curve of more points than this is thinned to means.
const POINTS: usize = 500;

/// The page.
pub(super) fn html(report: &TrainReport) -> Result<String> {
    let title = format!("Training report: {}", report.recipe.size);
    let mut page = page::head(&title);
    page += &table(&[], &[false, false], facts(report));
    for (caption, figure) in figures(report)? {
        page += &page::figure(&figure, &caption);
    }
    if !report.candidates.is_empty() {
        let rows = report.candidates.iter().map(|c| {
            let million = |x: f64| format!("{:.1}", x / 1e6);
            let parameters = million(c.parameters as f64);
            let (tokens, fresh) = (million(c.tokens), million(c.effective_tokens));
            vec![c.size.clone(), parameters, tokens, fresh, format!("{:.3}", c.predicted)]
        });
        let head =
            ["size", "million parameters", "million tokens", "worth fresh", "predicted loss"];
        page += "<h2>How the size was chosen</h2>\n<p>The smallest within 1 % of the lowest predicted loss, \
                 of those that the budget gives at least 100 steps.</p>\n";
        page += &table(&head, &[false, true, true, true, true], rows);
    }
    page += &corpus(&report.corpus);
    page += "<h2>Recipe</h2>\n<pre>";
    page += &escaped(&report.recipe.to_toml()?);
    page += "</pre>\n</html>\n";
    Ok(page)
}

/// What there is to say in a line each.
pub(super) fn facts(report: &TrainReport) -> Vec<Vec<String>> {
    let p = &report.progress;
    let shape = &report.recipe.model;
    let train = &report.recipe.train;
    let mut rows = vec![
        ["parameters".into(), grouped(report.parameters as u64)],
        [
            "shape".into(),
            format!(
                "{} layers of {}, {} query and {} key/value heads of {}, feed-forward {}, vocabulary {}",
                shape.num_hidden_layers,
                shape.hidden_size,
                shape.num_attention_heads,
                shape.num_key_value_heads,
                shape.head_dim,
                shape.intermediate_size,
                grouped(report.vocabulary as u64)
            ),
        ],
        [
            "steps".into(),
            format!(
                "{} of {}, each {} sequences of {} tokens: {:.2} million tokens",
                grouped(p.step),
                grouped(p.steps),
                train.batch,
                report.recipe.examples.sequence,
                report.tokens as f64 / 1e6
            ),
        ],
        [
            "time".into(),
            format!(
                "{} on {} core(s), {:.0} tokens a second",
                duration(p.seconds),
                report.cores,
                report.tokens as f64 / p.seconds.max(1e-9)
            ),
        ],
        ["energy".into(), energy::describe(p.joules, p.cpu_seconds)],
        [
            "learning rate".into(),
            match p.range_test.is_empty() {
                true => format!("{:.2e} at the peak", p.learning_rate),
                false => format!("{:.2e} at the peak, found by a range test", p.learning_rate),
            },
        ],
    ];
    if let Some(last) = p.held_out.last() {
        rows.push([
            "held-out loss".into(),
            format!(
                "{:.4} nats per token after step {}, averaged weights {:.4}; the {} were written",
                last.loss,
                grouped(last.step),
                last.average,
                if report.averaged { "averaged weights" } else { "weights themselves" }
            ),
        ]);
    }
    if let Some(bits) = report.bits_per_byte {
        rows.push(["held-out bits per byte".into(), format!("{bits:.3}, over all languages")]);
    }
    if let Some(step) = p.stopped_early {
        let text = format!("from step {step}: the held-out loss no longer improved");
        rows.push(["learning rate fell early".into(), text]);
    }
    if p.rollbacks > 0 {
        let text = format!(
            "{} time(s), the learning rate ended at {} of what it would have been",
            p.rollbacks, p.damping
        );
        rows.push(["loss lost and taken back".into(), text]);
    }
    if report.recompute {
        rows.push(["memory".into(), "layers were computed twice instead of kept".into()]);
    }
    rows.into_iter().map(Vec::from).collect()
}

/// Each picture after what is to be seen in it.
fn figures(report: &TrainReport) -> Result<Vec<(String, String)>> {
    let p = &report.progress;
    let curve = |f: fn(&super::checkpoint::Point) -> f32| {
        thinned(p.curve.iter().map(|point| (point.step as f64, f(point) as f64)).collect())
    };
    let held = |f: fn(&super::checkpoint::Evaluation) -> f32| {
        p.held_out.iter().map(|e| (e.step as f64, f(e) as f64)).collect()
    };
    let series = |name, points| Series { name, points, ..Series::default() };
    let axes = |title, y| Axes { title, x: "step", y, log_x: false };
    let mut figures = vec![(
        "Training examples are cut for infilling and mixed with edits; the held-out ones are plain text, so \
         the curves differ by more than what was learned by heart."
            .to_string(),
        svg(
            &axes("Loss", "nats per token"),
            &[
                series("training", curve(|point| point.loss)),
                series("held out", held(|e| e.loss)),
                series("held out, averaged weights", held(|e| e.average)),
            ],
        )?,
    )];
    let mut single = |title: &'static str, y: &'static str, points| -> Result<()> {
        figures.push((title.to_string(), svg(&axes(title, y), &[series(title, points)])?));
        Ok(())
    };
    single("Learning rate", "rate", curve(|point| point.rate))?;
    single("Norm of the gradients before clipping", "norm", curve(|point| point.gradient_norm))?;
    single("Speed since the last start", "tokens/s", curve(|point| point.speed))?;
    if !p.range_test.is_empty() {
        let points = p.range_test.iter().map(|&(rate, loss)| (rate, loss as f64)).collect();
        let axes =
            Axes { title: "Range test", x: "learning rate", y: "smoothed loss", log_x: true };
        let caption = format!("The run used {:.2e}.", p.learning_rate);
        figures.push((caption, svg(&axes, &[series("loss", points)])?));
    }
    Ok(figures)
}

/// Means of equal stretches, when there are more points than a picture shows.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mean = |chunk: &[(f64, f64)]| {
        let sum = chunk.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (sum.0 / chunk.len() as f64, sum.1 / chunk.len() as f64)
    };
    points.chunks(points.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

fn corpus(corpus: &CorpusReport) -> String {
    let row = |name: &str, amount: Amount| {
        vec![name.to_string(), grouped(amount.files), format!("{:.2}", amount.bytes as f64 / 1e6)]
    };
    let numbers = [false, true, true];
    let languages = corpus.languages.iter().map(|(name, amount)| row(name, *amount));
    let all = [row("all", corpus.kept), row("of it held out", corpus.held_out)];
    let mut page = "<h2>Data</h2>\n".to_string();
    page += &table(&["language", "files", "MB"], &numbers, languages.chain(all));
    let dropped = corpus.dropped.iter().map(|(reason, dropped)| {
        let mut row = row(reason, dropped.amount);
        row.push(dropped.example.clone());
        row
    });
    page += &table(&["dropped", "files", "MB", "such as"], &[false, true, true, false], dropped);
    let sources = corpus.repositories.iter().map(|r| {
        let mut row = row(&r.name, r.kept);
        row.push(r.licence.clone());
        row.push(r.commit.clone().unwrap_or_default());
        row.push(if r.held_out { "held out" } else { "" }.into());
        row
    });
    let head = ["source", "files", "MB", "licence", "commit", ""];
    page + &table(&head, &[false, true, true, false, false, false], sources)
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as a person says them.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} minutes", s / 60.0),
        s => format!("{:.1} hours", s / 3600.0),
    }
}
