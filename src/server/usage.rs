//! What becomes of suggestions that were shown: read, accepted, kept. The text is followed in memory; what is written
//! down has none of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::store::Used;
use crate::suggest::Suggestion;
use crate::text::TextEdit;
use crate::workspace::{Document, Documents};

/// What is gone again sooner was not read.
const READ: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(300);
/// Suggestions that are followed at a time; the oldest give way.
const MOST: usize = 256;

/// A suggestion that is followed.
struct Followed {
    uri: String,
    ids: Vec<String>,
    /// Where its text begins, or would.
    start: usize,
    text: String,
    shown: Instant,
    used: Used,
    /// The client said that it showed it.
    is_seen: bool,
    /// The place does not exist any more.
    is_lost: bool,
}

/// All that are followed.
#[derive(Default)]
pub(super) struct Usage {
    followed: Vec<Followed>,
    /// What nothing more will be known of, until it is written down.
    done: Vec<Used>,
    /// The client says what it shows: then nothing else counts.
    says_what_is_shown: bool,
}

impl Usage {
    /// Notes an answer. One that goes on with an earlier one, as the user types along, is the same suggestion.
    pub(super) fn shown(
        &mut self,
        document: &Document,
        suggestion: &Suggestion,
        habit: f32,
        id: String,
        now: Instant,
    ) {
        let TextEdit { range, new_text } = &suggestion.edit;
        let text = document.text.as_str();
        let goes_on = |one: &Followed| {
            let typed = one.start.min(range.start)..range.start;
            one.uri == document.uri
                && !one.is_lost
                && one.start <= range.start
                && text.get(typed).is_some_and(|typed| {
                    one.text.strip_prefix(typed).is_some_and(|rest| rest == new_text)
                })
        };
        if let Some(same) = self.followed.iter_mut().rev().find(|one| goes_on(one)) {
            same.ids.push(id);
            return;
        }
        // What another one took the place of at once was never read.
        self.followed
            .retain(|one| one.uri != document.uri || now - one.shown >= READ || one.is_seen);
        if self.followed.len() >= MOST {
            self.followed.remove(0);
        }
        let p = suggestion.probability.clamp(0.001, 0.999);
        let raw = 1.0 / (1.0 + (-((p / (1.0 - p)).ln() - habit)).exp());
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.followed.push(Followed {
            uri: document.uri.clone(),
            ids: vec![id],
            start: range.start,
            text: new_text.clone(),
            shown: now,
            used: Used {
                at,
                language: document.language.map_or("", |language| language.name).to_string(),
                probability: (raw * 1000.0).round() / 1000.0,
                characters: new_text.chars().count(),
                accepted: 0,
                kept30: None,
                kept300: None,
            },
            is_seen: false,
            is_lost: false,
        });
    }

    /// The client says that it shows one.
    pub(super) fn seen(&mut self, id: &str) {
        self.says_what_is_shown = true;
        if let Some(one) = self.find(id) {
            one.is_seen = true;
        }
    }

    /// So many characters of one were accepted; all of them without a number. Whether that is new: clients may say it twice.
    pub(super) fn accepted(&mut self, id: &str, characters: Option<usize>) -> bool {
        let Some(one) = self.find(id) else { return true };
        let (all, before) = (one.used.characters, one.used.accepted);
        one.used.accepted = before.max(characters.unwrap_or(all).min(all));
        one.is_seen = true;
        before == 0
    }

    fn find(&mut self, id: &str) -> Option<&mut Followed> {
        self.followed.iter_mut().rev().find(|one| one.ids.iter().any(|own| own == id))
    }

    /// Places move with the text before them.
    pub(super) fn edited(&mut self, uri: &str, edits: &[TextEdit]) {
        for one in self.followed.iter_mut().filter(|one| one.uri == uri && !one.is_lost) {
            for TextEdit { range, new_text } in edits {
                if range.end <= one.start && range.start < one.start {
                    one.start = one.start - range.len() + new_text.len();
                } else if range.start < one.start {
                    one.is_lost = true;
                }
            }
        }
    }

    /// A document was closed: what is not known by now stays unknown.
    pub(super) fn closed(&mut self, uri: &str) {
        let own = self.followed.extract_if(.., |one| one.uri == uri).collect();
        self.finish(own);
    }

    fn finish(&mut self, over: Vec<Followed>) {
        let says = self.says_what_is_shown;
        self.done.extend(over.into_iter().filter(|one| one.is_seen || !says).map(|one| one.used));
    }

