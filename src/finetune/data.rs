//! What a repository gives to a fine-tune: texts to learn from and newer lines to judge by, divided by commit time
//! where there is a history and by file where there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rustc_hash::FxHashMap;

use crate::eval::completion::{Mode, Place, draw};
use crate::eval::compression::Texts;
use crate::eval::texts::{Repository, Since, sample};
use crate::syntax::{Language, ScopeKind, SyntaxTree};
use crate::text::Text;
use crate::train::corpus::{self, SourceFile};
use crate::train::documents::Documents;
use crate::train::near_duplicates::copies;
use crate::train::sources::Source;

/// How texts were divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learnt from what was there at a commit, judged by lines that came later.
    Commits,
    /// Learnt from some files, judged by others.
    Files,
}

/// Texts to learn from, and what the result is judged by.
pub struct Part {
    /// The texts, with a slice of general code among them.
    pub learn: Documents,
    /// Bytes of the repository's own among them.
    pub bytes: u64,
    /// The repository with its lines to ask about.
    pub judge: Repository,
    /// Rests of lines that can be asked for, drawn by the seed; no more than are ever wanted.
    pub places: Vec<Place>,
}

/// A repository, divided twice: settings are chosen on the older part, the result is judged on the newer one.
pub struct Data {
    /// How it was divided.
    pub split: Split,
    /// For the choice of settings.
    pub search: Part,
    /// For the run whose weights may be installed.
    pub last: Part,
}

/// Shares of the history to divide it at: the first that leaves enough new lines is taken.
const SHARES: [[f64; 2]; 3] = [[0.8, 0.9], [0.65, 0.8], [0.4, 0.65]];
/// Lines to ask about at least: fewer could not prove a gain.
pub const LEAST_PLACES: usize = 60;
/// Lines that are enough, and no more than these are ever asked about.
const GOOD_PLACES: usize = 250;
pub(super) const MOST_PLACES: usize = 2000;
/// Bytes of source at least: what is below is copied by the memory anyway.
const LEAST_BYTES: u64 = 30_000;
/// Bytes of each language at most.
const MOST_BYTES: usize = 32_000_000;
/// Commits of a history at least.
const LEAST_COMMITS: usize = 8;
/// Share of what is learnt that is general code, so that the rest is not forgotten (experience replay).
const REPLAY: f64 = 0.25;
/// The newest share of the learnt history counts as recent…
const RECENT: f64 = 0.75;
/// …and its bytes are drawn so many times more often.
const RECENT_WEIGHT: f64 = 3.0;
/// A recent line stands for its function up to this length.
const LONGEST_NODE: usize = 3_000;

impl Data {
    /// Divides the repository or folder.
    ///
    /// # Errors
    /// Too little source, or too few lines that could be asked about; the message says how much is needed.
    pub fn read(source: &Source, seed: u64) -> Result<Data> {
        let commits = if source.is_git() { source.commits()? } else { 0 };
        let files = corpus::read_source(source)?;
        let bytes: u64 = files.iter().map(|f| f.text.len() as u64).sum();
        if bytes < LEAST_BYTES {
            bail!(
                "{} has {} KB of source that can be learnt from; at least {} KB are needed. Until then the memory \
                 of the repository does more than a fine-tune could",
                source.root.display(),
                bytes / 1000,
                LEAST_BYTES / 1000
            );
        }
        if commits >= LEAST_COMMITS {
            let mut best: Option<Data> = None;
            for shares in SHARES {
                let data = match Data::by_commits(source, shares, seed) {
                    Ok(data) => data,
                    Err(error) => {
                        // An older state may have had no code yet.
                        tracing::info!("not divided at {shares:?} of the history: {error:#}");
                        continue;
                    }
                };
                if best.as_ref().is_none_or(|best| data.places() > best.places()) {
                    best = Some(data);
                }
                if best.as_ref().is_some_and(|best| best.places() >= GOOD_PLACES) {
                    break;
                }
            }
            if let Some(data) = best.filter(|data| data.places() >= LEAST_PLACES) {
                return Ok(data);
            }
        }
        let data = Data::by_files(source, files, seed)?;
        let places = data.places();
        if places < LEAST_PLACES {
            bail!(
                "{} has {places} lines to judge a fine-tune by; at least {LEAST_PLACES} are needed",
                source.root.display()
            );
        }
        Ok(data)
    }

