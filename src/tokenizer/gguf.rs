//! A tokenizer from and to GGUF metadata: tokens, merges and the pre-tokenizer's name.

use anyhow::{Result, anyhow, bail};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    SplitDelimiterBehavior,
};

use super::{Tokenizer, sentencepiece};

/// How text is cut before it is merged, by `tokenizer.ggml.pre`: patterns one after the other, and whether
/// that of GPT-2's byte-level splitter follows.
const PATTERNS: [(&str, &[&str], bool); 12] = [
    ("qwen2", &[super::train::PATTERN], false),
    ("stablelm2", &[super::train::PATTERN], false),
    ("gpt-2", &[], true),
    ("default", &[], true),
    ("mpt", &[], true),
    ("olmo", &[], true),
    ("smollm", &[DIGIT], true),
    ("starcoder", &[DIGIT], true),
    ("refact", &[DIGIT], true),
    ("command-r", &[DIGIT], true),
    ("llama-bpe", &[LLAMA3], false),
    ("deepseek-coder", &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT], false),
];
/// Of these, the one whose whole words are looked up before they are merged.
const IGNORES_MERGES: &str = "llama-bpe";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What GGUF calls the kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

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
        let bpe = bpe.ignore_merges(pre == IGNORES_MERGES).build();
        let bpe = bpe.map_err(|e| anyhow!("the merges do not fit the vocabulary: {e}"))?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        inner.with_pre_tokenizer(Some(splitter(patterns, gpt2)?));
        inner.with_decoder(Some(ByteLevel::new(false, true, gpt2)));
        add(inner)
    }

    /// The GGUF entries of this tokenizer.
    ///
    /// # Errors
    /// It cuts text in a way that GGUF has no name for.
    pub fn to_gguf(&self) -> Result<GgufVocabulary> {
        let json: serde_json::Value = serde_json::from_str(&self.to_json()?)?;
        let mut tokens = vec![String::new(); self.vocab_size()];
        for (text, id) in self.inner.get_vocab(true) {
            tokens[id as usize] = text;
        }
        let is_sentencepiece = self.whole.is_some();
        let added = self.inner.get_added_tokens_decoder();
        let kind = |(id, text): (usize, &String)| match id as u32 {
            id if self.is_special(id) => CONTROL,
            id if added.contains_key(&id) => USER_DEFINED,
            _ if is_sentencepiece && sentencepiece::is_byte(text) => BYTE,
            _ => NORMAL,
        };
        let types = tokens.iter().enumerate().map(kind).collect();
        let merges = json["model"]["merges"].as_array().cloned().unwrap_or_default();
        let merges: Vec<String> = merges
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
        if !is_sentencepiece {
            let pre = self.splitter_name(json["model"]["ignore_merges"] == true)?.into();
            return Ok(GgufVocabulary { pre, tokens, types, merges, scores: Vec::new() });
        }
        // The earlier a merge, the better is what it makes; what none makes comes last.
        let mut scores = vec![-(merges.len() as f32); tokens.len()];
        for (rank, merge) in merges.iter().enumerate().rev() {
            if let Some(id) = self.inner.token_to_id(&merge.replacen(' ', "", 1)) {
                scores[id as usize] = -(rank as f32);
            }
        }
        Ok(GgufVocabulary { pre: "default".into(), tokens, types, merges: Vec::new(), scores })
    }

    /// What the library puts before and behind a text, and whether it puts a space before its first word.
    pub fn additions(&self) -> Additions {
        let ids = |with_special: bool| {
            let encoding = self.inner.encode("a", with_special);
            encoding.map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
        };
        let (bare, whole) = (ids(false), ids(true));
        let first = bare.first().and_then(|id| self.inner.id_to_token(*id));
        Additions {
            start: whole.first() != bare.first(),
            end: whole.last() != bare.last(),
            space: first.is_some_and(|token| token.starts_with(sentencepiece::SPACE)),
        }
    }

    /// The name of the row that cuts text as this tokenizer does.
    fn splitter_name(&self, ignores_merges: bool) -> Result<&'static str> {
        /// Where the rows disagree: marks of elision, digits, other scripts, white space of all kinds.
        const PROBE: &str = "I'm HE'S größer_than 12345.5 !=(x)\n\n\t  if\r\n  数字あ١٢ <|a|>;\n}";
        let own = self.inner.get_pre_tokenizer().map(|splitter| pieces(splitter, PROBE));
        for (name, patterns, gpt2) in PATTERNS {
            if (name == IGNORES_MERGES) == ignores_merges
                && own == Some(pieces(&splitter(patterns, gpt2)?, PROBE))
            {
                return Ok(name);
            }
        }
        let known = PATTERNS.map(|row| row.0).join(", ");
        bail!("this vocabulary cuts text in a way without a name in GGUF; those with one: {known}")
    }
}

