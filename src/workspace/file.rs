//! Reading a file for the command line, with an error that says what to do.
//! The editor sends its own text; only commands read from disk.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Document;
use crate::syntax::Language;
use crate::text::Text;

/// The largest file that is read: 50 MB. Source files are far smaller; data dumps are not.
pub const MAX_FILE_BYTES: u64 = 50_000_000;

/// Why a file could not be read. Every message names the path and a way out.
#[derive(Debug, Error)]
pub enum FileError {
    /// Nothing is there.
    #[error("{}: no such file. Check the path; it is relative to the current directory.", .0.display())]
    Missing(PathBuf),
    /// A directory where a file is needed.
    #[error("{}: is a directory. Name a file inside it.", .0.display())]
    Directory(PathBuf),
    /// A NUL byte is inside.
    #[error("{}: is a binary file (it contains a NUL byte). Name a text file.", .0.display())]
    Binary(PathBuf),
    /// Bytes that are not UTF-8.
    #[error("{}: is not UTF-8 (byte {offset}). Convert it first, for example with iconv.", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, from 0.
        offset: usize,
    },
    /// More than [`MAX_FILE_BYTES`].
    #[error("{}: has {bytes} bytes, more than the limit of {MAX_FILE_BYTES}. Name a smaller file.", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A pipe, socket or device: reading it could wait for ever.
    #[error("{}: is no regular file. Copy its content into a file.", .0.display())]
    Special(PathBuf),
    /// The operating system refused.
    #[error("{}: cannot be read ({source}). Check its permissions.", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads and parses a file. A byte order mark at the start is dropped.
pub fn read_file(path: &Path) -> Result<Document, FileError> {
    let mut document = read_unparsed(path)?;
    document.catch_up();
    Ok(document)
}

/// The same without a tree, for those who may not need one.
pub fn read_unparsed(path: &Path) -> Result<Document, FileError> {
    let bytes = read_bytes(path)?;
    if bytes.contains(&0) {
        return Err(FileError::Binary(path.to_path_buf()));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| FileError::NotUtf8 {
        path: path.to_path_buf(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    // A command names files by path; there is no language id, so the path decides.
    Ok(Document {
        uri: path.display().to_string(),
        path: Some(path.to_path_buf()),
        language: Language::by_path(path),
        version: 0,
        revision: 0,
        text: Text::new(text),
        tree: None,
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => FileError::Missing(path.to_path_buf()),
        _ => FileError::Unreadable { path: path.to_path_buf(), source },
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(FileError::Directory(path.to_path_buf()));
    }
    if !metadata.is_file() {
        return Err(FileError::Special(path.to_path_buf()));
    }
    let too_large = |bytes| FileError::TooLarge { path: path.to_path_buf(), bytes };
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    // The size in the metadata is a hint only: pipes and /proc say 0, and a file may grow.
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    let mut file = File::open(path).map_err(unreadable)?.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8]) -> Result<Document, FileError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("a writable temporary directory");
        read_file(&path)
    }

    #[track_caller]
    fn check_refused(result: Result<Document, FileError>, expected: &str) {
        let message = result.err().expect("an error").to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.ends_with('.'), "a way out is missing: {message}");
    }

    #[test]
    fn a_source_file_has_text_and_language() {
        let document = read("main.rs", "\u{feff}fn main() {}\r\n".as_bytes()).expect("a document");
        assert_eq!(document.text.as_str(), "fn main() {}\r\n");
        assert_eq!(document.language.map(|language| language.name), Some("rust"));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_name_and_a_way_out() {
        check_refused(read("a.bin", b"ab\0c"), "a.bin: is a binary file");
        check_refused(read("latin.txt", b"caf\xe9"), "latin.txt: is not UTF-8 (byte 3)");
        check_refused(read_file(Path::new("/no/such/file.rs")), "/no/such/file.rs: no such file");
        let directory = tempfile::tempdir().expect("a temporary directory");
        check_refused(read_file(directory.path()), "is a directory");
    }

    #[test]
    fn the_size_limit_is_judged_before_reading() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("large.txt");
        let file = File::create(&path).expect("a new file");
        file.set_len(MAX_FILE_BYTES + 1).expect("a sparse file");
        check_refused(read_file(&path), "large.txt: has 50000001 bytes");
    }
}
