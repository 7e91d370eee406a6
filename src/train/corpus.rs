//! Source files worth learning from: walks folders and git directories and says what it dropped.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::syntax::Language;

/// One text of the corpus.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Path inside its repository, with `/`.
    pub path: String,
    /// Name of the repository or folder it came from.
    pub repository: String,
    /// Name of its language.
    pub language: &'static str,
    /// The text.
    pub text: String,
}

/// How many files were kept and why the others were not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CorpusReport {
    /// Files kept.
    pub kept: usize,
    /// Bytes kept by language.
    pub bytes: BTreeMap<&'static str, usize>,
    /// Files dropped by reason.
    pub dropped: BTreeMap<&'static str, usize>,
}

/// Folders whose content is not written by the people of the repository, or not as code.
const FOREIGN_FOLDERS: [&str; 14] = [
    "vendor",
    "third_party",
    "node_modules",
    "dist",
    "build",
    "generated",
    "testdata",
    "fixtures",
    "snapshots",
    "__snapshots__",
    "migrations",
    "locale",
    "target",
    ".git",
];
/// Nothing larger is read; line ends of two bytes at most double a text.
const MAX_READ_BYTES: usize = 200_000;
const SECRET_NAMES: [&str; 6] = [".env", ".pem", ".key", "id_rsa", "credentials", ".netrc"];
/// Notices that make a file unusable inside an otherwise permissive repository.
const REFUSED_LICENCES: [&str; 9] = [
    "general public license",
    "gnu affero",
    "gpl-2.0",
    "gpl-3.0",
    "mozilla public license",
    "creative commons",
    "cc-by",
    "cc by",
    "all rights reserved. proprietary",
];
const GENERATED_MARKS: [&str; 3] = ["@generated", "Code generated", "DO NOT EDIT"];

/// Collects files from several roots; exact duplicates count once over all of them.
#[derive(Default)]
pub struct Corpus {
    /// What was kept so far.
    pub files: Vec<SourceFile>,
    /// What was dropped so far.
    pub report: CorpusReport,
    seen: HashSet<u64>,
}

impl Corpus {
    /// Adds a folder, or a git repository (with or without a work tree) as of its HEAD.
    pub fn add(&mut self, root: &Path) -> Result<()> {
        if !root.exists() {
            bail!("{}: no such file or folder", root.display());
        }
        let bare = root.join("HEAD").is_file() && root.join("objects").is_dir();
        if bare || root.join(".git").exists() { self.add_git(root) } else { self.add_folder(root) }
    }

    fn add_folder(&mut self, root: &Path) -> Result<()> {
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut paths: Vec<PathBuf> = ignore::WalkBuilder::new(root)
            .build()
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_some_and(|t| t.is_file()))
            .map(|entry| entry.into_path())
            .collect();
        paths.sort();
        for path in paths {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let relative = relative.to_string_lossy().replace('\\', "/");
            let Some(language) = self.admit_path(&relative) else { continue };
            if path.metadata().is_ok_and(|m| m.len() > MAX_READ_BYTES as u64) {
                self.drop("longer than 100 KB");
            } else if let Ok(content) = std::fs::read(&path) {
                self.admit(&name, relative, language, content);
            }
        }
        Ok(())
    }

    /// Reads blobs straight from the object store: nothing is checked out.
    fn add_git(&mut self, root: &Path) -> Result<()> {
        let name = repository_name(root);
        let listing =
            git(root).args(["ls-tree", "-r", "-z", "HEAD"]).output().context("cannot run git")?;
        if !listing.status.success() {
            bail!("{}: {}", root.display(), String::from_utf8_lossy(&listing.stderr).trim());
        }
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let mut wanted = Vec::new();
        for entry in listing.split('\0') {
            let Some((meta, path)) = entry.split_once('\t') else { continue };
            let mut fields = meta.split(' ');
            let (Some("100644" | "100755"), Some("blob"), Some(id)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if let Some(language) = self.admit_path(path) {
                wanted.push((id.to_string(), path.to_string(), language));
            }
        }
        let mut child = git(root)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = child.stdin.take().context("git has no stdin")?;
        let ids: Vec<String> = wanted.iter().map(|(id, ..)| format!("{id}\n")).collect();
        let writer = std::thread::spawn(move || {
            ids.iter().try_for_each(|id| input.write_all(id.as_bytes()))
        });
        let mut output = BufReader::new(child.stdout.take().context("git has no stdout")?);
        for (_, path, language) in wanted {
            let mut header = String::new();
            if output.read_line(&mut header)? == 0 {
                bail!("{}: git ended before all files were read", root.display());
            }
            let size = header.trim_end().rsplit(' ').next().and_then(|s| s.parse::<usize>().ok());
            let Some(size) = size else {
                self.drop("missing object");
                continue;
            };
            if size > MAX_READ_BYTES {
                std::io::copy(&mut output.by_ref().take(size as u64 + 1), &mut std::io::sink())?;
                self.drop("longer than 100 KB");
                continue;
            }
            let mut content = vec![0u8; size];
            output.read_exact(&mut content)?;
            output.read_exact(&mut [0u8])?;
            self.admit(&name, path, language, content);
        }
        let _ = writer.join();
        child.wait()?;
        Ok(())
    }

    fn drop(&mut self, reason: &'static str) {
        *self.report.dropped.entry(reason).or_default() += 1;
    }

    fn admit_path(&mut self, path: &str) -> Option<&'static str> {
        let language = Language::by_path(Path::new(path))?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let lower = name.to_lowercase();
        let reason = if path.split('/').any(|part| FOREIGN_FOLDERS.contains(&part)) {
            "vendored or generated folder"
        } else if SECRET_NAMES.iter().any(|s| lower.ends_with(s)) {
            "may hold secrets"
        } else if lower.contains(".min.") || lower.ends_with("_pb2.py") || lower.contains(".pb.") {
            "generated file"
        } else if lower.ends_with(".lock") || lower == "package-lock.json" {
            "lock file"
        } else {
            return Some(language.name);
        };
        self.drop(reason);
        None
    }

    fn admit(&mut self, repository: &str, path: String, language: &'static str, content: Vec<u8>) {
        let text = match String::from_utf8(content) {
            Ok(text) => text.replace("\r\n", "\n"),
            Err(_) => return self.drop("not UTF-8"),
        };
        if let Some(reason) = unfit(&text) {
            return self.drop(reason);
        }
        use std::hash::{Hash, Hasher};
        let mut hasher = rustc_hash::FxHasher::default();
        text.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return self.drop("exact duplicate");
        }
        self.report.kept += 1;
        *self.report.bytes.entry(language).or_default() += text.len();
        self.files.push(SourceFile { path, repository: repository.to_string(), language, text });
    }
}

