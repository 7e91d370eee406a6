//! Answers that still hold after the user typed what they begin with.

use std::collections::VecDeque;

use crate::text::Text;

use super::{CompletionRequest, Suggestion};

/// Answers remembered: enough to go back over a few cursor places.
const ENTRIES: usize = 16;

struct Entry {
    uri: String,
    text: Text,
    offset: usize,
    suggestions: Vec<Suggestion>,
}

/// The last answers, with the texts that they were given for.
#[derive(Default)]
pub(super) struct Recent(VecDeque<Entry>);

impl Recent {
    /// Remembers an answer. Requests with a selected popup item are not remembered: their text is not
    /// the document's.
    pub(super) fn remember(&mut self, request: &CompletionRequest, suggestions: &[Suggestion]) {
        if suggestions.is_empty() || request.selected.is_some() {
            return;
        }
        let document = &request.snapshot.document;
        self.0.truncate(ENTRIES - 1);
        self.0.push_front(Entry {
            uri: document.uri.clone(),
            text: document.text.clone(),
            offset: request.offset,
            suggestions: suggestions.to_vec(),
        });
    }

    /// Forgets the answers for a document.
    pub(super) fn forget(&mut self, uri: &str) {
        self.0.retain(|entry| entry.uri != uri);
    }

    /// The rest of an earlier answer, if the text differs from the one it was given for only by
    /// characters that the answer begins with.
    pub(super) fn find(&self, request: &CompletionRequest) -> Option<Vec<Suggestion>> {
        if request.selected.is_some() {
            return None;
        }
        let document = &request.snapshot.document;
        self.0.iter().filter(|entry| entry.uri == document.uri).find_map(|entry| {
            let (old, new) = (entry.text.as_str(), document.text.as_str());
            let typed = new.get(entry.offset..request.offset)?;
            let same = old.get(..entry.offset)? == new.get(..entry.offset)?
                && old.get(entry.offset..)? == new.get(request.offset..)?;
            if !same {
                return None;
            }
            let rest: Vec<Suggestion> = entry
                .suggestions
                .iter()
                .filter_map(|s| {
                    let new_text = s.edit.new_text.strip_prefix(typed)?.to_string();
                    let range = s.edit.range.start + typed.len()..s.edit.range.end + typed.len();
                    let edit = crate::text::TextEdit { range, new_text };
                    (!edit.new_text.trim().is_empty())
                        .then_some(Suggestion { edit, probability: s.probability })
                })
                .collect();
            (!rest.is_empty()).then_some(rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggest::Trigger;
    use crate::text::TextEdit;
    use crate::workspace::Documents;

    fn request(code: &str) -> CompletionRequest {
        let (before, after) = code.split_once('|').unwrap();
        let mut documents = Documents::new();
        documents.open("file:///a.rs", "rust", 1, format!("{before}{after}"));
        CompletionRequest {
            snapshot: documents.snapshot("file:///a.rs").unwrap(),
            offset: before.len(),
            trigger: Trigger::Automatic,
            items: 1,
            selected: None,
        }
    }

    fn find(remembered: &str, answer: &str, now: &str) -> Option<String> {
        let mut recent = Recent::default();
        let first = request(remembered);
        let edit = TextEdit { range: first.offset..first.offset, new_text: answer.into() };
        recent.remember(&first, &[Suggestion { edit, probability: 0.5 }]);
        Some(recent.find(&request(now))?.remove(0).edit.new_text)
    }

    #[test]
    fn typing_along_keeps_the_rest() {
        assert_eq!(find("let x = |;", "foo(1)", "let x = fo|;").as_deref(), Some("o(1)"));
        assert_eq!(find("let x = |;", "foo(1)", "let x = |;").as_deref(), Some("foo(1)"));
    }

    #[test]
    fn another_text_does_not() {
        assert_eq!(find("let x = |;", "foo(1)", "let x = fa|;"), None);
        assert_eq!(find("let x = |;", "foo(1)", "let y = fo|;"), None);
        assert_eq!(find("let x = |;", "foo(1)", "let x = fo|"), None);
        assert_eq!(find("let x = |;", "foo(1)", "let x = foo(1)|;"), None);
    }
}
