//! A tokenizer from and to GGUF metadata: tokens, merges and the pre-tokenizer's name.

use anyhow::{Result, anyhow, bail};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::{Tokenizer, sentencepiece};

/// How text is cut before it is merged, by `tokenizer.ggml.pre`: patterns one after the other, and whether
/// that of GPT-2's byte-level splitter follows.
const PATTERNS: [(&str, &[&str], bool); 9] = [
    ("qwen2", &[super::train::PATTERN], false),
    ("gpt-2", &[], true),
    ("default", &[], true),
    ("smollm", &[DIGIT], true),
    ("starcoder", &[DIGIT], true),
    ("refact", &[DIGIT], true),
    ("command-r", &[DIGIT], true),
    ("llama-bpe", &[LLAMA3], false),
    ("deepseek-coder", &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT], false),
];
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What GGUF calls the kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The `tokenizer.ggml.*` entries of a GGUF file.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.pre`.
    pub pre: String,
    /// `tokenizer.ggml.tokens`, in id order.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, as long as `tokens`.
    pub types: Vec<i32>,
    /// `tokenizer.ggml.merges`: "left right", best first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.scores` of a SentencePiece vocabulary, as long as `tokens`; else empty.
    pub scores: Vec<f32>,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Tokenizer> {
        let GgufVocabulary { pre, tokens, types, merges, scores } = vocabulary;
        if types.len() != tokens.len() {
            bail!("{} token types for {} tokens", types.len(), tokens.len());
        }
        let mut added = Vec::new();
        for (text, kind) in tokens.iter().zip(&types) {
            match *kind {
                CONTROL | UNUSED => added.push(AddedToken::from(text.clone(), true)),
                USER_DEFINED => added.push(AddedToken::from(text.clone(), false)),
                _ => {}
            }
        }
        let add = |mut inner: tokenizers::Tokenizer| {
            let (special, plain): (Vec<_>, Vec<_>) = added.into_iter().partition(|t| t.special);
            inner.add_special_tokens(special).map_err(|e| anyhow!("{e}"))?;
            inner.add_tokens(plain).map_err(|e| anyhow!("{e}"))?;
            Tokenizer::new(inner)
        };
        if !scores.is_empty() {
            if scores.len() != tokens.len() {
                bail!("{} scores for {} tokens", scores.len(), tokens.len());
            }
            let vocabulary: Map = tokens.iter().cloned().zip(0..).collect();
            let merges = sentencepiece::merges(&tokens, &scores, &vocabulary);
            return add(tokenizers::Tokenizer::new(sentencepiece::model(vocabulary, merges)?));
        }
        let Some(&(_, patterns, gpt2)) = PATTERNS.iter().find(|row| row.0 == pre) else {
            let known = PATTERNS.map(|row| row.0).join(", ");
            bail!("tokenizer.ggml.pre \"{pre}\" is not supported; supported: {known}");
        };
        let pairs = merges
            .iter()
            .map(|merge| match merge.split_once(' ') {
                Some((left, right)) => Ok((left.to_string(), right.to_string())),
                None => Err(anyhow!("merge {merge:?} is no pair")),
            })
            .collect::<Result<Vec<_>>>()?;
        let vocabulary: Map = tokens.into_iter().zip(0..).collect();
        // The builder panics on a product that is longer than every token.
        for (left, right) in &pairs {
            if !vocabulary.contains_key(&format!("{left}{right}")) {
                bail!("the merges do not fit the vocabulary: {left:?} + {right:?} is no token");
            }
        }
        let bpe = BPE::builder().vocab_and_merges(vocabulary, pairs);
        let bpe = bpe.ignore_merges(pre == "llama-bpe").build();
        let bpe = bpe.map_err(|e| anyhow!("the merges do not fit the vocabulary: {e}"))?;
        let mut steps = Vec::new();
        let split = |pattern: &str| {
            let pattern = SplitPattern::Regex(pattern.into());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map(PreTokenizerWrapper::Split)
                .map_err(|e| anyhow!("{e}"))
        };
        for pattern in patterns {
            steps.push(split(pattern)?);
        }
        let bytes = ByteLevel::new(false, true, gpt2);
        steps.push(PreTokenizerWrapper::ByteLevel(bytes));
        let mut inner = tokenizers::Tokenizer::new(bpe);
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(steps))));
        inner.with_decoder(Some(bytes));
        add(inner)
    }

    /// The GGUF entries of a tokenizer that [`super::train`] made.
    pub fn to_gguf(&self) -> Result<GgufVocabulary> {
        let json: serde_json::Value = serde_json::from_str(&self.to_json()?)?;
        let mut tokens = vec![String::new(); self.vocab_size()];
        for (text, id) in self.inner.get_vocab(true) {
            tokens[id as usize] = text;
        }
        let types = (0..self.vocab_size() as u32)
            .map(|id| if self.is_special(id) { CONTROL } else { NORMAL })
            .collect();
        let merges = json["model"]["merges"].as_array().cloned().unwrap_or_default();
        let merges = merges
            .iter()
            .map(|merge| match merge {
                serde_json::Value::String(text) => text.clone(),
                pair => format!(
                    "{} {}",
                    pair[0].as_str().unwrap_or_default(),
                    pair[1].as_str().unwrap_or_default()
                ),
            })
            .collect();
        Ok(GgufVocabulary { pre: "qwen2".into(), tokens, types, merges, scores: Vec::new() })
    }
}

/// The map type that the tokenizers crate takes vocabularies in.
pub(super) type Map = ahash::AHashMap<String, u32>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_survives_gguf() {
        let code = "pub fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n".repeat(30);
        let tokenizer = super::super::train([code.as_str()].into_iter(), 350).unwrap();
        let again = Tokenizer::from_gguf(tokenizer.to_gguf().unwrap()).unwrap();
        assert_eq!(again.encode(&code), tokenizer.encode(&code));
        assert_eq!(again.special("<|prefix|>"), tokenizer.special("<|prefix|>"));
    }

    #[test]
    fn scores_are_merges_and_bytes_are_the_rest() {
        let pieces = ["<unk>", "<s>", "▁", "a", "b", "ab", "▁ab", "\n\n", "▁▁"];
        let bytes: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
        let tokens: Vec<String> = pieces.iter().map(|p| p.to_string()).chain(bytes).collect();
        let mut types = vec![NORMAL; tokens.len()];
        (types[0], types[1], types[7]) = (2, CONTROL, USER_DEFINED);
        let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
        let vocabulary = GgufVocabulary { tokens, types, scores, ..Default::default() };
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        let ids = |text: &str| tokenizer.encode(text);
        assert_eq!(ids("ab ab  b"), [5, 6, 8, 4]);
        assert_eq!(ids("a\n\nb"), [3, 7, 4]);
        assert_eq!(ids("<s>é").len(), 5, "no marker comes from text");
        for text in ["ab ab\n\n\n  été <0x41>", "▁"] {
            assert_eq!(tokenizer.decode(&ids(text)), text.replace('▁', " "));
        }
    }

    #[test]
    fn an_unknown_splitter_is_named() {
        let vocabulary = GgufVocabulary { pre: "runes".into(), ..Default::default() };
        let error = Tokenizer::from_gguf(vocabulary).err().unwrap().to_string();
        assert!(error.contains("runes") && error.contains("qwen2"), "{error}");
    }
}
