//! What indentation says about a text, for languages that mean it and for code that does not parse.

use std::ops::Range;

/// How far up enclosing lines are looked for. The cursor sits in one function, not in a whole file.
const MAX_LINES: usize = 2000;

/// The column that a line's text starts at, with tab stops every 8 columns.
pub(super) fn indent_width(line: &str) -> usize {
    let mut width = 0;
    for byte in line.bytes() {
        match byte {
            b' ' => width += 1,
            b'\t' => width = (width / 8 + 1) * 8,
            _ => break,
        }
    }
    width
}

/// The indentation of the line that `offset` is on, as written up to there.
pub(super) fn indent_at(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    let start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    indent_width(&before[start..])
}

/// The lines above `offset`, outermost first, each indented less than all that follow: what encloses
/// the cursor in any code that is laid out by hand or by a formatter. Ranges are without the
/// indentation and an opening brace at the end. Comments and lines that only close something are passed
/// over.
pub(super) fn enclosing_by_indentation(
    text: &str,
    offset: usize,
    line_comment: Option<&str>,
) -> Vec<Range<usize>> {
    let mut width = indent_at(text, offset);
    let mut enclosing = Vec::new();
    let mut end = text[..offset].rfind(['\n', '\r']).unwrap_or(0);
    for _ in 0..MAX_LINES {
        if width == 0 || end == 0 {
            break;
        }
        let start = text[..end].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let line = text[start..end].trim();
        let comment = line_comment.is_some_and(|mark| line.starts_with(mark));
        if !line.is_empty() && !comment && !line.starts_with(['}', ')', ']']) {
            let line_width = indent_width(&text[start..end]);
            if line_width < width {
                width = line_width;
                let first = end - text[start..end].trim_start().len();
                let header = line.strip_suffix('{').unwrap_or(line).trim_end();
                enclosing.push(first..first + header.len());
            }
        }
        end = start.saturating_sub(1);
    }
    enclosing.reverse();
    enclosing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_reach_the_next_stop() {
        assert_eq!(indent_width("  \tx"), 8);
        assert_eq!(indent_width("\t  x"), 10);
    }

    #[test]
    fn lines_enclose_what_is_indented_deeper() {
        let text = "class A {\n  // note\n  f(x) {\n    if (x) {\n    }\n\n    ";
        let lines = enclosing_by_indentation(text, text.len(), Some("//"));
        let lines: Vec<&str> = lines.into_iter().map(|line| &text[line]).collect();
        assert_eq!(lines, ["class A", "f(x)"]);
    }

    #[test]
    fn crlf_and_short_texts_are_no_trouble() {
        assert!(enclosing_by_indentation("\r\n  ", 4, None).is_empty());
        assert_eq!(enclosing_by_indentation("a:\r\n  ", 6, None).first(), Some(&(0..2)));
        assert!(enclosing_by_indentation("", 0, None).is_empty());
    }
}
