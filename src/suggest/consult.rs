//! A remote model beside the local one. It is asked with the same text and speaks while the local one makes its answer,
//! which never waits for it longer than its answers usually take; what comes later serves the next keystroke, if the
//! user has typed what it says. Where the local model and the memory are sure, they keep the word.

use std::time::{Duration, Instant};

use crate::generation::CancelToken;
use crate::memory::retrieval::hash;
use crate::remote::{Answer, Question, RemoteModel};
use crate::workspace::{Document, holds_secret, is_secret_file};

use super::prompt;
use super::rules::{Extent, Rules};

/// Where the local model with its memory is wrong, a remote one is taken to be right so often. It is no measured figure:
/// remote models differ.
const RIGHT: f32 = 0.6;

/// The probability that a remote text is right where the local one is with a probability of `own`.
pub(super) fn probability_beside(own: f32) -> f32 {
    RIGHT * (1.0 - own)
}

/// A question on its way.
pub(super) struct Consult {
    uri: String,
    /// The cursor when it was asked, and the text before it as a number.
    offset: usize,
    before: u64,
    answer: Answer,
    asked: Instant,
    patience: Duration,
}

/// The cursor of a request.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) document: &'a Document,
    /// Its text, with the popup item that is selected.
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

impl Consult {
    /// Goes on with the question on its way if what was typed since agrees with its answer, else lets go of it and
    /// asks anew. `None` if there is nobody to ask just now, or nothing that may be sent.
    pub(super) fn at(
        earlier: Option<Consult>,
        client: &RemoteModel,
        cursor: Cursor<'_>,
        rules: &Rules<'_>,
        others: impl FnOnce() -> Vec<(String, String)>,
        max_tokens: usize,
    ) -> Option<Consult> {
        if let Some(earlier) = earlier
            && earlier.goes_on(cursor)
        {
            return Some(earlier);
        }
        let Cursor { document, text, offset } = cursor;
        let (prefix, suffix) = prompt::texts(document, text, offset);
        let file = document.uri.rsplit('/').next().unwrap_or_default();
        if is_secret_file(file) || holds_secret(&prefix) || holds_secret(&suffix) {
            return None;
        }
        let patience = client.patience();
        let answer = client.ask(Question {
            path: prompt::path_of(document),
            language: document.language.map_or("", |language| language.name),
            comment: document.language.and_then(|language| language.line_comment),
            prefix,
            suffix,
            others: others(),
            max_tokens,
            one_line: rules.extent == Extent::Line,
        })?;
        let (uri, before) = (document.uri.clone(), hash(&text[..offset]));
        Some(Consult { uri, offset, before, answer, asked: Instant::now(), patience })
    }

    /// What the remote model says at the cursor, once it has said enough by the `rules`; waits for it as long as that
    /// is worth it, and no longer than until `latest`.
    pub(super) fn heard(
        &self,
        cursor: Cursor<'_>,
        rules: &Rules<'_>,
        latest: Instant,
        cancel: &CancelToken,
    ) -> Option<String> {
        let typed = self.typed(cursor)?;
        let enough = |code: &str| {
            code.strip_prefix(typed.as_str()).is_some_and(|rest| rules.cut(rest).is_some())
        };
        let until = latest.min(self.asked + self.patience);
        let code = self.answer.wait(until, &enough, cancel)?;
        code.strip_prefix(typed.as_str()).map(str::to_string)
    }

    /// Whether the answer can still come.
    pub(super) fn is_coming(&self) -> bool {
        self.answer.so_far().is_some_and(|(_, is_over)| !is_over)
    }

    /// The document that it is about.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    fn goes_on(&self, cursor: Cursor<'_>) -> bool {
        let Some((typed, (code, is_over))) = self.typed(cursor).zip(self.answer.so_far()) else {
            return false;
        };
        // An answer that was typed to its end has nothing more to say.
        (code.starts_with(&typed) && code.len() > typed.len())
            || (!is_over && typed.starts_with(&code))
    }

    /// What was typed since it was asked; `None` if the text was changed in another way.
    fn typed(&self, cursor: Cursor<'_>) -> Option<String> {
        let Cursor { document, text, offset } = cursor;
        let is_same = document.uri == self.uri
            && text.get(..self.offset).is_some_and(|before| hash(before) == self.before);
        let typed = text.get(self.offset..offset).filter(|_| is_same)?;
        Some(typed.replace("\r\n", "\n"))
    }
}
