//! What a repository says to a question: definitions of the names in it, files that are named, windows that speak of its
//! words. Everything is read anew, so that it is there as it is shown; what holds secrets is left out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::blocks;
use super::plain;
use super::terms::{Terms, terms};
use crate::memory::Memory;
use crate::memory::retrieval::{Query, Snippet, identifiers};
use crate::syntax::{Language, Scope, ScopeKind, SyntaxTree};
use crate::text::Text;
use crate::workspace::{Document, holds_secret, is_secret_file, read_unparsed};

/// Definitions of one name that are shown, and that are looked at; names of one question, windows, lines of a definition
/// and of a file.
pub(super) const MOST_DEFINITIONS: usize = 3;
const MOST_FOUND: usize = 16;
const MOST_NAMES: usize = 4;
const MOST_WINDOWS: usize = 3;
const MOST_LINES: usize = 60;
const MOST_FILE_LINES: usize = 400;
/// Files that are read for one name.
const MOST_FILES: usize = 24;
/// A plain word that is shorter, or has more definitions, is no name.
const LEAST_WORD: usize = 5;
const COMMON: usize = 2;
/// Keys and headings are no definitions, and what they say of a name counts less than code.
const NO_CODE: [&str; 3] = ["json", "toml", "markdown"];

/// Lines that were read for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as it is shown: its path below the repository.
    pub path: String,
    /// Where it is; `None` for a text that is no file.
    pub file: Option<PathBuf>,
    /// The first and the last line, from 1.
    pub lines: (usize, usize),
    /// What they are.
    pub title: String,
    /// The lines.
    pub text: String,
}

impl Source {
    /// As editors and people write it: `src/a.rs:10-20`.
    pub fn place(&self) -> String {
        match self.lines {
            (from, to) if from == to => format!("{}:{from}", self.path),
            (from, to) => format!("{}:{from}-{to}", self.path),
        }
    }

    fn overlaps(&self, other: &Source) -> bool {
        self.path == other.path && self.lines.0 <= other.lines.1 && other.lines.0 <= self.lines.1
    }
}

/// A file that the user names, perhaps with the first and the last line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The file.
    pub path: PathBuf,
    /// Some of its lines.
    pub lines: Option<(usize, usize)>,
}

/// A name and what says what it is.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its lines with the comment before them; of a long one the first.
    pub source: Source,
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: ScopeKind,
    /// The line on which it begins, without what is written before it.
    pub line: usize,
}

/// What was found for a question.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The question.
    pub asked: String,
    /// For whoever answers; what matters most first.
    pub sources: Vec<Source>,
    /// The answer of the repository itself, in Markdown; empty if there is none.
    pub plain: String,
    /// Named files that were not read, each with the reason.
    pub left_out: Vec<String>,
}

impl Found {
    /// What the user should know of it.
    pub(super) fn notice(&self) -> Option<String> {
        (!self.left_out.is_empty()).then(|| self.left_out.join("; "))
    }
}

/// The files that may be asked about.
#[derive(Clone, Default)]
pub struct Repository {
    memories: Vec<Arc<Memory>>,
    open: Vec<Arc<Document>>,
}

impl Repository {
    /// What these memories know, with open documents as they are in the editor.
    pub fn new(memories: Vec<Arc<Memory>>, open: Vec<Arc<Document>>) -> Repository {
        Repository { memories, open }
    }

