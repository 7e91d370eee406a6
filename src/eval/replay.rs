//! Commits typed again into the real server, key by key: what would its suggestions have saved?
//!
//! For each commit the server starts in a checkout of the commit's parent. Each file that the commit
//! changed is opened as it was; then its hunks are typed from the top down at an even rhythm, with longer
//! pauses at the ends of lines. After each key an answer that is under way is withdrawn and a new one asked
//! for, as editors do. What is shown is accepted at once if the commit goes on like that, which is one key;
//! a line break with the indentation behind it is one key, too. Words inside a line that stay are not
//! typed, and neither are hunks of more than [`MOST_LINES`] lines: those were hardly typed by anybody.

mod client;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use self::client::Client;
use super::texts::file_uri;
use crate::sandbox::TemporaryFolder;
use crate::statistics::percentile;
use crate::syntax::Language;
use crate::text::{Position, PositionEncoding, Text};
use crate::train::history::{Change, Hunk};
use crate::train::sources::Source;

/// Lines of a hunk that is typed, at most.
pub const MOST_LINES: usize = 30;
/// A pause at the end of a line lasts as long as this many keys.
const PAUSE_KEYS: u32 = 8;
/// What the protocol calls a request that nobody made by hand.
const AUTOMATIC: u32 = 2;

/// What is typed.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Commits, the last ones.
    pub commits: usize,
    /// Time from key to key.
    pub key: Duration,
}

/// What came of it. Shares are percents.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplayReport {
    /// The repository.
    pub repository: String,
    /// The commits that were typed, newest first.
    pub commits: Vec<String>,
    /// Hunks typed.
    pub hunks: usize,
    /// Keys that the hunks take without help.
    pub keys_without: usize,
    /// Keys pressed; accepting is one.
    pub keys: usize,
    /// How much fewer those are.
    pub saved: f64,
    /// Suggestions that came into sight, each counted once however often it was confirmed.
    pub shown: usize,
    /// Those accepted.
    pub accepted: usize,
    /// Those that were not what the commit has.
    pub wrong: usize,
    /// How often a suggestion in sight was replaced by one that goes on differently, in 100 keys.
    pub flicker: f64,
    /// Requests.
    pub asked: usize,
    /// Those answered before the next key.
    pub answered: usize,
    /// Milliseconds to those answers: median.
    pub milliseconds_p50: f64,
    /// 95th percentile.
    pub milliseconds_p95: f64,
    /// The slowest.
    pub milliseconds_max: f64,
    /// Processor seconds of the server in a minute of typing; not known on every system.
    pub processor_seconds_per_minute: Option<f64>,
    /// The largest resident memory of the server, in bytes; not known on every system.
    pub memory_peak: Option<u64>,
}

/// Sums while typing goes on.
#[derive(Default)]
struct Tally {
    report: ReplayReport,
    flickers: usize,
    latencies: Vec<f64>,
    processor: Option<f64>,
    typing: Duration,
}

/// Types the last commits of a repository. `server` is the command that speaks the protocol on its standard
/// streams; `say` hears of commits done.
///
/// # Errors
/// No such commit, a server that does not start, breaks off or holds another text than was typed.
pub fn replay(
    source: &Source,
    server: &mut dyn FnMut() -> Command,
    options: &ReplayOptions,
    say: &mut dyn FnMut(usize, usize),
) -> Result<ReplayReport> {
    if !source.is_git() {
        bail!("{} is no git repository: there are no commits to type", source.root.display());
    }
    let extensions = Language::all().iter().flat_map(|language| language.extensions);
    let patterns: Vec<String> = extensions.map(|extension| format!("*.{extension}")).collect();
    let commits = source.last_commits(options.commits, &patterns)?;
    if commits.is_empty() {
        bail!("{}: no commit after the first changes code", source.root.display());
    }
    let mut tally = Tally::default();
    for (done, commit) in commits.iter().enumerate() {
        type_commit(source, commit, server, options, &mut tally)?;
        say(done + 1, commits.len());
    }
    tally.report.repository = source.name.clone();
    tally.report.commits = commits;
    Ok(tally.finish())
}

