//! Talks as their user has them: a question on the command line, a talk in a terminal, a server elsewhere, an editor.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::house::House;
use crate::program::{Run, tiny};
use crate::remote::{KEY, Server, response, stalling};
use crate::session::Session;

const SHAPES: &str = "\"\"\"Shapes in the plane.\"\"\"\n\n\n# How much a rectangle covers.\ndef area(width, height):\n    \
                      return width * height\n\n\ndef volume(width, height, depth):\n    return area(width, height) * depth\n";

fn house() -> House {
    let house = House::new();
    std::fs::write(house.work().join("shapes.py"), SHAPES).expect("a file");
    std::fs::write(house.work().join("use.py"), "from shapes import area\n\nprint(area(2, 3))\n")
        .expect("a file");
    house
}

fn chat(house: &House, arguments: &[&str]) -> Run {
    let mut command = house.command();
    command.env("NESTLING_REMOTE_KEY", KEY).arg("chat").args(arguments).stdin(Stdio::null());
    Run::of(&mut command)
}

#[test]
fn a_question_is_answered_from_the_repository_where_no_model_talks() {
    let house = house();
    let run = chat(&house, &["What does `area` do?"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let said = "`area` is a function in `shapes.py:4-6`:\n\n```python\n# How much a rectangle covers.\ndef area(width, height):";
    assert!(run.stdout.starts_with(said), "{run:?}");
    assert!(
        run.stdout.contains("`shapes.py:10`") && run.stdout.contains("`use.py:1, 3`"),
        "{run:?}"
    );
    assert!(run.stderr.contains("no model that talks is in use"), "{run:?}");
    // The same from stdin, and as JSON.
    let mut command = house.command();
    command.args(["chat", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"What does `area` do?\n").expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["text"], run.stdout.trim_end().to_string() + "\n");
    assert_eq!(
        (&json["by"], &json["sources"][0]["path"]),
        (&"repository".into(), &"shapes.py".into())
    );
    let nothing = chat(&house, &["chromodynamics?"]);
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(nothing.stdout.starts_with("Nothing in the repository answers"), "{nothing:?}");
    let explained = chat(&house, &["/explain", "shapes.py:10"]);
    assert!(
        explained.stdout.starts_with("`volume` is a function in `shapes.py:9-10`"),
        "{explained:?}"
    );
    chat(&house, &["/explode"]).refused(2, &["there is no /explode; there are /file, /explain"]);
    chat(&house, &["--file", "none.py", "?"]).refused(2, &["none.py: no such file"]);
    chat(&house, &[]).refused(2, &["there is no question"]);
}

/// The test model with a template that is no talk's.
fn talking(folder: &Path, template: &str) -> String {
    let model = folder.join("talking");
    std::fs::create_dir(&model).expect("a folder");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(tiny().join(name), model.join(name)).expect("a copy of the test model");
    }
    std::fs::write(model.join("chat_template.jinja"), template).expect("a file");
    model.to_str().expect("UTF-8").to_string()
}

#[test]
fn a_model_with_a_template_is_talked_with_and_a_broken_one_named() {
    let house = house();
    let template =
        "{% for m in messages %}<|file|>{{ m.role }}\n{{ m.content }}{% endfor %}<|prefix|>";
    let model = talking(house.folder.path(), template);
    let run = chat(&house, &["--model", &model, "--json", "What does `area` do?"]).done();
    let json = run.json();
    assert_eq!(json["by"], "model", "{json}");
    assert!(json["sources"][0]["path"] == "shapes.py" && json["text"].is_string(), "{json}");
    // The template goes with the model into one file.
    let file = house.folder.path().join("talking.gguf");
    let written = Run::of(house.command().args(["quantize", &model, "--out"]).arg(&file));
    assert_eq!(written.code, Some(0), "{written:?}");
    let file = file.to_str().expect("UTF-8");
    let json = chat(&house, &["--model", file, "--json", "What does `area` do?"]).done().json();
    assert_eq!(json["by"], "model", "{json}");
    std::fs::write(Path::new(&model).join("chat_template.jinja"), "\n{% if %}").expect("a file");
    let broken = chat(&house, &["--model", &model, "Why?"]);
    broken.refused(
        3,
        &["talking/chat_template.jinja: the chat template is not understood in line 2", "--remote"],
    );
}

fn events(pieces: &[&str]) -> String {
    let event = |piece: &&str| {
        format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": piece } }] }))
    };
    pieces.iter().map(event).collect::<String>() + "data: [DONE]\n\n"
}

#[test]
fn a_server_elsewhere_is_talked_with_in_its_protocol_and_sees_the_sources() {
    let house = house();
    let answer = "It multiplies.";
    let openai = events(&["It ", "multiplies."]);
    let ollama = "{\"message\":{\"role\":\"assistant\",\"content\":\"It \"},\"done\":false}\n\
                  {\"message\":{\"content\":\"multiplies.\"},\"done\":true}\n";
    for (protocol, path, body) in [
        ("openai", "/v1/chat/completions", openai.as_str()),
        ("chat", "/v1/chat/completions", &openai),
        ("llama.cpp", "/v1/chat/completions", &openai),
        ("ollama", "/api/chat", ollama),
    ] {
        let server = Server::answering(response("200 OK", "", body));
        let run = chat(
            &house,
            &["--remote", &server.url, "--protocol", protocol, "What does `area` do?"],
        )
        .done();
        let wanted = format!("{answer}\n\nSources:\n- shapes.py:4-6 (definition of area)\n");
        assert!(run.stdout.starts_with(&wanted), "{protocol}: {run:?}");
        let request = server.requests.recv().expect("a request");
        assert!(request.starts_with(&format!("POST {path} HTTP/1.1")), "{request}");
        assert!(
            request.contains("def area(width, height)") && request.contains("\"role\":\"system\""),
            "{request}"
        );
        assert!(
            request.to_lowercase().contains(&format!("authorization: bearer {KEY}")),
            "{request}"
        );
    }
    let refusing = Server::answering(response("404 No", "", "<html>"));
    chat(&house, &["--remote", &refusing.url, "Why?"])
        .refused(3, &["has no /v1/chat/completions (404)"]);
    let cut = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\ndata: {\"choi");
    chat(&house, &["--remote", &cut.url, "Why?"]).refused(3, &["broke the connection off"]);
}

#[test]
fn a_secret_is_no_source_and_is_not_sent() {
    let house = house();
    std::fs::write(
        house.work().join("key.py"),
        "def secret():\n    return '-----BEGIN PRIVATE KEY-----'\n",
    )
    .expect("a file");
    let server = Server::answering(response("200 OK", "", &events(&["I see."])));
    let asked = ["--remote", &server.url, "--file", "shapes.py", "what is `secret` in key.py?"];
    let run = chat(&house, &asked);
    assert!(run.stderr.contains("key.py is left out"), "{run:?}");
    let request = server.requests.recv().expect("a request");
    assert!(!request.contains("PRIVATE") && request.contains("def volume"), "{request}");
    let question = "why is -----BEGIN PRIVATE KEY----- refused?";
    chat(&house, &["--remote", &server.url, question]).refused(3, &["is sent to nobody"]);
    assert!(server.requests.try_recv().is_err(), "it was sent");
    chat(&house, &["--file", "key.py", "?"]).refused(2, &["looks like a key"]);
}

/// The program in a terminal.
struct Talk {
    child: Child,
    keys: File,
}

impl Talk {
    fn start(house: &House, arguments: &[&str]) -> Talk {
        let (mut master, mut slave) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: the call fills two numbers and reads nothing of the rest.
        let made =
            unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
        assert_eq!(made, 0, "a terminal");
        // Keys go to the program as they are.
        // SAFETY: a structure of numbers, which the first call fills.
        unsafe {
            let mut settings = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(slave, &mut settings), 0, "a terminal");
            libc::cfmakeraw(&mut settings);
            libc::tcsetattr(slave, libc::TCSANOW, &settings);
        }
        // SAFETY: both were just opened and belong to nobody else.
        let (keys, terminal) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut command = house.command();
        command
            .arg("chat")
            .args(arguments)
            .stdin(terminal)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Talk { child: command.spawn().expect("the program starts"), keys }
    }

    /// Says each line once it is asked for one, then that there are no more, and returns what was printed.
    fn says(mut self, lines: &str) -> Run {
        /// What a terminal is told at each prompt.
        const PROMPT: &str = "\u{1b}[?2004h";
        let heard: Arc<Mutex<String>> = Arc::default();
        let (mut output, told) = (self.child.stdout.take().expect("a pipe"), heard.clone());
        let listening = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                told.lock().push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        let lines = lines.lines().map(|line| format!("{line}\r")).chain(["\u{4}".into()]);
        for (at, line) in lines.enumerate() {
            let start = Instant::now();
            while heard.lock().matches(PROMPT).count() <= at && !listening.is_finished() {
                assert!(start.elapsed() < Duration::from_secs(60), "{}", heard.lock());
                thread::sleep(Duration::from_millis(5));
            }
            // It may have ended by what was said before.
            let _ = self.keys.write_all(line.as_bytes());
        }
        let output = self.child.wait_with_output().expect("it ends");
        listening.join().expect("it is heard");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        Run { code: output.status.code(), stdout: std::mem::take(&mut heard.lock()), stderr }
    }
}

