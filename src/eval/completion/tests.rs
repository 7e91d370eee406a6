//! Asking, with completers whose answers are known.

use super::*;
use crate::generation::CancelToken;
use crate::suggest::{Completer, Completion, CompletionRequest, Progress, Suggestion};
use crate::text::TextEdit;
use crate::train::corpus::SourceFile;

const TEXT: &str = "let first_value = compute(1, 2);\nreturn second.call(first_value);\n";

/// Knows the lines of the text, is right in one half of them, and notes what it hears.
struct Oracle {
    right: fn(&str) -> bool,
    seen: Vec<String>,
    forgotten: Vec<String>,
}

impl Oracle {
    fn new(right: fn(&str) -> bool) -> Oracle {
        Oracle { right, seen: Vec::new(), forgotten: Vec::new() }
    }
}

impl Completer for Oracle {
    fn complete(
        &mut self,
        request: &CompletionRequest,
        _: &Progress,
        _: &CancelToken,
    ) -> Completion {
        let document = &request.snapshot.document;
        assert_eq!(document.path.as_deref(), Some(std::path::Path::new("/r/a%20b.rs")));
        let text = document.text.as_str();
        self.seen.push(text[request.offset..].to_string());
        let start = text[..request.offset].rfind('\n').map_or(0, |at| at + 1);
        let before = &text[start..request.offset];
        let line = TEXT.lines().find(|line| line.starts_with(before)).unwrap();
        let right = (self.right)(line);
        let rest = if right { &line[before.len()..] } else { "?" };
        // As the product may: from before the cursor on, and more lines than are asked for.
        let edit =
            TextEdit { range: start..request.offset, new_text: format!("{before}{rest}  \nmore") };
        let suggestions = vec![Suggestion { edit, probability: if right { 0.9 } else { 0.01 } }];
        Completion { suggestions, ..Completion::default() }
    }

    fn forget(&mut self, uri: &str) {
        self.forgotten.push(uri.to_string());
    }
}

fn repository() -> Repository {
    let file = SourceFile {
        path: "a%20b.rs".into(),
        repository: "r".into(),
        language: "rust",
        text: TEXT.into(),
    };
    Repository::of_files("r", vec![file])
}

fn asked(context: Context) -> (Report, Oracle) {
    let mut all = Oracle::new(|_| true);
    let mut half = Oracle::new(|line| line.contains("return"));
    let options = Options { context, show_threshold: 0.5, ..Options::default() };
    let variants: &mut [(String, &mut dyn Variant)] =
        &mut [("all".into(), &mut all), ("half".into(), &mut half)];
    let mut heard = Vec::new();
    let mut say = |done, of| heard.push((done, of));
    let report = run(variants, &[repository()], &options, &mut say).unwrap();
    assert_eq!(heard, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    (report, all)
}

#[test]
fn figures_are_of_the_same_places_for_all() {
    let (report, oracle) = asked(Context::Fim);
    let [all, half] = report.variants.as_slice() else { panic!("{report}") };
    assert_eq!((all.figures.places, all.figures.exact.value), (2, 100.0));
    assert_eq!((half.figures.exact.value, half.figures.answered.value), (50.0, 100.0));
    assert_eq!((half.figures.shown.value, half.figures.shown_exact.value), (50.0, 100.0));
    assert!(all.figures.similarity.value == 100.0 && half.figures.similarity.value < 60.0);
    let wanted = |answers: &[Answer]| -> Vec<String> {
        answers.iter().map(|answer| answer.wanted.clone()).collect()
    };
    assert_eq!(wanted(&report.answers[0]), wanted(&report.answers[1]));
    let right = report.answers[1].iter().find(|answer| answer.exact).unwrap().characters();
    let length: usize = report.answers[1].iter().map(Answer::characters).sum();
    assert!((half.figures.completed.value - 100.0 * right as f64 / length as f64).abs() < 1e-9);
    assert_eq!(report.differences.len(), 1);
    assert_eq!(report.differences[0].exact.value, -50.0);
    // As a float of 32 bits 0.9 is a little less.
    assert_eq!(all.reliability.bins[8].count, 2);
    assert!((all.reliability.calibration_error - 0.1).abs() < 1e-6);
    assert_eq!(all.lengths.iter().map(|length| length.places).sum::<usize>(), 2);
    assert_eq!(oracle.forgotten, ["file:///r/a%2520b.rs"; 2]);
    assert!(oracle.seen.iter().any(|text| text.contains("return")), "{:?}", oracle.seen);
    let text = report.to_string();
    assert!(text.contains("half") && text.contains("exact %") && text.contains("Brier"), "{text}");
}

#[test]
fn without_the_text_after_nothing_follows_the_cursor() {
    let (report, oracle) = asked(Context::Left);
    assert_eq!(report.variants[0].figures.exact.value, 100.0);
    assert!(oracle.seen.iter().all(String::is_empty));
}

#[test]
fn a_page_holds_everything_and_loads_nothing() {
    let (report, _) = asked(Context::Fim);
    let page = html(&report).unwrap();
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.contains("<mark>") && page.ends_with("</html>\n"));
    for word in ["src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn nowhere_to_ask_is_an_error() {
    let mut oracle = Oracle::new(|_| true);
    let options = Options { languages: vec!["go".into()], ..Options::default() };
    let variants: &mut [(String, &mut dyn Variant)] = &mut [("all".into(), &mut oracle)];
    let error = run(variants, &[repository()], &options, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with("r: no place"), "{error}");
}
