//! The proof ladder: a rewrite is checked, tested, compared on inputs and measured, and each rung is told. It is refused
//! at the first rung that speaks against it.

use std::time::Duration;

use serde::Serialize;

use super::Rewrite;
use super::prove::{self, Effort, Speed, Verdict};
use super::subject::Subject;
use crate::check::{Checker, Diagnostic, Ended, Overlay, Program};
use crate::generation::CancelToken;
use crate::syntax::SyntaxTree;
use crate::text::apply;

/// What was proven of a rewrite, from the bottom up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// What checked the result and found nothing new.
    pub checks: Option<String>,
    /// Whether the tests pass with it.
    pub tests: Option<bool>,
    /// What it does on generated inputs.
    pub verdict: Option<Verdict>,
    /// What the project's own benchmark says.
    pub bench: Option<Speed>,
    /// Why it is not offered any more.
    pub refused: Option<String>,
    /// What could not be done, and why.
    pub notes: Vec<String>,
}

impl Evidence {
    /// How fast it was measured to be: by the project's benchmark, or else by a generated one.
    pub fn speed(&self) -> Option<Speed> {
        self.bench.or(match &self.verdict {
            Some(Verdict::Same { speed, .. }) => *speed,
            _ => None,
        })
    }

    /// Whether it was shown to do the same, on inputs or by the tests.
    pub fn does_the_same(&self) -> bool {
        let same = matches!(self.verdict, Some(Verdict::Same { .. }));
        self.refused.is_none() && (same || self.tests == Some(true))
    }

    /// Whether it may be called faster.
    pub fn is_faster(&self) -> bool {
        self.refused.is_none() && self.speed().is_some_and(|speed| speed.is_faster())
    }

    /// Whether it was measured and is slower.
    pub fn is_slower(&self) -> bool {
        self.speed().is_some_and(|speed| speed.high < 1.0)
    }
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(why) = &self.refused {
            return write!(f, "refused: {why}");
        }
        let mut rungs = vec!["precondition holds".to_string(), "parses".to_string()];
        rungs.extend(self.checks.as_ref().map(|by| format!("{by} finds nothing new")));
        rungs.extend(self.tests.map(|_| "tests pass".to_string()));
        match &self.verdict {
            Some(Verdict::Same { inputs, unmeasured, .. }) => {
                rungs.push(format!("same results on {inputs} inputs"));
                rungs.extend(unmeasured.as_ref().map(|why| format!("not measured: {why}")));
            }
            Some(Verdict::Unknown { why }) => rungs.push(format!("not compared: {why}")),
            _ => {}
        }
        if let Some(Speed { ratio, low, high, pairs, .. }) = self.speed() {
            let interval = format!("{ratio:.2}× ({low:.2} to {high:.2}, {pairs} pairs)");
            rungs.push(match () {
                () if self.is_faster() => format!("faster: {interval}"),
                () if high < 1.0 => format!("slower: {interval}"),
                () => format!("no difference that could be measured: {interval}"),
            });
        }
        f.write_str(&rungs.join(" · "))
    }
}

/// What a rewrite is tried with.
pub struct Workshop<'a> {
    /// Copies of the project: one stays as it is, the other gets the rewrite.
    pub overlays: Option<[&'a Overlay; 2]>,
    /// The file's path below their roots.
    pub name: &'a str,
    /// What checks it.
    pub checkers: &'a [&'static Checker],
    /// A command of the user's that checks it.
    pub check: Option<&'a Program>,
    /// What tests it; it passes before the change.
    pub test: Option<&'a Program>,
    /// The project's own benchmark.
    pub bench: Option<&'a Program>,
    /// Whether it is run on inputs, and how much.
    pub effort: Option<Effort>,
    /// Set to stop.
    pub cancel: &'a CancelToken,
}

/// One run of a checker, of the tests, of the benchmark takes no longer.
const LONGEST: Duration = Duration::from_secs(120);

