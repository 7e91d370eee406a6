//! Bits per byte: how well a model predicts the text of repositories that it was not trained on.
//!
//! The whole text of a file is tokenized and every one of its tokens is scored. Before the text stands the
//! file's header (path), which the model sees and which is not scored. Where header and text are longer
//! than the context, windows overlap: each begins with the header and half a window of text that was
//! scored before, so that a scored token has at least half a window of text before it, or all there is.
//! The sum of −ln p over the tokens, divided by ln 2 and by the bytes of the text, is the figure: one
//! unit for all vocabularies. The end of a file is not scored. Intervals take files as the unit sampled.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::middles::{self, MiddleLoss};
use super::ngram::Ngram;
use crate::generation::Model;
use crate::model::engine::EngineError;
use crate::model::kv_cache::KvCache;
use crate::statistics::{Ratio, table, with_interval};
use crate::tokenizer::TokenId;
use crate::train::corpus::SourceFile;

/// Tokens given to the engine at once: enough for its kernels, few enough for a large vocabulary's logits.
const CHUNK: usize = 256;

/// What a model's predictions cost, in one language.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LanguageLoss {
    /// The language.
    pub language: &'static str,
    /// Files scored.
    pub files: usize,
    /// Bytes of their text.
    pub bytes: usize,
    /// Tokens of it.
    pub tokens: usize,
    /// Bits per byte.
    pub bits_per_byte: f64,
    /// Half the width of its 95 % interval over files.
    pub interval: Option<f64>,
    /// Bits per byte of the n-gram model on the same files.
    pub ngram_bits_per_byte: Option<f64>,
    /// How many percent lower the model is than the n-gram model.
    pub below_ngram: Option<f64>,
    /// Rests of lines with the text around them known.
    pub middles: Option<MiddleLoss>,
}

/// What a model's predictions cost, by language.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LossReport {
    /// The model.
    pub model: String,
    /// Tokens of its context.
    pub context: usize,
    /// One row per language, most bytes first.
    pub languages: Vec<LanguageLoss>,
    /// Tokens that the n-gram model was counted on.
    pub ngram_tokens: Option<usize>,
}

