//! Curves as SVG, for reports that people read.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One curve, or single marked points.
#[derive(Default)]
pub struct Series<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// (x, y), in order of x for a curve.
    pub points: Vec<(f64, f64)>,
    /// Draw marks with labels instead of a curve; one label to each point.
    pub labels: Vec<String>,
    /// Low and high end of a bar through each point: its interval. None, or one to each point.
    pub bars: Vec<(f64, f64)>,
}

/// What stands around the curves.
pub struct Axes<'a> {
    /// Above the picture.
    pub title: &'a str,
    /// Below it.
    pub x: &'a str,
    /// Beside it.
    pub y: &'a str,
    /// Whether x grows by factors.
    pub log_x: bool,
}

/// Colours that people of all kinds of sight tell apart (Okabe & Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// The picture, 720 × 300, as SVG text.
pub fn svg(axes: &Axes<'_>, series: &[Series<'_>]) -> Result<String> {
    let scale = |x: f64| if axes.log_x { x.max(1e-12).log10() } else { x };
    let all: Vec<(f64, f64)> = series
        .iter()
        .flat_map(|s| {
            let bars = s.points.iter().zip(&s.bars).flat_map(|(p, b)| [(p.0, b.0), (p.0, b.1)]);
            s.points.iter().copied().chain(bars)
        })
        .filter(|p| p.0.is_finite() && p.1.is_finite())
        .map(|(x, y)| (scale(x), y))
        .collect();
    let bounds = |f: fn(&(f64, f64)) -> f64| {
        let values = || all.iter().map(f);
        let (low, high) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let margin = if high > low { 0.05 * (high - low) } else { 1.0 };
        if all.is_empty() { (0.0, 1.0) } else { (low - margin, high + margin) }
    };
    let (x, y) = (bounds(|p| p.0), bounds(|p| p.1));
    let mut text = String::new();
    draw(axes, series, (x, y), &mut text).map_err(|e| anyhow!("cannot draw: {e}"))?;
    Ok(text)
}

type Bounds = (f64, f64);

fn draw(
    axes: &Axes<'_>,
    series: &[Series<'_>],
    (x, y): (Bounds, Bounds),
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, (720, 300)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
    let log = axes.log_x;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&|x| if log { format!("{:.1e}", 10f64.powf(*x)) } else { short(*x) })
        .y_label_formatter(&|y| short(*y))
        .light_line_style(WHITE)
        .draw()?;
    for (index, own) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = own.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
        let points: Vec<(f64, f64)> =
            points.map(|&(x, y)| (if log { x.max(1e-12).log10() } else { x }, y)).collect();
        let bars = own.points.iter().zip(&own.bars).filter(|(p, b)| (p.0 + b.0 + b.1).is_finite());
        chart.draw_series(bars.map(|(&(x, _), &(low, high))| {
            let x = if log { x.max(1e-12).log10() } else { x };
            PathElement::new([(x, low), (x, high)], colour.stroke_width(2))
        }))?;
        if own.labels.is_empty() {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(own.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
            continue;
        }
        let marks = points.iter().zip(&own.labels).map(|(&at, label)| {
            EmptyElement::at(at)
                + Circle::new((0, 0), 4, colour.filled())
                + Text::new(label.clone(), (7, -6), ("sans-serif", 12))
        });
        chart
            .draw_series(marks)?
            .label(own.name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    if series.len() > 1 {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    area.present()?;
    Ok(())
}

/// A number in few characters.
fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        a if a >= 10_000.0 => format!("{:.0}k", x / 1000.0),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 1.0 => format!("{x:.1}"),
        a if a >= 0.01 => format!("{x:.3}"),
        _ => format!("{x:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_and_marks_are_drawn_whatever_the_numbers() {
        let axes = Axes { title: "loss", x: "steps", y: "nats", log_x: true };
        let curve = |points: Vec<(f64, f64)>| Series { name: "a", points, ..Series::default() };
        let marks = Series {
            name: "b",
            points: vec![(1.0, 2.0)],
            labels: vec!["q<8>".to_string()],
            bars: vec![(0.5, 2.5)],
        };
        let text =
            svg(&axes, &[curve(vec![(1.0, 3.0), (10.0, f64::NAN), (100.0, 1.0)]), marks]).unwrap();
        assert!(text.starts_with("<svg") && text.contains("polyline") && text.contains("circle"));
        assert!(text.contains("q&lt;8&gt;") && !text.contains("NaN"));
        assert!(svg(&axes, &[curve(Vec::new())]).unwrap().contains("steps"));
    }
}
