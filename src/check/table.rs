//! The table of checkers: one row for each. To add one, add a row; `output` holds the formats.

use std::path::{Path, PathBuf};

use super::Format;

/// A checker and how it is run.
#[derive(Debug)]
pub struct Checker {
    /// What it is called.
    pub name: &'static str,
    /// Languages whose files it checks.
    pub languages: &'static [&'static str],
    /// A file at the root of a project that it needs; `None` checks files one by one.
    pub project: Option<&'static str>,
    /// The program and its arguments; `{file}` is the path of a file below the root, `{out}` a place for what is
    /// written and not wanted.
    pub command: &'static [&'static str],
    /// How its output is read.
    pub format: Format,
    /// Whether it runs code of the project, as build scripts and macros; then the workspace must be trusted.
    pub runs_code: bool,
}

/// All of them; of those with a project, the first that fits a file is asked, and of the others all that are installed.
pub static CHECKERS: [Checker; 12] = [
    Checker {
        name: "cargo check",
        languages: &["rust"],
        project: Some("Cargo.toml"),
        command: &["cargo", "check", "--quiet", "--all-targets", "--message-format=json"],
        format: Format::Cargo,
        runs_code: true,
    },
    Checker {
        name: "rustc",
        languages: &["rust"],
        project: None,
        command: &[
            "rustc",
            "--edition=2024",
            "--error-format=json",
            "--emit=metadata",
            "--test",
            "-o",
            "{out}",
            "{file}",
        ],
        format: Format::Rustc,
        runs_code: false,
    },
    Checker {
        name: "python",
        languages: &["python"],
        project: None,
        command: &["python3", "-m", "py_compile", "{file}"],
        format: Format::Python,
        runs_code: false,
    },
    Checker {
        name: "ruff",
        languages: &["python"],
        project: None,
        command: &[
            "ruff",
            "check",
            "--no-cache",
            "--output-format=json",
            "--select=E9,F",
            "{file}",
        ],
        format: Format::Ruff,
        runs_code: false,
    },
    Checker {
        name: "pyright",
        languages: &["python"],
        project: None,
        command: &["pyright", "--outputjson", "{file}"],
        format: Format::Pyright,
        runs_code: false,
    },
    Checker {
        name: "tsc",
        languages: &["typescript", "tsx", "javascript"],
        project: Some("tsconfig.json"),
        command: &["tsc", "--noEmit", "--pretty", "false", "--project", "."],
        format: Format::Tsc,
        runs_code: false,
    },
    Checker {
        name: "tsc",
        languages: &["typescript", "tsx"],
        project: None,
        command: &["tsc", "--noEmit", "--pretty", "false", "{file}"],
        format: Format::Tsc,
        runs_code: false,
    },
    Checker {
        name: "node",
        languages: &["javascript"],
        project: None,
        command: &["node", "--check", "{file}"],
        format: Format::Node,
        runs_code: false,
    },
    Checker {
        name: "go vet",
        languages: &["go"],
        project: Some("go.mod"),
        command: &["go", "vet", "./..."],
        format: Format::Lines,
        runs_code: true,
    },
    Checker {
        name: "gcc",
        languages: &["c"],
        project: None,
        command: &["gcc", "-fsyntax-only", "-fdiagnostics-format=json", "{file}"],
        format: Format::Gcc,
        runs_code: false,
    },
    Checker {
        name: "g++",
        languages: &["cpp"],
        project: None,
        command: &["g++", "-fsyntax-only", "-fdiagnostics-format=json", "{file}"],
        format: Format::Gcc,
        runs_code: false,
    },
    Checker {
        name: "clang",
        languages: &["c", "cpp"],
        project: None,
        command: &["clang", "-fsyntax-only", "{file}"],
        format: Format::Lines,
        runs_code: false,
    },
];

/// Linters whose proposals make code faster. What they do not know how to mend is left out.
pub static LINTERS: [Checker; 2] = [
    Checker {
        name: "ruff",
        languages: &["python"],
        project: None,
        command: &[
            "ruff",
            "check",
            "--no-cache",
            "--unsafe-fixes",
            "--output-format=json",
            "--select=PERF,C4,RUF015,RUF017",
            "{file}",
        ],
        format: Format::Ruff,
        runs_code: false,
    },
    Checker {
        name: "clippy",
        languages: &["rust"],
        project: Some("Cargo.toml"),
        command: &[
            "cargo",
            "clippy",
            "--quiet",
            "--all-targets",
            "--message-format=json",
            "--",
            "--allow=clippy::all",
            "--warn=clippy::perf",
        ],
        format: Format::Cargo,
        runs_code: true,
    },
];

impl Checker {
    /// Linters for files of `language` below `root`.
    pub fn linters(root: &Path, language: &str) -> Vec<&'static Checker> {
        LINTERS.iter().filter(|linter| linter.fits(root, language)).collect()
    }

    fn fits(&self, root: &Path, language: &str) -> bool {
        let project = self.project.is_none_or(|file| root.join(file).exists());
        self.languages.contains(&language) && project && installed(self.command[0]).is_some()
    }

    /// Of the folders around a file, from `within` down, the outermost that is a project which a checker of `language`
    /// looks at as a whole: members of a workspace are checked with it.
    pub fn project_root(file: &Path, within: &Path, language: &str) -> Option<PathBuf> {
        let wanted = CHECKERS.iter().filter(|checker| checker.languages.contains(&language));
        let marks: Vec<&str> = wanted.filter_map(|checker| checker.project).collect();
        let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(within));
        let projects = folders.filter(|f| marks.iter().any(|mark| f.join(mark).exists()));
        projects.last().map(Path::to_path_buf)
    }

    /// Those that can check a file of `language` below `root`: installed, and with their project. Where one of a
    /// project is there, those of single files have nothing to add.
    pub fn of(root: &Path, language: &str) -> Vec<&'static Checker> {
        let mut found: Vec<&Checker> =
            CHECKERS.iter().filter(|checker| checker.fits(root, language)).collect();
        if found.iter().any(|checker| checker.project.is_some()) {
            found.retain(|checker| checker.project.is_some());
        }
        // Two compilers of one language would say the same twice.
        if found.iter().any(|checker| checker.format == Format::Gcc) {
            found.retain(|checker| checker.name != "clang");
        }
        found
    }
}

/// Where a program is, by `PATH`.
pub fn installed(program: &str) -> Option<PathBuf> {
    let names = match cfg!(windows) {
        true => vec![format!("{program}.exe"), format!("{program}.cmd")],
        false => vec![program.to_string()],
    };
    let folders = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&folders);
    places.flat_map(|folder| names.iter().map(move |n| folder.join(n))).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Language;

    #[test]
    fn every_row_speaks_of_languages_that_there_are_and_names_its_file_or_project() {
        for checker in CHECKERS.iter().chain(&LINTERS) {
            assert!(checker.languages.iter().all(|l| Language::by_name(l).is_some()));
            let by_file = checker.command.contains(&"{file}");
            assert_ne!(by_file, checker.project.is_some(), "{}", checker.name);
        }
    }

    #[test]
    fn a_project_is_checked_as_a_whole_and_a_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            || Checker::of(folder.path(), "rust").iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(names(), ["rustc"]);
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        assert_eq!(names(), ["cargo check"]);
        assert!(Checker::of(folder.path(), "markdown").is_empty());
    }
}
