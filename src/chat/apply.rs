//! A block of code put into the file that it is for: in place of the lines that are named, or of the definitions that it
//! brings anew. What parses worse than before is refused.

use std::ops::Range;

use super::blocks::Block;
use super::repository::first_line_about;
use crate::syntax::{Language, Scope, SyntaxTree};
use crate::text::{Text, TextEdit, apply};

/// A text with a block in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// All of it.
    pub text: String,
    /// What of the block was left out.
    pub left_out: Option<String>,
}

/// Puts a block into `text`, in place of the `lines` (first and last, from 1) if they are named.
///
/// # Errors
/// It is not clear where it belongs, or the text would parse worse than it does; a sentence with the way out.
pub fn put(
    text: &str,
    language: Option<&'static Language>,
    block: &Block,
    lines: Option<(usize, usize)>,
) -> Result<Applied, String> {
    let breaks = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let code = block.code.replace("\r\n", "\n");
    let code = code.trim_matches('\n');
    if code.trim().is_empty() {
        return Err("the block is empty".into());
    }
    let parse =
        |text: &str| language.and_then(|language| SyntaxTree::parse_steadily(language, text));
    let tree = parse(text);
    let (edits, left_out) = match (lines, &tree, text.trim().is_empty()) {
        (Some(lines), ..) => (vec![in_place_of(&Text::new(text), lines, code)?], None),
        (None, _, true) => (vec![whole(text, code)], None),
        (None, Some(tree), false) => definitions(tree, &Text::new(text), code)?,
        (None, None, false) => {
            return Err("files of this kind have no definitions to put it in place of: name the lines that it is for, as \
                        in /file PATH:FROM-TO"
                .into());
        }
    };
    let edits: Vec<TextEdit> = edits
        .into_iter()
        .map(|edit| TextEdit { new_text: edit.new_text.replace('\n', breaks), ..edit })
        .collect();
    let after = apply(text, &edits);
    if let (Some(before), Some(tree)) = (&tree, parse(&after))
        && tree.error_count(0..after.len()) > before.error_count(0..text.len())
    {
        return Err(broken(&tree, &after));
    }
    Ok(Applied { text: after, left_out })
}

/// What is wrong with a text, or a block, whose tree has errors.
fn broken(tree: &SyntaxTree, text: &str) -> String {
    let place = tree.faults().first().map_or(String::new(), |fault| {
        let text = Text::new(text);
        let line = text.line_of(fault.range.start);
        format!(": {}", crate::text::short(text.line(line).trim(), 60))
    });
    format!("the file would not parse any more{place}")
}

fn whole(text: &str, code: &str) -> TextEdit {
    TextEdit { range: 0..text.len(), new_text: format!("{code}\n") }
}

/// The block in place of some lines, indented as they are.
fn in_place_of(text: &Text, (from, to): (usize, usize), code: &str) -> Result<TextEdit, String> {
    let count = text.line_count();
    if from == 0 || from > to || to > count {
        return Err(format!("the file has {count} lines: {from}-{to} are none of them"));
    }
    let range = text.line_range(from - 1).start..text.line_range(to - 1).end;
    let first = text.as_str()[range.clone()].lines().find(|line| !line.trim().is_empty());
    Ok(TextEdit { new_text: indented(code, first.map_or("", indent)), range })
}

type Edits = (Vec<TextEdit>, Option<String>);

