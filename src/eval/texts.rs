//! The texts that models are measured on: repositories by name, and a seeded sample by language.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::train::corpus::{self, SourceFile};
use crate::train::sources::Source;

/// The folders and repositories behind these paths, some of which may be lists, as in training.
pub fn roots(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut roots = Vec::new();
    for path in paths {
        roots.extend(Source::find(path)?.into_iter().map(|source| source.root));
    }
    Ok(roots)
}

/// The files of each, with its name, under the rules of training: what would not be learnt from is not
/// asked about either. A repository without any such file is an error.
pub fn repositories(paths: &[PathBuf]) -> Result<Vec<(String, Vec<SourceFile>)>> {
    let read = |root: PathBuf| {
        let files = corpus::read(&root)?;
        Ok((files.first().map(|f| f.repository.clone()).unwrap_or_default(), files))
    };
    roots(paths)?.into_iter().map(read).collect()
}

/// Whole files of each language, drawn by the seed until the next would exceed
/// `max_bytes`; at least one of each.
pub fn sample(files: Vec<SourceFile>, max_bytes: usize, seed: u64) -> Vec<SourceFile> {
    let mut languages: BTreeMap<&str, Vec<SourceFile>> = BTreeMap::new();
    for file in files {
        languages.entry(file.language).or_default().push(file);
    }
    let mut sample = Vec::new();
    for mut files in languages.into_values() {
        files.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut bytes = 0;
        for file in files {
            if bytes > 0 && bytes + file.text.len() > max_bytes {
                break;
            }
            bytes += file.text.len();
            sample.push(file);
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_bounded_by_language_and_repeats() {
        let file = |i: usize| SourceFile {
            path: format!("{i}"),
            repository: "r".into(),
            language: ["rust", "python"][i % 2],
            text: "x".repeat(100),
        };
        let draw = |seed| sample((0..40).map(file).collect(), 350, seed);
        let paths = |files: &[SourceFile]| -> Vec<String> {
            files.iter().map(|f| f.path.clone()).collect()
        };
        let first = draw(1);
        assert_eq!(first.iter().filter(|f| f.language == "rust").count(), 3);
        assert_eq!(first.iter().filter(|f| f.language == "python").count(), 3);
        assert_eq!(paths(&first), paths(&draw(1)));
        assert_ne!(paths(&first), paths(&draw(2)));
        assert_eq!(sample((0..2).map(file).collect(), 1, 1).len(), 2, "one of each at least");
    }
}
