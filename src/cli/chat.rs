//! `nestling chat`: questions about a repository, one or a talk in the terminal.

mod commands;
mod terminal;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use super::complete::repository;
use super::remote::RemoteArgs;
use super::{ModelArgs, print, print_json, wrong_use};
use crate::chat::{Answer, By, Named, PLAIN, Reply, Repository, Role, Turn, ask_remote, place_of};
use crate::generation::CancelToken;
use crate::memory::Memory;
use crate::remote::RemoteModel;
use crate::suggest::{Completer, ModelCompleter};

use terminal::{Interrupts, Terminal};

#[derive(clap::Args)]
pub(super) struct ChatArgs {
    /// The question, or a command as /explain NAME; without it what stands on stdin, and in a terminal a talk
    #[arg(value_name = "QUESTION")]
    question: Vec<String>,
    /// The repository that it is about
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// A file that it is about, perhaps some lines of it
    #[arg(long = "file", value_name = "PATH[:FROM-TO]")]
    files: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: ChatArgs, model: &ModelArgs) -> Result<ExitCode> {
    let remote = match args.remote.client(None) {
        Ok(remote) => remote,
        Err(code) => return Ok(code),
    };
    if !args.repo.is_dir() {
        return Ok(wrong_use(format!("{}: no such folder", args.repo.display())));
    }
    let mut question = args.question.join(" ");
    let is_talk = question.is_empty() && std::io::stdin().is_terminal();
    if question.is_empty() && !is_talk {
        std::io::stdin().read_to_string(&mut question).context("stdin is no UTF-8 text")?;
    }
    if question.trim().is_empty() && !is_talk {
        return Ok(wrong_use("there is no question: write it behind the command, or to its stdin"));
    }
    if is_talk && args.json {
        return Ok(wrong_use("--json goes with a question"));
    }
    let mut session = Session::open(&args.repo, remote, model)?;
    for file in &args.files {
        if let Err(reason) = session.name(file) {
            return Ok(wrong_use(reason));
        }
    }
    match is_talk {
        true => terminal::talk(&mut session),
        false => once(&mut session, question.trim(), args.json),
    }
}

/// Answers once.
fn once(session: &mut Session, question: &str, as_json: bool) -> Result<ExitCode> {
    if question.starts_with('/') && !as_json {
        return match commands::run(session, question) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(reason) => Ok(wrong_use(format!("{reason:#}"))),
        };
    }
    let interrupts = Interrupts::listen();
    let cancel = interrupts.begin();
    let mut broken = Ok(());
    let mut hear = |piece: &str| {
        if !as_json && broken.is_ok() {
            broken = print(piece);
        }
    };
    let reply = session.ask(question, &mut hear, &cancel).map_err(anyhow::Error::msg)?;
    broken?;
    if as_json {
        let sources = reply.sources.iter().map(|source| {
            json!({ "path": source.path, "from": source.lines.0, "to": source.lines.1, "title": source.title })
        });
        print_json(&json!({
            "text": reply.text, "by": reply.by, "sources": sources.collect::<Vec<_>>(), "notice": reply.notice,
        }))?;
    } else {
        print(if reply.text.ends_with('\n') { "" } else { "\n" })?;
        print(&listed(&reply))?;
        if let Some(notice) = &reply.notice {
            eprintln!("nestling: {notice}");
        }
    }
    Ok(match (reply.by, cancel.is_cancelled()) {
        (_, true) => ExitCode::from(130),
        (By::Nobody, _) => ExitCode::from(1),
        _ => ExitCode::SUCCESS,
    })
}

/// What an answer has seen, as a list. What the repository itself answers names its places anyway.
fn listed(reply: &Reply) -> String {
    if reply.sources.is_empty() || reply.by == By::Repository {
        return String::new();
    }
    let each =
        reply.sources.iter().map(|source| format!("- {} ({})\n", source.place(), source.title));
    format!("\nSources:\n{}", each.collect::<String>())
}

