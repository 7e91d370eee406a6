//! Documentation comments in the menu: offered on the head of a function without one, written when chosen.

use serde_json::json;

use super::client::Client;
use super::script::Script;

const TEXT: &str = "/** Said. */\nfunction known(a) {\n  return a;\n}\n\nexport function isOpen(door, depth = 1) {\n  return door.open;\n}\n";

#[tokio::test]
async fn a_comment_is_offered_on_the_head_and_written_when_it_is_chosen() {
    let resolves = json!({ "codeAction": { "resolveSupport": { "properties": ["edit"] } } });
    let params = json!({
        "capabilities": { "workspace": { "workspaceEdit": { "documentChanges": true } }, "textDocument": resolves }
    });
    // What the model says is no prose.
    let (mut client, _) = Client::start_with(Script::inserts(&["{ x }"]).options(), params).await;
    client.wait_for_model("ready").await;
    let uri = "untitled:door.js";
    client.open_as(uri, "javascript", TEXT).await;
    let mut menu = async |line: u32| {
        let place = json!({ "line": line, "character": 3 });
        let params = json!({
            "textDocument": { "uri": uri },
            "range": { "start": place, "end": place },
            "context": { "diagnostics": [], "only": ["refactor.rewrite.document"] },
        });
        client.call("textDocument/codeAction", params).await["result"].clone()
    };
    // The parser may not have caught up yet.
    let mut entries = menu(5).await;
    while entries == json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        entries = menu(5).await;
    }
    assert_eq!(entries[0]["title"], "nestling: document `isOpen`", "{entries}");
    assert_eq!(menu(1).await, json!([]), "it has a comment");
    assert_eq!(menu(6).await, json!([]), "the body is no head");
    let resolved = client.call("codeAction/resolve", entries[0].clone()).await;
    let edit = &resolved["result"]["edit"]["documentChanges"][0]["edits"][0];
    assert_eq!(
        edit["newText"],
        "/**\n * Returns whether it is open.\n *\n * @param door The door.\n * @param depth The depth.\n * @returns Whether it is open.\n */\n"
    );
    assert_eq!(edit["range"]["start"], json!({ "line": 5, "character": 0 }));
    let start = json!({ "line": 0, "character": 0 });
    let change = json!({
        "textDocument": { "uri": uri, "version": 2 },
        "contentChanges": [{ "range": { "start": start, "end": start }, "text": "\n" }],
    });
    client.notify("textDocument/didChange", change).await;
    let refused = client.call("codeAction/resolve", entries[0].clone()).await;
    assert_eq!(refused["error"]["code"], -32801, "{refused}");
}
