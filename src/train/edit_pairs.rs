//! Broken lines and what they were: mistakes as people make them, for a model that repairs.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Breaks `lines`, some whole lines of source, by one or two mistakes; `None` if nothing applies.
/// `names` are identifiers of the same file that may be confused.
pub(super) fn broken(lines: &str, names: &[&str], rng: &mut StdRng) -> Option<String> {
    let mut text = lines.to_string();
    for _ in 0..if rng.random_bool(0.25) { 2 } else { 1 } {
        // Some mistakes need what a text may lack, some change nothing: try a few.
        let mut tries = (0..8).filter_map(|_| mistake(&text, names, rng));
        text = tries.find(|changed| *changed != text)?;
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
        let what = one(text, FORGOTTEN.iter().copied(), rng)?;
        replace_one(text, what, "", rng)
    } else if kind < 0.50 {
        let both = |&(a, b): &(&'static str, &'static str)| {
            // Nothing says where to put what stands for an empty text.
            let back = if b.is_empty() { (a, b) } else { (b, a) };
            [(a, b), back]
        };
        let pairs: Vec<_> =
            CONFUSED.iter().flat_map(both).filter(|(a, _)| !places(text, a).is_empty()).collect();
        let &(from, to) = pairs.choose(rng)?;
        replace_one(text, from, to, rng)
    } else if kind < 0.65 {
        let name = one(text, names.iter().copied(), rng)?;
        replace_one(text, name, names.choose(rng)?, rng)
    } else if kind < 0.78 {
        let name = one(text, names.iter().copied(), rng)?;
        replace_one(text, name, &misspelled(name, rng)?, rng)
    } else if kind < 0.84 {
        swap_arguments(text, rng)
    } else if kind < 0.93 {
        move_lines(text, rng)
    } else {
        double_mark(text, rng)
    }
}

/// One of the words that occur in the text.
fn one<'a>(text: &str, words: impl Iterator<Item = &'a str>, rng: &mut StdRng) -> Option<&'a str> {
    let present: Vec<&str> = words.filter(|word| !places(text, word).is_empty()).collect();
    present.choose(rng).copied()
}

/// Where `what` stands: a word as a whole word, an operator as a whole operator.
fn places(text: &str, what: &str) -> Vec<usize> {
    let class = |c: char| match c {
        '_' => 1,
        c if c.is_alphanumeric() => 1,
        '=' | '<' | '>' | '!' | '&' | '|' | '+' | '-' => 2,
        _ => 0,
    };
    let joined = |a: Option<char>, b: Option<char>| {
        a.zip(b).is_some_and(|(a, b)| class(a) != 0 && class(a) == class(b))
    };
    let found = text.match_indices(what).map(|(at, _)| at).filter(|&at| {
        let (before, after) = (&text[..at], &text[at + what.len()..]);
        !joined(before.chars().next_back(), what.chars().next())
            && !joined(what.chars().next_back(), after.chars().next())
    });
    found.collect()
}

/// Replaces one occurrence of `from`.
fn replace_one(text: &str, from: &str, to: &str, rng: &mut StdRng) -> Option<String> {
    let &at = places(text, from).choose(rng)?;
    Some(format!("{}{to}{}", &text[..at], &text[at + from.len()..]))
}

/// Drops, doubles or swaps letters of a name.
fn misspelled(name: &str, rng: &mut StdRng) -> Option<String> {
    let mut letters: Vec<char> = name.chars().collect();
    if letters.len() < 4 {
        return None;
    }
    let at = rng.random_range(1..letters.len() - 1);
    match rng.random_range(0..3) {
        0 => drop(letters.remove(at)),
        1 => letters.insert(at, letters[at]),
        _ => letters.swap(at, at + 1),
    }
    Some(letters.into_iter().collect())
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

/// A line is missing, stands there twice, or stands behind the next one.
fn move_lines(text: &str, rng: &mut StdRng) -> Option<String> {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() < 2 {
        return None;
    }
    let at = rng.random_range(0..lines.len());
    match rng.random_range(0..3) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at]),
        // A last line without its end would run into the next.
        _ if lines.get(at + 1)?.ends_with('\n') => lines.swap(at, at + 1),
        _ => return None,
    }
    Some(lines.concat())
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
