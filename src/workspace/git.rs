//! What git says of a repository: the changes that are about to be committed, and how its commits are worded.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One file that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileChange {
    /// Its name below the root; the old one if it is removed.
    pub path: String,
    /// The name that it had, if it is moved.
    pub moved_from: Option<String>,
    /// Its text before; `None` for a new file.
    pub before: Option<String>,
    /// Its text afterwards; `None` for one that is removed.
    pub after: Option<String>,
}

/// A repository.
pub struct Repository {
    root: PathBuf,
}

/// Larger files, and more of them, are named but not read.
const MOST_BYTES: usize = 1 << 20;
const MOST_FILES: usize = 300;

impl Repository {
    /// The repository around a folder.
    ///
    /// # Errors
    /// There is none, or no git.
    pub fn around(folder: &Path) -> Result<Repository> {
        let here = Repository { root: folder.to_path_buf() };
        let top = here.ask(&["rev-parse", "--show-toplevel"]);
        let top = top.with_context(|| format!("{} is in no git repository", folder.display()))?;
        Ok(Repository { root: PathBuf::from(top.trim_end_matches(['\n', '\r'])) })
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The changes that the next commit would have; if there are none, those of the files that git knows, and whether that is so.
    ///
    /// # Errors
    /// git fails.
    pub fn pending(&self) -> Result<(Vec<FileChange>, bool)> {
        let staged = self.changes(&["diff", "--cached"])?;
        if !staged.is_empty() {
            return Ok((staged, true));
        }
        Ok((self.changes(&["diff"])?, false))
    }

    /// First lines of the last commits, merges left out, newest first.
    pub fn subjects(&self, most: usize) -> Vec<String> {
        let most = format!("-{most}");
        let log = self.ask(&["log", "--no-merges", "--format=%s", &most]).unwrap_or_default();
        log.lines().map(String::from).collect()
    }

    /// The branch that is checked out.
    pub fn branch(&self) -> Option<String> {
        let name = self.ask(&["symbolic-ref", "--short", "-q", "HEAD"]).ok()?;
        Some(name.trim().to_string()).filter(|name| !name.is_empty())
    }

    fn changes(&self, diff: &[&str]) -> Result<Vec<FileChange>> {
        let options = ["--raw", "-z", "-M", "--no-abbrev", "--no-ext-diff", "--ignore-submodules"];
        let raw = self.ask(&[diff, &options].concat())?;
        let mut fields = raw.split('\0');
        let mut changes = Vec::new();
        while let Some(head) = fields.next().filter(|head| head.starts_with(':')) {
            let parts: Vec<&str> = head.split(' ').collect();
            let (Some(path), &[_, _, old, new, kind]) = (fields.next(), &parts[..]) else {
                bail!("git answers in a form that is not known: {head}");
            };
            let mut change = FileChange { path: path.to_string(), ..FileChange::default() };
            if kind.starts_with(['R', 'C']) {
                change.path = fields.next().unwrap_or(path).to_string();
                change.moved_from = kind.starts_with('R').then(|| path.to_string());
            }
            if changes.len() < MOST_FILES {
                let is_there = |id: &str| id.contains(|c| c != '0');
                change.before = (!kind.starts_with('A')).then(|| self.text(old)).flatten();
                change.after = match kind.starts_with('D') {
                    true => None,
                    false if is_there(new) => self.text(new),
                    // Of a file in the working tree git has no copy yet.
                    false => std::fs::read(self.root.join(&change.path)).ok().and_then(readable),
                };
            }
            changes.push(change);
        }
        Ok(changes)
    }

    /// What an object holds; nothing if that is no text.
    fn text(&self, id: &str) -> Option<String> {
        let output = self.git(&["cat-file", "blob", id]).output().ok()?;
        readable(output.stdout).filter(|_| output.status.success())
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.git(arguments).output().context("git cannot be run; is it installed?")?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("git {}: {}", arguments[0], error.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
        git.args(["-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "-C"]);
        git.arg(&self.root).args(arguments);
        git
    }
}

fn readable(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| text.len() <= MOST_BYTES && !text.contains('\0'))
}
