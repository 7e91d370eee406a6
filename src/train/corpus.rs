//! All texts of one folder or repository that pass the filter, in memory: for evaluation and small jobs.

use std::path::Path;

use anyhow::{Result, bail};

use super::filter;
use super::sources::Source;

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

/// The files under `root` worth looking at, whatever their licence, sorted by path.
///
/// # Errors
/// A path that does not exist, a broken repository, or no file that passes the filter.
pub fn read(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for source in Source::find(root)? {
        files.extend(read_source(&source)?);
    }
    Ok(files)
}

/// The files of one source that are worth looking at, whatever their licence, sorted by path.
///
/// # Errors
/// A broken repository, or no file that passes the filter.
pub fn read_source(source: &Source) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    source.read(&source.list()?, &mut |batch| {
        for file in batch {
            let Ok(text) = file.content.and_then(filter::decode) else { continue };
            let language = filter::by_path(&file.path).ok().flatten();
            let Some(language) = language.or_else(|| filter::by_shebang(&text)) else {
                continue;
            };
            if filter::unfit(&text, true).is_none() {
                let repository = source.name.clone();
                files.push(SourceFile {
                    path: file.path,
                    repository,
                    language: language.name,
                    text,
                });
            }
        }
        true
    })?;
    if files.is_empty() {
        bail!("{}: no source file that passes the filter", source.root.display());
    }
    Ok(files)
}
