//! Open documents, files on disk and recent edits, seen through an immutable [`Snapshot`].
//! Knows nothing of the protocol: the server translates into it, the suggestions read from it.

mod document;
mod documents;
mod file;
mod git;
mod recent;
mod secrets;
mod uri;

pub use document::Document;
pub use documents::{Change, ChangeError, Documents, Snapshot};
pub use file::{FileError, MAX_FILE_BYTES, read_file, read_unparsed};
pub use git::{FileChange, Repository};
pub use recent::RecentEdit;
pub use secrets::{holds_secret, is_secret_file};
pub use uri::{path_of_uri, uri_of_path};
