//! Rewrites measured: on programs of others (share that becomes faster, none that becomes wrong), a program against itself
//! (how often noise is called faster), and the speed of the search itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::generation::CancelToken;
use crate::memory::walk;
use crate::statistics::{Figure, percentile};
use crate::suggest::optimize::{
    Effort, Subject, Verdict, Workshop, climb, compare, rewrites, rule_names, search, worth,
};
use crate::syntax::{Language, SyntaxTree};
use crate::text::Text;
use crate::workspace::{Document, read_unparsed};

/// A slow program, as the PIE sample has it.
#[derive(Deserialize)]
struct Pair {
    problem_id: String,
    language: String,
    input: String,
}

/// What came of one program.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Its problem.
    pub problem: String,
    /// Each rewrite that was tried: its rule, what running it showed, and how many times faster it is.
    pub tried: Vec<(String, Verdict)>,
}

impl Case {
    /// The best measured ratio among rewrites that do the same and may be called faster.
    pub fn best(&self) -> Option<f64> {
        let ratios = self.tried.iter().filter_map(|(_, verdict)| match verdict {
            Verdict::Same { speed: Some(speed), .. } if speed.is_faster() => Some(speed.ratio),
            _ => None,
        });
        ratios.max_by(f64::total_cmp)
    }
}

/// Rewrites of one program that are tried.
const MOST_TRIED: usize = 4;
/// What counts as made faster.
pub const FASTER_BY: f64 = 1.10;

/// Tries the best rewrites of programs from a file of JSON lines, one after the other so that nothing disturbs the clock.
///
/// # Errors
/// A file that is none of that kind, or no sandbox.
pub fn pairs(
    file: &Path,
    count: Option<usize>,
    effort: &Effort,
    say: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Case>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut programs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let pair: Pair = serde_json::from_str(line)
            .with_context(|| format!("{}:{}: no pair of programs", file.display(), number + 1))?;
        if Language::by_name(&pair.language).is_some() {
            programs.push(pair);
        }
    }
    if programs.is_empty() {
        bail!("{} holds no program in a language that is known", file.display());
    }
    programs.shuffle(&mut StdRng::seed_from_u64(effort.seed));
    programs.truncate(count.unwrap_or(usize::MAX));
    let all = programs.len();
    let mut cases = Vec::new();
    for (done, Pair { problem_id, language, input }) in programs.into_iter().enumerate() {
        say(done, all);
        let language = Language::by_name(&language).context("a known language")?;
        let mut case = Case { problem: problem_id, tried: Vec::new() };
        if let Some(tree) = SyntaxTree::parse_steadily(language, &input) {
            let text = Text::new(&*input);
            let mut found = rewrites(&tree, &text, 0..input.len(), None);
            let value = |rewrite: &_| worth(rewrite, [input.as_str()], None);
            found.sort_by(|a, b| value(b).total_cmp(&value(a)));
            found.truncate(MOST_TRIED);
            let workshop = Workshop {
                overlays: None,
                name: "",
                checkers: &[],
                check: None,
                test: None,
                bench: None,
                effort: Some(*effort),
                cancel: &CancelToken::new(),
            };
            for rewrite in &found {
                if let Some(verdict) = climb(&tree, &input, rewrite, &workshop).verdict {
                    case.tried.push((rewrite.rule.clone(), verdict));
                }
            }
        }
        cases.push(case);
    }
    Ok(cases)
}

/// The table of [`pairs`].
pub fn table(cases: &[Case]) -> String {
    let share = |such: usize| {
        format!("{such} of {}: {:.1} %", cases.len(), Figure::share(such, cases.len()))
    };
    let count = |such: &dyn Fn(&Verdict) -> bool| {
        cases.iter().filter(|case| case.tried.iter().any(|(_, verdict)| such(verdict))).count()
    };
    let same = |v: &Verdict| matches!(v, Verdict::Same { .. });
    let faster =
        cases.iter().filter(|case| case.best().is_some_and(|best| best >= FASTER_BY)).count();
    let mut text = format!(
        "{:<60}{}\n{:<60}{}\n{:<60}{}\n{:<60}{}\n",
        "programs with a rewrite",
        share(cases.iter().filter(|case| !case.tried.is_empty()).count()),
        "with one that does the same on all inputs",
        share(count(&same)),
        format!("with one that does the same and measures ≥ {FASTER_BY:.2}×"),
        share(faster),
        "with one that does something else (refused)",
        share(count(&|v| matches!(v, Verdict::Different { .. }))),
    );
    let mut rules: BTreeMap<&str, [usize; 5]> = BTreeMap::new();
    for (rule, verdict) in cases.iter().flat_map(|case| &case.tried) {
        let row = rules.entry(rule).or_default();
        row[0] += 1;
        match verdict {
            Verdict::Same { speed, .. } => {
                row[1] += 1;
                row[2] += usize::from(speed.is_some_and(|s| s.is_faster()));
            }
            Verdict::Different { .. } => row[3] += 1,
            Verdict::Unknown { .. } => row[4] += 1,
        }
    }
    text += &format!(
        "\n{:<24}{:>7}{:>7}{:>9}{:>12}{:>14}\n",
        "rule", "tried", "same", "faster", "different", "not compared"
    );
    for (rule, [tried, same, faster, different, unknown]) in rules {
        text += &format!("{rule:<24}{tried:>7}{same:>7}{faster:>9}{different:>12}{unknown:>14}\n");
    }
    let mut why: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, verdict) in cases.iter().flat_map(|case| &case.tried) {
        if let Verdict::Unknown { why: reason } = verdict {
            *why.entry(reason.rsplit("as a program, ").next().unwrap_or(reason)).or_default() += 1;
        }
    }
    let mut why: Vec<_> = why.into_iter().collect();
    why.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in why.into_iter().take(8) {
        text += &format!("{count:>6}  {reason}\n");
    }
    text
}

