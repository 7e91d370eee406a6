//! Repair of broken syntax: one token of a file is deleted, put in, doubled or swapped with the next so that the file
//! does not parse any more, and the first repair is compared with what was there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::completion::memory;
use super::texts::Repository;
use crate::generation::{CancelToken, Model};
use crate::memory::FocusCache;
use crate::statistics::{self, Figure, percentile};
use crate::suggest::repair::mistakes::{Slip, tokens};
use crate::suggest::repair::{Weigher, syntax_repairs};
use crate::syntax::{Language, SyntaxTree};
use crate::text::{Text, TextEdit, apply};

/// Files of these sizes in bytes are broken.
const SIZES: std::ops::Range<usize> = 200..60_000;
/// Time for one repair.
const LIMIT: Duration = Duration::from_millis(260);

/// One broken file and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Name of the language.
    pub language: &'static str,
    /// The file, with its repository.
    pub path: String,
    /// How it was broken.
    pub mutation: Slip,
    /// The token that was deleted, put in, doubled or moved.
    pub token: String,
    /// The lines around the mistake.
    pub broken: String,
    /// Those lines after the first repair, if there is one.
    pub repaired: Option<String>,
    /// Whether the first repair parses.
    pub parses: bool,
    /// Whether it gives the file back to the last byte.
    pub exact: bool,
    /// Whether one of the first three does.
    pub among_three: bool,
    /// Milliseconds it took.
    pub milliseconds: f64,
}

/// What a group of cases came to.
#[derive(Clone, Debug, Serialize)]
pub struct FixRow {
    /// The language or mutation.
    pub name: String,
    /// Cases.
    pub cases: usize,
    /// Percent whose first repair parses.
    pub parses: Figure,
    /// Percent that the first repair gives back exactly.
    pub exact: Figure,
    /// Percent that one of the first three does.
    pub among_three: Figure,
    /// Milliseconds: half, and 95 of 100, took no longer.
    pub p50: f64,
    /// See `p50`.
    pub p95: f64,
}

/// Breaks `count` files of each language, drawn by the seed, and repairs them. `say` hears of cases done.
pub fn fix(
    model: Option<Model>,
    repositories: &[Repository],
    languages: &[String],
    count: usize,
    seed: u64,
    say: &mut dyn FnMut(&str, usize),
) -> Result<Vec<Case>> {
    let mut kv = model.as_ref().map(|model| model.engine.new_cache());
    let mut cache = FocusCache::default();
    let mut memories = Vec::new();
    for repository in repositories {
        memories.push(match &model {
            Some(model) => Some(memory(repository, model.tokenizer.clone())?),
            None => None,
        });
    }
    let mut cases = Vec::new();
    for language in languages {
        let mut files: Vec<(usize, usize)> = Vec::new();
        for (number, repository) in repositories.iter().enumerate() {
            let fits = |f: &crate::train::corpus::SourceFile| {
                f.language == language && SIZES.contains(&f.text.len())
            };
            let fitting = repository.files.iter().enumerate().filter(|(_, f)| fits(f));
            files.extend(fitting.map(|(index, _)| (number, index)));
        }
        let mut rng = StdRng::seed_from_u64(seed);
        files.shuffle(&mut rng);
        let mut done = 0;
        // Several times through the files, until there are enough.
        for &(number, index) in files.iter().cycle().take(files.len() * 40) {
            if done >= count {
                break;
            }
            let file = &repositories[number].files[index];
            let mutation = Slip::ALL[done % Slip::ALL.len()];
            let Some((broken, token, tree)) = broken(&file.text, language, mutation, &mut rng)
            else {
                continue;
            };
            let text = Text::new(broken.0.as_str());
            let start = Instant::now();
            let mut weigher = model.as_ref().zip(kv.as_mut()).map(|(model, kv)| Weigher {
                model,
                kv,
                memory: memories[number].as_deref(),
                cache: &mut cache,
                name: &file.path,
            });
            let cancel = CancelToken::new();
            let repairs = syntax_repairs((&tree, &text), None, weigher.as_mut(), LIMIT, &cancel);
            let milliseconds = 1e3 * start.elapsed().as_secs_f64();
            let result = |edit: &TextEdit| apply(&broken.0, std::slice::from_ref(edit));
            let right = |edit: &TextEdit| result(edit) == file.text;
            let first = repairs.first();
            cases.push(Case {
                language: file.language,
                path: format!("{}/{}", repositories[number].name, file.path),
                mutation,
                token,
                broken: around(&broken.0, broken.1),
                repaired: first.map(|c| around(&result(&c.edit), c.edit.range.start)),
                parses: first.is_some_and(|c| c.errors == 0),
                exact: first.is_some_and(|c| right(&c.edit)),
                among_three: repairs.iter().take(3).any(|c| right(&c.edit)),
                milliseconds,
            });
            done += 1;
            say(language, done);
        }
    }
    Ok(cases)
}

