//! Quick fixes: what is offered where, what it says was proven, and that nothing is misapplied.

use nestling::server::ServeOptions;
use nestling::store::Store;
use serde_json::{Value, json};

use super::client::{Client, URI};
use super::script::Script;

/// A client that takes versions and annotations, with hints.
async fn start() -> Client {
    let (options, folders) = (Script::inserts(&["x"]).options(), json!(null));
    start_in(options, folders).await
}

async fn start_in(options: ServeOptions, folders: Value) -> Client {
    let edits = json!({ "documentChanges": true, "changeAnnotationSupport": {} });
    let resolves = json!({ "codeAction": { "resolveSupport": { "properties": ["edit"] } } });
    let capabilities = json!({ "workspace": { "workspaceEdit": edits }, "textDocument": resolves });
    let params = json!({ "capabilities": capabilities, "workspaceFolders": folders });
    let (mut client, reply) = Client::start_with(options, params).await;
    assert_eq!(reply["capabilities"]["codeActionProvider"]["resolveProvider"], true);
    client.wait_for_model("ready").await;
    client
}

fn at(uri: &str, place: &Value, diagnostics: Value) -> Value {
    json!({
        "textDocument": { "uri": uri },
        "range": { "start": place, "end": place },
        "context": { "diagnostics": diagnostics },
    })
}

async fn menu(client: &mut Client, uri: &str, place: &Value, diagnostics: Value) -> Vec<Value> {
    let reply = client.call("textDocument/codeAction", at(uri, place, diagnostics)).await;
    reply["result"].as_array().unwrap_or_else(|| panic!("no list: {reply}")).clone()
}