impl Tally {
    fn finish(mut self) -> ReplayReport {
        let report = &mut self.report;
        let share = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        report.saved = 100.0 - share(report.keys, report.keys_without.max(1));
        report.flicker = share(self.flickers, report.keys);
        report.milliseconds_p50 = percentile(&mut self.latencies, 0.5);
        report.milliseconds_p95 = percentile(&mut self.latencies, 0.95);
        report.milliseconds_max = percentile(&mut self.latencies, 1.0);
        let minutes = self.typing.as_secs_f64() / 60.0;
        report.processor_seconds_per_minute = self.processor.map(|s| s / minutes.max(1e-9));
        self.report
    }
}

fn type_commit(
    source: &Source,
    commit: &str,
    server: &mut dyn FnMut() -> Command,
    options: &ReplayOptions,
    tally: &mut Tally,
) -> Result<()> {
    let parent = format!("{commit}^");
    let folder = TemporaryFolder::new()?;
    source.check_out(&parent, folder.path())?;
    let mut client = Client::start(&mut server(), &file_uri(folder.path()))?;
    for change in source.changes(&parent, commit)? {
        let Some(language) = Language::by_path(Path::new(&change.path)) else { continue };
        let before = source.text_at(&parent, &change.path)?.unwrap_or_default();
        let Some(after) = source.text_at(commit, &change.path)? else { continue };
        // Without a break at its end the last line is told apart from itself with one.
        if [&before, &after].iter().any(|text| !text.is_empty() && !text.ends_with('\n')) {
            continue;
        }
        let uri = file_uri(&folder.path().join(&change.path));
        let text = Text::new(before);
        let language = language.lsp_ids.first().copied().unwrap_or(language.name);
        client.notify(
            "textDocument/didOpen",
            json!({ "textDocument": {
                "uri": uri, "languageId": language, "version": 1, "text": text.as_str(),
            } }),
        )?;
        let mut typist = Typist { client: &mut client, options, tally, text, uri, version: 1 };
        typist.type_file(&change, &Text::new(after))?;
    }
    if let Some(peak) = client.memory_peak() {
        tally.report.memory_peak = tally.report.memory_peak.max(Some(peak));
    }
    client.stop()
}

/// Someone at the keyboard, in one document.
struct Typist<'a> {
    client: &'a mut Client,
    options: &'a ReplayOptions,
    tally: &'a mut Tally,
    text: Text,
    uri: String,
    version: i32,
}

