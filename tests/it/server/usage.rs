//! What becomes of suggestions: told by clients that speak the extensions of GitHub's server, written down without any text.

use nestling::store::Store;
use serde_json::{Value, json};

use super::client::{Client, URI};
use super::script::Script;

/// A client with those extensions, and the store of its server.
async fn start(folder: &tempfile::TempDir, options: Value) -> (Client, Store) {
    start_as(folder, json!({ "textDocument": { "inlineCompletion": {} } }), options).await
}

async fn start_as(
    folder: &tempfile::TempDir,
    capabilities: Value,
    options: Value,
) -> (Client, Store) {
    let store = Store::at(folder.path());
    let mut server = Script::inserts(&["foo(bar)"]).options();
    server.store = Some(store.clone());
    let params = json!({ "capabilities": capabilities, "initializationOptions": options });
    let (mut client, _) = Client::start_with(server, params).await;
    client.wait_for_model("ready").await;
    (client, store)
}

#[tokio::test]
async fn a_client_of_another_server_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let info = json!({ "name": "an editor", "version": "1" });
    let (mut client, store) =
        start(&folder, json!({ "editorInfo": info, "editorPluginInfo": info })).await;
    let ready = |message: &Value| {
        message["method"] == "didChangeStatus"
            && message["params"] == json!({ "kind": "Normal", "busy": false, "message": "" })
    };
    client.wait_for(ready).await;
    let settings = json!({ "settings": { "telemetry": { "telemetryLevel": "all" } } });
    client.notify("workspace/didChangeConfiguration", settings).await;
    let at = client.open("let x = |;").await;
    client.notify("textDocument/didFocus", json!({ "textDocument": { "uri": URI } })).await;
    let ask = client.ask(&at).await;
    let item = client.response(ask).await["result"]["items"][0].clone();
    client.notify("textDocument/didShowCompletion", json!({ "item": item })).await;
    let part = json!({ "item": item, "acceptedLength": 4 });
    client.notify("textDocument/didPartiallyAcceptCompletion", part).await;
    client.type_text(&at, "foo(").await;
    // Nonsense is no reason to end.
    client.notify("textDocument/didShowCompletion", json!({})).await;
    client.notify("textDocument/didPartiallyAcceptCompletion", json!([1])).await;
    client.call("shutdown", Value::Null).await;
    assert!(!client.has_received(|message| message["method"] == "window/logMessage"));
    let [used] = &store.usage()[..] else { panic!("one suggestion: {:?}", store.usage()) };
    assert_eq!((used.language.as_str(), used.characters, used.accepted), ("rust", 8, 4));
    assert!(!std::fs::read_to_string(folder.path().join("usage.jsonl")).unwrap().contains("foo"));
}

#[tokio::test]
async fn entries_of_a_popup_count_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut client, store) = start_as(&folder, json!({}), json!({})).await;
    let at = client.open("let x = |;").await;
    let place = json!({ "textDocument": { "uri": URI }, "position": at });
    let list = client.call("textDocument/completion", place).await;
    let accepted = &list["result"]["items"][0]["command"];
    let command = json!({ "command": accepted["command"], "arguments": accepted["arguments"] });
    client.call("workspace/executeCommand", command).await;
    client.call("shutdown", Value::Null).await;
    let [used] = &store.usage()[..] else { panic!("one suggestion: {:?}", store.usage()) };
    assert_eq!((used.characters, used.accepted), (8, 8));
}

#[tokio::test]
async fn nothing_is_written_down_if_that_is_not_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut client, store) = start(&folder, json!({ "statistics": false })).await;
    let at = client.open("let x = |;").await;
    let ask = client.ask(&at).await;
    client.response(ask).await;
    client.call("shutdown", Value::Null).await;
    assert_eq!(store.usage(), []);
}
