//! Bits per byte of rests of lines, with the text on both sides known and with the left side alone.
//!
//! A place is a word boundary inside a line of at least 12 characters that is no comment of its own, and
//! counts if a token begins there. With both
//! sides, the prompt is the family's fill-in-the-middle layout; a quarter of the room goes to the text
//! after the line. Alone, the same prefix stands in its plain order. The middle's tokens are scored, the
//! mark that ends it is not.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::perplexity::{bits, window_nats};
use crate::generation::Model;
use crate::model::engine::EngineError;
use crate::model::kv_cache::KvCache;
use crate::statistics::Ratio;
use crate::tokenizer::{FimPrompt, TokenId};
use crate::train::corpus::SourceFile;

/// Share of the room that the text after the middle may take.
const SUFFIX_SHARE: usize = 4;
/// More bytes than a token has on average: text farther away than the context is not tokenized.
const BYTES_PER_TOKEN: usize = 8;

/// What rests of lines cost.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct MiddleLoss {
    /// Places.
    pub places: usize,
    /// Bytes of the middles.
    pub bytes: usize,
    /// Bits per byte with the text on both sides.
    pub bits_per_byte: f64,
    /// Half the width of its 95 % interval over places.
    pub interval: Option<f64>,
    /// Bits per byte of the same middles after the same prefix alone.
    pub left_only_bits_per_byte: f64,
}

/// Scores `count` places in files of one language; `None` for a model without fill-in-the-middle, or if
/// no place was found. `say` hears of places done.
pub(super) fn middles(
    model: &Model,
    cache: &mut KvCache,
    files: &[&SourceFile],
    count: usize,
    seed: u64,
    say: &mut dyn FnMut(usize),
) -> Result<Option<MiddleLoss>, EngineError> {
    let Some(layout) = model.tokenizer.fim() else { return Ok(None) };
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut both, mut left, mut bytes) = (Ratio::default(), Ratio::default(), 0);
    let (mut places, mut tries) = (0, 0);
    while places < count && tries < count * 100 {
        tries += 1;
        let file = files[rng.random_range(0..files.len())];
        let Some((offset, end)) = place(&file.text, &mut rng) else { continue };
        let Some(cut) = cut(model, file, offset, end) else { continue };
        let Cut { header, prefix, middle, suffix } = &cut;
        let prompt = layout.assemble(&FimPrompt { context: header, prefix, suffix });
        let size = (end - offset) as f64;
        let window = [&prompt, middle.as_slice()].concat();
        both.add(bits(window_nats(model, cache, &window, middle.len())?), size);
        let window = [header.as_slice(), prefix, middle].concat();
        left.add(bits(window_nats(model, cache, &window, middle.len())?), size);
        (places, bytes) = (places + 1, bytes + end - offset);
        say(places);
    }
    Ok((places > 0).then(|| MiddleLoss {
        places,
        bytes,
        bits_per_byte: both.value(),
        interval: both.interval(),
        left_only_bits_per_byte: left.value(),
    }))
}

struct Cut {
    header: Vec<TokenId>,
    prefix: Vec<TokenId>,
    middle: Vec<TokenId>,
    suffix: Vec<TokenId>,
}

/// The parts around a middle that together fit the context, or nothing where a token spans the cut.
fn cut(model: &Model, file: &SourceFile, offset: usize, end: usize) -> Option<Cut> {
    let (tokenizer, context) = (&model.tokenizer, model.engine.context());
    let (text, reach) = (&file.text, context * BYTES_PER_TOKEN);
    let mut header = tokenizer.file_header(&file.path);
    header.truncate(context / 4);
    let from = text.floor_char_boundary(offset.saturating_sub(reach));
    let from = if from == 0 { 0 } else { from + text[from..offset].find('\n')? + 1 };
    // Prefix and middle are one text, as in training.
    let tokens = tokenizer.encode(&text[from..end]);
    let mut length = 0;
    let split = tokens.iter().position(|&t| {
        let here = length == offset - from;
        length += if here { 0 } else { tokenizer.bytes(t).len() };
        here
    })?;
    let (prefix, middle) = tokens.split_at(split);
    let until = text.floor_char_boundary((end + reach).min(text.len()));
    let mut suffix = tokenizer.encode(&text[end..until]);
    let overhead = tokenizer.fim()?.overhead();
    let room = context.checked_sub(header.len() + middle.len() + overhead)?;
    suffix.truncate(room / SUFFIX_SHARE);
    let prefix = &prefix[prefix.len().saturating_sub(room - suffix.len())..];
    Some(Cut { header, prefix: prefix.to_vec(), middle: middle.to_vec(), suffix })
}

/// A cursor and the end of its line, or nothing if the drawn line does not qualify.
fn place(text: &str, rng: &mut StdRng) -> Option<(usize, usize)> {
    let at = text.floor_char_boundary(rng.random_range(0..text.len()));
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    let line = &text[start..end];
    let trimmed = line.trim();
    if trimmed.len() < 12 || trimmed.starts_with(['#', '/', '*', '"']) {
        return None;
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let indent = line.len() - line.trim_start().len();
    let boundaries: Vec<usize> = line
        .char_indices()
        .zip(line.chars().skip(1))
        .filter(|((i, a), b)| *i >= indent && word(*a) != word(*b))
        .map(|((i, a), _)| i + a.len_utf8())
        .filter(|&i| line[i..].trim_end().len() >= 3)
        .collect();
    if boundaries.is_empty() {
        return None;
    }
    Some((start + boundaries[rng.random_range(0..boundaries.len())], end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::ModelSource;
    use crate::model::engine::Precision;

    #[test]
    fn the_parts_meet_at_the_cursor_and_fit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny");
        let model = Model::load(&ModelSource::Path(path.into()), Precision::Float).unwrap();
        let text = "fn add(first: u32, second: u32) -> u32 {\n    first + second\n}\n".repeat(90);
        let file = SourceFile {
            path: "src/a.rs".into(),
            repository: "r".into(),
            language: "rust",
            text: text.clone(),
        };
        let mut cuts = 0;
        for line in [0, 80] {
            let start = text.match_indices("fn add").nth(line).unwrap().0;
            let end = start + text[start..].find('\n').unwrap();
            for offset in start + 1..end {
                let Some(cut) = cut(&model, &file, offset, end) else { continue };
                cuts += 1;
                let decode = |tokens: &[TokenId]| model.tokenizer.decode(tokens);
                assert!(text[..offset].ends_with(&decode(&cut.prefix)));
                assert_eq!(decode(&cut.middle), text[offset..end]);
                assert!(text[end..].starts_with(&decode(&cut.suffix)));
                let length = [&cut.header, &cut.prefix, &cut.middle, &cut.suffix];
                let length: usize = length.iter().map(|part| part.len()).sum();
                assert!(length + 2 <= model.engine.context(), "{length}");
            }
        }
        assert!(cuts > 10);
        let mut cache = model.engine.new_cache();
        let loss = middles(&model, &mut cache, &[&file], 5, 1, &mut |_| {}).unwrap().unwrap();
        assert_eq!(loss.places, 5);
        assert!(loss.bits_per_byte > 0.0 && loss.left_only_bits_per_byte > 0.0);
    }
}