    /// Lines of the part that has fewer.
    fn places(&self) -> usize {
        self.last.places.len().min(self.search.places.len())
    }

    fn by_commits(source: &Source, shares: [f64; 2], seed: u64) -> Result<Data> {
        let [first, second] = shares.map(|share| source.commit_at(share));
        let (first, second) = (first?, second?);
        let at = |commit: &str| source.clone().at_revision(commit);
        let part = |learn: &str, share: f64, judge: &Source| -> Result<Part> {
            let source = at(learn)?;
            let before = source.commit_at(RECENT)?;
            let recent = match before == learn {
                true => BTreeMap::new(),
                false => {
                    Repository::since(&source, before)?.since.map(|s| s.added).unwrap_or_default()
                }
            };
            let files = corpus::read_source(&source).with_context(|| {
                format!("the state after {:.0} % of the history", 100.0 * share)
            })?;
            let mut judge = Repository::since(judge, learn.to_string())?;
            leave_out_copies(&mut judge, &files);
            Ok(Part::new(files, &recent, judge, seed))
        };
        let search = part(&first, shares[0], &at(&second)?)?;
        let last = part(&second, shares[1], source)?;
        Ok(Data { split: Split::Commits, search, last })
    }

    /// Every fifth file is judged by, half of them in the search and half at the end. What is nearly a copy of a
    /// judged file is judged too, or left out.
    fn by_files(source: &Source, files: Vec<SourceFile>, seed: u64) -> Result<Data> {
        let texts: Vec<&str> = files.iter().map(|f| f.text.as_str()).collect();
        let groups = copies(&texts);
        let mut order: Vec<usize> = groups.clone();
        order.sort_unstable();
        order.dedup();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        // Of each ten groups one is for the search and one for the end.
        let role =
            |file: usize| order.iter().position(|g| *g == groups[file]).map_or(2, |at| at % 10);
        let roles: Vec<usize> = (0..files.len()).map(role).collect();
        let part = |judged: usize, learn: &dyn Fn(usize) -> bool| {
            let chosen = files.iter().zip(&roles).filter(|(_, role)| **role == judged);
            // Each line for itself: what follows it is known.
            let lines = |f: &SourceFile| (0..f.text.lines().count()).map(|l| l..l + 1).collect();
            let added = chosen.map(|(f, _)| (f.path.clone(), lines(f))).collect();
            let since = Some(Since { commit: String::new(), added });
            let all = files.clone();
            let judge = Repository { name: source.name.clone(), revision: None, files: all, since };
            let learnt = files.iter().zip(&roles).filter(|(_, role)| learn(**role));
            let learnt = learnt.map(|(f, _)| f.clone()).collect();
            Part::new(learnt, &BTreeMap::new(), judge, seed)
        };
        let search = part(0, &|role| role > 1);
        let last = part(1, &|role| role != 1);
        Ok(Data { split: Split::Files, search, last })
    }
}

