//! The parts of a page that loads nothing from elsewhere: its head, tables, pictures with captions.

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #8884; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { svg { filter: invert(.88) hue-rotate(180deg); } }";

/// The begin of a page, up to its heading; `</html>` ends it.
pub fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{0}</title>\n<style>\n{STYLE}\n</style>\n<h1>{0}</h1>\n",
        escaped(title)
    )
}

/// An SVG picture with a caption below it.
pub fn figure(svg: &str, caption: &str) -> String {
    format!("<figure>\n{svg}\n<figcaption>{}</figcaption>\n</figure>\n", escaped(caption))
}

/// A table; where `numbers` says so, cells stand to the right.
pub fn table(
    head: &[&str],
    numbers: &[bool],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let line = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(numbers).map(|(cell, number)| {
            let class = if *number { " class=\"n\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escaped(cell))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let mut text = "<table>\n".to_string();
    if !head.is_empty() {
        text += &line("th", &mut head.iter().copied());
    }
    for row in rows {
        text += &line("td", &mut row.iter().map(String::as_str));
    }
    text + "</table>\n"
}

/// Names and code come from anywhere: nothing in them may become part of the page.
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}
