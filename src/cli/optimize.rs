//! `nestling optimize`: what could be faster, ranked, and with `--prove` what was proven of it; `--apply` writes what was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::json;

use super::project::{Project, diff, files, root_of, write};
use super::train::parse_duration;
use super::{ModelArgs, print, print_json, wrong_use};
use crate::check::{Checker, Ended, LINTERS, Overlay, Program};
use crate::generation::CancelToken;
use crate::memory::walk;
use crate::suggest::ModelCompleter;
use crate::suggest::optimize::{
    Effort, Evidence, Gain, Hot, Profile, Rewrite, Rules, WRITTEN, Workshop, climb, delegated, hot,
    rewrites, rule_names, search, worth, written,
};
use crate::syntax::{Language, SyntaxTree};
use crate::text::{Text, apply};
use crate::train::{is_foreign, page};
use crate::workspace::{Document, read_unparsed};

#[derive(clap::Args)]
pub(super) struct OptimizeArgs {
    /// Files, or folders whose files are looked at
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Prove each rewrite: check it, run both versions on generated inputs in a sandbox, measure them in turn
    #[arg(long)]
    prove: bool,
    /// A command that must succeed, in a copy of the project
    #[arg(long, value_name = "CMD")]
    check: Option<String>,
    /// A command that runs the tests, in a copy of the project
    #[arg(long, value_name = "CMD")]
    test: Option<String>,
    /// A command that is timed before and after, in copies of the project
    #[arg(long, value_name = "CMD")]
    bench: Option<String>,
    /// Write what was shown to do the same and not to be slower
    #[arg(long)]
    apply: bool,
    /// Folded stacks of a profiler: functions in which the time goes come first
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Let the model rewrite the loops of so many functions, the hottest first; only what is measured to be faster is offered
    #[arg(long, default_value_t = 0, value_name = "N")]
    write: usize,
    /// Only these rules
    #[arg(long, num_args = 1.., value_name = "NAME")]
    rule: Vec<String>,
    /// So many rewrites at most, the best first
    #[arg(long, default_value_t = 50, value_name = "N")]
    top: usize,
    /// Time for the inputs of each rewrite, and again for its timings
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    time: f64,
    /// A folder of rules (python.toml, rust.toml …) to take instead of the catalogue
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Write a page with all rewrites and their evidence
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl OptimizeArgs {
    /// One file, with all that is proven of it.
    pub(super) fn of(path: PathBuf) -> OptimizeArgs {
        OptimizeArgs {
            paths: vec![path],
            prove: true,
            check: None,
            test: None,
            bench: None,
            apply: false,
            profile: None,
            write: 0,
            rule: Vec::new(),
            top: 10,
            time: 20.0,
            rules: None,
            html: None,
            json: false,
        }
    }
}

/// A linter of a whole project takes no longer: it may have to build it.
const LINTING: Duration = Duration::from_secs(600);

/// A rewrite of a file, as it is shown.
struct Offer {
    path: PathBuf,
    line: usize,
    rewrite: Rewrite,
    worth: f64,
    diff: String,
    evidence: Evidence,
    applied: bool,
}

pub(super) fn run(args: OptimizeArgs, model: &ModelArgs) -> Result<ExitCode> {
    let own = args.rules.as_deref().map(Rules::read).transpose()?;
    let files = match files(&args.paths, None) {
        Ok(files) => files,
        Err(message) => return Ok(wrong_use(message)),
    };
    let names = || Language::all().iter().flat_map(|language| rule_names(language, own.as_ref()));
    if let Some(unknown) = args.rule.iter().find(|rule| names().all(|name| name != *rule)) {
        let alike = |name: &str| similar::TextDiff::from_chars(unknown.as_str(), name).ratio();
        let nearest = names().max_by(|a, b| alike(a).total_cmp(&alike(b))).unwrap_or_default();
        return Ok(wrong_use(format!("there is no rule {unknown}; the nearest is {nearest}")));
    }
    let profile = match &args.profile {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some(Profile::read(&text).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    let read: Vec<_> = files.par_iter().map(|file| (file, read_unparsed(&file.0))).collect();
    let (mut documents, mut unread) = (Vec::new(), Vec::new());
    let below = |path: &Path| {
        let name = args.paths.iter().find_map(|folder| path.strip_prefix(folder).ok());
        name.unwrap_or(path).to_string_lossy().into_owned()
    };
    for ((path, is_found), read) in read {
        match read {
            // Who wants such a file searched names it.
            Ok(document) if *is_found && is_foreign(&below(path), document.text.as_str()) => {}
            Ok(document) => documents.push((path.clone(), document)),
            Err(error) => unread.push(error.to_string()),
        }
    }
    for message in &unread {
        eprintln!("nestling: {message}");
    }
    let mut work =
        Work { args: &args, own, profile, projects: BTreeMap::new(), notes: BTreeSet::new() };
    let mut offers = work.find(&mut documents);
    if work.own.is_none() {
        offers.extend(work.delegate(&mut documents, &offers)?);
    }
    work.rank(&documents, &mut offers);
    if args.write > 0 {
        documents.par_iter_mut().for_each(|(_, document)| _ = document.catch_up());
        let mut completer = model.load_for(&args.paths[0])?.completer();
        offers.extend(work.write(&documents, &mut completer));
    }
    work.prove(&documents, &mut offers)?;
    // What the model wrote counts only with a measurement behind it, what nobody is sure of with a proof.
    offers.retain(|offer| {
        (offer.rewrite.is_sure || offer.evidence.does_the_same())
            && (offer.rewrite.rule != WRITTEN || offer.evidence.is_faster())
    });
    report(&args, &offers, &work.notes, documents.len())
}

struct Work<'a> {
    args: &'a OptimizeArgs,
    own: Option<Rules>,
    profile: Option<Profile>,
    projects: BTreeMap<PathBuf, Bench>,
    notes: BTreeSet<String>,
}

/// A project with its commands, of which it is known what they say before any change.
struct Bench {
    project: Project,
    before: Option<Overlay>,
    check: Option<Program>,
    test: Option<Program>,
    bench: Option<Program>,
}

impl Work<'_> {
    /// Whether anything is to be run: what runs code of the project, too.
    fn runs(&self) -> bool {
        let args = self.args;
        args.prove
            || args.apply
            || args.write > 0
            || args.check.is_some()
            || args.test.is_some()
            || args.bench.is_some()
    }

    /// All rewrites of the catalogue in all files.
    fn find(&self, documents: &mut [(PathBuf, Document)]) -> Vec<Offer> {
        let found = documents.par_iter_mut().flat_map(|(path, document)| {
            let found = search(document, self.own.as_ref());
            found.into_iter().map(|rewrite| self.offer(path, document, rewrite)).collect::<Vec<_>>()
        });
        found.filter(|offer| self.is_asked_for(&offer.rewrite)).collect()
    }

    fn is_asked_for(&self, rewrite: &Rewrite) -> bool {
        self.args.rule.is_empty() || self.args.rule.contains(&rewrite.rule)
    }

    /// What linters propose where the catalogue has nothing. What is not sure must be proven, so it is left out where
    /// nothing is.
    fn delegate(
        &mut self,
        documents: &mut [(PathBuf, Document)],
        known: &[Offer],
    ) -> Result<Vec<Offer>> {
        let mut projects: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (index, (path, document)) in documents.iter().enumerate() {
            if let Some(language) = document.language
                && LINTERS.iter().any(|linter| linter.languages.contains(&language.name))
            {
                projects.entry(self.key(path, language)).or_default().push(index);
            }
        }
        let mut offers = Vec::new();
        for (key, own) in projects {
            let Some(language) = documents[own[0]].1.language else { continue };
            let mut linters = Checker::linters(&key, language.name);
            linters.retain(|linter| !linter.runs_code || self.runs());
            if linters.is_empty() {
                continue;
            }
            let file = std::fs::canonicalize(&documents[own[0]].0)?;
            self.open(&key, &file)?;
            let Project { root, overlay, .. } = &self.projects[&key].project;
            let (linters, withheld) = self.projects[&key].project.allowed(linters);
            self.notes.extend(withheld);
            let alone = walk::name_below(root, &file).unwrap_or_default();
            let within = if key.is_dir() { "." } else { &alone };
            for linter in linters {
                let found = match overlay.check(linter, within, LINTING, &|| true) {
                    Ok(found) => found,
                    Err(error) => {
                        self.notes.insert(format!("{} was not asked: {error:#}", linter.name));
                        continue;
                    }
                };
                for &index in &own {
                    let (path, document) = &mut documents[index];
                    let name = walk::name_below(root, &std::fs::canonicalize(&path)?);
                    let mut found = found.clone();
                    found.retain(|diagnostic| name.as_ref() == Some(&diagnostic.path));
                    document.catch_up();
                    for rewrite in delegated(document, linter, &found) {
                        let elsewhere =
                            |offer: &Offer| offer.path != *path || !offer.rewrite.meets(&rewrite);
                        if (rewrite.is_sure || self.runs())
                            && self.is_asked_for(&rewrite)
                            && known.iter().chain(&offers).all(elsewhere)
                        {
                            offers.push(self.offer(path, document, rewrite));
                        }
                    }
                }
            }
        }
        Ok(offers)
    }

    /// The best first, and no more than are wanted.
    fn rank(&self, documents: &[(PathBuf, Document)], offers: &mut Vec<Offer>) {
        let texts = || documents.iter().map(|(_, document)| document.text.as_str());
        offers
            .par_iter_mut()
            .for_each(|offer| offer.worth = worth(&offer.rewrite, texts(), self.profile.as_ref()));
        offers.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        offers.truncate(self.args.top);
    }

    /// What the model makes of the hottest functions.
    fn write(
        &self,
        documents: &[(PathBuf, Document)],
        completer: &mut ModelCompleter,
    ) -> Vec<Offer> {
        let mut functions: Vec<(f64, &PathBuf, &Document, Hot)> = Vec::new();
        for (path, document) in documents {
            for hot in hot(document) {
                let share =
                    self.profile.as_ref().map_or(1.0, |profile| profile.share(&hot.function));
                functions.push((share * hot.depth as f64, path, document, hot));
            }
        }
        functions.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut offers = Vec::new();
        for (worth, path, document, hot) in functions.into_iter().take(self.args.write) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            for rewrite in written(completer, document, &name, &hot, &CancelToken::new()) {
                offers.push(Offer { worth, ..self.offer(path, document, rewrite) });
            }
        }
        offers
    }

