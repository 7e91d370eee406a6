//! A talk with the model on the other machine: what was said so far goes there, and the answer is heard as it comes.
//! It counts for nothing else: a server that only completes is not left alone because it cannot talk.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::http::{self, TALK};
use super::protocol::Talk;
use super::{Heard, LOOK, RemoteModel, Said, Sent, Stage};
use crate::generation::CancelToken;

impl RemoteModel {
    /// What the model answers to all that was `said`, in `max_tokens` at most. `hear` gets each piece as it comes. Waits
    /// for the end, or until it is cancelled: then the connection is closed, and what came so far is the answer.
    ///
    /// # Errors
    /// No answer, or one that breaks off, in a sentence with the way out.
    pub fn talk(
        &self,
        said: &[Said],
        max_tokens: usize,
        hear: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<String, String> {
        let inner = self.0.clone();
        let Talk { path, body, text } = inner.protocol.talk;
        let body = body(&inner.remote.model, said, max_tokens);
        let agent = http::agent(inner.remote.is_local(), &TALK);
        let heard = Arc::new(Heard { keeps_all: true, ..Heard::default() });
        let (theirs, socket) = (heard.clone(), agent.clone());
        let run = move || {
            let sent = Sent { path, body, text, limits: &TALK, counts: false };
            let end = inner.exchange(&socket, sent, &theirs);
            end.and_then(Result::err).map(|failure| inner.told(&failure))
        };
        let thread = thread::Builder::new().name("nestling-talk".into());
        let thread =
            thread.spawn(run).map_err(|error| format!("no thread can be started: {error}"))?;
        let mut known = 0;
        loop {
            let (piece, stage) = {
                let (text, stage) = &mut *heard.told.lock();
                (text[known..].to_string(), *stage)
            };
            if !piece.is_empty() {
                known += piece.len();
                hear(&piece);
            }
            if stage != Stage::Coming {
                break;
            }
            if cancel.is_cancelled() {
                heard.end(Stage::LetGo);
                // The thread ends by itself once its socket is shut.
                agent.shutdown();
                return Ok(std::mem::take(&mut heard.told.lock().0));
            }
            let mut told = heard.told.lock();
            if told.1 == Stage::Coming && told.0.len() == known {
                heard.changed.wait_until(&mut told, Instant::now() + LOOK);
            }
        }
        match thread.join() {
            Ok(None) => Ok(std::mem::take(&mut heard.told.lock().0)),
            Ok(Some(reason)) => Err(reason),
            Err(_) => Err("the connection broke off".into()),
        }
    }
}
