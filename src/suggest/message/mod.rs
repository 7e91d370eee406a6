//! Messages for commits: what the change does, by the definitions that it touches, in the manner of the repository. It says
//! what it sees and no reason, which only the author knows.

mod changes;
mod manner;

use changes::{Act, Deed, Purpose, Work, file_name, is_lock};
use manner::{Manner, Mood, Prefix, VERBS};

use crate::workspace::FileChange;

/// Commits that show how a repository words them.
pub const SUBJECTS: usize = 100;
/// First lines are no longer, as most tools show them.
const LONGEST: usize = 72;
/// Names that are listed before the rest is counted.
const MOST_NAMES: usize = 3;
/// Lines of the body.
const MOST_LINES: usize = 12;

/// The message for some changes of a repository whose last commits begin with `subjects`.
pub fn message(changes: &[FileChange], subjects: &[String], branch: Option<&str>) -> String {
    let mut works: Vec<Work> = changes.iter().map(changes::work).collect();
    // What the code does counts more than what goes with it.
    works.sort_by_key(|work| (work.purpose, is_lock(&work.path), std::cmp::Reverse(work.lines)));
    let manner = Manner::of(subjects);
    let Some(first) = works.first() else { return String::new() };
    let alike: Vec<&Work> = works.iter().filter(|work| work.purpose == first.purpose).collect();
    let (act, text) = summary(&alike, &manner);
    let mut subject = prefix(&works, act, &manner, branch) + &worded(&text, manner.is_capital);
    if manner.has_period {
        subject.push('.');
    }
    if let Some(ticket) = branch.and_then(ticket)
        && subjects.iter().filter(|subject| self::ticket(subject).is_some()).count() * 2
            > subjects.len()
    {
        subject = format!("{ticket}: {subject}");
    }
    let body = body(&works, &manner);
    if body.len() < 2 { subject } else { format!("{subject}\n\n{}", body.join("\n")) }
}

/// `ABC-123` at the head of a text or of a part of a branch's name.
fn ticket(text: &str) -> Option<String> {
    let parts = text.split(['/', ' ', '[', ']', ':']);
    let is_ticket = |part: &&str| {
        part.split_once('-').is_some_and(|(project, number)| {
            let number: String = number.chars().take_while(char::is_ascii_digit).collect();
            project.len() > 1
                && project.chars().all(|c| c.is_ascii_uppercase())
                && !number.is_empty()
        })
    };
    let part = parts.into_iter().take(3).find(is_ticket)?;
    let (project, number) = part.split_once('-')?;
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{project}-{number}"))
}

fn worded(text: &str, is_capital: bool) -> String {
    let mut letters = text.chars();
    let first =
        letters.next().map(|c| if is_capital { c.to_uppercase().collect() } else { c.to_string() });
    first.unwrap_or_default() + letters.as_str()
}

fn verb(verb: &str, manner: &Manner) -> String {
    let forms = VERBS.iter().find(|forms| forms[0] == verb);
    let at = match manner.mood {
        Mood::Command => 0,
        Mood::Present => 1,
        Mood::Past => 2,
    };
    forms.map_or(verb, |forms| forms[at]).to_string()
}

/// A file as it is called in a sentence: by its name, without the ending if it is code.
fn called(path: &str) -> &str {
    let name = file_name(path);
    let stem =
        name.split_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem });
    let folder = path.rsplit('/').nth(1);
    match stem {
        "mod" | "index" | "__init__" | "main" | "lib" => {
            folder.filter(|f| *f != "src").unwrap_or(name)
        }
        "README" | "CHANGELOG" | "LICENSE" => stem,
        _ if MANY.iter().any(|ending| name.ends_with(ending)) => stem,
        _ => name,
    }
}

const MANY: &[&str] = &[
    ".rs", ".py", ".js", ".ts", ".tsx", ".jsx", ".go", ".java", ".c", ".h", ".cpp", ".hpp", ".cc",
    ".md",
];

fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => one.to_string(),
        [all @ .., last] if names.len() <= MOST_NAMES => format!("{} and {last}", all.join(", ")),
        _ => format!(
            "{} and {} more",
            names[..MOST_NAMES - 1].join(", "),
            names.len() - MOST_NAMES + 1
        ),
    }
}

