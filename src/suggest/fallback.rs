//! A cheap answer without a model, while it loads: how the same beginning of a line went on elsewhere.

use super::shape::{Site, rest_of_line, shape};
use super::{Completion, CompletionRequest, Silence, Suggestion};

/// Characters of a line's beginning that make its end worth offering.
const ENOUGH: usize = 4;
/// Bytes of each document that are looked through.
const LOOK_THROUGH: usize = 1 << 20;

/// Continues the cursor's line as the nearest line with the same beginning did, in this document first,
/// then in the other open ones.
pub fn fallback(request: &CompletionRequest) -> Completion {
    let document = &request.snapshot.document;
    let text = document.text.as_str();
    let before = &text[..request.offset];
    let line = before.rsplit(['\n', '\r']).next().unwrap_or("").trim_start();
    // A popup item would have to be part of the answer.
    if request.selected.is_some()
        || line.chars().count() < ENOUGH
        || !rest_of_line(text, request.offset).trim().is_empty()
    {
        return Completion::silent(Silence::ModelLoading);
    }
    let here = continuation(text, line, Some(request.offset));
    let others = request.snapshot.others.iter();
    let found =
        here.or_else(|| others.filter_map(|d| continuation(d.text.as_str(), line, None)).next());
    let indent = document.language.map_or("    ", |l| l.indent);
    let edit =
        found.and_then(|answer| shape(&Site { text, offset: request.offset, indent }, answer).ok());
    match edit {
        Some(edit) => Completion {
            suggestions: vec![Suggestion { edit, probability: 0.3 }],
            ..Completion::default()
        },
        None => Completion::silent(Silence::ModelLoading),
    }
}

/// The rest of the line nearest to `offset` (or the first) that begins with `line`, which is not the
/// cursor's own.
fn continuation<'a>(text: &'a str, line: &str, offset: Option<usize>) -> Option<&'a str> {
    let text = &text[..text.floor_char_boundary(LOOK_THROUGH)];
    let lines = text.lines().filter_map(|l| {
        let rest = l.trim_start().strip_prefix(line)?;
        (!rest.trim().is_empty()).then_some((rest.as_ptr() as usize - text.as_ptr() as usize, rest))
    });
    let own = |at: usize| offset == Some(at);
    lines
        .filter(|(at, _)| !own(*at))
        .min_by_key(|(at, _)| offset.map_or(0, |offset| at.abs_diff(offset)))
        .map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggest::Trigger;
    use crate::workspace::Documents;

    fn answer(code: &str) -> Option<String> {
        let (before, after) = code.split_once('|').unwrap();
        let mut documents = Documents::new();
        documents.open("file:///a.rs", "rust", 1, format!("{before}{after}"));
        let request = CompletionRequest {
            snapshot: documents.snapshot("file:///a.rs").unwrap(),
            offset: before.len(),
            trigger: Trigger::Automatic,
            items: 1,
            selected: None,
            precision: None,
            habit: 0.0,
        };
        fallback(&request).suggestions.pop().map(|s| s.edit.new_text)
    }

    #[test]
    fn the_nearest_line_with_the_same_beginning_is_offered() {
        let code = "    assert_eq!(far, 1);\n\n\n    assert_eq!(near, 2);\n    assert_eq!(|\n";
        assert_eq!(answer(code).as_deref(), Some("near, 2);"));
        assert_eq!(answer("    unique(|\n"), None);
        assert_eq!(answer("a(1)\na(|\n"), None);
    }
}
