//! Rewrites in the menu: offered where their conditions hold, worked out when chosen, proven on request.

use serde_json::{Value, json};

use super::client::Client;
use super::script::Script;

const TEXT: &str = "def kept(xs: list[int], ys: list[int]):\n    known = sorted(xs)\n    out = []\n    for y in ys:\n        \
                    if y in known:\n            out.append(y)\n    return out\n";
const PLACE: (u32, u32) = (4, 12);

async fn start(options: Value) -> Client {
    let edits = json!({ "documentChanges": true, "changeAnnotationSupport": {} });
    let resolves = json!({ "codeAction": { "resolveSupport": { "properties": ["edit"] } } });
    let capabilities = json!({
        "workspace": { "workspaceEdit": edits }, "window": {}, "textDocument": resolves
    });
    let params = json!({ "capabilities": capabilities, "initializationOptions": options });
    let (mut client, reply) = Client::start_with(Script::inserts(&["x"]).options(), params).await;
    let kinds = reply["capabilities"]["codeActionProvider"]["codeActionKinds"].to_string();
    assert!(kinds.contains("refactor.rewrite"), "{kinds}");
    client.wait_for_model("ready").await;
    client
}

/// A file of Python with a rewrite in it, and the entries of the menu there; waits for the parser.
async fn menu(client: &mut Client, folder: &tempfile::TempDir) -> (String, Vec<Value>) {
    let path = folder.path().join("kept.py");
    std::fs::write(&path, TEXT).expect("a file");
    let uri = format!("file://{}", path.display());
    client.open_as(&uri, "python", TEXT).await;
    let place = json!({ "line": PLACE.0, "character": PLACE.1 });
    loop {
        let params = json!({
            "textDocument": { "uri": uri },
            "range": { "start": place, "end": place },
            "context": { "diagnostics": [], "only": ["refactor"] },
        });
        let reply = client.call("textDocument/codeAction", params).await;
        let entries = reply["result"].as_array().expect("a list").clone();
        if !entries.is_empty() {
            return (uri, entries);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_rewrite_is_offered_and_worked_out_when_it_is_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut client = start(json!({})).await;
    let (uri, entries) = menu(&mut client, &folder).await;
    assert!(entries.iter().all(|entry| entry["kind"] == "refactor.rewrite"));
    assert_eq!(
        entries[0]["title"],
        "nestling: Look it up in a set made before the loop — precondition holds, parses"
    );
    assert!(entries[0].get("edit").is_none());
    let resolved = client.call("codeAction/resolve", entries[0].clone()).await;
    let change = &resolved["result"]["edit"]["documentChanges"][0];
    assert_eq!(change["edits"][0]["newText"], "    known_2 = set(known)\n", "{resolved}");
    let about = &resolved["result"]["edit"]["changeAnnotations"]["nestling"]["description"];
    assert!(about.as_str().is_some_and(|about| about.contains("finds nothing new")), "{about}");
    // An entry of a text that has changed is refused, not misapplied.
    let start = json!({ "line": 0, "character": 0 });
    let edit = json!({
        "textDocument": { "uri": uri, "version": 2 },
        "contentChanges": [{ "range": { "start": start, "end": start }, "text": "# new\n" }],
    });
    client.notify("textDocument/didChange", edit).await;
    let refused = client.call("codeAction/resolve", entries[0].clone()).await;
    assert_eq!(refused["error"]["code"], -32801, "{refused}");
}

#[tokio::test]
async fn a_rewrite_is_proven_on_request_and_applied_when_the_user_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut client = start(json!({})).await;
    let (_, entries) = menu(&mut client, &folder).await;
    let prove =
        entries.iter().find(|entry| entry.get("command").is_some()).expect("an entry that proves");
    let command = &prove["command"];
    assert_eq!(command["command"], "nestling.prove");
    let params = json!({ "command": command["command"], "arguments": command["arguments"] });
    let id = client.request("workspace/executeCommand", params).await;
    let answer = client.response_in(id, std::time::Duration::from_secs(100)).await;
    let summary = answer["result"]["summary"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(summary.contains("same results on 200 inputs"), "{summary}");
    assert!(
        answer["result"]["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+    known_2 = set(known)"))
    );
    let asked = client.server_sends("window/showMessageRequest").await;
    assert_eq!(asked["params"]["actions"][0]["title"], "Apply");
    client
        .send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "title": "Apply" } }))
        .await;
    let applied = client.server_sends("workspace/applyEdit").await;
    assert_eq!(applied["params"]["edit"]["documentChanges"][0]["textDocument"]["version"], 1);
}

#[tokio::test]
async fn a_client_that_works_no_entry_out_is_offered_none_that_would_do_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let params = json!({ "capabilities": {} });
    let mut client = Client::start_with(Script::inserts(&["x"]).options(), params).await.0;
    let (_, entries) = menu(&mut client, &folder).await;
    let acts = |entry: &Value| entry.get("edit").is_some() || entry.get("command").is_some();
    assert!(entries.iter().all(acts), "{entries:?}");
}

#[tokio::test]
async fn hints_of_slow_code_are_shown_only_if_they_are_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut client = start(json!({ "optimizeHints": true })).await;
    menu(&mut client, &folder).await;
    let hints = client.server_sends("textDocument/publishDiagnostics").await;
    let hints = hints["params"]["diagnostics"].as_array().expect("a list").clone();
    let hint = hints.iter().find(|hint| hint["code"] == "py-set-lookup").expect("the slow line");
    assert_eq!(hint["severity"], 4, "{hints:?}");
}

#[tokio::test]
async fn a_proof_ends_when_its_progress_is_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let capabilities = json!({ "window": { "workDoneProgress": true } });
    let params = json!({ "capabilities": capabilities });
    let mut client = Client::start_with(Script::inserts(&["x"]).options(), params).await.0;
    let (_, entries) = menu(&mut client, &folder).await;
    let prove = entries.iter().find(|entry| entry.get("command").is_some()).expect("it proves");
    let command = &prove["command"];
    let params = json!({ "command": command["command"], "arguments": command["arguments"] });
    let id = client.request("workspace/executeCommand", params).await;
    let is_own = |message: &Value| {
        message["method"] == "window/workDoneProgress/create"
            && message["params"]["token"] == "nestling/prove"
    };
    // Other progress may want a token as well; it can do without.
    let create = client.wait_for(is_own).await;
    client.send(json!({ "jsonrpc": "2.0", "id": create["id"], "result": null })).await;
    let begin = client
        .wait_for(|message| {
            message["method"] == "$/progress" && message["params"]["token"] == "nestling/prove"
        })
        .await;
    assert_eq!(begin["params"]["value"]["cancellable"], true, "{begin}");
    client.notify("window/workDoneProgress/cancel", json!({ "token": "nestling/prove" })).await;
    let start = std::time::Instant::now();
    let answer = client.response_in(id, std::time::Duration::from_secs(60)).await;
    assert_eq!(answer["result"]["cancelled"], true, "{answer}");
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!client.has_received(|message| message["method"] == "window/showMessageRequest"));
}
