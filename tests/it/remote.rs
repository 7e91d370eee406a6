//! A remote model as its user meets it: asked in five protocols, heard when it is worth it, and never in the way,
//! whatever its server does.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::House;
use crate::program::Run;
use crate::session::Session;

pub(crate) const KEY: &str = "sk-test-7f3a9c51d0e24b86";
const VARIABLE: &str = "KEY_OF_THE_TEST";
/// All that could tell the key. What a tokenizer does to each character would take the time of the answers.
const LOG: &str = "trace,tokenizers=off";
/// Any wait for the network is longer than this, and no answer of the model inside the program is.
const PROMPT: Duration = Duration::from_millis(2500);

/// A server that does the same to every request.
pub(crate) struct Server {
    pub(crate) url: String,
    /// The head and body of each request.
    pub(crate) requests: Receiver<String>,
    /// Connections that the other side has closed in the middle of an answer.
    closed: Arc<AtomicUsize>,
}

type Behaviour = dyn Fn(&mut TcpStream) + Send + Sync;

impl Server {
    fn new(behave: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = channel();
        let closed = Arc::new(AtomicUsize::new(0));
        let (behave, count): (Arc<Behaviour>, _) = (Arc::new(behave), closed.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (behave, sender, count) = (behave.clone(), sender.clone(), count.clone());
                thread::spawn(move || serve(stream, &*behave, &sender, &count));
            }
        });
        Server { url, requests, closed }
    }

    /// Answers with these head and body, and closes.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Server {
        let answer = answer.into();
        Server::new(move |stream| _ = stream.write_all(&answer))
    }
}

fn serve(
    mut stream: TcpStream,
    behave: &Behaviour,
    requests: &Sender<String>,
    closed: &AtomicUsize,
) {
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) => {}
            // No text: servers say that in plain words all the same.
            Err(_) => return behave(&mut stream),
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let _ = requests.send(head + "\n" + &String::from_utf8_lossy(&body));
    behave(&mut stream);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    if matches!(reader.read(&mut [0; 9]), Ok(0) | Err(_)) {
        closed.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// Never finishes what it begins with.
pub(crate) fn stalling(beginning: &'static str) -> Server {
    Server::new(move |stream| {
        let _ = stream.write_all(beginning.as_bytes());
        let _ = stream.read(&mut [0; 9]);
    })
}

/// Goes on for ever.
fn flooding(beginning: &'static str, unit: &'static str) -> Server {
    Server::new(move |stream| {
        let unit = unit.repeat(1000);
        let mut go_on = stream.write_all(beginning.as_bytes()).is_ok();
        while go_on {
            go_on = stream.write_all(unit.as_bytes()).is_ok();
        }
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A text as an event of the first protocol.
pub(crate) fn event(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "text": text }] }))
}

/// The server of an editor that types into one file.
struct Editor {
    session: Session,
    house: House,
    version: i64,
    text: String,
}

pub(crate) const CODE: &str = "def area(width, height):\n    return width * height\n\n\ndef volume(width, height, depth):\n    \
                    return area(width, height) * depth\n\n\n";
const URI: &str = "file:///project/shapes.py";

