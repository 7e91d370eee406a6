//! What could repair a place, from all sources: the compiler's own suggestions, the parser, mutations, lines of the
//! repository that read almost the same, the model.
//! Model and memory weigh them all; nothing here is proven yet.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::habits::{Habits, Signals, UNWEIGHED};
use super::mutations::{self, mutations};
use super::{LEAST_TRIALS, LEAST_WEIGHED, nearest, syntax_repairs};
use crate::check::Diagnostic;
use crate::generation::CancelToken;
use crate::suggest::{Completer, CompletionRequest, ModelCompleter, Progress, Trigger};
use crate::syntax::SyntaxTree;
use crate::text::{Text, TextEdit, apply, short};
use crate::workspace::{Document, Snapshot};

/// Where a proposal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A checker proposed it.
    Checker,
    /// The parser takes it.
    Syntax,
    /// It undoes a kind of mistake.
    Mutation,
    /// Another line of the repository has it so.
    Repository,
    /// The model wrote it.
    Model,
}

/// A change that may repair a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The edits of the document.
    pub edits: Vec<TextEdit>,
    /// Where it comes from.
    pub origin: Origin,
    /// What it does, in a few words.
    pub title: String,
    /// Nats that speak for it.
    pub worth: f32,
    /// What they are made of, where the parser had nothing to say.
    pub signals: Signals,
    /// Errors of the parse afterwards.
    pub errors: usize,
}

impl Proposal {
    /// Whether it only takes something away.
    pub fn only_deletes(&self) -> bool {
        self.edits.iter().all(|edit| edit.new_text.trim().is_empty())
    }
}

/// What is to be repaired.
pub struct Ask<'a> {
    /// The document and what is open beside it.
    pub snapshot: &'a Snapshot,
    /// The document's name below the root.
    pub name: &'a str,
    /// Where the mistake may lie.
    pub within: Range<usize>,
    /// What was said about it.
    pub diagnostic: Option<&'a Diagnostic>,
    /// Time to think.
    pub limit: Duration,
    /// Whether the model may write code of its own.
    pub writes: bool,
}

impl Ask<'_> {
    fn habits(&self) -> &'static Habits {
        match self.diagnostic {
            Some(_) => Habits::of_reported(),
            None => Habits::shipped(),
        }
    }
}

/// Characters of code in a title.
pub(super) const SHOWN: usize = 40;
/// Parses and weighings take about so long; more are not begun than fit.
const WEIGHING: Duration = Duration::from_millis(5);
/// Nats for a suggestion of a checker; they only order these.
const CERTAIN: f32 = 30.0;
const SUGGESTED: f32 = 25.0;

/// Proposals, likeliest first.
pub fn proposals(
    mut completer: Option<&mut ModelCompleter>,
    ask: &Ask<'_>,
    cancel: &CancelToken,
) -> Vec<Proposal> {
    let start = Instant::now();
    let document = &ask.snapshot.document;
    let text = &document.text;
    let mut all = Vec::new();
    if let Some(diagnostic) = ask.diagnostic {
        all.extend(suggested(diagnostic, ask.name, text));
    }
    let Some(tree) = &document.tree else { return all };
    let errors = tree.error_count(0..text.len());
    for proposal in &mut all {
        proposal.errors = errors_after(tree, text, &proposal.edits).unwrap_or(usize::MAX);
    }
    // Broken syntax elsewhere is no reason to say nothing of what somebody reported here.
    let is_about_syntax = match ask.diagnostic {
        Some(_) => tree.error_count(ask.within.clone()) > 0,
        None => errors > 0,
    };
    if is_about_syntax {
        all.extend(repaired_syntax(completer.as_deref_mut(), ask, tree, cancel));
    } else {
        let rest = ask.limit.saturating_sub(start.elapsed());
        all.extend(mutated(completer.as_deref_mut(), ask, tree, rest.mul_f64(0.7), cancel));
        if let Some(completer) = completer
            && ask.writes
            && !cancel.is_cancelled()
        {
            let late = start + ask.limit;
            all.extend(written(completer, ask, tree, late, cancel));
        }
    }
    let mut seen = HashSet::new();
    // A checker knows more than any model here.
    let guessed = |proposal: &Proposal| proposal.origin != Origin::Checker;
    all.sort_by(|a, b| guessed(a).cmp(&guessed(b)).then(b.worth.total_cmp(&a.worth)));
    all.retain(|proposal| {
        let after = apply(text.as_str(), &proposal.edits);
        proposal.errors <= errors && after != text.as_str() && seen.insert(after)
    });
    all
}

