//! Repairs of broken syntax that the parser guides: one token that is taken out, put in, replaced or moved, or all that
//! the end of a line lacks, where that leaves fewer errors. Which of them is meant, the model says (`weigh`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::mutations::is_misspelled;
use crate::syntax::{Fault, Lexeme, LexemeKind, SyntaxTree};
use crate::text::{Text, TextEdit, short};

/// What an edit does to the tokens of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A token comes in.
    Insert,
    /// A token that stands there twice goes.
    Undouble,
    /// Another token goes.
    Delete,
    /// Two neighbours change places.
    Swap,
    /// A token becomes another one.
    Replace,
}

/// An edit that leaves fewer errors than there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The edit.
    pub edit: TextEdit,
    /// What it does.
    pub change: Change,
    /// The token that comes or goes.
    pub token: String,
    /// Errors of the whole text afterwards.
    pub errors: usize,
    /// Nats that speak for it: by its kind and place, and by the model once that was asked.
    pub worth: f32,
}

impl Candidate {
    /// What it does, in a few words.
    pub fn title(&self) -> String {
        let token = short(&self.token, super::propose::SHOWN);
        match self.change {
            Change::Insert => format!("add `{token}`"),
            Change::Undouble | Change::Delete => format!("remove `{token}`"),
            Change::Swap => format!("swap `{token}` with the next word"),
            Change::Replace => format!("write `{token}`"),
        }
    }
}

/// Tokens around the ends of an error that are looked at.
const BEFORE: usize = 5;
const AFTER: usize = 7;
/// Errors that are looked at, and places in all.
const MOST_FAULTS: usize = 3;
const MOST_SITES: usize = 48;
/// Edits that are tried at most.
const MOST_TRIALS: usize = 1500;
/// Names that may stand where one is missing.
const MOST_NAMES: usize = 14;
/// Places with space left over that are looked at.
const MOST_ODD: usize = 8;
/// Closing brackets and their opening ones.
const BRACKETS: [(&str, &str); 3] = [(")", "("), ("]", "["), ("}", "{")];
/// What may stand behind the last of them.
const ENDS: [&str; 4] = [";", ":", ",", " {"];
/// Nats against several tokens at once.
const SEVERAL: f32 = 2.0;

/// A broken text with its tokens.
struct Broken<'a> {
    tree: &'a SyntaxTree,
    text: &'a Text,
    lexemes: Vec<Lexeme>,
    /// How often fixed tokens occur here, with how they stand: (count, spaced before, spaced behind).
    habits: BTreeMap<&'a str, (usize, usize, usize)>,
}

/// All edits of one token, or of the end of a line, that leave the fewest errors, if those are fewer than there are.
/// Only errors that touch `within` are looked at. Ends with what there is when `go_on`, told how many were tried, says so.
pub fn candidates(
    tree: &SyntaxTree,
    text: &Text,
    within: Option<Range<usize>>,
    go_on: &(dyn Fn(usize) -> bool + Sync),
) -> Vec<Candidate> {
    let touches = |fault: &Fault| {
        within.as_ref().is_none_or(|w| fault.range.start <= w.end && fault.range.end >= w.start)
    };
    let faults: Vec<Fault> = tree.faults().into_iter().filter(touches).take(MOST_FAULTS).collect();
    if faults.is_empty() {
        return Vec::new();
    }
    let broken = Broken::new(tree, text);
    let trials = broken.trials(&faults);
    let errors = tree.error_count(0..text.len());
    let mut found = tried(tree, text, trials, errors, go_on);
    // Where a placeholder fits, so may the names around it.
    let (names, mut kept): (Vec<_>, Vec<_>) =
        found.drain(..).partition(|candidate| candidate.token == PLACEHOLDER);
    for candidate in names {
        kept.extend(broken.named(&candidate));
    }
    let least = kept.iter().map(|c| c.errors).min().unwrap_or(errors);
    kept.retain(|candidate| candidate.errors == least);
    kept
}

/// Stands for any name while edits are tried.
const PLACEHOLDER: &str = "nestling_name";

