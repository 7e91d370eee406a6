//! `nestling fix`: repairs files, on a copy first; shows the differences, or writes them with `--apply`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::project::{Project, diff, files, root_of, write};
use super::train::{on_ctrl_c, parse_duration};
use super::{ModelArgs, print, print_json, wrong_use};
use crate::check::{Checker, Diagnostic, Program};
use crate::generation::CancelToken;
use crate::memory::walk;
use crate::statistics::table;
use crate::suggest::repair::{Check, Evidence, Fixed, Fixing, Outcome, fix};
use crate::suggest::{Completer, ModelCompleter};
use crate::workspace::{Document, read_file};

#[derive(clap::Args)]
pub(super) struct FixArgs {
    /// Files, or folders whose files are looked at
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Seek mistakes that only tests show in the function or lines around this line
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    line: Option<u64>,
    /// A command that must succeed, in a copy of the project; instead of the checkers that are known
    #[arg(long, value_name = "CMD")]
    check: Option<String>,
    /// A command that runs the tests, in a copy of the project
    #[arg(long, value_name = "CMD")]
    test: Option<String>,
    /// Write what was validated into the files
    #[arg(long)]
    apply: bool,
    /// Time for each file, as in 30s or 2m
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    time: f64,
    /// Let parser and checkers decide alone
    #[arg(long)]
    no_model: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: FixArgs, model: &ModelArgs) -> Result<ExitCode> {
    let files = match files(&args.paths, args.line) {
        Ok(files) => files,
        Err(message) => return Ok(wrong_use(message)),
    };
    let mut completer = match args.no_model {
        true => None,
        false => Some(model.load_for(&args.paths[0])?.completer()),
    };
    let cancel = CancelToken::new();
    let pressed = cancel.clone();
    on_ctrl_c(move || pressed.cancel());
    let results = repaired(&args, &files, completer.as_mut(), &cancel)?;
    if cancel.is_cancelled() {
        eprintln!("nestling: stopped; nothing was written");
        return Ok(ExitCode::from(130));
    }
    report(&args, &results)
}

impl FixArgs {
    /// One file, with all that the command takes if nothing else is said.
    pub(super) fn of(path: PathBuf) -> FixArgs {
        FixArgs {
            paths: vec![path],
            line: None,
            check: None,
            test: None,
            apply: false,
            time: 60.0,
            no_model: false,
            json: false,
        }
    }
}

