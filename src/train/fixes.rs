//! Lines that somebody corrected: small changes of code in the commits of a repository that say they fix something,
//! as the parser lets them pass.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::suggest::repair::mistakes::tokens;
use crate::syntax::{BlockStyle, Language, SyntaxTree};
use crate::workspace::holds_secret;

use super::filter;
use super::sources::Source;

/// What a message of a commit that fixes something says (an extended regular expression, any case).
const SAYS_SO: &str = r"\b(fix(es|ed|ing)?|bug(fix)?|correct(s|ed)?|wrong|off.by.one|panics?|crash(es)?|regression|forgot(ten)?|missing)\b";
/// Commits that are looked at, the newest.
const COMMITS: &str = "--max-count=2000";
/// A commit that changes more places than these moves code about.
const MOST_PLACES: usize = 8;
/// Lines of one side of a change.
const MOST_LINES: usize = 6;
/// What is shown around a change, as an option of git: some lines.
pub(super) const LINES_AROUND: &str = "-U16";
/// Instead: the whole function or type in which it lies.
pub const ITEM_AROUND: &str = "-W";
/// Less in common than this share of the characters is a new text, not a corrected one.
const LEAST_ALIKE: f32 = 0.5;

/// Whole lines that were wrong, what they became, and what stood around them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// Index of its repository.
    pub repository: u32,
    /// Path inside the repository, with `/`.
    pub path: String,
    /// Lines before.
    pub before: String,
    /// The lines as they were.
    pub wrong: String,
    /// The lines as they are now.
    pub right: String,
    /// Lines after.
    pub after: String,
}

/// The fixes in the history of a source; none if it has no history, and those up to where a clone lacks contents.
///
/// # Errors
/// There is no git.
pub fn fixes(source: &Source, repository: u32, around: &str) -> Result<Vec<Fix>> {
    if !source.is_git() {
        return Ok(Vec::new());
    }
    let grep = format!("--grep={SAYS_SO}");
    let mut log = source.git(&[
        "log",
        "--no-merges",
        "--min-parents=1",
        COMMITS,
        "-i",
        "-E",
        &grep,
        "--format=%x00",
        "-p",
        around,
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--diff-filter=M",
        source.commit(),
        "--",
    ]);
    let output = log.output().context("cannot run git")?;
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr).trim().to_string();
        tracing::warn!("{}: its history is not all there: {says}", source.name);
    }
    let log = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for commit in log.split('\0') {
        let places = places(commit);
        if places.len() <= MOST_PLACES {
            let fixes = places.into_iter().map(|fix| Fix { repository, ..fix });
            found.extend(fixes.filter(is_worth_learning));
        }
    }
    found.sort_by(|a, b| (&a.wrong, &a.right).cmp(&(&b.wrong, &b.right)));
    found.dedup_by(|a, b| a.wrong == b.wrong && a.right == b.right);
    Ok(found)
}

/// The places that a commit's diff changes. One in which several runs of lines change counts, and has no text.
fn places(diff: &str) -> Vec<Fix> {
    let mut places: Vec<Fix> = Vec::new();
    let mut path = None;
    // Lines of a hunk still to come, before and after: what looks like a header there is none.
    let mut left = (0, 0);
    let mut runs = 0;
    let mut changing = false;
    for line in diff.split_inclusive('\n') {
        if left == (0, 0) {
            if let Some(name) = line.strip_prefix("+++ b/") {
                path = Some(name.trim_end().to_string());
            } else if let (Some(path), Some(sizes)) = (&path, hunk_sizes(line)) {
                (left, runs, changing) = (sizes, 0, false);
                let empty = String::new;
                let (before, wrong, right, after) = (empty(), empty(), empty(), empty());
                places.push(Fix { repository: 0, path: path.clone(), before, wrong, right, after });
            }
            continue;
        }
        let Some(place) = places.last_mut() else { continue };
        let Some((mark, text)) = line.split_at_checked(1) else { continue };
        let side = match mark {
            "-" => {
                left.0 -= 1;
                &mut place.wrong
            }
            "+" => {
                left.1 -= 1;
                &mut place.right
            }
            " " => {
                left = (left.0 - 1, left.1 - 1);
                if runs == 0 { &mut place.before } else { &mut place.after }
            }
            // A word about the end of the file.
            _ => continue,
        };
        side.push_str(text);
        runs += usize::from(mark != " " && !changing);
        changing = mark != " ";
        if runs > 1 {
            place.right.clear();
        }
    }
    places
}

