//! Nothing needs a network but `model download`, which says so: the program works in a namespace without any route.
//! Even its loopback device is down there, so no kind of connection can be made.

use std::process::Command;

use serde_json::{Value, json};

use crate::house::House;
use crate::program::{Run, place_after, project, tiny};
use crate::session::Session;

/// `unshare -rn PROGRAM ARGUMENTS`, or `None`, with the reason printed, where the system forbids it.
fn isolated(program: &str, arguments: &[&str]) -> Option<Command> {
    let probe = Command::new("unshare").args(["-rn", "true"]).output();
    let reason = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(reason) = reason {
        eprintln!("skipped: this system allows no network namespace ({reason})");
        return None;
    }
    let mut command = Command::new("unshare");
    command.arg("-rn").arg(program).args(arguments);
    command.env_remove("NESTLING_MODEL").env_remove("NESTLING_LOG");
    command.env("NESTLING_DATA", concat!(env!("CARGO_TARGET_TMPDIR"), "/data"));
    Some(command)
}

fn isolated_nestling(arguments: &[&str]) -> Option<Command> {
    let mut command = isolated(env!("CARGO_BIN_EXE_nestling"), arguments)?;
    command.arg("--model").arg(tiny());
    Some(command)
}

#[test]
fn the_namespace_has_no_route() {
    let Some(mut cat) = isolated("cat", &["/proc/net/route", "/proc/net/dev"]) else { return };
    let text = Run::of(&mut cat).done().stdout;
    let (routes, devices) = text.split_once("Inter-").expect("two tables");
    // Some systems leave the heading out, too.
    assert!(routes.lines().all(|line| line.starts_with("Iface")), "{routes}");
    let devices = devices.lines().filter(|line| line.contains(':'));
    assert!(devices.clone().all(|line| line.trim().starts_with("lo:")), "{text}");
}

#[test]
fn complete_works_without_a_network() {
    let place = place_after("rust/src/span.rs", "pub fn merge(&");
    let Some(mut complete) = isolated_nestling(&["complete", &place]) else { return };
    let run = Run::of(&mut complete);
    match run.code {
        Some(0) => assert!(!run.stdout.trim().is_empty(), "{run:?}"),
        Some(1) => assert!(run.stderr.contains("nothing is suggested here: "), "{run:?}"),
        _ => panic!("{run:?}"),
    }
}

#[test]
fn generate_and_doctor_work_without_a_network() {
    let Some(mut generate) = isolated_nestling(&["generate", "fn", "--max-tokens", "8"]) else {
        return;
    };
    assert!(!Run::of(&mut generate).done().stdout.trim().is_empty());
    let Some(mut doctor) = isolated_nestling(&["doctor", "--json"]) else { return };
    let json = Run::of(&mut doctor).json();
    let checks = json["checks"].as_array().expect("a list");
    assert!(checks.iter().any(|c| c["check"] == "model" && c["ok"] == true), "{json}");
}

#[test]
fn a_download_says_that_there_is_no_network_and_an_import_needs_none() {
    let house = House::new();
    let command = |arguments: &[&str]| {
        let mut command = isolated(env!("CARGO_BIN_EXE_nestling"), arguments)?;
        command.current_dir(house.work()).env("NESTLING_DATA", house.data());
        Some(command)
    };
    let Some(mut download) = command(&["model", "download", "org/name"]) else { return };
    Run::of(&mut download).refused(3, &["org/name", "cannot be reached", "a network"]);
    let tiny = tiny();
    let Some(mut import) = command(&["model", "import", tiny.to_str().expect("UTF-8")]) else {
        return;
    };
    let run = Run::of(&mut import);
    assert!(run.code == Some(0) && run.stderr.contains("tiny is installed"), "{run:?}");
}

#[test]
fn the_server_works_without_a_network() {
    let Some(mut serve) = isolated_nestling(&["serve"]) else { return };
    let mut session = Session::start(&mut serve);
    let capabilities = json!({"textDocument": {"inlineCompletion": {}}});
    session.call("initialize", json!({"processId": null, "capabilities": capabilities}));
    session.send(json!({"method": "initialized", "params": {}}));
    while session.call("nestling/status", Value::Null)["model"]["state"] != "ready" {
        let status = session.call("nestling/status", Value::Null);
        assert_ne!(status["model"]["state"], "failed", "{status}");
    }
    let text = std::fs::read_to_string(project("rust/src/span.rs")).expect("a test file");
    let cursor = "    pub fn merge(&";
    let line = text.lines().position(|line| line.starts_with(cursor)).expect("the place");
    let uri = "file:///project/span.rs";
    let document = json!({"uri": uri, "languageId": "rust", "version": 1, "text": text});
    session.send(json!({"method": "textDocument/didOpen", "params": {"textDocument": document}}));
    let place = json!({
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": cursor.len()},
        "context": {"triggerKind": 1}
    });
    let answer = session.call("textDocument/inlineCompletion", place);
    assert!(answer["items"].is_array(), "{answer}");
    let counts = session.call("nestling/status", Value::Null)["counts"].clone();
    assert_eq!((&counts["requests"], &counts["answered"]), (&1.into(), &1.into()), "{counts}");
    assert_eq!(session.stop(), Some(0));
}
