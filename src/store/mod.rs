//! The models that were made or brought in for a workspace, and which of them is in use. They lie in the user's
//! data folder, outside of the repository:
//!
//! ```text
//! usage.jsonl                 what became of suggestions, without any text
//! remotes                     servers that code may be sent to, one a line
//! workspaces/NAME-HASH/       one for each workspace
//!     use.json                which model is in use; absent: the one inside the program
//!     root                    the workspace's path, for people
//!     typing                  touched while the user types there
//!     MODEL/                  model.gguf, or a Hugging Face directory
//!         gate.json           optional: how the memory is weighed with this model
//!         confidence.json     optional: how sure its answers are
//!         card.json           optional: what it is and how it was made; figures of the same name in its objects
//!                             `before` and `after` are listed
//! ```
//!
//! Whatever is written is written beside its place and moved there: a reader, and whoever comes after a crash, finds
//! the old state or the new one.

mod typing;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::files;

pub use usage::{Used, habit};

/// The name of the model inside the program.
pub const DEFAULT: &str = "default";
/// Names the folder of all that is kept, in place of the one in the user's data folder.
pub const FOLDER_VARIABLE: &str = "NESTLING_DATA";

const USE_FILE: &str = "use.json";
const ROOT_FILE: &str = "root";
const TYPING_FILE: &str = "typing";
const TRUST_FILE: &str = "trusted";
const REMOTES_FILE: &str = "remotes";
const LONGEST_NAME: usize = 80;

/// All that is kept for all workspaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store in this folder, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store { folder: folder.into() }
    }

    /// The user's store; `None` where there is no data folder.
    pub fn of_user() -> Option<Store> {
        let named = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty());
        let folder = named.map(PathBuf::from).or_else(|| Some(dirs::data_dir()?.join("nestling")));
        folder.map(Store::at)
    }

    /// The file in which the questions of talks are kept.
    pub fn chat_history(&self) -> PathBuf {
        self.folder.join("chat_history")
    }

    /// Whether the user has said that code may be sent to a server: its scheme, host and port.
    pub fn allows_remote(&self, origin: &str) -> bool {
        let noted = fs::read_to_string(self.folder.join(REMOTES_FILE)).unwrap_or_default();
        noted.lines().any(|line| line == origin)
    }

    /// Notes whether code may be sent to a server.
    ///
    /// # Errors
    /// A data folder that cannot be written.
    pub fn allow_remote(&self, origin: &str, is_allowed: bool) -> Result<()> {
        let file = self.folder.join(REMOTES_FILE);
        let noted = fs::read_to_string(&file).unwrap_or_default();
        let mut lines: Vec<&str> = noted.lines().filter(|line| *line != origin).collect();
        if is_allowed {
            lines.push(origin);
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        files::write(&file, text.as_bytes())
    }

    /// The workspace that a folder or file belongs to: its git repository, or the folder itself outside of any.
    /// So every folder of a repository has the same models.
    pub fn workspace(&self, path: &Path) -> Workspace {
        let root = workspace_root(path);
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        let known = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let name: String = name.chars().map(|c| if known(c) { c } else { '_' }).take(40).collect();
        let hash = stable_hash(root.as_os_str().as_encoded_bytes());
        let folder = self.folder.join("workspaces").join(format!("{name}-{hash:016x}"));
        Workspace { root, folder }
    }
}

/// The models of one workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
    folder: PathBuf,
}

/// An installed model. It never changes; another one gets another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// What it is called.
    pub name: String,
    /// Where it lies: a model directory, as `--model` takes it.
    pub folder: PathBuf,
}

/// What a workspace uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The model inside the program.
    Default,
    /// This one.
    Installed(Installed),
    /// One that is not there; the default takes its place.
    Missing {
        /// What is noted.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
}