impl Typist<'_> {
    fn type_file(&mut self, change: &Change, after: &Text) -> Result<()> {
        let (begun, before) = (Instant::now(), self.client.processor_seconds());
        for hunk in &change.hunks {
            self.type_hunk(hunk, after)?;
        }
        self.tally.typing += begun.elapsed();
        if let (Some(before), Some(now)) = (before, self.client.processor_seconds()) {
            *self.tally.processor.get_or_insert(0.0) += now - before;
        }
        let held = self.client.call("nestling/text", json!({ "uri": self.uri }))?;
        if held["text"] != self.text.as_str() || self.text.as_str() != after.as_str() {
            bail!("{} on the server is not what was typed", change.path);
        }
        let document = json!({ "textDocument": { "uri": self.uri } });
        self.client.notify("textDocument/didClose", document)
    }

    /// The hunks before are done: lines have the numbers that they have after the commit.
    fn type_hunk(&mut self, hunk: &Hunk, after: &Text) -> Result<()> {
        let start = line_start(&self.text, hunk.new.start);
        let end = line_start(&self.text, hunk.new.start + hunk.old.len());
        let from = line_start(after, hunk.new.start);
        let new = &after.as_str()[from..line_start(after, hunk.new.end)];
        if hunk.new.is_empty() || hunk.new.len() > MOST_LINES {
            return self.replace(start..end, new);
        }
        self.tally.report.hunks += 1;
        // The break at the end of the last line is there or made first, so that a line is free.
        let new = &new[..new.len() - 1];
        if hunk.old.is_empty() {
            self.replace(start..start, "\n")?;
            return self.type_text(start, new);
        }
        let old = self.text.as_str()[start..end - 1].to_string();
        let same = |a: &mut dyn Iterator<Item = (char, char)>| -> usize {
            a.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
        };
        let head = same(&mut old.chars().zip(new.chars()));
        let tail = same(&mut old[head..].chars().rev().zip(new[head..].chars().rev()));
        self.replace(start + head..start + old.len() - tail, "")?;
        self.type_text(start + head, &new[head..new.len() - tail])
    }

    /// Types `rest` at `offset`, or accepts what saves typing it.
    fn type_text(&mut self, mut offset: usize, mut rest: &str) -> Result<()> {
        self.tally.report.keys_without += keys(rest).count();
        let (mut asked, mut shown) = (None, String::new());
        while let Some(key) = keys(rest).next() {
            self.replace(offset..offset, key)?;
            self.tally.report.keys += 1;
            (offset, rest) = (offset + key.len(), &rest[key.len()..]);
            shown = shown.strip_prefix(key).unwrap_or_default().to_string();
            if let Some(withdrawn) = asked.take() {
                self.client.cancel(withdrawn)?;
            }
            if rest.is_empty() {
                break;
            }
            let (sent, request) = (Instant::now(), self.ask(offset)?);
            let pause = key.starts_with('\n') || rest.starts_with('\n');
            let next = sent + self.options.key * if pause { PAUSE_KEYS } else { 1 };
            let Some((answer, arrived)) = self.client.wait(request, next)? else {
                asked = Some(request);
                continue;
            };
            self.tally.report.answered += 1;
            self.tally.latencies.push((arrived - sent).as_secs_f64() * 1000.0);
            let new = self.suggested(&answer, offset);
            if self.judge(&new, &shown, rest) {
                self.replace(offset..offset, &new)?;
                (offset, rest) = (offset + new.len(), &rest[new.len()..]);
                self.accept(&answer)?;
                shown.clear();
            } else {
                shown = new;
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    /// Counts a suggestion that comes into sight while `shown` is; whether to accept it.
    fn judge(&mut self, new: &str, shown: &str, rest: &str) -> bool {
        if new.is_empty() {
            return false;
        }
        let goes_on = !shown.is_empty() && new.starts_with(shown);
        let right = rest.starts_with(new);
        let accepted = right && keys(new).count() > 1;
        self.tally.flickers += usize::from(!shown.is_empty() && !goes_on);
        self.tally.report.shown += usize::from(!goes_on);
        self.tally.report.wrong += usize::from(!goes_on && !right);
        self.tally.report.accepted += usize::from(accepted);
        accepted
    }

    /// Changes both sides.
    fn replace(&mut self, range: Range<usize>, new: &str) -> Result<()> {
        self.version += 1;
        let place = json!({ "start": self.position(range.start), "end": self.position(range.end) });
        self.text.replace(range, new);
        self.client.notify(
            "textDocument/didChange",
            json!({
                "textDocument": { "uri": self.uri, "version": self.version },
                "contentChanges": [{ "range": place, "text": new }],
            }),
        )
    }

    fn ask(&mut self, offset: usize) -> Result<i64> {
        self.tally.report.asked += 1;
        let parameters = json!({
            "textDocument": { "uri": self.uri },
            "position": self.position(offset),
            "context": { "triggerKind": AUTOMATIC },
        });
        self.client.request("textDocument/inlineCompletion", parameters)
    }

    /// What accepting would put at the cursor; empty if nothing is shown, or if it would change something
    /// else.
    fn suggested(&self, answer: &Value, offset: usize) -> String {
        let item = &first_item(answer);
        let Some(new) = item["insertText"].as_str() else { return String::new() };
        let offset_of = |position: &Value| {
            let number = |key: &str| position[key].as_u64().unwrap_or(0) as u32;
            let position = Position { line: number("line"), character: number("character") };
            self.text.offset(position, PositionEncoding::Utf16)
        };
        let (start, end) = match &item["range"] {
            Value::Null => (offset, offset),
            range => (offset_of(&range["start"]), offset_of(&range["end"])),
        };
        let text = self.text.as_str();
        let (before, behind) = (text.get(start..offset), text.get(offset..end));
        let inside = before.and_then(|before| new.strip_prefix(before));
        let inside = inside.zip(behind).and_then(|(inside, after)| inside.strip_suffix(after));
        inside.unwrap_or_default().to_string()
    }

    fn accept(&mut self, answer: &Value) -> Result<()> {
        let command = &first_item(answer)["command"];
        if command.is_object() {
            let parameters =
                json!({ "command": command["command"], "arguments": command["arguments"] });
            self.client.call("workspace/executeCommand", parameters)?;
        }
        Ok(())
    }

    fn position(&self, offset: usize) -> Value {
        let position = self.text.position(offset, PositionEncoding::Utf16);
        json!({ "line": position.line, "character": position.character })
    }
}

fn first_item(answer: &Value) -> Value {
    let items = answer.get("items").unwrap_or(answer);
    items.get(0).cloned().unwrap_or_default()
}

/// Where a line begins; the end of the text for the one after the last.
fn line_start(text: &Text, line: usize) -> usize {
    text.line_range(line).start
}

/// The keys that a text takes: characters; a line break takes the indentation behind it along, and so does
/// the start of a text.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut first = true;
    std::iter::from_fn(move || {
        let one = rest.chars().next()?;
        let indents = one == '\n' || (std::mem::take(&mut first) && matches!(one, ' ' | '\t'));
        let behind = &rest[one.len_utf8()..];
        let spaces = behind.len() - behind.trim_start_matches([' ', '\t']).len();
        let (key, left) = rest.split_at(one.len_utf8() + if indents { spaces } else { 0 });
        rest = left;
        Some(key)
    })
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (commits, hunks) = (self.commits.len(), self.hunks);
        writeln!(f, "{}: {commits} commits, {hunks} hunks", self.repository)?;
        writeln!(
            f,
            "keys: {} instead of {}, {:.1} % saved",
            self.keys, self.keys_without, self.saved
        )?;
        let (shown, accepted, wrong) = (self.shown, self.accepted, self.wrong);
        writeln!(f, "suggestions: {shown} shown, {accepted} accepted, {wrong} wrong")?;
        writeln!(f, "flicker: {:.2} in 100 keys", self.flicker)?;
        let times = [self.milliseconds_p50, self.milliseconds_p95, self.milliseconds_max];
        let [p50, p95, most] = times.map(|time| format!("{time:.0}"));
        let (answered, asked) = (self.answered, self.asked);
        write!(f, "answers before the next key: {answered} of {asked}; ")?;
        writeln!(f, "p50 {p50} ms, p95 {p95} ms, at most {most} ms")?;
        let known = |value: Option<String>| value.unwrap_or_else(|| "not known here".into());
        let seconds = self.processor_seconds_per_minute.map(|s| format!("{s:.1} s in a minute"));
        writeln!(f, "processor: {}", known(seconds))?;
        let peak = self.memory_peak.map(|bytes| format!("{:.0} MB at most", bytes as f64 / 1e6));
        writeln!(f, "memory: {}", known(peak))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_character_or_a_break_with_its_indentation() {
        let of = |text| keys(text).collect::<Vec<_>>();
        assert_eq!(of("  a b\n    é"), ["  ", "a", " ", "b", "\n    ", "é"]);
        assert_eq!(of("a  b"), ["a", " ", " ", "b"]);
        assert_eq!(of("\n\n\t"), ["\n", "\n\t"]);
    }

    #[test]
    fn figures_of_nothing_are_none() {
        let report = Tally::default().finish();
        assert_eq!((report.flicker, report.milliseconds_max), (0.0, 0.0));
        assert!(report.to_string().contains("not known here"));
    }
}
