//! The catalogue of rewrites against its fixtures: each hit must become what it says, no near miss may match, and both
//! texts of a hit must do the same when they are run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::check::{Ended, Program};
use crate::suggest::optimize::{Rules, rewrites, rule_names};
use crate::syntax::{Language, SyntaxTree};
use crate::text::{Text, apply};

/// A text that a rule must rewrite.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hit {
    rule: String,
    before: String,
    after: String,
    /// What is put behind both to see what they do.
    run: String,
}

/// A text that a rule must leave alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Miss {
    rule: String,
    text: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixtures {
    #[serde(default)]
    hit: Vec<Hit>,
    #[serde(default)]
    miss: Vec<Miss>,
}

/// What came of the fixtures of one language.
#[derive(Debug, Default, Serialize)]
pub struct FixtureScore {
    /// Rules of the language, and those that have a hit and a near miss.
    pub rules: usize,
    /// See `rules`.
    pub covered: usize,
    /// Hits.
    pub hits: usize,
    /// Those that were rewritten as they should be.
    pub right: usize,
    /// Near misses.
    pub misses: usize,
    /// Those that matched.
    pub matched: usize,
    /// Hits that were run before and after.
    pub run: usize,
    /// Those that did not do the same.
    pub different: usize,
    /// What went wrong, in words.
    pub trouble: Vec<String>,
}

/// How files of a language are run: what is written, the commands, one after the other. `{file}` and `{out}` stand for paths.
const RUNNERS: &[(&str, &str, &[&[&str]])] = &[
    ("python", "case.py", &[&["python3", "{file}"]]),
    ("javascript", "case.mjs", &[&["node", "{file}"]]),
    (
        "rust",
        "case.rs",
        &[&["rustc", "--edition", "2021", "-A", "warnings", "-o", "{out}", "{file}"], &["{out}"]],
    ),
    ("go", "case.go", &[&["go", "run", "{file}"]]),
    ("cpp", "case.cpp", &[&["g++", "-std=c++17", "-o", "{out}", "{file}"], &["{out}"]]),
];

/// Checks the fixtures of each language in a folder; `own` are rules to take instead of those inside the program. `runs` says whether texts are run, too. A language whose programs are not installed is not run, and says so.
///
/// # Errors
/// A file that cannot be read or is no fixture, rules that cannot be read.
pub fn fixtures(
    folder: &Path,
    own: Option<&Rules>,
    only: Option<&str>,
    runs: bool,
) -> Result<BTreeMap<String, FixtureScore>> {
    let mut scores = BTreeMap::new();
    for (name, file, commands) in RUNNERS {
        let path = folder.join(format!("{name}.toml"));
        if !path.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let fixtures: Fixtures =
            toml::from_str(&text).with_context(|| path.display().to_string())?;
        let language = Language::by_name(name).context("a language of the table")?;
        let known = rule_names(language, own);
        let mut score = FixtureScore { rules: known.len(), ..FixtureScore::default() };
        let covered = |rule: &&&str| {
            fixtures.hit.iter().any(|hit| hit.rule == ***rule)
                && fixtures.miss.iter().any(|miss| miss.rule == ***rule)
        };
        score.covered = known.iter().filter(covered).count();
        let wanted = |rule: &str| only.is_none_or(|only| only == rule);
        for rule in
            fixtures.hit.iter().map(|h| &h.rule).chain(fixtures.miss.iter().map(|m| &m.rule))
        {
            if !known.contains(&rule.as_str()) {
                bail!("{}: there is no rule {rule}", path.display());
            }
        }
        let rewritten = |source: &str, rule: &str| -> Vec<String> {
            let Some(tree) = SyntaxTree::parse(language, source) else { return Vec::new() };
            let text = Text::new(source);
            let found = rewrites(&tree, &text, 0..source.len(), own);
            let found = found.iter().filter(|rewrite| rewrite.rule == rule);
            found.map(|rewrite| apply(source, &rewrite.edits)).collect()
        };
        let hits: Vec<&Hit> = fixtures.hit.iter().filter(|hit| wanted(&hit.rule)).collect();
        let judged: Vec<(bool, Option<bool>, Vec<String>)> = hits
            .par_iter()
            .map(|hit| {
                let mut trouble = Vec::new();
                let found = rewritten(&hit.before, &hit.rule);
                let right = found == [hit.after.clone()];
                if !right {
                    let got = found.join("\n--- and\n");
                    trouble.push(format!(
                        "{}: not rewritten as it should be:\n{}--- but to:\n{got}",
                        hit.rule, hit.before
                    ));
                }
                let run = |text: &str| execute(file, commands, text, &hit.run);
                let ran = runs
                    .then(|| run(&hit.before).and_then(|before| Ok((before, run(&hit.after)?))));
                let same = match ran {
                    Some(Ok((before, after))) => {
                        let same = before == after && !before.trim().is_empty();
                        if !same {
                            trouble.push(format!(
                                "{}: before it prints {before:?}, after it {after:?}",
                                hit.rule
                            ));
                        }
                        Some(same)
                    }
                    Some(Err(error)) => {
                        trouble.push(format!("{}: not run: {error:#}", hit.rule));
                        None
                    }
                    None => None,
                };
                (right, same, trouble)
            })
            .collect();
        for (right, same, trouble) in judged {
            score.hits += 1;
            score.right += usize::from(right);
            score.run += usize::from(same.is_some());
            score.different += usize::from(same == Some(false));
            score.trouble.extend(trouble);
        }
        for miss in fixtures.miss.iter().filter(|miss| wanted(&miss.rule)) {
            score.misses += 1;
            if !rewritten(&miss.text, &miss.rule).is_empty() {
                score.matched += 1;
                score
                    .trouble
                    .push(format!("{}: matches, though {}:\n{}", miss.rule, miss.why, miss.text));
            }
        }
        scores.insert(name.to_string(), score);
    }
    Ok(scores)
}

/// What a text prints when it is run with `run` behind it.
fn execute(file: &str, commands: &[&[&str]], text: &str, run: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(file);
    std::fs::write(&path, format!("{text}\n{run}\n"))?;
    let mut printed = String::new();
    for command in commands {
        let word = |word: &&str| match *word {
            "{file}" => path.display().to_string(),
            "{out}" => folder.path().join("case").display().to_string(),
            other => other.to_string(),
        };
        let program = Program::Direct(command.iter().map(word).collect());
        let done = program.run(folder.path(), &[], Duration::from_secs(60), &|| true);
        let done = done.with_context(|| format!("cannot run {}", command[0]))?;
        if done.end != Ended::Itself(true) {
            bail!("{} ended with {:?}: {}", command[0], done.end, done.stderr.trim());
        }
        printed = done.stdout;
    }
    Ok(printed)
}
