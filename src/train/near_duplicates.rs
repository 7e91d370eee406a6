//! Near duplicates among texts: MinHash over identifiers with locality-sensitive hashing
//! (Broder 1997), and the similarity of two texts from their signatures.

use rustc_hash::FxHashMap;

use crate::memory::retrieval::{hash, identifiers};

/// Minimum hashes of a text's identifiers, one per bin of the hash space (one-permutation hashing,
/// Li et al. 2012): the share of equal bins estimates the Jaccard similarity of two identifier sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature([u16; BINS]);

const BINS: usize = 64;
/// Rows of a band: 16 bands of 4 find 99 % of the pairs at a similarity of 0.7.
const ROWS: usize = 4;
const EMPTY: u16 = u16::MAX;
/// Below this many identifiers a signature says little.
const LEAST: usize = 20;

/// Similarity from which a text counts as a copy (Allamanis 2019).
pub(super) const COPY: f64 = 0.7;

impl Signature {
    /// The signature of a text; `None` if it has too few different identifiers to compare.
    pub(super) fn of(text: &str) -> Option<Signature> {
        let mut bins = [EMPTY; BINS];
        let mut seen = 0;
        for word in identifiers(text) {
            let h = hash(word);
            let bin = &mut bins[(h >> 58) as usize];
            let value = (h & 0xFFFF) as u16;
            if value < *bin {
                *bin = value;
                seen += 1;
            }
        }
        // Every minimum that was lowered was a new identifier.
        (seen >= LEAST).then_some(Signature(bins))
    }

    /// The estimated Jaccard similarity, 0 to 1.
    pub(super) fn similarity(&self, other: &Signature) -> f64 {
        let (mut equal, mut used) = (0u32, 0u32);
        for (&a, &b) in self.0.iter().zip(&other.0) {
            let both_empty = a == EMPTY && b == EMPTY;
            used += !both_empty as u32;
            equal += (a == b && !both_empty) as u32;
        }
        equal as f64 / used.max(1) as f64
    }

    fn bands(&self) -> impl Iterator<Item = u64> {
        self.0.chunks_exact(ROWS).enumerate().filter_map(|(band, rows)| {
            if rows.iter().all(|&r| r == EMPTY) {
                return None;
            }
            let key =
                rows.iter().fold(band as u64 + 1, |key, &r| (key << 16) ^ (key >> 47) ^ r as u64);
            Some(key.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        })
    }
}

/// Signatures seen so far, found again by any equal band.
#[derive(Default)]
pub(super) struct NearDuplicates {
    signatures: Vec<Signature>,
    bands: FxHashMap<u64, u32>,
}

impl NearDuplicates {
    /// Whether a text like this one was inserted before; inserts it if not.
    pub(super) fn is_copy(&mut self, signature: &Signature) -> bool {
        self.original(signature).is_some()
    }

    /// Which of the texts inserted before this one is like; inserts it if none is.
    fn original(&mut self, signature: &Signature) -> Option<usize> {
        let mut looked_at = Vec::new();
        for band in signature.bands() {
            if let Some(&index) = self.bands.get(&band)
                && !looked_at.contains(&index)
            {
                looked_at.push(index);
                if self.signatures[index as usize].similarity(signature) >= COPY {
                    return Some(index as usize);
                }
            }
        }
        let index = self.signatures.len() as u32;
        self.signatures.push(signature.clone());
        for band in signature.bands() {
            // The first text with a band stands for it: memory stays bounded, and the few pairs that
            // this hides share other bands.
            self.bands.entry(band).or_insert(index);
        }
        None
    }
}

/// For each text the first that it is like: its own number, or that of an earlier one.
pub fn copies(texts: &[&str]) -> Vec<usize> {
    let (mut seen, mut inserted) = (NearDuplicates::default(), Vec::new());
    let number = |(number, text): (usize, &&str)| {
        let Some(signature) = Signature::of(text) else { return number };
        if let Some(original) = seen.original(&signature) {
            return inserted[original];
        }
        inserted.push(number);
        number
    };
    texts.iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: std::ops::Range<usize>) -> String {
        words.map(|i| format!("let name_{i} = value_{};\n", i * 7)).collect()
    }

    #[test]
    fn copies_are_found_and_other_texts_are_not() {
        let mut seen = NearDuplicates::default();
        let of = |t: &str| Signature::of(t).unwrap();
        assert!(!seen.is_copy(&of(&text(0..100))));
        assert!(seen.is_copy(&of(&text(0..100))));
        assert!(seen.is_copy(&of(&text(0..95))), "a few lines removed");
        assert!(!seen.is_copy(&of(&text(60..160))), "40 of 160 lines in common");
        assert!(!seen.is_copy(&of(&text(1000..1100))));
        assert!(Signature::of("fn a() {}").is_none());
        let texts = [text(0..100), "fn a() {}".into(), text(1000..1100), text(0..95)];
        assert_eq!(copies(&texts.each_ref().map(String::as_str)), [0, 1, 2, 0]);
    }

    #[test]
    fn similarity_estimates_jaccard() {
        let (a, b) = (text(0..200), text(100..300));
        let estimate = Signature::of(&a).unwrap().similarity(&Signature::of(&b).unwrap());
        assert!((estimate - 1.0 / 3.0).abs() < 0.2, "{estimate}");
    }
}
