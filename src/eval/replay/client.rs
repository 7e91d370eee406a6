//! An editor's end of the wire: a server as a child process, messages framed as the protocol wants them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Longer than any answer takes but that of a hung server.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a part of the server is doing before it is ready.
const BUSY: [&str; 4] = ["loading", "restarting", "reading", "indexing"];

/// A running server. It is killed when this is dropped.
pub(super) struct Client {
    child: Child,
    input: ChildStdin,
    /// Messages with the time of their arrival; a thread reads.
    messages: Receiver<(Value, Instant)>,
    last: i64,
}

impl Client {
    /// Starts a server, shakes hands as an editor with this root folder, and waits until it is ready.
    pub(super) fn start(command: &mut Command, root: &str) -> Result<Client> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start the server")?;
        let input = child.stdin.take().context("the server has no stdin")?;
        let output = child.stdout.take().context("the server has no stdout")?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(message) = read(&mut output) {
                if sender.send((message, Instant::now())).is_err() {
                    break;
                }
            }
        });
        let mut client = Client { child, input, messages, last: 0 };
        let parameters = json!({
            "processId": std::process::id(), "rootUri": root,
            "workspaceFolders": [{ "uri": root, "name": "replay" }],
            "capabilities": {
                "textDocument": { "inlineCompletion": {} },
                "general": { "positionEncodings": ["utf-16"] },
            },
        });
        client.call("initialize", parameters)?;
        client.notify("initialized", json!({}))?;
        client.wait_until_ready()?;
        Ok(client)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.call("nestling/status", Value::Null)?;
            let model = &status["model"];
            if model["state"] == "failed" {
                bail!("the server has no model: {}", model["reason"].as_str().unwrap_or("unknown"));
            }
            let parts = status.as_object().into_iter().flat_map(|status| status.values());
            let mut states = parts.filter_map(|part| part["state"].as_str());
            if !states.any(|state| BUSY.contains(&state)) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the server was not ready after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends what has no answer.
    pub(super) fn notify(&mut self, method: &str, parameters: Value) -> Result<()> {
        self.write(json!({ "jsonrpc": "2.0", "method": method, "params": parameters }))
    }

    /// Sends a request and returns its number.
    pub(super) fn request(&mut self, method: &str, parameters: Value) -> Result<i64> {
        self.last += 1;
        let id = self.last;
        self.write(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters }))?;
        Ok(id)
    }

    /// Withdraws a request; its answer will be passed over.
    pub(super) fn cancel(&mut self, id: i64) -> Result<()> {
        self.notify("$/cancelRequest", json!({ "id": id }))
    }

    /// The result of a request, null for an error, and when it arrived; nothing if it does not by `end`.
    pub(super) fn wait(&mut self, id: i64, end: Instant) -> Result<Option<(Value, Instant)>> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (mut message, arrived) = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the server broke off"),
            };
            if message.get("method").is_some() {
                if let Some(id) = message.get("id") {
                    self.write(json!({ "jsonrpc": "2.0", "id": id, "result": null }))?;
                }
            } else if message["id"] == id {
                return Ok(Some((message["result"].take(), arrived)));
            }
        }
    }

    /// Sends a request and waits for its result.
    pub(super) fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        let id = self.request(method, parameters)?;
        let answer = self.wait(id, Instant::now() + PATIENCE)?;
        answer.map(|(result, _)| result).with_context(|| format!("no answer to {method}"))
    }

    /// Ends the server by the protocol.
    pub(super) fn stop(mut self) -> Result<()> {
        self.call("shutdown", Value::Null)?;
        self.notify("exit", Value::Null)?;
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                bail!("the server did not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Processor time so far, where the system tells.
    pub(super) fn processor_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The name, in brackets, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<f64>().ok();
        Some((ticks()? + ticks()?) / 100.0)
    }

    /// Resident bytes at most, where the system tells.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    }

    fn write(&mut self, message: Value) -> Result<()> {
        let body = message.to_string();
        let frame = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let sent = self.input.write_all(frame.as_bytes()).and_then(|()| self.input.flush());
        sent.context("the server broke off")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next message; nothing at the end of the stream, or of its sense.
fn read(output: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse::<usize>().ok();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length?];
    output.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