/// What becomes of files, each told with whether it was found in a folder; nothing is written.
pub(super) fn repaired(
    args: &FixArgs,
    files: &[(PathBuf, bool)],
    mut completer: Option<&mut ModelCompleter>,
    cancel: &CancelToken,
) -> Result<Vec<(PathBuf, Outcome)>> {
    let mut projects: BTreeMap<PathBuf, Repaired> = BTreeMap::new();
    let (mut results, mut unread) = (Vec::new(), Vec::new());
    for (path, from_folder) in files {
        if cancel.is_cancelled() {
            break;
        }
        let mut document = match read_file(path) {
            Ok(document) => document,
            // Of a folder, what cannot be read is passed over.
            Err(error) if *from_folder => {
                unread.push(error.to_string());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        document.path = std::fs::canonicalize(path).ok().or(document.path);
        let file = document.path.clone().unwrap_or_else(|| path.clone());
        let commands = args.check.is_some() || args.test.is_some();
        let root = root_of(&file, document.language, commands);
        let key = root.clone().unwrap_or_else(|| file.clone());
        if !projects.contains_key(&key) {
            let project = Project::new(root.as_deref(), &file)?;
            let program = |line: &Option<String>| line.as_ref().map(|line| project.program(line));
            let (check, test) = (program(&args.check), program(&args.test));
            projects
                .insert(key.clone(), Repaired { project, check, test, broken: RefCell::default() });
            if let (Some(root), Some(completer)) = (&root, completer.as_deref_mut()) {
                remember(completer, root);
            }
        }
        let project = &projects[&key];
        let outcome = project.fix(&document, completer.as_deref_mut(), args, cancel)?;
        results.push((path.clone(), outcome));
    }
    for message in unread {
        eprintln!("nestling: {message}");
    }
    Ok(results)
}

pub(super) fn remember(completer: &mut ModelCompleter, root: &Path) {
    if let Some(memory) = completer.remember(root) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        if let Err(error) = memory.update(threads, &|_| {}, &|| true) {
            tracing::warn!("the repository is not known: {error:#}");
        }
    }
}

/// The files that a checker finds errors in, or why it cannot say.
type Broken = Result<BTreeSet<String>, String>;

/// A project whose files are repaired.
struct Repaired {
    project: Project,
    check: Option<Program>,
    test: Option<Program>,
    /// Files with errors, by the checker of the project; asked once, because it looks at all of them.
    broken: RefCell<BTreeMap<&'static str, Broken>>,
}

impl Repaired {
    /// Whether the checker of a project has anything against a file.
    fn is_broken(
        &self,
        checker: &Checker,
        name: &str,
        args: &FixArgs,
        cancel: &CancelToken,
    ) -> Result<bool, String> {
        let mut broken = self.broken.borrow_mut();
        let files = broken.entry(checker.name).or_insert_with(|| {
            let limit = Duration::from_secs_f64(args.time);
            let found =
                self.project.overlay.check(checker, name, limit, &|| !cancel.is_cancelled());
            let broken = |d: Diagnostic| d.is_error.then_some(d.path);
            found
                .map(|found| found.into_iter().filter_map(broken).collect())
                .map_err(|error| format!("{error:#}"))
        });
        files.as_ref().map(|files| files.contains(name)).map_err(String::clone)
    }

    fn fix(
        &self,
        document: &Document,
        completer: Option<&mut ModelCompleter>,
        args: &FixArgs,
        cancel: &CancelToken,
    ) -> Result<Outcome> {
        let file = document.path.as_deref().unwrap_or(Path::new(""));
        let Some(name) = walk::name_below(&self.project.root, file) else {
            bail!("{}: its name is not UTF-8. Rename it.", file.display());
        };
        let mut withheld = Vec::new();
        let checks: Vec<Check<'_>> = match (&self.check, document.language) {
            (Some(program), _) => vec![Check::Own(program)],
            (None, Some(language)) => {
                let (mut known, refused) = self.project.checkers(language);
                withheld = refused;
                // What the project's checker has nothing against needs no look of its own.
                known.retain(|checker| {
                    let is_broken = || self.is_broken(checker, &name, args, cancel);
                    // What the tests show must not break what is fine now.
                    checker.project.is_none()
                        || self.test.is_some()
                        || is_broken().unwrap_or_else(|trouble| {
                            withheld.push(trouble);
                            false
                        })
                });
                known.into_iter().map(Check::Known).collect()
            }
            (None, None) => Vec::new(),
        };
        let within = args.line.map(|line| {
            let line = (line as usize - 1).min(document.text.line_count() - 1);
            let lines = document.text.line_range(line);
            let scopes =
                document.tree.as_ref().map(|tree| tree.scopes(document.text.as_str(), lines.start));
            let function = scopes
                .into_iter()
                .flatten()
                .rev()
                .find(|scope| scope.kind == crate::syntax::ScopeKind::Function);
            function.map_or(lines, |scope| scope.range)
        });
        let fixing = Fixing {
            overlay: &self.project.overlay,
            name: &name,
            checks: &checks,
            test: self.test.as_ref(),
            within,
            limit: Duration::from_secs_f64(args.time),
            cancel,
        };
        let mut told = Instant::now();
        let mut say = |what: &str| {
            if told.elapsed() > Duration::from_secs(1) {
                eprintln!("{name}: {what}");
                told = Instant::now();
            }
        };
        let mut outcome = fix(completer, document, &fixing, &mut say);
        outcome.is_unchecked |= !withheld.is_empty();
        outcome.notes.extend(withheld);
        Ok(outcome)
    }
}