/// Scores the files with the model and, if there is one, the n-gram model. `middles` rests of lines are
/// drawn by `seed` in each language. `say` hears what is counted, how much of it is done, and of how much.
pub fn loss(
    model: &Model,
    ngram: Option<&Ngram>,
    files: &[SourceFile],
    middles: usize,
    seed: u64,
    say: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<LossReport> {
    let total: usize = files.iter().map(|f| f.text.len()).sum();
    if total == 0 {
        bail!("no text to score");
    }
    let mut names: Vec<&'static str> = files.iter().map(|f| f.language).collect();
    names.sort_unstable();
    names.dedup();
    let mut cache = model.engine.new_cache();
    let (mut languages, mut done) = (Vec::new(), 0);
    for &language in &names {
        let files: Vec<&SourceFile> = files.iter().filter(|f| f.language == language).collect();
        let encoded: Vec<(Vec<TokenId>, Vec<TokenId>)> =
            files.par_iter().map(|f| encode(model, f)).collect();
        let (mut ratio, mut tokens, mut bytes) = (Ratio::default(), 0, 0);
        for (file, (header, text)) in files.iter().zip(&encoded) {
            let nats = nats(model, &mut cache, header, text)?;
            ratio.add(bits(nats), file.text.len() as f64);
            (tokens, bytes) = (tokens + text.len(), bytes + file.text.len());
            done += file.text.len();
            say("bytes scored", done, total);
        }
        let baseline = ngram.map(|ngram| {
            let nats: Vec<f64> =
                encoded.par_iter().map(|(header, text)| ngram.nats(header, text)).collect();
            bits(nats.iter().sum()) / bytes as f64
        });
        let bits_per_byte = ratio.value();
        languages.push(LanguageLoss {
            language,
            files: files.len(),
            bytes,
            tokens,
            bits_per_byte,
            interval: ratio.interval(),
            ngram_bits_per_byte: baseline,
            below_ngram: baseline.map(|b| 100.0 * (1.0 - bits_per_byte / b)),
            middles: None,
        });
    }
    for (i, row) in languages.iter_mut().enumerate() {
        let files: Vec<&SourceFile> = files.iter().filter(|f| f.language == row.language).collect();
        let all = middles * names.len();
        let mut say = |done| say("rests of lines scored", middles * i + done, all);
        row.middles = middles::middles(model, &mut cache, &files, middles, seed, &mut say)?;
    }
    languages.sort_by_key(|l| std::cmp::Reverse(l.bytes));
    Ok(LossReport {
        model: model.name.clone(),
        context: model.engine.context(),
        languages,
        ngram_tokens: ngram.map(Ngram::tokens),
    })
}

/// The tokens of a file's header and of its text.
pub fn encode(model: &Model, file: &SourceFile) -> (Vec<TokenId>, Vec<TokenId>) {
    let mut header = model.tokenizer.file_header(&file.path);
    header.truncate(model.engine.context() / 4);
    (header, model.tokenizer.encode(&file.text))
}

pub(super) fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// −ln p of `text` after `header`, in overlapping windows of the context.
fn nats(
    model: &Model,
    cache: &mut KvCache,
    header: &[TokenId],
    text: &[TokenId],
) -> Result<f64, EngineError> {
    let room = model.engine.context() - header.len();
    let (mut sum, mut scored, mut start) = (0.0, 0, 0);
    while scored < text.len() {
        let end = (start + room).min(text.len());
        let window = [header, &text[start..end]].concat();
        sum += window_nats(model, cache, &window, end - scored)?;
        (scored, start) = (end, end.saturating_sub(room / 2));
    }
    Ok(sum)
}

/// −ln p of the last `count` tokens of a window that fits the context. The very first token of a window
/// without any before it is certain: nothing predicts it.
pub(super) fn window_nats(
    model: &Model,
    cache: &mut KvCache,
    window: &[TokenId],
    count: usize,
) -> Result<f64, EngineError> {
    cache.truncate(0);
    let vocabulary = model.config().vocab_size;
    let first = (window.len() - count).saturating_sub(1);
    let (mut sum, mut at) = (0.0, 0);
    while at + 1 < window.len() {
        let end = (at + CHUNK).min(window.len() - 1);
        let wanted = end - first.clamp(at, end);
        let logits = model.engine.forward(cache, &window[at..end], wanted)?;
        let targets = &window[end - wanted + 1..=end];
        // Added one after the other: in another order each time, the last bit would change from run to run.
        let nats: Vec<f64> = logits
            .par_chunks(vocabulary)
            .zip(targets)
            .map(|(row, &target)| {
                let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = row.iter().map(|l| (l - top).exp()).sum();
                f64::from(top - row[target as usize]) + f64::from(total).ln()
            })
            .collect();
        sum += nats.iter().sum::<f64>();
        at = end;
    }
    Ok(sum)
}

impl std::fmt::Display for LossReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut head = vec!["language", "files", "KB", "tokens", "bits per byte"];
        if self.ngram_tokens.is_some() {
            head.extend(["5-gram", "lower by"]);
        }
        head.extend(["middles", "left only"]);
        let mut rows = vec![head.into_iter().map(String::from).collect::<Vec<_>>()];
        for l in &self.languages {
            let mut row = vec![
                l.language.to_string(),
                l.files.to_string(),
                (l.bytes / 1000).to_string(),
                l.tokens.to_string(),
                with_interval(l.bits_per_byte, l.interval, 3),
            ];
            if let (Some(ngram), Some(below)) = (l.ngram_bits_per_byte, l.below_ngram) {
                row.extend([format!("{ngram:.3}"), format!("{below:.1} %")]);
            }
            if let Some(m) = &l.middles {
                row.push(with_interval(m.bits_per_byte, m.interval, 3));
                row.push(format!("{:.3}", m.left_only_bits_per_byte));
            }
            rows.push(row);
        }
        f.write_str(&table(&rows))?;
        if let Some(tokens) = self.ngram_tokens {
            writeln!(f, "5-gram model: Jelinek-Mercer, {tokens} tokens counted")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::ModelSource;
    use crate::model::engine::Precision;

    fn tiny() -> Model {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny");
        Model::load(&ModelSource::Path(path.into()), Precision::Float).unwrap()
    }

    /// The same sum, one token at a time: the definition in the header.
    fn one_by_one(model: &Model, header: &[TokenId], text: &[TokenId]) -> f64 {
        let room = model.engine.context() - header.len();
        let mut cache = model.engine.new_cache();
        let (mut sum, mut end) = (0.0, room);
        let mut row = model.engine.forward(&mut cache, header, 1).unwrap();
        for (i, &token) in text.iter().enumerate() {
            if i == end {
                let start = end - room / 2;
                end = start + room;
                cache.truncate(0);
                let window = [header, &text[start..i]].concat();
                row = model.engine.forward(&mut cache, &window, 1).unwrap();
            }
            let total: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
            sum += total.ln() - f64::from(row[token as usize]);
            if i + 1 < end {
                row = model.engine.forward(&mut cache, &[token], 1).unwrap();
            }
        }
        sum
    }

    #[test]
    fn windows_give_what_single_tokens_give() {
        let model = tiny();
        let code = "fn add(a: u32, b: u32) -> u32 {\n    a + b\n}\n".repeat(30);
        let file = SourceFile {
            path: "src/add.rs".into(),
            repository: "r".into(),
            language: "rust",
            text: code,
        };
        let (header, text) = encode(&model, &file);
        let length = (model.engine.context() * 2).min(text.len());
        let text = &text[..length];
        assert!(text.len() > model.engine.context(), "more than one window");
        let mut cache = model.engine.new_cache();
        let batched = nats(&model, &mut cache, &header, text).unwrap();
        let single = one_by_one(&model, &header, text);
        assert!((batched - single).abs() < 1e-3 * single, "{batched} {single}");
    }

    #[test]
    fn every_byte_of_a_language_is_counted() {
        let file = |path: &str, language, text: &str| SourceFile {
            path: path.into(),
            repository: "r".into(),
            language,
            text: text.into(),
        };
        let files = [
            file("a.rs", "rust", "fn main() { let größe = 1; }\n"),
            file("b.rs", "rust", "use std::fmt;\n"),
            file("c.py", "python", "import os\n"),
        ];
        let mut heard = Vec::new();
        let report = loss(&tiny(), None, &files, 0, 1, &mut |_, at, all| heard.push((at, all)));
        let report = report.unwrap();
        let rows: Vec<_> =
            report.languages.iter().map(|l| (l.language, l.files, l.bytes)).collect();
        assert_eq!(rows, [("rust", 2, 45), ("python", 1, 10)]);
        assert!(report.languages.iter().all(|l| l.bits_per_byte > 0.0));
        assert_eq!(heard.last(), Some(&(55, 55)));
        assert!(loss(&tiny(), None, &[], 0, 1, &mut |_, _, _| {}).is_err());
    }
}
