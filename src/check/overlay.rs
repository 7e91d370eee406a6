//! A copy of a workspace that checkers and tests may do with as they like.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Checker, Diagnostic, Ended, Finished, Program};

/// Bytes that are copied at most.
pub const MOST_BYTES: u64 = 500_000_000;
const MOST_FILES: usize = 60_000;
/// Folders that ignore rules leave out and that checkers need; they are linked, not copied.
const LINKED: [&str; 4] = ["node_modules", ".venv", "venv", "vendor"];
/// Files beside a single one that are copied with it.
const MOST_BESIDE: usize = 200;

/// A copy of a folder; gone when it is dropped.
#[derive(Debug)]
pub struct Overlay {
    folder: TempDir,
    root: PathBuf,
    /// Where compilers put what they make; kept from one copy to the next if there is a place.
    target: PathBuf,
    /// What was copied: paths below the root.
    copied: Vec<PathBuf>,
    /// How long that took.
    cost: Duration,
}

impl Overlay {
    /// Copies what git would track of `root`, unchanged. `store` is where compilers may keep what they make.
    ///
    /// # Errors
    /// Too much to copy, no room, files that cannot be read.
    pub fn of_project(root: &Path, store: Option<&Path>) -> Result<Overlay> {
        let start = Instant::now();
        let mut overlay = Overlay::empty(root, store)?;
        let mut builder = ignore::WalkBuilder::new(root);
        builder.hidden(false).require_git(false).follow_links(false);
        builder.filter_entry(|entry| entry.file_name() != ".git");
        let (mut files, mut bytes) = (0, 0);
        let (path, mut copied) = (overlay.path().to_path_buf(), Vec::new());
        let mut take = |name: &Path| {
            let from = root.join(name);
            (files, bytes) = (files + 1, bytes + from.metadata().map_or(0, |m| m.len()));
            if files > MOST_FILES || bytes > MOST_BYTES {
                bail!(
                    "{} is too large to be copied for checks: more than {MOST_FILES} files or {} MB",
                    root.display(),
                    MOST_BYTES / 1_000_000
                );
            }
            copied.push(name.to_path_buf());
            copy(&from, &path.join(name), store.is_none())
        };
        for entry in builder.build() {
            let Ok(entry) = entry else { continue };
            let Some(kind) = entry.file_type() else { continue };
            let Ok(below) = entry.path().strip_prefix(root) else { continue };
            if kind.is_dir() {
                fs::create_dir_all(path.join(below))?;
            } else if kind.is_file() {
                take(below)?;
            }
        }
        // What is tracked counts, whatever an ignore rule says.
        for name in tracked(root) {
            let is_file = root.join(&name).symlink_metadata().is_ok_and(|m| m.is_file());
            if is_file && !path.join(&name).exists() {
                take(&name)?;
            }
        }
        link_all(root, &path);
        (overlay.copied, overlay.cost) = (copied, start.elapsed());
        Ok(overlay)
    }

    /// A second copy, for what is tried beside: of the same files as they stand in this one now, without what was made there.
    ///
    /// # Errors
    /// A full disk.
    pub fn again(&self) -> Result<Overlay> {
        let second = Overlay::empty(&self.root, None)?;
        for name in &self.copied {
            let from = self.path().join(name);
            // A command may have removed it.
            if from.is_file() {
                copy(&from, &second.path().join(name), true)?;
            }
        }
        link_all(&self.root, second.path());
        Ok(second)
    }

    /// Whether a second copy is worth its while for something that takes so long: not where a compiler has kept what it
    /// made, all of which it would make anew.
    pub fn is_worth_another(&self, seconds: Duration) -> bool {
        !self.target.exists() && seconds > 2 * self.cost
    }

    /// A text in which paths are those of the project, not of this copy.
    pub fn relative(&self, text: &str) -> String {
        super::output::relative(self.path(), text)
    }

    /// Copies a file and those of its kind beside it.
    ///
    /// # Errors
    /// See [`Overlay::of_project`].
    pub fn of_file(file: &Path, store: Option<&Path>) -> Result<Overlay> {
        let start = Instant::now();
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut overlay = Overlay::empty(folder, store)?;
        let alike = |path: &PathBuf| path.is_file() && path.extension() == file.extension();
        let beside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in beside.filter(alike).take(MOST_BESIDE).chain([file.to_path_buf()]) {
            if let Some(name) = path.file_name() {
                copy(&path, &overlay.folder.path().join(name), store.is_none())?;
                overlay.copied.push(name.into());
            }
        }
        overlay.cost = start.elapsed();
        Ok(overlay)
    }

    fn empty(root: &Path, store: Option<&Path>) -> Result<Overlay> {
        let folder = tempfile::Builder::new().prefix("nestling-check-").tempdir();
        let folder = folder.context("cannot make a folder for checks; free some space")?;
        let target = match store {
            Some(store) => store.to_path_buf(),
            None => folder.path().join(".nestling-target"),
        };
        let (copied, cost) = (Vec::new(), Duration::ZERO);
        Ok(Overlay { folder, root: root.to_path_buf(), target, copied, cost })
    }

