//! Where completions are asked for: places drawn by a seed, the same ones whoever is asked.
//!
//! All lines of all files are shuffled, and taken in that order if they qualify: lines of code with at
//! least five word-like tokens (an identifier, a number, or a single punctuation mark; a string counts by
//! what is in it), none that are comment or string as a whole.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::Mode;
use crate::eval::texts::Repository;
use crate::syntax::{self, Language, Scope, ScopeKind, SyntaxTree};
use crate::text::Text;

/// Word-like tokens of a line at least.
const LEAST_TOKENS: usize = 5;
/// Characters of the rest of a line at least.
const LEAST_REST: usize = 3;
/// Lines of a block.
const BLOCK_LINES: Range<usize> = 2..11;

/// A cursor and the answer behind it, in bytes of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Index of the file in its repository.
    pub file: usize,
    /// The cursor.
    pub cursor: usize,
    /// Where the answer ends.
    pub end: usize,
    /// Where the known text goes on if any is known: behind the answer, or behind the run of new lines
    /// that it is part of.
    pub resume: usize,
}

/// At most `count` places. The first of more are those of fewer. `languages` limits the files, unless it
/// is empty.
pub fn draw(
    repository: &Repository,
    mode: Mode,
    languages: &[String],
    seed: u64,
    count: usize,
) -> Vec<Place> {
    let files = &repository.files;
    let wanted = |language| languages.is_empty() || languages.iter().any(|l| l == language);
    let mut lines: Vec<(usize, usize)> = Vec::new();
    for (index, file) in files.iter().enumerate().filter(|(_, f)| wanted(f.language)) {
        let count = file.text.lines().count();
        match &repository.since {
            None => lines.extend((0..count).map(|line| (index, line))),
            Some(since) => {
                let runs = since.added.get(&file.path).into_iter().flatten().cloned();
                lines.extend(runs.flatten().filter(|&l| l < count).map(|line| (index, line)));
            }
        }
    }
    let mut rng = StdRng::seed_from_u64(seed);
    lines.shuffle(&mut rng);
    let mut parsed: HashMap<usize, File> = HashMap::new();
    let (mut places, mut taken, mut answers) = (Vec::new(), HashSet::new(), HashSet::new());
    for (index, line) in lines {
        if places.len() >= count {
            break;
        }
        let source = &files[index];
        let file = parsed.entry(index).or_insert_with(|| File::new(source.language, &source.text));
        // Drawn for every line, so that no rule moves the draws of later lines.
        let choice: f64 = rng.random();
        let Some(answer) = file.answer(mode, line, choice) else { continue };
        let text = source.text[answer.clone()].trim_end().to_string();
        // RepoEval's lines do not repeat.
        if mode == Mode::Line && !answers.insert(text) {
            continue;
        }
        if !taken.insert((index, answer.start)) {
            continue;
        }
        let runs = repository.since.as_ref().and_then(|since| since.added.get(&source.path));
        let last = file.text.line_of(answer.end);
        let run = runs.and_then(|runs| runs.iter().find(|run| run.contains(&last)));
        let resume = run.map_or(answer.end, |run| file.text.line_range(run.end - 1).end);
        places.push(Place { file: index, cursor: answer.start, end: answer.end, resume });
    }
    places
}

/// A file that was looked into.
struct File {
    text: Text,
    tree: Option<SyntaxTree>,
}

impl File {
    fn new(language: &str, text: &str) -> File {
        let language = Language::by_name(language);
        let tree = language.and_then(|language| SyntaxTree::parse_steadily(language, text));
        File { text: Text::new(text), tree }
    }

    /// What is to be completed at a line, if it qualifies. `choice` (0 to 1) is where in the line.
    fn answer(&self, mode: Mode, line: usize, choice: f64) -> Option<Range<usize>> {
        let range = self.text.line_range(line);
        let tokens = tokens(&self.text.as_str()[range.clone()], range.start);
        if tokens.len() < LEAST_TOKENS || !tokens.iter().any(|&at| self.is_code(at)) {
            return None;
        }
        let end = range.start + self.text.line(line).trim_end().len();
        match mode {
            Mode::Line => Some(tokens[0]..end),
            Mode::Rest => {
                let rest = |at: usize| self.text.as_str()[at..end].chars().count();
                let cuts = tokens[1..].iter().filter(|&&at| rest(at) >= LEAST_REST);
                let cuts: Vec<usize> = cuts.copied().collect();
                let cut = cuts.get((choice * cuts.len() as f64) as usize)?;
                Some(*cut..end)
            }
            Mode::Block => self.block(tokens[0], line),
        }
    }

