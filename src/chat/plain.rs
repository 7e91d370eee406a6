//! Answers without a model that talks: what the repository says, word for word and with its places, and code that is
//! continued. No prose is made up.

use std::path::Path;

use super::blocks::{blocks, fenced};
use super::repository::{Definition, MOST_DEFINITIONS, Repository, Source};
use super::terms::place;
use crate::generation::CancelToken;
use crate::memory::retrieval::identifiers;
use crate::suggest::{Completer, CompletionRequest, Progress, Silence};
use crate::syntax::{Language, ScopeKind, SyntaxTree};
use crate::text::{Text, apply};
use crate::workspace::{Document, Snapshot};

/// Files and lines of one file in a list of uses, and definitions in that of a file.
const MOST_FILES: usize = 8;
const MOST_USES: usize = 6;
const MOST_ENTRIES: usize = 40;

/// What the definitions of a name are, what they say, and who uses it.
pub(super) fn definitions(definitions: &[Definition], uses: &[(String, Vec<usize>)]) -> String {
    let each = definitions.iter().map(|Definition { source, name, kind, .. }| {
        let what = match kind {
            ScopeKind::Function => "a function",
            ScopeKind::Class => "a type",
            ScopeKind::Module | ScopeKind::Block | ScopeKind::Other => "defined",
        };
        let code = fenced(language(&source.path), &source.text);
        format!("`{name}` is {what} in `{}`:\n\n{code}\n", source.place())
    });
    each.collect::<String>() + &used(uses)
}

/// A name that is nowhere defined here.
pub(super) fn mentioned(name: &str, uses: &[(String, Vec<usize>)]) -> String {
    format!("`{name}` is not defined in this repository. {}", used(uses))
}

/// Lines that speak of what is asked.
pub(super) fn windows(sources: &[Source]) -> Option<String> {
    if sources.is_empty() {
        return None;
    }
    let places = sources.iter().map(|source| {
        let code = fenced(language(&source.path), &source.text);
        format!("- `{}` ({})\n\n{code}", source.place(), source.title)
    });
    Some(format!("Lines that speak of it:\n\n{}", places.collect::<Vec<_>>().join("\n")))
}

/// What a file says of itself, or the lines of it that are named.
pub(super) fn file(source: &Source, text: &Text, is_part: bool) -> String {
    if is_part {
        return format!(
            "`{}`:\n\n{}",
            source.place(),
            fenced(language(&source.path), &source.text)
        );
    }
    let language = Language::by_path(Path::new(&source.path));
    let tree = language.and_then(|language| SyntaxTree::parse_steadily(language, text.as_str()));
    let entries: Vec<String> = tree.map(|tree| outline(&tree, text)).unwrap_or_default();
    let (count, head) = (text.as_str().lines().count(), head(text, language));
    let mut told = format!("`{}` has {count} lines", source.path);
    told += if head.is_empty() { ".\n" } else { " and says of itself:\n\n" };
    told += &head;
    if !entries.is_empty() {
        told += &format!("\nIt defines:\n\n{}\n", entries.join("\n"));
    }
    told
}

/// The definitions of a file with their lines and the first words that are written about each.
fn outline(tree: &SyntaxTree, text: &Text) -> Vec<String> {
    let source = text.as_str();
    let named = tree.outline(source).into_iter().filter(|scope| scope.name.is_some());
    let mut entries: Vec<String> = named
        .map(|scope| {
            let line = text.line_of(scope.range.start);
            let from = super::repository::first_line_about(text, tree.language(), line);
            let about =
                (from..line).map(|at| words_of(text.line(at))).find(|words| !words.is_empty());
            let header = crate::text::short(source[scope.header].trim(), 90);
            let about = about.map_or(String::new(), |about| format!(" — {about}"));
            format!("- line {}: `{header}`{about}", line + 1)
        })
        .collect();
    if entries.len() > MOST_ENTRIES {
        let more = entries.len() - MOST_ENTRIES;
        entries.truncate(MOST_ENTRIES);
        entries.push(format!("- and {more} more"));
    }
    entries
}