/// The definitions of a block in place of those that are called the same; new ones behind the last of them, and imports
/// to the imports.
fn definitions(tree: &SyntaxTree, text: &Text, code: &str) -> Result<Edits, String> {
    let language = tree.language();
    let plain = indented(code, "");
    let own = Text::new(&*plain);
    let block =
        SyntaxTree::parse_steadily(language, &plain).ok_or("the block is too long to be read")?;
    let brought = outermost(block.outline(&plain));
    let known = tree.outline(text.as_str());
    let top = outermost(known.clone());
    if !top.is_empty()
        && brought.len() > 1
        && top.iter().all(|old| brought.iter().any(|new| new.name == old.name))
    {
        return Ok((vec![whole(text.as_str(), code)], None));
    }
    let (mut edits, mut new, mut end): (Vec<TextEdit>, Vec<String>, usize) =
        (Vec::new(), Vec::new(), 0);
    let mut taken: Vec<Range<usize>> = Vec::new();
    for scope in &brought {
        let lines = lines_of(&own, &block, scope);
        taken.push(lines.clone());
        let lines = &plain[own.line_range(lines.start).start..own.line_range(lines.end - 1).end];
        match place_of(scope, &plain, &known, text.as_str())? {
            None => new.push(lines.to_string()),
            Some(old) => {
                let is_told = first_line_about(&own, language, own.line_of(scope.range.start))
                    < own.line_of(scope.range.start);
                let at = text.line_of(old.range.start);
                // Without a comment of its own it keeps the one that is there.
                let first = if is_told { first_line_about(text, language, at) } else { at };
                let range = text.line_range(first).start
                    ..text.line_range(text.line_of(old.range.end.max(1) - 1)).end;
                end = end.max(range.end);
                edits.push(TextEdit { new_text: indented(lines, indent(text.line(at))), range });
            }
        }
    }
    if edits.is_empty() {
        let names: Vec<&str> = brought.iter().filter_map(|scope| scope.name.as_deref()).collect();
        return Err(match names.is_empty() {
            true if block.error_count(0..plain.len()) > 0 => broken(&block, &plain),
            true => "the block defines nothing, so it is not clear where it belongs: name the lines that it is for, as in \
                     /file PATH:FROM-TO"
                .into(),
            false => format!(
                "nothing in the file is called {}: name the lines that the block is for, as in /file PATH:FROM-TO",
                names.join(" or ")
            ),
        });
    }
    if !new.is_empty() {
        let new_text = new.iter().map(|lines| format!("\n\n{}", lines.trim_end())).collect();
        edits.push(TextEdit { range: end..end, new_text });
    }
    let imports: Vec<Range<usize>> = block.imports(&plain);
    let missing: Vec<&str> = imports
        .iter()
        .map(|range| plain[range.clone()].trim())
        .filter(|line| !text.as_str().contains(line))
        .collect();
    if !missing.is_empty() {
        let last = tree.imports(text.as_str()).last().map(|range| range.end);
        let at = last.filter(|end| edits.iter().all(|edit| !edit.range.contains(end)));
        let lines = missing.join("\n");
        edits.push(match at {
            Some(at) => TextEdit { range: at..at, new_text: format!("\n{lines}") },
            None => TextEdit { range: 0..0, new_text: format!("{lines}\n") },
        });
    }
    taken.extend(imports.iter().map(|range| own.line_of(range.start)..own.line_of(range.end) + 1));
    let is_other = |line: usize| {
        let words = own.line(line).trim();
        let comment = language.line_comment.is_some_and(|mark| words.starts_with(mark));
        !words.is_empty() && !comment && !taken.iter().any(|lines| lines.contains(&line))
    };
    let others: Vec<&str> = (0..own.line_count())
        .filter(|line| is_other(*line))
        .map(|line| own.line(line).trim())
        .collect();
    let left_out = others.first().map(|first| {
        let first = crate::text::short(first, 50);
        format!(
            "{} line(s) of the block belong to no definition and are left out: {first}",
            others.len()
        )
    });
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    if edits.windows(2).any(|pair| pair[1].range.start < pair[0].range.end) {
        return Err("the block brings a definition twice: name the lines that it is for, as in /file PATH:FROM-TO".into());
    }
    Ok((edits, left_out))
}

/// The lines of a definition with what is written about it, from 0.
fn lines_of(text: &Text, tree: &SyntaxTree, scope: &Scope) -> Range<usize> {
    let first = first_line_about(text, tree.language(), text.line_of(scope.range.start));
    first..text.line_of(scope.range.end.max(1) - 1) + 1
}

/// Those that lie in no other.
fn outermost(scopes: Vec<Scope>) -> Vec<Scope> {
    let mut kept: Vec<Scope> = Vec::new();
    for scope in scopes.into_iter().filter(|scope| scope.name.is_some()) {
        if kept.last().is_none_or(|outer| scope.range.start >= outer.range.end) {
            kept.push(scope);
        }
    }
    kept
}

