//! The blocks of code in a text of Markdown, and the files that they name.

use std::path::Path;

use crate::syntax::Language;

/// A block between fences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The language, as its fence names it; may be empty.
    pub language: String,
    /// The file that it is for: named by its fence, by a comment in its first line, or right before it.
    pub path: Option<String>,
    /// The lines, without one that only names the file.
    pub code: String,
    /// Whether its last fence is missing.
    pub is_open: bool,
}

/// The blocks of a text, in order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize, Block)> = None;
    let mut before = "";
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        match &mut open {
            None => match fence(trimmed) {
                Some(mark) => {
                    let block = begun(trimmed[mark.len()..].trim(), before);
                    open = Some((mark, line.len() - line.trim_start().len(), block));
                }
                None if trimmed.is_empty() => {}
                None => before = trimmed,
            },
            Some((mark, indent, block)) => {
                if trimmed.starts_with(*mark) && trimmed.trim_start_matches(&mark[..1]).is_empty() {
                    found.extend(open.take().map(|(_, _, block)| closed(block)));
                    before = "";
                } else {
                    // A block inside of a list is indented with it.
                    let own = line.len() - line.trim_start_matches([' ', '\t']).len();
                    block.code.push_str(&line[own.min(*indent)..]);
                }
            }
        }
    }
    found.extend(open.map(|(_, _, block)| closed(Block { is_open: true, ..block })));
    found
}

/// The text without its blocks.
pub(super) fn prose(text: &str) -> String {
    let mut prose = String::new();
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        match open {
            None => match fence(trimmed) {
                Some(mark) => open = Some(mark),
                None => prose.push_str(line),
            },
            Some(mark)
                if trimmed.starts_with(mark)
                    && trimmed.trim_start_matches(&mark[..1]).is_empty() =>
            {
                open = None
            }
            Some(_) => {}
        }
    }
    prose
}

/// Lines between fences that none of the lines can end.
pub(super) fn fenced(language: &str, code: &str) -> String {
    let mut mark = "```".to_string();
    while code.contains(&mark) {
        mark.push('`');
    }
    let end = if code.is_empty() || code.ends_with('\n') { "" } else { "\n" };
    format!("{mark}{language}\n{code}{end}{mark}\n")
}

/// The marks with which a line opens a block.
fn fence(line: &str) -> Option<&str> {
    let mark = line.chars().next().filter(|mark| "`~".contains(*mark))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    (length >= 3 && !line[length..].contains('`')).then(|| &line[..length])
}

/// A block whose first fence says `info`, after a line of prose.
fn begun(info: &str, before: &str) -> Block {
    let mut words = info.split([' ', ',', '{', '}']).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or("");
    let (language, rest) = first.split_once(':').unwrap_or((first, ""));
    let values = words.map(|word| word.split_once('=').map_or(word, |(_, value)| value));
    let path = std::iter::once(rest)
        .chain(values)
        .map(|word| word.trim_matches(['"', '\'']))
        .find(|w| is_path(w));
    let language = if path.is_none() && is_path(language) { "" } else { language };
    let path = path.or_else(|| is_path(first).then_some(first));
    let path =
        path.or_else(|| before.split(['`', '*', ' ', ':', '(', ')']).rfind(|word| is_path(word)));
    Block { language: language.to_lowercase(), path: path.map(String::from), ..Block::default() }
}

/// A block with all of its lines.
fn closed(mut block: Block) -> Block {
    let (first, rest) = block.code.split_once('\n').unwrap_or((&block.code, ""));
    let comment = ["//", "#", "--", "/*", "<!--", ";"]
        .iter()
        .find_map(|mark| first.trim().strip_prefix(mark));
    let comment = comment.map(|text| text.trim_end_matches(['*', '/', '-', '>']).trim());
    let comment = comment.map(|text| {
        ["path:", "file:", "File:"].iter().fold(text, |t, word| t.trim_start_matches(word).trim())
    });
    if let Some(path) = comment.filter(|path| is_path(path)) {
        block.path = Some(path.to_string());
        block.code = rest.to_string();
    }
    block
}

/// Whether a word looks like the path of a file.
pub(super) fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-/\\+@".contains(c);
    let name = word.rsplit(['/', '\\']).next().unwrap_or("");
    let extension = name.rsplit_once('.').filter(|(stem, end)| !stem.is_empty() && !end.is_empty());
    let is_source = || Language::by_path(Path::new(word)).is_some();
    !word.contains("//")
        && word.chars().all(plain)
        && extension.is_some()
        && (word.contains('/') || is_source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_the_files_that_they_name() {
        let text = "Change `src/a.py`:\n\n```python\nx = 1\n```\n\nand\n```rust src/b.rs\nfn f() {}\n```\n1. so:\n   ```\n   \
                    // src/c.js\n   f();\n   ```\n~~~go:d.go\n```\n~~~\n```toml title=\"e.toml\"\na = 1";
        let found = blocks(text);
        let told: Vec<_> =
            found.iter().map(|b| (&*b.language, b.path.as_deref(), &*b.code, b.is_open)).collect();
        assert_eq!(
            told,
            [
                ("python", Some("src/a.py"), "x = 1\n", false),
                ("rust", Some("src/b.rs"), "fn f() {}\n", false),
                ("", Some("src/c.js"), "f();\n", false),
                ("go", Some("d.go"), "```\n", false),
                ("toml", Some("e.toml"), "a = 1", true),
            ]
        );
        assert_eq!(prose("a\n```\nb\n```\nc"), "a\nc");
        assert_eq!(fenced("md", "```\n"), "````md\n```\n````\n");
        assert!(blocks("no `code` here").is_empty());
    }

    #[test]
    fn words_are_no_paths() {
        for (word, path) in [
            ("src/a.rs", true),
            ("a.py", true),
            ("e.g.", false),
            ("self.name", false),
            ("https://a.b/c.d", false),
            ("3.5", false),
        ] {
            assert_eq!(is_path(word), path, "{word}");
        }
    }
}
