//! Repair of programs: functions with a bug and tests that show it (HumanEvalFix, in the form in which
//! github.com/bigcode-project/octopack publishes it), and exercises that do not compile (as rustlings').

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::check::{CHECKERS, Diagnostic, Ended, Overlay, Program};
use crate::generation::CancelToken;
use crate::sandbox::TemporaryFolder;
use crate::statistics::{self, Figure};
use crate::suggest::ModelCompleter;
use crate::suggest::repair::{Ask, Check, Evidence, Fixing, fix, proposals};
use crate::workspace::{Snapshot, read_file};

/// A function with a bug.
#[derive(Clone, Debug, Deserialize)]
pub struct Buggy {
    /// Language and number.
    pub task_id: String,
    /// What stands before the body.
    pub declaration: String,
    /// The body with the bug.
    pub buggy_solution: String,
    /// Fails as long as the bug is there.
    pub test: String,
    /// The kind of bug.
    pub bug_type: String,
}

/// What became of a bug.
#[derive(Clone, Debug, Serialize)]
pub struct BugResult {
    /// Which one.
    pub task: String,
    /// The kind of bug.
    pub bug: String,
    /// Whether the tests pass after the repair with tests.
    pub fixed: bool,
    /// Whether they pass with one of the first five proposals made without tests.
    pub among_five: bool,
    /// Whether they pass with the first one.
    pub first: bool,
    /// The repair that passes.
    pub title: Option<String>,
    /// Seconds of the repair with tests.
    pub seconds: f64,
}

/// An exercise that did not compile.
#[derive(Clone, Debug, Serialize)]
pub struct Exercise {
    /// The file.
    pub path: String,
    /// Whether it compiles after the repair.
    pub compiles: bool,
    /// Whether it then passes its own tests, or prints what the solution prints if it has none.
    pub behaves: bool,
    /// Errors that a new run of the compiler finds and that were not named as left.
    pub false_claims: usize,
    /// What was done.
    pub titles: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
}

/// Programs of a suite take no more memory and processor time than this.
const LIMITS: &str = "ulimit -v 4000000; ulimit -t 20";

/// Reads a suite; with `count`, that many are drawn by the seed.
///
/// # Errors
/// A file that holds none.
pub fn read_bugs(path: &Path, count: Option<usize>, seed: u64) -> Result<Vec<Buggy>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
    let mut bugs = lines
        .map(|(i, line)| {
            let place = || format!("{}:{}: no function with a bug", path.display(), i + 1);
            serde_json::from_str(line).with_context(place)
        })
        .collect::<Result<Vec<Buggy>>>()?;
    if bugs.is_empty() {
        bail!("{} holds no function", path.display());
    }
    if let Some(count) = count {
        bugs.shuffle(&mut StdRng::seed_from_u64(seed));
        bugs.truncate(count);
    }
    Ok(bugs)
}

/// Repairs each function, with its tests for at most `limit`, and without.
pub fn bugs(
    completer: &mut ModelCompleter,
    bugs: &[Buggy],
    limit: Duration,
    say: &mut dyn FnMut(usize),
) -> Result<Vec<BugResult>> {
    let mut results = Vec::new();
    for (done, bug) in bugs.iter().enumerate() {
        results.push(repair_bug(completer, bug, limit)?);
        say(done + 1);
    }
    Ok(results)
}