/// Says what became of files, and writes them if that is wanted.
pub(super) fn report(args: &FixArgs, results: &[(PathBuf, Outcome)]) -> Result<ExitCode> {
    let (mut applied, mut unwritten) = (Vec::new(), Vec::new());
    for (path, outcome) in results.iter().filter(|(_, o)| args.apply && o.before != o.after) {
        let written = match unproven(args, outcome) {
            Some(reason) => Err(anyhow::anyhow!(reason)),
            None => write(path, &outcome.before, &outcome.after),
        };
        match written {
            Ok(()) => applied.push(path),
            Err(error) => unwritten.push(format!("{}: not written: {error:#}", path.display())),
        }
    }
    let left: usize = results.iter().map(|(_, outcome)| outcome.left.len()).sum();
    let failing = results.iter().any(|(_, outcome)| outcome.tests == Some(false));
    if args.json {
        let files: Vec<_> = results
            .iter()
            .map(|(path, outcome)| {
                json!({
                    "path": path,
                    "fixed": outcome.fixed,
                    "left": outcome.left,
                    "tests": outcome.tests,
                    "notes": outcome.notes,
                    "unchecked": outcome.is_unchecked,
                    "applied": applied.contains(&path),
                    "diff": diff(path, &outcome.before, &outcome.after),
                })
            })
            .collect();
        print_json(&json!({ "files": files, "version": env!("CARGO_PKG_VERSION") }))?;
    } else {
        for (path, outcome) in results {
            if !args.apply {
                print(&diff(path, &outcome.before, &outcome.after))?;
            }
            for fixed in &outcome.fixed {
                eprintln!(
                    "{}:{}: {} ({}): {}",
                    path.display(),
                    fixed.line,
                    fixed.title,
                    fixed.evidence,
                    fixed.problem
                );
            }
            for message in outcome
                .left
                .iter()
                .map(|left| format!("not repaired: {left}"))
                .chain(outcome.notes.clone())
            {
                eprintln!("{}: {message}", path.display());
            }
            if outcome.tests == Some(false) {
                eprintln!("{}: not repaired: the tests fail", path.display());
            }
        }
        if results.len() > 1 {
            eprint!("{}", summary(results, &applied));
        }
        let changes: usize = results.iter().map(|(_, outcome)| outcome.fixed.len()).sum();
        let written = match (args.apply, unwritten.is_empty()) {
            (false, _) => "",
            (true, true) => ", written",
            (true, false) => ", not all written",
        };
        eprintln!("{changes} repaired{written}, {left} left, in {} file(s)", results.len());
    }
    unwritten.iter().for_each(|message| eprintln!("nestling: {message}"));
    let is_unchecked = results.iter().any(|(_, outcome)| outcome.is_unchecked);
    Ok(match (unwritten.is_empty(), left > 0 || failing || is_unchecked) {
        (false, _) => ExitCode::from(3),
        (true, true) => ExitCode::from(1),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Why a file is not written, although something was repaired: what was asked for is the least that must be proven.
fn unproven(args: &FixArgs, outcome: &Outcome) -> Option<&'static str> {
    let is_checked = |fixed: &Fixed| fixed.evidence > Evidence::Parses;
    match (outcome.tests, outcome.own_check) {
        (Some(false), _) => Some("the tests fail"),
        (None, _) if args.test.is_some() => Some("the tests could not be run"),
        (_, None) if args.check.is_some() => Some("the check could not be run"),
        (_, Some(false)) if !outcome.fixed.iter().all(is_checked) => Some("the check fails"),
        _ => None,
    }
}

/// A row for each file of which there is something to say.
fn summary(results: &[(PathBuf, Outcome)], applied: &[&PathBuf]) -> String {
    let mut rows =
        vec![["file", "repaired", "proven", "left", "written"].map(String::from).to_vec()];
    for (path, outcome) in results {
        let is_fine = outcome.left.is_empty() && outcome.tests != Some(false);
        if outcome.fixed.is_empty() && is_fine && !outcome.is_unchecked {
            continue;
        }
        let least = outcome.fixed.iter().map(|fixed| &fixed.evidence).min();
        let proven = match least {
            None => "",
            Some(Evidence::None) => "nothing",
            Some(Evidence::Parses) => "parses",
            Some(Evidence::Checks(_)) => "checks",
            Some(Evidence::Tests) => "tests pass",
        };
        rows.push(vec![
            path.display().to_string(),
            outcome.fixed.len().to_string(),
            proven.to_string(),
            outcome.left.len().to_string(),
            if applied.contains(&path) { "yes" } else { "no" }.to_string(),
        ]);
    }
    if rows.len() > 1 { table(&rows) } else { String::new() }
}
