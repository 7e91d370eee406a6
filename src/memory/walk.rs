//! The files of a workspace that are worth remembering: ignore rules, sizes, names and contents decide.
//! Links are not followed, so that no loop and no file outside is read.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::workspace::{holds_secret, is_secret_file};

/// Larger files are data.
const MAX_BYTES: u64 = 400_000;
/// Bytes of an average line from which a file was not written by hand.
const LONG_LINES: usize = 300;
/// Names of files that programs write.
const GENERATED: [&str; 8] =
    [".lock", "-lock.json", ".min.js", ".min.css", ".map", ".svg", ".csv", ".snap"];

/// A file that may be worth reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFile {
    /// Its path below the root, with `/`.
    pub name: String,
    /// Changes when the file does: its size and time.
    pub state: u64,
}

/// All such files below `root`, sorted by name. What cannot be read is said in the log and left out.
pub fn walk(root: &Path) -> Vec<FoundFile> {
    let mut builder = ignore::WalkBuilder::new(root);
    // A folder without git has its ignore files respected, too.
    builder.require_git(false).follow_links(false);
    let mut files = Vec::new();
    for entry in builder.build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                tracing::info!("the index leaves out what cannot be read: {error}");
                continue;
            }
        };
        if !entry.file_type().is_some_and(|t| t.is_file()) {
            continue;
        }
        let (Some(name), Ok(metadata)) = (name_below(root, entry.path()), entry.metadata()) else {
            continue;
        };
        if is_worth(&name) && (1..=MAX_BYTES).contains(&metadata.len()) {
            files.push(FoundFile { name, state: state(&metadata) });
        }
    }
    files.sort_unstable();
    files
}

/// The name under which the memory knows a file.
pub fn name_below(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).ok()?;
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// The text of a file, or why it is not remembered.
pub fn read(root: &Path, name: &str) -> Result<String, String> {
    let path: PathBuf = name.split('/').fold(root.to_path_buf(), |path, part| path.join(part));
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(|e| e.to_string())?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err("it is no regular file".into());
    }
    // It may grow while it is read.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    match unfit(&text) {
        Some(reason) => Err(reason.into()),
        None => Ok(text),
    }
}

/// Why a text is not remembered, if so.
pub fn unfit(text: &str) -> Option<&'static str> {
    if text.len() as u64 > MAX_BYTES {
        Some("it is too large")
    } else if text.contains('\0') {
        Some("it is binary")
    } else if text.len() / (text.lines().count().max(1)) > LONG_LINES {
        Some("its lines are too long")
    } else if holds_secret(text) {
        Some("it may hold a secret")
    } else {
        None
    }
}

fn is_worth(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let lower = file.to_lowercase();
    !is_secret_file(file) && !GENERATED.iter().any(|end| lower.ends_with(end))
}

fn state(metadata: &Metadata) -> u64 {
    let time = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let nanos = time.map_or(0, |t| t.as_nanos() as u64);
    nanos.rotate_left(20) ^ metadata.len()
}
