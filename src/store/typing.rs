//! A file whose time says when the user has typed last: how a server tells long work beside it to wait.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Sets the time of the file to now, if its folder is there: without it nobody has ever asked.
pub(super) fn touch(file: &Path) {
    let attempt = || -> std::io::Result<()> {
        let file = File::options().create(true).truncate(false).write(true).open(file)?;
        file.set_modified(SystemTime::now())
    };
    if let Err(error) = attempt() {
        tracing::debug!("{} cannot be touched: {error}", file.display());
    }
}

/// Whether the time of the file is at most so long ago. A time in the future says nothing: the clock was set.
pub(super) fn is_recent(file: &Path, within: Duration) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age <= within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_is_recent_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("some/typing");
        let minute = Duration::from_secs(60);
        touch(&file);
        assert!(!is_recent(&file, minute), "without its folder");
        fs::create_dir(folder.path().join("some")).unwrap();
        touch(&file);
        assert!(is_recent(&file, minute));
        let set = |time| File::options().write(true).open(&file).unwrap().set_modified(time);
        set(SystemTime::now() - 2 * minute).unwrap();
        assert!(!is_recent(&file, minute) && is_recent(&file, 3 * minute));
        set(SystemTime::now() + minute).unwrap();
        assert!(!is_recent(&file, minute), "a clock that was set back");
        touch(&file);
        assert!(is_recent(&file, minute));
    }
}
