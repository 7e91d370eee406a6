//! What the model gets to see: the text around the cursor within a budget of tokens.
//!
//! In a file longer than the window, imports and the headers of the scopes around the cursor go before
//! the window, so that names and types stay known. The window's start moves in large steps, not with
//! each line: what was evaluated for the last keystroke stays valid for the next.

use std::path::Path;

use crate::generation::Prompt;
use crate::tokenizer::{FimPrompt, TokenId, Tokenizer};
use crate::workspace::Document;

/// Shares of the context; the rest of it is the prefix.
const SUFFIX_SHARE: usize = 5;
const DISTANT_SHARE: usize = 5;
/// A low guess of bytes per token, so that a window rarely has to be cut twice.
const BYTES_PER_TOKEN: usize = 3;

/// Builds the prompt for a cursor at `offset` of a text. `room` tokens are left for the answer.
///
/// `retrieved` are tokens of other files, which come first.
/// `text` is the document's text, or what it becomes when the editor's popup item is accepted.
pub(super) fn build(
    tokenizer: &Tokenizer,
    document: &Document,
    (text, offset): (&str, usize),
    retrieved: &[TokenId],
    context: usize,
    room: usize,
) -> Prompt {
    let budget = context.saturating_sub(room + 8);
    let Some(layout) = tokenizer.fim() else {
        // A model without fill-in-the-middle continues the prefix.
        let start = window_start(text, offset, budget * BYTES_PER_TOKEN);
        let (tokens, healed) = heal(tokenizer, &text[start..offset]);
        let mut tokens = last(&tokens, budget.max(1)).to_vec();
        let history = tokens.clone();
        if tokens.is_empty() {
            // A model needs something to continue; the file's name is never empty.
            tokens = tokenizer.file_header(&path_of(document));
            tokens.truncate(budget.max(1));
        }
        return Prompt { tokens, healed, history };
    };
    let mut path = tokenizer.file_header(&path_of(document));
    path.truncate(budget / 4);
    let budget = budget.saturating_sub(retrieved.len() + path.len() + layout.overhead());
    let suffix_end = line_end(text, offset, budget / SUFFIX_SHARE * BYTES_PER_TOKEN);
    let suffix = encode(tokenizer, &text[offset..suffix_end]);
    let suffix = &suffix[..suffix.len().min(budget / SUFFIX_SHARE)];
    let budget = budget - suffix.len();
    let mut start = window_start(text, offset, budget * BYTES_PER_TOKEN);
    let mut distant = Vec::new();
    if start > 0 {
        let limit = budget / DISTANT_SHARE;
        distant = encode(tokenizer, &distant_text(document, text, start, offset, limit));
        distant.truncate(limit);
        start = window_start(text, offset, (budget - limit) * BYTES_PER_TOKEN);
    }
    // Only where the prefix comes last can a cut token be made again.
    let (window, healed) = match layout.prefix_is_last() {
        true => heal(tokenizer, &text[start..offset]),
        false => (encode(tokenizer, &text[start..offset]), Vec::new()),
    };
    let history = last(&window, budget - distant.len()).to_vec();
    let prefix = [distant.as_slice(), &history].concat();
    let tokens = layout.assemble(&FimPrompt {
        context: &[retrieved, &path].concat(),
        prefix: &prefix,
        suffix,
    });
    Prompt { tokens, healed, history }
}

/// The text around a cursor as a remote model gets it: what is before and what is behind, with line breaks of one
/// character. As in [`build`], imports and headers stand for what is too far before.
pub(super) fn texts(document: &Document, text: &str, offset: usize) -> (String, String) {
    const BEFORE: usize = 8_000;
    const AFTER: usize = 2_000;
    let start = window_start(text, offset, BEFORE);
    let distant = match start {
        0 => String::new(),
        _ => distant_text(document, text, start, offset, BEFORE / DISTANT_SHARE / BYTES_PER_TOKEN),
    };
    let plain = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
    let suffix = &text[offset..line_end(text, offset, AFTER)];
    (plain(&(distant + &text[start..offset])), plain(suffix))
}

/// Where in `before`, the text before the cursor, the healed bytes begin.
pub(super) fn history_end(before: &str, healed: &[u8]) -> usize {
    // Line ends of two bytes are one in what the model sees.
    let seen = |at: &usize| {
        let tail = &before[*at..];
        tail.len() - if tail.contains('\r') { tail.matches("\r\n").count() } else { 0 }
    };
    let from = before.len().saturating_sub(2 * healed.len());
    let mut ends = (from..=before.len()).filter(|&at| before.is_char_boundary(at));
    ends.find(|at| seen(at) <= healed.len()).unwrap_or(before.len())
}

fn last(tokens: &[TokenId], count: usize) -> &[TokenId] {
    &tokens[tokens.len().saturating_sub(count)..]
}

/// Models are trained on \n.
fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
    if text.contains('\r') {
        tokenizer.encode(&text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        tokenizer.encode(text)
    }
}

/// Encodes text up to the cursor without its last word, whose bytes the model has to make again: the
/// cursor may stand in the middle of it, and its beginning alone would be other tokens.
fn heal(tokenizer: &Tokenizer, text: &str) -> (Vec<TokenId>, Vec<u8>) {
    /// Of a longer word, the last token is made again.
    const LONGEST: usize = 24;
    let start = tokenizer.last_piece(text);
    if text.len() - start <= LONGEST && !text[start..].contains('\r') {
        return (encode(tokenizer, &text[..start]), text.as_bytes()[start..].to_vec());
    }
    let mut tokens = encode(tokenizer, text);
    let healed = tokens.pop().map(|token| tokenizer.bytes(token).to_vec()).unwrap_or_default();
    (tokens, healed)
}

