//! What holds for any text and any order of changes.

use std::path::Path;

use proptest::prelude::*;

use super::tests::Repository;
use super::{Kind, Retrieval, choose, lines_before};
use crate::syntax::Language;

/// Lines of a few words, so that texts have something in common.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["alpha", "beta", "gamma", "delta", "größe", "x1", "fn"]);
    let line = prop::collection::vec(word, 0..5).prop_map(|words| words.join(" ("));
    prop::collection::vec(line, 0..50).prop_map(|lines| lines.join("\n"))
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a/one.rs", "a/two.rs", "b/three.py", "b/four", "c/five.go"])
}

/// What happens to a file: a new text, with or without the second pass, or its end.
fn change() -> impl Strategy<Value = (&'static str, Option<(String, bool)>)> {
    (path(), prop::option::weighted(0.8, (text(), any::<bool>())))
}

fn apply(index: &mut Retrieval, path: &str, change: Option<&(String, bool)>) {
    let language = Language::by_path(Path::new(path));
    match (change, language) {
        (None, _) => {
            index.remove(path);
        }
        (Some((text, true)), Some(language)) => index.update_symbols(path, language, text),
        (Some((text, _)), language) => {
            index.update(path, language, text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_to_the_index_of_what_is_there(changes in prop::collection::vec(change(), 0..20)) {
        let (mut index, mut last) = (Retrieval::new(), std::collections::BTreeMap::new());
        for (path, change) in &changes {
            apply(&mut index, path, change.as_ref());
            let change = change.clone().map(|(text, parsed)| {
                // A second pass that was made for this very text stays.
                let known = matches!(last.get(path), Some(Some((old, true))) if *old == text);
                (text, parsed || known)
            });
            last.insert(*path, change);
        }
        let mut fresh = Retrieval::new();
        for (path, change) in &last {
            apply(&mut fresh, path, change.as_ref());
        }
        prop_assert_eq!(index.to_bytes(), fresh.to_bytes());
        let stored = Retrieval::from_bytes(&index.to_bytes()).expect("it was just written");
        prop_assert_eq!(stored.to_bytes(), fresh.to_bytes());
        prop_assert_eq!(index.size_in_bytes(), fresh.size_in_bytes());
    }

    #[test]
    fn broken_bytes_are_an_error_or_harmless(
        text in text(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut repository = Repository::of(&[("a.rs", &text), ("b.rs", "fn beta(x1: u8) {}\n")]);
        let mut bytes = repository.index.to_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1 + bytes.len() / 2);
        if let Ok(index) = Retrieval::from_bytes(&bytes) {
            repository.index = index;
            repository.at("c.rs", "beta ( alpha ( x1 ( gamma (|");
        }
    }

    #[test]
    fn windows_are_those_of_training(files in prop::collection::vec(text(), 0..6), query in text()) {
        let names: Vec<String> = (0..files.len()).map(|i| format!("f{i}/x.rs")).collect();
        let files: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(files.iter().map(String::as_str)).collect();
        let found = Repository::of(&files).at("q/y.rs", &format!("{query}|"));
        let training = choose(lines_before(&query), &files, files.len());
        let windows: Vec<_> = found.iter().filter(|s| s.kind == Kind::SimilarWindow).collect();
        for window in &windows {
            prop_assert!(training.iter().any(|s| s.path == window.path));
        }
        // Definitions may stand for an overlapping window.
        let others = found.len() - windows.len();
        prop_assert!(windows.len() + others >= training.len().min(3));
    }
}
