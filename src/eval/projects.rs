//! All rewrites of whole projects at once: do their checks and tests, which pass before, pass afterwards?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::check::{Ended, Overlay, Program};
use crate::memory::walk;
use crate::suggest::optimize::search;
use crate::text::{Text, apply};
use crate::train::is_foreign;
use crate::workspace::{Document, read_unparsed};

/// A list of projects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    project: Vec<Project>,
}

/// A project and the command that says whether it works.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    /// Its folder, below the folder of all.
    folder: PathBuf,
    /// The part of it that is rewritten; all if it is not given.
    #[serde(default)]
    within: PathBuf,
    /// Builds and tests it; run in a copy.
    command: String,
    /// Seconds that it may take.
    #[serde(default = "ten_minutes")]
    seconds: u64,
}

fn ten_minutes() -> u64 {
    600
}

/// What came of one project.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// Its folder.
    pub folder: PathBuf,
    /// Rewrites made, by rule.
    pub rewrites: BTreeMap<String, usize>,
    /// Why it counts for nothing: the command does not pass before.
    pub unusable: Option<String>,
    /// Whether the command passes with all of them.
    pub passes: bool,
    /// Rules whose rewrites alone make it fail, and what it says.
    pub broken: Vec<(String, String)>,
    /// Seconds in all.
    pub seconds: f64,
}

/// Rewrites all that can be in each project of a list, in copies, and runs its command before and afterwards.
///
/// # Errors
/// The list cannot be read, a folder is not there, a disk is full.
pub fn projects(
    list: &Path,
    root: &Path,
    only: Option<&str>,
    say: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Tried>> {
    let text = std::fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let List { project } = toml::from_str(&text).with_context(|| list.display().to_string())?;
    let wanted = |p: &&Project| only.is_none_or(|only| p.folder.to_string_lossy().contains(only));
    let wanted: Vec<&Project> = project.iter().filter(wanted).collect();
    let mut all = Vec::new();
    for (done, project) in wanted.iter().enumerate() {
        say(done, wanted.len());
        let folder = root.join(&project.folder);
        all.push(try_one(project, &folder).with_context(|| folder.display().to_string())?);
    }
    Ok(all)
}

fn try_one(project: &Project, folder: &Path) -> Result<Tried> {
    let start = Instant::now();
    ensure!(folder.is_dir(), "there is no such folder; --root names where the projects lie");
    let copy = Overlay::of_project(folder, None)?;
    let program = Program::Shell(project.command.clone());
    let limit = Duration::from_secs(project.seconds);
    let run = || -> Result<Option<String>> {
        let done = copy.run(&program, limit, &|| true)?;
        Ok(match done.end {
            Ended::Itself(true) => None,
            Ended::Itself(false) => Some(done.last_line().to_string()),
            _ => Some(format!("it took more than {} s", project.seconds)),
        })
    };
    let unusable = run()?;
    let mut tried = Tried {
        folder: project.folder.clone(),
        rewrites: BTreeMap::new(),
        passes: unusable.is_none(),
        unusable,
        broken: Vec::new(),
        seconds: 0.0,
    };
    let within = folder.join(&project.within);
    let mut files = Vec::new();
    for file in walk::walk(&within) {
        let Ok(name) = project.within.join(&file.name).into_os_string().into_string() else {
            continue;
        };
        let Ok(document) = read_unparsed(&within.join(&file.name)) else { continue };
        let original = document.text.as_str().to_string();
        if is_foreign(&file.name, &original) {
            continue;
        }
        let (text, used) = rewritten(document, None);
        for rule in &used {
            *tried.rewrites.entry(rule.clone()).or_default() += 1;
        }
        if !used.is_empty() {
            files.push((name, original, text, used.into_iter().collect::<BTreeSet<_>>()));
        }
    }
    if tried.unusable.is_none() && !files.is_empty() {
        for (name, _, text, _) in &files {
            copy.write(name, text)?;
        }
        tried.passes = run()?.is_none();
        // Which of them it was: each rule alone.
        let rules = if tried.passes { BTreeSet::new() } else { tried.rewrites.keys().collect() };
        for rule in rules {
            for (name, original, _, used) in &files {
                let text = match used.contains(rule) {
                    true => rewritten(read_unparsed(&folder.join(name))?, Some(rule)).0,
                    false => original.clone(),
                };
                copy.write(name, &text)?;
            }
            if let Some(says) = run()? {
                tried.broken.push((rule.clone(), says));
            }
        }
    }
    tried.seconds = start.elapsed().as_secs_f64();
    Ok(tried)
}

/// A document with all rewrites made, one after the other, and their rules.
fn rewritten(mut document: Document, only: Option<&str>) -> (String, Vec<String>) {
    /// More than any file has.
    const MOST: usize = 500;
    let (mut used, mut done) = (Vec::new(), BTreeSet::new());
    while used.len() < MOST {
        let source = document.text.as_str().to_string();
        let next = search(&mut document, None).into_iter().find(|rewrite| {
            only.is_none_or(|only| rewrite.rule == only)
                && !done.contains(&(rewrite.rule.clone(), apply(&source, &rewrite.edits)))
        });
        let Some(rewrite) = next else { break };
        let after = apply(&source, &rewrite.edits);
        done.insert((rewrite.rule.clone(), after.clone()));
        document = Document { text: Text::new(after), tree: None, ..document };
        used.push(rewrite.rule);
    }
    (document.text.as_str().to_string(), used)
}

/// The table of [`projects`].
pub fn table(all: &[Tried]) -> String {
    let mut text = format!("{:<20}{:>9}{:>8}  result\n", "project", "rewrites", "rules");
    for one in all {
        let count: usize = one.rewrites.values().sum();
        let result = match &one.unusable {
            Some(why) => format!("not counted, its command fails before: {why}"),
            None if one.passes => "passes".to_string(),
            None if one.broken.is_empty() => "FAILS with all together".to_string(),
            None => {
                let broken = one.broken.iter().map(|(rule, says)| format!("{rule}: {says}"));
                format!("FAILS with {}", broken.collect::<Vec<_>>().join("; "))
            }
        };
        let name = one.folder.display().to_string();
        text += &format!("{name:<20}{count:>9}{:>8}  {result}\n", one.rewrites.len());
    }
    let counted = all.iter().filter(|one| one.unusable.is_none());
    let (mut tried, mut passing, mut rewrites) = (0, 0, 0);
    for one in counted {
        tried += 1;
        passing += usize::from(one.passes);
        rewrites += one.rewrites.values().sum::<usize>();
    }
    text + &format!("{passing} of {tried} projects pass with {rewrites} rewrites\n")
}