/// A line of comment without its marks; empty for attributes and decorators.
fn words_of(line: &str) -> String {
    let line = line.trim();
    if line.starts_with("#[") || line.starts_with('@') {
        return String::new();
    }
    line.trim_matches(|c: char| "/*#!-\"'".contains(c)).trim().to_string()
}

/// The comment at the head of a file.
fn head(text: &Text, language: Option<&Language>) -> String {
    const MOST: usize = 12;
    let mark = language.and_then(|language| language.line_comment).unwrap_or("#");
    let lines =
        text.as_str().lines().skip_while(|line| line.starts_with("#!") || line.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    let quote = ["\"\"\"", "'''", "/*"]
        .iter()
        .find(|quote| lines.first().is_some_and(|line| line.starts_with(*quote)));
    let ends = |line: &str, quote: &str| {
        line.trim_end().ends_with(if quote == "/*" { "*/" } else { quote })
    };
    let count = match quote {
        Some(quote) if lines[0].len() > quote.len() && ends(&lines[0][quote.len()..], quote) => 1,
        Some(quote) => {
            lines.iter().skip(1).position(|line| ends(line, quote)).map_or(1, |at| at + 2)
        }
        None => lines
            .iter()
            .take_while(|line| line.starts_with(mark) && !line.starts_with("#["))
            .count(),
    };
    let said = lines.iter().take(count.min(MOST)).map(|line| words_of(line));
    let said: Vec<String> = said.map(|line| format!("> {line}").trim_end().to_string()).collect();
    let said = said.join("\n");
    if said.trim_matches(['>', '\n', ' ']).is_empty() { String::new() } else { said + "\n" }
}

/// Who uses something, as a sentence.
fn used(uses: &[(String, Vec<usize>)]) -> String {
    if uses.is_empty() {
        return "Nothing else here names it.\n".into();
    }
    let files = uses.iter().take(MOST_FILES).map(|(path, lines)| {
        let first =
            lines.iter().take(MOST_USES).map(usize::to_string).collect::<Vec<_>>().join(", ");
        let more = if lines.len() > MOST_USES { ", …" } else { "" };
        format!("`{path}:{first}{more}`")
    });
    let listed = files.collect::<Vec<_>>().join(", ");
    let more = match uses.len().saturating_sub(MOST_FILES) {
        0 => String::new(),
        more => format!(" and {more} more file(s)"),
    };
    format!("It is named in {listed}{more}.\n")
}

/// What is said when there is nothing.
pub(super) fn nothing(asked: &str) -> String {
    format!(
        "Nothing in the repository answers “{}”. Name something of the code in back quotes, or a file with its path.\n",
        crate::text::short(asked.trim(), 80)
    )
}

/// What the repository says of a name, a file or a place (`PATH:LINE`), in Markdown.
///
/// # Errors
/// It knows nothing of it, in a sentence.
pub fn explain(repository: &Repository, what: &str) -> Result<String, String> {
    let (path, lines) = place(what.trim());
    if let Some(file) = repository.resolve(path) {
        let named = super::Named { path: file, lines: None };
        let (source, text) = repository.read(&named)?;
        let Some((line, _)) = lines else { return Ok(self::file(&source, &text, false)) };
        let name = name_at(&source, &text, line)?;
        let mut own = repository.definitions(&name);
        own.retain(|own| {
            own.source.path == source.path
                && (own.source.lines.0..=own.source.lines.1).contains(&line)
        });
        return match own.is_empty() {
            true => explain(repository, &name),
            false => Ok(definitions(&own, &repository.uses(&name, &own))),
        };
    }
    let name = what
        .trim()
        .trim_matches('`')
        .rsplit(['.', ':'])
        .next()
        .unwrap_or("")
        .trim_end_matches("()");
    let mut own = repository.definitions(name);
    let uses = repository.uses(name, &own);
    own.truncate(MOST_DEFINITIONS);
    match (own.is_empty(), uses.is_empty()) {
        (true, true) => Err(format!("{what}: neither a file nor a name of this repository")),
        (true, false) => Ok(mentioned(name, &uses)),
        (false, _) => Ok(definitions(&own, &uses)),
    }
}

/// The definition around a line, from 1.
fn name_at(source: &Source, text: &Text, line: usize) -> Result<String, String> {
    if line > text.line_count() {
        return Err(format!("{} has no line {line}", source.path));
    }
    let language = Language::by_path(Path::new(&source.path));
    let tree = language.and_then(|language| SyntaxTree::parse_steadily(language, text.as_str()));
    let lines = text.line_range(line - 1);
    let scopes = tree.map(|tree| {
        let around = tree.scopes(text.as_str(), lines.end);
        let begun = tree
            .outline(text.as_str())
            .into_iter()
            .filter(|scope| lines.contains(&scope.range.start));
        around.into_iter().chain(begun).collect::<Vec<_>>()
    });
    let names = scopes.into_iter().flatten().rev().filter_map(|scope| scope.name);
    // As it is used: without type parameters.
    let name = names.filter_map(|name| Some(identifiers(&name).last()?.to_string())).next();
    name.ok_or_else(|| format!("{}:{line} is in no definition", source.path))
}

fn language(path: &str) -> &'static str {
    Language::by_path(Path::new(path)).map_or("", |language| language.name)
}

