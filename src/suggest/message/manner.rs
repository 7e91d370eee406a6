//! How a repository words its commits: read from the ones that it has.

use std::collections::{BTreeMap, BTreeSet};

/// The mood of the first verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Add
    Command,
    /// Adds
    Present,
    /// Added
    Past,
}

/// What stands before the first verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    None,
    /// `feat(scope): `, with the scopes that are used.
    Conventional(Vec<String>),
    /// The folder or file that changes, and a colon.
    Place,
}

/// A manner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) prefix: Prefix,
    pub(super) mood: Mood,
    pub(super) is_capital: bool,
    pub(super) has_period: bool,
    /// How often each type of conventional commits is used.
    pub(super) kinds: BTreeMap<String, usize>,
}

const KINDS: &[&str] =
    &["feat", "fix", "docs", "test", "refactor", "chore", "build", "ci", "perf", "style", "revert"];

/// Verbs that messages begin with, as a command, in the present and in the past.
pub(super) const VERBS: &[[&str; 3]] = &[
    ["add", "adds", "added"],
    ["remove", "removes", "removed"],
    ["rename", "renames", "renamed"],
    ["move", "moves", "moved"],
    ["change", "changes", "changed"],
    ["update", "updates", "updated"],
    ["document", "documents", "documented"],
    ["test", "tests", "tested"],
    ["set", "sets", "set"],
    ["fix", "fixes", "fixed"],
    ["use", "uses", "used"],
    ["make", "makes", "made"],
    ["allow", "allows", "allowed"],
    ["improve", "improves", "improved"],
    ["support", "supports", "supported"],
];

/// `kind(scope)!: rest` taken apart.
fn conventional(subject: &str) -> Option<(&str, Option<&str>, &str)> {
    let (head, rest) = subject.split_once(": ")?;
    let head = head.trim_end_matches('!');
    let (kind, scope) = match head.split_once('(') {
        Some((kind, scope)) => (kind, Some(scope.strip_suffix(')')?)),
        None => (head, None),
    };
    KINDS.contains(&kind).then_some((kind, scope, rest))
}

/// `place: rest`, where the place looks like a path.
fn placed(subject: &str) -> Option<&str> {
    let (head, rest) = subject.split_once(": ")?;
    let is_place = !head.is_empty()
        && head
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/_.-,".contains(c));
    is_place.then_some(rest)
}

impl Manner {
    /// The manner of most of some first lines.
    pub(super) fn of(subjects: &[String]) -> Manner {
        let most = |count: usize| 2 * count > subjects.len().max(1);
        let mut kinds = BTreeMap::new();
        let mut scopes = BTreeSet::new();
        for (kind, scope, _) in subjects.iter().filter_map(|subject| conventional(subject)) {
            *kinds.entry(kind.to_string()).or_default() += 1;
            if let Some(scope) = scope {
                scopes.insert(scope.to_string());
            }
        }
        let prefix = match () {
            () if most(kinds.values().sum()) => Prefix::Conventional(scopes.into_iter().collect()),
            () if most(subjects.iter().filter(|subject| placed(subject).is_some()).count()) => {
                Prefix::Place
            }
            () => Prefix::None,
        };
        let bare = |subject: &String| -> String {
            let rest = match prefix {
                Prefix::None => None,
                Prefix::Conventional(_) => conventional(subject).map(|(.., rest)| rest),
                Prefix::Place => placed(subject),
            };
            rest.unwrap_or(subject).trim().to_string()
        };
        let bare: Vec<String> = subjects.iter().map(bare).filter(|text| !text.is_empty()).collect();
        let count = |such: &dyn Fn(&str) -> bool| bare.iter().filter(|text| such(text)).count();
        let begins = |mood: usize| {
            let is_verb = |text: &str| {
                let word = text.split(' ').next().unwrap_or_default().to_lowercase();
                VERBS.iter().any(|forms| forms[mood] == word && forms[0] != forms[2])
            };
            count(&is_verb)
        };
        let (command, present, past) = (begins(0), begins(1), begins(2));
        let capital = count(&|text| text.starts_with(char::is_uppercase));
        let small = count(&|text| text.starts_with(char::is_lowercase));
        Manner {
            mood: match () {
                () if past > command && past >= present => Mood::Past,
                () if present > command => Mood::Present,
                () => Mood::Command,
            },
            // Where nobody has said anything yet, as git itself does it.
            is_capital: capital >= small && (prefix == Prefix::None || capital > 0),
            has_period: 2 * count(&|text| text.ends_with('.')) > bare.len(),
            prefix,
            kinds,
        }
    }
}
