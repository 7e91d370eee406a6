//! The language server. The only module that knows the protocol's types.
//!
//! [`serve`] reads messages (`framing`), starts their handlers in order (`transport`, `backend`) and
//! ends at `exit`. State lives behind one lock (`shared`) that is never held across an await. The
//! model lives in one thread (`engine`) behind a mailbox with one place per document (`mailbox`).
//! Which model that is, the store says; another one takes over between two requests (`swap`).
//! A completion request (`completion`) waits out the user's typing (`debounce`) and shares runs of
//! the engine with its neighbours as long as the user types what is generated (`flights`).

mod actions;
mod aside;
mod backend;
mod capabilities;
mod chat;
mod commands;
mod completion;
mod debounce;
mod document;
mod engine;
mod explain;
mod finetune;
mod flights;
mod framing;
mod from_proto;
mod mailbox;
mod optimize;
mod parent;
mod remote;
mod repair;
mod shared;
mod status;
mod swap;
mod to_proto;
mod transport;
mod usage;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::remote::RemoteModel;
use crate::store::Store;
use crate::suggest::{Completion, CompletionRequest};

pub use engine::Factory;

/// What a server needs to know before the first message.
pub struct ServeOptions {
    /// Makes the model. It runs in the engine thread at the start and after a panic, and beside it for a swap.
    pub factory: Arc<Factory>,
    /// Where the workspace's models are, and where it is noted that the user types.
    pub store: Option<Store>,
    /// The model of the command line, which is always used; without one, that is used which the store says.
    pub model: Option<PathBuf>,
    /// A remote model that the command line names, instead of that in the settings.
    pub remote: Option<RemoteModel>,
    /// Gives a cheap answer without the model while there is none. It runs beside the handlers and
    /// may take some milliseconds. Without suggestions the request is answered with the reason why
    /// there is no model.
    pub fallback: fn(&CompletionRequest) -> Completion,
}

/// Speaks the protocol until the client ends it, and returns the exit code: 0 after `shutdown`, else 1.
///
/// Needs a tokio runtime with time and I/O. It returns without waiting for the engine, so the
/// caller should end the process at once: a running generation, or tokio's blocking read of stdin,
/// would delay an orderly return.
pub async fn serve<I, O>(options: ServeOptions, input: I, output: O) -> i32
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin + Send + 'static,
{
    let (service, socket) = backend::service(options);
    transport::run(service, socket, input, output).await
}