    /// Whether a token begins outside of comments and strings; their closing mark does not.
    fn is_code(&self, token: usize) -> bool {
        let Some(tree) = &self.tree else { return true };
        let next = self.text.as_str()[token..].chars().next().map_or(1, char::len_utf8);
        [token, token + next].iter().all(|&at| tree.place(at) == syntax::Place::Code)
    }

    /// The inside of the smallest function or block around the line, if it has the right length.
    fn block(&self, token: usize, line: usize) -> Option<Range<usize>> {
        let text = self.text.as_str();
        let after = token + text[token..].chars().next().map_or(0, char::len_utf8);
        let tree = self.tree.as_ref()?;
        let scopes = tree.scopes(text, after).into_iter().rev();
        let scopes = scopes.filter(|s| matches!(s.kind, ScopeKind::Function | ScopeKind::Block));
        let lines =
            |body: &Range<usize>| self.text.line_of(body.start)..self.text.line_of(body.end) + 1;
        let around = |body: &Range<usize>| lines(body).contains(&line);
        let body = scopes.filter_map(|scope| inside(&scope, tree, text)).find(around)?;
        BLOCK_LINES.contains(&lines(&body).len()).then_some(body)
    }
}

/// The first block behind the header of a scope, without its brackets, if it has lines of its own. What
/// comes after it, such as `else`, is another block.
fn inside(scope: &Scope, tree: &SyntaxTree, text: &str) -> Option<Range<usize>> {
    let mut body = scope.header.end..scope.range.end;
    let open = body.end - text[body.clone()].trim_start().len();
    let bracketed = text[open..body.end].starts_with('{');
    if bracketed {
        let mut depth = 0;
        let mut marks =
            text[open..body.end].match_indices(['{', '}']).map(|(at, m)| (open + at, m));
        let (close, _) = marks.find(|&(at, mark)| {
            if tree.place(at) == syntax::Place::Code {
                depth += if mark == "{" { 1 } else { -1 };
            }
            depth == 0
        })?;
        body = open + 1..close;
    }
    let (head, rest) = text[body.clone()].split_once('\n').filter(|(h, _)| h.trim().is_empty())?;
    let start = body.start + head.len() + 1 + (rest.len() - rest.trim_start().len());
    let mut end = body.end;
    if !bracketed {
        let indent = start - text[..start].rfind('\n').map_or(0, |at| at + 1);
        let mut at = start;
        for line in text[start..body.end].split_inclusive('\n') {
            let outside = line.len() - line.trim_start().len() < indent && !line.trim().is_empty();
            if at > start && outside {
                end = at;
                break;
            }
            at += line.len();
        }
    }
    let end = start + text[start..end.max(start)].trim_end().len();
    (start < end).then_some(start..end)
}