/// Functions that are compared with themselves.
const SAME: &[(&str, &str)] = &[
    (
        "python",
        "def subject(xs: list[int]):\n    total = 0\n    for x in xs:\n        total += x * x % 7\n    return total\n",
    ),
    ("python", "def subject(text: str):\n    return ''.join(sorted(text.lower().split()))\n"),
    (
        "javascript",
        "function subject(xs) {\n  return xs.map((x) => x * 2).filter((x) => x > 3).length;\n}\n",
    ),
    ("rust", "fn subject(xs: &[u64]) -> u64 {\n    xs.iter().map(|x| x * x % 7).sum()\n}\n"),
];

/// Compares functions with themselves so many times, in turn; how often each was called faster.
///
/// # Errors
/// No sandbox.
pub fn itself(
    times: usize,
    effort: &Effort,
    say: &mut dyn FnMut(usize, usize),
) -> Result<(usize, usize, Vec<f64>)> {
    let (mut measured, mut faster, mut ratios) = (0, 0, Vec::new());
    for index in 0..times {
        say(index, times);
        let (language, source) = SAME[index % SAME.len()];
        let language = Language::by_name(language).context("a language of the table")?;
        let tree = SyntaxTree::parse_steadily(language, source).context("it parses")?;
        let subject = Subject::of((&tree, source), (&tree, source), Some("subject"))
            .map_err(anyhow::Error::msg)?;
        let effort = Effort { seed: effort.seed + index as u64, ..*effort };
        if let Verdict::Same { speed: Some(speed), .. } =
            compare(&subject, &effort, &CancelToken::new())?
        {
            measured += 1;
            faster += usize::from(speed.is_faster());
            ratios.push(speed.ratio);
        }
    }
    Ok((measured, faster, ratios))
}

/// Speed of the search in files: how much, how long, how many rewrites; and the time of a menu.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scan {
    /// Files and their bytes.
    pub files: usize,
    /// See `files`.
    pub bytes: u64,
    /// Seconds to parse and search all of them on all cores, once the rules are read.
    pub seconds: f64,
    /// The same the first time, when the queries that are needed are compiled.
    pub first_seconds: f64,
    /// Rewrites found.
    pub rewrites: usize,
    /// Milliseconds to search around one line of a parsed file: the median, the 95th of a hundred, the longest.
    pub menu: [f64; 3],
}

/// Searches folders.
///
/// # Errors
/// Nothing to search.
pub fn scan(folders: &[PathBuf]) -> Result<Scan> {
    let mut documents = Vec::new();
    for folder in folders {
        let known = |name: &str| {
            Language::by_path(Path::new(name))
                .is_some_and(|language| !rule_names(language, None).is_empty())
        };
        let names = walk::walk(folder).into_iter().filter(|file| known(&file.name));
        documents.extend(names.filter_map(|file| read_unparsed(&folder.join(&file.name)).ok()));
    }
    if documents.is_empty() {
        bail!("there is no file in a language that has rules");
    }
    let pass = |mut documents: Vec<Document>| {
        let start = Instant::now();
        let found: usize =
            documents.par_iter_mut().map(|document| search(document, None).len()).sum();
        (start.elapsed().as_secs_f64(), found, documents)
    };
    let (first_seconds, ..) = pass(documents.clone());
    let (seconds, found, documents) = pass(documents);
    let mut menus = Vec::new();
    for document in
        documents.iter().filter(|d| d.tree.is_some()).step_by(documents.len().div_ceil(400))
    {
        let Some(tree) = &document.tree else { continue };
        for place in 1..4 {
            let lines = document.text.line_range(document.text.line_count() * place / 4);
            let start = Instant::now();
            rewrites(tree, &document.text, lines, None);
            menus.push(1000.0 * start.elapsed().as_secs_f64());
        }
    }
    let menu = [0.5, 0.95, 1.0].map(|share| percentile(&mut menus, share));
    Ok(Scan {
        files: documents.len(),
        bytes: documents.iter().map(|document| document.text.len() as u64).sum(),
        seconds,
        first_seconds,
        rewrites: found,
        menu,
    })
}
