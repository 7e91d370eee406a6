//! Moves messages between the streams and the protocol library's service.
//!
//! The library has such a loop too, but it ends at the first malformed frame, works on a fixed
//! number of requests at a time and runs them all in one task. Here each message is started in the
//! order of arrival, by one poll; what is not done then goes on as a task of its own. So the state
//! changes in the order of the messages, a cancellation is never behind what it cancels, and the
//! reader never waits for a handler, for the client or for the model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tower::Service;
use tower_lsp_server::jsonrpc::{Error, Id, Request, Response};
use tower_lsp_server::{ClientSocket, LspService};

use super::backend::{Backend, WITHOUT_PARAMS};
use super::framing::{FrameError, FrameReader, frame};

/// How long the last answers may take to get into the pipe.
const FLUSH_TIME: Duration = Duration::from_millis(200);

/// What a message is.
enum Incoming {
    Request(Request),
    Response(Response),
    /// Neither; the answer says so.
    Invalid(Response),
}

/// Serves until `exit`, the end of the input, a broken output or the end of the client's process.
/// Returns the exit code that the protocol asks for.
pub(super) async fn run<I, O>(
    mut service: LspService<Backend>,
    socket: ClientSocket,
    input: I,
    output: O,
) -> i32
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin + Send + 'static,
{
    let shared = service.inner().shared.clone();
    let (out, queue) = unbounded_channel();
    let writer = tokio::spawn(write(queue, output));
    let (mut requests, mut responses) = socket.split();
    let to_client = out.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(request) = requests.next().await {
            send(&to_client, &request);
        }
    });

    let mut frames = FrameReader::new(input);
    let mut was_shut_down = false;
    loop {
        let message = tokio::select! {
            message = frames.next() => message,
            () = shared.orphaned.notified() => None,
            () = out.closed() => None,
        };
        while tasks.try_join_next().is_some() {}
        match message.map(classify) {
            None => break,
            Some(Incoming::Invalid(response)) => send(&out, &response),
            Some(Incoming::Response(response)) => _ = responses.send(response).await,
            Some(Incoming::Request(request)) if request.method() == "exit" => break,
            Some(Incoming::Request(request)) => {
                let is_shutdown = request.method() == "shutdown";
                let mut reply = Reply { id: request.id().cloned(), future: service.call(request) };
                let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut reply).poll(cx)));
                match first.await {
                    Poll::Ready(response) => {
                        was_shut_down |=
                            is_shutdown && response.as_ref().is_some_and(Response::is_ok);
                        response.iter().for_each(|response| send(&out, response));
                    }
                    Poll::Pending => {
                        let out = out.clone();
                        tasks.spawn(async move {
                            reply.await.iter().for_each(|response| send(&out, response));
                        });
                    }
                }
            }
        }
    }
    shared.stop();
    tasks.shutdown().await;
    drop(out);
    let _ = tokio::time::timeout(FLUSH_TIME, writer).await;
    if was_shut_down { 0 } else { 1 }
}

fn classify(message: Result<Value, FrameError>) -> Incoming {
    let mut message = match message {
        Ok(message) => message,
        Err(error) => {
            tracing::warn!("{error}");
            let mut reply = Error::parse_error();
            reply.message = error.to_string().into();
            return Incoming::Invalid(Response::from_error(Id::Null, reply));
        }
    };
    let id = message.get("id").and_then(|id| serde_json::from_value(id.clone()).ok());
    let invalid = |id: Option<Id>| {
        Incoming::Invalid(Response::from_error(id.unwrap_or_default(), Error::invalid_request()))
    };
    if !message.is_object() || message["jsonrpc"] != "2.0" {
        return invalid(id);
    }
    if message.get("method").is_none() {
        // Some clients leave a null result out.
        if id.is_some() && message.get("result").is_none() && message.get("error").is_none() {
            message["result"] = Value::Null;
        }
        let response = serde_json::from_value(message);
        // Not under its id: that would answer a request of the client's own.
        return response.map_or_else(|_| invalid(None), Incoming::Response);
    }
    repair_params(&mut message);
    serde_json::from_value(message).map_or_else(|_| invalid(id), Incoming::Request)
}

/// Some clients send empty parameters where there are none, and none where there are empty ones.
fn repair_params(message: &mut Value) {
    let method = message["method"].as_str().unwrap_or_default();
    if WITHOUT_PARAMS.contains(&method) {
        message.as_object_mut().and_then(|message| message.remove("params"));
    } else if method == "initialized" && message.get("params").is_none_or(Value::is_null) {
        message["params"] = Value::Object(Default::default());
    }
}

/// A running handler. Whatever becomes of it, a request gets a response: a panic is an internal
/// error, and `$/` methods that nobody knows, on which the library is silent, are not found.
struct Reply<F> {
    id: Option<Id>,
    future: F,
}

impl<F> Reply<F> {
    /// An error for a request, nothing for a notification.
    fn fail(&mut self, error: Error) -> Option<Response> {
        self.id.take().map(|id| Response::from_error(id, error))
    }
}

impl<F, E> Future for Reply<F>
where
    F: Future<Output = Result<Option<Response>, E>> + Unpin,
{
    type Output = Option<Response>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let future = Pin::new(&mut self.future);
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(Some(response)))) => Poll::Ready(Some(response)),
            Ok(Poll::Ready(_)) => Poll::Ready(self.fail(Error::method_not_found())),
            Err(_) => {
                tracing::error!("a handler panicked");
                Poll::Ready(self.fail(Error::internal_error()))
            }
        }
    }
}

fn send(out: &UnboundedSender<Vec<u8>>, message: &impl serde::Serialize) {
    match frame(message) {
        // The writer is gone only when the connection is.
        Ok(bytes) => _ = out.send(bytes),
        Err(error) => tracing::error!("a message could not be written: {error}"),
    }
}

/// Writes what is queued; flushes when the queue is empty.
async fn write(mut queue: UnboundedReceiver<Vec<u8>>, output: impl AsyncWrite + Unpin) {
    let mut output = tokio::io::BufWriter::new(output);
    while let Some(bytes) = queue.recv().await {
        let written = output.write_all(&bytes).await;
        if written.is_err() || (queue.is_empty() && output.flush().await.is_err()) {
            return;
        }
    }
    let _ = output.flush().await;
}
