//! Text to token ids and back, special tokens, fill-in-the-middle layouts. Byte-level BPE, or the merges of
//! SentencePiece.
//!
//! Special-token strings in user text are never encoded as special tokens: text goes through the
//! bare BPE model, and only [`fim`] layouts and the templates of talks place special ids.

mod fim;
mod gguf;
mod marks;
mod sentencepiece;
mod train;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

pub use fim::{FimLayout, FimPrompt, Markers};
pub use gguf::{Additions, GgufVocabulary};
pub use train::{SPECIAL_TOKENS, train};

/// Index into the vocabulary.
pub type TokenId = u32;

/// A BPE tokenizer with its fill-in-the-middle layout.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The bytes that each id stands for; empty for special tokens.
    bytes: Vec<Box<[u8]>>,
    special: HashMap<String, TokenId>,
    /// Ids whose bytes start with a given byte, sorted by bytes: for token healing.
    by_bytes: Vec<TokenId>,
    layout: Option<FimLayout>,
    /// What a SentencePiece vocabulary finds before it merges; `None` for byte-level ones.
    whole: Option<sentencepiece::Whole>,
    marks: marks::Marks,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn from_file(path: &Path) -> Result<Tokenizer> {
        let json =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Tokenizer::from_json(&json).with_context(|| format!("{}", path.display()))
    }

    /// Parses the content of a `tokenizer.json`.
    pub fn from_json(json: &[u8]) -> Result<Tokenizer> {
        // The crate panics on some vocabularies that contradict themselves.
        let inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|_| anyhow::anyhow!("the tokenizer contradicts itself"))?
            .map_err(|e| anyhow::anyhow!("not a tokenizer.json: {e}"))?;
        Tokenizer::new(inner)
    }

    fn new(inner: tokenizers::Tokenizer) -> Result<Tokenizer> {
        let size = inner.get_vocab_size(true);
        let mut bytes: Vec<Box<[u8]>> = vec![Box::default(); size];
        let mut special = HashMap::new();
        let added = inner.get_added_tokens_decoder();
        let alphabet = byte_alphabet();
        let is_sentencepiece = match inner.get_model() {
            tokenizers::ModelWrapper::BPE(bpe) => bpe.byte_fallback,
            _ => false,
        };
        let (mut whole, mut marks) = (Vec::new(), Vec::new());
        for (text, id) in inner.get_vocab(true) {
            let Some(slot) = bytes.get_mut(id as usize) else {
                bail!("token id {id} lies outside a vocabulary of {size}; ids must be dense");
            };
            match added.get(&id) {
                // Some families (Qwen2.5-Coder) do not flag their markers as special.
                Some(token) if token.special || FimLayout::is_marker(&text) => {
                    special.insert(text, id);
                }
                Some(_) if is_sentencepiece => {
                    *slot = sentencepiece::bytes_of(&text).into();
                    whole.push((id, slot.to_vec()));
                }
                Some(_) => {
                    marks.push((text.clone(), id));
                    *slot = text.into_bytes().into();
                }
                None if is_sentencepiece && FimLayout::is_marker(&text) => {
                    special.insert(text, id);
                }
                None if is_sentencepiece => *slot = sentencepiece::bytes_of(&text).into(),
                None => match text.chars().map(|c| alphabet.get(&c).copied()).collect() {
                    Some::<Vec<u8>>(b) => *slot = b.into(),
                    None => {
                        bail!(
                            "token {text:?} is neither byte-level BPE nor SentencePiece with bytes, which are \
                         supported"
                        )
                    }
                },
            }
        }
        let mut by_bytes: Vec<TokenId> =
            (0..size as TokenId).filter(|&id| !bytes[id as usize].is_empty()).collect();
        by_bytes.sort_by(|&a, &b| bytes[a as usize].cmp(&bytes[b as usize]));
        let layout = FimLayout::detect(&special);
        marks.extend(special.iter().map(|(text, &id)| (text.clone(), id)));
        let marks = marks::Marks::new(marks)?;
        let whole = is_sentencepiece.then(|| sentencepiece::Whole::new(whole)).transpose()?;
        Ok(Tokenizer { inner, bytes, special, by_bytes, layout, whole, marks })
    }

    /// Entries of the vocabulary, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    /// The layout of fill-in-the-middle prompts that this vocabulary was made for, if any.
    pub fn fim(&self) -> Option<&FimLayout> {
        self.layout.as_ref()
    }

    /// The id of a special token by its text.
    pub fn special(&self, text: &str) -> Option<TokenId> {
        self.special.get(text).copied()
    }

    /// Whether the id is a special token (or padding), which never appears in output.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.bytes.get(id as usize).is_none_or(|b| b.is_empty())
    }

    /// Encodes text. Never yields special tokens, whatever the text contains.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        if let Some(whole) = &self.whole {
            return whole.encode(self.inner.get_model(), text);
        }
        let mut pieces = PreTokenizedString::from(text);
        if let Some(splitter) = self.inner.get_pre_tokenizer()
            && splitter.pre_tokenize(&mut pieces).is_err()
        {
            return Vec::new();
        }
        let model = self.inner.get_model();
        let mut ids = Vec::with_capacity(text.len() / 3);
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            if let Ok(tokens) = model.tokenize(piece) {
                ids.extend(tokens.iter().map(|t| t.id));
            }
        }
        ids
    }

    /// Where the last of the pieces begins that are tokenized each by itself: a word with its mark or space,
    /// a run of punctuation or of white space. The length of the text where a vocabulary has no such pieces.
    pub fn last_piece(&self, text: &str) -> usize {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        /// A piece that is worth knowing is shorter than this.
        const LOOK: usize = 256;
        let from = text.ceil_char_boundary(text.len().saturating_sub(LOOK));
        let from = text[from..].find('\n').map_or(from, |at| from + at);
        let mut pieces = PreTokenizedString::from(&text[from..]);
        let splitter = self.inner.get_pre_tokenizer().filter(|_| self.whole.is_none());
        let Some(splitter) = splitter else { return text.len() };
        if splitter.pre_tokenize(&mut pieces).is_err() {
            return text.len();
        }
        let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.last().map_or(text.len(), |(_, (start, _), _)| from + start)
    }

    /// The tokens that begin a document and name its file, in training and in prompts.
    pub fn file_header(&self, path: &str) -> Vec<TokenId> {
        let marker = self.fim().and_then(FimLayout::file);
        let start = self.fim().and_then(FimLayout::start);
        start.into_iter().chain(marker).chain(self.encode(&format!("{path}\n"))).collect()
    }

    /// The tokens of some lines of another file, which stand before the file's own header. Empty for
    /// families without such a marker.
    pub fn snippet(&self, path: &str, text: &str) -> Vec<TokenId> {
        let Some(marker) = self.special("<|snippet|>") else { return Vec::new() };
        std::iter::once(marker).chain(self.encode(&format!("{path}\n{text}"))).collect()
    }

    /// Some lines of another file before a file's own header, as the family knows it: our models by
    /// [`Tokenizer::snippet`], others by the separator of their repository-level format, if they have one.
    pub fn other_file(&self, path: &str, text: &str) -> Vec<TokenId> {
        let own = self.snippet(path, text);
        if !own.is_empty() {
            return own;
        }
        let Some(marker) = self.fim().and_then(FimLayout::file) else { return Vec::new() };
        std::iter::once(marker).chain(self.encode(&format!("{path}\n{text}"))).collect()
    }

    /// The prompt that asks our own models to correct `wrong`, some lines between `before` and `after`:
    /// header, `<|suffix|>` after, `<|prefix|>` before, `<|diagnostic|>` wrong, `<|fix|>`. The model
    /// continues with the right lines and `<|end|>`. `None` for other families.
    pub fn repair_prompt(
        &self,
        path: &str,
        before: &str,
        wrong: &str,
        after: &str,
    ) -> Option<Vec<TokenId>> {
        let mut tokens = self.file_header(path);
        let parts = [("<|suffix|>", after), ("<|prefix|>", before), ("<|diagnostic|>", wrong)];
        for (marker, text) in parts {
            tokens.push(self.special(marker)?);
            tokens.extend(self.encode(text));
        }
        tokens.push(self.special("<|fix|>")?);
        Some(tokens)
    }

    /// The bytes of one token; empty for special tokens and unknown ids.
    pub fn bytes(&self, id: TokenId) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |b| b)
    }

    /// The text of the ids; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ids whose bytes start with `prefix` or are a non-empty prefix of it: the tokens that may come
    /// next when the text so far must continue with `prefix` (token healing).
    pub fn compatible(&self, prefix: &[u8]) -> Vec<TokenId> {
        let key = |&id: &TokenId| &*self.bytes[id as usize];
        let start = self.by_bytes.partition_point(|id| key(id) < prefix);
        let longer = self.by_bytes[start..].iter().take_while(|id| key(id).starts_with(prefix));
        let mut ids: Vec<TokenId> = longer.copied().collect();
        for end in 1..prefix.len() {
            if let Ok(at) = self.by_bytes.binary_search_by(|id| key(id).cmp(&prefix[..end])) {
                ids.push(self.by_bytes[at]);
            }
        }
        ids
    }

    /// The content of a `tokenizer.json`.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| anyhow::anyhow!("cannot serialize tokenizer: {e}"))
    }
}

/// GPT-2's printable stand-ins for the 256 bytes.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256u32;
    (0..=255u8)
        .map(|b| {
            let code = if printable(b) { b as u32 } else { (next, next += 1).0 };
            (char::from_u32(code).expect("below U+0144"), b)
        })
        .collect()
}
