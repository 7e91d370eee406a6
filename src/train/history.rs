//! What git knows of a repository's past: its commits, what changed between two of them, the files as
//! they were.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::filter;
use super::sources::Source;

/// What changed in one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Path inside the repository, with `/`.
    pub path: String,
    /// From the top of the file down.
    pub hunks: Vec<Hunk>,
}

/// Lines, from 0, that were replaced by others; either side may be empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Hunk {
    /// Lines of the file before.
    pub old: Range<usize>,
    /// Lines of the file after.
    pub new: Range<usize>,
}

impl Source {
    /// Commits of the first-parent history.
    ///
    /// # Errors
    /// A repository without a commit.
    pub fn commits(&self) -> Result<usize> {
        let count = ["rev-list", "--first-parent", "--count", self.commit(), "--"];
        let count = self.git_output(&count).with_context(|| {
            format!("{} has no commit yet: commit something first", self.root.display())
        })?;
        Ok(count.trim().parse().unwrap_or(0))
    }

    /// The commit at `share` (0 to 1) of the first-parent history, at least one before its end.
    pub fn commit_at(&self, share: f64) -> Result<String> {
        let log =
            self.git_output(&["rev-list", "--first-parent", "--reverse", self.commit(), "--"])?;
        let commits: Vec<&str> = log.lines().collect();
        if commits.len() < 2 {
            bail!("{} has no history: nothing was added to it", self.root.display());
        }
        let count = (share * commits.len() as f64).ceil() as usize;
        Ok(commits[count.clamp(1, commits.len() - 1) - 1].to_string())
    }

    /// The last commits that are no merges, have a parent and touch paths that match one of `patterns`
    /// (git's pathspecs); newest first.
    pub fn last_commits(&self, count: usize, patterns: &[String]) -> Result<Vec<String>> {
        let count = format!("--max-count={count}");
        let fixed = ["log", "--no-merges", "--min-parents=1", "--format=%H", &count, self.commit()];
        let patterns = patterns.iter().map(String::as_str);
        let arguments: Vec<&str> = fixed.into_iter().chain(["--"]).chain(patterns).collect();
        Ok(self.git_output(&arguments)?.lines().map(String::from).collect())
    }

    /// What differs between two commits, in files that exist after and may be worth reading. What was moved
    /// to another path as it was did not change. A file that git cannot compare, because a clone lacks its
    /// content, is left out with a word in the log.
    pub fn changes(&self, from: &str, to: &str) -> Result<Vec<Change>> {
        let options =
            |renames| ["--no-color", "--no-ext-diff", "--no-textconv", renames, from, to, "--"];
        let list = |renames| {
            let list = ["diff", "--raw", "-z", "--diff-filter=AMR"];
            self.git_output(&[&list[..], &options(renames)].concat())
        };
        // A clone that lacks contents can still tell what was moved unchanged.
        let (list, options) = match list("-M") {
            Ok(found) => (found, options("-M")),
            Err(_) => (list("-M100%")?, options("-M100%")),
        };
        let mut fields = list.split('\0');
        let mut changes = Vec::new();
        while let Some((header, old)) = fields.next().zip(fields.next()) {
            let renamed = header.rsplit(' ').next().is_some_and(|status| status.starts_with('R'));
            let new = if renamed { fields.next().unwrap_or(old) } else { old };
            if filter::by_path(new).is_err() {
                continue;
            }
            // Brackets in a path are no pattern.
            let [old, path] = [old, new].map(|path| format!(":(literal){path}"));
            match self.git_output(&[&["diff", "-U0"], &options[..], &[&old, &path]].concat()) {
                Ok(diff) => changes.push(Change { path: new.to_string(), hunks: hunks(&diff) }),
                Err(error) => tracing::warn!("{new} was not compared: {error:#}"),
            }
        }
        Ok(changes)
    }

    /// A file as of a commit; nothing for what is not text.
    pub fn text_at(&self, commit: &str, path: &str) -> Result<Option<String>> {
        let name = format!("{commit}:{path}");
        let output = self.git(&["cat-file", "blob", &name]).output().context("cannot run git")?;
        let found = output.status.success().then_some(output.stdout);
        Ok(found.and_then(|content| filter::decode(content).ok()))
    }

    /// Writes all files of a commit below a folder.
    pub fn check_out(&self, commit: &str, folder: &Path) -> Result<()> {
        let mut archive = self.git(&["archive", "--format=tar", commit]);
        let mut archive = archive
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run git")?;
        let output = archive.stdout.take().context("git has no stdout")?;
        let mut tar = Command::new("tar");
        let done = tar.args(["-x", "-f", "-", "-C"]).arg(folder).stdin(output).output();
        let written = archive.wait()?.success();
        let done = done.context("cannot run tar")?;
        if !written || !done.status.success() {
            let error = String::from_utf8_lossy(&done.stderr);
            bail!("{}: cannot check {commit} out: {}", self.root.display(), error.trim());
        }
        Ok(())
    }
}

/// Reads the diff of one file without context.
fn hunks(diff: &str) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    // Lines of a hunk still to come: what looks like a header there is none.
    let mut inside = 0;
    for line in diff.lines() {
        if inside > 0 {
            inside -= usize::from(line.starts_with(['+', '-']));
        } else if let Some(hunk) = line.strip_prefix("@@ -").and_then(hunk) {
            inside = hunk.old.len() + hunk.new.len();
            hunks.push(hunk);
        }
    }
    hunks
}

/// `12,3 +14 @@ …`: a side without lines names the line before it.
fn hunk(header: &str) -> Option<Hunk> {
    let (old, rest) = header.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let range = |side: &str| {
        let (first, count) = side.split_once(',').unwrap_or((side, "1"));
        let (first, count): (usize, usize) = (first.parse().ok()?, count.parse().ok()?);
        let first = if count == 0 { first } else { first.checked_sub(1)? };
        Some(first..first + count)
    };
    Some(Hunk { old: range(old)?, new: range(new)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_are_counted_from_zero_and_their_lines_are_no_headers() {
        let diff = "diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n@@ -2,0 +3,2 @@ fn\n++x\n\
                    +@@ -1 +1 @@\n@@ -9 +11,0 @@\n-gone\n\\ No newline at end of file\n";
        assert_eq!(hunks(diff), [Hunk { old: 2..2, new: 2..4 }, Hunk { old: 8..9, new: 11..11 }]);
    }
}
