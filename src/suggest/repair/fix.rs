//! Repairs a file until its checkers and tests have nothing more to say: one error after the other, each change tried
//! on a copy first. What was proven is kept beside each change.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use super::outcome::{Evidence, Fixed, Outcome};
use super::propose::{Ask, Origin, Proposal, proposals};
use crate::check::{Checker, Diagnostic, Ended, Overlay, Program, is_better};
use crate::generation::CancelToken;
use crate::suggest::ModelCompleter;
use crate::text::{Text, apply};
use crate::workspace::{Document, Snapshot};

/// What says whether a file is right.
#[derive(Clone, Copy, Debug)]
pub enum Check<'a> {
    /// A row of the table.
    Known(&'a Checker),
    /// The user's own command: it must succeed, and may print where it does not.
    Own(&'a Program),
}

/// How a file is repaired.
pub struct Fixing<'a> {
    /// A copy of its project; the file lies there under `name`.
    pub overlay: &'a Overlay,
    /// The file's path below the root.
    pub name: &'a str,
    /// What checks it.
    pub checks: &'a [Check<'a>],
    /// What tests it.
    pub test: Option<&'a Program>,
    /// Where mistakes may be sought that no checker places; all of the file by default.
    pub within: Option<Range<usize>>,
    /// Time for all of it.
    pub limit: Duration,
    /// Set to stop.
    pub cancel: &'a CancelToken,
}

/// Errors of one file that are worked on at most.
const MOST_ERRORS: usize = 60;
/// Proposals for one error that a checker is asked about.
const MOST_CHECKED: usize = 24;
/// Time in which proposals for one error are made.
const THINKING: Duration = Duration::from_millis(1500);
/// The same for all of a file that fails its tests, as a share of the time there is.
const SEARCHING: f64 = 0.15;
/// One run of a checker takes no longer.
const LONGEST_CHECK: Duration = Duration::from_secs(60);
/// And one of the tests.
const LONGEST_TEST: Duration = Duration::from_secs(60);
/// A change is given so many times what the tests took without it.
const PATIENCE: f64 = 8.0;

/// Repairs `document`. The file in the copy has the result in the end; nothing else is written.
pub fn fix(
    mut completer: Option<&mut ModelCompleter>,
    document: &Document,
    fixing: &Fixing<'_>,
    say: &mut dyn FnMut(&str),
) -> Outcome {
    let mut run = Run::new(fixing, document);
    if document.language.is_some() && document.tree.is_none() {
        run.outcome.notes.push(
            "it is too large to be parsed, so that only what checkers propose is tried".into(),
        );
    }
    run.repair_syntax(completer.as_deref_mut(), say);
    let broken = run.syntax_errors();
    if broken == 0 {
        for at in 0..fixing.checks.len() {
            let before = run.outcome.fixed.len();
            run.repair_checked(completer.as_deref_mut(), at, say);
            // What was repaired may have brought back what an earlier check finds.
            if run.outcome.fixed.len() > before {
                (0..at).for_each(|earlier| run.check_again(earlier));
            }
        }
        run.repair_tested(completer, say);
        let own = fixing.checks.iter().position(|check| matches!(check, Check::Own(_)));
        run.outcome.own_check = own.and_then(|at| Some(run.found[at].as_ref()?.is_empty()));
        run.outcome.left.extend(run.found.iter().flatten().flatten().cloned());
    } else {
        // Fewer errors prove nothing: only a text that parses does.
        run.set(document.text.as_str());
        run.outcome.fixed.clear();
        run.outcome
            .left
            .push(format!("{broken} syntax error(s) that no change of a token repairs"));
    }
    run.outcome.after = run.document.text.as_str().into();
    if let Err(error) = fixing.overlay.write(fixing.name, &run.outcome.after) {
        run.outcome.notes.push(format!("{error:#}"));
    }
    run.outcome
}

