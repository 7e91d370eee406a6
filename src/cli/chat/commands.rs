//! What can be said with a stroke: one row each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::Session;
use crate::chat::{Block, By, apply, blocks, explain};
use crate::check::Diagnostic;
use crate::cli::project::{Project, diff, files, root_of, write};
use crate::cli::{fix, optimize, print};
use crate::generation::CancelToken;
use crate::memory::walk;
use crate::syntax::Language;
use crate::workspace::read_unparsed;

/// Whether the talk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    End,
}

struct Command {
    name: &'static str,
    takes: &'static str,
    does: &'static str,
    run: fn(&mut Session, &str) -> Result<Next>,
}

/// One run of a checker takes no longer.
const CHECK: Duration = Duration::from_secs(60);

const COMMANDS: [Command; 9] = [
    Command {
        name: "/file",
        takes: "[PATH[:FROM-TO]]",
        does: "talk about a file or some of its lines; alone it says which are in use",
        run: file,
    },
    Command {
        name: "/explain",
        takes: "[NAME | PATH[:LINE]]",
        does: "what the repository says of it: definition, comment, who uses it",
        run: explained,
    },
    Command {
        name: "/fix",
        takes: "PATH",
        does: "repair a file; shows the difference and what was proven",
        run: fixed,
    },
    Command {
        name: "/optimize",
        takes: "PATH",
        does: "what could be faster in a file, and what was proven of it",
        run: optimized,
    },
    Command {
        name: "/apply",
        takes: "[N]",
        does: "put a block of the last answer into its file, if it parses and the checkers find nothing new",
        run: applied,
    },
    Command { name: "/sources", takes: "", does: "what the last answer has seen", run: sources },
    Command {
        name: "/clear",
        takes: "",
        does: "forget what was said, and the files in use",
        run: clear,
    },
    Command { name: "/help", takes: "", does: "this list", run: help },
    Command { name: "/quit", takes: "", does: "end, as Ctrl-D does", run: |_, _| Ok(Next::End) },
];

/// Does what a line that begins with a stroke says.
///
/// # Errors
/// What went wrong, in a sentence.
pub(super) fn run(session: &mut Session, line: &str) -> Result<Next> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(session, rest.trim()),
        None => {
            let names = COMMANDS.map(|command| command.name).join(", ");
            bail!("there is no {name}; there are {names}")
        }
    }
}

fn help(_: &mut Session, _: &str) -> Result<Next> {
    for Command { name, takes, does, .. } in &COMMANDS {
        print(&format!("{:<32}{does}\n", format!("{name} {takes}")))?;
    }
    print(
        "\nA fence ``` opens a block of lines until it is closed; a line that ends with \\ goes on. Ctrl-C stops an answer, \
         Ctrl-D ends.\n",
    )?;
    Ok(Next::Go)
}

fn file(session: &mut Session, place: &str) -> Result<Next> {
    if !place.is_empty() {
        session.name(place).map_err(anyhow::Error::msg)?;
    }
    if session.named.is_empty() {
        print("no file is in use\n")?;
    }
    for named in &session.named {
        let (source, _) = session.repository.read(named).map_err(anyhow::Error::msg)?;
        print(&format!("in use: {}\n", source.place()))?;
    }
    Ok(Next::Go)
}

fn explained(session: &mut Session, what: &str) -> Result<Next> {
    session.look(&CancelToken::new());
    let in_use = || session.named.last().map(|named| named.path.display().to_string());
    let what = match what {
        "" => in_use()
            .ok_or(anyhow!("what? Name something of the code, or a file with or without a line"))?,
        what => what.to_string(),
    };
    print(&explain(&session.repository, &what).map_err(anyhow::Error::msg)?)?;
    Ok(Next::Go)
}

/// The file that a command is about: the one that it names, else the last in use.
fn meant(session: &Session, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        let named = session.named.last().map(|named| named.path.clone());
        return named.context("which file? Name its path, or take it into use with /file");
    }
    session.repository.resolve(path).with_context(|| format!("{path}: no such file"))
}

fn fixed(session: &mut Session, path: &str) -> Result<Next> {
    let path = meant(session, path)?;
    let found = files(std::slice::from_ref(&path), None).map_err(anyhow::Error::msg)?;
    let args = fix::FixArgs::of(path);
    let cancel = CancelToken::new();
    let results = fix::repaired(&args, &found, Some(&mut session.completer), &cancel)?;
    fix::report(&args, &results)?;
    for (path, outcome) in results.iter().filter(|(_, outcome)| outcome.before != outcome.after) {
        if session.is_confirmed(&format!("Write {}?", path.display())) {
            write(path, &outcome.before, &outcome.after)?;
        }
    }
    Ok(Next::Go)
}

fn optimized(session: &mut Session, path: &str) -> Result<Next> {
    let path = meant(session, path)?;
    optimize::run(optimize::OptimizeArgs::of(path.clone()), &session.model)?;
    eprintln!("nestling optimize --apply {} writes what was shown to do the same", path.display());
    Ok(Next::Go)
}