/// The sentence for files of one purpose, and what it says is done.
fn summary(works: &[&Work], manner: &Manner) -> (Act, String) {
    let first = works[0];
    let verb = |act: Act| {
        let word = match act {
            Act::Add => "add",
            Act::Remove => "remove",
            Act::Rename => "rename",
            Act::Describe => "document",
            Act::Reshape | Act::Change => "change",
        };
        self::verb(word, manner)
    };
    // Files that come, go or move as a whole.
    for act in [Act::Add, Act::Rename, Act::Remove] {
        let such: Vec<&&Work> = works
            .iter()
            .filter(|work| work.whole.as_ref().is_some_and(|whole| whole.act == act))
            .collect();
        let lines: usize = such.iter().map(|work| work.lines).sum();
        let all: usize = works.iter().map(|work| work.lines).sum();
        if such.is_empty() || 2 * lines < all {
            continue;
        }
        let names: Vec<&str> = such.iter().map(|work| called(&work.path)).collect();
        let from = such[0].whole.as_ref().and_then(|whole| whole.other.as_deref());
        if let (Act::Rename, Some(from), 1) = (act, from, such.len()) {
            let same = file_name(from) == file_name(&such[0].path);
            let folder = such[0].path.rsplit_once('/').map_or("the root", |(folder, _)| folder);
            return (
                act,
                match same {
                    true => format!("{} {} to {folder}", self::verb("move", manner), called(from)),
                    false => {
                        format!("{} {} to {}", verb(act), file_name(from), file_name(&such[0].path))
                    }
                },
            );
        }
        let word = if act == Act::Rename { self::verb("move", manner) } else { verb(act) };
        let word = if first.purpose == Purpose::Test && act == Act::Add {
            self::verb("test", manner)
        } else {
            word
        };
        return (act, short(&word, &names, ""));
    }
    let deeds: Vec<(&Work, &Deed)> =
        works.iter().flat_map(|work| work.deeds.iter().map(move |deed| (*work, deed))).collect();
    if first.purpose == Purpose::Build {
        return (Act::Change, dependencies(works, &deeds, manner));
    }
    let weight = |act: Act| -> usize {
        deeds.iter().filter(|(_, deed)| deed.act == act).map(|(_, deed)| deed.lines).sum()
    };
    // New things are what a change is for; what is altered goes with them.
    let acts = [Act::Add, Act::Rename, Act::Remove, Act::Reshape, Act::Change, Act::Describe];
    let all: usize = acts.iter().map(|act| weight(*act)).sum();
    let chosen = acts.into_iter().find(|act| 3 * weight(*act) > all);
    let Some(act) =
        chosen.or_else(|| acts.into_iter().max_by_key(|act| weight(*act))).filter(|_| all > 0)
    else {
        let names: Vec<&str> = works.iter().map(|work| called(&work.path)).collect();
        return (Act::Change, short(&self::verb("update", manner), &names, ""));
    };
    let such: Vec<&(&Work, &Deed)> = deeds.iter().filter(|(_, deed)| deed.act == act).collect();
    let mut names: Vec<&str> = such.iter().map(|(_, deed)| deed.what.as_str()).collect();
    names.dedup();
    let place = such[0].0;
    let is_one = such.iter().all(|(work, _)| work.path == place.path);
    let within = match act {
        Act::Add if is_one => format!(" to {}", called(&place.path)),
        Act::Remove if is_one => format!(" from {}", called(&place.path)),
        _ if is_one => format!(" in {}", called(&place.path)),
        _ => String::new(),
    };
    let (_, deed) = such[0];
    let text = match (&deed.other, such.len()) {
        (Some(old), 1) if act == Act::Rename => format!("{} {old} to {}", verb(act), deed.what),
        (Some(value), 1) => format!("{} {} to {value}", self::verb("set", manner), deed.what),
        _ if first.purpose == Purpose::Test && act == Act::Add => {
            let said: Vec<String> = names.iter().map(|name| tested(name)).collect();
            let said: Vec<&str> = said.iter().map(String::as_str).collect();
            short(&self::verb("test", manner), &said, "")
        }
        _ if act == Act::Reshape && names.len() == 1 => {
            format!("{} the signature of {}{within}", verb(act), names[0])
        }
        _ => short(&verb(act), &names, &within),
    };
    (act, text)
}

/// What a test is about, by its name.
fn tested(name: &str) -> String {
    let bare = name.strip_prefix("test_").or_else(|| name.strip_prefix("Test")).unwrap_or(name);
    let bare = bare.replace('_', " ");
    if bare.trim().is_empty() { name.into() } else { bare }
}