/// What `tokenizers` adds to a text when it encodes it for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Additions {
    /// A token before it.
    pub start: bool,
    /// A token behind it.
    pub end: bool,
    /// A space before its first word.
    pub space: bool,
}

fn splitter(patterns: &[&str], gpt2: bool) -> Result<PreTokenizerWrapper> {
    let mut steps = Vec::new();
    for pattern in patterns {
        let pattern = SplitPattern::Regex((*pattern).into());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(PreTokenizerWrapper::Split(split.map_err(|e| anyhow!("{e}"))?));
    }
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, gpt2)));
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
}

/// What a text is cut into before it is merged.
fn pieces(splitter: &PreTokenizerWrapper, text: &str) -> Vec<String> {
    let mut cut = PreTokenizedString::from(text);
    if splitter.pre_tokenize(&mut cut).is_err() {
        return Vec::new();
    }
    let cut = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
    cut.into_iter().map(|(piece, ..)| piece.to_string()).collect()
}

/// The map type that the tokenizers crate takes vocabularies in.
pub(super) type Map = ahash::AHashMap<String, u32>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vocabulary_survives_gguf() {
        let code = "pub fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n".repeat(30);
        let tokenizer = super::super::train([code.as_str()].into_iter(), 350).unwrap();
        let again = Tokenizer::from_gguf(tokenizer.to_gguf().unwrap()).unwrap();
        assert_eq!(again.encode(&code), tokenizer.encode(&code));
        assert_eq!(again.special("<|prefix|>"), tokenizer.special("<|prefix|>"));
    }

    /// The name of a way to cut text that a `tokenizer.json` describes.
    fn name_of(pre_tokenizer: serde_json::Value) -> Result<&'static str> {
        let text = "fn a".repeat(20);
        let tokenizer = super::super::train([text.as_str()].into_iter(), 270).unwrap();
        let mut json: serde_json::Value =
            serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
        json["pre_tokenizer"] = pre_tokenizer;
        Tokenizer::from_json(json.to_string().as_bytes()).unwrap().splitter_name(false)
    }

    #[test]
    fn a_way_to_cut_text_is_named_by_what_it_does() {
        let bytes = |regex: bool| {
            let (space, offsets) = (false, true);
            json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": offsets,
                   "use_regex": regex})
        };
        let sequence =
            |steps: Vec<serde_json::Value>| json!({"type": "Sequence", "pretokenizers": steps});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        assert_eq!(name_of(bytes(true)).unwrap(), "gpt-2");
        assert_eq!(name_of(sequence(vec![digits, bytes(true)])).unwrap(), "smollm");
        let qwen = split(super::super::train::PATTERN);
        assert_eq!(name_of(sequence(vec![qwen, bytes(false)])).unwrap(), "qwen2");
        let error = name_of(sequence(vec![split(r"\S+"), bytes(false)])).unwrap_err().to_string();
        assert!(error.contains("without a name") && error.contains("starcoder"), "{error}");
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