/// Where the word-like tokens of a line begin, counted from `start`.
fn tokens(line: &str, start: usize) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut inside = false;
    let mut starts = Vec::new();
    for (at, c) in line.char_indices() {
        let goes_on = inside && is_word(c);
        if !c.is_whitespace() && !goes_on {
            starts.push(start + at);
        }
        inside = is_word(c);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::texts::Since;
    use crate::train::corpus::SourceFile;

    const RUST: &str = "\
/// Adds one and one and one, as doc comments go.
fn first(value: u32) -> u32 {
    let doubled = value * 2 + 1;
    // let commented = value * 2 + 1;
    let doubled = value * 2 + 1;
    consume(\"a string, not a comment\", doubled)
}

fn second() {
    short();
}
";
    const PYTHON: &str = "\
def third(value):
    \"\"\"Says what the function does, at length.\"\"\"
    if value.is_large(limit=3):
        result = compute(value, 1)
        return result + other(value)
    return None
";

    fn repository() -> Repository {
        let file = |path: &str, language, text: &str| SourceFile {
            path: path.into(),
            repository: "r".into(),
            language,
            text: text.into(),
        };
        let files = vec![file("a.rs", "rust", RUST), file("b.py", "python", PYTHON)];
        Repository::of_files("r", files)
    }

    fn answers(repository: &Repository, mode: Mode, seed: u64) -> Vec<String> {
        let places = draw(repository, mode, &[], seed, 100);
        places.iter().map(|p| repository.files[p.file].text[p.cursor..p.end].to_string()).collect()
    }

    #[test]
    fn tokens_are_words_and_single_marks() {
        assert_eq!(tokens("  a_1 += \"b c\";", 10), [12, 16, 17, 19, 20, 22, 23, 24]);
        assert_eq!(tokens("größe", 0), [0]);
    }

    #[test]
    fn whole_lines_are_code_of_some_length_and_asked_once() {
        let mut found = answers(&repository(), Mode::Line, 1);
        found.sort();
        let expected = [
            "consume(\"a string, not a comment\", doubled)",
            "def third(value):",
            "fn first(value: u32) -> u32 {",
            "fn second() {",
            "if value.is_large(limit=3):",
            "let doubled = value * 2 + 1;",
            "result = compute(value, 1)",
            "return result + other(value)",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn rests_begin_at_tokens_inside_of_a_line() {
        let found = answers(&repository(), Mode::Rest, 1);
        assert_eq!(found.len(), 9, "the repeated line is asked twice");
        for rest in &found {
            let line = RUST.lines().chain(PYTHON.lines()).find(|l| l.ends_with(rest.as_str()));
            let before = line.unwrap().strip_suffix(rest.as_str()).unwrap();
            assert!(!before.trim().is_empty() && rest.len() >= LEAST_REST, "{rest}");
            let inside = |c: char| c.is_alphanumeric() || c == '_';
            assert!(!(before.ends_with(inside) && rest.starts_with(inside)), "{before}|{rest}");
        }
    }

    #[test]
    fn blocks_are_the_insides_of_small_scopes() {
        let mut found = answers(&repository(), Mode::Block, 1);
        found.sort();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("\"\"\"Says") && found[0].ends_with("return None"));
        assert!(found[1].starts_with("let doubled") && found[1].ends_with("doubled)"));
        assert_eq!(found[2], "result = compute(value, 1)\n        return result + other(value)");
    }

    #[test]
    fn a_block_ends_before_the_next_one() {
        let rust = "fn f() {\n    if a.b(c) {\n        first(\"}\", value, 1);\n        second(value);\n    \
                    } else {\n        third();\n    }\n}\n";
        let python = "if a.b(c):\n    first(value, 1)\n\n    second(value)\nelse:\n    third()\n";
        let expected = [
            ("rust", rust, "first(\"}\", value, 1);\n        second(value);"),
            ("python", python, "first(value, 1)\n\n    second(value)"),
        ];
        for (language, text, block) in expected {
            let line = text.lines().position(|line| line.contains("first")).unwrap();
            let range = File::new(language, text).answer(Mode::Block, line, 0.0).unwrap();
            assert_eq!(&text[range], block);
        }
    }

    #[test]
    fn the_seed_decides_and_fewer_are_the_first_of_more() {
        let repository = repository();
        for mode in [Mode::Line, Mode::Rest, Mode::Block] {
            let places = |seed, count| draw(&repository, mode, &[], seed, count);
            assert_eq!(places(1, 100), places(1, 100));
            assert_eq!(places(1, 2)[..], places(1, 100)[..2]);
            let all = places(1, 100);
            let distinct: HashSet<_> = all.iter().map(|p| (p.file, p.cursor)).collect();
            assert_eq!(distinct.len(), all.len());
        }
        let orders: HashSet<_> =
            (0..5).map(|seed| answers(&repository, Mode::Line, seed)).collect();
        assert!(orders.len() > 1);
        assert!(draw(&repository, Mode::Line, &["go".into()], 1, 9).is_empty());
        let python = draw(&repository, Mode::Line, &["python".into()], 1, 9);
        assert!(!python.is_empty() && python.iter().all(|place| place.file == 1));
    }

    #[test]
    fn new_lines_alone_are_asked_about_and_their_run_is_not_known() {
        let mut repository = repository();
        let added = [("b.py".to_string(), std::iter::once(3..5).collect())].into();
        repository.since = Some(Since { commit: "t".into(), added });
        let places = draw(&repository, Mode::Line, &[], 1, 100);
        assert_eq!(places.len(), 2);
        for place in places {
            assert_eq!(&PYTHON[place.resume..], "\n    return None\n");
        }
    }
}
