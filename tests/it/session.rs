//! The server as a process of its own, spoken to over pipes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A server process and the pipes to it.
pub(crate) struct Session {
    server: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last_id: i64,
    /// What the user was shown.
    pub(crate) shown: Vec<String>,
    /// All that the server sent.
    pub(crate) transcript: Vec<String>,
}

impl Session {
    /// A server that has heard nothing yet.
    pub(crate) fn start(command: &mut Command) -> Session {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("the program starts");
        let input = server.stdin.take().expect("a pipe");
        let output = BufReader::new(server.stdout.take().expect("a pipe"));
        Session { server, input, output, last_id: 0, shown: Vec::new(), transcript: Vec::new() }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        let body = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
        self.input.flush().expect("it reads");
    }

    /// Sends a request and waits for its result; what comes before it is passed over, but for messages to the user.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send(json!({"id": id, "method": method, "params": params}));
        loop {
            let mut message = self.receive();
            if message["method"] == "window/showMessage" {
                let text = message["params"]["message"].as_str().expect("a text");
                self.shown.push(text.to_string());
            }
            if message["id"] == id && message.get("method").is_none() {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].take();
            }
        }
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Value {
        let mut length = None;
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("it writes");
            assert!(read > 0, "the server closed its output");
            match line.trim_end().split_once(": ") {
                Some((_, value)) => length = value.parse().ok(),
                None => break,
            }
        }
        let mut body = vec![0; length.expect("a Content-Length")];
        self.output.read_exact(&mut body).expect("it writes");
        self.transcript.push(String::from_utf8_lossy(&body).into_owned());
        serde_json::from_slice(&body).expect("JSON")
    }

    /// The exit code after an orderly end.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.call("shutdown", Value::Null);
        self.send(json!({"method": "exit"}));
        self.server.wait().expect("it ends").code()
    }
}
