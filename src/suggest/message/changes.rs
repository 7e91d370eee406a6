//! What a change does, in the words of its code: definitions that come, go, are renamed or altered.

use std::collections::BTreeMap;
use std::path::Path;

use similar::TextDiff;

use crate::syntax::{Language, LexemeKind, ScopeKind, SyntaxTree};
use crate::workspace::FileChange;

/// What is done to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Add,
    Remove,
    Rename,
    /// Only comments differ.
    Describe,
    /// What it is called with or returns differs.
    Reshape,
    Change,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Code,
    Test,
    Docs,
    /// What the project consists of: manifests and their locks.
    Build,
    Other,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) act: Act,
    /// To what: a name, or a file.
    pub(super) what: String,
    /// The name that it had, or the value that it gets.
    pub(super) other: Option<String>,
    /// Lines that differ.
    pub(super) lines: usize,
}

/// What is done in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) path: String,
    pub(super) purpose: Purpose,
    /// The file as a whole comes, goes or moves.
    pub(super) whole: Option<Deed>,
    /// The most lines first.
    pub(super) deeds: Vec<Deed>,
    /// Lines that differ.
    pub(super) lines: usize,
}

const MANIFESTS: &[&str] =
    &["Cargo.toml", "package.json", "pyproject.toml", "go.mod", "requirements.txt"];
const LOCKS: &[&str] = &[
    "Cargo.lock",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "go.sum",
];

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(super) fn is_lock(path: &str) -> bool {
    LOCKS.contains(&file_name(path))
}

fn purpose(path: &str) -> Purpose {
    let name = file_name(path);
    let lower = path.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    if MANIFESTS.contains(&name) || is_lock(path) {
        return Purpose::Build;
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if ["md", "rst", "txt", "adoc"].contains(&extension) || lower.starts_with("docs/") {
        return Purpose::Docs;
    }
    if words
        .clone()
        .any(|word| ["test", "tests", "spec", "specs", "testing", "testdata"].contains(&word))
    {
        return Purpose::Test;
    }
    let code = Language::by_path(Path::new(path))
        .is_some_and(|language| !["json", "toml", "markdown"].contains(&language.name));
    if code { Purpose::Code } else { Purpose::Other }
}

/// What is done in a file.
pub(super) fn work(change: &FileChange) -> Work {
    let FileChange { path, moved_from, before, after } = change;
    let (old, new) = (before.as_deref().unwrap_or(""), after.as_deref().unwrap_or(""));
    let lines = differing(old, new);
    let deed = |act, other: Option<String>| Deed { act, what: path.clone(), other, lines };
    let whole = match (moved_from, before, after) {
        (Some(from), ..) => Some(deed(Act::Rename, Some(from.clone()))),
        (None, None, _) => Some(deed(Act::Add, None)),
        (None, _, None) => Some(deed(Act::Remove, None)),
        _ => None,
    };
    let mut deeds = match whole.as_ref().map(|whole| whole.act) {
        Some(Act::Add | Act::Remove) => Vec::new(),
        _ if MANIFESTS.contains(&file_name(path)) => versions(old, new),
        _ => definitions(path, old, new),
    };
    deeds.sort_by_key(|deed| (std::cmp::Reverse(deed.lines), deed.act));
    Work { path: path.clone(), purpose: purpose(path), whole, deeds, lines }
}

fn differing(old: &str, new: &str) -> usize {
    let diff = TextDiff::from_lines(old, new);
    diff.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal).count()
}

/// One definition with its own text, what is defined within left out.
struct Definition {
    name: String,
    head: String,
    text: String,
    /// The same without comments and space.
    code: String,
    kind: ScopeKind,
}

fn outline(path: &str, text: &str) -> BTreeMap<(String, usize), Definition> {
    let tree = Language::by_path(Path::new(path))
        .and_then(|language| SyntaxTree::parse_steadily(language, text));
    let Some(tree) = tree else { return BTreeMap::new() };
    let scopes = tree.outline(text);
    let lexemes = tree.lexemes(text);
    let mut found: BTreeMap<(String, usize), Definition> = BTreeMap::new();
    for (at, scope) in scopes.iter().enumerate() {
        let Some(name) = &scope.name else { continue };
        let inner: Vec<_> =
            scopes[at + 1..].iter().filter(|s| s.range.end <= scope.range.end).collect();
        let outer =
            scopes[..at].iter().rev().find(|s| s.range.end >= scope.range.end && s.name.is_some());
        let is_own = |start: usize| !inner.iter().any(|s| s.range.contains(&start));
        let within = lexemes
            .iter()
            .filter(|l| scope.range.contains(&l.range.start) && is_own(l.range.start));
        let code = within
            .filter(|l| l.kind != LexemeKind::Comment)
            .map(|l| &text[l.range.clone()])
            .collect::<Vec<_>>()
            .join(" ");
        let mut own = String::new();
        let mut from = scope.range.start;
        for scope in &inner {
            own.push_str(text.get(from..scope.range.start).unwrap_or_default());
            from = from.max(scope.range.end);
        }
        own.push_str(text.get(from..scope.range.end).unwrap_or_default());
        let outer = outer.and_then(|outer| outer.name.clone());
        let key = format!("{}\0{name}", outer.unwrap_or_default());
        let again = found.range((key.clone(), 0)..(key.clone(), usize::MAX)).count();
        found.insert(
            (key, again),
            Definition {
                name: name.clone(),
                head: text[scope.header.clone()].split_whitespace().collect::<Vec<_>>().join(" "),
                text: own,
                code,
                kind: scope.kind,
            },
        );
    }
    found
}