/// A sentence with as many names as fit into a first line, and the place if that fits, too.
fn short(verb: &str, names: &[&str], place: &str) -> String {
    let fits = |text: &String| text.chars().count() <= LONGEST - 12;
    let full = format!("{verb} {}{place}", list(names));
    let bare = || format!("{verb} {}", list(names));
    let counted = || format!("{verb} {} and {} more", names[0], names.len() - 1);
    Some(full)
        .filter(fits)
        .or_else(|| Some(bare()).filter(fits))
        .unwrap_or_else(|| if names.len() > 1 { counted() } else { bare() })
}

fn dependencies(works: &[&Work], deeds: &[(&Work, &Deed)], manner: &Manner) -> String {
    let deeds: Vec<&Deed> =
        deeds.iter().filter(|(work, _)| !is_lock(&work.path)).map(|(_, deed)| *deed).collect();
    let own = deeds.iter().find(|deed| deed.what == "version" && deed.act == Act::Change);
    if let Some(Deed { other: Some(version), .. }) = own {
        return format!("{} the version to {version}", verb("set", manner));
    }
    let such = |act: Act| -> Vec<&str> {
        deeds.iter().filter(|deed| deed.act == act).map(|deed| deed.what.as_str()).collect()
    };
    let changed = such(Act::Change);
    match deeds[..] {
        [] if works.iter().all(|work| is_lock(&work.path)) => {
            format!("{} the locked dependencies", verb("update", manner))
        }
        [] => short(
            &verb("update", manner),
            &works.iter().map(|work| called(&work.path)).collect::<Vec<_>>(),
            "",
        ),
        [Deed { act: Act::Change, what, other: Some(version), .. }] => {
            format!("{} {what} to {version}", verb("update", manner))
        }
        _ if !such(Act::Add).is_empty() => short(&verb("add", manner), &such(Act::Add), ""),
        _ if !changed.is_empty() => short(&verb("update", manner), &changed, ""),
        _ => short(&verb("remove", manner), &such(Act::Remove), ""),
    }
}

fn prefix(works: &[Work], act: Act, manner: &Manner, branch: Option<&str>) -> String {
    let purpose = works[0].purpose;
    let fixes = branch.is_some_and(|branch| {
        branch
            .to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .any(|w| ["fix", "bug", "bugfix", "hotfix"].contains(&w))
    });
    match &manner.prefix {
        Prefix::None => String::new(),
        Prefix::Place => {
            let folders: Vec<&str> = works
                .iter()
                .filter(|work| work.purpose == purpose)
                .map(|work| work.path.rsplit_once('/').map_or("", |(folder, _)| folder))
                .collect();
            let place = folders[0].trim_start_matches("src/");
            let place =
                if place.is_empty() || place == "src" { called(&works[0].path) } else { place };
            if folders.iter().all(|folder| *folder == folders[0]) {
                format!("{place}: ")
            } else {
                "all: ".into()
            }
        }
        Prefix::Conventional(scopes) => {
            let used = |kind: &str| manner.kinds.get(kind).copied().unwrap_or(0);
            let kind = match (purpose, act) {
                (Purpose::Docs, _) | (_, Act::Describe) => "docs",
                (Purpose::Test, _) => "test",
                (Purpose::Build, _) if used("build") > used("chore") => "build",
                (Purpose::Build, _) => "chore",
                _ if fixes => "fix",
                (Purpose::Code, Act::Add) => "feat",
                (Purpose::Code, Act::Rename | Act::Remove | Act::Reshape) => "refactor",
                // Whether it mends something only the author knows; what is done most is likeliest.
                (Purpose::Code, Act::Change) if used("fix") >= used("refactor") => "fix",
                (Purpose::Code, Act::Change) => "refactor",
                (Purpose::Other, _) => "chore",
            };
            let parts = works.iter().flat_map(|work| work.path.split(['/', '.']));
            let scope = parts.into_iter().find(|part| scopes.iter().any(|scope| scope == part));
            scope.map_or(format!("{kind}: "), |scope| format!("{kind}({scope}): "))
        }
    }
}

/// A line for each file whose change has more to say than the first line.
fn body(works: &[Work], manner: &Manner) -> Vec<String> {
    let said = |work: &Work| {
        let text = match &work.whole {
            Some(whole) if whole.act == Act::Add => "new".to_string(),
            Some(whole) if whole.act == Act::Remove => "gone".to_string(),
            _ if is_lock(&work.path) => return None,
            _ => summary(&[work], &Manner { mood: Mood::Command, ..manner.clone() }).1,
        };
        Some(format!("- {}: {text}", work.path))
    };
    let mut lines: Vec<String> = works.iter().filter_map(said).collect();
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES + 1;
        lines.truncate(MOST_LINES - 1);
        lines.push(format!("- and {more} files more"));
    }
    lines
}

#[cfg(test)]
mod tests;
