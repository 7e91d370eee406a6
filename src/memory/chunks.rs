//! Tokens of whole texts, fast: a text is cut where its tokens cannot reach across, and equal pieces are
//! encoded once.

use rustc_hash::FxHashMap;

use crate::tokenizer::{TokenId, Tokenizer};

/// Tokens that are remembered at most; then all are forgotten.
const MOST_TOKENS: usize = 4 << 20;

/// Remembers the tokens of lines. Code repeats its lines, and an edited text nearly all of them.
#[derive(Default)]
pub struct Chunks {
    known: FxHashMap<Box<str>, Box<[TokenId]>>,
    tokens: usize,
}

impl Chunks {
    /// Appends the tokens of `text`: those of [`Tokenizer::encode`] for vocabularies whose pieces do not go on
    /// behind the white space that follows a line break, as all byte-level ones do.
    pub fn encode(&mut self, tokenizer: &Tokenizer, text: &str, into: &mut Vec<TokenId>) {
        // Models are trained on \n.
        let unix;
        let mut rest = text;
        if text.contains('\r') {
            unix = text.replace("\r\n", "\n").replace('\r', "\n");
            rest = &unix;
        }
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_end(rest));
            rest = later;
            if let Some(tokens) = self.known.get(chunk) {
                into.extend_from_slice(tokens);
                continue;
            }
            let tokens = tokenizer.encode(chunk);
            into.extend_from_slice(&tokens);
            // Long lines are data and do not come again.
            if chunk.len() <= 400 {
                if self.tokens > MOST_TOKENS {
                    self.known.clear();
                    self.tokens = 0;
                }
                self.tokens += tokens.len();
                self.known.insert(chunk.into(), tokens.into());
            }
        }
    }
}

/// The end of the first line with the blank lines behind it: runs of line breaks are one piece.
fn chunk_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some(line) = bytes.iter().position(|&b| b == b'\n') else { return text.len() };
    let mut end = line + 1;
    loop {
        let blank =
            bytes[end..].iter().position(|b| !matches!(b, b' ' | b'\t' | b'\x0b' | b'\x0c'));
        match blank {
            Some(at) if bytes[end + at] == b'\n' => end += at + 1,
            // White space that is not ASCII could belong to the break.
            Some(at) if bytes[end + at] >= 0x80 => {
                let next = text[end + at..].find('\n').map_or(text.len(), |n| end + at + n + 1);
                match text[end + at..].chars().next() {
                    Some(c) if c.is_whitespace() => end = next,
                    _ => return end,
                }
            }
            Some(_) => return end,
            None => return text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_give_what_the_whole_gives(
            text in "([a-c_ \n\t;(){}\u{3000}é1]|    |\n\n|\r\n|foo|;\n){0,60}"
        ) {
            let code = "fn foo(a, b) {\n    c;\n\n    foo(1);\n}\n\n".repeat(9);
            let tokenizer = crate::tokenizer::train([code.as_str()].into_iter(), 400).unwrap();
            let mut chunks = Chunks::default();
            for _ in 0..2 {
                let mut tokens = Vec::new();
                chunks.encode(&tokenizer, &text, &mut tokens);
                let unix = text.replace("\r\n", "\n").replace('\r', "\n");
                prop_assert_eq!(&tokens, &tokenizer.encode(&unix));
            }
        }
    }
}