/// How alike two texts must be for one to be the other under a new name.
const ALIKE: f32 = 0.8;

/// The definitions that differ between two texts of a file.
fn definitions(path: &str, old: &str, new: &str) -> Vec<Deed> {
    let (before, after) = (outline(path, old), outline(path, new));
    let mut gone: Vec<&Definition> =
        before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(_, d)| d).collect();
    let is_code = purpose(path) != Purpose::Docs;
    let mut deeds = Vec::new();
    for (key, now) in &after {
        let Some(was) = before.get(key) else {
            let twin = gone.iter().position(|was| {
                let renamed = was.code.replace(&was.name, &now.name);
                was.kind == now.kind
                    && was.name != now.name
                    && TextDiff::from_words(&*renamed, &*now.code).ratio() >= ALIKE
            });
            let lines = now.text.lines().count();
            let deed = match twin.map(|at| gone.remove(at)) {
                Some(was) => Deed {
                    act: Act::Rename,
                    what: now.name.clone(),
                    other: Some(was.name.clone()),
                    lines,
                },
                None => Deed { act: Act::Add, what: now.name.clone(), other: None, lines },
            };
            deeds.push(deed);
            continue;
        };
        let lines = differing(&was.text, &now.text);
        if was.text.split_whitespace().eq(now.text.split_whitespace()) {
            continue;
        }
        let value = |text: &str| {
            let (name, value) = text.split_once('=')?;
            let value = value.trim().trim_end_matches([';', ',']).trim();
            let is_short = value.len() <= 24 && !value.contains('\n') && !value.is_empty();
            (is_short && !name.contains('\n')).then(|| value.to_string())
        };
        let (act, other) = match () {
            () if was.code == now.code && is_code => (Act::Describe, None),
            () if now.kind == ScopeKind::Function && was.head != now.head => (Act::Reshape, None),
            () if now.kind == ScopeKind::Other && value(&was.code).is_some() => {
                (Act::Change, value(&now.code))
            }
            () => (Act::Change, None),
        };
        deeds.push(Deed { act, what: now.name.clone(), other, lines });
    }
    let removed = gone.into_iter().map(|was| Deed {
        act: Act::Remove,
        what: was.name.clone(),
        other: None,
        lines: was.text.lines().count(),
    });
    deeds.extend(removed);
    deeds
}

/// The versions that a manifest asks for: `name = "1.2"`, `"name": "^1.2"`, `name v1.2`, `name==1.2`.
fn versions(old: &str, new: &str) -> Vec<Deed> {
    let read = |text: &str| -> BTreeMap<String, String> {
        let line = |line: &str| {
            let is_name = |c: char| c.is_alphanumeric() || "@/_.-".contains(c);
            let line = line.trim().trim_start_matches("require ").trim_start_matches('"');
            let end = line.find(|c| !is_name(c))?;
            let (name, rest) = line.split_at(end);
            let rest = rest.trim_start_matches(['"', ' ', ':', '=', '{']);
            let rest = rest.split_once("version").map_or(rest, |(_, rest)| rest);
            let version: String = rest
                .trim_start_matches(|c: char| !c.is_ascii_digit() && c != 'v' && c != '\n')
                .trim_start_matches('v')
                .chars()
                .take_while(|c| c.is_alphanumeric() || ".-+".contains(*c))
                .collect();
            let is_version =
                version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.');
            (is_version && !name.is_empty()).then(|| (name.to_string(), version))
        };
        text.lines().filter_map(line).collect()
    };
    let (before, after) = (read(old), read(new));
    let mut deeds = Vec::new();
    for (name, version) in &after {
        let act = match before.get(name) {
            None => Act::Add,
            Some(was) if was != version => Act::Change,
            Some(_) => continue,
        };
        deeds.push(Deed { act, what: name.clone(), other: Some(version.clone()), lines: 1 });
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    deeds.extend(gone.map(|name| Deed {
        act: Act::Remove,
        what: name.clone(),
        other: None,
        lines: 1,
    }));
    deeds
}
