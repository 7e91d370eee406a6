//! Training a byte-level BPE vocabulary on source code.

use anyhow::{Result, anyhow};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::Tokenizer;

/// Special tokens of our own models, in id order from 0. `end` also separates documents.
pub const SPECIAL_TOKENS: [&str; 8] = [
    "<|end|>",
    "<|file|>",
    "<|prefix|>",
    "<|suffix|>",
    "<|middle|>",
    "<|snippet|>",
    "<|diagnostic|>",
    "<|fix|>",
];

/// How text is cut before merging: the pattern that GGUF files call "qwen2" (digits one by one,
/// words with one leading mark or space, runs of punctuation, line breaks, spaces), so that other
/// engines cut exactly alike.
pub(super) const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Learns `vocab_size` tokens (256 bytes and the special ones among them) from the texts.
pub fn train<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    vocab_size: usize,
) -> Result<Tokenizer> {
    let error = |e| anyhow!("cannot train a tokenizer: {e}");
    let split =
        Split::new(SplitPattern::Regex(PATTERN.into()), SplitDelimiterBehavior::Isolated, false)
            .map_err(error)?;
    let bytes = ByteLevel::new(false, true, false);
    let mut inner = tokenizers::Tokenizer::new(BPE::default());
    inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(bytes),
    ]))));
    inner.with_decoder(Some(bytes));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(
            SPECIAL_TOKENS.iter().map(|&text| AddedToken::from(text, true)).collect::<Vec<_>>(),
        )
        .build();
    let mut wrapped = tokenizers::models::TrainerWrapper::BpeTrainer(std::mem::take(&mut trainer));
    inner.train(&mut wrapped, texts).map_err(error)?;
    Tokenizer::new(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_and_special_strings_stay_text() {
        let code =
            "fn main() {\n    let größe = 1234;\r\n\tprintln!(\"<|end|> 🦀\");\n}\n".repeat(20);
        let tokenizer = train([code.as_str()].into_iter(), 400).unwrap();
        let ids = tokenizer.encode(&code);
        assert!(ids.len() * 2 < code.len());
        assert_eq!(tokenizer.decode(&ids), code);
        assert!(ids.iter().all(|&id| !tokenizer.is_special(id)));
        assert_eq!(tokenizer.special("<|end|>"), Some(0));
        let again = Tokenizer::from_json(tokenizer.to_json().unwrap().as_bytes()).unwrap();
        assert_eq!(again.encode(&code), ids);
    }

    #[test]
    fn healing_offers_every_token_that_fits() {
        let tokenizer =
            train(["return returns ret re".repeat(9).as_str()].into_iter(), 300).unwrap();
        let fits = tokenizer.compatible(b"ret");
        assert!(!fits.is_empty());
        for id in 0..tokenizer.vocab_size() as u32 {
            let bytes = tokenizer.bytes(id);
            let expected =
                !bytes.is_empty() && (bytes.starts_with(b"ret") || b"ret".starts_with(bytes));
            assert_eq!(fits.contains(&id), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
