//! The server's text is the client's text.

use std::sync::Arc;

use nestling::generation::CancelToken;
use nestling::suggest::{Completion, CompletionRequest, Progress};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::client::{Client, URI, inline_params};
use super::script::{Script, insertions};

fn at(line: u64, character: u64) -> Value {
    json!({"line": line, "character": character})
}

#[tokio::test]
async fn columns_are_utf16_units_by_default() {
    let mut client = Client::ready(&Script::inserts(&["x"])).await;
    client.open("let a = \"🐦🐦\"; // é\r\nb").await;
    client.edit(&at(0, 11), &at(0, 13), "").await;
    client.edit(&at(0, 18), &at(1, 0), "🪺\n").await;
    // Inside a surrogate pair: the start of the character.
    client.edit(&at(0, 10), &at(0, 10), "!").await;
    assert_eq!(client.server_text().await, "let a = \"!🐦\"; // é🪺\nb");
}

#[tokio::test]
async fn columns_are_bytes_if_agreed() {
    let capabilities = json!({"general": {"positionEncodings": ["utf-8"]}});
    let params = json!({"capabilities": capabilities});
    let options = Script::inserts(&["é()"]).options();
    let (mut client, _) = Client::start_with(options, params).await;
    client.wait_for_model("ready").await;
    client.open("\"🐦\" + ").await;
    client.edit(&at(0, 5), &at(0, 5), "é").await;
    assert_eq!(client.server_text().await, "\"🐦é\" + ");
    let ask = inline_params(URI, &at(0, 11), 1);
    let reply = client.call("textDocument/inlineCompletion", ask).await;
    assert_eq!(reply["result"]["items"][0]["range"]["start"]["character"], 11);
}

#[tokio::test]
async fn a_position_past_the_end_is_the_end() {
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let seen = offsets.clone();
    let answer = move |request: &CompletionRequest, _: &Progress, _: &CancelToken| -> Completion {
        seen.lock().push(request.offset);
        insertions(request, &["x"])
    };
    let mut client = Client::ready(&Script::new(answer)).await;
    client.open("ab\ncd").await;
    for place in [at(0, 99), at(99, 0), at(u32::MAX as u64, u32::MAX as u64)] {
        assert_eq!(client.invoke(&place).await, ["x"]);
    }
    assert_eq!(*offsets.lock(), [2, 5]); // the third is answered from the second's run
}

#[tokio::test]
async fn whole_texts_and_several_changes_are_applied_in_order() {
    let mut client = Client::ready(&Script::inserts(&["x"])).await;
    client.open("one").await;
    client
        .notify(
            "textDocument/didChange",
            json!({
                "textDocument": {"uri": URI, "version": 7},
                "contentChanges": [
                    {"text": "two\nthree"},
                    {"range": {"start": at(1, 0), "end": at(1, 0)}, "text": "and "},
                    {"range": {"start": at(0, 0), "end": at(0, 3)}, "rangeLength": 3, "text": "2"}
                ]
            }),
        )
        .await;
    assert_eq!(client.server_text().await, "2\nand three");
}

#[tokio::test]
async fn a_version_that_goes_back_does_not_lose_the_change() {
    let mut client = Client::ready(&Script::inserts(&["x"])).await;
    client.open("a").await;
    for (version, text) in [(9, "b"), (3, "c"), (3, "d")] {
        client.notify("textDocument/didChange", json!({
            "textDocument": {"uri": URI, "version": version}, "contentChanges": [{"text": text}]
        })).await;
        assert_eq!(client.server_text().await, text);
    }
}

#[tokio::test]
async fn closing_frees_the_document_and_ends_its_requests() {
    let script = Script::new(|request, _, cancel| {
        while !cancel.is_cancelled() {
            std::thread::yield_now();
        }
        insertions(request, &["late"])
    });
    let mut client = Client::ready(&script).await;
    let cursor = client.open("a|").await;
    client.open_as("file:///project/other.rs", "rust", "b").await;
    assert_eq!(client.status().await["openDocuments"], 2);
    let ask = client.ask(&cursor).await;
    script.wait_for_calls(1).await;
    client.notify("textDocument/didClose", json!({"textDocument": {"uri": URI}})).await;
    assert!(client.texts(ask).await.is_empty());
    assert_eq!(client.status().await["openDocuments"], 1);
    let gone = client.call("nestling/text", json!({"uri": URI})).await;
    assert_eq!(gone["error"]["code"], -32602);
}

#[tokio::test]
async fn the_completer_sees_the_other_documents_and_the_last_edits() {
    let script = Script::new(|request, _, _| {
        let snapshot = &request.snapshot;
        let others = snapshot.others.iter().map(|other| other.uri.rsplit('/').next().unwrap_or(""));
        let edits = snapshot.recent_edits.iter().map(|edit| edit.line.to_string());
        let text: Vec<String> = others.map(String::from).chain(edits).collect();
        insertions(request, &[&text.join(" ")])
    });
    let mut client = Client::ready(&script).await;
    for name in ["a.rs", "b.py"] {
        client.open_as(&format!("file:///project/{name}"), "", "").await;
    }
    let cursor = client.open("\n\n\n\n\n\n\n|").await;
    client.edit(&at(0, 0), &at(0, 0), "x").await;
    assert_eq!(client.invoke(&cursor).await, ["b.py a.rs 0"]);
}
