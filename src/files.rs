//! Files that are there as a whole or not at all: written beside their place and moved there, so that no reader sees half
//! of one; with [`write`] also after a crash of the machine.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

const PREFIX: &str = ".part-";

/// A name beside `path` that nobody else uses. Its process stands in it, so that leftovers can be told.
pub fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{PREFIX}{}-{count}-{name}", std::process::id()))
}

/// Makes or replaces a file with what `fill` writes; its folder must be there.
///
/// # Errors
/// `fill` fails, or the disk: what was there before is untouched.
pub fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let part = temporary(path);
    let attempt = || -> Result<()> {
        let mut out = BufWriter::new(File::create(&part)?);
        fill(&mut out)?;
        out.flush()?;
        Ok(fs::rename(&part, path)?)
    };
    attempt()
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The same for content that is there, brought to the disk.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, |out| {
        out.write_all(content)?;
        out.flush()?;
        Ok(out.get_ref().sync_all()?)
    })?;
    path.parent().into_iter().for_each(sync_folder);
    Ok(())
}

/// Brings everything below a folder to the disk.
pub fn sync_all(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    sync_folder(folder);
    Ok(())
}

/// Brings the names in a folder to the disk, where the system can.
pub fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

/// Bytes of all files below a folder.
pub fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Removes what processes left behind that are gone.
pub fn clear_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(process) = process.and_then(|id| id.parse().ok()) else { continue };
        if !is_alive(process) {
            let path = entry.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!("{} is left over: {error}", path.display());
            }
        }
    }
}

#[cfg(unix)]
fn is_alive(process: i32) -> bool {
    // SAFETY: signal 0 is sent to nobody; the call only says whether there is somebody.
    let found = unsafe { libc::kill(process, 0) } == 0;
    found || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(not(unix))]
fn is_alive(_process: i32) -> bool {
    true
}