#[test]
fn a_block_of_an_answer_is_put_into_its_file_if_it_parses() {
    let house = house();
    let path = house.work().join("shapes.py");
    let read = || std::fs::read_to_string(&path).expect("a file");
    let saying = |code: &str| {
        let text = format!("In `shapes.py`:\n```python\n{code}\n```\n");
        Server::answering(response("200 OK", "", &events(&[&text])))
    };
    let broken = saying("def area(width, height:\n    return width *");
    let run = Talk::start(&house, &["--remote", &broken.url]).says("Change `area`.\n/apply\ny");
    assert!(run.stderr.contains("would not parse any more"), "{run:?}");
    assert_eq!(read(), SHAPES);
    let right = saying("def area(width, height):\n    return abs(width * height)");
    let run = Talk::start(&house, &["--remote", &right.url]).says("Change `area`.\n/apply\nn");
    assert!(
        run.stdout.contains("+    return abs(width * height)") && run.stderr.contains("parses"),
        "{run:?}"
    );
    assert_eq!(read(), SHAPES, "it was not wanted");
    let run = Talk::start(&house, &["--remote", &right.url])
        .says("Change `area`.\n/sources\n/apply 1\ny\n/quit");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("shapes.py:4-6 (definition of area)\n"), "{run:?}");
    assert_eq!(read(), SHAPES.replace("return width * height", "return abs(width * height)"));
    // What was asked is there the next time, but no secret.
    Talk::start(&house, &[]).says("/help\nis -----BEGIN PRIVATE KEY----- one?");
    let history = std::fs::read_to_string(house.data().join("chat_history")).expect("a history");
    assert!(
        history.contains("Change `area`.")
            && history.contains("/help")
            && !history.contains("PRIVATE"),
        "{history}"
    );
}