/// Where the window begins: at a line start within `bytes` of the cursor, on a grid of half windows.
fn window_start(text: &str, offset: usize, bytes: usize) -> usize {
    if offset <= bytes {
        return 0;
    }
    let step = (bytes / 2).max(1);
    let start = text.floor_char_boundary((offset - bytes).next_multiple_of(step).min(offset));
    // A line of its own if one begins soon; a very long line is cut anywhere.
    match text[start..offset].find('\n') {
        Some(at) => start + at + 1,
        None => start,
    }
}

/// The end of the last whole line within `bytes` after the cursor.
fn line_end(text: &str, offset: usize, bytes: usize) -> usize {
    if text.len() - offset <= bytes {
        return text.len();
    }
    let end = text.floor_char_boundary(offset + bytes);
    text[offset..end].rfind('\n').map_or(end, |at| offset + at + 1)
}

/// Imports and enclosing headers that the window has lost, one to a line.
fn distant_text(
    document: &Document,
    text: &str,
    window: usize,
    offset: usize,
    tokens: usize,
) -> String {
    let Some(tree) = &document.tree else { return String::new() };
    let mut lines = String::new();
    let limit = tokens * BYTES_PER_TOKEN;
    let source = document.text.as_str();
    // The popup item changes the text only at the cursor; what lies before the window is the same.
    let before = |range: &std::ops::Range<usize>| range.end <= window.min(source.len());
    let headers: Vec<_> = tree.scopes(source, offset.min(source.len()));
    let headers = headers.iter().map(|scope| scope.header.clone()).filter(|h| before(h));
    let mut tail = String::new();
    for header in headers {
        let line = text[..header.start].rfind('\n').map_or(0, |at| at + 1);
        tail.push_str(text[line..header.end].trim_end());
        tail.push('\n');
    }
    for import in tree.imports(source).into_iter().filter(before) {
        if lines.len() + import.len() + tail.len() > limit {
            break;
        }
        lines.push_str(text[import].trim_end());
        lines.push('\n');
    }
    lines + &tail
}

/// How models know a file: the last parts of its path, from the source folder on if there is one. Training
/// and prompts name files alike.
pub fn short_path(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let source =
        parts.iter().rposition(|p| matches!(&**p, "src" | "lib" | "pkg" | "tests" | "test"));
    let from = source.unwrap_or(parts.len().saturating_sub(2)).max(parts.len().saturating_sub(4));
    parts[from..].join("/")
}

pub(super) fn path_of(document: &Document) -> String {
    short_path(document.path.as_deref().unwrap_or(Path::new(&document.uri)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    fn tokenizer() -> Tokenizer {
        let code = "use std::fmt;\nimpl Thing {\n    fn work(&self) -> u32 {\n        let x = 1;\n";
        crate::tokenizer::train([code.repeat(9).as_str()].into_iter(), 420).unwrap()
    }

    /// The prompt's tokens as text, special tokens by name, and the healed bytes in braces.
    fn render(before: &str, after: &str, context: usize) -> String {
        let tokenizer = tokenizer();
        let text = format!("{before}{after}");
        let document = Document::new("file:///x/src/a.rs", "rust", 1, Text::new(text.clone()));
        let prompt = build(&tokenizer, &document, (&text, before.len()), &[], context, 16);
        assert!(prompt.tokens.len() + 16 <= context, "{} tokens", prompt.tokens.len());
        let name = |id: TokenId| {
            let special = crate::tokenizer::SPECIAL_TOKENS.get(id as usize);
            special.map_or_else(|| tokenizer.decode(&[id]), |name| name.to_string())
        };
        let shown: String = prompt.tokens.iter().map(|&id| name(id)).collect();
        format!("{shown}{{{}}}", String::from_utf8_lossy(&prompt.healed))
    }

    #[test]
    fn suffix_comes_before_prefix_and_the_last_token_is_healed() {
        let shown = render("let x = 1;\nlet", "\nfoo\r\n", 200);
        assert_eq!(shown, "<|file|>src/a.rs\n<|suffix|>\nfoo\n<|prefix|>let x = 1;\n{let}");
    }

    #[test]
    fn a_long_file_keeps_imports_and_scopes() {
        let filler = "        let x = 1;\n".repeat(300);
        let code = format!("use std::fmt;\nimpl Thing {{\n    fn work(&self) -> u32 {{\n{filler}");
        let shown = render(&code, "    }\n}\n", 256);
        let prefix = shown.split("<|prefix|>").nth(1).unwrap();
        assert!(prefix.starts_with("use std::fmt;\nimpl Thing"), "{prefix}");
        assert!(prefix.contains("    fn work(&self) -> u32"), "{prefix}");
        assert!(prefix.ends_with("let x = 1;{\n}") || prefix.contains("let x"), "{prefix}");
    }

    #[test]
    fn the_window_moves_in_large_steps() {
        let text = "0123456789\n".repeat(500);
        let starts: Vec<usize> =
            (3000..4000).map(|offset| window_start(&text, offset, 1000)).collect();
        let moves = starts.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(moves <= 3, "{moves}");
        for (start, offset) in starts.iter().zip(3000..4000) {
            assert!((400..=1000).contains(&(offset - start)));
        }
    }

    #[test]
    fn one_endless_line_is_cut() {
        let shown = render(&"x".repeat(5000), "", 128);
        assert!(shown.len() < 1500);
    }
}
