//! The program as a shell runs it: the binary, the test model, and files to break.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The test model that the repository holds.
pub(crate) fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// A file of the test projects.
pub(crate) fn project(file: &str) -> String {
    format!("{}/tests/data/projects/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A place after a piece of code that a file of the test projects holds once, as FILE:LINE:COL.
#[track_caller]
pub(crate) fn place_after(file: &str, code: &str) -> String {
    let path = project(file);
    let text = std::fs::read_to_string(&path).expect("a file of the test projects");
    let (before, _) = text.split_once(code).unwrap_or_else(|| panic!("{file} has no {code:?}"));
    let before = format!("{before}{code}");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{path}:{line}:{column}")
}

/// The program with the settings of nobody.
pub(crate) fn nestling() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
    command.env_remove("NESTLING_MODEL").env_remove("NESTLING_LOG");
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.env("NESTLING_DATA", Path::new(env!("CARGO_TARGET_TMPDIR")).join("data"));
    command
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Run {
        let Output { status, stdout, stderr } = command.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// A run that succeeds and complains about nothing.
    #[track_caller]
    pub(crate) fn done(self) -> Run {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let value = serde_json::from_str(&self.stdout);
        value.unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// A refusal: this exit code, nothing on stdout, and one line on stderr that holds these words.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.strip_prefix("nestling: ").and_then(|rest| rest.strip_suffix('\n'));
        let line = line.unwrap_or_else(|| panic!("no message of the program: {self:?}"));
        assert!(!line.contains('\n'), "more than one line: {self:?}");
        for word in words {
            assert!(line.contains(word), "{word:?} is missing: {line}");
        }
    }
}

/// The program with the test model and these arguments.
pub(crate) fn run(arguments: &[&str]) -> Run {
    Run::of(nestling().arg("--model").arg(tiny()).args(arguments))
}

/// All files below a directory with their sizes, to see that nothing was written.
pub(crate) fn listing(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a readable directory") {
        let entry = entry.expect("a readable entry");
        let metadata = entry.metadata().expect("metadata");
        if metadata.is_dir() {
            found.extend(listing(&entry.path()));
        }
        found.insert(entry.path(), metadata.len());
    }
    found
}