fn applied(session: &mut Session, number: &str) -> Result<Next> {
    let found = blocks(&session.last.text);
    let block = match (number.parse::<usize>(), &found[..]) {
        (_, []) => bail!("the last answer holds no block of code"),
        (Err(_), [one]) if number.is_empty() => one,
        (Err(_), _) => {
            let each = found.iter().enumerate().map(|(at, block)| {
                let first = block.code.lines().next().unwrap_or("");
                format!("\n  {}: {}", at + 1, crate::text::short(first, 60))
            });
            bail!("which block? /apply N, where N is one of{}", each.collect::<String>());
        }
        (Ok(number), _) => match number.checked_sub(1).and_then(|at| found.get(at)) {
            Some(block) => block,
            None => bail!("the last answer has {} block(s)", found.len()),
        },
    };
    let (path, lines) = target(session, block)?;
    let before = read_unparsed(&path)?.text;
    let language = Language::by_path(&path);
    let done = apply::put(before.as_str(), language, block, lines);
    let done = done.map_err(|reason| anyhow!("{}: {reason}", path.display()))?;
    if done.text == before.as_str() {
        bail!("{}: that is what stands there already", path.display());
    }
    let evidence = checked(&path, language, &done.text)?;
    print(&diff(&path, before.as_str(), &done.text))?;
    eprintln!("{}: {evidence}", path.display());
    if let Some(left_out) = &done.left_out {
        eprintln!("{}: {left_out}", path.display());
    }
    if session.is_confirmed(&format!("Write {}?", path.display())) {
        write(&path, before.as_str(), &done.text)?;
        // Its lines have moved.
        session
            .named
            .iter_mut()
            .filter(|named| named.path == path)
            .for_each(|named| named.lines = None);
    }
    Ok(Next::Go)
}

/// The file that a block is for, and lines of it that the user named.
fn target(session: &Session, block: &Block) -> Result<(PathBuf, Option<(usize, usize)>)> {
    let in_use = session.named.last();
    match &block.path {
        Some(path) => {
            // A model may name what it likes.
            let is_in_use = |file: &PathBuf| session.named.iter().any(|named| named.path == *file);
            let file = session.repository.inside(path);
            let file = file.or_else(|| session.repository.resolve(path).filter(is_in_use));
            let file = file
                .with_context(|| format!("{path}: there is no such file to put the block into"))?;
            let lines = in_use.filter(|named| named.path == file).and_then(|named| named.lines);
            Ok((file, lines))
        }
        None => {
            let named = in_use
                .context("the block names no file, and none is in use: /file PATH takes one")?;
            Ok((named.path.clone(), named.lines))
        }
    }
}

/// What checkers have to say of a new text; where they may not be run, that.
///
/// # Errors
/// They find something that is not there without it.
fn checked(path: &Path, language: Option<&'static Language>, after: &str) -> Result<String> {
    let Some(language) = language else { return Ok("no parser knows such files".into()) };
    let root = root_of(path, Some(language), false);
    let project = Project::new(root.as_deref(), path)?;
    let name = walk::name_below(&project.root, path)
        .with_context(|| format!("{}: its name is not UTF-8. Rename it.", path.display()))?;
    let (checkers, withheld) = project.checkers(language);
    let mut said = vec!["parses".to_string()];
    for checker in checkers {
        let check = || project.overlay.check(checker, &name, CHECK, &|| true);
        let found = check().and_then(|before| {
            let text = std::fs::read_to_string(project.overlay.path().join(&name))?;
            project.overlay.write(&name, after)?;
            let found = check();
            project.overlay.write(&name, &text)?;
            Ok((before, found?))
        });
        match found {
            Ok((before, after)) => match new_error(&before, &after) {
                Some(error) => {
                    let line = error.span.start.0 + 1;
                    bail!(
                        "{}: {} finds in line {line}: {}",
                        path.display(),
                        checker.name,
                        error.message
                    )
                }
                None => said.push(format!("{} finds nothing new", checker.name)),
            },
            Err(error) => said.push(format!("{} was not asked ({error:#})", checker.name)),
        }
    }
    said.extend(withheld);
    Ok(said.join(", "))
}

/// The first error that was not there before.
fn new_error<'a>(before: &[Diagnostic], after: &'a [Diagnostic]) -> Option<&'a Diagnostic> {
    let count = |all: &[Diagnostic], one: &Diagnostic| {
        all.iter().filter(|d| d.is_error && d.key() == one.key()).count()
    };
    after.iter().filter(|d| d.is_error).find(|error| count(after, error) > count(before, error))
}

fn sources(session: &mut Session, _: &str) -> Result<Next> {
    let last = &session.last;
    if last.sources.is_empty() {
        print(match last.by {
            By::Nobody => "nothing was answered yet\n",
            _ => "the last answer has seen nothing of the repository\n",
        })?;
    }
    for source in &last.sources {
        print(&format!("{} ({})\n", source.place(), source.title))?;
    }
    Ok(Next::Go)
}

fn clear(session: &mut Session, _: &str) -> Result<Next> {
    session.turns.clear();
    session.named.clear();
    session.last = Default::default();
    Ok(Next::Go)
}