/// What the checker itself proposes, as far as it concerns this document.
pub(super) fn suggested(diagnostic: &Diagnostic, name: &str, text: &Text) -> Vec<Proposal> {
    let own = diagnostic.suggestions.iter().enumerate().filter(|(_, suggestion)| {
        suggestion.edits.iter().all(|(path, ..)| path == name) && !suggestion.edits.is_empty()
    });
    let proposal = |(rank, suggestion): (usize, &crate::check::Suggestion)| Proposal {
        edits: suggestion
            .edits
            .iter()
            .map(|(_, span, new)| TextEdit { range: span.bytes(text), new_text: new.clone() })
            .collect(),
        origin: Origin::Checker,
        title: suggestion.message.clone(),
        worth: if suggestion.is_certain { CERTAIN } else { SUGGESTED } - rank as f32,
        signals: Signals::default(),
        errors: 0,
    };
    own.map(proposal).collect()
}

fn repaired_syntax(
    completer: Option<&mut ModelCompleter>,
    ask: &Ask<'_>,
    tree: &SyntaxTree,
    cancel: &CancelToken,
) -> Vec<Proposal> {
    let text = &ask.snapshot.document.text;
    let within = Some(ask.within.clone());
    let place = (tree, text);
    let mut found = match completer {
        Some(completer) => completer.with_weigher(&ask.snapshot.document, ask.name, |weigher| {
            syntax_repairs(place, within, Some(weigher), ask.limit, cancel)
        }),
        None => syntax_repairs(place, within, None, ask.limit, cancel),
    };
    found.truncate(12);
    let proposal = |candidate: super::Candidate| Proposal {
        title: candidate.title(),
        edits: vec![candidate.edit],
        origin: Origin::Syntax,
        worth: candidate.worth,
        signals: Signals::default(),
        errors: candidate.errors,
    };
    found.into_iter().map(proposal).collect()
}

fn mutated(
    completer: Option<&mut ModelCompleter>,
    ask: &Ask<'_>,
    tree: &SyntaxTree,
    limit: Duration,
    cancel: &CancelToken,
) -> Vec<Proposal> {
    let start = Instant::now();
    let text = &ask.snapshot.document.text;
    let undefined = ask.diagnostic.and_then(|d| quoted(&d.message));
    let near = completer.as_ref().map(|completer| completer.nearby(ask.snapshot, ask.within.start));
    let near = near.unwrap_or_default();
    let mut all = nearest::nearest(text, &ask.within, near.iter().map(String::as_str));
    all.extend(mutations(tree, text, ask.within.clone(), undefined));
    // What people correct more often first: there may be no time for all.
    let habits = ask.habits();
    let prior = |mutation: &mutations::Mutation| habits.prior(&mutation.signals());
    all.sort_by(|a, b| prior(b).total_cmp(&prior(a)));
    let errors = tree.error_count(0..text.len());
    let fits = |(at, mutation): (usize, mutations::Mutation)| {
        let in_time = at < LEAST_TRIALS || start.elapsed() < limit / 2;
        let is_wanted = in_time && !cancel.is_cancelled();
        let left = is_wanted.then(|| tree.errors_after(text, &mutation.edit)).flatten();
        left.filter(|&left| left <= errors).map(|left| (mutation, left))
    };
    let mut kept: Vec<_> = all.into_iter().enumerate().filter_map(fits).collect();
    let mut gains = Vec::new();
    if let Some(completer) = completer {
        let most = (limit.as_secs_f64() / WEIGHING.as_secs_f64()) as usize;
        kept.truncate(most.max(8));
        let edits: Vec<&TextEdit> = kept.iter().map(|(mutation, _)| &mutation.edit).collect();
        let is_early = |weighed: usize| weighed < LEAST_WEIGHED || start.elapsed() < limit;
        let go_on = |weighed: usize| is_early(weighed) && !cancel.is_cancelled();
        let weighed = completer.with_weigher(&ask.snapshot.document, ask.name, |weigher| {
            weigher.gains(text, &edits, &go_on)
        });
        gains = weighed.unwrap_or_else(|error| {
            tracing::error!(%error, "mutations are not weighed");
            Vec::new()
        });
    }
    let proposal = |(at, (mutation, errors)): (usize, (mutations::Mutation, usize))| {
        let gain = gains.get(at).copied().flatten().unwrap_or(UNWEIGHED);
        let signals = Signals { gain, ..mutation.signals() };
        Proposal {
            title: title(text, &mutation.edit, mutation.rule),
            edits: vec![mutation.edit],
            origin: match mutation.rule {
                nearest::RULE => Origin::Repository,
                _ => Origin::Mutation,
            },
            worth: habits.worth(&signals),
            signals,
            errors,
        }
    };
    kept.into_iter().enumerate().map(proposal).collect()
}