    fn offer(&self, path: &Path, document: &Document, rewrite: Rewrite) -> Offer {
        let source = document.text.as_str();
        Offer {
            path: path.to_path_buf(),
            line: document.text.line_of(rewrite.place.start) + 1,
            worth: 0.0,
            diff: diff(path, source, &apply(source, &rewrite.edits)),
            evidence: Evidence::default(),
            applied: false,
            rewrite,
        }
    }

    /// Climbs the ladder with each offer; with `--apply` one on top of the other.
    fn prove(&mut self, documents: &[(PathBuf, Document)], offers: &mut [Offer]) -> Result<()> {
        let args = self.args;
        if !self.runs() {
            return Ok(());
        }
        let bar = ProgressBar::new(offers.len() as u64);
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}")
                .context("a template")?,
        );
        // The text of each file as far as it was changed.
        let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
        for offer in offers.iter_mut() {
            bar.set_message(format!(
                "{}:{} {}",
                offer.path.display(),
                offer.line,
                offer.rewrite.rule
            ));
            let Some((_, document)) = documents.iter().find(|(path, _)| *path == offer.path) else {
                continue;
            };
            let Some(language) = document.language else { continue };
            let original = document.text.as_str();
            let current = texts.get(&offer.path).map_or(original, String::as_str).to_string();
            let Some(tree) = SyntaxTree::parse_steadily(language, &current) else { continue };
            // Its place has moved by what was applied before it.
            let rewrite = match current == original {
                true => Some(offer.rewrite.clone()),
                false => {
                    let again =
                        rewrites(&tree, &Text::new(&*current), 0..current.len(), self.own.as_ref());
                    let same = |other: &Rewrite| {
                        other.rule == offer.rewrite.rule
                            && current[other.place.clone()] == original[offer.rewrite.place.clone()]
                    };
                    // What is of no rule can only be moved.
                    let own = again.into_iter().find(same);
                    own.or_else(|| {
                        let known =
                            rule_names(language, self.own.as_ref()).contains(&&*offer.rewrite.rule);
                        (!known).then(|| offer.rewrite.moved(original, &current)).flatten()
                    })
                }
            };
            let Some(rewrite) = rewrite else {
                offer.evidence.notes.push("it does not apply any more after the others".into());
                bar.inc(1);
                continue;
            };
            offer.evidence = self.climb(&offer.path, language, &tree, &current, &rewrite)?;
            if args.apply && offer.evidence.does_the_same() && !offer.evidence.is_slower() {
                let after = apply(&current, &rewrite.edits);
                let key = self.key(&offer.path, language);
                if let Some(bench) = self.projects.get(&key) {
                    let file = std::fs::canonicalize(&offer.path)?;
                    if let Some(name) = walk::name_below(&bench.project.root, &file) {
                        bench.project.overlay.write(&name, &after)?;
                        if let Some(before) = &bench.before {
                            before.write(&name, &after)?;
                        }
                    }
                }
                texts.insert(offer.path.clone(), after);
                offer.applied = true;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        for (path, after) in &texts {
            if let Some((_, document)) = documents.iter().find(|(own, _)| own == path) {
                write(path, document.text.as_str(), after)?;
            }
        }
        Ok(())
    }

    fn key(&self, path: &Path, language: &'static Language) -> PathBuf {
        let file = std::fs::canonicalize(path).unwrap_or(path.to_path_buf());
        let args = self.args;
        let commands = args.check.is_some() || args.test.is_some() || args.bench.is_some();
        root_of(&file, Some(language), commands).unwrap_or(file)
    }

    fn climb(
        &mut self,
        path: &Path,
        language: &'static Language,
        tree: &SyntaxTree,
        source: &str,
        rewrite: &Rewrite,
    ) -> Result<Evidence> {
        let file = std::fs::canonicalize(path)?;
        let key = self.key(path, language);
        self.open(&key, &file)?;
        let bench = &self.projects[&key];
        let name = walk::name_below(&bench.project.root, &file)
            .with_context(|| format!("{}: its name is not UTF-8. Rename it.", file.display()))?;
        let (checkers, withheld): (Vec<&'static Checker>, _) = match bench.check {
            Some(_) => (Vec::new(), Vec::new()),
            None => bench.project.checkers(language),
        };
        self.notes.extend(withheld);
        let cancel = CancelToken::new();
        let effort = Effort { seconds: self.args.time, ..Effort::default() };
        let copies =
            [bench.before.as_ref().unwrap_or(&bench.project.overlay), &bench.project.overlay];
        let workshop = Workshop {
            overlays: Some(copies),
            name: &name,
            checkers: &checkers,
            check: bench.check.as_ref(),
            test: bench.test.as_ref(),
            bench: bench.bench.as_ref(),
            effort: (self.args.prove || self.args.apply || self.args.write > 0).then_some(effort),
            cancel: &cancel,
        };
        Ok(climb(tree, source, rewrite, &workshop))
    }

    /// Copies a project when it is first needed, and runs its commands once: what fails before any change proves nothing.
    fn open(&mut self, key: &Path, file: &Path) -> Result<()> {
        if self.projects.contains_key(key) {
            return Ok(());
        }
        let args = self.args;
        let root = key.is_dir().then_some(key);
        let project = Project::new(root, file)?;
        let before = args.bench.as_ref().map(|_| project.another_copy()).transpose()?;
        let program = |line: &Option<String>| line.as_ref().map(|line| project.program(line));
        let mut commands = [program(&args.check), program(&args.test), program(&args.bench)];
        for (command, what) in commands.iter_mut().zip(["check", "tests", "benchmark"]) {
            let Some(line) = command.as_ref() else { continue };
            let limit = std::time::Duration::from_secs(600);
            let done = project.overlay.run(line, limit, &|| true)?;
            if done.end != Ended::Itself(true) {
                let says = done.last_line();
                self.notes.insert(format!(
                    "the {what} fail(s) before any change and count(s) for nothing: {says}"
                ));
                *command = None;
            }
        }
        let [check, test, bench] = commands;
        self.projects.insert(key.to_path_buf(), Bench { project, before, check, test, bench });
        Ok(())
    }
}