    /// The folder that was copied.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The copy.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes one file of the copy; `name` is its path below the root.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        forget_bytecode(&path);
        fs::write(&path, text)
            .with_context(|| format!("cannot write {}; free some space", path.display()))
    }

    /// Runs a command in the copy.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(
        &self,
        program: &Program,
        limit: Duration,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Finished> {
        let variables = [("CARGO_TARGET_DIR", self.target.as_path())];
        let finished = program.run(self.folder.path(), &variables, limit, is_wanted);
        finished.with_context(|| format!("cannot run {program:?}"))
    }

    /// What a checker says of the project, or of the file `name`.
    ///
    /// # Errors
    /// It cannot be started, hangs, or prints what cannot be understood.
    pub fn check(
        &self,
        checker: &Checker,
        name: &str,
        limit: Duration,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Diagnostic>> {
        let out = self.folder.path().join(".nestling-out");
        let word = |word: &&str| match *word {
            "{file}" => name.to_string(),
            "{out}" => out.display().to_string(),
            other => other.to_string(),
        };
        let program = Program::Direct(checker.command.iter().map(word).collect());
        let finished = self.run(&program, limit, is_wanted)?;
        match finished.end {
            Ended::OutOfTime => bail!("{} took more than {} s", checker.name, limit.as_secs_f32()),
            Ended::Cancelled => bail!("cancelled"),
            Ended::Itself(success) => {
                let found = checker.format.read(&finished, self.folder.path(), name);
                if !success && found.iter().all(|d| !d.is_error) {
                    let says = finished.stderr.lines().chain(finished.stdout.lines());
                    let says =
                        says.map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
                    bail!("{} failed and said: {says}", checker.name);
                }
                Ok(found)
            }
        }
    }
}

/// The files that git tracks below a folder; none without git.
fn tracked(root: &Path) -> Vec<PathBuf> {
    let mut git = std::process::Command::new("git");
    git.args(["-c", "safe.directory=*", "-C"]).arg(root).args(["ls-files", "-z"]);
    let names = git.output().map(|output| output.stdout).unwrap_or_default();
    names
        .split(|&b| b == 0)
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|n| !n.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Copies a file, with its time unless a compiler may still know another text of that time by this name.
fn copy(from: &Path, to: &Path, keeps_time: bool) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    // The user's file may be read-only; the copy is ours.
    let mut permissions = fs::metadata(to)?.permissions();
    if permissions.readonly() {
        #[cfg(unix)]
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        #[cfg(not(unix))]
        permissions.set_readonly(false);
        fs::set_permissions(to, permissions)?;
    }
    // Build tools trust times.
    if !keeps_time && from.extension().is_some_and(|extension| extension == "rs") {
        return Ok(());
    }
    let time = fs::metadata(from)?.modified()?;
    let _ = fs::File::options().write(true).open(to).and_then(|file| file.set_modified(time));
    Ok(())
}

/// Removes what Python compiled a file to: it trusts that for any text of the same length and second.
fn forget_bytecode(file: &Path) {
    let stem = file.extension().filter(|e| *e == "py").and(file.file_stem());
    let (Some(folder), Some(stem)) = (file.parent(), stem) else { return };
    let start = format!("{}.", stem.to_string_lossy());
    for entry in fs::read_dir(folder.join("__pycache__")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn link_all(root: &Path, copy: &Path) {
    for name in LINKED {
        let (from, to) = (root.join(name), copy.join(name));
        if from.is_dir() && !to.exists() {
            link(&from, &to);
        }
    }
}

fn link(from: &Path, to: &Path) {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(from, to);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_dir(from, to);
    if let Err(error) = linked {
        tracing::info!("{} is not linked: {error}", from.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_what_git_would_track_and_the_original_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("src/deep")).unwrap();
        fs::create_dir_all(root.join("node_modules/x")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        for (name, text) in [
            (".gitignore", "target\nnode_modules\n"),
            ("src/deep/a.py", "x = 1\n"),
            ("node_modules/x/i.js", "1"),
            ("target/b.py", "y"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            assert!(git.arg("-C").arg(root).args(arguments).status().unwrap().success());
        };
        git(&["init", "-q"]);
        fs::write(root.join("target/kept.py"), "z").unwrap();
        git(&["add", "-f", "target/kept.py"]);
        let overlay = Overlay::of_project(root, None).unwrap();
        let read = |name: &str| fs::read_to_string(overlay.path().join(name)).ok();
        assert_eq!(read("target/kept.py").as_deref(), Some("z"));
        assert_eq!(read("src/deep/a.py").as_deref(), Some("x = 1\n"));
        assert_eq!(read("target/b.py"), None);
        assert_eq!(read("node_modules/x/i.js").as_deref(), Some("1"));
        let compiled = "src/deep/__pycache__/a.cpython-311.pyc";
        let other = "src/deep/__pycache__/ab.cpython-311.pyc";
        fs::create_dir_all(overlay.path().join("src/deep/__pycache__")).unwrap();
        for name in [compiled, other] {
            fs::write(overlay.path().join(name), "").unwrap();
        }
        overlay.write("src/deep/a.py", "x = 2\n").unwrap();
        assert_eq!((read(compiled), read(other).as_deref()), (None, Some("")));
        assert_eq!(fs::read_to_string(root.join("src/deep/a.py")).unwrap(), "x = 1\n");
        // Another one has what was copied, as it stands, and nothing that was made.
        let second = overlay.again().unwrap();
        let read = |name: &str| fs::read_to_string(second.path().join(name)).ok();
        assert_eq!(read("target/kept.py").as_deref(), Some("z"));
        assert_eq!(read("src/deep/a.py").as_deref(), Some("x = 2\n"));
        assert_eq!(read("node_modules/x/i.js").as_deref(), Some("1"));
        assert_eq!(read(other), None);
        let path = overlay.path().to_path_buf();
        drop(overlay);
        assert!(!path.exists() && root.join("node_modules/x/i.js").exists());
    }
}