impl Workspace {
    /// The repository, or the folder outside of any.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its models lie; it need not exist yet.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All installed models by name.
    pub fn models(&self) -> Vec<Installed> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let models = entries.filter(|entry| entry.path().is_dir()).filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            is_name(&name).then(|| Installed { name, folder: entry.path() })
        });
        let mut models: Vec<_> = models.collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    /// The model with this name.
    ///
    /// # Errors
    /// There is none; the message names those that are there.
    pub fn find(&self, name: &str) -> Result<Installed> {
        let models = self.models();
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let known = [&[DEFAULT], &names[..]].concat().join(", ");
        models.iter().find(|model| model.name == name).cloned().with_context(|| {
            format!("no model {name:?} for {}; there are: {known}", self.root.display())
        })
    }

    /// Which model is in use.
    pub fn in_use(&self) -> Choice {
        self.choice(self.use_text().as_deref())
    }

    /// What an earlier [`Workspace::use_text`] says.
    pub fn choice(&self, use_text: Option<&str>) -> Choice {
        let Some(text) = use_text else { return Choice::Default };
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(name) = json["model"].as_str() else {
            let reason = format!("{} cannot be read", self.folder.join(USE_FILE).display());
            return Choice::Missing { name: "?".into(), reason };
        };
        match self.find(name) {
            Ok(model) => Choice::Installed(model),
            Err(error) => Choice::Missing { name: name.into(), reason: error.to_string() },
        }
    }

    /// The file that notes the choice, as it is: it differs after each [`Workspace::set_in_use`]. `None` without one.
    pub fn use_text(&self) -> Option<String> {
        let bytes = fs::read(self.folder.join(USE_FILE)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Notes which model is in use from now on; `None`, and [`DEFAULT`], is the one inside the program. A running
    /// server follows within about a second.
    ///
    /// # Errors
    /// There is no such model, or the note cannot be written: then the old one stays in use.
    pub fn set_in_use(&self, name: Option<&str>) -> Result<()> {
        let file = self.folder.join(USE_FILE);
        let Some(name) = name.filter(|name| *name != DEFAULT) else {
            return match fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(e).with_context(|| format!("cannot remove {}", file.display()))
                }
                _ => Ok(()),
            };
        };
        self.find(name)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let note = json!({ "model": name, "since_ms": since.as_millis() as u64 });
        files::write(&file, note.to_string().as_bytes())
    }

    /// Installs a model: `fill` writes its files into an empty folder, which appears under its name when all of it
    /// is on the disk. It is not in use yet.
    ///
    /// # Errors
    /// The name is taken or none, `fill` fails, or the disk is full: then nothing has changed.
    pub fn install(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Installed> {
        check_name(name)?;
        let folder = self.folder.join(name);
        let taken = || {
            format!(
                "there is already a model {name:?} for {}; give another name or remove it first",
                self.root.display()
            )
        };
        if folder.exists() {
            bail!(taken());
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        files::clear_leftovers(&self.folder);
        files::write(&self.folder.join(ROOT_FILE), self.root.as_os_str().as_encoded_bytes())?;
        let part = files::temporary(&folder);
        let attempt = || -> Result<()> {
            fs::create_dir(&part)?;
            fill(&part)?;
            files::sync_all(&part)?;
            fs::rename(&part, &folder)
                .with_context(|| if folder.exists() { taken() } else { "cannot move it".into() })?;
            files::sync_folder(&self.folder);
            Ok(())
        };
        let installed = attempt();
        if installed.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        installed.with_context(|| format!("the model {name} is not installed"))?;
        Ok(Installed { name: name.into(), folder })
    }

    /// `name`, or the first of `name-2`, `name-3`… that is free. What cannot stand in a name becomes `_`.
    pub fn free_name(&self, name: &str) -> String {
        let clean: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let clean: String = clean.trim_start_matches('.').chars().take(LONGEST_NAME - 8).collect();
        let clean = if clean.is_empty() { "model".into() } else { clean };
        let numbered = (2..).map(|n| format!("{clean}-{n}"));
        let is_free = |name: &String| is_name(name) && !self.folder.join(name).exists();
        std::iter::once(clean.clone()).chain(numbered).find(is_free).unwrap_or(clean)
    }

    /// Removes a model. If it was in use, the default is from then on; true says so.
    ///
    /// # Errors
    /// There is none with this name, or it cannot be moved away.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let model = self.find(name)?;
        let was_in_use = self.in_use() == Choice::Installed(model.clone());
        if was_in_use {
            self.set_in_use(None)?;
        }
        let gone = files::temporary(&model.folder);
        fs::rename(&model.folder, &gone)
            .with_context(|| format!("cannot remove {}", model.folder.display()))?;
        if let Err(error) = fs::remove_dir_all(&gone) {
            tracing::warn!("{} is left over: {error}", gone.display());
        }
        Ok(was_in_use)
    }

    /// Whether the user has said that code of this workspace may be run.
    pub fn is_trusted(&self) -> bool {
        let noted = fs::read_to_string(self.folder.join(TRUST_FILE)).unwrap_or_default();
        // Two paths might share a hash: the whole one is compared.
        !noted.is_empty() && Path::new(noted.trim_end_matches('\n')) == self.root
    }

    /// Notes whether code of this workspace may be run.
    ///
    /// # Errors
    /// A data folder that cannot be written.
    pub fn set_trusted(&self, is_trusted: bool) -> Result<()> {
        let file = self.folder.join(TRUST_FILE);
        if is_trusted {
            fs::create_dir_all(&self.folder)
                .with_context(|| format!("cannot make {}", self.folder.display()))?;
            return files::write(&file, format!("{}\n", self.root.display()).as_bytes());
        }
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Notes that the user types here now, once a second at most. Workspaces without models for which nobody has asked
    /// are passed over, so that nothing is left of a folder that was only looked at.
    pub fn touch_typing(&self) {
        typing::touch(&self.folder.join(TYPING_FILE));
    }

    /// Whether the user has typed here within this time, as far as a running server tells. It tells once a second,
    /// so `within` should be some seconds. Where nobody has asked before, it begins to tell now.
    pub fn is_typing(&self, within: Duration) -> bool {
        if let Err(error) = fs::create_dir_all(&self.folder) {
            tracing::debug!("{}: {error}", self.folder.display());
        }
        typing::is_recent(&self.folder.join(TYPING_FILE), within)
    }
}

impl Installed {
    /// Bytes of all its files.
    pub fn size(&self) -> u64 {
        files::size(&self.folder)
    }

    /// When it was installed.
    pub fn made(&self) -> Option<SystemTime> {
        fs::metadata(&self.folder).and_then(|metadata| metadata.modified()).ok()
    }

    /// Its `card.json`; null without a readable one.
    pub fn card(&self) -> Value {
        self.text("card.json").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// One of the small files beside the weights.
    pub fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }
}

/// A number for a path that stays the same from version to version.
pub fn path_hash(path: &Path) -> u64 {
    stable_hash(path.as_os_str().as_encoded_bytes())
}

/// The repository around a path; a home folder under version control is none.
fn workspace_root(path: &Path) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let path = if path.is_file() { path.parent().unwrap_or(&path).to_path_buf() } else { path };
    let home = dirs::home_dir();
    let is_root = |folder: &&Path| folder.join(".git").exists() && Some(*folder) != home.as_deref();
    path.ancestors().find(is_root).map(Path::to_path_buf).unwrap_or(path)
}

/// Where compilers keep what they make in copies of a project, so that the next check of it is quick.
pub fn checks_folder(root: &Path) -> Option<PathBuf> {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{name}-{:016x}", path_hash(root));
    Some(dirs::cache_dir()?.join("nestling/checks").join(name))
}

/// Models are found by it for years, so it must not change with a library (FNV-1a).
fn stable_hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

/// That a model can be called so.
///
/// # Errors
/// It cannot; the text says what can.
pub fn check_name(name: &str) -> Result<()> {
    if !is_name(name) {
        bail!(
            "{name:?} cannot be a model's name: use up to {LONGEST_NAME} letters, digits, '-', '_' and '.', and \
             not {DEFAULT:?}"
        );
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let is_ours = [DEFAULT, USE_FILE, ROOT_FILE, TYPING_FILE].contains(&name);
    !is_ours
        && !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('.')
        && !name.starts_with('-')
        && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests;
