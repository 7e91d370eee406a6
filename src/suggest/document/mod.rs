//! Documentation comments for functions that have none: in the convention of the language and of the files around, every
//! parameter named and none invented. Each text is completed as if the user had typed up to it; where model and memory
//! have nothing that is worth it, the names speak for themselves.

mod signature;
mod style;
mod words;

use std::ops::Range;
use std::sync::Arc;

pub use signature::Signature;
use style::Slot;
pub use style::Style;

use super::{Completer, CompletionRequest, Progress, Suggestion};
use crate::generation::CancelToken;
use crate::syntax::SyntaxTree;
use crate::text::{Text, TextEdit, apply};
use crate::workspace::{Document, Snapshot};

/// A comment that is to be put in.
#[derive(Clone, Debug, PartialEq)]
pub struct Documentation {
    /// The edit: an insertion.
    pub edit: TextEdit,
    /// The convention.
    pub style: &'static str,
    /// Texts in it, and how many of them the names alone say.
    pub texts: usize,
    /// See `texts`.
    pub by_name: usize,
    /// Parameters that it names: all.
    pub parameters: usize,
}

impl std::fmt::Display for Documentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parameters {
            0 => write!(f, "parses")?,
            1 => write!(f, "parses · names its parameter")?,
            n => write!(f, "parses · names all {n} parameters")?,
        }
        match self.by_name {
            0 => Ok(()),
            n if n == self.texts => f.write_str(" · made of the names alone"),
            n => write!(f, " · {n} of {} texts made of the names alone", self.texts),
        }
    }
}

/// Larger files are documented without the model, which would have to read them once for each text.
const MOST_BYTES: usize = 200_000;
/// Texts that are less likely than this are not taken; what ends without the end of a sentence may go on in the next line.
const SURE: f32 = 0.2;
const SURER: f32 = 0.4;

/// Writes the comment of one function.
///
/// # Errors
/// Why there is none: its language has no convention here, or what came out would not stand the checks.
pub fn document(
    mut completer: Option<&mut dyn Completer>,
    snapshot: &Snapshot,
    signature: &Signature,
    cancel: &CancelToken,
) -> Result<Documentation, String> {
    let document = &snapshot.document;
    let language = document.language.ok_or("the language is not known")?;
    let source = document.text.as_str();
    let is_same = |other: &&Arc<Document>| other.language.is_some_and(|l| l.name == language.name);
    let others = snapshot.others.iter().filter(is_same);
    let others = others.map(|other| other.text.as_str());
    let around: Vec<&str> = std::iter::once(source).chain(others).collect();
    let style = Style::of(language.name, &mut around.iter().copied())
        .ok_or_else(|| format!("nothing is known of how {} is documented", language.name))?;
    let (mut written, mut by_name) = (Vec::new(), 0);
    let comment = style.comment(signature, &mut |slot, before| {
        let completer = completer.as_deref_mut().filter(|_| source.len() <= MOST_BYTES);
        let text = completer
            .and_then(|completer| {
                completed(completer, snapshot, (signature, style.close), before, cancel)
            })
            .filter(|text| {
                // Said of the same thing elsewhere, it fits by that alone.
                let line = before.lines().next_back().unwrap_or_default().trim();
                let known = format!("{line} {text}");
                let is_known = slot != Slot::Summary && around.iter().any(|o| o.contains(&known));
                let fits = is_known && is_plain(text) || is_prose(text, signature, slot);
                fits && !written.contains(text)
            });
        by_name += usize::from(text.is_none());
        let text = text.unwrap_or_else(|| style.by_name(signature, slot));
        written.push(text.clone());
        text
    });
    if cancel.is_cancelled() {
        return Err("cancelled".into());
    }
    let edit = TextEdit { range: signature.at..signature.at, new_text: comment };
    check(document, signature, style, &edit)?;
    let (texts, parameters) = (written.len(), signature.parameters.len());
    Ok(Documentation { edit, style: style.name, texts, by_name, parameters })
}

/// What opens a text in quotes.
fn is_mark(c: char) -> bool {
    ['"', '\''].contains(&c)
}

