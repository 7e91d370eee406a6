//! A seeded sample of texts by language, to measure models on.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::train::corpus::SourceFile;

/// Whole files of each language, drawn by the seed until the next would exceed `max_bytes`; at least one of each.
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
