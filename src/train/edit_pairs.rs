//! Broken lines and what they were: mistakes as people make them, for a model that repairs.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Breaks `lines`, some whole lines of source, by one or two mistakes; `None` if nothing applies.
/// `names` are identifiers of the same file that may be confused.
pub(super) fn broken(lines: &str, names: &[&str], rng: &mut StdRng) -> Option<String> {
    let mut text = lines.to_string();
    for _ in 0..if rng.random_bool(0.25) { 2 } else { 1 } {
        // Some mistakes need what a text may lack: try a few.
        let changed = (0..8).find_map(|_| mistake(&text, names, rng));
        text = changed.filter(|changed| *changed != text)?;
    }
    (text != lines).then_some(text)
}

/// Pairs of which either may stand for the other by mistake.
const CONFUSED: [(&str, &str); 18] = [
    ("==", "!="),
    ("<=", "<"),
    (">=", ">"),
    ("==", "="),
    ("&&", "||"),
    (" and ", " or "),
    ("+", "-"),
    ("true", "false"),
    ("True", "False"),
    (" + 1", ""),
    (" - 1", ""),
    ("not ", ""),
    ("!", ""),
    (".len()", ""),
    ("0", "1"),
    ("min", "max"),
    ("start", "end"),
    ("is not", "is"),
];
/// What is forgotten.
const FORGOTTEN: [&str; 24] = [
    ";",
    ":",
    ",",
    ")",
    "(",
    "}",
    "{",
    "]",
    "[",
    "\"",
    "'",
    "&",
    "*",
    "?",
    ".clone()",
    ".await",
    "await ",
    "self.",
    "mut ",
    "return ",
    "&mut ",
    ".unwrap()",
    "this.",
    "()",
];

fn mistake(text: &str, names: &[&str], rng: &mut StdRng) -> Option<String> {
    let kind: f64 = rng.random();
    if kind < 0.30 {
        let what = FORGOTTEN.choose(rng)?;
        replace_one(text, what, "", rng)
    } else if kind < 0.50 {
        let &(a, b) = CONFUSED.choose(rng)?;
        let (from, to) = if b.is_empty() || rng.random_bool(0.5) { (a, b) } else { (b, a) };
        replace_one(text, from, to, rng)
    } else if kind < 0.65 {
        let (name, other) = (names.choose(rng)?, names.choose(rng)?);
        replace_one(text, name, other, rng)
    } else if kind < 0.78 {
        misspell(text, names, rng)
    } else if kind < 0.86 {
        swap_arguments(text, rng)
    } else if kind < 0.93 {
        repeat_or_drop_line(text, rng)
    } else {
        double_mark(text, rng)
    }
}

/// Replaces one occurrence of `from`, whole words only where it is a word.
fn replace_one(text: &str, from: &str, to: &str, rng: &mut StdRng) -> Option<String> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let places: Vec<usize> = text
        .match_indices(from)
        .map(|(at, _)| at)
        .filter(|&at| {
            let before = text[..at].chars().next_back();
            let after = text[at + from.len()..].chars().next();
            !(word(before) && word(from.chars().next()))
                && !(word(after) && word(from.chars().next_back()))
        })
        .collect();
    let &at = places.choose(rng)?;
    Some(format!("{}{to}{}", &text[..at], &text[at + from.len()..]))
}

/// Drops, doubles or swaps letters of a name.
fn misspell(text: &str, names: &[&str], rng: &mut StdRng) -> Option<String> {
    let name = names.choose(rng).filter(|name| name.is_ascii() && name.len() > 3)?;
    let at = rng.random_range(1..name.len() - 1);
    let wrong = match rng.random_range(0..3) {
        0 => format!("{}{}", &name[..at], &name[at + 1..]),
        1 => format!("{}{}", &name[..=at], &name[at..]),
        _ => {
            format!("{}{}{}{}", &name[..at], &name[at + 1..at + 2], &name[at..=at], &name[at + 2..])
        }
    };
    replace_one(text, name, &wrong, rng)
}

/// `f(a, b)` becomes `f(b, a)`.
fn swap_arguments(text: &str, rng: &mut StdRng) -> Option<String> {
    let commas: Vec<usize> = text.match_indices(", ").map(|(at, _)| at).collect();
    let &comma = commas.choose(rng)?;
    let edge = |c: char| "(),;[]{}\n".contains(c);
    let start = text[..comma].rfind(edge)? + 1;
    let end = comma + 2 + text[comma + 2..].find(edge)?;
    let (first, second) = (text[start..comma].trim_start(), &text[comma + 2..end]);
    let start = comma - first.len();
    Some(format!("{}{second}, {first}{}", &text[..start], &text[end..]))
}

fn repeat_or_drop_line(text: &str, rng: &mut StdRng) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() < 2 {
        return None;
    }
    let at = rng.random_range(0..lines.len());
    let times = if rng.random_bool(0.5) { 0 } else { 2 };
    let each = lines.iter().enumerate();
    Some(
        each.flat_map(|(i, line)| std::iter::repeat_n(*line, if i == at { times } else { 1 }))
            .collect(),
    )
}

/// A bracket, quote or separator typed twice.
fn double_mark(text: &str, rng: &mut StdRng) -> Option<String> {
    let marks: Vec<(usize, char)> =
        text.char_indices().filter(|(_, c)| "(){}[];:,.\"'".contains(*c)).collect();
    let &(at, mark) = marks.choose(rng)?;
    Some(format!("{}{mark}{}", &text[..at], &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn mistakes_change_little_and_vary() {
        let lines = "    let größe = compute(first_value, second) + 1;\n    if größe == 0 && !done {\n        return None;\n    }\n";
        let names = ["größe", "compute", "first_value", "second", "done"];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            if let Some(broken) = broken(lines, &names, &mut rng) {
                assert_ne!(broken, lines);
                assert!(broken.len().abs_diff(lines.len()) < 60);
                seen.insert(broken);
            }
        }
        assert!(seen.len() > 60, "{}", seen.len());
        assert!(broken("", &[], &mut StdRng::seed_from_u64(1)).is_none());
    }
}
