//! What became of suggestions, on this machine alone: one line of JSON for each, without a word of its text.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::files;

const FILE: &str = "usage.jsonl";
/// A longer file loses its older half.
const MOST_BYTES: u64 = 1 << 20;

/// A suggestion that was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The language of the document; empty if it is none of the table.
    pub language: String,
    /// How likely it was thought to be what the user would write, before any habit of the user's.
    pub probability: f32,
    /// Characters of it.
    pub characters: usize,
    /// Characters of it that were accepted.
    pub accepted: usize,
    /// How much of it stood in the document after half a minute, 0 to 1, whether accepted or typed.
    pub kept30: Option<f32>,
    /// The same after five minutes.
    pub kept300: Option<f32>,
}

impl Used {
    /// Whether it was what the user wrote, as far as half a minute tells.
    pub fn was_right(&self) -> Option<bool> {
        self.kept30.map(|kept| kept >= 0.9)
    }
}

impl Store {
    fn usage_file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Adds to what is known of suggestions.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn note_usage(&self, used: &[Used]) -> Result<()> {
        let path = self.usage_file();
        let told = || format!("cannot write {}", path.display());
        fs::create_dir_all(&self.folder).with_context(told)?;
        let mut text = String::new();
        for one in used {
            text += &serde_json::to_string(one)?;
            text.push('\n');
        }
        let mut file =
            fs::File::options().create(true).append(true).open(&path).with_context(told)?;
        file.write_all(text.as_bytes()).with_context(told)?;
        if file.metadata()?.len() > MOST_BYTES {
            let all = fs::read_to_string(&path).with_context(told)?;
            let half = all.floor_char_boundary(all.len() / 2);
            let rest = all[half..].split_once('\n').map_or("", |(_, rest)| rest);
            files::write(&path, rest.as_bytes()).with_context(told)?;
        }
        Ok(())
    }

    /// All that is known; lines that cannot be read are left out.
    pub fn usage(&self) -> Vec<Used> {
        let text = fs::read_to_string(self.usage_file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Deletes it; whether there was anything.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn forget_usage(&self) -> Result<bool> {
        match fs::remove_file(self.usage_file()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| self.usage_file().display().to_string()),
        }
    }
}

/// By how many logits this user's answers are surer than the scale says: the most likely shift, believed only as far as
/// enough was seen. 0 means that nothing is known, or that the scale is right.
pub fn habit(all: &[Used]) -> f32 {
    /// How far habits differ: the standard deviation of a normal prior, in logits.
    const PRIOR: f64 = 0.5;
    const MOST: f64 = 1.5;
    let logit = |p: f32| f64::from((p.clamp(0.01, 0.99) / (1.0 - p.clamp(0.01, 0.99))).ln());
    let known: Vec<(f64, f64)> = all
        .iter()
        .filter_map(|one| Some((logit(one.probability), f64::from(u8::from(one.was_right()?)))))
        .collect();
    let mut shift = 0.0f64;
    // Newton's method on a convex function of one number.
    for _ in 0..20 {
        let (mut slope, mut bend) = (shift / (PRIOR * PRIOR), 1.0 / (PRIOR * PRIOR));
        for (logit, right) in &known {
            let p = 1.0 / (1.0 + (-(logit + shift)).exp());
            slope += p - right;
            bend += p * (1.0 - p);
        }
        shift = (shift - slope / bend).clamp(-MOST, MOST);
    }
    shift as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(probability: f32, kept: f32) -> Used {
        Used {
            at: 1,
            language: "rust".into(),
            probability,
            characters: 10,
            accepted: 0,
            kept30: Some(kept),
            kept300: None,
        }
    }

    #[test]
    fn it_is_kept_within_bounds_read_again_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("new"));
        assert_eq!((store.usage(), store.forget_usage().unwrap()), (vec![], false));
        store.note_usage(&[used(0.5, 1.0), used(0.25, 0.0)]).unwrap();
        assert_eq!(store.usage(), [used(0.5, 1.0), used(0.25, 0.0)]);
        let many = vec![used(0.75, 1.0); 9000];
        store.note_usage(&many).unwrap();
        let length = fs::metadata(store.usage_file()).unwrap().len();
        assert!(length < MOST_BYTES && store.usage().len() > 3000, "{length}");
        assert!(store.forget_usage().unwrap() && store.usage().is_empty());
    }

    #[test]
    fn a_habit_is_learnt_as_far_as_it_was_seen() {
        assert_eq!(habit(&[]), 0.0);
        let as_told: Vec<Used> =
            (0..200).map(|i| used(0.5, f32::from(u8::from(i % 2 == 0)))).collect();
        assert!(habit(&as_told).abs() < 0.01);
        let often: Vec<Used> =
            (0..400).map(|i| used(0.5, f32::from(u8::from(i % 5 > 0)))).collect();
        // Four of five were right: a shift of ln 4.
        assert!((habit(&often) - 4f32.ln()).abs() < 0.12, "{}", habit(&often));
        assert!(habit(&often[..5]) < 0.6);
    }
}
