//! Tokenized documents and the examples drawn from them.
//!
//! Every example is a pure function of (seed, index): a resumed run sees what an unbroken one sees.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::ops::IGNORE;
use crate::tokenizer::{FimLayout, FimPrompt, TokenId, Tokenizer};

use super::corpus::SourceFile;

/// How documents become examples.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ExampleConfig {
    /// Tokens of one example.
    pub sequence: usize,
    /// Share of documents that are cut for fill-in-the-middle.
    pub fim_rate: f64,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

/// Documents to draw from, weighted by length.
pub struct Dataset {
    documents: Vec<Document>,
    /// Running totals of document lengths, for drawing in proportion.
    totals: Vec<u64>,
    config: ExampleConfig,
}

struct Document {
    header: Vec<TokenId>,
    text: String,
}

/// Inputs and targets of `batch` sequences, one after the other.
pub struct Batch {
    /// Token ids (batch · sequence).
    pub tokens: Vec<TokenId>,
    /// The id that follows each token, or [`IGNORE`].
    pub targets: Vec<u32>,
}

impl Dataset {
    /// Keeps the files' texts; tokens are made when an example is drawn, because where a text is
    /// cut decides how it is tokenized.
    pub fn new(files: Vec<SourceFile>, tokenizer: &Tokenizer, config: ExampleConfig) -> Dataset {
        let documents: Vec<Document> = files
            .into_iter()
            .map(|file| Document { header: tokenizer.file_header(&file.path), text: file.text })
            .collect();
        let totals = documents
            .iter()
            .scan(0u64, |total, d| {
                *total += d.text.len() as u64;
                Some(*total)
            })
            .collect();
        Dataset { documents, totals, config }
    }

    /// Bytes of all documents.
    pub fn bytes(&self) -> u64 {
        self.totals.last().copied().unwrap_or(0)
    }

    /// The examples `first..first + size`, each packed full with pieces of documents.
    pub fn batch(&self, tokenizer: &Tokenizer, first: u64, size: usize) -> Batch {
        use rayon::prelude::*;
        let rows: Vec<Vec<TokenId>> = (first..first + size as u64)
            .into_par_iter()
            .map(|index| self.row(tokenizer, index))
            .collect();
        let sequence = self.config.sequence;
        let padding = tokenizer.special("<|end|>").unwrap_or(0);
        let mut batch = Batch { tokens: Vec::new(), targets: Vec::new() };
        for row in rows {
            let known = row.len().min(sequence + 1);
            for i in 0..sequence {
                batch.tokens.push(if i < known { row[i] } else { padding });
                batch.targets.push(if i + 1 < known { row[i + 1] } else { IGNORE });
            }
        }
        batch
    }

    fn row(&self, tokenizer: &Tokenizer, index: u64) -> Vec<TokenId> {
        let mut rng = StdRng::seed_from_u64(self.config.seed ^ index.wrapping_mul(0x9E37_79B9));
        let wanted = self.config.sequence + 1;
        let mut row = Vec::with_capacity(wanted + 64);
        while row.len() < wanted && !self.documents.is_empty() {
            let at = rng.random_range(0..self.bytes());
            let document = &self.documents[self.totals.partition_point(|&total| total <= at)];
            let room = (wanted - row.len()).max(wanted / 4);
            self.example(tokenizer, document, room, &mut rng, &mut row);
        }
        row.truncate(wanted);
        row
    }

    /// Appends one piece of a document of about `room` tokens: plain or cut around a middle.
    fn example(
        &self,
        tokenizer: &Tokenizer,
        document: &Document,
        room: usize,
        rng: &mut StdRng,
        row: &mut Vec<TokenId>,
    ) {
        let text = &document.text;
        // About 3.3 bytes to a token; a little more, the row is cut to fit.
        let span = (room * 7 / 2).min(text.len());
        let start = match text.len() - span {
            0 => 0,
            rest => line_start(text, rng.random_range(0..=rest)),
        };
        let end = char_floor(text, start + span);
        let layout = tokenizer.fim().filter(|_| rng.random_bool(self.config.fim_rate));
        match layout {
            Some(layout) => {
                self.fill_in_the_middle(tokenizer, layout, document, (start, end), rng, row);
            }
            None => {
                row.extend(&document.header);
                row.extend(tokenizer.encode(&text[start..end]));
                row.extend(tokenizer.special("<|end|>"));
            }
        }
    }

