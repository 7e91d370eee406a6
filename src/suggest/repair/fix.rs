//! Repairs a file until its checkers and tests have nothing more to say: one error after the other, each change tried
//! on a copy first. What was proven is kept beside each change.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

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

/// What was proven of a change; each includes the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "proof", content = "of")]
pub enum Evidence {
    /// Nothing.
    None,
    /// The file parses.
    Parses,
    /// A checker does not find this any more, and nothing new.
    Checks(String),
    /// The tests pass.
    Tests,
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Evidence::None => f.write_str("nothing proven"),
            Evidence::Parses => f.write_str("parses"),
            Evidence::Checks(what) => write!(f, "checks: {what} gone"),
            Evidence::Tests => f.write_str("tests pass"),
        }
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fixed {
    /// Line, from 1.
    pub line: usize,
    /// What was wrong.
    pub problem: String,
    /// What it does.
    pub title: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What was proven.
    pub evidence: Evidence,
}

/// What became of a file.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The text before.
    pub before: String,
    /// And after.
    pub after: String,
    /// The changes.
    pub fixed: Vec<Fixed>,
    /// What is still wrong, in words.
    pub left: Vec<String>,
    /// Whether the tests passed in the end; `None` without tests.
    pub tests: Option<bool>,
    /// What went wrong with checkers and tests themselves.
    pub notes: Vec<String>,
    /// Whether a check or the tests could not be run to their end.
    pub is_unchecked: bool,
    /// Whether the user's own check succeeds in the end; `None` without one, or where it could not be run.
    pub own_check: Option<bool>,
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
    let mut run = Run {
        fixing,
        document: document.clone(),
        outcome: Outcome { before: document.text.as_str().into(), ..Outcome::default() },
        found: vec![None; fixing.checks.len()],
        deadline: Instant::now() + fixing.limit,
    };
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
    let run = Run {
        fixing,
        document: document.clone(),
        outcome: Outcome::default(),
        found: Vec::new(),
        deadline: Instant::now() + fixing.limit,
    };
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
}

impl Run<'_> {
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
        let Fixing { overlay, name, cancel, .. } = self.fixing;
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
                        message: format!("the check fails and says: {}", finished.last_line()),
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
        found: Vec<Proposal>,
    ) -> Option<(Proposal, Vec<Diagnostic>)> {
        let mut better = None;
        for proposal in found.into_iter().take(MOST_CHECKED) {
            if self.is_over() {
                break;
            }
            if let Ok(after) = self.check(check, &self.with(&proposal))
                && is_better(now, &after, error)
            {
                // What merely removes something is right too easily: anything else comes first.
                if !proposal.only_deletes() || proposal.origin == Origin::Checker {
                    return Some((proposal, after));
                }
                better.get_or_insert((proposal, after));
            }
        }
        better
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
        while let Some(at) = self.first_that_passes(&found, from, test, usual) {
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

    /// The first proposal, of those from number `from` on, with which the tests pass; tried two at a time.
    fn first_that_passes(
        &self,
        found: &[Proposal],
        from: usize,
        test: &Program,
        usual: Duration,
    ) -> Option<usize> {
        let (next, best) = (AtomicUsize::new(from), AtomicUsize::new(usize::MAX));
        let work = |overlay: &Overlay| {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= found.len() || at > best.load(Ordering::Relaxed) || self.is_over() {
                    return;
                }
                let (text, limit) = (self.with(&found[at]), usual.min(self.left()));
                let Fixing { name, cancel, .. } = self.fixing;
                if passes(overlay, name, &text, test, limit, cancel).unwrap_or(false) {
                    best.fetch_min(at, Ordering::Relaxed);
                }
            }
        };
        let second = Overlay::of_project(self.fixing.overlay.path(), None).ok();
        std::thread::scope(|scope| {
            if let Some(second) = &second {
                scope.spawn(move || work(second));
            }
            work(self.fixing.overlay);
        });
        Some(best.into_inner()).filter(|&at| at < found.len())
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
