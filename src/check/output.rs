//! What checkers print, read into one form. What cannot be understood is left out: a checker that crashes or prints
//! rubbish finds nothing.

use std::path::Path;

use serde_json::Value;

use super::{Diagnostic, Finished, Span, Suggestion};

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of JSON from cargo, with rustc's messages inside.
    Cargo,
    /// Lines of JSON from rustc, on stderr.
    Rustc,
    /// A traceback.
    Python,
    /// ruff's JSON.
    Ruff,
    /// pyright's JSON.
    Pyright,
    /// `file(line,column): error CODE: message`.
    Tsc,
    /// `file:line`, the line, a mark below it, and the message.
    Node,
    /// gcc's JSON, on stderr.
    Gcc,
    /// `file:line:column: message`, from nearly everything else.
    Lines,
}

impl Format {
    /// All that a checker found below `root`; `file` is what it was asked about.
    pub fn read(self, finished: &Finished, root: &Path, file: &str) -> Vec<Diagnostic> {
        let Finished { stdout, stderr, .. } = finished;
        let mut found: Vec<Diagnostic> = match self {
            Format::Cargo => json_lines(stdout)
                .filter(|line| line["reason"] == "compiler-message")
                .filter_map(|line| rustc(&line["message"]))
                .collect(),
            Format::Rustc => json_lines(stderr).filter_map(|line| rustc(&line)).collect(),
            Format::Python => python(stderr, file).into_iter().collect(),
            Format::Ruff => {
                json(stdout).as_array().into_iter().flatten().filter_map(ruff).collect()
            }
            Format::Pyright => {
                let report = json(stdout);
                let list = report["generalDiagnostics"].as_array();
                list.into_iter().flatten().filter_map(pyright).collect()
            }
            Format::Tsc => stdout.lines().filter_map(tsc).collect(),
            Format::Node => node(stderr, file).into_iter().collect(),
            Format::Gcc => {
                let reports = json_lines(stderr).flat_map(|line| match line {
                    Value::Array(list) => list,
                    _ => Vec::new(),
                });
                reports.filter_map(|report| gcc(&report)).collect()
            }
            Format::Lines => stderr.lines().chain(stdout.lines()).filter_map(line).collect(),
        };
        for diagnostic in &mut found {
            diagnostic.path = below(root, &diagnostic.path);
            diagnostic.message = relative(root, &diagnostic.message);
            for (path, ..) in diagnostic.suggestions.iter_mut().flat_map(|s| &mut s.edits) {
                *path = below(root, path);
            }
        }
        // cargo says the same for the library and its tests.
        let mut seen: Vec<Diagnostic> = Vec::new();
        for diagnostic in found {
            if !seen.contains(&diagnostic) {
                seen.push(diagnostic);
            }
        }
        seen
    }
}