    /// SPM order with prefix and middle as one text: the tokens across the cursor are those of plain
    /// text, as they are at serving time once the cursor's token is healed.
    fn fill_in_the_middle(
        &self,
        tokenizer: &Tokenizer,
        layout: &FimLayout,
        document: &Document,
        (start, end): (usize, usize),
        rng: &mut StdRng,
        row: &mut Vec<TokenId>,
    ) {
        let text = &document.text;
        let middle = middle_span(text, (start, end), rng);
        // What follows the middle: from nothing to a third of the piece.
        let after = rng.random_range(0..=(end - start) / 3);
        let suffix_end = char_floor(text, (middle.1 + after).min(text.len()));
        let suffix = tokenizer.encode(&text[middle.1..suffix_end]);
        let prefix = tokenizer.encode(&text[start..middle.1]);
        let prompt = FimPrompt { context: &document.header, prefix: &prefix, suffix: &suffix };
        row.extend(layout.assemble(&prompt));
        row.extend(layout.end());
    }
}

/// Where the middle lies: 40 % anywhere, 30 % the rest of a line, 30 % whole following lines.
fn middle_span(text: &str, (start, end): (usize, usize), rng: &mut StdRng) -> (usize, usize) {
    let low = start + (end - start) / 8;
    let from = char_floor(text, rng.random_range(low..=end));
    let line_end = text[from..end].find('\n').map_or(end, |i| from + i);
    let kind: f64 = rng.random();
    let to = if kind < 0.4 {
        char_floor(text, (from + rng.random_range(1..=200)).min(end))
    } else if kind < 0.7 {
        line_end
    } else {
        let lines = rng.random_range(1..=6);
        (0..lines).fold(line_end, |at, _| {
            let next = (at + 1).min(end);
            text[next..end].find('\n').map_or(end, |i| next + i)
        })
    };
    (from, to.max(from))
}

fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1)
}

fn char_floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(fim_rate: f64) -> (Dataset, Tokenizer) {
        let text = "fn größe(x: u8) -> u8 {\n    x + 1 // 🦀\n}\n\n".repeat(40);
        let tokenizer = crate::tokenizer::train([text.as_str()].into_iter(), 400).unwrap();
        let path = "src/lib.rs".to_string();
        let file = SourceFile { path, repository: "r".into(), language: "rust", text };
        let config = ExampleConfig { sequence: 96, fim_rate, seed: 7 };
        (Dataset::new(vec![file], &tokenizer, config), tokenizer)
    }

    #[test]
    fn examples_depend_on_their_index_alone() {
        let (dataset, tokenizer) = dataset(0.7);
        let all = dataset.batch(&tokenizer, 0, 6);
        let later = dataset.batch(&tokenizer, 4, 2);
        assert_eq!(all.tokens[4 * 96..], later.tokens);
        assert_ne!(all.tokens[..96], all.tokens[96..192]);
    }

    #[test]
    fn targets_are_the_next_tokens() {
        let (dataset, tokenizer) = dataset(0.0);
        let batch = dataset.batch(&tokenizer, 0, 1);
        assert_eq!(batch.tokens[1..], batch.targets[..95]);
    }

    #[test]
    fn a_middle_joins_its_prefix_and_ends() {
        let (dataset, tokenizer) = dataset(1.0);
        let ids = dataset.batch(&tokenizer, 3, 1).tokens;
        let at = |text| ids.iter().position(|&id| Some(id) == tokenizer.special(text));
        let (suffix, prefix) = (at("<|suffix|>").unwrap(), at("<|prefix|>").unwrap());
        assert!(suffix < prefix);
        if let Some(end) = ids[prefix..].iter().position(|&id| id == 0) {
            let before = tokenizer.decode(&ids[prefix..prefix + end]);
            assert!(dataset.documents[0].text.contains(&before));
        }
    }
}