fn repair_bug(completer: &mut ModelCompleter, bug: &Buggy, limit: Duration) -> Result<BugResult> {
    let (language, _) =
        bug.task_id.split_once('/').context("a task has a language and a number")?;
    let folder = TemporaryFolder::new()?;
    let (name, text, test) = match language {
        "Python" => {
            let text = format!("{}{}", bug.declaration, bug.buggy_solution);
            let test = format!("from solution import *\n{}\n", bug.test);
            std::fs::write(folder.path().join("tests.py"), test)?;
            ("solution.py", text, format!("{LIMITS}; python3 -S -B tests.py"))
        }
        "Rust" => {
            // Crates that the suite imports everywhere and hardly uses are not there.
            let absent = ["use rand", "use regex", "use md5"];
            let declaration: String = bug
                .declaration
                .split_inclusive('\n')
                .filter(|line| !absent.iter().any(|start| line.starts_with(start)))
                .collect();
            let text = format!("{declaration}{}{}", bug.buggy_solution, bug.test);
            let compile =
                "rustc --edition=2021 --test -A warnings -C debuginfo=0 -o program solution.rs";
            ("solution.rs", text, format!("{LIMITS}; {compile} && ./program"))
        }
        other => bail!("{}: programs in {other} cannot be run here", bug.task_id),
    };
    let path = folder.path().join(name);
    std::fs::write(&path, &text)?;
    let document = read_file(&path)?;
    let overlay = Overlay::of_project(folder.path(), None)?;
    let test = Program::Shell(test);
    let end = document.text.len() - if language == "Rust" { bug.test.len() } else { 0 };
    let start = document.text.as_str().find(bug.buggy_solution.as_str()).unwrap_or(0);
    let cancel = CancelToken::new();
    let fixing = Fixing {
        overlay: &overlay,
        name,
        checks: &[],
        test: Some(&test),
        within: Some(start..end),
        limit,
        cancel: &cancel,
    };
    let clock = Instant::now();
    let outcome = fix(Some(completer), &document, &fixing, &mut |_| {});
    let seconds = clock.elapsed().as_secs_f64();
    // Without tests, and in the time of a quick fix.
    let snapshot = Snapshot::alone(document.clone());
    let ask = Ask {
        snapshot: &snapshot,
        name,
        within: start..end,
        diagnostic: None,
        limit: Duration::from_secs(10),
        writes: true,
    };
    let found = proposals(Some(completer), &ask, &cancel);
    let mut passing = Vec::new();
    for proposal in found.iter().take(5) {
        let text = crate::text::apply(document.text.as_str(), &proposal.edits);
        overlay.write(name, &text)?;
        let ended = overlay.run(&test, Duration::from_secs(20), &|| true)?.end;
        passing.push(ended == Ended::Itself(true));
    }
    Ok(BugResult {
        task: bug.task_id.clone(),
        bug: bug.bug_type.clone(),
        fixed: outcome.tests == Some(true) && !outcome.fixed.is_empty(),
        among_five: passing.contains(&true),
        first: passing.first() == Some(&true),
        title: outcome.fixed.last().map(|fixed| fixed.title.clone()),
        seconds,
    })
}