impl Part {
    fn new(
        files: Vec<SourceFile>,
        recent: &BTreeMap<String, Vec<Range<usize>>>,
        judge: Repository,
        seed: u64,
    ) -> Part {
        let files = sample(files, MOST_BYTES, seed);
        let bytes: u64 = files.iter().map(|f| f.text.len() as u64).sum();
        let general = Texts::built_in().calibration;
        let general_bytes: usize = general.iter().map(|f| f.text.len()).sum();
        let own = files.iter().map(|f| (f.path.as_str(), 0, f.text.as_str()));
        let replay = general.iter().map(|f| (f.path.as_str(), 1, f.text.as_str()));
        let documents = Documents::from_texts(own.chain(replay));
        let texts: BTreeMap<&str, &SourceFile> =
            files.iter().map(|f| (f.path.as_str(), f)).collect();
        let share = REPLAY / (1.0 - REPLAY) * bytes as f64 / general_bytes.max(1) as f64;
        let learn = documents.describe(|document| {
            if document.repository == 1 {
                document.weight = share as f32;
                return;
            }
            let Some((runs, file)) = recent.get(&document.path).zip(texts.get(&*document.path))
            else {
                return;
            };
            document.recent = nodes(file, runs);
            let fresh: u32 = document.recent.iter().map(|r| r.end - r.start).sum();
            document.weight =
                1.0 + RECENT_WEIGHT as f32 * fresh as f32 / document.bytes.max(1) as f32;
        });
        let places = draw(&judge, Mode::Rest, &[], seed, MOST_PLACES);
        Part { learn, bytes, judge, places }
    }
}

/// Takes new files from what is judged that have nearly all of their lines from a learnt one: what was only moved or
/// copied is no news. Files that follow the same convention are.
fn leave_out_copies(judge: &mut Repository, learnt: &[SourceFile]) {
    /// Share of a file's different lines.
    const COPIED: f64 = 0.9;
    fn lines(file: &SourceFile) -> BTreeSet<&str> {
        file.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
    }
    let Repository { files, since: Some(since), .. } = judge else { return };
    let known: BTreeSet<&str> = learnt.iter().map(|file| file.path.as_str()).collect();
    let mut places: FxHashMap<&str, Vec<usize>> = FxHashMap::default();
    for (number, file) in learnt.iter().enumerate() {
        lines(file).into_iter().for_each(|line| places.entry(line).or_default().push(number));
    }
    for file in files.iter().filter(|file| !known.contains(file.path.as_str())) {
        let own = lines(file);
        let mut shared = vec![0usize; learnt.len()];
        own.iter().filter_map(|line| places.get(line)).flatten().for_each(|&at| shared[at] += 1);
        let most = shared.into_iter().max().unwrap_or(0);
        if most as f64 >= COPIED * own.len() as f64 {
            since.added.remove(&file.path);
        }
    }
}