/// The rest of the line that `before`, put in at a place, begins.
fn completed(
    completer: &mut dyn Completer,
    snapshot: &Snapshot,
    (signature, close): (&Signature, &str),
    before: &str,
    cancel: &CancelToken,
) -> Option<String> {
    let at = signature.at;
    let mut document: Document = (*snapshot.document).clone();
    let source = document.text.as_str();
    // Who writes leaves a space before a text, but not behind an opening.
    let before = before.trim_end();
    let space = if before.ends_with(is_mark) { "" } else { " " };
    // The comment has an end already, so that what follows reads as code.
    let close = format!("{}{close}\n", signature.indent);
    let close = if close.trim().is_empty() { "" } else { &close };
    let text = format!("{}{before}{space}\n{close}{}", &source[..at], &source[at..]);
    document.tree = document.language.and_then(|language| SyntaxTree::parse(language, &text));
    document.text = Text::new(text);
    let offset = at + before.len() + space.len();
    let snapshot = Snapshot { document: document.into(), ..snapshot.clone() };
    let request = CompletionRequest::invoked(snapshot, offset);
    let completion = completer.complete(&request, &Progress::new(), cancel);
    tracing::debug!("{before:?}: {:?}, {:?}", completion.suggestions, completion.silence);
    let Suggestion { edit, probability } = completion.suggestions.into_iter().next()?;
    let text = request.snapshot.document.text.as_str();
    let typed = text.get(edit.range.start..offset)?;
    let line = edit.new_text.strip_prefix(typed)?.lines().next()?;
    let line = line.trim();
    let bound = if line.ends_with('.') { SURE } else { SURER };
    (probability >= bound).then(|| words::capital(line.trim_end_matches(['.', ' '])))
}

/// Whether a text of the model reads like a description of what it is about, and not like code.
fn is_prose(text: &str, signature: &Signature, slot: Slot) -> bool {
    if !(6..=100).contains(&text.chars().count()) || !is_plain(text) {
        return false;
    }
    let said: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
    let said: Vec<&String> = said.iter().filter(|word| word.chars().count() > 2).collect();
    let about = match slot {
        Slot::Parameter(at) => vec![signature.parameters[at].clone()],
        Slot::Summary => {
            std::iter::once(&signature.name).chain(&signature.class).cloned().collect()
        }
        Slot::Returns | Slot::Fails(_) => return said.len() > 1,
    };
    let stem = |word: &str| word.to_lowercase().chars().take(4).collect::<String>();
    let mut about = about.iter().flat_map(|name| words::words(name));
    said.len() > 1 && about.any(|word| said.iter().any(|said| stem(said) == stem(&word)))
}

/// Letters, digits and the marks of a sentence, quotes and brackets in pairs: it ends no comment anywhere.
fn is_plain(text: &str) -> bool {
    let count = |mark: char| text.matches(mark).count();
    text.chars().all(|c| c.is_alphanumeric() || " ,.;:'`()-_/".contains(c))
        && count('`').is_multiple_of(2)
        && count('(') == count(')')
        && !["//", "''", "  ", "::"].iter().any(|marks| text.contains(marks))
}

/// Makes sure that a comment is one: the code around it reads as before, and it names the parameters and nothing else.
fn check(
    document: &Document,
    signature: &Signature,
    style: &Style,
    edit: &TextEdit,
) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{} was not documented: {what}", signature.name));
    let source = document.text.as_str();
    let after = apply(source, std::slice::from_ref(edit));
    let Some(tree) = &document.tree else { return wrong("the file does not parse") };
    let Some(new) = tree.language_tree(&after) else { return wrong("the file does not parse") };
    if new.error_count(0..after.len()) > tree.error_count(0..source.len()) {
        return wrong("the file would not parse any more");
    }
    if style.parameters_in(&edit.new_text) != style.names(signature) {
        return wrong("its parameters could not be named");
    }
    let moved = |range: &Range<usize>| match signature.at <= range.start {
        true => range.start + edit.new_text.len(),
        false => range.start,
    };
    let start = moved(&signature.range);
    if Signature::all(&new, &after).iter().any(|other| other.range.start == start) {
        return wrong("the comment would not belong to it");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
