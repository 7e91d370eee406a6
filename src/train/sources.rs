//! Where texts come from: folders, git repositories (with or without a work tree), and lists of those.
//! Files arrive in batches, so that nothing holds a whole repository.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::filter;

/// Bytes of one batch, roughly: enough work for all cores, little to hold.
const BATCH_BYTES: usize = 8 << 20;
/// Nothing larger is read; line ends of two bytes and UTF-16 at most double a text.
const MAX_READ_BYTES: usize = 2 * filter::MAX_BYTES;

/// A file as it was found.
pub struct RawFile {
    /// Path inside its repository, with `/`.
    pub path: String,
    /// Its bytes, or why it was not read.
    pub content: Result<Vec<u8>, &'static str>,
}

/// One folder or repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it lies.
    pub root: PathBuf,
    /// What it is called in reports and headers.
    pub name: String,
    /// The commit that is read, if another one than HEAD was asked for.
    pub revision: Option<String>,
    git: bool,
}

/// A licence file: the folder it speaks for (empty for the root) and its text.
pub struct LicenceFile {
    /// Folder inside the repository, with `/`.
    pub folder: String,
    /// Its text.
    pub text: String,
}

/// What stands in a source before any file is read.
pub struct Listing {
    /// Files to read, sorted by path; for git with their object ids.
    files: Vec<(String, String)>,
    /// Paths that were dropped with the reason.
    pub dropped: Vec<(String, &'static str)>,
    /// Licence files, the root's first.
    pub licences: Vec<LicenceFile>,
    /// Changes when the content does: the commit, or sizes and times.
    pub state: String,
}

impl Source {
    /// The sources that `root` stands for: itself, or, if it is a text file, one per line (`#` comments).
    ///
    /// A repository may be followed by `@` and a revision (hash, tag, branch), whose files are then read
    /// instead of HEAD's; a path that exists as it is written wins.
    pub fn find(root: &Path) -> Result<Vec<Source>> {
        if !root.is_file() {
            return Ok(vec![Source::at(root)?]);
        }
        let list = std::fs::read_to_string(root).with_context(|| {
            format!("{} is neither a folder nor a list of folders", root.display())
        })?;
        let base = root.parent().unwrap_or(Path::new("."));
        let lines = list.lines().map(|l| l.split('#').next().unwrap_or("").trim());
        let find = |line: &str| {
            Source::at(&base.join(line)).with_context(|| format!("{}, a list", root.display()))
        };
        lines.filter(|line| !line.is_empty()).map(find).collect()
    }

    /// The folder at a path, or the revision in `DIR@REV`.
    fn at(path: &Path) -> Result<Source> {
        if path.is_dir() {
            return Ok(Source::new(path));
        }
        let text = path.to_str().unwrap_or_default();
        let mut parts = text.rmatch_indices('@').map(|(at, _)| (&text[..at], &text[at + 1..]));
        match parts.find(|(folder, _)| Path::new(folder).is_dir()) {
            Some((folder, revision)) => Source::new(Path::new(folder)).at_revision(revision),
            None => bail!("{}: no such file or folder", path.display()),
        }
    }

    fn new(root: &Path) -> Source {
        let bare = root.join("HEAD").is_file() && root.join("objects").is_dir();
        let git = bare || root.join(".git").exists();
        Source { root: root.to_path_buf(), name: repository_name(root), revision: None, git }
    }

    /// The same repository as of a revision: a hash, tag or branch.
    ///
    /// # Errors
    /// A folder that is no git repository; a revision that it does not know.
    pub fn at_revision(mut self, revision: &str) -> Result<Source> {
        let root = self.root.display();
        if !self.git {
            bail!(
                "{root} is no git repository and so has no revision {revision:?}; leave out the @"
            );
        }
        let commit = format!("{revision}^{{commit}}");
        let found = self.git_output(&["rev-parse", "--verify", "--end-of-options", &commit]);
        let Ok(found) = found else {
            bail!("{root} knows no revision {revision:?}; name a hash, tag or branch of it");
        };
        self.revision = Some(found.trim().to_string());
        Ok(self)
    }

    /// What git is asked about: a commit, or HEAD.
    pub fn commit(&self) -> &str {
        self.revision.as_deref().unwrap_or("HEAD")
    }

    /// Whether this is a git repository.
    pub fn is_git(&self) -> bool {
        self.git
    }

    /// What there is to read. Ignored files are not listed.
    pub fn list(&self) -> Result<Listing> {
        if self.git { self.list_git() } else { self.list_folder() }
    }

    fn list_folder(&self) -> Result<Listing> {
        let mut listing = Listing::new();
        let mut newest = 0;
        let walk = ignore::WalkBuilder::new(&self.root).sort_by_file_path(Path::cmp).build();
        for entry in walk.filter_map(Result::ok) {
            if !entry.file_type().is_some_and(|t| t.is_file()) {
                continue;
            }
            let relative = entry.path().strip_prefix(&self.root).unwrap_or(entry.path());
            let path = relative.to_string_lossy().replace('\\', "/");
            if let Ok(meta) = entry.metadata() {
                let changed = meta.modified().ok();
                let since = changed.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                newest = newest.max(since.map_or(0, |d| d.as_nanos()));
            }
            if let Some(folder) = licence_folder(&path)
                && let Ok(text) = std::fs::read_to_string(entry.path())
            {
                listing.licences.push(LicenceFile { folder: folder.to_string(), text });
            }
            listing.add(path, String::new());
        }
        listing.state = format!("{} {newest}", listing.files.len());
        Ok(listing)
    }

