//! One file from there to here: it grows as `NAME.part`, goes on where it was cut off, and gets its name when it
//! is what was listed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::listing::unreachable_text;
use super::{Client, RemoteFile, megabytes, refusal};

/// Lost connections in a row, none of which brought anything, after which it is given up.
const TRIES: u32 = 4;

fn part(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Bytes of a file, or of its part, that are here.
pub(super) fn bytes_here(file: &Path) -> u64 {
    let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    size(file).or_else(|| size(&part(file))).unwrap_or(0)
}

/// How an attempt ended.
enum End {
    Whole,
    /// The connection was lost, and why.
    Cut(String),
}

impl Client {
    /// Brings a file to its place; one that is there is only checked. Returns its SHA-256.
    pub(super) fn bring(
        &self,
        file: &RemoteFile,
        to: &Path,
        say: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<String> {
        let part = part(to);
        if to.exists() {
            let sum = sum(to)?;
            if is_right(file, bytes_here(to), &sum) {
                say(bytes_here(to))?;
                return Ok(sum);
            }
            remove(to)?;
        }
        if file.sha256.is_none() {
            // Nothing would show that the halves of two files met.
            remove(&part)?;
        }
        let (mut tag, mut lost) = (None, 0);
        loop {
            let before = bytes_here(to);
            if file.size.is_some_and(|size| before == size && before > 0) {
                break;
            }
            match self.attempt(file, &part, before, &mut tag, say)? {
                End::Whole => break,
                End::Cut(reason) => {
                    let here = bytes_here(to);
                    lost = if here > before { 0 } else { lost + 1 };
                    if lost == TRIES {
                        bail!(
                            "{}: {reason}; {} are kept, the same command goes on with them",
                            file.url,
                            megabytes(here)
                        );
                    }
                    std::thread::sleep(Duration::from_millis(200) * lost * lost);
                }
            }
        }
        let (size, sum) = (bytes_here(to), sum(&part)?);
        if !is_right(file, size, &sum) {
            remove(&part)?;
            let wanted = match (&file.sha256, file.size) {
                (Some(wanted), _) if *wanted != sum => format!("SHA-256 {sum} instead of {wanted}"),
                (_, wanted) => format!("{size} bytes instead of {}", wanted.unwrap_or_default()),
            };
            bail!(
                "{}: what came is not the file that was listed ({wanted}); it was removed, run the same command \
                 again",
                file.url
            );
        }
        fs::rename(&part, to).with_context(|| format!("cannot write {}", to.display()))?;
        Ok(sum)
    }

    /// One connection, from where the part ends. `tag` is what the server calls this state of the file.
    fn attempt(
        &self,
        file: &RemoteFile,
        part: &Path,
        from: u64,
        tag: &mut Option<String>,
        say: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<End> {
        let mut request = self.get(&file.url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
            if let Some(tag) = tag {
                request = request.header("If-Range", tag.as_str());
            }
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(End::Cut(format!("{}: {error}", unreachable_text(&file.url)))),
        };
        let status = response.status().as_u16();
        if (500..600).contains(&status) {
            return Ok(End::Cut(format!("the server answers with status {status}")));
        }
        if let Some(text) = refusal(status, &file.url) {
            bail!("{text}");
        }
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(String::from);
        if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            bail!("{} is a web page, not a file: check the address", file.url);
        }
        if status == 416 {
            remove(part)?;
            return Ok(End::Cut("the server has no such part of the file".into()));
        }
        *tag = header("etag").filter(|tag| tag.starts_with('"'));
        let goes_on = status == 206
            && header("content-range").is_some_and(|r| r.starts_with(&format!("bytes {from}-")));
        if status == 206 && !goes_on {
            bail!("{} answers with another part of the file than was asked for", file.url);
        }
        let mut here = if goes_on { from } else { 0 };
        let length = response.body().content_length();
        let whole = file.size.or_else(|| Some(here + length?));
        let cannot = || format!("cannot write {}", part.display());
        let mut out = match goes_on {
            true => OpenOptions::new().append(true).open(part),
            false => File::create(part),
        }
        .with_context(cannot)?;
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 17];
        loop {
            say(here)?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(End::Cut(error.to_string())),
            };
            out.write_all(&buffer[..count]).with_context(cannot)?;
            here += count as u64;
        }
        out.sync_all().with_context(cannot)?;
        match whole {
            Some(whole) if here < whole => Ok(End::Cut("the connection ended too early".into())),
            _ => Ok(End::Whole),
        }
    }
}

fn is_right(file: &RemoteFile, size: u64, sum: &str) -> bool {
    let sum_is = |wanted: &String| wanted.eq_ignore_ascii_case(sum);
    file.size.is_none_or(|wanted| wanted == size) && file.sha256.as_ref().is_none_or(sum_is)
}

/// The SHA-256 of a file in hexadecimal digits.
fn sum(file: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", file.display());
    let mut hash = Sha256::new();
    io::copy(&mut File::open(file).with_context(cannot)?, &mut hash).with_context(cannot)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
