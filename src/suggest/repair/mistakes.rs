//! Mistakes to repair, for training and measuring: tokens as hands slip, and the mutations of `mutations` the other way
//! round. The parser says which is which (Break-It-Fix-It, Yasunaga & Liang 2021).

use std::ops::Range;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::mutations::mutations;
use crate::syntax::{Language, Lexeme, LexemeKind, SyntaxTree};
use crate::text::{Text, TextEdit, apply};

/// How a token goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slip {
    /// It is missing.
    Delete,
    /// One of the file stands where none was.
    Insert,
    /// It stands twice.
    Duplicate,
    /// It and the next have changed places.
    Swap,
}

impl Slip {
    /// All of them.
    pub const ALL: [Slip; 4] = [Slip::Delete, Slip::Insert, Slip::Duplicate, Slip::Swap];

    /// The edit that makes it at token `at`, which is not the last one, and the token.
    pub fn make(
        self,
        source: &str,
        lexemes: &[Lexeme],
        at: usize,
        rng: &mut StdRng,
    ) -> Option<(TextEdit, String)> {
        let (this, next) = (lexemes.get(at)?.range.clone(), lexemes.get(at + 1)?.range.clone());
        let token = &source[this.clone()];
        let word = |token: &str| token.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let (range, new_text, token) = match self {
            Slip::Delete => (this, String::new(), token),
            Slip::Duplicate => {
                let space = if word(token) { " " } else { "" };
                (this.end..this.end, format!("{space}{token}"), token)
            }
            Slip::Insert => {
                let other = &source[lexemes.choose(rng)?.range.clone()];
                let space = if word(other) || word(token) { " " } else { "" };
                (this.start..this.start, format!("{other}{space}"), other)
            }
            Slip::Swap => {
                let between = &source[this.end..next.start];
                (this.start..next.end, format!("{}{between}{token}", &source[next]), token)
            }
        };
        Some((TextEdit { range, new_text }, token.to_string()))
    }
}

/// Tokens that slips are made of.
pub fn tokens(tree: &SyntaxTree, source: &str) -> Vec<Lexeme> {
    let mut lexemes = tree.lexemes(source);
    lexemes.retain(|lexeme| lexeme.kind != LexemeKind::Comment);
    lexemes
}

/// Some whole lines of a text with a mistake in them: half of the time one that the parser sees, else one that only
/// a compiler or a test would. `None` if none is found.
pub fn broken_lines(
    language: &'static Language,
    source: &str,
    lines: Range<usize>,
    rng: &mut StdRng,
) -> Option<String> {
    const TRIES: usize = 8;
    let tree = SyntaxTree::parse_steadily(language, source)?;
    let text = Text::new(source);
    let before = tree.error_count(0..source.len());
    let inside = |range: &Range<usize>| range.start >= lines.start && range.end <= lines.end;
    let slips = rng.random_bool(0.5);
    let (lexemes, all) = match slips {
        true => (tokens(&tree, source), Vec::new()),
        false => (Vec::new(), mutations(&tree, &text, lines.clone(), None)),
    };
    let places: Vec<usize> =
        (0..lexemes.len().saturating_sub(1)).filter(|&at| inside(&lexemes[at].range)).collect();
    // A kind first, so that those with many places do not crowd out the others.
    let mut rules: Vec<&str> = all.iter().map(|mutation| mutation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    for _ in 0..TRIES {
        let edit = if slips {
            let slip = Slip::ALL.choose(rng)?;
            slip.make(source, &lexemes, *places.choose(rng)?, rng)?.0
        } else {
            let rule = rules.choose(rng)?;
            let of_rule: Vec<_> = all.iter().filter(|mutation| mutation.rule == *rule).collect();
            of_rule.choose(rng)?.edit.clone()
        };
        let fits = inside(&edit.range) && source[edit.range.clone()] != edit.new_text;
        let Some(after) = fits.then(|| tree.errors_after(&text, &edit)).flatten() else { continue };
        if slips == (after > before) {
            let end = lines.end + edit.new_text.len() - edit.range.len();
            let changed = apply(source, std::slice::from_ref(&edit));
            return changed.get(lines.start..end).map(String::from);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn mistakes_stay_in_their_lines_and_half_of_them_parse() {
        let source = "fn first() {}\n\nfn größe(a: &str, b: usize) -> usize {\n    let sum = a.len() + b;\n    if sum == 0 && b > 1 {\n        return 0;\n    }\n    sum - 1\n}\n\nfn last() {}\n";
        let language = Language::by_name("rust").unwrap();
        let start = source.find("    let sum").unwrap();
        let lines = start..source.find("    sum - 1").unwrap();
        let (mut seen, mut parse) = (std::collections::BTreeSet::new(), 0);
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let Some(broken) = broken_lines(language, source, lines.clone(), &mut rng) else {
                continue;
            };
            assert_ne!(broken, source[lines.clone()]);
            let text = [&source[..lines.start], &broken, &source[lines.end..]].concat();
            let tree = SyntaxTree::parse(language, &text).unwrap();
            parse += usize::from(tree.error_count(0..text.len()) == 0);
            seen.insert(broken);
        }
        assert!(seen.len() > 80, "{}", seen.len());
        assert!((60..140).contains(&parse), "{parse}");
    }
}