fn report(
    args: &OptimizeArgs,
    offers: &[Offer],
    notes: &BTreeSet<String>,
    files: usize,
) -> Result<ExitCode> {
    if let Some(path) = &args.html {
        crate::files::write(path, html(offers).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let kept = || offers.iter().filter(|offer| offer.evidence.refused.is_none());
    if args.json {
        let all: Vec<_> = offers
            .iter()
            .map(|offer| {
                json!({
                    "path": offer.path,
                    "line": offer.line,
                    "worth": offer.worth,
                    "rewrite": offer.rewrite,
                    "evidence": offer.evidence,
                    "summary": offer.evidence.to_string(),
                    "faster": offer.evidence.is_faster(),
                    "applied": offer.applied,
                    "diff": offer.diff,
                })
            })
            .collect();
        print_json(
            &json!({ "rewrites": all, "notes": notes, "files": files, "version": env!("CARGO_PKG_VERSION") }),
        )?;
    } else {
        for (rank, offer) in offers.iter().enumerate() {
            let Offer { path, line, rewrite, evidence, .. } = offer;
            let gain = match rewrite.gain {
                Gain::Order => "grows more slowly",
                Gain::Copy => "saves copies",
                Gain::Constant => "saves a share",
            };
            let applied = if offer.applied { " — written" } else { "" };
            let place = format!("{}:{line}", path.display());
            print(&format!(
                "{:>3}. {place}  {} [{}; {gain}]{applied}\n",
                rank + 1,
                rewrite.title,
                rewrite.rule
            ))?;
            print(&format!("     {}\n     {evidence}\n", rewrite.why))?;
            for note in &evidence.notes {
                print(&format!("     {note}\n"))?;
            }
            if evidence.refused.is_none() {
                print(&format!("{}\n", offer.diff))?;
            }
        }
        for note in notes {
            eprintln!("nestling: {note}");
        }
        let count =
            |such: &dyn Fn(&Offer) -> bool| offers.iter().filter(|offer| such(offer)).count();
        eprintln!(
            "{} rewrite(s) in {files} file(s): {} refused, {} shown to do the same, {} measured to be faster, {} written",
            offers.len(),
            count(&|o| o.evidence.refused.is_some()),
            count(&|o| o.evidence.does_the_same()),
            count(&|o| o.evidence.is_faster()),
            count(&|o| o.applied),
        );
    }
    Ok(if kept().next().is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A page that loads nothing from elsewhere: the ranked table, then each rewrite with its evidence.
fn html(offers: &[Offer]) -> String {
    let mut text = page::head("What could be faster");
    let rows = offers.iter().enumerate().map(|(rank, offer)| {
        let speed = offer
            .evidence
            .speed()
            .map_or(String::new(), |s| format!("{:.2}× ({:.2}–{:.2})", s.ratio, s.low, s.high));
        vec![
            (rank + 1).to_string(),
            format!("{}:{}", offer.path.display(), offer.line),
            offer.rewrite.title.clone(),
            offer.rewrite.rule.clone(),
            format!("{:.0}", offer.worth),
            speed,
        ]
    });
    text += &page::table(
        &["", "place", "rewrite", "rule", "worth", "measured"],
        &[true, false, false, false, true, true],
        rows,
    );
    for (rank, offer) in offers.iter().enumerate() {
        let Offer { rewrite, evidence, .. } = offer;
        text += &format!(
            "<h2>{}. {}</h2>\n<p>{}:{}, in {}. {}</p>\n<p>{}</p>\n<p>Described in: {}</p>\n<pre>{}</pre>\n",
            rank + 1,
            page::escaped(&rewrite.title),
            page::escaped(&offer.path.display().to_string()),
            offer.line,
            page::escaped(rewrite.function.as_ref().map_or("no function", |(name, _)| name)),
            page::escaped(&rewrite.why),
            page::escaped(&evidence.to_string()),
            page::escaped(&rewrite.source),
            page::escaped(&offer.diff),
        );
    }
    text + "</html>\n"
}