/// The first of the proposals with which a check does not find `reported` any more, and nothing new. The checks' own
/// suggestions for it come first.
///
/// # Errors
/// No check can be run, or none finds what was reported.
pub fn validated(
    document: &Document,
    fixing: &Fixing<'_>,
    reported: &Diagnostic,
    found: Vec<Proposal>,
) -> Result<Option<(Proposal, Evidence)>> {
    let run = Run::new(fixing, document);
    let mut trouble = anyhow::anyhow!("no checker here finds this problem");
    for check in fixing.checks {
        let now = match run.check(check, document.text.as_str()) {
            Ok(now) => now,
            Err(error) => {
                trouble = error;
                continue;
            }
        };
        let line = reported.span.start.0;
        let same = |d: &&Diagnostic| d.path == fixing.name && d.span.start.0 == line;
        let by_code = now.iter().filter(same).find(|d| d.code.is_some() && d.code == reported.code);
        let Some(error) = by_code.or_else(|| now.iter().find(same)) else { continue };
        let mut all = super::propose::suggested(error, fixing.name, &document.text);
        all.extend(found.iter().cloned());
        if let Some((proposal, _)) = run.first_better(check, &now, error, all) {
            return Ok(Some((proposal, Evidence::Checks(error.name()))));
        }
        return Ok(None);
    }
    Err(trouble)
}

struct Run<'a> {
    fixing: &'a Fixing<'a>,
    document: Document,
    outcome: Outcome,
    /// What each check finds now, in words; nothing of those that could not be run.
    found: Vec<Option<Vec<String>>>,
    deadline: Instant,
    /// Another copy, for what is tried at the same time; `None` if there cannot be one.
    second: OnceLock<Option<Overlay>>,
}