/// Lines of a hunk before and after, of its header `@@ -a,b +c,d @@`.
fn hunk_sizes(line: &str) -> Option<(usize, usize)> {
    let (old, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let size = |side: &str| side.split_once(',').map_or(Some(1), |(_, size)| size.parse().ok());
    Some((size(old)?, size(new)?))
}

/// Whether code changed, a little, and the parser likes it as much as before.
fn is_worth_learning(fix: &Fix) -> bool {
    let lines = |text: &str| (1..=MOST_LINES).contains(&text.lines().count());
    if !lines(&fix.wrong) || !lines(&fix.right) || filter::by_path(&fix.path).is_err() {
        return false;
    }
    let Some(language) = Language::by_path(Path::new(&fix.path)) else { return false };
    // Data and prose have no mistakes that a parser could tell.
    if language.block == BlockStyle::None || language.line_comment.is_none() {
        return false;
    }
    let whole = |lines: &str| [&fix.before, lines, &fix.after].concat();
    let (old, new) = (whole(&fix.wrong), whole(&fix.right));
    let alike = similar::TextDiff::from_chars(&fix.wrong, &fix.right).ratio();
    if alike < LEAST_ALIKE || holds_secret(&old) || holds_secret(&new) {
        return false;
    }
    let read = |text: &str| {
        let tree = SyntaxTree::parse_steadily(language, text)?;
        let code: Vec<String> =
            tokens(&tree, text).into_iter().map(|token| text[token.range].to_string()).collect();
        Some((tree.error_count(0..text.len()), code))
    };
    let (Some((before, old)), Some((after, new))) = (read(&old), read(&new)) else { return false };
    after <= before && old != new
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "\ndiff --git a/src/a.rs b/src/a.rs\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,5 +1,5 @@ head\n \
fn last(items: &[u8]) -> u8 {\n     let n = items.len();\n-    items[n]\n+    items[n - 1]\n }\n --- a/x\n\
@@ -20,2 +20,2 @@\n-// Wrnog.\n+// Wrong.\n fn a() {}\n\
@@ -30,3 +30,4 @@\n-let a = 1;\n+let a = 2;\n fn b() {}\n-let c = 1;\n+let c = 2;\n+let d = 2;\n";

    #[test]
    fn a_corrected_line_is_learnt_and_a_comment_is_not() {
        let places = places(DIFF);
        assert_eq!(places.len(), 3);
        assert_eq!(places[0].wrong, "    items[n]\n");
        assert_eq!(places[0].right, "    items[n - 1]\n");
        assert_eq!(places[0].after, "}\n--- a/x\n");
        let learnt: Vec<bool> = places.iter().map(is_worth_learning).collect();
        assert_eq!(learnt, [true, false, false], "a comment; two runs of lines");
    }

    #[test]
    fn what_does_not_parse_any_more_is_no_fix() {
        let text = |text: &str| text.to_string();
        let fix = Fix {
            repository: 0,
            path: text("a.py"),
            before: text("def f(a):\n"),
            wrong: text("    return a[0]\n"),
            right: text("    return a[0\n"),
            after: text("\n\ndef g():\n    pass\n"),
        };
        assert!(!is_worth_learning(&fix));
        assert!(is_worth_learning(&Fix {
            right: fix.wrong.clone(),
            wrong: fix.right.clone(),
            ..fix
        }));
    }
}
