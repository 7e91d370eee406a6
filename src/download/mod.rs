//! The only code that opens a connection: `nestling model download`. What lies at a name is listed first
//! (`listing`), then each file is brought here (`transfer`), and nothing is kept that is not what was listed.

mod listing;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use listing::Listing;

/// Where models are listed and lie if nobody says otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Nothing for so long is a connection that is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is asked, and as whom.
pub struct Client {
    agent: ureq::Agent,
    endpoint: String,
    token: Option<String>,
}

/// A file to bring here.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteFile {
    /// What it is called here.
    pub name: String,
    /// Where it lies.
    pub url: String,
    /// Its bytes, if known.
    pub size: Option<u64>,
    /// Its SHA-256 in hexadecimal digits, if known.
    pub sha256: Option<String>,
}

/// News of a download.
pub enum News<'a> {
    /// Bytes of all files that are here, those of earlier runs among them.
    Bytes(u64),
    /// A file is here and is what was listed: its name, where it lies, its SHA-256.
    File(&'a str, &'a Path, &'a str),
}

impl Client {
    /// A client for a Hugging Face hub; the token is sent to it and to nobody else.
    pub fn new(endpoint: &str, token: Option<String>) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent(concat!("nestling/", env!("CARGO_PKG_VERSION")));
        let endpoint = endpoint.trim_end_matches('/').to_string();
        Client { agent: config.build().new_agent(), endpoint, token }
    }

    /// Brings all files of a listing into a folder of their own below `folder` and returns it. Parts that an
    /// earlier run left are gone on with where a checksum will show that they belong together.
    ///
    /// # Errors
    /// A full disk, a refusal, a connection that stays lost, a file that is not what was listed, whatever `say`
    /// objects to. What is already here stays, unless it is wrong.
    pub fn fetch(
        &self,
        listing: &Listing,
        folder: &Path,
        say: &mut dyn FnMut(News<'_>) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = folder.join(&listing.key);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot write {}", folder.display()))?;
        let here = |file: &RemoteFile| transfer::bytes_here(&folder.join(&file.name));
        let missing: u64 = listing
            .files
            .iter()
            .map(|file| file.size.unwrap_or(0).saturating_sub(here(file)))
            .sum();
        if let Some(free) = free_disk(&folder)
            && missing > free
        {
            bail!(
                "{} are still to come and {} are free in {}; make room there, or name another cache folder by \
                 XDG_CACHE_HOME",
                megabytes(missing),
                megabytes(free),
                folder.display()
            );
        }
        let mut before = 0;
        for file in &listing.files {
            let to = folder.join(&file.name);
            let sum = self.bring(file, &to, &mut |bytes| say(News::Bytes(before + bytes)))?;
            before += transfer::bytes_here(&to);
            say(News::File(&file.name, &to, &sum))?;
        }
        Ok(folder)
    }

    /// A request with the token where it belongs.
    fn get(&self, url: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        let request = self.agent.get(url);
        match &self.token {
            Some(token) if self.is_ours(url) => {
                request.header("Authorization", format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Bytes as people read them.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// What a status means for whoever asked; `None` for those that are answers.
fn refusal(status: u16, url: &str) -> Option<String> {
    match status {
        200..=399 | 416 => None,
        401 | 403 => Some(format!(
            "{url} is not open to everybody (status {status}): accept its conditions there, and give a token by \
             HF_TOKEN; a name that does not exist is answered so, too"
        )),
        404 => Some(format!("{url} does not exist: check the name")),
        _ => Some(format!("{url} answers with status {status}: try again later")),
    }
}

/// Bytes that can still be written where this folder lies; `None` where the system does not say.
#[cfg(unix)]
fn free_disk(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte, and the place to write to is as large as the type.
    let failed = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0;
    // SAFETY: all bits zero are a value of this type, and the call wrote another.
    let found = unsafe { found.assume_init() };
    #[allow(clippy::unnecessary_cast)] // Other systems count in other types.
    let free = found.f_bavail as u64 * found.f_frsize as u64;
    (!failed).then_some(free)
}

#[cfg(not(unix))]
fn free_disk(_: &Path) -> Option<u64> {
    None
}
