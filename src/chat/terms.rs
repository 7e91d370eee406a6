//! What a question speaks of: names of code, words, files.

use super::blocks::{is_path, prose};
use crate::memory::retrieval::identifiers;

/// What stands in a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// What can only be names of code, in their order.
    pub(super) names: Vec<String>,
    /// Other words, each in the forms in which code may write it, the first as it is.
    pub(super) words: Vec<Vec<String>>,
    /// Files, each with lines from 1 if some are named.
    pub(super) files: Vec<(String, Option<(usize, usize)>)>,
}

/// Words that say nothing of what is asked.
const STOPS: &str = " the and for how what where when which who why does this that with from are was can you into not use used \
    uses using have has its there here will would should could file files function functions code class classes method \
    methods explain show tell find defined definition implemented mean means work works working please about between \
    repository project line lines all any but did done get give gives happens happen let make makes makes may might more \
    most need needs one our out own per put same say says see some something such than their them then these they thing \
    things those through too two under until very want way well were while whom whose without write your ";

/// Shorter words say little.
const LEAST: usize = 3;

/// The terms of a question; what its blocks of code say does not count.
pub(super) fn terms(question: &str) -> Terms {
    let prose = prose(question);
    let mut terms = Terms::default();
    for word in prose.split_whitespace() {
        let word = word
            .trim_matches(|c: char| "`'\"()[]{},;!?*<>".contains(c))
            .trim_end_matches(['.', ':']);
        let (path, lines) = place(word);
        if is_path(path) {
            terms.files.push((path.to_string(), lines));
        }
    }
    for (at, part) in prose.split('`').enumerate() {
        // Between back quotes everything is code.
        if at % 2 == 1 && !is_path(place(part).0) {
            identifiers(part)
                .filter(|name| name.len() > 1)
                .for_each(|name| add(&mut terms.names, name));
        }
    }
    let bare: String = prose.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let mut plain = Vec::new();
    for word in bare.split_whitespace().filter(|word| !is_path(place(word).0)) {
        for name in identifiers(word) {
            let at = word.find(name).unwrap_or(0) + name.len();
            match is_name(name) || word[at..].starts_with('(') && at == name.len() {
                true => add(&mut terms.names, name),
                false
                    if name.len() >= LEAST
                        && !STOPS.contains(&format!(" {} ", name.to_lowercase())) =>
                {
                    plain.push(name)
                }
                false => {}
            }
        }
    }
    terms.words = plain.iter().map(|word| forms(word)).collect();
    for at in 1..plain.len() {
        let joined = joined(plain[at - 1], plain[at]);
        terms.words[at - 1].extend(joined.iter().cloned());
        terms.words[at].extend(joined);
    }
    terms
}

/// Splits `PATH:LINE`, `PATH:FROM-TO` and `PATH#L3` into path and lines, from 1.
pub fn place(word: &str) -> (&str, Option<(usize, usize)>) {
    let split = word.rsplit_once(':').or_else(|| word.rsplit_once("#L"));
    let Some((path, lines)) = split else { return (word, None) };
    let number =
        |text: &str| text.trim_start_matches('L').parse().ok().filter(|&line: &usize| line > 0);
    match lines.split_once(['-', '–']) {
        Some((from, to)) => match number(from).zip(number(to)) {
            Some((from, to)) if from <= to => (path, Some((from, to))),
            _ => (word, None),
        },
        None => number(lines).map_or((word, None), |line| (path, Some((line, line)))),
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_string());
    }
}

/// Whether a word is written as no word of prose is: `with_underscore`, `withHumps`, `WithHumps`.
fn is_name(word: &str) -> bool {
    let inside = word.trim_matches('_');
    let humps = word
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    inside.contains('_') || word.starts_with('_') && !inside.is_empty() || humps.count() > 0
}

/// A word as code and comments may write it.
fn forms(word: &str) -> Vec<String> {
    let lower = word.to_lowercase();
    let stem = lower
        .strip_suffix('s')
        .filter(|stem| stem.len() >= LEAST && !stem.ends_with('s'))
        .unwrap_or(&lower);
    let mut forms = vec![word.to_string()];
    for form in [
        capital(stem),
        stem.to_string(),
        format!("{stem}s"),
        capital(&format!("{stem}s")),
        stem.to_uppercase(),
    ] {
        add(&mut forms, &form);
    }
    forms
}

/// Two words as one name.
fn joined(one: &str, two: &str) -> Vec<String> {
    let (one, two) = (one.to_lowercase(), two.to_lowercase());
    vec![
        format!("{one}_{two}"),
        format!("{one}{}", capital(&two)),
        capital(&one) + &capital(&two),
        format!("{one}_{two}").to_uppercase(),
    ]
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_words_and_files_are_told_apart() {
        let found = terms(
            "Where does `Store.open` use parse_place, and MyCache or run()? See src/a.rs:3-9.\n```\nx_y\n```",
        );
        assert_eq!(found.names, ["Store", "open", "parse_place", "MyCache", "run"]);
        assert_eq!(found.files, [("src/a.rs".to_string(), Some((3, 9)))]);
        let found = terms("How is the token limit of requests kept?");
        assert!(found.names.is_empty());
        let heads: Vec<_> = found.words.iter().map(|forms| forms[0].as_str()).collect();
        assert_eq!(heads, ["token", "limit", "requests", "kept"]);
        assert!(
            found.words[0].contains(&"token_limit".to_string())
                && found.words[1].contains(&"TokenLimit".to_string())
        );
        assert!(found.words[2].contains(&"Request".to_string()));
    }

    #[test]
    fn places_are_paths_with_lines() {
        assert_eq!(place("a.rs:3"), ("a.rs", Some((3, 3))));
        assert_eq!(place("a.rs#L3-L9"), ("a.rs", Some((3, 9))));
        for none in ["a.rs", "a.rs:0", "a.rs:9-3", "a::b", "C:"] {
            assert_eq!(place(none), (none, None));
        }
    }
}