/// The functions around runs of lines, or the runs themselves where those are large or none; disjoint.
fn nodes(file: &SourceFile, runs: &[Range<usize>]) -> Vec<Range<u32>> {
    let text = Text::new(file.text.as_str());
    let language = Language::by_name(file.language);
    let tree = language.and_then(|language| SyntaxTree::parse_steadily(language, &file.text));
    let mut nodes: Vec<Range<u32>> = Vec::new();
    for run in runs.iter().filter(|run| run.end <= text.line_count()) {
        let lines = text.line_range(run.start).start..text.line_range(run.end - 1).end;
        let first = lines.start + file.text[lines.clone()].len()
            - file.text[lines.clone()].trim_start().len();
        let scopes = tree.as_ref().map(|tree| tree.scopes(&file.text, first)).unwrap_or_default();
        let fits = |range: &Range<usize>| range.end >= lines.end && range.len() <= LONGEST_NODE;
        let function = scopes.into_iter().rev().filter(|s| s.kind == ScopeKind::Function);
        let range = function.map(|s| s.range).find(fits).unwrap_or(lines);
        match nodes.last_mut().filter(|last| last.end as usize >= range.start) {
            Some(last) => last.end = last.end.max(range.end as u32),
            None => nodes.push(range.start as u32..range.end as u32),
        }
    }
    nodes.retain(|node| !node.is_empty());
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        let language = Language::by_path(path.as_ref()).expect("a language").name;
        SourceFile { path: path.into(), repository: "r".into(), language, text: text.into() }
    }

    #[test]
    fn a_changed_line_stands_for_its_function_and_one_outside_for_itself() {
        let text = "use a::b;\n\nfn first() {\n    one();\n    two();\n}\n\nconst N: u8 = 1;\n";
        let file = file("a.rs", text);
        let found = |runs: &[(usize, usize)]| -> Vec<&str> {
            let runs: Vec<Range<usize>> = runs.iter().map(|&(from, to)| from..to).collect();
            let nodes = nodes(&file, &runs);
            nodes.iter().map(|n| &text[n.start as usize..n.end as usize]).collect()
        };
        let function = "fn first() {\n    one();\n    two();\n}";
        assert_eq!(found(&[(3, 4), (4, 5)]), [function], "two lines of it are one node");
        assert_eq!(found(&[(7, 8)]), ["const N: u8 = 1;"]);
        assert_eq!(found(&[(0, 1), (3, 4)]), ["use a::b;", function]);
        assert!(found(&[(90, 91)]).is_empty(), "lines that are not there");
    }

    #[test]
    fn what_was_moved_or_copied_is_no_news() {
        let code = |number: usize| -> String {
            let line =
                |i: usize| format!("    value_{i} = compute_{number}(value_{i}, kept_{i})\n");
            (0..40).map(line).collect()
        };
        let learnt = [file("old.py", &code(1)), file("grown.py", &code(2))];
        let grown = code(2) + "    another = compute(2)\n";
        let files =
            vec![file("moved.py", &code(1)), file("grown.py", &grown), file("new.py", &code(3))];
        let added =
            files.iter().map(|file| (file.path.clone(), std::iter::once(0..1).collect())).collect();
        let since = Some(Since { commit: String::new(), added });
        let mut judge = Repository { name: "r".into(), revision: None, files, since };
        leave_out_copies(&mut judge, &learnt);
        let left: Vec<String> = judge.since.unwrap().added.into_keys().collect();
        assert_eq!(left, ["grown.py", "new.py"]);
    }

    #[test]
    fn without_a_history_files_are_kept_back_and_copies_stay_together() {
        let folder = tempfile::tempdir().unwrap();
        let code = |number: usize| -> String {
            let line = |i: usize| {
                format!(
                    "    value_{number}_{i} = compute_{number}(first_{i}, {i}) + offset_{number}\n"
                )
            };
            let head = format!("def name_{number}(first, second):\n");
            head + &(0..30).map(line).collect::<String>()
        };
        for number in 0..40 {
            std::fs::write(folder.path().join(format!("f{number}.py")), code(number)).unwrap();
            std::fs::write(folder.path().join(format!("copy{number}.py")), code(number)).unwrap();
        }
        let source = Source::find(folder.path()).unwrap().remove(0);
        let data = Data::read(&source, 1).unwrap();
        assert_eq!(data.split, Split::Files);
        for part in [&data.search, &data.last] {
            let judged = &part.judge.since.as_ref().unwrap().added;
            assert!(!judged.is_empty() && part.places.len() >= LEAST_PLACES);
            let learnt = part.learn.list().iter().filter(|d| d.repository == 0);
            let learnt: Vec<&str> = learnt.map(|d| d.path.as_str()).collect();
            for path in judged.keys() {
                let number = path.trim_start_matches(|c: char| !c.is_ascii_digit());
                let twins = [format!("f{number}"), format!("copy{number}")];
                assert!(twins.iter().all(|twin| !learnt.contains(&twin.as_str())), "{path}");
            }
            // A quarter of what is drawn is general code.
            let drawn = |own: bool| -> f64 {
                let list = part.learn.list().iter().filter(|d| (d.repository == 0) == own);
                list.map(|d| f64::from(d.weight) * f64::from(d.bytes)).sum()
            };
            let share = drawn(false) / (drawn(true) + drawn(false));
            assert!((share - REPLAY).abs() < 0.01, "{share}");
        }
        // One commit is no history.
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.arg("-C").arg(folder.path()).args(["-c", "user.name=A", "-c", "user.email=a@b"]);
            assert!(git.args(arguments).status().unwrap().success());
        };
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "all"]);
        let source = Source::find(folder.path()).unwrap().remove(0);
        assert_eq!(Data::read(&source, 1).unwrap().split, Split::Files);
    }
}