#[test]
fn a_talk_takes_blocks_and_commands_and_says_what_it_does_not_know() {
    let house = house();
    let run = Talk::start(&house, &[]).says(
        "/nothing\n/apply\n/file shapes.py:4-6\n/file none.py\n/explain\nWhat does \\\n`volume` do?\n/clear\n/file",
    );
    assert_eq!(run.code, Some(0), "{run:?}");
    for said in
        ["there is no /nothing", "holds no block", "none.py: no such file", "no model that talks"]
    {
        assert!(run.stderr.contains(said), "{said}: {run:?}");
    }
    for said in [
        "in use: shapes.py:4-6",
        "says of itself:\n\n> Shapes in the plane.",
        "`volume` is a function",
        "no file is in use",
    ] {
        assert!(run.stdout.contains(said), "{said}: {run:?}");
    }
    std::fs::write(house.work().join("broken.py"), "def f(a, b:\n    return a + b\n")
        .expect("a file");
    let run = Talk::start(&house, &[]).says("/fix broken.py\ny");
    assert!(run.stdout.contains("+def f(a, b):"), "{run:?}");
    let fixed = std::fs::read_to_string(house.work().join("broken.py")).expect("a file");
    assert_eq!(fixed, "def f(a, b):\n    return a + b\n");
    // A fence keeps lines together: none of these is a command.
    let run = Talk::start(&house, &[]).says("```python\n/quit\ndef g():\n```");
    assert!(run.stdout.contains("go on so") || run.stdout.contains("nothing to add"), "{run:?}");
}