    /// What there is for a question, with the files that the user named beside it.
    pub fn find(&self, question: &str, named: &[Named]) -> Found {
        let Terms { names, words, files } = terms(question);
        let mut found = Found { asked: question.into(), ..Found::default() };
        let mut parts = Vec::new();
        let mentioned = files
            .into_iter()
            .filter_map(|(path, lines)| Some(Named { path: self.inside(&path)?, lines }));
        for named in named.iter().cloned().chain(mentioned) {
            match self.read(&named) {
                Ok((source, text)) => {
                    parts.push(plain::file(&source, &text, named.lines.is_some()));
                    found.sources.push(source);
                }
                Err(reason) => found.left_out.push(reason),
            }
        }
        // A plain word counts as a name if it is one of few definitions, and nothing else is asked about.
        let mut names = names;
        names.truncate(MOST_NAMES);
        let mut definitions: Vec<Vec<Definition>> =
            names.iter().map(|name| self.definitions(name)).collect();
        together(&mut definitions);
        definitions.iter_mut().for_each(|own| own.truncate(MOST_DEFINITIONS));
        if names.is_empty() {
            let long = words.iter().filter(|forms| forms[0].len() >= LEAST_WORD);
            // As it is written and as a type of that name.
            let forms = long.take(2 * MOST_NAMES).flat_map(|forms| forms.iter().take(2));
            definitions
                .extend(forms.map(|form| self.definitions(form)).filter(|own| own.len() <= COMMON));
            definitions.retain(|own| !own.is_empty());
            definitions.truncate(COMMON);
        }
        for own in definitions.iter().filter(|own| !own.is_empty()) {
            parts.push(plain::definitions(own, &self.uses(&own[0].name, own)));
        }
        for (name, _) in names.iter().zip(&definitions).filter(|(_, own)| own.is_empty()) {
            let uses = self.uses(name, &[]);
            if !uses.is_empty() {
                parts.push(plain::mentioned(name, &uses));
            }
        }
        let windows = self.windows(question, &names, &words);
        add(
            &mut found.sources,
            definitions.into_iter().flatten().map(|definition| definition.source),
        );
        let before = found.sources.len();
        add(&mut found.sources, windows);
        parts.extend(plain::windows(&found.sources[before..]));
        found.plain = parts.join("\n");
        found
    }

    /// The file of one of the folders that a path means. What a text only mentions is not sought elsewhere on the disk.
    pub fn inside(&self, path: &str) -> Option<PathBuf> {
        let roots = self.memories.iter().map(|memory| memory.root());
        roots.filter(|root| !root.as_os_str().is_empty()).find_map(|root| {
            let file = std::fs::canonicalize(root.join(path)).ok().filter(|file| file.is_file())?;
            file.starts_with(std::fs::canonicalize(root).ok()?).then_some(file)
        })
    }

    /// The file that a path of the user means: from here, or below one of the folders.
    pub fn resolve(&self, path: &str) -> Option<PathBuf> {
        let below = self.memories.iter().map(|memory| memory.root().join(path));
        let mut places = std::iter::once(PathBuf::from(path)).chain(below);
        places.find(|place| place.is_file()).and_then(|place| std::fs::canonicalize(place).ok())
    }

    /// Where a name is defined, and what it says there.
    pub fn definitions(&self, name: &str) -> Vec<Definition> {
        let mut found = Vec::new();
        for memory in &self.memories {
            let index = memory.retrieval().snapshot();
            let mentions = index.mentions(name);
            let is_known = mentions.first().is_some_and(|(_, defines)| *defines);
            // Values and small names are in no index; that they are defined only the files can say.
            let files =
                mentions.iter().filter(|(_, defines)| *defines || !is_known).take(MOST_FILES);
            for (path, _) in files {
                let Some(document) = self.document(memory, path) else { continue };
                found.extend(definitions_in(&document, path, name));
                if found.len() >= MOST_FOUND {
                    break;
                }
            }
        }
        found.truncate(MOST_FOUND);
        found
    }

    /// The lines, from 1, in which a name stands, by file and without those of its definitions; code comes first.
    pub fn uses(&self, name: &str, definitions: &[Definition]) -> Vec<(String, Vec<usize>)> {
        let mut found = Vec::new();
        for memory in &self.memories {
            let index = memory.retrieval().snapshot();
            for (path, _) in index.mentions(name).into_iter().take(MOST_FILES) {
                let Some(document) = self.document(memory, path) else { continue };
                let is_own = |line: usize| {
                    let holds = |own: &Source| {
                        own.path == path && (own.lines.0..=own.lines.1).contains(&line)
                    };
                    definitions.iter().any(|definition| holds(&definition.source))
                };
                let lines = document.text.as_str().lines().enumerate();
                let lines = lines.filter(|(_, line)| {
                    line.contains(name) && identifiers(line).any(|word| word == name)
                });
                let lines: Vec<usize> =
                    lines.map(|(at, _)| at + 1).filter(|line| !is_own(*line)).collect();
                if !lines.is_empty() {
                    found.push((path.to_string(), lines));
                }
            }
        }
        found.sort_by_key(|(path, _)| !is_code(Language::by_path(Path::new(path))));
        found
    }

