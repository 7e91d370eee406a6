//! The talk in a terminal: lines are edited and remembered, answers appear as they are written and can be stopped.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use super::commands::{self, Next};
use super::{Session, listed};
use crate::chat::blocks;
use crate::cli::print;
use crate::generation::CancelToken;
use crate::store::Store;
use crate::workspace::holds_secret;

/// Questions that are remembered.
const MOST: usize = 2000;

/// What Ctrl-C stops: the answer that is being written. A second one, before that has stopped, ends the program.
pub(super) struct Interrupts(Arc<Mutex<CancelToken>>);

impl Interrupts {
    /// Listens from now on; at the prompt the key is a character like others.
    pub(super) fn listen() -> Interrupts {
        let current: Arc<Mutex<CancelToken>> = Arc::default();
        let heard = current.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                let cancel = heard.lock().clone();
                if cancel.is_cancelled() {
                    std::process::exit(130);
                }
                cancel.cancel();
            }
        });
        Interrupts(current)
    }

    /// What the next Ctrl-C sets.
    pub(super) fn begin(&self) -> CancelToken {
        let cancel = CancelToken::new();
        *self.0.lock() = cancel.clone();
        cancel
    }
}

/// Where lines are read, with those of earlier talks.
pub(super) struct Terminal {
    editor: Editor<(), FileHistory>,
    history: Option<PathBuf>,
}

impl Terminal {
    fn open() -> Result<Terminal> {
        let config = Config::builder().max_history_size(MOST)?.history_ignore_dups(true)?.build();
        let mut editor = Editor::with_config(config)?;
        let history = Store::of_user().map(|store| store.chat_history());
        if let Some(file) = history.as_ref().filter(|file| file.exists())
            && let Err(error) = editor.load_history(file)
        {
            tracing::info!("{}: the history is not read: {error}", file.display());
        }
        Ok(Terminal { editor, history })
    }

    /// What the user says, in one line or several; `None` at the end. Ctrl-C forgets what was typed.
    fn read(&mut self) -> Result<Option<String>> {
        let mut said = String::new();
        loop {
            let line = match self.editor.readline(if said.is_empty() { "> " } else { "… " }) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    said.clear();
                    continue;
                }
                Err(ReadlineError::Eof) if said.is_empty() => return Ok(None),
                Err(ReadlineError::Eof) => return Ok(Some(said)),
                Err(error) => return Err(error.into()),
            };
            said += &line;
            let is_block = blocks(&said).last().is_some_and(|block| block.is_open);
            if !is_block && said.ends_with('\\') {
                said.pop();
            } else if !is_block {
                return Ok(Some(said));
            }
            said.push('\n');
        }
    }

    /// Keeps what was said for the next talks, but nothing that is secret.
    fn remember(&mut self, said: &str) -> Result<()> {
        if holds_secret(said) {
            return Ok(());
        }
        self.editor.add_history_entry(said)?;
        let Some(file) = &self.history else { return Ok(()) };
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        let saved = folder.map_err(ReadlineError::from);
        if let Err(error) = saved.and_then(|()| self.editor.append_history(file)) {
            tracing::info!("{}: the history is not kept: {error}", file.display());
        }
        Ok(())
    }

    /// Asks something that is answered by yes or no.
    pub(super) fn is_confirmed(&mut self, question: &str) -> bool {
        let answer = self.editor.readline(&format!("{question} [y/N] ")).unwrap_or_default();
        matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }
}

/// Talks until the user ends it.
pub(super) fn talk(session: &mut Session) -> Result<ExitCode> {
    session.terminal = Some(Terminal::open()?);
    let interrupts = Interrupts::listen();
    eprintln!("Questions about {}. /help says what there is, Ctrl-D ends.", session.about());
    while let Some(terminal) = &mut session.terminal {
        let Some(said) = terminal.read()? else { break };
        let said = said.trim_end();
        if said.is_empty() {
            continue;
        }
        terminal.remember(said)?;
        if said.starts_with('/') {
            match commands::run(session, said) {
                Ok(Next::Go) => {}
                Ok(Next::End) => break,
                Err(reason) => eprintln!("nestling: {reason:#}"),
            }
            continue;
        }
        let cancel = interrupts.begin();
        let mut broken = Ok(());
        let mut hear = |piece: &str| {
            if broken.is_ok() {
                broken = print(piece);
            }
        };
        match session.ask(said, &mut hear, &cancel) {
            Ok(reply) => {
                broken?;
                print(if reply.text.ends_with('\n') { "" } else { "\n" })?;
                print(&listed(&reply))?;
                if cancel.is_cancelled() {
                    eprintln!("(stopped)");
                }
                if let Some(notice) = &reply.notice {
                    eprintln!("nestling: {notice}");
                }
            }
            Err(reason) => eprintln!("nestling: {reason}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}