    fn list_git(&self) -> Result<Listing> {
        let mut listing = Listing::new();
        listing.state = self.git_output(&["rev-parse", self.commit()])?.trim().to_string();
        let mut licences = Vec::new();
        for entry in self.git_output(&["ls-tree", "-r", "-z", self.commit()])?.split('\0') {
            let Some((meta, path)) = entry.split_once('\t') else { continue };
            let mut fields = meta.split(' ');
            // Links and submodules are no files.
            let (Some("100644" | "100755"), Some("blob"), Some(id)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if let Some(folder) = licence_folder(path) {
                licences.push((folder.to_string(), id.to_string()));
            }
            listing.add(path.to_string(), id.to_string());
        }
        self.cat(&licences, |folder, content| {
            if let Ok(bytes) = content {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                listing.licences.push(LicenceFile { folder, text });
            }
            true
        })?;
        Ok(listing)
    }

    /// Reads the listed files and hands them over in batches, until `take` says false.
    pub fn read(
        &self,
        listing: &Listing,
        take: &mut dyn FnMut(Vec<RawFile>) -> bool,
    ) -> Result<()> {
        let (mut batch, mut bytes, mut more) = (Vec::new(), 0, true);
        let mut push = |file: RawFile| {
            bytes += file.content.as_ref().map_or(0, Vec::len);
            batch.push(file);
            if bytes >= BATCH_BYTES {
                more = take(std::mem::take(&mut batch));
                bytes = 0;
            }
            more
        };
        if self.git {
            self.cat(&listing.files, |path, content| push(RawFile { path, content }))?;
        } else {
            for (path, _) in &listing.files {
                let file = self.root.join(path);
                let small = file.metadata().is_ok_and(|m| m.len() <= MAX_READ_BYTES as u64);
                let content = match small {
                    true => std::fs::read(&file).map_err(|_| "unreadable"),
                    false => Err("longer than 100 KB"),
                };
                if !push(RawFile { path: path.clone(), content }) {
                    break;
                }
            }
        }
        if !batch.is_empty() {
            take(batch);
        }
        Ok(())
    }

    /// Reads blobs straight from the object store: nothing is checked out.
    fn cat(
        &self,
        wanted: &[(String, String)],
        mut each: impl FnMut(String, Result<Vec<u8>, &'static str>) -> bool,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut child = self
            .git(&["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run git")?;
        let mut input = child.stdin.take().context("git has no stdin")?;
        let ids: Vec<String> = wanted.iter().map(|(_, id)| format!("{id}\n")).collect();
        let writer = std::thread::spawn(move || {
            ids.iter().try_for_each(|id| input.write_all(id.as_bytes()))
        });
        let mut output =
            BufReader::with_capacity(1 << 18, child.stdout.take().context("git has no stdout")?);
        for (path, _) in wanted {
            let mut header = String::new();
            if output.read_line(&mut header)? == 0 {
                bail!("{}: git ended before all files were read", self.root.display());
            }
            let size = header.trim_end().rsplit(' ').next().and_then(|s| s.parse::<usize>().ok());
            let content = match size {
                None => Err("missing object"),
                Some(size) if size > MAX_READ_BYTES => {
                    let mut rest = output.by_ref().take(size as u64 + 1);
                    std::io::copy(&mut rest, &mut std::io::sink())?;
                    Err("longer than 100 KB")
                }
                Some(size) => {
                    let mut content = vec![0u8; size];
                    output.read_exact(&mut content)?;
                    output.read_exact(&mut [0u8])?;
                    Ok(content)
                }
            };
            if !each(path.clone(), content) {
                let _ = child.kill();
                break;
            }
        }
        drop(output);
        let _ = writer.join();
        child.wait()?;
        Ok(())
    }

    /// git on a repository that is not ours: it fetches nothing and runs nothing configured there.
    pub(super) fn git(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none").env_remove("GIT_DIR");
        git.args(["-c", "safe.directory=*", "-c", "core.quotePath=false", "-C"])
            .arg(&self.root)
            .args(arguments);
        git
    }

    pub(super) fn git_output(&self, arguments: &[&str]) -> Result<String> {
        let output = self.git(arguments).output().context("cannot run git")?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{}: git {}: {}", self.root.display(), arguments[0], error.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Listing {
    fn new() -> Listing {
        let (files, dropped, licences) = Default::default();
        Listing { files, dropped, licences, state: String::new() }
    }

    /// Paths of the files that [`Source::read`] would read.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(path, _)| path.as_str())
    }

    fn add(&mut self, path: String, id: String) {
        match filter::by_path(&path) {
            Ok(_) => self.files.push((path, id)),
            Err(reason) => self.dropped.push((path, reason)),
        }
    }
}

/// The folder that a licence file speaks for; `None` for other files.
fn licence_folder(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    // Collections of licence texts (LICENSES/) speak for the folder above them.
    filter::is_licence_file(name).then(|| folder.strip_suffix("/LICENSES").unwrap_or(folder))
}

/// The folder's own name, or its parent's when it is only called `repo` or `.git`.
fn repository_name(root: &Path) -> String {
    let root = std::path::absolute(root).unwrap_or(root.to_path_buf());
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match (name(&root).as_str(), root.parent()) {
        ("repo" | ".git" | "repo.git", Some(parent)) => name(parent),
        (own, _) => own.to_string(),
    }
}
