//! Completers that do what a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nestling::generation::CancelToken;
use nestling::server::ServeOptions;
use nestling::store::Installed;
use nestling::suggest::{Completer, Completion, CompletionRequest, Progress, Silence, Suggestion};
use nestling::text::TextEdit;
use parking_lot::{Condvar, Mutex};

type Answer = dyn Fn(&CompletionRequest, &Progress, &CancelToken) -> Completion + Send + Sync;

/// A completer that calls a function, and what a test may want to know about its calls.
#[derive(Clone)]
pub(super) struct Script {
    answer: Arc<Answer>,
    calls: Arc<AtomicUsize>,
    last_cancel: Arc<Mutex<Option<CancelToken>>>,
}

impl Script {
    pub(super) fn new(
        answer: impl Fn(&CompletionRequest, &Progress, &CancelToken) -> Completion
        + Send
        + Sync
        + 'static,
    ) -> Script {
        let (calls, last_cancel) = Default::default();
        Script { answer: Arc::new(answer), calls, last_cancel }
    }

    /// Always inserts these texts, best first.
    pub(super) fn inserts(texts: &'static [&'static str]) -> Script {
        Script::new(move |request, _, _| insertions(request, texts))
    }

    /// Generates `text` up to `pause`, waits there until the gate opens, then inserts all of it.
    pub(super) fn generates(text: &'static str, pause: usize, gate: &Gate) -> Script {
        let gate = gate.clone();
        Script::new(move |request, progress, cancel| {
            progress.set(&text[..pause]);
            match gate.pass(cancel) {
                true => insertions(request, &[text]),
                false => Completion::silent(Silence::Cancelled),
            }
        })
    }

    /// How often it was asked.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits until it has been asked so often.
    pub(super) async fn wait_for_calls(&self, calls: usize) {
        eventually(|| self.calls() >= calls).await;
    }

    /// Whether the last run was cancelled.
    pub(super) fn was_cancelled(&self) -> bool {
        self.last_cancel.lock().as_ref().is_some_and(CancelToken::is_cancelled)
    }

    pub(super) fn options(&self) -> ServeOptions {
        let script = self.clone();
        options(move || Ok(Box::new(script.clone())))
    }
}

impl Completer for Script {
    fn complete(
        &mut self,
        request: &CompletionRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Completion {
        *self.last_cancel.lock() = Some(cancel.clone());
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.answer)(request, progress, cancel)
    }
}

/// Options with a factory and a fallback that inserts `fallback`, but only after a `F`.
pub(super) fn options(
    factory: impl Fn() -> anyhow::Result<Box<dyn Completer>> + Send + Sync + 'static,
) -> ServeOptions {
    let fallback = |request: &CompletionRequest| {
        let text = request.snapshot.document.text.as_str();
        match text[..request.offset].ends_with('F') {
            true => insertions(request, &["allback"]),
            false => Completion::silent(Silence::Empty),
        }
    };
    let factory = move |_: Option<&Installed>| factory();
    ServeOptions {
        factory: Arc::new(factory),
        fallback,
        store: None,
        model: Some("scripted".into()),
        remote: None,
    }
}

/// A completion that inserts texts at the cursor, at most as many as are wanted.
pub(super) fn insertions(request: &CompletionRequest, texts: &[&str]) -> Completion {
    let suggestions = texts.iter().take(request.items).map(|text| Suggestion {
        edit: TextEdit { range: request.offset..request.offset, new_text: text.to_string() },
        probability: 0.5,
    });
    Completion { suggestions: suggestions.collect(), ..Completion::default() }
}

/// Holds threads back until it is opened.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    /// Waits for the gate, looking at `cancel` as often as a model does. False if cancelled.
    pub(super) fn pass(&self, cancel: &CancelToken) -> bool {
        let mut is_open = self.0.0.lock();
        while !*is_open && !cancel.is_cancelled() {
            self.0.1.wait_for(&mut is_open, Duration::from_millis(1));
        }
        !cancel.is_cancelled()
    }

    /// Waits for the gate.
    pub(super) fn wait(&self) {
        self.pass(&CancelToken::new());
    }
}

/// Waits until something is so.
pub(super) async fn eventually(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "it did not happen within 10 s");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Works for a time without looking at the cancellation.
pub(super) fn stubborn(time: Duration) -> Script {
    Script::new(move |_, _, _| {
        thread::sleep(time);
        Completion::silent(Silence::Empty)
    })
}
