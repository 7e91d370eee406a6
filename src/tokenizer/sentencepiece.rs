//! Vocabularies of SentencePiece (Code Llama, CodeGemma): a space is written `▁`, a byte that no token
//! covers `<0x0A>`, and text is merged as a whole instead of word by word.

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::{Result, anyhow};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Merges};

use super::TokenId;

/// What stands for a space.
pub(super) const SPACE: char = '▁';

/// The byte that a token stands for, if it is written as one.
fn byte_of(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'))?;
    u8::from_str_radix(hex, 16).ok()
}

/// Whether a token stands for a byte that no other covers.
pub(super) fn is_byte(token: &str) -> bool {
    byte_of(token).is_some()
}

/// The bytes of a token that is no marker.
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    match byte_of(token) {
        Some(byte) => vec![byte],
        None => token.replace(SPACE, " ").into_bytes(),
    }
}

/// Tokens that are found in a text before anything is merged: runs of line breaks, of spaces, tags.
pub(super) struct Whole {
    search: Option<AhoCorasick>,
    ids: Vec<TokenId>,
}

impl Whole {
    /// `tokens`: each with its bytes.
    pub(super) fn new(tokens: Vec<(TokenId, Vec<u8>)>) -> Result<Whole> {
        let (ids, texts): (Vec<TokenId>, Vec<Vec<u8>>) = tokens.into_iter().unzip();
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
        let search = search.map_err(|e| anyhow!("the added tokens cannot be sought: {e}"))?;
        Ok(Whole { search: (!ids.is_empty()).then_some(search), ids })
    }

    /// Encodes text with the merges of `model` between those tokens.
    pub(super) fn encode(&self, model: &impl Model, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let merge = |text: &str, ids: &mut Vec<TokenId>| {
            let text = text.replace(' ', SPACE.encode_utf8(&mut [0; 4]));
            if let Ok(tokens) = model.tokenize(&text) {
                ids.extend(tokens.iter().map(|token| token.id));
            }
        };
        let mut from = 0;
        for found in self.search.iter().flat_map(|search| search.find_iter(text)) {
            merge(&text[from..found.start()], &mut ids);
            ids.push(self.ids[found.pattern().as_usize()]);
            from = found.end();
        }
        merge(&text[from..], &mut ids);
        ids
    }
}

/// The merges of a vocabulary that has a score for each token: two tokens become one if that is a token, the
/// best one first.
pub(super) fn merges(tokens: &[String], scores: &[f32], vocabulary: &super::gguf::Map) -> Merges {
    let mut merges: Vec<(usize, (String, String))> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if vocabulary.contains_key(left) && vocabulary.contains_key(right) {
                merges.push((id, (left.into(), right.into())));
            }
        }
    }
    merges.sort_by(|(a, _), (b, _)| scores[*b].total_cmp(&scores[*a]));
    merges.into_iter().map(|(_, pair)| pair).collect()
}

/// A model of merges that falls back to bytes.
pub(super) fn model(vocabulary: super::gguf::Map, merges: Merges) -> Result<BPE> {
    let unknown = Some("<unk>".to_string()).filter(|token| vocabulary.contains_key(token));
    let mut bpe = BPE::builder().vocab_and_merges(vocabulary, merges).byte_fallback(true);
    if let Some(unknown) = unknown {
        bpe = bpe.unk_token(unknown).fuse_unk(true);
    }
    bpe.build().map_err(|e| anyhow!("the scores do not fit the vocabulary: {e}"))
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::{GgufVocabulary, Tokenizer};

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }

    const JSON: &str = include_str!("../../tests/data/sentencepiece/tokenizer.json");

    #[track_caller]
    fn check(tokenizer: &Tokenizer) {
        let cases = include_str!("../../tests/data/sentencepiece/reference.json");
        for Case { text, ids } in serde_json::from_str::<Vec<Case>>(cases).unwrap() {
            assert_eq!(tokenizer.encode(&text), ids, "{text:?}");
            assert_eq!(tokenizer.decode(&ids), text);
        }
        let layout = tokenizer.fim().unwrap();
        assert_eq!((layout.name(), layout.start()), ("codegemma", tokenizer.special("<bos>")));
        let marked = tokenizer.encode("<bos><|fim_prefix|>");
        assert!(marked.iter().all(|id| !tokenizer.is_special(*id)), "text is no marker");
        assert_eq!(tokenizer.file_header("a.rs")[0], layout.start().unwrap());
    }

    #[test]
    fn tokens_are_those_of_hugging_face() {
        check(&Tokenizer::from_json(JSON.as_bytes()).unwrap());
    }

    #[test]
    fn what_is_written_to_gguf_gives_the_same_tokens() {
        let tokenizer = Tokenizer::from_json(JSON.as_bytes()).unwrap();
        let vocabulary = tokenizer.to_gguf().unwrap();
        let of_kind = |kind: i32| vocabulary.types.iter().filter(|t| **t == kind).count();
        assert_eq!((of_kind(3), of_kind(4), of_kind(6)), (8, 3, 256));
        check(&Tokenizer::from_gguf(vocabulary).unwrap());
    }

    #[test]
    fn scores_of_a_gguf_file_give_the_same_tokens() {
        let json: serde_json::Value = serde_json::from_str(JSON).unwrap();
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        let mut tokens = vec![String::new(); vocabulary.len()];
        for (token, id) in vocabulary {
            tokens[id.as_u64().unwrap() as usize] = token.clone();
        }
        let types = tokens.iter().enumerate().map(|(id, _)| match id {
            0..8 => 3,
            8..11 => 4,
            11..267 => 6,
            _ => 1,
        });
        let types = types.collect();
        // SentencePiece numbers merged tokens in the order in which they were learnt.
        let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
        let vocabulary = GgufVocabulary { tokens, types, scores, ..Default::default() };
        check(&Tokenizer::from_gguf(vocabulary).unwrap());
    }
}