/// Climbs as far as the workshop has rungs. The copy that gets the rewrite has its own text again afterwards.
pub fn climb(
    tree: &SyntaxTree,
    source: &str,
    rewrite: &Rewrite,
    workshop: &Workshop<'_>,
) -> Evidence {
    let after = apply(source, &rewrite.edits);
    let mut evidence = Evidence::default();
    if let Some([_, copy]) = workshop.overlays
        && let Err(error) = check_and_test(copy, source, &after, workshop, &mut evidence)
    {
        evidence.notes.push(format!("{error:#}"));
    }
    if evidence.refused.is_none()
        && let Some(effort) = &workshop.effort
    {
        let function = rewrite.function.as_ref().map(|(name, _)| name.as_str());
        let verdict = match tree.language_tree(&after) {
            Some(new) => Subject::of((tree, source), (&new, &after), function),
            None => Err("it is too large to be parsed".into()),
        };
        let verdict = verdict.map(|subject| prove::compare(&subject, effort, workshop.cancel));
        evidence.verdict = Some(match verdict {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::Unknown { why: format!("{error:#}") },
            Err(why) => Verdict::Unknown { why },
        });
        if let Some(Verdict::Different { input, before, after }) = &evidence.verdict {
            evidence.refused =
                Some(format!("it does something else on {input}: {before} became {after}"));
        }
    }
    if evidence.refused.is_none()
        && let (Some(bench), Some([old, new])) = (workshop.bench, workshop.overlays)
    {
        evidence.bench = match measured(bench, [old, new], &after, workshop) {
            Ok(speed) => speed,
            Err(error) => {
                evidence.notes.push(format!("not measured: {error:#}"));
                None
            }
        };
    }
    if let Some([_, copy]) = workshop.overlays
        && let Err(error) = copy.write(workshop.name, source)
    {
        evidence.notes.push(format!("{error:#}"));
    }
    evidence
}

fn check_and_test(
    copy: &Overlay,
    source: &str,
    after: &str,
    workshop: &Workshop<'_>,
    evidence: &mut Evidence,
) -> anyhow::Result<()> {
    let go_on = || !workshop.cancel.is_cancelled();
    let errors = |found: Vec<Diagnostic>| -> Vec<String> {
        let errors = found.into_iter().filter(|diagnostic| diagnostic.is_error);
        errors.map(|d| format!("{}: {}", d.path, d.message)).collect()
    };
    for checker in workshop.checkers {
        copy.write(workshop.name, source)?;
        let found = copy.check(checker, workshop.name, LONGEST, &go_on).and_then(|before| {
            copy.write(workshop.name, after)?;
            Ok((errors(before), errors(copy.check(checker, workshop.name, LONGEST, &go_on)?)))
        });
        match found {
            Ok((before, after)) => match after.iter().find(|error| !before.contains(error)) {
                Some(new) => evidence.refused = Some(format!("{} finds {new}", checker.name)),
                None => evidence.checks = Some(checker.name.to_string()),
            },
            Err(error) => evidence.notes.push(format!("{} was not asked: {error:#}", checker.name)),
        }
    }
    copy.write(workshop.name, after)?;
    for (what, command) in [("the check", workshop.check), ("the tests", workshop.test)] {
        let Some(command) = command.filter(|_| evidence.refused.is_none()) else { continue };
        match copy.run(command, LONGEST, &go_on)?.end {
            Ended::Itself(true) if what == "the tests" => evidence.tests = Some(true),
            Ended::Itself(true) => evidence.checks = Some("your command".into()),
            Ended::Itself(false) => evidence.refused = Some(format!("{what} fail(s) with it")),
            Ended::OutOfTime => {
                evidence.refused = Some(format!("{what} took more than {} s", LONGEST.as_secs()))
            }
            Ended::Cancelled => evidence.notes.push("cancelled".into()),
        }
    }
    Ok(())
}

fn measured(
    bench: &Program,
    [old, new]: [&Overlay; 2],
    after: &str,
    workshop: &Workshop<'_>,
) -> anyhow::Result<Option<Speed>> {
    new.write(workshop.name, after)?;
    let pairs =
        workshop.effort.map_or(prove::LEAST_PAIRS, |effort| effort.pairs.max(prove::LEAST_PAIRS));
    let times =
        prove::bench([old, new], bench, (pairs, LONGEST), &|| !workshop.cancel.is_cancelled())?;
    Ok(Speed::of(&times))
}
