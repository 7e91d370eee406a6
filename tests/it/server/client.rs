//! An editor, as far as the server can tell: it writes frames into a pipe and reads frames from one.

use std::collections::VecDeque;
use std::time::Duration;

use nestling::server::{ServeOptions, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::script::Script;

/// The document of most tests.
pub(super) const URI: &str = "file:///project/main.rs";

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    writer: WriteHalf<DuplexStream>,
    reader: BufReader<ReadHalf<DuplexStream>>,
    /// Read while waiting for something else.
    stash: VecDeque<Value>,
    server: JoinHandle<i32>,
    last_id: i64,
    last_version: i64,
}

impl Client {
    /// A server that has heard nothing yet.
    pub(super) fn connect(options: ServeOptions) -> Client {
        let (ours, theirs) = duplex(1 << 20);
        let (input, output) = split(theirs);
        let server = tokio::spawn(serve(options, input, output));
        let (reader, writer) = split(ours);
        let reader = BufReader::new(reader);
        Client { writer, reader, stash: VecDeque::new(), server, last_id: 0, last_version: 0 }
    }

    /// A server after the handshake with a client that shows ghost text.
    pub(super) async fn start(options: ServeOptions) -> Client {
        let capabilities = json!({"textDocument": {"inlineCompletion": {}}});
        Client::start_with(options, json!({"capabilities": capabilities})).await.0
    }

    /// The same with a script, whose model is ready.
    pub(super) async fn ready(script: &Script) -> Client {
        let mut client = Client::start(script.options()).await;
        client.wait_for_model("ready").await;
        client
    }

    /// A server after a handshake with these parameters, and its answer.
    pub(super) async fn start_with(options: ServeOptions, params: Value) -> (Client, Value) {
        let mut client = Client::connect(options);
        let reply = client.call("initialize", params).await;
        client.notify("initialized", json!({})).await;
        (client, reply["result"].clone())
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("the server reads");
    }

    pub(super) async fn send(&mut self, message: Value) {
        let body = message.to_string();
        let frame = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.write(frame.as_bytes()).await;
    }