impl<'a> Run<'a> {
    fn new(fixing: &'a Fixing<'a>, document: &Document) -> Run<'a> {
        Run {
            fixing,
            document: document.clone(),
            outcome: Outcome { before: document.text.as_str().into(), ..Outcome::default() },
            found: vec![None; fixing.checks.len()],
            deadline: Instant::now() + fixing.limit,
            second: OnceLock::new(),
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline || self.fixing.cancel.is_cancelled()
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn syntax_errors(&self) -> usize {
        self.document.tree.as_ref().map_or(0, |tree| tree.error_count(0..self.document.text.len()))
    }

    fn ask(
        &self,
        completer: Option<&mut ModelCompleter>,
        within: Range<usize>,
        diagnostic: Option<&Diagnostic>,
        limit: Duration,
    ) -> Vec<Proposal> {
        let snapshot = Snapshot::alone(self.document.clone());
        let ask = Ask {
            snapshot: &snapshot,
            name: self.fixing.name,
            within,
            diagnostic,
            limit: limit.min(self.left()),
            writes: true,
        };
        proposals(completer, &ask, self.fixing.cancel)
    }

    fn with(&self, proposal: &Proposal) -> String {
        apply(self.document.text.as_str(), &proposal.edits)
    }

    fn take(&mut self, proposal: &Proposal, problem: String, evidence: Evidence) {
        let start = proposal.edits.iter().map(|edit| edit.range.start).min().unwrap_or(0);
        self.outcome.fixed.push(Fixed {
            line: self.document.text.line_of(start) + 1,
            problem,
            title: proposal.title.clone(),
            origin: proposal.origin,
            evidence,
        });
        let text = self.with(proposal);
        self.set(&text);
    }

    fn set(&mut self, text: &str) {
        self.document.text = Text::new(text);
        self.document.tree = None;
        self.document.catch_up();
    }

    fn repair_syntax(
        &mut self,
        mut completer: Option<&mut ModelCompleter>,
        say: &mut dyn FnMut(&str),
    ) {
        for _ in 0..MOST_ERRORS {
            let errors = self.syntax_errors();
            if errors == 0 || self.is_over() {
                return;
            }
            say("syntax");
            let all = 0..self.document.text.len();
            let found = self.ask(completer.as_deref_mut(), all, None, THINKING);
            let Some(best) = found.into_iter().find(|proposal| proposal.errors < errors) else {
                return;
            };
            self.take(&best, "syntax error".into(), Evidence::Parses);
        }
    }

    /// What a check says of a text; a message if it cannot say anything.
    fn check(&self, check: &Check<'_>, text: &str) -> Result<Vec<Diagnostic>> {
        self.check_in(self.fixing.overlay, check, text)
    }

    fn check_in(
        &self,
        overlay: &Overlay,
        check: &Check<'_>,
        text: &str,
    ) -> Result<Vec<Diagnostic>> {
        let Fixing { name, cancel, .. } = self.fixing;
        overlay.write(name, text)?;
        let limit = LONGEST_CHECK.min(self.left());
        let is_wanted = || !cancel.is_cancelled();
        match check {
            Check::Known(checker) => overlay.check(checker, name, limit, &is_wanted),
            Check::Own(program) => {
                let finished = overlay.run(program, limit, &is_wanted)?;
                let mut found = crate::check::Format::Lines.read(&finished, overlay.path(), name);
                found.retain(|diagnostic| diagnostic.is_error);
                match finished.end {
                    Ended::Itself(true) => Ok(Vec::new()),
                    Ended::Itself(false) if found.is_empty() => Ok(vec![Diagnostic {
                        path: (*name).into(),
                        is_error: true,
                        message: format!(
                            "the check fails and says: {}",
                            overlay.relative(finished.last_line())
                        ),
                        ..Diagnostic::default()
                    }]),
                    Ended::Itself(false) => Ok(found),
                    Ended::OutOfTime => {
                        anyhow::bail!("the check took more than {} s", limit.as_secs())
                    }
                    Ended::Cancelled => anyhow::bail!("cancelled"),
                }
            }
        }
    }

    fn repair_checked(
        &mut self,
        mut completer: Option<&mut ModelCompleter>,
        at: usize,
        say: &mut dyn FnMut(&str),
    ) {
        let check = &self.fixing.checks[at];
        let name = match check {
            Check::Known(checker) => checker.name,
            Check::Own(_) => "the check",
        };
        say(name);
        let mut now = match self.check(check, self.document.text.as_str()) {
            Ok(found) => found,
            Err(error) => {
                self.outcome.notes.push(format!("{error:#}"));
                self.outcome.is_unchecked = true;
                return;
            }
        };
        let own = |d: &Diagnostic| d.is_error && d.path == self.fixing.name;
        let (mut given_up, mut seen) = (HashSet::new(), HashSet::new());
        for _ in 0..MOST_ERRORS {
            // A set of errors that was there before would come again and again.
            let mut keys: Vec<String> = now.iter().map(|d| format!("{:?}", d.key())).collect();
            keys.sort();
            if !seen.insert(keys) || self.is_over() {
                break;
            }
            let key = |d: &Diagnostic| format!("{:?} {:?}", d.key(), d.span.start);
            let Some(error) = now.iter().find(|d| own(d) && !given_up.contains(&key(d))).cloned()
            else {
                break;
            };
            say(&format!("{name}: {}", error.name()));
            let within = error.span.bytes(&self.document.text);
            let within = self.lines_around(within);
            let found = self.ask(completer.as_deref_mut(), within, Some(&error), THINKING);
            let better = self.first_better(check, &now, &error, found);
            match better {
                Some((proposal, after)) => {
                    let evidence = Evidence::Checks(error.name());
                    self.take(&proposal, error.message.clone(), evidence);
                    now = after;
                    given_up.clear();
                }
                None => {
                    given_up.insert(key(&error));
                    seen.clear();
                }
            }
        }
        self.found[at] = Some(self.told(check, &now));
    }

    /// Asks a check anew.
    fn check_again(&mut self, at: usize) {
        let check = &self.fixing.checks[at];
        self.found[at] = match self.check(check, self.document.text.as_str()) {
            Ok(now) => Some(self.told(check, &now)),
            Err(error) => {
                self.outcome.notes.push(format!("{error:#}"));
                self.outcome.is_unchecked = true;
                None
            }
        };
    }

    /// The errors that concern the file, in words; of the user's own check, all.
    fn told(&self, check: &Check<'_>, found: &[Diagnostic]) -> Vec<String> {
        let is_own = matches!(check, Check::Own(_));
        let own = found.iter().filter(|d| d.is_error && (is_own || d.path == self.fixing.name));
        let told = |d: &Diagnostic| match d.path == self.fixing.name {
            true => format!("line {}: {}", d.span.start.0 + 1, d.message),
            false => format!("{}:{}: {}", d.path, d.span.start.0 + 1, d.message),
        };
        own.map(told).collect()
    }

    /// The first proposal that a check calls better, with what the check then says.
    fn first_better(
        &self,
        check: &Check<'_>,
        now: &[Diagnostic],
        error: &Diagnostic,
        mut found: Vec<Proposal>,
    ) -> Option<(Proposal, Vec<Diagnostic>)> {
        found.truncate(MOST_CHECKED);
        // What merely removes something is right too easily: anything else comes first.
        found.sort_by_key(|proposal| proposal.only_deletes() && proposal.origin != Origin::Checker);
        let (at, after) = self.first(&found, 0, |overlay, text| {
            let after = self.check_in(overlay, check, text).ok()?;
            is_better(now, &after, error).then_some(after)
        })?;
        Some((found.swap_remove(at), after))
    }

    /// The first of the proposals, from number `from` on, with whose text `attempt` comes to something, and to what. Where
    /// the very first does not and there is enough to do, the others are tried two at a time.
    fn first<T: Send>(
        &self,
        found: &[Proposal],
        mut from: usize,
        attempt: impl Fn(&Overlay, &str) -> Option<T> + Sync,
    ) -> Option<(usize, T)> {
        let overlay = self.fixing.overlay;
        loop {
            let clock = Instant::now();
            if self.is_over() {
                return None;
            }
            if let Some(result) = attempt(overlay, &self.with(found.get(from)?)) {
                return Some((from, result));
            }
            let rest = clock.elapsed() * (found.len() - from - 1) as u32;
            let second = overlay.is_worth_another(rest).then_some(&self.second);
            let (next, best) = (AtomicUsize::new(from + 1), Mutex::new(None::<(usize, Option<T>)>));
            let work = |overlay: &Overlay, is_first: bool| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let is_behind = || best.lock().as_ref().is_some_and(|best| best.0 < at);
                    if at >= found.len() || is_behind() || self.is_over() {
                        return;
                    }
                    if let Some(result) = attempt(overlay, &self.with(&found[at])) {
                        let mut best = best.lock();
                        if best.as_ref().is_none_or(|best| at < best.0) {
                            *best = Some((at, is_first.then_some(result)));
                        }
                    }
                }
            };
            std::thread::scope(|scope| {
                if let Some(second) = second {
                    scope.spawn(|| {
                        let second = second.get_or_init(|| overlay.again().ok());
                        second.iter().for_each(|second| work(second, false));
                    });
                }
                work(overlay, true);
            });
            match best.into_inner()? {
                (at, Some(result)) => return Some((at, result)),
                // What holds in the second copy must hold in the first: it is tried there alone.
                (at, None) => from = at,
            }
        }
    }

    /// The place of an error with its whole lines, a few of them.
    fn lines_around(&self, within: Range<usize>) -> Range<usize> {
        const MOST: usize = 3;
        let text = &self.document.text;
        let first = text.line_of(within.start);
        let last = text.line_of(within.end.max(within.start + 1) - 1).min(first + MOST - 1);
        text.line_range(first).start..text.line_range(last).end
    }

    fn repair_tested(&mut self, completer: Option<&mut ModelCompleter>, say: &mut dyn FnMut(&str)) {
        let Some(test) = self.fixing.test else { return };
        say("tests");
        let (overlay, name) = (self.fixing.overlay, self.fixing.name);
        let clock = Instant::now();
        let cancel = self.fixing.cancel;
        match passes(overlay, name, self.document.text.as_str(), test, self.left(), cancel) {
            Ok(true) => {
                self.outcome.tests = Some(true);
                self.outcome.fixed.iter_mut().for_each(|fixed| fixed.evidence = Evidence::Tests);
                return;
            }
            Ok(false) => self.outcome.tests = Some(false),
            Err(error) => {
                self.outcome.notes.push(format!("{error:#}"));
                self.outcome.is_unchecked = true;
                return;
            }
        }
        let usual = clock.elapsed().mul_f64(PATIENCE).max(Duration::from_secs(1));
        let within = self.fixing.within.clone().unwrap_or(0..self.document.text.len());
        say("what could make the tests pass");
        let mut found = self.ask(completer, within, None, self.left().mul_f64(SEARCHING));
        say(&format!("{} changes, until the tests pass", found.len()));
        let mut from = 0;
        loop {
            let attempt = |overlay: &Overlay, text: &str| {
                let limit = usual.min(self.left());
                passes(overlay, name, text, test, limit, cancel).unwrap_or(false).then_some(())
            };
            let Some((at, ())) = self.first(&found, from, attempt) else { return };
            if self.breaks_no_check(&found[at]) {
                self.take(&found.swap_remove(at), "the tests fail".into(), Evidence::Tests);
                self.outcome.tests = Some(true);
                return;
            }
            from = at + 1;
        }
    }

    /// Whether the checks find no more with a change than without.
    fn breaks_no_check(&self, proposal: &Proposal) -> bool {
        let text = self.with(proposal);
        // A check that could say nothing before is no judge.
        let judges = self.fixing.checks.iter().zip(&self.found);
        judges.filter_map(|(check, now)| Some((check, now.as_ref()?))).all(|(check, now)| {
            self.check(check, &text).is_ok_and(|after| self.told(check, &after).len() <= now.len())
        })
    }
}