/// What the model writes without seeing what stands there: the code that a diagnostic is about, the rest of its line,
/// whole lines, the statement or block around it; and the place as the model corrects it, seeing it.
fn written(
    completer: &mut ModelCompleter,
    ask: &Ask<'_>,
    tree: &SyntaxTree,
    late: Instant,
    cancel: &CancelToken,
) -> Vec<Proposal> {
    let document = &ask.snapshot.document;
    let (text, source) = (&document.text, document.text.as_str());
    let mut found = Vec::new();
    let mut push = |edit: TextEdit, kind: &'static str, prior: f32| {
        let errors = tree.errors_after(text, &edit).unwrap_or(usize::MAX);
        let title = format!("write `{}`", short(edit.new_text.trim(), SHOWN));
        let edits = vec![edit];
        let signals = Signals { kind, prior, ..Signals::default() };
        let worth = ask.habits().worth(&signals);
        found.push(Proposal { edits, origin: Origin::Model, title, worth, signals, errors });
    };
    for hole in holes(text, tree, &ask.within, ask.diagnostic) {
        if cancel.is_cancelled() || Instant::now() >= late {
            break;
        }
        let without = [&source[..hole.start], &source[hole.end..]].concat();
        let mut emptied: Document = (**document).clone();
        emptied.text = Text::new(without);
        emptied.tree = tree.language_tree(emptied.text.as_str());
        let request = CompletionRequest {
            snapshot: Snapshot { document: emptied.into(), ..ask.snapshot.clone() },
            offset: hole.start,
            trigger: Trigger::Invoked,
            items: 2,
            selected: None,
            precision: None,
            habit: 0.0,
        };
        let answer = completer.complete(&request, &Progress::new(), cancel);
        for suggestion in answer.suggestions {
            // On the document with what the hole held.
            let edit = suggestion.edit;
            let behind = edit.range.end.saturating_sub(hole.start);
            let range = edit.range.start.min(hole.start)..hole.end + behind;
            let edit = TextEdit { range, new_text: edit.new_text };
            push(edit, "written", suggestion.probability.max(1e-6).ln());
        }
    }
    if let Some((range, new_text)) = completer.corrected(document, ask.within.clone(), cancel) {
        push(TextEdit { range, new_text }, "corrected", 0.0);
    }
    found
}

/// What is hidden from the model to be written anew, one after the other.
fn holes(
    text: &Text,
    tree: &SyntaxTree,
    within: &Range<usize>,
    diagnostic: Option<&Diagnostic>,
) -> Vec<Range<usize>> {
    /// Lines that are written anew at most, and bytes of a statement or block.
    const LINES: usize = 6;
    const BLOCK: usize = 400;
    let source = text.as_str();
    let mut holes: Vec<Range<usize>> = Vec::new();
    let first = text.line_of(within.start);
    let last = text.line_of(within.end.saturating_sub(1).max(within.start));
    for line in (first..=last).take(LINES) {
        let range = text.line_range(line);
        let content = source[range.clone()].trim_end();
        let start = range.start + content.len() - content.trim_start().len();
        if content.trim().is_empty() {
            continue;
        }
        holes.push(start..range.start + content.len());
    }
    if let Some(diagnostic) = diagnostic {
        let seen = diagnostic.span.bytes(text);
        let line = text.line_range(text.line_of(seen.start));
        let rest = seen.start..line.start + source[line].trim_end().len();
        // The smallest that spans lines.
        let around = tree.nodes(1..BLOCK).into_iter().filter(|node| {
            let is_around = node.start <= seen.start && seen.end <= node.end;
            is_around && source[node.clone()].contains('\n')
        });
        let around = around.min_by_key(|node| node.len());
        let code = Some(seen).filter(|seen| seen.end <= rest.end);
        let mut finer: Vec<_> = code.into_iter().chain([rest]).collect();
        finer.dedup();
        finer.retain(|hole| !hole.is_empty() && !holes.contains(hole));
        // Behind the first line, mostly that of the mistake: there may be no time for all.
        let second = holes.len().min(1);
        holes.splice(second..second, finer);
        holes.extend(around);
    }
    holes
}