#[test]
fn ctrl_c_ends_the_answer_and_closes_the_connection() {
    let house = house();
    let server = stalling(
        "HTTP/1.1 200 OK\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Well, \"}}]}\n\n",
    );
    let mut command = house.command();
    command.args(["chat", "--remote", &server.url, "Why?"]).stdin(Stdio::null());
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut first = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it streams");
    assert_eq!(&first, b"Well, ");
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(start.elapsed() < Duration::from_secs(5), "it goes on");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.wait().expect("a child").code(), Some(130));
}

/// An editor with the folder open.
fn editor(house: &House, options: Value) -> Session {
    let mut session = Session::start(house.command().arg("serve").stderr(Stdio::null()));
    let folder = format!("file://{}", house.work().display());
    let folders = json!([{ "uri": folder, "name": "work" }]);
    let answer = session.call(
        "initialize",
        json!({ "capabilities": {}, "workspaceFolders": folders, "initializationOptions": options }),
    );
    let commands = answer["capabilities"]["executeCommandProvider"]["commands"].to_string();
    assert!(commands.contains("nestling.chat"), "{commands}");
    session.send(json!({ "method": "initialized", "params": {} }));
    loop {
        let status = session.call("nestling/status", Value::Null);
        if status["model"]["state"] == "ready" && status["index"]["state"] == "ready" {
            return session;
        }
    }
}

fn execute(session: &mut Session, argument: Value) -> Value {
    let params = json!({ "command": "nestling.chat", "arguments": [argument] });
    session.call("workspace/executeCommand", params)
}

/// What was told piece by piece under a token.
fn told(session: &Session, token: &str) -> String {
    let messages =
        session.transcript.iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    let pieces = messages.filter(|m| m["method"] == "$/progress" && m["params"]["token"] == token);
    pieces.map(|m| m["params"]["value"]["text"].as_str().expect("a text").to_string()).collect()
}

/// The same once it is as long as a text: the last pieces may come behind the answer.
fn all_told(session: &mut Session, token: &str, text: &str) -> String {
    let start = Instant::now();
    while told(session, token).len() < text.len() && start.elapsed() < Duration::from_secs(5) {
        session.call("nestling/status", Value::Null);
    }
    told(session, token)
}

/// The answer to the request 9_000_000, once it has come.
fn ended(session: &Session) -> Option<Value> {
    let mut messages =
        session.transcript.iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    Some(messages.find(|message| message["id"] == 9_000_000)?["result"].take())
}

#[test]
fn an_editor_hears_the_answer_piece_by_piece_with_the_places() {
    let house = house();
    let mut session = editor(&house, json!({}));
    let question = json!([{ "role": "user", "content": "What does `area` do?" }]);
    let reply = execute(&mut session, json!({ "messages": question, "partialResultToken": "t" }));
    let text = reply["text"].as_str().expect("a text");
    assert!(text.starts_with("`area` is a function in `shapes.py:4-6`"), "{reply}");
    assert_eq!(all_told(&mut session, "t", text), text);
    let source = &reply["sources"][0];
    assert!(
        source["uri"]
            .as_str()
            .is_some_and(|uri| uri.starts_with("file://") && uri.ends_with("/shapes.py")),
        "{reply}"
    );
    assert_eq!(source["range"]["start"], json!({ "line": 3, "character": 0 }), "{reply}");
    assert!(
        reply["notice"].as_str().is_some_and(|notice| notice.contains("no model that talks")),
        "{reply}"
    );
    // A selection in a text that is not saved as it stands.
    let uri = format!("file://{}/shapes.py", house.work().display());
    let text = SHAPES.replace("return width * height", "return height * width");
    let document = json!({ "uri": uri, "languageId": "python", "version": 1, "text": text });
    session
        .send(json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }));
    let range =
        json!({ "start": { "line": 5, "character": 0 }, "end": { "line": 6, "character": 0 } });
    let asked = json!({ "messages": [{ "role": "user", "content": "?" }], "textDocument": { "uri": uri }, "range": range });
    let reply = execute(&mut session, asked);
    assert!(
        reply["text"].as_str().is_some_and(|text| text.contains("    return height * width")),
        "{reply}"
    );
    assert_eq!(session.stop(), Some(0));
}