/// The rows of a table: each language, all of them, each mutation.
pub fn rows(cases: &[Case]) -> Vec<FixRow> {
    let mut groups: BTreeMap<(usize, String), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        let mutation = format!("{:?}", case.mutation).to_lowercase();
        for key in [(0, case.language.to_string()), (1, "all".into()), (2, mutation)] {
            groups.entry(key).or_default().push(case);
        }
    }
    let row = |((_, name), cases): ((usize, String), Vec<&Case>)| {
        let share = |such: &dyn Fn(&Case) -> bool| {
            Figure::share(cases.iter().filter(|case| such(case)).count(), cases.len())
        };
        let mut times: Vec<f64> = cases.iter().map(|case| case.milliseconds).collect();
        FixRow {
            name,
            cases: cases.len(),
            parses: share(&|case| case.parses),
            exact: share(&|case| case.exact),
            among_three: share(&|case| case.among_three),
            p50: percentile(&mut times, 0.5),
            p95: percentile(&mut times, 0.95),
        }
    };
    groups.into_iter().map(row).collect()
}

/// The rows as text.
pub fn table(rows: &[FixRow]) -> String {
    let head = ["", "cases", "parses %", "exact %", "in three %", "p50 ms", "p95 ms"];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let figures = [row.parses, row.exact, row.among_three].map(|figure| format!("{figure:.1}"));
        let times = [row.p50, row.p95].map(|time| format!("{time:.0}"));
        let first = [row.name.clone(), row.cases.to_string()];
        first.into_iter().chain(figures).chain(times).collect()
    }));
    statistics::table(&lines)
}

/// A file with one mistake that the parser sees: (text, where), the token, and its tree. `None` if none was found.
fn broken(
    source: &str,
    language: &str,
    mutation: Slip,
    rng: &mut StdRng,
) -> Option<((String, usize), String, SyntaxTree)> {
    /// Tries until another file is taken.
    const TRIES: usize = 12;
    let language = Language::by_name(language)?;
    let tree = SyntaxTree::parse_steadily(language, source)?;
    if tree.error_count(0..source.len()) > 0 {
        return None;
    }
    let lexemes = tokens(&tree, source);
    for _ in 0..TRIES {
        let at = rng.random_range(0..lexemes.len().checked_sub(1)?);
        let (edit, token) = mutation.make(source, &lexemes, at, rng)?;
        let text = apply(source, std::slice::from_ref(&edit));
        if text == source {
            continue;
        }
        let tree = SyntaxTree::parse_steadily(language, &text)?;
        if tree.error_count(0..text.len()) > 0 {
            return Some(((text, edit.range.start), token, tree));
        }
    }
    None
}

/// The line of a place with the ones beside it.
fn around(text: &str, at: usize) -> String {
    let text = Text::new(text);
    let line = text.line_of(at.min(text.len()));
    let lines = line.saturating_sub(1)..(line + 2).min(text.line_count());
    lines.map(|line| text.line(line)).collect::<Vec<_>>().join("\n")
}
