//! The identifiers of a text and their hashes: what retrieval and the search for near duplicates
//! compare texts by.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// The identifiers of a text: runs of letters, digits and `_` that start with no digit.
pub fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            while at < bytes.len() && !word(bytes[at]) {
                at += 1;
            }
            let start = at;
            while at < bytes.len() && word(bytes[at]) {
                at += 1;
            }
            if start == at {
                return None;
            }
            if !bytes[start].is_ascii_digit() {
                // Bytes from 0x80 are never split, so the ends are character boundaries.
                return Some(&text[start..at]);
            }
        }
    })
}

/// A 64-bit hash whose high bits are as good as its low ones.
pub fn hash(word: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(word.as_bytes());
    let mut h = hasher.finish();
    h = (h ^ (h >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    h ^ (h >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_whole_words() {
        let words: Vec<_> = identifiers("let größe_2 = 3x + foo.bar(\"a b\");").collect();
        assert_eq!(words, ["let", "größe_2", "foo", "bar", "a", "b"]);
    }
}