fn passes(
    overlay: &Overlay,
    name: &str,
    text: &str,
    test: &Program,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<bool> {
    overlay.write(name, text)?;
    let limit = LONGEST_TEST.min(limit.max(Duration::from_millis(100)));
    Ok(overlay.run(test, limit, &|| !cancel.is_cancelled())?.end == Ended::Itself(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_change_that_holds_is_taken_not_the_quickest_and_only_if_it_holds_in_the_first_copy()
     {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "").unwrap();
        let overlay = Overlay::of_project(folder.path(), None).unwrap();
        let (limit, cancel) = (Duration::from_secs(60), &CancelToken::new());
        let fixing = Fixing {
            overlay: &overlay,
            name: "a.txt",
            checks: &[],
            test: None,
            within: None,
            limit,
            cancel,
        };
        let document = Document::new("file:///a.txt", "", 1, Text::new(""));
        let run = Run::new(&fixing, &document);
        let proposal = |number: usize| Proposal {
            edits: vec![crate::text::TextEdit { range: 0..0, new_text: number.to_string() }],
            origin: Origin::Mutation,
            title: String::new(),
            worth: 0.0,
            signals: Default::default(),
            errors: 0,
        };
        let found: Vec<Proposal> = (0..40).map(proposal).collect();
        for holds_elsewhere in [false, true] {
            let first = run.first(&found, 0, |copy, text| {
                let number: u64 = text.parse().unwrap();
                std::thread::sleep(Duration::from_millis(if number == 17 { 200 } else { 20 }));
                let holds = number >= 17 || holds_elsewhere && copy.path() != overlay.path();
                holds.then_some(number)
            });
            assert_eq!(first, Some((17, 17)), "{holds_elsewhere}");
        }
        assert!(run.second.get().is_some_and(Option::is_some), "two at a time");
    }
}