/// A talk about a repository.
struct Session {
    model: ModelArgs,
    completer: ModelCompleter,
    memory: Option<Arc<Memory>>,
    repository: Repository,
    remote: Option<RemoteModel>,
    turns: Vec<Turn>,
    /// The files in use; the last one is meant where no other is named.
    named: Vec<Named>,
    last: Reply,
    /// That no model talks was said.
    is_told: bool,
    /// Where the user answers; nobody does after a single question.
    terminal: Option<Terminal>,
}

impl Session {
    fn open(folder: &Path, remote: Option<RemoteModel>, model: &ModelArgs) -> Result<Session> {
        let folder = std::fs::canonicalize(folder)?;
        let root = root_of(&folder);
        let mut completer = model.load_for(root.as_deref().unwrap_or(&folder))?.completer();
        let memory = root.as_deref().and_then(|root| completer.remember(root));
        let repository = Repository::new(memory.iter().cloned().collect(), Vec::new());
        Ok(Session {
            model: model.clone(),
            completer,
            memory,
            repository,
            remote,
            turns: Vec::new(),
            named: Vec::new(),
            last: Reply::default(),
            is_told: false,
            terminal: None,
        })
    }

    /// Asks the user something that is answered by yes or no; no where nobody can answer.
    fn is_confirmed(&mut self, question: &str) -> bool {
        self.terminal.as_mut().is_some_and(|terminal| terminal.is_confirmed(question))
    }

    /// What it is about, in words.
    fn about(&self) -> String {
        self.memory
            .as_ref()
            .map_or("files that you name".into(), |memory| memory.root().display().to_string())
    }

    /// Reads what changed in the repository.
    fn look(&self, cancel: &CancelToken) {
        let Some(memory) = &self.memory else { return };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let told = parking_lot::Mutex::new(Instant::now());
        let say = |progress: crate::memory::IndexProgress| {
            let mut told = told.lock();
            if told.elapsed().as_secs() >= 2 {
                eprintln!("reading the repository: {} of {} files", progress.files, progress.of);
                *told = Instant::now();
            }
        };
        if let Err(error) = memory.update(threads, &say, &|| !cancel.is_cancelled()) {
            tracing::warn!("the repository is not known: {error:#}");
        }
    }

    /// Takes a file into use: `PATH` or `PATH:FROM-TO`.
    fn name(&mut self, place: &str) -> Result<(), String> {
        let (path, lines) = place_of(place.trim());
        let path = self.repository.resolve(path).ok_or(format!("{path}: no such file"))?;
        let named = Named { path, lines };
        self.repository.read(&named)?;
        self.named.retain(|known| *known != named);
        self.named.push(named);
        Ok(())
    }

    /// Answers a question, which then belongs to the talk.
    fn ask(
        &mut self,
        question: &str,
        hear: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Reply, String> {
        self.look(cancel);
        let found = self.repository.find(question, &self.named);
        let turn = Turn { role: Role::User, content: question.into() };
        let turns = [&self.turns[..], std::slice::from_ref(&turn)].concat();
        let mut reply = match &self.remote {
            Some(client) => ask_remote(client, &turns, &found, hear, cancel)?,
            None => {
                let mut answer = Answer::new(turns, found);
                answer.go_on(&mut self.completer, hear, cancel)?;
                answer.reply()
            }
        };
        self.last = reply.clone();
        if matches!(reply.by, By::Remote | By::Model) && !reply.text.is_empty() {
            self.turns.extend([turn, Turn { role: Role::Assistant, content: reply.text.clone() }]);
        }
        // Once is enough.
        if reply.notice.as_deref() == Some(PLAIN) && std::mem::replace(&mut self.is_told, true) {
            reply.notice = None;
        }
        Ok(reply)
    }
}

/// The repository around a folder, or the folder itself; none where everything would be read.
fn root_of(folder: &Path) -> Option<PathBuf> {
    if folder.join(".git").exists() {
        return Some(folder.to_path_buf());
    }
    // Any name does: it is asked for what lies above.
    let around = repository(&folder.join(".")).filter(|root| root.join(".git").exists());
    let is_all = folder.parent().is_none() || dirs::home_dir().is_some_and(|home| home == folder);
    around.or_else(|| (!is_all).then(|| folder.to_path_buf()))
}
