//! Work for the model beside completions, which it gives way to: repairs, comments.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::engine::ModelState;
use super::shared::Shared;
use crate::generation::CancelToken;
use crate::suggest::Completer;
use crate::workspace::Document;

/// What is done with the model, or without one.
type Run = Box<dyn FnOnce(Option<&mut dyn Completer>, &CancelToken) + Send>;

/// One piece of such work. Dropped, it has no outcome.
pub(super) struct Aside {
    /// The document that it is about, and its text: for an older one nobody needs it any more.
    pub(super) uri: String,
    pub(super) revision: u64,
    /// Set when something is to be completed.
    pub(super) cancel: CancelToken,
    pub(super) run: Run,
}

/// Has something done by the engine when nothing is to be completed; without the model while there is none. `None` if
/// the text changed before.
pub(super) async fn ask<T: Send + 'static>(
    shared: &Arc<Shared>,
    document: &Document,
    run: impl FnOnce(Option<&mut dyn Completer>, &CancelToken) -> T + Send + 'static,
) -> Option<T> {
    let (outcome, receiver) = oneshot::channel();
    let job = Aside {
        uri: document.uri.clone(),
        revision: document.revision,
        cancel: CancelToken::new(),
        // Nobody may want it any more.
        run: Box::new(move |completer, cancel| drop(outcome.send(run(completer, cancel)))),
    };
    let alone = {
        let state = shared.state.lock();
        match (&state.engine, state.model()) {
            (Some(engine), ModelState::Ready) => {
                engine.aside(job);
                None
            }
            _ => Some(job),
        }
    };
    if let Some(job) = alone {
        tokio::task::spawn_blocking(move || (job.run)(None, &job.cancel));
    }
    receiver.await.ok()
}