/// The definition that a new one stands for; `None` if there is none yet.
fn place_of<'a>(
    new: &Scope,
    code: &str,
    known: &'a [Scope],
    text: &str,
) -> Result<Option<&'a Scope>, String> {
    let header = |scope: &Scope, text: &str| {
        text[scope.header.clone()].split_whitespace().collect::<String>()
    };
    let adds = |scope: &Scope, text: &str| header(scope, text).starts_with("impl");
    let same: Vec<&Scope> = known
        .iter()
        .filter(|old| {
            old.name == new.name && old.kind == new.kind && adds(old, text) == adds(new, code)
        })
        .collect();
    let exact: Vec<&&Scope> =
        same.iter().filter(|old| header(old, text) == header(new, code)).collect();
    match (&same[..], &exact[..]) {
        ([], _) => Ok(None),
        ([one], _) => Ok(Some(one)),
        (_, [one]) => Ok(Some(one)),
        _ => {
            let name = new.name.as_deref().unwrap_or_default();
            Err(format!(
                "{name} is defined {} times in the file: name the lines that the block is for, as in /file PATH:FROM-TO",
                same.len()
            ))
        }
    }
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// Lines with `indent` in place of the indentation that all of them share.
fn indented(lines: &str, indent: &str) -> String {
    let used = || lines.lines().filter(|line| !line.trim().is_empty());
    let shared = used().map(|line| self::indent(line).len()).min().unwrap_or(0);
    let each = lines.lines().map(|line| match line.trim().is_empty() {
        true => String::new(),
        false => format!("{indent}{}", &line[shared..]),
    });
    each.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: &str = "import math\n\n\ndef area(w, h):\n    # As drawn.\n    return w + h\n\n\nclass Box:\n    def volume(self):\n        return 1\n";

    fn applied(
        language: &str,
        text: &str,
        code: &str,
        lines: Option<(usize, usize)>,
    ) -> Result<Applied, String> {
        let block = Block { code: code.into(), ..Block::default() };
        put(text, Language::by_name(language), &block, lines)
    }

    fn text(language: &str, before: &str, code: &str, lines: Option<(usize, usize)>) -> String {
        applied(language, before, code, lines).unwrap().text
    }

    #[test]
    fn a_definition_takes_the_place_of_the_one_of_its_name() {
        let code = "import os\n\ndef area(w, h):\n    return w * h\n\ndef side(a):\n    return math.sqrt(a)\n\nprint(area(1, 2))\n";
        let done = applied("python", SHAPES, code, None).unwrap();
        let wanted = SHAPES.replace("import math", "import math\nimport os").replace(
            "    # As drawn.\n    return w + h",
            "    return w * h\n\ndef side(a):\n    return math.sqrt(a)",
        );
        assert_eq!(done.text, wanted);
        assert!(done.left_out.unwrap().contains("print(area(1, 2))"));
        // A method is indented as the one before.
        let done = text("python", SHAPES, "def volume(self):\n    return 2\n", None);
        assert_eq!(done, SHAPES.replace("return 1", "return 2"));
        let rust = "/// Adds.\nfn add(a: u8) -> u8 {\r\n    a\r\n}\r\n";
        let done = text("rust", rust, "/// Adds one.\nfn add(a: u8) -> u8 {\n    a + 1\n}", None);
        assert_eq!(done, "/// Adds one.\r\nfn add(a: u8) -> u8 {\r\n    a + 1\r\n}\r\n");
    }

    #[test]
    fn named_lines_are_replaced_and_an_empty_file_is_filled() {
        let done = text("python", SHAPES, "return 3", Some((11, 11)));
        assert_eq!(done, SHAPES.replace("return 1", "return 3"));
        assert_eq!(text("python", "", "x = 1\n", None), "x = 1\n");
        assert!(applied("python", SHAPES, "x", Some((90, 91))).unwrap_err().contains("12 lines"));
    }

    #[test]
    fn what_does_not_parse_or_belongs_nowhere_is_refused() {
        for (code, lines, words) in [
            ("def area(w, h:\n    return w *\n", None, "would not parse any more"),
            ("return (1", Some((11, 11)), "would not parse any more: return (1"),
            ("def other():\n    pass\n", None, "nothing in the file is called other"),
            ("print(1)\n", None, "defines nothing"),
            (" \n", None, "is empty"),
        ] {
            let told = applied("python", SHAPES, code, lines).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        // What was broken before may stay so.
        let broken = format!("{SHAPES}\ndef half(:\n");
        assert!(applied("python", &broken, "def area(w, h):\n    return w * h\n", None).is_ok());
        let twice =
            "struct A;\nimpl A {\n    fn new() {}\n}\nstruct B;\nimpl B {\n    fn new() {}\n}\n";
        assert!(applied("rust", twice, "fn new() { f() }", None).unwrap_err().contains("2 times"));
    }

    #[test]
    fn a_block_with_all_definitions_is_the_file() {
        let code = "def area(w, h):\n    return w * h\n\n\nclass Box:\n    pass\n";
        assert_eq!(text("python", SHAPES, code, None), code);
    }
}
