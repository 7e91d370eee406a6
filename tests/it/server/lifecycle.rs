//! From the handshake to the end of the process, and what must not end it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, URI, inline_params, texts};
use super::script::{Script, stubborn};

fn script() -> Script {
    Script::inserts(&["x"])
}

async fn reply_to(capabilities: Value) -> Value {
    let params = json!({"capabilities": capabilities});
    Client::start_with(script().options(), params).await.1
}

#[track_caller]
fn check_error(response: &Value, code: i64) {
    assert_eq!(response["error"]["code"], code, "{response}");
}

#[tokio::test]
async fn the_handshake_says_what_we_can_do() {
    let reply = reply_to(json!({})).await;
    assert_eq!(reply["serverInfo"]["name"], "nestling");
    assert_eq!(reply["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
    let capabilities = &reply["capabilities"];
    assert_eq!(capabilities["textDocumentSync"]["change"], 2);
    assert_eq!(capabilities["inlineCompletionProvider"], true);
    let commands = json!([
        "nestling.accepted",
        "nestling.status",
        "nestling.useModel",
        "nestling.finetune",
        "nestling.cancelFinetune",
        "nestling.prove",
        "nestling.commitMessage",
        "nestling.explain",
        "nestling.chat"
    ]);
    assert_eq!(capabilities["executeCommandProvider"]["commands"], commands);
}

#[tokio::test]
async fn the_position_encoding_is_negotiated() {
    for (offered, agreed) in [
        (json!(["utf-16", "utf-8"]), "utf-8"),
        (json!(["utf-32", "utf-16"]), "utf-16"),
        (json!(["utf-32"]), "utf-32"),
        (Value::Null, "utf-16"),
    ] {
        let reply = reply_to(json!({"general": {"positionEncodings": offered}})).await;
        assert_eq!(reply["capabilities"]["positionEncoding"], agreed);
    }
}

#[tokio::test]
async fn the_popup_is_for_clients_without_ghost_text() {
    let with = reply_to(json!({"textDocument": {"inlineCompletion": {}}})).await;
    assert!(with["capabilities"].get("completionProvider").is_none());
    let without = reply_to(json!({"textDocument": {"completion": {}}})).await;
    assert!(without["capabilities"]["completionProvider"].is_object());
}

#[tokio::test]
async fn requests_outside_the_session_are_refused() {
    let mut client = Client::connect(script().options());
    let at = json!({"line": 0, "character": 0});
    let ask = inline_params(URI, &at, 2);
    check_error(&client.call("textDocument/inlineCompletion", ask.clone()).await, -32002);
    client.call("initialize", json!({"capabilities": {}})).await;
    check_error(&client.call("initialize", json!({"capabilities": {}})).await, -32600);
    assert_eq!(client.call("shutdown", json!({})).await["result"], Value::Null);
    check_error(&client.call("textDocument/inlineCompletion", ask).await, -32600);
}

#[tokio::test]
async fn wrong_requests_get_the_proper_error_and_the_next_one_works() {
    let mut client = Client::ready(&script()).await;
    let at = client.open("a|").await;
    check_error(&client.call("textDocument/hover", json!({})).await, -32601);
    check_error(&client.call("nestling/nonsense", json!({})).await, -32601);
    check_error(&client.call("$/nonsense", json!({})).await, -32601);
    check_error(&client.call("textDocument/inlineCompletion", json!({"a": 1})).await, -32602);
    check_error(&client.call("textDocument/inlineCompletion", json!([])).await, -32602);
    let unknown = inline_params("file:///unknown.rs", &at, 1);
    check_error(&client.call("textDocument/inlineCompletion", unknown).await, -32602);
    let command = json!({"command": "rm", "arguments": []});
    check_error(&client.call("workspace/executeCommand", command).await, -32602);
    client.notify("nestling/nonsense", json!({})).await;
    client.notify("textDocument/didChange", json!({"wrong": true})).await;
    assert_eq!(client.invoke(&at).await, ["x"]);
}

#[tokio::test]
async fn after_malformed_frames_the_next_request_works() {
    let mut client = Client::ready(&script()).await;
    let at = client.open("a|").await;
    for (bytes, code) in [
        ("Content-Length: 5\r\n\r\n{\"a\":", -32700),
        ("Content-Length: nonsense\r\n\r\n{}", -32700),
        ("no header at all\r\n\r\n", -32700),
        ("Content-Length: 2\r\n\r\n[]", -32600),
        ("Content-Length: 17\r\n\r\n{\"jsonrpc\":\"1.0\"}", -32600),
        ("Content-Length: 31\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":1234}", -32600),
    ] {
        client.write(bytes.as_bytes()).await;
        assert_eq!(client.invoke(&at).await, ["x"], "{bytes}");
        let error = client.wait_for(|message| message["id"].is_null()).await;
        check_error(&error, code);
    }
    client.write(b"Content-Length: 4\r\n\r\n\"\xff\xfe\"").await;
    assert_eq!(client.invoke(&at).await, ["x"]);
}

#[tokio::test]
async fn an_id_in_use_is_refused_and_both_are_answered() {
    let mut client = Client::ready(&stubborn(Duration::from_millis(100))).await;
    let at = client.open("a|").await;
    let ask = json!({"jsonrpc": "2.0", "id": "same", "method": "textDocument/inlineCompletion",
        "params": inline_params(URI, &at, 1)});
    client.send(ask.clone()).await;
    client.send(ask).await;
    check_error(&client.wait_for(|message| message["id"] == "same").await, -32600);
    assert!(texts(&client.wait_for(|message| message["id"] == "same").await).is_empty());
}

#[tokio::test]
async fn the_exit_code_tells_whether_there_was_a_shutdown() {
    let mut client = Client::ready(&script()).await;
    client.call("shutdown", Value::Null).await;
    client.notify("exit", Value::Null).await;
    assert_eq!(client.exit_code().await, 0);

    let mut client = Client::ready(&script()).await;
    client.notify("exit", Value::Null).await;
    assert_eq!(client.exit_code().await, 1);

    let mut client = Client::ready(&script()).await;
    client.hang_up().await;
    assert_eq!(client.exit_code().await, 1);
}

#[tokio::test]
async fn exit_does_not_wait_for_a_generation() {
    let script = stubborn(Duration::from_secs(5));
    let mut client = Client::ready(&script).await;
    let at = client.open("a|").await;
    client.ask(&at).await;
    script.wait_for_calls(1).await;
    let start = Instant::now();
    client.notify("exit", Value::Null).await;
    assert_eq!(client.exit_code().await, 1);
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(script.was_cancelled());
}

#[tokio::test]
async fn shutdown_answers_what_is_open() {
    let script = stubborn(Duration::from_secs(5));
    let mut client = Client::ready(&script).await;
    let at = client.open("a|").await;
    let ask = client.ask(&at).await;
    script.wait_for_calls(1).await;
    client.call("shutdown", Value::Null).await;
    assert!(client.texts(ask).await.is_empty());
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_server_ends_when_the_editor_is_gone() {
    let mut editor = Command::new("sleep").arg("60").spawn().expect("sleep can be started");
    let params = json!({"capabilities": {}, "processId": editor.id()});
    let (client, _) = Client::start_with(script().options(), params).await;
    editor.kill().expect("it runs");
    editor.wait().expect("it is a child");
    assert_eq!(client.exit_code().await, 1);
}