#[test]
fn an_editor_talks_with_the_remote_model_of_its_settings_and_may_stop() {
    let house = house();
    let server = Server::answering(response("200 OK", "", &events(&["It ", "multiplies."])));
    let mut session = editor(&house, json!({ "remote": { "url": server.url } }));
    let talk = json!([
        { "role": "user", "content": "Hello." }, { "role": "assistant", "content": "Hello!" },
        { "role": "user", "content": "What does `area` do?" },
    ]);
    let reply = execute(&mut session, json!({ "messages": talk, "partialResultToken": 7 }));
    assert_eq!(
        (&reply["text"], &reply["by"]),
        (&"It multiplies.".into(), &"remote".into()),
        "{reply}"
    );
    let request = server.requests.recv().expect("a request");
    assert!(
        request.contains("\"content\":\"Hello!\"") && request.contains("def area"),
        "{request}"
    );
    assert_eq!(session.stop(), Some(0));
    // An answer that is let go of ends, and the next question is answered.
    let server = stalling(
        "HTTP/1.1 200 OK\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Well, \"}}]}\n\n",
    );
    let mut session = editor(&house, json!({ "remote": { "url": server.url } }));
    let params = json!({ "command": "nestling.chat", "arguments": [
        { "messages": [{ "role": "user", "content": "Why?" }], "partialResultToken": "p" }
    ], "workDoneToken": "w" });
    session
        .send(json!({ "id": 9_000_000, "method": "workspace/executeCommand", "params": params }));
    while told(&session, "p") != "Well, " {
        session.receive();
    }
    session.send(json!({ "method": "window/workDoneProgress/cancel", "params": { "token": "w" } }));
    let result = loop {
        match ended(&session) {
            Some(result) => break result,
            None => _ = session.receive(),
        }
    };
    assert_eq!(
        (&result["text"], &result["cancelled"]),
        (&"Well, ".into(), &true.into()),
        "{result}"
    );
    assert_eq!(session.stop(), Some(0));
}

#[test]
fn an_answer_of_the_model_gives_way_to_what_is_typed() {
    let house = house();
    let template =
        "{% for m in messages %}<|file|>{{ m.role }}\n{{ m.content }}{% endfor %}<|prefix|>";
    let model = talking(house.folder.path(), template);
    let mut command = house.command();
    command.args(["serve", "--model", &model]).stderr(Stdio::null());
    let mut session = Session::start(&mut command);
    let capabilities = json!({ "textDocument": { "inlineCompletion": {} } });
    session.call(
        "initialize",
        json!({ "capabilities": capabilities, "initializationOptions": { "debounce": 0 } }),
    );
    session.send(json!({ "method": "initialized", "params": {} }));
    while session.call("nestling/status", Value::Null)["model"]["state"] != "ready" {}
    let document = json!({ "uri": "file:///w/a.py", "languageId": "python", "version": 1, "text": format!("{SHAPES}print(area(") });
    session
        .send(json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }));
    let question = json!({ "messages": [{ "role": "user", "content": "def area(" }], "partialResultToken": "t" });
    let params = json!({ "command": "nestling.chat", "arguments": [question] });
    session
        .send(json!({ "id": 9_000_000, "method": "workspace/executeCommand", "params": params }));
    while told(&session, "t").is_empty() && ended(&session).is_none() {
        session.receive();
    }
    // Asked in the middle of the answer, a completion is not kept waiting for its end.
    let place = json!({
        "textDocument": { "uri": "file:///w/a.py" }, "position": { "line": 10, "character": 11 },
        "context": { "triggerKind": 0 }
    });
    session.call("textDocument/inlineCompletion", place);
    let result = loop {
        match ended(&session) {
            Some(result) => break result,
            None => _ = session.receive(),
        }
    };
    assert_eq!(result["by"], "model", "{result}");
    let text = result["text"].as_str().expect("a text");
    assert_eq!(all_told(&mut session, "t", text), text, "nothing is said twice");
    assert_eq!(session.stop(), Some(0));
}
