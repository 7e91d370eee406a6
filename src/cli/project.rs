//! A project on which commands work: a copy of it, what may be run there, and how files are shown and written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use similar::TextDiff;

use super::complete::repository;
use crate::check::{Checker, Overlay, Program};
use crate::memory::walk;
use crate::store::{Store, checks_folder};
use crate::syntax::Language;

/// The files that paths stand for, and whether each was found in a folder; a message if one is not there, or if a `line`
/// is asked about that could be one of several files.
pub(super) fn files(paths: &[PathBuf], line: Option<u64>) -> Result<Vec<(PathBuf, bool)>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(format!("{}: no such file or folder", path.display()));
        }
        if !path.is_dir() {
            files.push((path.clone(), false));
            continue;
        }
        let known = |name: &str| Language::by_path(Path::new(name)).is_some();
        let found = walk::walk(path).into_iter().filter(|file| known(&file.name));
        files.extend(found.map(|file| (path.join(&file.name), true)));
    }
    if line.is_some() && !matches!(files.as_slice(), [(_, false)]) {
        return Err("--line goes with one file".into());
    }
    Ok(files)
}

/// The root of the project that a file is checked in, with commands of the user the repository; none for a file on its
/// own.
pub(super) fn root_of(file: &Path, language: Option<&Language>, commands: bool) -> Option<PathBuf> {
    if commands {
        // Commands name files from here; nobody wants all of a home folder copied.
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).ok();
        let here =
            here.filter(|here| file.starts_with(here) && dirs::home_dir().as_ref() != Some(here));
        return repository(file).or(here);
    }
    Checker::project_root(file, &repository(file)?, language?.name)
}

/// A copy of a project, and what may be run in it.
pub(super) struct Project {
    pub(super) root: PathBuf,
    pub(super) overlay: Overlay,
    kept: Option<PathBuf>,
    is_trusted: bool,
    alone: bool,
    file: PathBuf,
}

impl Project {
    /// The project at `root`, or the file alone.
    pub(super) fn new(root: Option<&Path>, file: &Path) -> Result<Project> {
        let trust = Store::of_user().map(|store| store.workspace(root.unwrap_or(file)));
        let is_trusted = trust.is_some_and(|workspace| workspace.is_trusted());
        // What compilers make is kept, so that the second time is quick.
        let kept = root.and_then(checks_folder);
        let overlay = match root {
            Some(root) => Overlay::of_project(root, kept.as_deref())?,
            None => Overlay::of_file(file, None)?,
        };
        let (root, alone) = (overlay.root().to_path_buf(), root.is_none());
        Ok(Project { root, overlay, kept, is_trusted, alone, file: file.to_path_buf() })
    }

    /// One more copy, which makes what it makes apart from the first.
    pub(super) fn another_copy(&self) -> Result<Overlay> {
        if self.alone {
            return Overlay::of_file(&self.file, None);
        }
        let kept = self.kept.as_ref().map(|kept| kept.with_extension("before"));
        Overlay::of_project(&self.root, kept.as_deref())
    }

    /// A command line of the user: it runs where it would have run.
    pub(super) fn program(&self, line: &str) -> Program {
        let here = std::env::current_dir().unwrap_or_default();
        let here = here.canonicalize().unwrap_or(here);
        let below = here.strip_prefix(&self.root).unwrap_or(Path::new(""));
        if below.as_os_str().is_empty() {
            return Program::Shell(line.to_string());
        }
        Program::Shell(format!(
            "cd '{}' && {line}",
            below.display().to_string().replace('\'', r"'\''")
        ))
    }

    /// The checkers for a language that may be run, and words about those that may not.
    pub(super) fn checkers(&self, language: &Language) -> (Vec<&'static Checker>, Vec<String>) {
        self.allowed(Checker::of(&self.root, language.name))
    }

    /// Of some checkers those that may be run, and words about the others.
    pub(super) fn allowed(
        &self,
        mut checkers: Vec<&'static Checker>,
    ) -> (Vec<&'static Checker>, Vec<String>) {
        let mut withheld = Vec::new();
        checkers.retain(|checker| {
            let allowed = self.is_trusted || !checker.runs_code;
            if !allowed {
                withheld.push(format!(
                    "{} is not run, because it runs code of the project: allow it with nestling trust {}",
                    checker.name,
                    self.root.display()
                ));
            }
            allowed
        });
        (checkers, withheld)
    }
}

/// Writes a changed file, unless somebody else has.
pub(super) fn write(path: &Path, before: &str, after: &str) -> Result<()> {
    let now =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mark = if now.starts_with('\u{feff}') { "\u{feff}" } else { "" };
    if now[mark.len()..] != *before {
        bail!("{} was changed meanwhile and is left alone: run the command again", path.display());
    }
    let permissions = std::fs::metadata(path)?.permissions();
    if permissions.readonly() {
        bail!("{} is read-only and is left alone", path.display());
    }
    // A link stays one.
    let place = std::fs::canonicalize(path)?;
    crate::files::write(&place, format!("{mark}{after}").as_bytes())?;
    std::fs::set_permissions(&place, permissions)?;
    Ok(())
}

/// A unified diff of a file.
pub(super) fn diff(path: &Path, before: &str, after: &str) -> String {
    let name = path.display().to_string();
    let name = name.trim_start_matches('/');
    let (old, new) = (format!("a/{name}"), format!("b/{name}"));
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(3)
        .header(&old, &new)
        .to_string()
}