fn below(root: &Path, path: &str) -> String {
    let path = Path::new(path);
    let real = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let path = path.strip_prefix(root).or_else(|_| path.strip_prefix(real)).unwrap_or(path);
    let parts: Vec<_> = path.components().filter(|c| *c != std::path::Component::CurDir).collect();
    parts.iter().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// A text without the root before the paths in it: what a checker says must not differ from copy to copy.
pub(super) fn relative(root: &Path, text: &str) -> String {
    let real = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    // The longer one may end with the other.
    [real.as_path(), root].iter().fold(text.to_string(), |text, root| {
        text.replace(&format!("{}{}", root.display(), std::path::MAIN_SEPARATOR), "")
    })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn json_lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(String::from)
}

/// A number that counts from 1, from 0.
fn from_one(value: &Value) -> Option<usize> {
    (value.as_u64()? as usize).checked_sub(1)
}

fn rustc_span(span: &Value) -> Option<Span> {
    Some(Span {
        start: (from_one(&span["line_start"])?, from_one(&span["column_start"])?),
        end: (from_one(&span["line_end"])?, from_one(&span["column_end"])?),
    })
}

fn rustc(message: &Value) -> Option<Diagnostic> {
    let spans = message["spans"].as_array()?;
    let primary = spans.iter().find(|span| span["is_primary"] == true)?;
    let mut suggestions = Vec::new();
    let children = message["children"].as_array().into_iter().flatten();
    for child in children.chain([message]) {
        // Several places of one suggestion change together; those that say different things are choices.
        let replacing = child["spans"].as_array().into_iter().flatten();
        let replacing = replacing.filter(|span| span["suggested_replacement"].is_string());
        let mut edits: Vec<(String, Span, String)> = Vec::new();
        let mut is_certain = true;
        for span in replacing {
            let Some(place) = rustc_span(span) else { continue };
            let edit = (text(&span["file_name"])?, place, text(&span["suggested_replacement"])?);
            is_certain &= span["suggestion_applicability"] == "MachineApplicable";
            if edits.iter().any(|(path, other, _)| *path == edit.0 && *other == edit.1) {
                suggestions.push(Suggestion {
                    message: text(&child["message"])?,
                    edits: vec![edit],
                    is_certain: false,
                });
            } else {
                edits.push(edit);
            }
        }
        if !edits.is_empty() {
            suggestions
                .insert(0, Suggestion { message: text(&child["message"])?, edits, is_certain });
        }
    }
    // The likeliest first, as the compiler lists them.
    suggestions.reverse();
    suggestions.sort_by_key(|suggestion| !suggestion.is_certain);
    Some(Diagnostic {
        path: text(&primary["file_name"])?,
        span: rustc_span(primary)?,
        is_error: message["level"] == "error",
        code: text(&message["code"]["code"]),
        message: text(&message["message"])?,
        suggestions,
    })
}

/// `File "x.py", line 3` with a `SyntaxError: …` somewhere behind it.
fn python(stderr: &str, file: &str) -> Option<Diagnostic> {
    let place = stderr.lines().rfind(|line| line.trim_start().starts_with("File \""));
    let line = place.and_then(|line| line.rsplit(", line ").next()?.trim().parse::<usize>().ok());
    let last = stderr.lines().rfind(|line| line.contains("Error"))?;
    let (kind, message) = last.trim().split_once(": ").unwrap_or((last.trim(), ""));
    // `Sorry: IndentationError: …` is how py_compile says it.
    let (kind, message) = match kind {
        "Sorry" => message.split_once(": ").unwrap_or((message, "")),
        kind => (kind, message),
    };
    let line = line.unwrap_or(1).checked_sub(1)?;
    // What is shown has lost its indentation, and with it the column: all of the line is meant.
    Some(Diagnostic {
        path: file.to_string(),
        span: Span { start: (line, 0), end: (line, 10_000) },
        is_error: true,
        code: Some(kind.to_string()),
        message: message.to_string(),
        suggestions: Vec::new(),
    })
}

fn ruff(item: &Value) -> Option<Diagnostic> {
    let span = |value: &Value| {
        Some(Span {
            start: (from_one(&value["location"]["row"])?, from_one(&value["location"]["column"])?),
            end: (
                from_one(&value["end_location"]["row"])?,
                from_one(&value["end_location"]["column"])?,
            ),
        })
    };
    let path = text(&item["filename"])?;
    let edits = item["fix"]["edits"].as_array().into_iter().flatten();
    let edits: Vec<_> = edits
        .filter_map(|edit| Some((path.clone(), span(edit)?, text(&edit["content"])?)))
        .collect();
    let suggestion = Suggestion {
        message: text(&item["fix"]["message"]).unwrap_or_default(),
        edits,
        is_certain: item["fix"]["applicability"] == "safe",
    };
    Some(Diagnostic {
        path,
        span: span(item)?,
        is_error: true,
        code: text(&item["code"]),
        message: text(&item["message"])?,
        suggestions: Some(suggestion).filter(|s| !s.edits.is_empty()).into_iter().collect(),
    })
}

fn pyright(item: &Value) -> Option<Diagnostic> {
    let place = |value: &Value| {
        Some((value["line"].as_u64()? as usize, value["character"].as_u64()? as usize))
    };
    Some(Diagnostic {
        path: text(&item["file"])?,
        span: Span { start: place(&item["range"]["start"])?, end: place(&item["range"]["end"])? },
        is_error: item["severity"] == "error",
        code: text(&item["rule"]),
        message: text(&item["message"])?,
        suggestions: Vec::new(),
    })
}

fn tsc(line: &str) -> Option<Diagnostic> {
    let (place, rest) = line.split_once("): ")?;
    let (path, place) = place.rsplit_once('(')?;
    let (line, column) = place.split_once(',')?;
    let at = (
        line.parse::<usize>().ok()?.checked_sub(1)?,
        column.parse::<usize>().ok()?.checked_sub(1)?,
    );
    let (kind, message) = rest.split_once(": ")?;
    let (severity, code) = kind.split_once(' ')?;
    Some(Diagnostic {
        path: path.to_string(),
        span: Span { start: at, end: at },
        is_error: severity == "error",
        code: Some(code.to_string()),
        message: message.to_string(),
        suggestions: Vec::new(),
    })
}

fn node(stderr: &str, file: &str) -> Option<Diagnostic> {
    let line =
        stderr.lines().find_map(|line| line.rsplit_once(':')?.1.trim().parse::<usize>().ok())?;
    let line = line.checked_sub(1)?;
    let message = stderr.lines().find(|line| line.contains("Error: "))?;
    let (code, message) = message.split_once(": ")?;
    let column =
        stderr.lines().find(|l| l.trim().starts_with('^')).map_or(0, |l| l.find('^').unwrap_or(0));
    Some(Diagnostic {
        path: file.to_string(),
        span: Span { start: (line, column), end: (line, column + 1) },
        is_error: true,
        code: Some(code.to_string()),
        message: message.to_string(),
        suggestions: Vec::new(),
    })
}

fn gcc(report: &Value) -> Option<Diagnostic> {
    let kind = report["kind"].as_str()?;
    // gcc counts bytes where it says column, and displayed cells beside; of ASCII they are the same.
    let place = |value: &Value| Some((from_one(&value["line"])?, from_one(&value["column"])?));
    let location = report["locations"].as_array()?.first()?;
    let caret = place(&location["caret"])?;
    let start = place(&location["start"]).unwrap_or(caret);
    let end = place(&location["finish"]).map_or((caret.0, caret.1 + 1), |(l, c)| (l, c + 1));
    let fixes = report["fixits"].as_array().into_iter().flatten();
    let edits: Vec<_> = fixes
        .filter_map(|fix| {
            let span = Span { start: place(&fix["start"])?, end: place(&fix["next"])? };
            Some((text(&fix["start"]["file"])?, span, text(&fix["string"])?))
        })
        .collect();
    let suggestion = Suggestion { message: "as gcc says".into(), edits, is_certain: false };
    Some(Diagnostic {
        path: text(&location["caret"]["file"])?,
        span: Span { start: start.min(caret), end: end.max(start) },
        is_error: kind.contains("error"),
        code: text(&report["option"]),
        message: text(&report["message"])?,
        suggestions: Some(suggestion).filter(|s| !s.edits.is_empty()).into_iter().collect(),
    })
}

/// `path:line:column: error: message`; column, severity and a word before the path may be missing.
fn line(line: &str) -> Option<Diagnostic> {
    let line = line.strip_prefix("vet: ").unwrap_or(line);
    // A drive letter is no separator.
    let skip = if line.as_bytes().get(1) == Some(&b':') { 2 } else { 0 };
    let colon = skip + line.get(skip..)?.find(':')?;
    let (path, rest) = (&line[..colon], &line[colon + 1..]);
    if path.is_empty() || path.contains(char::is_whitespace) || !path.contains('.') {
        return None;
    }
    let (number, rest) = rest.split_once(':')?;
    let line = number.trim().parse::<usize>().ok()?.checked_sub(1)?;
    let (column, message) = match rest.split_once(':') {
        Some((column, message)) if column.trim().parse::<usize>().is_ok() => {
            (column.trim().parse::<usize>().ok()?.saturating_sub(1), message)
        }
        _ => (0, rest),
    };
    let message = message.trim();
    let is_note = message.starts_with("note:");
    let is_warning = message.starts_with("warning:");
    let message = message.strip_prefix("fatal ").unwrap_or(message);
    let message = message.strip_prefix("error:").unwrap_or(message).trim();
    (!is_note && !message.is_empty()).then(|| Diagnostic {
        path: path.to_string(),
        span: Span { start: (line, column), end: (line, column) },
        is_error: !is_warning,
        code: None,
        message: message.to_string(),
        suggestions: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Ended;

    fn read(format: Format, stdout: &str, stderr: &str) -> Vec<Diagnostic> {
        let finished =
            Finished { end: Ended::Itself(false), stdout: stdout.into(), stderr: stderr.into() };
        format.read(&finished, Path::new("/w"), "a/b.x")
    }

    #[test]
    fn rubbish_is_nothing_in_every_format() {
        use Format::*;
        for format in [Cargo, Rustc, Python, Ruff, Pyright, Tsc, Node, Gcc, Lines] {
            for rubbish in
                ["", "{", "[1, {}]", "Segmentation fault", "\u{1f600}:é:1", "::::", "a(: "]
            {
                let _ = read(format, rubbish, rubbish);
            }
        }
    }

    #[test]
    fn rustc_gives_all_its_suggestions_and_those_that_belong_together_stay_so() {
        let span = |line: u32, from: u32, to: u32, new: &str, how: &str| {
            format!(
                r#"{{"file_name":"/w/src/a.rs","line_start":{line},"line_end":{line},"column_start":{from},"column_end":{to},"is_primary":true,"suggested_replacement":{new},"suggestion_applicability":{how}}}"#
            )
        };
        let none = span(3, 5, 8, "null", "null");
        let both = [
            span(3, 5, 5, "\"(\"", "\"MachineApplicable\""),
            span(3, 8, 8, "\")\"", "\"MachineApplicable\""),
        ]
        .join(",");
        let choices = [
            span(3, 5, 8, "\"x\"", "\"MaybeIncorrect\""),
            span(3, 5, 8, "\"y\"", "\"MaybeIncorrect\""),
        ]
        .join(",");
        let line = format!(
            r#"{{"message":"cannot","code":{{"code":"E0425"}},"level":"error","spans":[{none}],"children":[{{"message":"wrap","spans":[{both}]}},{{"message":"name","spans":[{choices}]}}]}}"#
        );
        let found = read(Format::Rustc, "", &line);
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].path, found[0].code.as_deref()), ("src/a.rs", Some("E0425")));
        assert_eq!(found[0].span, Span { start: (2, 4), end: (2, 7) });
        let told: Vec<(usize, bool)> =
            found[0].suggestions.iter().map(|s| (s.edits.len(), s.is_certain)).collect();
        assert_eq!(told[0], (2, true));
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[test]
    fn the_others_are_read_too() {
        let python =
            "  File \"a/b.x\", line 3\n    x = (\n        ^\nSyntaxError: '(' was never closed\n";
        let found = read(Format::Python, "", python);
        assert_eq!((found[0].span.start.0, found[0].code.as_deref()), (2, Some("SyntaxError")));
        let tsc = "src/a.ts(4,7): error TS2304: Cannot find name 'x'.\n";
        let found = read(Format::Tsc, tsc, "");
        assert_eq!((&*found[0].path, found[0].span.start), ("src/a.ts", (3, 6)));
        let gcc = r#"[{"kind":"error","message":"expected ';'","locations":[{"caret":{"file":"/w/a.c","line":2,"column":4}}],"fixits":[{"start":{"file":"/w/a.c","line":2,"column":4},"next":{"file":"/w/a.c","line":2,"column":4},"string":";"}]}]"#;
        let found = read(Format::Gcc, "", gcc);
        assert_eq!((found[0].span.start, found[0].suggestions.len()), ((1, 3), 1));
        let found =
            read(Format::Lines, "", "vet: ./x/y.go:7:2: undefined: z\ny.go:1: bad\nnote: no\n");
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].path, found[0].span.start), ("x/y.go", (6, 1)));
        let node = "/w/a.js:2\nlet = ;\n    ^\n\nSyntaxError: Unexpected token\n";
        assert_eq!(read(Format::Node, "", node)[0].span.start, (1, 4));
    }
}