    pub(super) async fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    /// Sends a request and returns its id.
    pub(super) async fn request(&mut self, method: &str, params: Value) -> i64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params).await;
        self.response(id).await
    }

    /// The answer to a request.
    pub(super) async fn response(&mut self, id: i64) -> Value {
        self.wait_for(|message| message["id"] == id && message.get("method").is_none()).await
    }

    /// The answer to a request that takes its time.
    pub(super) async fn response_in(&mut self, id: i64, limit: Duration) -> Value {
        let answer = async {
            loop {
                let message = read_frame(&mut self.reader).await.expect("the connection is open");
                if message["id"] == id && message.get("method").is_none() {
                    return message;
                }
                self.stash.push_back(message);
            }
        };
        timeout(limit, answer).await.expect("an answer in time")
    }

    /// The next request or notification with this method.
    pub(super) async fn server_sends(&mut self, method: &str) -> Value {
        self.wait_for(|message| message["method"] == method).await
    }

    /// The first message that fits, now or soon. The others stay for later.
    pub(super) async fn wait_for(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.stash.iter().position(&fits) {
            return self.stash.remove(at).expect("it was found there");
        }
        loop {
            let message = self.read().await.expect("the connection is open");
            if fits(&message) {
                return message;
            }
            self.stash.push_back(message);
        }
    }

    /// Whether a message that fits has come so far.
    pub(super) fn has_received(&self, fits: impl Fn(&Value) -> bool) -> bool {
        self.stash.iter().any(fits)
    }

    /// The next message from the pipe; `None` at its end.
    pub(super) async fn read(&mut self) -> Option<Value> {
        timeout(PATIENCE, read_frame(&mut self.reader)).await.expect("a message within 10 s")
    }

    /// Opens [`URI`] with a text in which `|` is the cursor; returns the cursor's position.
    pub(super) async fn open(&mut self, marked: &str) -> Value {
        self.open_as(URI, "rust", marked).await
    }

    pub(super) async fn open_as(&mut self, uri: &str, language: &str, marked: &str) -> Value {
        let (before, after) = marked.split_once('|').unwrap_or((marked, ""));
        self.last_version += 1;
        self.notify(
            "textDocument/didOpen",
            json!({"textDocument": {
                "uri": uri, "languageId": language, "version": self.last_version,
                "text": format!("{before}{after}")
            }}),
        )
        .await;
        position_after(before)
    }

    /// Replaces a range of [`URI`]; equal positions insert.
    pub(super) async fn edit(&mut self, start: &Value, end: &Value, text: &str) {
        self.last_version += 1;
        self.notify(
            "textDocument/didChange",
            json!({
                "textDocument": {"uri": URI, "version": self.last_version},
                "contentChanges": [{"range": {"start": start, "end": end}, "text": text}]
            }),
        )
        .await;
    }

    /// Types a text without line ends at a position of [`URI`]; returns where the cursor is then.
    pub(super) async fn type_text(&mut self, at: &Value, text: &str) -> Value {
        self.edit(at, at, text).await;
        let character = at["character"].as_u64().expect("a position") + utf16_len(text);
        json!({"line": at["line"], "character": character})
    }

    /// Asks for ghost text in [`URI`] while typing; returns the request's id.
    pub(super) async fn ask(&mut self, at: &Value) -> i64 {
        let params = inline_params(URI, at, 2);
        self.request("textDocument/inlineCompletion", params).await
    }

    /// The texts that an answer to [`Client::ask`] inserts.
    pub(super) async fn texts(&mut self, id: i64) -> Vec<String> {
        texts(&self.response(id).await)
    }

    /// Asks with the key that asks, and waits for the texts.
    pub(super) async fn invoke(&mut self, at: &Value) -> Vec<String> {
        let params = inline_params(URI, at, 1);
        texts(&self.call("textDocument/inlineCompletion", params).await)
    }

    pub(super) async fn status(&mut self) -> Value {
        self.call("nestling/status", Value::Null).await["result"].clone()
    }

    /// What the server believes [`URI`] to be.
    pub(super) async fn server_text(&mut self) -> String {
        let reply = self.call("nestling/text", json!({"uri": URI})).await;
        reply["result"]["text"].as_str().expect("the document is open").to_string()
    }

    pub(super) async fn wait_for_model(&mut self, state: &str) {
        while self.status().await["model"]["state"] != state {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Closes the pipe from our side.
    pub(super) async fn hang_up(&mut self) {
        self.writer.shutdown().await.expect("the pipe can be closed");
    }

    /// The server's exit code, once it has ended.
    pub(super) async fn exit_code(self) -> i32 {
        timeout(PATIENCE, self.server).await.expect("an end within 10 s").expect("no panic")
    }
}

async fn read_frame(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((_, value)) => length = value.parse().ok(),
            None => break,
        }
    }
    let mut body = vec![0; length.expect("a Content-Length")];
    reader.read_exact(&mut body).await.ok()?;
    Some(serde_json::from_slice(&body).expect("JSON"))
}

/// Trigger kind 1 is invoked, 2 automatic.
pub(super) fn inline_params(uri: &str, at: &Value, trigger: u32) -> Value {
    json!({"textDocument": {"uri": uri}, "position": at, "context": {"triggerKind": trigger}})
}

/// The texts that an answer with ghost text inserts.
pub(super) fn texts(response: &Value) -> Vec<String> {
    let items = response["result"]["items"].as_array();
    let items = items.unwrap_or_else(|| panic!("not a list of items: {response}"));
    items.iter().map(|item| item["insertText"].as_str().expect("a text").to_string()).collect()
}

/// The position behind a text, in UTF-16.
pub(super) fn position_after(text: &str) -> Value {
    let line_start = text.rfind('\n').map_or(0, |at| at + 1);
    json!({"line": text.matches('\n').count(), "character": utf16_len(&text[line_start..])})
}

fn utf16_len(text: &str) -> u64 {
    text.encode_utf16().count() as u64
}
