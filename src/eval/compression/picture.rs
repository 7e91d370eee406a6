//! The table as a picture: size to the right, and above it what is lost and how fast it is.

use super::{Report, Row};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 330.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 46.0;
const PANEL: f64 = 270.0;
const LEFTS: [f64; 2] = [60.0, 426.0];

/// One line of points over the sizes.
struct Series {
    name: &'static str,
    colour: &'static str,
    value: fn(&Report, &Row) -> f64,
}

const QUALITY: [Series; 2] = [
    Series {
        name: "same likeliest token, %",
        colour: "#3b6fb5",
        value: |_, row| row.distance.top1,
    },
    Series {
        name: "exact match beside f32, %",
        colour: "#4a9d6e",
        value: |report, row| 100.0 * row.exact as f64 / report.rows[0].exact.max(1) as f64,
    },
];
const SPEED: [Series; 2] = [
    Series {
        name: "reading, times f32",
        colour: "#3b6fb5",
        value: |report, row| row.speed.prefill_tok_s / report.rows[0].speed.prefill_tok_s,
    },
    Series {
        name: "writing, times f32",
        colour: "#4a9d6e",
        value: |report, row| row.speed.decode_tok_s / report.rows[0].speed.decode_tok_s,
    },
];

pub(super) fn draw(report: &Report) -> String {
    let mut svg = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">"
        ),
        format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>"),
        format!(
            "<text x=\"{}\" y=\"18\" font-size=\"14\">Size, quality and speed</text>",
            LEFTS[0]
        ),
    ];
    panel(report, &QUALITY, LEFTS[0], &mut svg);
    panel(report, &SPEED, LEFTS[1], &mut svg);
    svg.push("</svg>\n".into());
    svg.join("\n")
}

fn panel(report: &Report, series: &[Series], left: f64, svg: &mut Vec<String>) {
    let mut rows: Vec<&Row> = report.rows.iter().collect();
    rows.sort_by_key(|row| row.bytes);
    let values = rows.iter().flat_map(|row| series.iter().map(|s| (s.value)(report, row)));
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
    let room = ((high - low) * 0.12).max(0.01 * high.abs()).max(1e-6);
    let (low, high) = (low - room, high + room);
    let widest = rows.last().map_or(1.0, |row| row.bytes as f64) * 1.06;
    let floor = HEIGHT - BOTTOM;
    let x = |bytes: u64| left + PANEL * bytes as f64 / widest;
    let y = |value: f64| floor - (floor - TOP) * (value - low) / (high - low);
    let mut at = left;
    for s in series {
        svg.push(format!(
            "<rect x=\"{at:.0}\" y=\"29\" width=\"10\" height=\"10\" fill=\"{}\"/>",
            s.colour
        ));
        svg.push(text(at + 15.0, 38.0, s.name, "start"));
        at += 24.0 + 6.1 * s.name.len() as f64;
    }
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let value = low + (high - low) * share;
        let digits = if high - low < 8.0 { 1 } else { 0 };
        svg.push(line((left, y(value)), (left + PANEL, y(value)), "#e4e6ea"));
        svg.push(text(left - 6.0, y(value) + 4.0, &format!("{value:.digits$}"), "end"));
    }
    for row in &rows {
        let at = x(row.bytes);
        svg.push(line((at, TOP), (at, floor), "#e4e6ea"));
        // Small types stand close together: their names go up, one after the other.
        svg.push(format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"start\" transform=\"rotate(-40 {at:.1} {:.1})\">{}</text>",
            TOP - 4.0, TOP - 4.0, row.name
        ));
    }
    for s in series {
        let points: Vec<(f64, f64)> =
            rows.iter().map(|row| (x(row.bytes), y((s.value)(report, row)))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        svg.push(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            path.join(" "),
            s.colour
        ));
        for ((x, y), row) in points.iter().zip(&rows) {
            let radius = if report.chosen == Some(row.name) { 5.0 } else { 3.0 };
            svg.push(format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"/>",
                s.colour
            ));
        }
    }
    for share in [0.0, 0.5, 1.0] {
        let bytes = widest * share;
        svg.push(text(
            left + PANEL * share,
            floor + 16.0,
            &format!("{:.1}", bytes / 1e6),
            "middle",
        ));
    }
    svg.push(text(left + PANEL / 2.0, HEIGHT - 8.0, "megabytes", "middle"));
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> String {
    format!(
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    )
}

fn text(x: f64, y: f64, content: &str, anchor: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>")
}