impl<'a> Broken<'a> {
    fn new(tree: &'a SyntaxTree, text: &'a Text) -> Broken<'a> {
        let mut lexemes = tree.lexemes(text.as_str());
        lexemes.retain(|lexeme| lexeme.kind != LexemeKind::Comment);
        let mut habits: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
        let source = text.as_str();
        let space = |c: Option<char>| usize::from(c.is_none_or(|c| c == ' '));
        for lexeme in lexemes.iter().filter(|l| l.kind == LexemeKind::Fixed) {
            let (before, after) = (&source[..lexeme.range.start], &source[lexeme.range.end..]);
            let habit = habits.entry(&source[lexeme.range.clone()]).or_default();
            habit.0 += 1;
            habit.1 += space(before.chars().next_back());
            habit.2 += space(after.chars().next());
        }
        Broken { tree, text, lexemes, habits }
    }

    fn text_of(&self, at: usize) -> &'a str {
        self.lexemes.get(at).map_or("", |lexeme| &self.text.as_str()[lexeme.range.clone()])
    }

    /// The text between a token and the one before it.
    fn gap(&self, at: usize) -> Range<usize> {
        let start = if at == 0 { 0 } else { self.lexemes[at - 1].range.end };
        start..self.lexemes.get(at).map_or(self.text.len(), |lexeme| lexeme.range.start)
    }

    /// The edits worth a trial, likeliest first.
    fn trials(&self, faults: &[Fault]) -> Vec<Candidate> {
        let mut trials = Vec::new();
        for fault in faults {
            if let Some(token) = fault.missing.as_deref() {
                let at = self.lexemes.partition_point(|l| l.range.start < fault.range.start);
                let is_name = token.ends_with("identifier");
                self.insert(at, if is_name { PLACEHOLDER } else { token }, 0.5, &mut trials);
            }
        }
        let unmatched = self.unmatched();
        let mut lines = BTreeSet::new();
        for &at in &unmatched {
            self.partner(at, &mut trials);
            let start = self.lexemes.get(at).map_or(self.text.len(), |lexeme| lexeme.range.start);
            if lines.insert(self.text.line_of(start)) {
                self.close(at, &mut trials);
            }
        }
        let sites = self.sites(faults, &unmatched);
        for &at in &sites {
            self.delete(at, &mut trials);
            self.swap(at, &mut trials);
        }
        for &at in &sites {
            for token in self.insertable(at) {
                self.insert(at, &token, 0.0, &mut trials);
            }
        }
        for &at in &sites {
            self.replace(at, &mut trials);
        }
        trials.truncate(MOST_TRIALS);
        trials
    }

    /// Tokens near the errors and at brackets that do not match, nearest first.
    fn sites(&self, faults: &[Fault], unmatched: &[usize]) -> Vec<usize> {
        let mut sites: Vec<(usize, usize)> = Vec::new();
        let last = self.lexemes.len();
        for fault in faults {
            let start = self.lexemes.partition_point(|l| l.range.end <= fault.range.start);
            let end = self.lexemes.partition_point(|l| l.range.start < fault.range.end);
            for (far, edge) in [(0, start), (2, end)] {
                for at in edge.saturating_sub(BEFORE)..(edge + AFTER).min(last + 1) {
                    sites.push((far + at.abs_diff(edge), at));
                }
            }
            // Of a short error, all of it.
            sites.extend((start..end.min(start + 24)).map(|at| (4 + at - start, at)));
        }
        sites.extend(unmatched.iter().map(|&at| (3, at)));
        // Where something may have stood, or a line begins that is not understood.
        let first = faults.first().map_or(0, |fault| fault.range.start);
        let first = self.lexemes.partition_point(|l| l.range.start < first);
        let mut odd: Vec<(usize, usize)> =
            (0..=last).filter(|&at| self.is_left(at)).map(|at| (at.abs_diff(first), at)).collect();
        odd.sort_unstable();
        sites.extend(odd.into_iter().take(MOST_ODD).map(|(_, at)| (1, at)));
        let begins = |at: &usize| self.text.as_str()[self.gap(*at)].contains('\n');
        sites.extend((0..=first.min(last)).rev().filter(begins).take(3).map(|at| (2, at)));
        sites.sort_unstable();
        let mut seen = BTreeSet::new();
        let mut sites: Vec<usize> = sites.into_iter().map(|(_, at)| at).collect();
        sites.retain(|at| *at <= last && seen.insert(*at));
        sites.truncate(MOST_SITES);
        sites
    }

    /// Where brackets do not match, by their kind and by the indentation of their lines: the tokens themselves, and
    /// those before which the other one may be missing.
    fn unmatched(&self) -> Vec<usize> {
        let source = self.text.as_str();
        let indentation = |at: usize| {
            let start = self.lexemes[at].range.start;
            let line = source[..start].rfind('\n').map_or(0, |i| i + 1);
            let blank = source[line..start].chars().all(char::is_whitespace);
            let width = source[line..].bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
            (width, blank)
        };
        let (mut open, mut found) = (Vec::<usize>::new(), Vec::new());
        for at in 0..self.lexemes.len() {
            let token = self.text_of(at);
            if BRACKETS.iter().any(|(_, opening)| *opening == token) {
                open.push(at);
                continue;
            }
            let Some((_, opening)) = BRACKETS.iter().find(|(closing, _)| *closing == token) else {
                // A line that is indented less than the one with an open brace lies outside of it.
                if let Some(&top) = open.last()
                    && self.text_of(top) == "{"
                {
                    let (width, first) = indentation(at);
                    if first && width <= indentation(top).0 && found.len() < 6 {
                        found.extend([at, top]);
                    }
                }
                continue;
            };
            let (width, first) = indentation(at);
            match open.last().copied() {
                Some(top) if self.text_of(top) == *opening => {
                    open.pop();
                    if first && width != indentation(top).0 {
                        found.extend([at, top]);
                    }
                }
                Some(top) => {
                    found.extend([at, top]);
                    // Either the top one is not closed, or this one is too many.
                    if open.iter().any(|&o| self.text_of(o) == *opening) {
                        while open.pop().is_some_and(|o| self.text_of(o) != *opening) {}
                    }
                }
                None => found.push(at),
            }
        }
        found.extend(open.iter().rev().take(4));
        if !open.is_empty() {
            found.push(self.lexemes.len());
        }
        found.truncate(20);
        found
    }

    /// The other one of a bracket, at each place of its line where it may be missing.
    fn partner(&self, at: usize, trials: &mut Vec<Candidate>) {
        const MOST: usize = 30;
        let token = self.text_of(at);
        let breaks = |at: usize| self.text.as_str()[self.gap(at)].contains('\n');
        for (closing, opening) in BRACKETS {
            if token == opening {
                for place in at + 1..(at + MOST).min(self.lexemes.len() + 1) {
                    self.insert(place, closing, 0.0, trials);
                    if breaks(place) {
                        break;
                    }
                }
            } else if token == closing {
                for place in (at.saturating_sub(MOST)..=at).rev() {
                    self.insert(place, opening, 0.0, trials);
                    if breaks(place) {
                        break;
                    }
                }
            }
        }
    }

    /// All that a line with an open bracket lacks, where that is more than one token: the closing ones, and what stands
    /// behind them elsewhere.
    fn close(&self, at: usize, trials: &mut Vec<Candidate>) {
        let breaks = |at: &usize| self.text.as_str()[self.gap(*at)].contains('\n');
        let first = (0..=at).rev().find(breaks).unwrap_or(0);
        let end = (at + 1..self.lexemes.len()).find(breaks).unwrap_or(self.lexemes.len());
        let last = self.text_of(end.saturating_sub(1));
        let place = if ENDS.iter().any(|end| end.trim() == last) { end - 1 } else { end };
        let mut missing: Vec<&str> = Vec::new();
        for token in (first..place).map(|at| self.text_of(at)) {
            if let Some((closing, _)) = BRACKETS.iter().find(|(_, opening)| *opening == token) {
                missing.push(closing);
            } else if missing.last() == Some(&token) {
                missing.pop();
            }
        }
        let closing: String = missing.iter().rev().copied().collect();
        let behind = ENDS.iter().filter(|e| place == end && self.habits.contains_key(e.trim()));
        let all = [""].iter().filter(|_| missing.len() > 1).chain(behind);
        for behind in all.filter(|_| !missing.is_empty()) {
            self.insert(place, &format!("{closing}{behind}"), -SEVERAL, trials);
        }
    }

    /// What may be put in before a token.
    fn insertable(&self, at: usize) -> Vec<String> {
        /// Fixed tokens of the file that are tried everywhere, most frequent first.
        const MOST: usize = 40;
        let mut common: Vec<(&str, usize)> =
            self.habits.iter().map(|(token, habit)| (*token, habit.0)).collect();
        common.sort_by_key(|(token, count)| (std::cmp::Reverse(*count), *token));
        common.truncate(MOST);
        let mut tokens: Vec<String> = common.into_iter().map(|(t, _)| t.to_string()).collect();
        for token in ["(", ")", "{", "}", "[", "]", ",", ";", ":", ".", "="] {
            if !tokens.iter().any(|t| t == token) {
                tokens.push(token.into());
            }
        }
        let before = at.checked_sub(1).and_then(|at| self.lexemes.get(at));
        let mut name = true;
        if let Some((fixed, takes_name)) = before.and_then(|lexeme| self.tree.expected(lexeme)) {
            tokens.retain(|token| fixed.contains(token));
            name = takes_name;
        }
        if name {
            tokens.push(PLACEHOLDER.into());
        }
        tokens
    }

    fn insert(&self, at: usize, token: &str, prior: f32, trials: &mut Vec<Candidate>) {
        let (place, left, right) = self.arrange(at, token);
        let odd = self.is_odd(at);
        let new_text = format!("{left}{token}{right}");
        trials.push(Candidate {
            edit: TextEdit { range: place, new_text },
            change: Change::Insert,
            token: token.to_string(),
            errors: 0,
            worth: prior + if odd { 4.0 } else { 0.0 }
                - if token == PLACEHOLDER { 1.0 } else { 0.0 },
        });
    }

    /// Whether the space before a token looks as if something had stood there.
    fn is_odd(&self, at: usize) -> bool {
        let gap = &self.text.as_str()[self.gap(at)];
        self.is_left(at) || !gap.contains('\n') && gap.len() > 1
    }

    /// Whether the space before a token ends or makes a line, which people and formatters do not leave.
    fn is_left(&self, at: usize) -> bool {
        let gap = &self.text.as_str()[self.gap(at)];
        let inner = gap.find('\n').zip(gap.rfind('\n')).map_or("", |(a, b)| &gap[a..b]);
        let blank_line = inner.contains([' ', '\t']);
        let trailing = gap.contains('\n') && gap.starts_with([' ', '\t']);
        blank_line || trailing
    }

    /// Where in the space before a token another one goes, and with what around it.
    fn arrange(&self, at: usize, token: &str) -> (Range<usize>, &'static str, &'static str) {
        let gap = self.gap(at);
        let space = &self.text.as_str()[gap.clone()];
        let several = token.len() > 1 && BRACKETS.iter().any(|(c, _)| token.starts_with(c));
        let closing = several || [")", "]", "}", ",", ";", ":", ".", "?"].contains(&token);
        let (count, before, behind) = self.habits.get(token).copied().unwrap_or_default();
        let word = token.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        // Most of its kind say how it stands.
        let spaced =
            |times: usize, default: bool| if count > 1 { 2 * times > count } else { default };
        let is_name = token == PLACEHOLDER;
        let tight = closing || is_name || token == "(" || token == "[";
        let left = spaced(before, !tight);
        let right = spaced(behind, word && !is_name || [",", ";", ":"].contains(&token));
        let source = self.text.as_str();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let behind_word = joins(source[..gap.start].chars().next_back());
        let before_word = joins(source[gap.end..].chars().next());
        if let Some(first) = space.find('\n') {
            // A line that only has its indentation left is where a token was.
            let last = space.rfind('\n').unwrap_or(first);
            if let Some(line) = space[first..last].rfind(|c| c != '\n').filter(|_| last > first) {
                let end = gap.start + first + line + 1;
                return (end..end, "", "");
            }
            if token == "}" && at < self.lexemes.len() || !closing && token != "{" {
                let right = if right || word { " " } else { "" };
                return (gap.end..gap.end, "", right);
            }
            // At the end of the line, over what space was left there, and before a comment.
            let left_over = space.len() - space.trim_start_matches([' ', '\t']).len();
            if left_over > 0 && space[left_over..].starts_with(['\n', '\r']) {
                let trailing = gap.start + left_over;
                return (trailing..trailing, "", "");
            }
            let left = if left || word { " " } else { "" };
            return (gap.start..gap.start, left, "");
        }
        match space.len() {
            0 => {
                // Names must not grow together.
                let left = if word && behind_word || left && !closing { " " } else { "" };
                let right = if word && before_word || right { " " } else { "" };
                (gap.start..gap.start, left, right)
            }
            1 => match (left, right) {
                _ if is_name && behind_word == before_word => {
                    (gap.end..gap.end, "", if before_word { " " } else { "" })
                }
                _ if is_name && behind_word => (gap.end..gap.end, "", ""),
                _ if is_name => (gap.start..gap.start, "", ""),
                (false, _) => (gap.start..gap.start, "", ""),
                (true, true) => (gap.end..gap.end, "", " "),
                (true, false) => (gap.end..gap.end, "", ""),
            },
            // Between the spaces on both sides.
            _ => (gap.start + 1..gap.start + 1, "", ""),
        }
    }

    fn delete(&self, at: usize, trials: &mut Vec<Candidate>) {
        let Some(lexeme) = self.lexemes.get(at) else { return };
        let source = self.text.as_str();
        let token = self.text_of(at);
        let double = token == self.text_of(at + 1) || at > 0 && token == self.text_of(at - 1);
        let change = if double { Change::Undouble } else { Change::Delete };
        let (before, after) = (self.gap(at), self.gap(at + 1));
        let one_line = |gap: &Range<usize>| !gap.is_empty() && !source[gap.clone()].contains('\n');
        let first = source[before.clone()].contains('\n') || before.start == 0;
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let words = joins(source[..before.start].chars().next_back())
            && joins(source[lexeme.range.end..].chars().next());
        // With the space on one side; with none if there is none.
        let range = match () {
            () if words => lexeme.range.clone(),
            () if one_line(&after) => lexeme.range.start..after.end,
            () if one_line(&before) && !first => before.start..lexeme.range.end,
            () => lexeme.range.clone(),
        };
        let mut push = |range: Range<usize>, worth: f32| {
            trials.push(Candidate {
                edit: TextEdit { range, new_text: String::new() },
                change,
                token: token.to_string(),
                errors: 0,
                worth,
            });
        };
        // A word that goes is lost.
        let lost = if !double && lexeme.kind != LexemeKind::Fixed { -2.5 } else { 0.0 };
        push(range.clone(), lost);
        // Of two equal spaces either may be the one that came with it.
        if range != lexeme.range && !(one_line(&before) && one_line(&after)) {
            push(lexeme.range.clone(), lost - 0.5);
        }
        // A line of its own goes as a whole.
        if first && source[after].contains('\n') && at > 0 {
            let line = before.start + source[before].rfind('\n').unwrap_or(0);
            push(line..lexeme.range.end, lost - 0.5);
        }
    }

    fn swap(&self, at: usize, trials: &mut Vec<Candidate>) {
        let (Some(a), Some(b)) = (self.lexemes.get(at), self.lexemes.get(at + 1)) else { return };
        let source = self.text.as_str();
        let (first, second) = (self.text_of(at), self.text_of(at + 1));
        let between = &source[a.range.end..b.range.start];
        if first == second {
            return;
        }
        trials.push(Candidate {
            edit: TextEdit {
                range: a.range.start..b.range.end,
                new_text: format!("{second}{between}{first}"),
            },
            change: Change::Swap,
            token: first.to_string(),
            errors: 0,
            worth: if between.contains('\n') { -1.0 } else { 0.0 },
        });
    }

    /// A fixed token instead of another one, or instead of a name that resembles it.
    fn replace(&self, at: usize, trials: &mut Vec<Candidate>) {
        let Some(lexeme) = self.lexemes.get(at) else { return };
        let token = self.text_of(at);
        let word = token.starts_with(|c: char| c.is_alphabetic());
        let alike = |other: &str| match word {
            true => word && is_misspelled(token, other),
            false => !other.starts_with(|c: char| c.is_alphabetic()) && other != PLACEHOLDER,
        };
        for other in self.insertable(at).into_iter().filter(|other| other != token && alike(other))
        {
            trials.push(Candidate {
                edit: TextEdit { range: lexeme.range.clone(), new_text: other.clone() },
                change: Change::Replace,
                token: other,
                errors: 0,
                worth: 0.0,
            });
        }
    }

    /// A candidate with a placeholder, with the names that stand between the same tokens elsewhere, and those nearest.
    fn named(&self, candidate: &Candidate) -> Vec<Candidate> {
        let near = self.lexemes.partition_point(|l| l.range.start < candidate.edit.range.start);
        let kinds = [LexemeKind::Name, LexemeKind::Literal];
        let text = |at: Option<usize>| at.map_or("", |at| self.text_of(at));
        let around = |at: usize, next: usize| {
            [text(at.checked_sub(2)), text(at.checked_sub(1)), self.text_of(next)]
        };
        let here = around(near, near);
        let mut names: Vec<(usize, &str)> = Vec::new();
        for at in 0..self.lexemes.len() {
            let short = self.lexemes[at].range.len() <= 40;
            if kinds.contains(&self.lexemes[at].kind) && short {
                let there = around(at, at + 1);
                let both = there[0] == here[0] && there[1] == here[1];
                let fit = match (both, there[1] == here[1], there[2] == here[2]) {
                    (true, _, true) => 0,
                    (false, true, true) => 1,
                    (true, _, false) => 2,
                    (false, true, false) => 3,
                    _ => 4,
                };
                names.push((1000 * fit + near.abs_diff(at).min(999), self.text_of(at)));
            }
        }
        names.sort_unstable();
        let mut seen = BTreeSet::new();
        names.retain(|(_, name)| seen.insert(*name));
        let with = |&(_, name): &(usize, &str)| Candidate {
            edit: TextEdit {
                range: candidate.edit.range.clone(),
                new_text: candidate.edit.new_text.replace(PLACEHOLDER, name),
            },
            token: name.to_string(),
            ..candidate.clone()
        };
        names.iter().take(MOST_NAMES).map(with).collect()
    }
}

/// Those of the trials that leave fewer errors, with how many, on two cores.
fn tried(
    tree: &SyntaxTree,
    text: &Text,
    trials: Vec<Candidate>,
    errors: usize,
    go_on: &(dyn Fn(usize) -> bool + Sync),
) -> Vec<Candidate> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(trial) = trials.get(at) else { return found };
            if !go_on(at) {
                return found;
            }
            if let Some(left) = tree.errors_after(text, &trial.edit).filter(|&left| left < errors) {
                found.push((at, Candidate { errors: left, ..trial.clone() }));
            }
        }
    };
    let mut found = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut found = work();
        found.extend(other.join().unwrap_or_default());
        found
    });
    found.sort_by_key(|(at, _)| *at);
    let mut kept: Vec<Candidate> = Vec::new();
    for (_, candidate) in found {
        // Deleting either of two equal tokens gives one text.
        let same = |c: &Candidate| apply(text, &c.edit) == apply(text, &candidate.edit);
        if !kept.iter().any(|c| c.change == candidate.change && same(c)) {
            kept.push(candidate);
        }
    }
    kept
}

fn apply(text: &Text, edit: &TextEdit) -> String {
    crate::text::apply(text.as_str(), std::slice::from_ref(edit))
}
