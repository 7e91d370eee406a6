//! The texts that models are measured on: repositories by name, and a seeded sample by language.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::train::corpus::{self, SourceFile};
use crate::train::history::Hunk;
use crate::train::sources::Source;

/// A repository as an evaluation sees it.
#[derive(Clone, Debug)]
pub struct Repository {
    /// What it is called in reports.
    pub name: String,
    /// The commit that was read; none for a folder.
    pub revision: Option<String>,
    /// Its files, sorted by path.
    pub files: Vec<SourceFile>,
    /// What is new in it, if only that is asked about.
    pub since: Option<Since>,
}

/// What came into a repository after a commit.
#[derive(Clone, Debug)]
pub struct Since {
    /// The commit.
    pub commit: String,
    /// By path: runs of lines, from 0, that the files have now and did not have then.
    pub added: BTreeMap<String, Vec<Range<usize>>>,
}

impl Repository {
    /// Files under one name that belong to no history.
    pub fn of_files(name: &str, files: Vec<SourceFile>) -> Repository {
        Repository { name: name.to_string(), revision: None, files, since: None }
    }

    /// Reads one under the rules of training: what would not be learnt from is not asked about either.
    /// `since` is the share of the first-parent history, 0 to 1, after which lines count as new.
    ///
    /// # Errors
    /// Nothing to read, or no history where one is needed.
    pub fn read(source: &Source, since: Option<f64>) -> Result<Repository> {
        match since {
            Some(_) if !source.is_git() => {
                bail!("{} is no git repository: nothing says what is new", source.root.display())
            }
            Some(share) => Repository::since(source, source.commit_at(share)?),
            None => {
                let now = source.is_git().then(|| source.clone().at_revision(source.commit()));
                let revision = now.transpose()?.and_then(|now| now.revision);
                let files = corpus::read_source(source)?;
                Ok(Repository { name: source.name.clone(), revision, files, since: None })
            }
        }
    }

    /// Reads one of which only what came after a commit is asked about.
    ///
    /// # Errors
    /// Nothing to read, or no such commit.
    pub fn since(source: &Source, commit: String) -> Result<Repository> {
        let revision = source.clone().at_revision(source.commit())?.revision;
        let now = revision.as_deref().unwrap_or("HEAD");
        let runs = |hunks: Vec<Hunk>| {
            hunks.into_iter().map(|h| h.new).filter(|run| !run.is_empty()).collect()
        };
        let changes = source.changes(&commit, now)?;
        let added = changes.into_iter().map(|c| (c.path, runs(c.hunks))).collect();
        let files = corpus::read_source(source)?;
        let since = Some(Since { commit, added });
        Ok(Repository { name: source.name.clone(), revision, files, since })
    }
}

/// The folders and repositories behind these paths, some of which may be lists, as in training.
pub fn sources(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let found = paths.iter().map(|path| Source::find(path)).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The repositories behind these paths. One without any file that passes the filter is an error.
pub fn repositories(paths: &[PathBuf], since: Option<f64>) -> Result<Vec<Repository>> {
    sources(paths)?.iter().map(|source| Repository::read(source, since)).collect()
}

/// The URI of a file, of which [`crate::workspace::path_of_uri`] makes the path again.
pub(super) fn file_uri(path: &Path) -> String {
    format!("file://{}", path.display().to_string().replace('%', "%25"))
}

/// Whole files of each language, drawn by the seed until the next would exceed
/// `max_bytes`; at least one of each.
pub fn sample(files: Vec<SourceFile>, max_bytes: usize, seed: u64) -> Vec<SourceFile> {
    let mut languages: BTreeMap<&str, Vec<SourceFile>> = BTreeMap::new();
    for file in files {
        languages.entry(file.language).or_default().push(file);
    }
    let mut sample = Vec::new();
    for mut files in languages.into_values() {
        files.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut bytes = 0;
        for file in files {
            if bytes > 0 && bytes + file.text.len() > max_bytes {
                break;
            }
            bytes += file.text.len();
            sample.push(file);
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_bounded_by_language_and_repeats() {
        let file = |i: usize| SourceFile {
            path: format!("{i}"),
            repository: "r".into(),
            language: ["rust", "python"][i % 2],
            text: "x".repeat(100),
        };
        let draw = |seed| sample((0..40).map(file).collect(), 350, seed);
        let paths = |files: &[SourceFile]| -> Vec<String> {
            files.iter().map(|f| f.path.clone()).collect()
        };
        let first = draw(1);
        assert_eq!(first.iter().filter(|f| f.language == "rust").count(), 3);
        assert_eq!(first.iter().filter(|f| f.language == "python").count(), 3);
        assert_eq!(paths(&first), paths(&draw(1)));
        assert_ne!(paths(&first), paths(&draw(2)));
        assert_eq!(sample((0..2).map(file).collect(), 1, 1).len(), 2, "one of each at least");
    }
}