    /// A file that the user named, or the lines of it, and the whole text.
    ///
    /// # Errors
    /// It is not there, no text, or may hold secrets; a sentence that names it.
    pub fn read(&self, named: &Named) -> Result<(Source, Text), String> {
        let name = named.path.file_name().unwrap_or_default().to_string_lossy();
        let shown = self.shown(&named.path);
        if is_secret_file(&name) {
            return Err(format!("{shown} is left out, because files of that name hold secrets"));
        }
        let text = match self.opened(&named.path) {
            Some(document) => document.text.clone(),
            None => read_unparsed(&named.path).map_err(|error| error.to_string())?.text,
        };
        let count = text.line_count() - usize::from(text.as_str().ends_with('\n'));
        let (from, to) = named.lines.unwrap_or((1, count.max(1)));
        if from > count.max(1) {
            return Err(format!("{shown} has {count} lines and no line {from}"));
        }
        let to = to.min(count.max(1)).min(from + MOST_FILE_LINES - 1);
        let lines = text.line_range(from - 1).start..text.line_range(to - 1).end;
        let source = &text.as_str()[lines];
        // Of a whole file its definitions are told as well, however far behind they stand.
        if holds_secret(if named.lines.is_some() { source } else { text.as_str() }) {
            return Err(format!(
                "{shown} is left out, because it holds what looks like a key or password"
            ));
        }
        let title = if named.lines.is_some() { "named lines" } else { "named file" };
        let source = Source {
            path: shown,
            file: Some(named.path.clone()),
            lines: (from, to),
            title: title.into(),
            text: source.into(),
        };
        Ok((source, text))
    }