/// The first thing in quotes of a message: mostly the name that it is about.
pub(super) fn quoted(message: &str) -> Option<&str> {
    let quote = |c: char| "`'\"‘’“”".contains(c);
    let start = message.find(quote)?;
    let inside = &message[start + message[start..].chars().next()?.len_utf8()..];
    let name = &inside[..inside.find(quote)?];
    (!name.is_empty()).then_some(name)
}

fn title(text: &Text, edit: &TextEdit, rule: &str) -> String {
    let old = text.as_str()[edit.range.clone()].trim();
    let new = edit.new_text.trim();
    match (old.is_empty(), new.is_empty()) {
        (true, _) => format!("{rule}: add `{}`", short(new, SHOWN)),
        (_, true) => format!("{rule}: remove `{}`", short(old, SHOWN)),
        _ => format!("{rule}: `{}` instead of `{}`", short(new, SHOWN), short(old, SHOWN)),
    }
}

fn errors_after(tree: &SyntaxTree, text: &Text, edits: &[TextEdit]) -> Option<usize> {
    match edits {
        [edit] => tree.errors_after(text, edit),
        _ => {
            let after = apply(text.as_str(), edits);
            let tree = tree.language_tree(&after)?;
            Some(tree.error_count(0..after.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Span;

    #[test]
    fn the_model_writes_code_the_rest_of_its_line_lines_and_what_is_around() {
        let source = "fn f(count: u8) -> u8 {\n    let total = count + cuont + 1;\n    total\n}\n";
        let document = Document::new("file:///a.rs", "rust", 1, Text::new(source));
        let (text, tree) = (&document.text, document.tree.as_ref().unwrap());
        let written = |code: &str, is_reported: bool| -> Vec<&str> {
            let at = source.find(code).unwrap();
            let place =
                |at: usize| (text.line_of(at), at - text.line_range(text.line_of(at)).start);
            let span = Span { start: place(at), end: place(at + code.len()) };
            let diagnostic = Diagnostic { span, ..Diagnostic::default() };
            let line = text.line_range(text.line_of(at));
            let found = holes(text, tree, &line, is_reported.then_some(&diagnostic));
            found.into_iter().map(|hole| &source[hole]).collect()
        };
        let line = "let total = count + cuont + 1;";
        assert_eq!(written("cuont", false), [line]);
        let block = &source[source.find('{').unwrap()..source.len() - 1];
        assert_eq!(written("cuont", true), [line, "cuont", "cuont + 1;", block]);
        assert_eq!(written(line, true), [line, block], "each is written once");
    }

    #[test]
    fn the_likeliest_are_proposed_however_late_it_is() {
        let source = "def f(count):\n    return cuont\n";
        let document = Document::new("file:///a.py", "python", 1, Text::new(source));
        let message = "Name \"cuont\" is not defined".to_string();
        let diagnostic = Diagnostic { message, ..Diagnostic::default() };
        let ask = Ask {
            snapshot: &Snapshot::alone(document),
            name: "a.py",
            within: 15..source.len(),
            diagnostic: Some(&diagnostic),
            limit: Duration::ZERO,
            writes: false,
        };
        let found = proposals(None, &ask, &CancelToken::new());
        let meant = source.replace("cuont", "count");
        assert!(found.iter().any(|found| apply(source, &found.edits) == meant), "{found:?}");
    }

    #[test]
    fn the_name_in_a_message_is_found_in_all_quotes() {
        assert_eq!(quoted("cannot find value `größe` in this scope"), Some("größe"));
        assert_eq!(quoted("undefined name 'x'"), Some("x"));
        assert_eq!(quoted("‘y’ undeclared"), Some("y"));
        assert_eq!(quoted("expected `"), None);
        assert_eq!(quoted("nothing"), None);
    }
}