    /// Looks what is left of suggestions whose time has come; returns those that are done.
    pub(super) fn look(&mut self, documents: &Documents, now: Instant) -> Vec<Used> {
        let mut over = Vec::new();
        for mut one in std::mem::take(&mut self.followed) {
            let age = now.saturating_duration_since(one.shown);
            // A place that was overwritten kept nothing.
            let kept = || match (one.is_lost, documents.get(&one.uri)) {
                (false, Some(document)) => kept(document.text.as_str(), one.start, &one.text),
                _ => 0.0,
            };
            if age >= SOON && one.used.kept30.is_none() {
                one.used.kept30 = Some(kept());
            }
            if age >= LATE {
                one.used.kept300 = Some(kept());
                over.push(one);
            } else {
                self.followed.push(one);
            }
        }
        self.finish(over);
        std::mem::take(&mut self.done)
    }

    /// All that is known, at the end.
    pub(super) fn end(&mut self) -> Vec<Used> {
        let all = std::mem::take(&mut self.followed);
        self.finish(all);
        std::mem::take(&mut self.done)
    }
}

/// How much of `text` stands at a place, 0 to 1: characters in common, in their order.
fn kept(document: &str, start: usize, text: &str) -> f32 {
    let Some(rest) = document.get(start..) else { return 0.0 };
    if rest.starts_with(text) {
        return 1.0;
    }
    let end = rest.floor_char_boundary(text.len());
    let ratio = similar::TextDiff::from_chars(&rest[..end], text).ratio();
    (ratio * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const URI: &str = "file:///a.rs";

    /// Types `then` at the cursor of a text for which `offered` was shown, and says what became of it.
    fn after(before: &str, offered: &str, then: &[(Range<usize>, &str)], accept: bool) -> Used {
        let at = before.find('|').unwrap();
        let mut documents = Documents::new();
        documents.open(URI, "rust", 1, before.replace('|', ""));
        let start = Instant::now();
        let mut usage = Usage::default();
        let edit = TextEdit { range: at..at, new_text: offered.into() };
        let suggestion = Suggestion { edit, probability: 0.7 };
        usage.shown(documents.get(URI).unwrap(), &suggestion, 0.0, "1-0".into(), start);
        if accept {
            usage.accepted("1-0", None);
        }
        let mut text = before.replace('|', "");
        for (range, new) in then {
            text.replace_range(range.clone(), new);
            usage.edited(URI, &[TextEdit { range: range.clone(), new_text: new.to_string() }]);
        }
        documents.close(URI);
        documents.open(URI, "rust", 2, text);
        assert_eq!(usage.look(&documents, start + Duration::from_secs(10)), []);
        assert_eq!(usage.look(&documents, start + Duration::from_secs(31)), []);
        let mut done = usage.look(&documents, start + Duration::from_secs(301));
        assert_eq!(done.len(), 1);
        done.remove(0)
    }

    #[test]
    fn what_was_accepted_or_typed_is_kept_wherever_it_moved() {
        let accepted = after("let x = |;", "foo()", &[(8..8, "foo()"), (0..0, "// é\n")], true);
        assert_eq!(
            (accepted.accepted, accepted.kept30, accepted.kept300),
            (5, Some(1.0), Some(1.0))
        );
        assert_eq!((accepted.language.as_str(), accepted.probability), ("rust", 0.7));
        let typed = after("let x = |;", "foo()", &[(8..8, "fo"), (10..10, "o()")], false);
        assert_eq!((typed.accepted, typed.kept30), (0, Some(1.0)));
    }

    #[test]
    fn what_was_not_wanted_is_not() {
        let other = after("let x = |;", "foo()", &[(8..8, "1")], false);
        assert!(other.kept30.unwrap() < 0.5, "{other:?}");
        let deleted = after("let x = |;", "foo()", &[(8..8, "foo()"), (0..14, "")], true);
        assert_eq!(deleted.kept30, Some(0.0));
    }

    #[test]
    fn typing_along_is_one_suggestion_and_a_flash_is_none() {
        let mut documents = Documents::new();
        documents.open(URI, "rust", 1, "fo".into());
        let mut usage = Usage::default();
        let start = Instant::now();
        let show = |usage: &mut Usage, at: usize, text: &str, id: &str, ms: u64| {
            let edit = TextEdit { range: at..at, new_text: text.into() };
            let suggestion = Suggestion { edit, probability: 0.5 };
            let document = documents.get(URI).unwrap();
            usage.shown(document, &suggestion, 0.0, id.into(), start + Duration::from_millis(ms));
        };
        show(&mut usage, 0, "foo()", "1-0", 0);
        show(&mut usage, 2, "o()", "2-0", 300);
        assert_eq!(usage.followed.len(), 1);
        show(&mut usage, 2, "x()", "3-0", 400);
        show(&mut usage, 2, "y()", "4-0", 500);
        assert_eq!(usage.followed.len(), 2);
        usage.seen("4-0");
        let read = usage.end();
        assert_eq!(read.len(), 1);
    }
}
