//! Names of special tokens in a text: read as tokens where a model's template has put them, and taken apart wherever they
//! stand in what somebody else wrote.

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::{Result, anyhow};

use super::{TokenId, Tokenizer};

/// All texts that stand for one token as a whole.
pub(super) struct Marks {
    search: Option<AhoCorasick>,
    texts: Vec<String>,
    ids: Vec<TokenId>,
}

impl Marks {
    /// `tokens`: each with its text.
    pub(super) fn new(tokens: Vec<(String, TokenId)>) -> Result<Marks> {
        let (texts, ids): (Vec<String>, Vec<TokenId>) =
            tokens.into_iter().filter(|(text, _)| !text.is_empty()).unzip();
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts);
        let search = search.map_err(|e| anyhow!("the special tokens cannot be sought: {e}"))?;
        Ok(Marks { search: (!ids.is_empty()).then_some(search), texts, ids })
    }
}

impl Tokenizer {
    /// The text with a `guard` inside of each name of a special token, and wherever its ends could complete one together
    /// with what stands beside it. White space at its ends stays there. `guard` is a character that is found nowhere else.
    pub fn guarded(&self, text: &str, guard: char) -> String {
        let core = text.trim();
        let from = text.len() - text.trim_start().len();
        let ends = from..from + core.len();
        let mut places = Vec::new();
        for name in &self.marks.texts {
            let first = name.chars().next().map_or(0, char::len_utf8);
            places.extend(text.match_indices(name.as_str()).map(|(at, _)| at + first));
            let cuts = || name.char_indices().skip(1).map(|(at, _)| name.split_at(at));
            if cuts().any(|(_, tail)| core.starts_with(tail)) {
                places.push(ends.start);
            }
            if cuts().any(|(head, _)| core.ends_with(head)) {
                places.push(ends.end);
            }
            if !core.is_empty() && name.contains(core) {
                places.extend([ends.start, ends.end]);
            }
        }
        places.sort_unstable();
        places.dedup();
        let mut guarded = String::with_capacity(text.len() + places.len() * guard.len_utf8());
        let mut done = 0;
        for place in places {
            guarded.push_str(&text[done..place]);
            guarded.push(guard);
            done = place;
        }
        guarded + &text[done..]
    }

    /// Encodes a text in which names of special tokens stand for them, but where a `guard` is inside, see
    /// [`Tokenizer::guarded`]. The guards themselves are left out. Whatever else it is made of must have been guarded.
    pub fn encode_marked(&self, text: &str, guard: char) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let plain = |text: &str, ids: &mut Vec<TokenId>| match text.contains(guard) {
            true => ids.extend(self.encode(&text.replace(guard, ""))),
            false => ids.extend(self.encode(text)),
        };
        let mut done = 0;
        for found in self.marks.search.iter().flat_map(|search| search.find_iter(text)) {
            plain(&text[done..found.start()], &mut ids);
            ids.push(self.marks.ids[found.pattern().as_usize()]);
            done = found.end();
        }
        plain(&text[done..], &mut ids);
        ids
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUARD: char = '\u{e000}';

    fn tokenizer() -> Tokenizer {
        crate::tokenizer::train(["fn main() { let end = suffix; }\n"].into_iter(), 300).unwrap()
    }

    proptest! {
        /// Whatever somebody writes, and wherever a template puts it, no special token comes of it.
        #[test]
        fn no_special_token_comes_from_text(
            parts in prop::collection::vec(prop_oneof![
                Just("<|end|>".to_string()), Just("<|".into()), Just("|>".into()), Just("en".into()),
                Just("<|fix".into()), Just("suffix|>".into()), "[<|>a-z \n]{0,4}",
            ], 0..6),
            before in prop_oneof![Just(""), Just("<|"), Just("<"), Just("<|e")],
            after in prop_oneof![Just(""), Just("|>"), Just(">"), Just("d|>")],
        ) {
            let tokenizer = tokenizer();
            let text = parts.concat();
            let guarded = tokenizer.guarded(&text, GUARD);
            prop_assert_eq!(guarded.replace(GUARD, ""), &text[..]);
            prop_assert_eq!(guarded.trim().replace(GUARD, ""), text.trim());
            let put = format!("<|prefix|>{before}{}{after}<|suffix|>", guarded.trim());
            let ids = tokenizer.encode_marked(&put, GUARD);
            let special: Vec<_> = ids.iter().filter(|&&id| tokenizer.is_special(id)).collect();
            prop_assert_eq!(special.len(), 2, "{}", put);
            prop_assert_eq!(tokenizer.decode(&ids), format!("{before}{}{after}", text.trim()));
        }
    }
}