    /// Lines that resemble the code of a question, or speak of its words.
    fn windows(&self, question: &str, names: &[String], words: &[Vec<String>]) -> Vec<Source> {
        let code =
            blocks(question).into_iter().map(|block| block.code).collect::<Vec<_>>().join("\n");
        let names = names.iter().map(|name| vec![name.clone()]);
        let wanted: Vec<Vec<String>> = names.chain(words.iter().cloned()).collect();
        let mut found: Vec<(f64, Source)> = Vec::new();
        for memory in &self.memories {
            let (index, texts) = (memory.retrieval().snapshot(), memory.texts());
            let mut snippets = index.about(&wanted, MOST_WINDOWS, &**texts);
            if !code.trim().is_empty() {
                let query = Query {
                    path: "",
                    text: &code,
                    offset: code.len(),
                    language: None,
                    tree: None,
                    open: &[],
                    recent: &[],
                };
                snippets.extend(index.retrieve(&query, &**texts));
            }
            for snippet in snippets.into_iter().filter(|snippet| !holds_secret(&snippet.text)) {
                found.extend(self.window(memory, &snippet).map(|source| (snippet.score, source)));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().take(2 * MOST_WINDOWS).map(|(_, source)| source).collect()
    }

    fn window(&self, memory: &Memory, snippet: &Snippet) -> Option<Source> {
        let document = self.document(memory, &snippet.path)?;
        // It may be open and changed.
        let text = &document.text;
        let start = text.as_str().find(&snippet.text)?;
        let range = start..start + snippet.text.trim_end().len();
        let lines = (text.line_of(range.start) + 1, text.line_of(range.end.max(1) - 1) + 1);
        let middle = text.line_range((lines.0 + lines.1) / 2 - 1).start;
        let tree = document
            .language
            .and_then(|language| SyntaxTree::parse_steadily(language, text.as_str()));
        let scopes = tree.map(|tree| tree.scopes(text.as_str(), middle)).unwrap_or_default();
        let name = scopes.into_iter().rev().find_map(|scope| scope.name);
        Some(Source {
            path: snippet.path.clone(),
            file: Some(memory.root().join(&snippet.path)),
            lines,
            title: name.map_or("lines about it".into(), |name| format!("in {name}")),
            text: snippet.text.clone(),
        })
    }

    /// A file of a memory as it is now; `None` if it is gone or holds secrets.
    fn document(&self, memory: &Memory, path: &str) -> Option<Arc<Document>> {
        let file = memory.root().join(path);
        let document = match self.opened(&file) {
            Some(document) => document.clone(),
            None => {
                let text = memory.texts().text(path)?;
                let text = Text::new(&*text);
                Document { text, ..Document::unparsed("", "", 0, Text::default()) }.into()
            }
        };
        let language = Language::by_path(&file);
        let is_harmless = !holds_secret(document.text.as_str());
        is_harmless.then(|| Document { path: Some(file), language, ..(*document).clone() }.into())
    }

    fn opened(&self, file: &Path) -> Option<&Arc<Document>> {
        self.open.iter().find(|document| document.path.as_deref() == Some(file))
    }

    /// A path as it is shown: below the folder that it lies in.
    fn shown(&self, path: &Path) -> String {
        let below = self.memories.iter().filter(|memory| !memory.root().as_os_str().is_empty());
        let below = below.filter_map(|memory| path.strip_prefix(memory.root()).ok());
        let shown = below.min_by_key(|below| below.as_os_str().len()).unwrap_or(path);
        shown.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/")
    }
}

fn is_code(language: Option<&Language>) -> bool {
    language.is_some_and(|language| !NO_CODE.contains(&language.name))
}

/// Of names with several definitions keeps those in files that define another one of the names: who writes `Store::open`
/// means the one beside `Store`.
fn together(definitions: &mut [Vec<Definition>]) {
    let paths: Vec<Vec<String>> = definitions
        .iter()
        .map(|own| own.iter().map(|one| one.source.path.clone()).collect())
        .collect();
    for (at, own) in definitions.iter_mut().enumerate() {
        let beside = |one: &Definition| {
            paths
                .iter()
                .enumerate()
                .any(|(other, paths)| other != at && paths.contains(&one.source.path))
        };
        if own.len() > 1 && own.iter().any(beside) {
            own.retain(beside);
        }
    }
}

/// Adds sources that say something new.
fn add(sources: &mut Vec<Source>, more: impl IntoIterator<Item = Source>) {
    for source in more {
        if !sources.iter().any(|known| known.overlaps(&source)) {
            sources.push(source);
        }
    }
}

/// The definitions of a name in one file.
fn definitions_in(document: &Document, path: &str, name: &str) -> Vec<Definition> {
    let (text, source) = (&document.text, document.text.as_str());
    let language = document.language.filter(|language| is_code(Some(language)));
    let tree = language.and_then(|language| SyntaxTree::parse_steadily(language, source));
    let Some(tree) = tree else { return Vec::new() };
    let mut found = Vec::new();
    for scope in tree.outline(source) {
        let adds = source[scope.header.clone()].starts_with("impl");
        if !is_called(&scope, name) || adds || scope.kind == ScopeKind::Module {
            continue;
        }
        let first = text.line_of(scope.range.start);
        let from = first_line_about(text, tree.language(), first);
        let last = text.line_of(scope.range.end.max(1) - 1).min(from + MOST_LINES - 1);
        let lines = &source[text.line_range(from).start..text.line_range(last).end];
        found.push(Definition {
            source: Source {
                path: path.to_string(),
                file: document.path.clone(),
                lines: (from + 1, last + 1),
                title: format!("definition of {name}"),
                text: lines.to_string(),
            },
            name: name.to_string(),
            kind: scope.kind,
            line: first + 1,
        });
    }
    found
}

/// Whether a scope is what a name means: without type parameters, without the class of a method.
fn is_called(scope: &Scope, name: &str) -> bool {
    scope.name.as_deref().is_some_and(|own| identifiers(own).last() == Some(name))
}

/// The first line, from 0, of what is written about a definition that begins on the line `first`.
pub(super) fn first_line_about(text: &Text, language: &Language, first: usize) -> usize {
    let marks = [language.line_comment.unwrap_or("//"), "#[", "@", "/*", "*"];
    let mut from = first;
    while from > 0 {
        let line = text.line(from - 1).trim();
        if line.is_empty()
            || line.starts_with("#!")
            || !marks.iter().any(|mark| line.starts_with(mark))
        {
            break;
        }
        from -= 1;
    }
    from
}