/// Repairs the Rust exercises below a folder that do not compile. `solutions` has files of the same names.
pub fn exercises(
    completer: &mut ModelCompleter,
    folder: &Path,
    solutions: Option<&Path>,
    limit: Duration,
    say: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Exercise>> {
    let files: Vec<PathBuf> = crate::memory::walk::walk(folder)
        .into_iter()
        .filter(|file| file.name.ends_with(".rs"))
        .map(|file| folder.join(file.name))
        .collect();
    if files.is_empty() {
        bail!("{} has no Rust file", folder.display());
    }
    let rustc = CHECKERS.iter().find(|checker| checker.name == "rustc").context("no rustc")?;
    let checks = [Check::Known(rustc)];
    let cancel = CancelToken::new();
    let mut results = Vec::new();
    for (done, path) in files.iter().enumerate() {
        say(done, files.len());
        let document = read_file(path)?;
        let overlay = Overlay::of_file(path, None)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let errors = |overlay: &Overlay| -> Result<Vec<Diagnostic>> {
            let found = overlay.check(rustc, &name, limit, &|| true)?;
            Ok(found.into_iter().filter(|d| d.is_error).collect())
        };
        if errors(&overlay)?.is_empty() {
            continue;
        }
        let fixing = Fixing {
            overlay: &overlay,
            name: &name,
            checks: &checks,
            test: None,
            within: None,
            limit,
            cancel: &cancel,
        };
        let clock = Instant::now();
        let outcome = fix(Some(completer), &document, &fixing, &mut |_| {});
        let seconds = clock.elapsed().as_secs_f64();
        // Where something is said to check, all errors that are there must have been named as left.
        let after = errors(&overlay)?;
        let is_hidden = |d: &&Diagnostic| {
            !outcome.left.contains(&format!("line {}: {}", d.span.start.0 + 1, d.message))
        };
        let claims = outcome.fixed.iter().any(|fixed| fixed.evidence > Evidence::Parses);
        let false_claims = if claims { after.iter().filter(is_hidden).count() } else { 0 };
        let compiles = after.is_empty();
        let solution = solutions.and_then(|s| Some(s.join(path.strip_prefix(folder).ok()?)));
        let behaves = compiles && behaves(&overlay, &name, solution.as_deref())?;
        results.push(Exercise {
            path: path.strip_prefix(folder).unwrap_or(path).display().to_string(),
            compiles,
            behaves,
            false_claims,
            titles: outcome.fixed.into_iter().map(|fixed| fixed.title).collect(),
            seconds,
        });
    }
    Ok(results)
}

/// Whether a program passes its tests, or, without any, prints what the solution prints.
fn behaves(overlay: &Overlay, name: &str, solution: Option<&Path>) -> Result<bool> {
    let text = std::fs::read_to_string(overlay.path().join(name))?;
    let run = |line: String| overlay.run(&Program::Shell(line), Duration::from_secs(30), &|| true);
    let compile = "rustc --edition=2024 -A warnings -C debuginfo=0 -o .nestling-program";
    if text.contains("#[test]") {
        let done = run(format!("{LIMITS}; {compile} --test {name} && ./.nestling-program"))?;
        return Ok(done.end == Ended::Itself(true));
    }
    let Some(solution) = solution.filter(|solution| solution.is_file()) else { return Ok(false) };
    let own = run(format!("{LIMITS}; {compile} {name} && ./.nestling-program"))?;
    overlay.write("nestling_solution.rs", &std::fs::read_to_string(solution)?)?;
    let other = run(format!("{LIMITS}; {compile} nestling_solution.rs && ./.nestling-program"))?;
    Ok(own.end == Ended::Itself(true) && other.end == own.end && own.stdout == other.stdout)
}

/// A table of bugs by kind.
pub fn bug_table(results: &[BugResult]) -> String {
    let mut groups: BTreeMap<(usize, &str), Vec<&BugResult>> = BTreeMap::new();
    for result in results {
        groups.entry((0, &result.bug)).or_default().push(result);
        groups.entry((1, "all")).or_default().push(result);
    }
    let head =
        ["", "functions", "fixed with tests %", "without, in five %", "the first %", "seconds"];
    let mut lines = vec![head.map(String::from).to_vec()];
    for ((_, name), results) in groups {
        let share = |such: &dyn Fn(&BugResult) -> bool| {
            format!(
                "{:.1}",
                Figure::share(results.iter().filter(|r| such(r)).count(), results.len())
            )
        };
        let seconds = results.iter().map(|r| r.seconds).sum::<f64>() / results.len() as f64;
        lines.push(vec![
            name.to_string(),
            results.len().to_string(),
            share(&|r| r.fixed),
            share(&|r| r.among_five),
            share(&|r| r.first),
            format!("{seconds:.1}"),
        ]);
    }
    statistics::table(&lines)
}

/// Exercises in a few words.
pub fn exercise_table(results: &[Exercise]) -> String {
    let mut lines: Vec<Vec<String>> =
        vec![["", "compiles", "behaves", "false claims", "seconds"].map(String::from).to_vec()];
    let yes = |such: bool| if such { "yes" } else { "no" }.to_string();
    for result in results {
        let Exercise { path, compiles, behaves, false_claims, seconds, .. } = result;
        let (claims, seconds) = (false_claims.to_string(), format!("{seconds:.1}"));
        lines.push(vec![path.clone(), yes(*compiles), yes(*behaves), claims, seconds]);
    }
    let share = |such: &dyn Fn(&Exercise) -> bool| {
        format!("{:.1} %", Figure::share(results.iter().filter(|r| such(r)).count(), results.len()))
    };
    lines.push(vec![
        format!("all {}", results.len()),
        share(&|r| r.compiles),
        share(&|r| r.behaves),
        results.iter().map(|r| r.false_claims).sum::<usize>().to_string(),
        String::new(),
    ]);
    statistics::table(&lines)
}
