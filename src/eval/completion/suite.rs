//! Suites as data: which repositories, as of which commits, and what is asked there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::{Context, Mode};
use crate::eval::texts::Repository;
use crate::train::sources::Source;

/// A suite as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// What it is called in reports.
    pub name: String,
    /// What is to be completed.
    #[serde(default)]
    pub mode: Mode,
    /// What is known of the file.
    #[serde(default)]
    pub context: Context,
    /// Places in each repository at most.
    pub places: usize,
    /// Names of the languages asked about; all if missing.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Only lines that are new after this share (0 to 1) of the first-parent history are asked about.
    pub since: Option<f64>,
    /// The repositories.
    #[serde(rename = "repository")]
    pub repositories: Vec<SuiteRepository>,
}

/// A repository of a suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteRepository {
    /// Folder, relative to the suite's file; or `owner+name`, a clone that lies anywhere.
    pub dir: String,
    /// Hash, tag or branch; HEAD if missing.
    pub revision: Option<String>,
}

impl Suite {
    /// Reads a suite's file.
    ///
    /// # Errors
    /// Names the file, and the line where it is not understood.
    pub fn read(path: &Path) -> Result<Suite> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the suite {}", path.display()))?;
        // One line: the parser draws its errors over several.
        let suite: Suite = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("{}:{line}: {}", path.display(), error.message().replace('\n', " "))
        })?;
        if suite.since.is_some_and(|since| !(0.0..1.0).contains(&since)) {
            bail!("{}: since is a share of the history, from 0 to less than 1", path.display());
        }
        Ok(suite)
    }

    /// Reads its repositories, which lie beside `path`, the suite's file, or below `clones`.
    ///
    /// # Errors
    /// A repository that lies nowhere, or whose revision is not known.
    pub fn repositories(&self, path: &Path, clones: Option<&Path>) -> Result<Vec<Repository>> {
        let read = |one: &SuiteRepository| {
            let root = one.find(path.parent().unwrap_or(Path::new("")), clones)?;
            let mut found = Source::find(&root)?;
            let mut source = found.pop().filter(|_| found.is_empty()).with_context(|| {
                format!("{} is no repository but a list of them", root.display())
            })?;
            if let Some(revision) = &one.revision {
                source = source.at_revision(revision)?;
            }
            Repository::read(&source, self.since)
        };
        self.repositories.iter().map(read).collect()
    }
}

impl SuiteRepository {
    /// `DIR/owner+name`, also with `repo` below it as bare clones may have, `DIR/name` or
    /// `DIR/owner/name`: whichever is there first.
    fn find(&self, beside: &Path, clones: Option<&Path>) -> Result<PathBuf> {
        let mut candidates = vec![beside.join(&self.dir)];
        if let Some(clones) = clones {
            let whole = clones.join(&self.dir);
            candidates.extend([whole.join("repo"), whole]);
            if let Some((owner, name)) = self.dir.split_once('+') {
                candidates.extend([clones.join(name), clones.join(owner).join(name)]);
            }
        }
        candidates.iter().find(|path| path.is_dir()).cloned().with_context(|| {
            let tried: Vec<String> = candidates.iter().map(|p| p.display().to_string()).collect();
            let tried = tried.join(", ");
            format!(
                "{} is neither of {tried}; clone it and name the folder above with --clones",
                self.dir
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/suites")
    }

    #[test]
    fn the_suites_of_the_repository_are_understood() {
        let lines = Suite::read(&suites().join("repoeval-line.toml")).unwrap();
        assert_eq!((lines.mode, lines.context, lines.places), (Mode::Line, Context::Left, 200));
        assert_eq!((lines.repositories.len(), lines.since), (4, None));
        assert_eq!(lines.repositories[0].dir, "google+vizier");
        let time = Suite::read(&suites().join("commit-time.toml")).unwrap();
        assert_eq!((time.since, time.repositories.len()), (Some(0.9), 3));
        assert!(time.repositories.iter().all(|r| r.revision.is_some()), "comparable later");
    }

    #[test]
    fn a_clone_is_found_by_any_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let one = SuiteRepository { dir: "owner+name".into(), revision: None };
        let error = one.find(Path::new("beside"), Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("owner+name") && error.contains("--clones"), "{error}");
        for names in ["owner/name", "name", "owner+name", "owner+name/repo"] {
            let path = folder.path().join(names);
            std::fs::create_dir_all(&path).unwrap();
            assert_eq!(one.find(Path::new("beside"), Some(folder.path())).unwrap(), path);
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("suite.toml");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Suite::read(&path).unwrap_err().to_string()
        };
        let error = refused("name = \"x\"\nplaces = 3\nmode = \"word\"\nrepository = []\n");
        assert!(error.contains("suite.toml:3:") && error.contains("word"), "{error}");
        let error = refused("name = \"x\"\nplaces = 3\nsince = 1.5\nrepository = []\n");
        assert!(error.contains("since"), "{error}");
    }
}