/// A menu that has something to offer: on a busy machine the parser may not be done in time for the first.
async fn offered(client: &mut Client, uri: &str, place: &Value, diagnostics: Value) -> Vec<Value> {
    for _ in 0..500 {
        let entries = menu(client, uri, place, diagnostics.clone()).await;
        if !entries.is_empty() {
            return entries;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("nothing is offered");
}

#[tokio::test]
async fn broken_syntax_is_hinted_and_repaired() {
    let mut client = start().await;
    let place = client.open("fn f() {\n    g(1, 2|;\n}\n").await;
    let hints = client.server_sends("textDocument/publishDiagnostics").await;
    assert_eq!(hints["params"]["diagnostics"][0]["source"], "nestling");
    assert_eq!(hints["params"]["diagnostics"][0]["severity"], 4);
    let mut entries = offered(&mut client, URI, &place, json!([])).await;
    // A busy machine may not be done in time for the first menu; it is for the next.
    while entries[0].get("edit").is_none() {
        entries = offered(&mut client, URI, &place, json!([])).await;
    }
    assert_eq!(entries[0]["title"], "nestling: add `)` — parses");
    assert!(entries[0].get("isPreferred").is_none(), "only what was checked is preferred");
    assert!(entries.iter().filter(|e| e["kind"] == "quickfix").count() <= 3);
    let change = &entries[0]["edit"]["documentChanges"][0];
    assert_eq!(change["textDocument"]["version"], 1);
    assert_eq!(change["edits"][0]["newText"], ")");
    assert_eq!(change["edits"][0]["annotationId"], "nestling");
    let start = change["edits"][0]["range"]["start"].clone();
    client.edit(&start, &start, ")").await;
    let gone = client.server_sends("textDocument/publishDiagnostics").await;
    assert_eq!(gone["params"]["diagnostics"], json!([]));
    assert!(menu(&mut client, URI, &place, json!([])).await.is_empty());
}

#[tokio::test]
async fn repairs_of_a_text_that_was_closed_are_forgotten() {
    let mut client = start().await;
    // The fault stands at the same place in both texts, and each is the first revision.
    for (text, is_round) in
        [("fn f() {\n    g(1, 2|;\n}\n", true), ("fn f() {\n    g[1, 2|;\n}\n", false)]
    {
        let place = client.open(text).await;
        let mut entries = offered(&mut client, URI, &place, json!([])).await;
        while entries[0].get("edit").is_none() {
            entries = offered(&mut client, URI, &place, json!([])).await;
        }
        let edit = &entries[0]["edit"]["documentChanges"][0]["edits"][0];
        assert_eq!(edit["newText"] == ")", is_round, "{edit}");
        client.notify("textDocument/didClose", json!({"textDocument": {"uri": URI}})).await;
    }
}

#[tokio::test]
async fn a_repair_is_preferred_once_a_checker_is_content_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("area.py");
    let text = "def area(width, height:\n    return width * height\n";
    std::fs::write(&path, text).expect("a file");
    let uri = format!("file://{}", path.display());
    let mut client = start().await;
    client.open_as(&uri, "python", text).await;
    let place = json!({"line": 0, "character": 3});
    loop {
        let entries = offered(&mut client, &uri, &place, json!([])).await;
        if entries[0]["isPreferred"] == true {
            assert_eq!(entries[0]["title"], "nestling: add `)` — parses, python is content");
            assert!(entries[1..].iter().all(|entry| entry.get("isPreferred").is_none()));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_merely_deletes_is_not_preferred_even_if_a_checker_is_content_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.py");
    let uri = format!("file://{}", path.display());
    let mut client = start().await;
    let place = json!({"line": 0, "character": 0});
    let mut deletions = 0;
    for text in ["x = 1 ?\n", "$x = 1\n", "x = 1 1\n", "import import os\n", "x = = 1\n"] {
        std::fs::write(&path, text).expect("a file");
        client.open_as(&uri, "python", text).await;
        // A checker that is too slow for one text says nothing of it; that is no matter here.
        for _ in 0..250 {
            let entries = offered(&mut client, &uri, &place, json!([])).await;
            let title = entries[0]["title"].as_str().unwrap_or_default();
            if title.ends_with("python is content") {
                let deletes = title.contains("remove ");
                assert_eq!(entries[0].get("isPreferred").is_none(), deletes, "{entries:?}");
                deletions += usize::from(deletes);
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        client.notify("textDocument/didClose", json!({"textDocument": {"uri": uri}})).await;
    }
    assert!(deletions > 0);
}

#[tokio::test]
async fn commands_run_only_in_a_trusted_workspace_and_it_is_said_how_to_trust_it() {
    let (folder, data) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let root = std::fs::canonicalize(folder.path()).expect("a path");
    std::fs::create_dir(root.join("src")).expect("a folder");
    std::fs::write(root.join("Cargo.toml"), "[package]\nname = \"a\"\nversion = \"0.1.0\"\n")
        .expect("a file");
    let text = "pub fn f(count: u8) -> u8 { cuont }\n";
    std::fs::write(root.join("src/lib.rs"), text).expect("a file");
    let uri = format!("file://{}/src/lib.rs", root.display());
    let store = Store::at(data.path());
    let options = ServeOptions { store: Some(store.clone()), ..Script::inserts(&["x"]).options() };
    let folders = json!([{ "uri": format!("file://{}", root.display()), "name": "a" }]);
    let mut client = start_in(options, folders).await;
    let check = "! grep -q cuont src/lib.rs || exit 1";
    let settings = json!({ "settings": { "nestling": { "check": check } } });
    client.notify("workspace/didChangeConfiguration", settings).await;
    client.open_as(&uri, "rust", text).await;
    let start = json!({"line": 0, "character": 28});
    let range = json!({"start": start, "end": {"line": 0, "character": 33}});
    let reported = json!([{
        "range": range, "severity": 1, "source": "rust-analyzer", "code": "E0425",
        "message": "cannot find value `cuont` in this scope",
    }]);
    for is_trusted in [false, true] {
        store.workspace(&root).set_trusted(is_trusted).expect("it is noted");
        let entries = offered(&mut client, &uri, &start, reported.clone()).await;
        let resolved = client.call("codeAction/resolve", entries[0].clone()).await;
        let told = client.server_sends("window/showMessage").await;
        let told = told["params"]["message"].as_str().expect("a message").to_string();
        let proof = if is_trusted { " gone" } else { "(nestling trust)" };
        assert!(told.contains(proof), "{told}");
        assert!(resolved["result"]["edit"].is_object(), "{resolved}");
    }
    assert_eq!(std::fs::read_to_string(root.join("src/lib.rs")).expect("a file"), text);
}

#[tokio::test]
async fn all_of_a_file_is_repaired_at_once_and_not_after_it_changed() {
    let mut client = start().await;
    let place = client.open("fn f() {\n    g(1, 2;|\n}\n\nfn h( {\n    i(;\n}\n").await;
    client.server_sends("textDocument/publishDiagnostics").await;
    let entries = offered(&mut client, URI, &place, json!([])).await;
    let all = entries.iter().find(|e| e["kind"] == "source.fixAll.nestling").expect("fix all");
    let resolved = client.call("codeAction/resolve", all.clone()).await["result"].clone();
    let edit = &resolved["edit"]["documentChanges"][0]["edits"];
    assert_eq!(edit.as_array().map(Vec::len), Some(1), "{resolved}");
    let told = client.server_sends("window/showMessage").await;
    assert_eq!(told["params"]["message"], "nestling: parses");
    client.type_text(&json!({"line": 0, "character": 0}), " ").await;
    let refused = client.call("codeAction/resolve", all.clone()).await;
    assert_eq!(refused["error"]["code"], -32801, "{refused}");
}

#[tokio::test]
async fn what_another_server_reports_is_repaired_and_checked_on_a_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("count.c");
    let text = "int main(void) {\n    int count = 1;\n    return cuont;\n}\n";
    std::fs::write(&path, text).expect("a file");
    let uri = format!("file://{}", path.display());
    let mut client = start().await;
    client.open_as(&uri, "c", text).await;
    let start = json!({"line": 2, "character": 11});
    let range = json!({"start": start, "end": {"line": 2, "character": 16}});
    let reported = json!([{
        "range": range, "severity": 1, "source": "clangd", "code": "undeclared_var_use",
        "message": "Use of undeclared identifier 'cuont'",
    }]);
    let entries = offered(&mut client, &uri, &start, reported.clone()).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["diagnostics"], reported);
    let resolved = client.call("codeAction/resolve", entries[0].clone()).await["result"].clone();
    let edit = &resolved["edit"]["documentChanges"][0]["edits"][0];
    let told = client.server_sends("window/showMessage").await;
    let told = told["params"]["message"].as_str().expect("a message").to_string();
    assert!(told.contains("checks: ") && told.contains(" gone"), "{told}");
    // The smallest edit: the letters that differ.
    assert_eq!(edit["newText"], "ou", "{resolved}");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), text, "the file is untouched");
}

#[tokio::test]
async fn a_report_far_from_broken_syntax_is_repaired_and_one_that_no_checker_finds_is_guessed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("count.py");
    let text = "def f(count):\n    return cuont\n\n\n\n\n\ndef g(:\n    pass\n";
    let uri = format!("file://{}", path.display());
    let mut client = start().await;
    for (text, why) in [
        (text.to_string(), "no new syntax error"),
        (text.replace("g(:", "g():"), "parses; no checker"),
    ] {
        std::fs::write(&path, &text).expect("a file");
        client.open_as(&uri, "python", &text).await;
        let start = json!({"line": 1, "character": 11});
        let range = json!({"start": start, "end": {"line": 1, "character": 16}});
        let reported = json!([{
            "range": range, "severity": 1, "source": "mypy", "message": "Name \"cuont\" is not defined",
        }]);
        let entries = offered(&mut client, &uri, &start, reported).await;
        let mut entries =
            entries.iter().filter(|entry| entry["title"].to_string().contains("seek a"));
        let entry = entries.next_back().expect("an entry").clone();
        let resolved = client.call("codeAction/resolve", entry).await["result"].clone();
        let told = client.server_sends("window/showMessage").await;
        let told = told["params"]["message"].as_str().expect("a message").to_string();
        assert!(told.contains(why), "{told}");
        assert!(resolved["edit"].is_object() && resolved["isPreferred"].is_null(), "{resolved}");
        client.notify("textDocument/didClose", json!({"textDocument": {"uri": uri}})).await;
    }
}

#[tokio::test]
async fn nothing_is_offered_where_nothing_is_wrong_or_where_it_is_switched_off() {
    let mut client = start().await;
    let place = client.open("/// Nothing.\nfn f() {|}\n").await;
    assert!(menu(&mut client, URI, &place, json!([])).await.is_empty());
    let off = json!({ "settings": { "nestling": { "languages": { "rust": false } } } });
    client.notify("workspace/didChangeConfiguration", off).await;
    client.edit(&place, &place, "(").await;
    assert!(menu(&mut client, URI, &place, json!([])).await.is_empty());
    let unknown = at("file:///nowhere.rs", &place, json!([]));
    let refused = client.call("textDocument/codeAction", unknown).await;
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains("not open")));
}