/// Code of a question that is to go on.
pub(super) struct Code {
    block: super::Block,
    /// What was written behind it.
    written: String,
    rounds: usize,
}

/// Completions one after the other, and lines, of one continuation.
const MOST_ROUNDS: usize = 6;
const MOST_LINES: usize = 40;

impl Code {
    /// The last block of a question.
    pub(super) fn of(question: &str) -> Option<Code> {
        let mut block = blocks(question).pop()?;
        if block.code.trim().is_empty() {
            return None;
        }
        // The line break before a fence belongs to the fence, unless the next line has to be another one.
        let code = block.code.trim_end_matches('\n').len();
        if !block.code[..code].ends_with([':', '{', '}', ';', ',']) {
            block.code.truncate(code);
        }
        Some(Code { block, written: String::new(), rounds: 0 })
    }

    /// Writes on until the code is whole; false if it was cancelled before.
    pub(super) fn go_on(&mut self, completer: &mut dyn Completer, cancel: &CancelToken) -> bool {
        while self.rounds < MOST_ROUNDS && self.written.lines().count() < MOST_LINES {
            let text = format!("{}{}", self.block.code, self.written);
            let language = Language::by_lsp_id(&self.block.language)
                .or_else(|| Language::by_name(&self.block.language));
            let named = self.block.path.clone().unwrap_or("question".into());
            let mut document = Document::unparsed(
                format!("nestling:{named}"),
                language.map_or("", |l| l.name),
                0,
                Text::new(&*text),
            );
            document.language = document.language.or_else(|| Language::by_path(Path::new(&named)));
            document.catch_up();
            let is_whole =
                document.tree.as_ref().is_some_and(|tree| tree.error_count(0..text.len()) == 0)
                    && !text.trim_end().ends_with(':');
            if self.rounds > 0 && is_whole {
                break;
            }
            let request = CompletionRequest::invoked(Snapshot::alone(document), text.len());
            let completion = completer.complete(&request, &Progress::new(), cancel);
            if completion.silence == Some(Silence::Cancelled) || cancel.is_cancelled() {
                return false;
            }
            self.rounds += 1;
            let Some(first) = completion.suggestions.first() else { break };
            let whole = apply(&text, std::slice::from_ref(&first.edit));
            match whole.strip_prefix(&self.block.code) {
                Some(written) if written.len() > self.written.len() => {
                    self.written = written.to_string()
                }
                _ => break,
            }
        }
        true
    }

    /// The last line of the question's code and what comes behind it, as Markdown.
    pub(super) fn block(&self) -> String {
        if self.written.trim().is_empty() {
            return "The model has nothing to add to the code.\n".into();
        }
        let begun = &self.block.code[self.block.code.rfind('\n').map_or(0, |at| at + 1)..];
        let language = &self.block.language;
        format!(
            "\nThe code may go on so:\n\n{}",
            fenced(language, &format!("{begun}{}", self.written))
        )
    }
}