/// Why a text is not worth learning from, if so.
fn unfit(text: &str) -> Option<&'static str> {
    if text.len() < 200 {
        return Some("shorter than 200 bytes");
    }
    if text.len() > 100_000 {
        return Some("longer than 100 KB");
    }
    if text.contains('\0') {
        return Some("binary");
    }
    if text.lines().take(10).any(|l| GENERATED_MARKS.iter().any(|mark| l.contains(mark))) {
        return Some("generated file");
    }
    let head: String = text.lines().take(40).collect::<Vec<_>>().join("\n").to_lowercase();
    if REFUSED_LICENCES.iter().any(|licence| head.contains(licence)) {
        return Some("licence that is not permissive");
    }
    if text.contains("PRIVATE KEY-----") {
        return Some("may hold secrets");
    }
    let lines = || text.lines().filter(|l| !l.trim().is_empty());
    if lines().any(|l| l.len() > 400) {
        return Some("line over 400 bytes");
    }
    let mean = text.len() / lines().count().max(1);
    if !(12..=100).contains(&mean) {
        return Some("mean line length");
    }
    if text.bytes().filter(u8::is_ascii_digit).count() * 5 > text.len() {
        return Some("mostly digits");
    }
    None
}

/// git on a repository that is not ours: it fetches nothing and runs nothing that is configured there.
fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none").env_remove("GIT_DIR");
    git.args(["-c", "safe.directory=*", "-C"]).arg(root);
    git
}

/// The folder's own name, or its parent's when it is only called `repo` or `.git`.
fn repository_name(root: &Path) -> String {
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match (name(root).as_str(), root.parent()) {
        ("repo" | ".git" | "repo.git", Some(parent)) => name(parent),
        (own, _) => own.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let code = "fn add(first: i32, second: i32) -> i32 {\n    first + second\n}\n".repeat(5);
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/a.rs", &code);
        write("src/same.rs", &code);
        write("src/short.rs", "fn a() {}");
        write("vendor/b.rs", &format!("// b\n{code}"));
        write("src/made.rs", &format!("// @generated\n{code}"));
        write("src/key.rs", &format!("// -----BEGIN PRIVATE KEY-----\n{code}"));
        write("src/copyleft.rs", &format!("// Under the GNU General Public License\n{code}"));
        write("notes.xyz", &code);
        let mut corpus = Corpus::default();
        corpus.add(folder.path()).unwrap();
        let names: Vec<_> = corpus.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(names, ["src/a.rs"]);
        let reasons: Vec<_> = corpus.report.dropped.clone().into_iter().collect();
        let expected = [
            ("exact duplicate", 1),
            ("generated file", 1),
            ("licence that is not permissive", 1),
            ("may hold secrets", 1),
            ("shorter than 200 bytes", 1),
            ("vendored or generated folder", 1),
        ];
        assert_eq!(reasons, expected);
        assert!(corpus.add(Path::new("/no/such/folder")).is_err());
    }
}