impl Editor {
    fn start(remote: Value, environment: &[(&str, &str)]) -> Editor {
        let house = House::new();
        let mut command = house.command();
        command.arg("serve").env("NESTLING_LOG", LOG).env(VARIABLE, KEY);
        command.env_remove("HTTP_PROXY").env_remove("HTTPS_PROXY").env_remove("ALL_PROXY");
        command.envs(environment.iter().copied());
        let log = File::create(Editor::log_of(&house)).expect("a file");
        let mut session = Session::start(command.stderr(log));
        let capabilities = json!({ "textDocument": { "inlineCompletion": {} } });
        let options = json!({ "remote": remote, "debounce": 0, "maxItems": 1 });
        session.call(
            "initialize",
            json!({ "capabilities": capabilities, "initializationOptions": options }),
        );
        session.send(json!({ "method": "initialized", "params": {} }));
        while session.call("nestling/status", Value::Null)["model"]["state"] != "ready" {}
        let text = CODE.to_string();
        let document = json!({ "uri": URI, "languageId": "python", "version": 1, "text": text });
        session.send(
            json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }),
        );
        Editor { session, house, version: 1, text }
    }

    fn log_of(house: &House) -> PathBuf {
        house.folder.path().join("log")
    }

    fn configure(&mut self, remote: Value) {
        let settings = json!({ "remote": remote, "debounce": 0, "maxItems": 1 });
        let params = json!({ "settings": { "nestling": settings } });
        self.session
            .send(json!({ "method": "workspace/didChangeConfiguration", "params": params }));
    }

    /// Writes a text at the end of the file.
    fn write(&mut self, text: &str) {
        self.text += text;
        self.change();
    }

    fn change(&mut self) {
        self.version += 1;
        let document = json!({ "uri": URI, "version": self.version });
        let params = json!({ "textDocument": document, "contentChanges": [{ "text": self.text }] });
        self.session.send(json!({ "method": "textDocument/didChange", "params": params }));
    }

    /// Asks at the end of the file; what is offered first, and how long that took.
    fn ask(&mut self) -> (String, Duration) {
        let line = self.text.matches('\n').count();
        let character = self.text.rsplit('\n').next().unwrap_or("").len();
        let place = json!({
            "textDocument": { "uri": URI }, "position": { "line": line, "character": character },
            "context": { "triggerKind": 1 }
        });
        let start = Instant::now();
        let answer = self.session.call("textDocument/inlineCompletion", place);
        let text = answer["items"][0]["insertText"].as_str().unwrap_or("").to_string();
        (text, start.elapsed())
    }

    fn remote_status(&mut self) -> Value {
        self.session.call("nestling/status", Value::Null)["remote"].take()
    }

    /// Waits for what the status says of the remote model.
    #[track_caller]
    fn wait_for(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.remote_status();
            if is_it(&status) {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(12), "{status}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it, and looks for the key in all that it said or wrote.
    #[track_caller]
    fn stop(self) {
        let Editor { session, house, .. } = self;
        let transcript = session.transcript.clone();
        assert_eq!(session.stop(), Some(0));
        let log = std::fs::read_to_string(Editor::log_of(&house)).expect("a log");
        assert!(log.contains("ureq"), "the log tells of the requests");
        for said in [&log, &transcript.concat()] {
            assert!(!said.contains(KEY), "the key was told");
        }
    }
}

fn settings(url: &str) -> Value {
    json!({ "url": url, "keyVariable": VARIABLE })
}

#[test]
fn whatever_a_server_does_the_answer_comes_and_the_status_says_why() {
    let closed_port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let echo = json!({ "error": { "message": format!("wrong key {KEY}") } }).to_string();
    let cut = format!("{CHUNKED}40\r\ndata: {{\"choices\":[{{\"te");
    let short =
        "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\ndata: {\"choices\":[{\"text\":\"a\"}]}\n";
    let cases: Vec<(&str, Server, &str)> = vec![
        ("says nothing", stalling(""), "said nothing for 5 s"),
        ("stops talking", stalling("HTTP/1.1 200 OK\r\n\r\n: x\n"), "said nothing for 5 s"),
        ("closes at once", Server::answering(""), "broke the connection off"),
        ("cuts a chunk", Server::answering(cut), "broke the connection off"),
        ("lies about its length", Server::answering(short), "broke the connection off"),
        ("is no HTTP", Server::answering("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "does not speak HTTP"),
        (
            "floods",
            flooding(OK, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            "sends more than 512 KB",
        ),
        (
            "floods headers",
            flooding("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"),
            "does not speak HTTP|headers",
        ),
        (
            "refuses the key and says it",
            Server::answering(response("401 Unauthorized", "", &echo)),
            "refuses the key (401): put a valid one into the environment variable KEY_OF_THE_TEST",
        ),
        (
            "fails with the key",
            Server::answering(response("500 Oops", "", &echo)),
            "wrong key [key]",
        ),
        ("is busy", Server::answering(response("429 Slow", "Retry-After: 30\r\n", "")), "(429)"),
        (
            "is another",
            Server::answering(response("404 No", "", "<html>")),
            "/v1/completions (404)",
        ),
        (
            "sends elsewhere",
            Server::answering(response("302 Found", "Location: http://example.com/\r\n", "")),
            "sends elsewhere (302)",
        ),
        (
            "is a web page",
            Server::answering(response("200 OK", "", "<!doctype html>")),
            "a web page",
        ),
        ("is no JSON", Server::answering(format!("{OK}data: {{]\n\n")), "no JSON"),
        (
            "is no UTF-8",
            Server::answering([OK.as_bytes(), b"data: \xff\xfe\n\n"].concat()),
            "no UTF-8",
        ),
        (
            "talks otherwise",
            Server::answering(response("200 OK", "", "{\"a\":1}")),
            "in this protocol",
        ),
    ];
    let mut editor = Editor::start(json!({}), &[]);
    editor.write("print(area(");
    let (alone, _) = editor.ask();
    assert!(!alone.is_empty(), "the model inside the program has an answer");
    let mut check = |name: &str, remote: Value, words: &str| {
        editor.configure(remote);
        // Elsewhere in the text than before, so that the answer is made anew.
        editor.write(")\nprint(area(");
        for _ in 0..2 {
            let (text, time) = editor.ask();
            assert!(!text.is_empty(), "{name}: no answer");
            assert!(time < PROMPT, "{name}: {time:?}");
        }
        let status = editor.wait_for(|status| status["state"] == "failing");
        let reason = status["reason"].as_str().expect("a reason");
        assert!(words.split('|').any(|words| reason.contains(words)), "{name}: {reason}");
        let (text, time) = editor.ask();
        assert!(!text.is_empty() && time < PROMPT, "{name}: {time:?}");
        status
    };
    for (name, server, words) in &cases {
        let status = check(name, settings(&server.url), words);
        if *name == "is busy" {
            assert!(status["pauseMs"].as_u64() > Some(20_000), "{status}");
        }
        let request = server.requests.try_recv().expect("a request");
        assert!(
            request.to_lowercase().contains(&format!("authorization: bearer {KEY}")),
            "{request}"
        );
    }
    check("is not there", settings(&format!("http://{closed_port}")), "refuses the connection");
    let plain = Server::answering(response("400 Bad", "", ""));
    check("speaks no TLS", settings(&plain.url.replace("http:", "https:")), "speaks no TLS");
    editor.stop();
}

#[test]
fn what_lies_about_its_type_is_read_and_a_flood_of_text_is_cut() {
    let lie = response("200 OK", "Content-Type: text/html\r\n", &event("width"));
    let endless = "data: {\"choices\":[{\"text\":\"width, \"}]}\n\n";
    for server in [Server::answering(lie), flooding(OK, endless)] {
        let mut editor = Editor::start(settings(&server.url), &[]);
        editor.write("total = ");
        assert!(editor.ask().1 < PROMPT);
        editor.wait_for(|status| status["state"] == "ready");
        editor.stop();
    }
}

#[test]
fn a_late_answer_serves_the_next_keystroke() {
    let (open, gate) = channel();
    let gate = parking_lot::Mutex::new(gate);
    let server = Server::new(move |stream| {
        let _ = gate.lock().recv_timeout(Duration::from_secs(4));
        let text = event("zebra_count + 1\n");
        let _ = stream.write_all(&response("200 OK", "", &text));
    });
    let mut editor = Editor::start(settings(&server.url), &[]);
    editor.write("total = ");
    let (first, time) = editor.ask();
    assert!(!first.contains("zebra") && time < PROMPT, "{first} {time:?}");
    open.send(()).expect("it waits");
    editor.wait_for(|status| status["answers"] == 1);
    editor.write("z");
    assert_eq!(editor.ask().0, "ebra_count + 1");
    let asked = server.requests.try_iter().count();
    assert_eq!(asked, 1, "the question was the same");
    editor.stop();
}

#[test]
fn what_nobody_wants_any_more_closes_the_connection() {
    let server = stalling("");
    let mut editor = Editor::start(settings(&server.url), &[]);
    let closed = |count: usize| {
        let start = Instant::now();
        while server.closed.load(Ordering::Relaxed) < count {
            // The server waits for five seconds before it is given up anyway.
            assert!(start.elapsed() < Duration::from_secs(3), "connection {count} stays open");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let ask = |editor: &mut Editor| {
        // A server that was slow before is left alone for a second.
        for _ in 0..50 {
            editor.write(" ");
            editor.ask();
            if server.requests.recv_timeout(Duration::from_millis(100)).is_ok() {
                return;
            }
        }
        panic!("nothing is asked");
    };
    editor.write("total =");
    ask(&mut editor);
    editor.text = editor.text.replace("total =", "print(");
    editor.change();
    ask(&mut editor);
    closed(1);
    editor.session.send(json!({
        "method": "textDocument/didClose", "params": { "textDocument": { "uri": URI } }
    }));
    closed(2);
    editor.stop();
}

#[test]
fn a_server_elsewhere_is_asked_only_if_the_user_allows_it_and_through_the_proxy() {
    let proxy = Server::answering(response("403 Forbidden", "", ""));
    let environment = [("HTTPS_PROXY", proxy.url.as_str())];
    let elsewhere = settings("https://code.example/v1");
    let mut editor = Editor::start(json!({}), &environment);
    editor.configure(elsewhere.clone());
    let refused = editor.wait_for(|status| status["state"] == "refused");
    let reason = refused["reason"].as_str().expect("a reason").to_string();
    assert!(reason.contains("nestling trust --remote https://code.example`"), "{reason}");
    editor.write("print(area(");
    assert!(!editor.ask().0.is_empty());
    assert!(proxy.requests.try_recv().is_err(), "something was sent");

    let trust = |more: &[&str]| {
        let arguments = ["trust", "--remote", "https://code.example/v1"];
        let run = Run::of(editor.house.command().args(arguments).args(more));
        assert_eq!(run.code, Some(0), "{run:?}");
    };
    trust(&[]);
    editor.configure(elsewhere);
    editor.write(")\nprint(area(");
    assert!(editor.ask().1 < PROMPT);
    let failing = editor.wait_for(|status| status["state"] == "failing");
    assert!(failing["reason"].as_str().is_some_and(|r| r.contains("the proxy")), "{failing}");
    let request = proxy.requests.recv().expect("a question to the proxy");
    assert!(
        request.starts_with("CONNECT code.example:443 ") && !request.contains(KEY),
        "{request}"
    );
    assert!(
        editor.session.transcript.concat().contains("code would be sent to"),
        "the user is told"
    );
    editor.stop();
}

#[test]
fn settings_hold_no_key() {
    let mut editor = Editor::start(json!({ "url": "http://127.0.0.1:9", "apiKey": KEY }), &[]);
    let start = Instant::now();
    while !editor.session.transcript.concat().contains("no place for a key") {
        assert!(start.elapsed() < Duration::from_secs(5), "the user is not told");
        assert_eq!(editor.remote_status(), Value::Null);
    }
    // Nothing was asked, so the log tells nothing; what was said is looked through all the same.
    assert!(!editor.session.transcript.concat().contains(KEY));
    assert_eq!(editor.session.stop(), Some(0));
}

/// The program with a file, completed at its end.
fn complete(code: &str, arguments: &[&str]) -> Run {
    let house = House::new();
    std::fs::write(house.work().join("shapes.py"), code).expect("a file");
    let line = code.matches('\n').count() + 1;
    let column = code.rsplit('\n').next().unwrap_or("").len() + 1;
    let mut command = house.command();
    command.env("NESTLING_REMOTE_KEY", KEY).arg("complete");
    Run::of(command.arg(format!("shapes.py:{line}:{column}")).args(arguments))
}

#[test]
fn every_protocol_is_spoken_on_the_command_line() {
    let text = "zebra_count + 1";
    let stream = |chunks: &[Value]| -> String {
        chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
    };
    let openai = event("zebra") + &event("_count + 1\n") + "data: [DONE]\n\n";
    let chat = stream(&[
        json!({ "choices": [{ "delta": { "role": "assistant" } }] }),
        json!({ "choices": [{ "delta": { "content": "```python\ntotal = zebra" } }] }),
        json!({ "choices": [{ "delta": { "content": "_count + 1\n```" } }] }),
    ]);
    let infill = stream(&[
        json!({ "content": "zebra_count", "stop": false }),
        json!({ "content": " + 1", "stop": true }),
    ]);
    let ollama =
        "{\"response\":\"zebra_count\"}\n{\"response\":\" + 1\",\"done\":true}\n".to_string();
    let tabby = format!("{:#}", json!({ "id": "1", "choices": [{ "index": 0, "text": text }] }));
    for (protocol, path, body, sent) in [
        ("openai", "/v1/completions", openai, "\"suffix\":"),
        ("chat", "/v1/chat/completions", chat, "<CURSOR>"),
        ("llama.cpp", "/infill", infill, "\"input_suffix\":"),
        ("ollama", "/api/generate", ollama, "\"num_predict\":"),
        ("tabby", "/v1/completions", tabby, "\"segments\":"),
    ] {
        let server = Server::answering(response("200 OK", "", &body));
        let code = format!("{CODE}total = ");
        let run = complete(&code, &["--remote", &server.url, "--protocol", protocol]);
        assert_eq!(run.done().stdout, format!("{text}\n"), "{protocol}");
        let request = server.requests.recv().expect("a request");
        assert!(request.starts_with(&format!("POST {path} HTTP/1.1")), "{request}");
        assert!(request.contains(sent) && request.contains("def area(width, height)"), "{request}");
        assert!(
            request.to_lowercase().contains(&format!("authorization: bearer {KEY}")),
            "{request}"
        );
    }
}

#[test]
fn where_the_memory_is_sure_it_keeps_the_word() {
    let server = Server::answering(response("200 OK", "", &event("zebra_count + 1\n")));
    let code = format!("{CODE}{}volumes.append(vo", "volumes.append(volume(1, 2, 3))\n".repeat(9));
    let alone = complete(&code, &[]).done().stdout;
    assert!(alone.starts_with("lume(1, 2, 3)"), "{alone}");
    assert_eq!(complete(&code, &["--remote", &server.url]).done().stdout, alone);
}

#[test]
fn without_the_server_the_command_line_answers_as_ever_and_says_why() {
    let code = format!("{CODE}print(area(");
    let alone = complete(&code, &[]).done().stdout;
    let server = Server::answering(response("403 Forbidden", "", KEY));
    let run = complete(&code, &["--remote", &server.url]);
    assert_eq!((run.code, &run.stdout), (Some(0), &alone), "{run:?}");
    assert!(run.stderr.starts_with("nestling: the remote model is not used: "), "{run:?}");
    assert!(run.stderr.contains("refuses the key (403)") && !run.stderr.contains(KEY), "{run:?}");
    complete(&code, &["--remote", &format!("http://u:{KEY}@h")])
        .refused(2, &["must not hold a name"]);
    let markers = ["--remote", &server.url, "--markers", "qwen"];
    complete(&code, &markers).refused(2, &["markers must be one of nestling, codegemma"]);
}

#[test]
fn a_secret_is_sent_to_nobody() {
    let server = Server::answering(response("200 OK", "", &event("1")));
    let code = format!("{CODE}key = \"-----BEGIN PRIVATE KEY-----\"\ntotal = ");
    let run = complete(&code, &["--remote", &server.url]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(server.requests.try_recv().is_err(), "it was sent");
}
