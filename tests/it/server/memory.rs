//! The workspace's memory behind the protocol: read in the background, followed through saves and other
//! changes, and known to the next request.

use std::path::Path;
use std::time::Duration;

use nestling::generation::{Generator, Model, ModelSource};
use nestling::model::engine::Precision;
use nestling::server::ServeOptions;
use nestling::suggest::{CompletionOptions, ModelCompleter};
use serde_json::{Value, json};

use super::client::{Client, inline_params, texts};
use super::script::options;

fn with_model(store: &Path) -> ServeOptions {
    let store = store.to_path_buf();
    options(move || {
        let model = Model::load(&ModelSource::Embedded, Precision::Quantized)?;
        let options =
            CompletionOptions { store: Some(store.clone()), ..CompletionOptions::default() };
        Ok(Box::new(ModelCompleter::new(Generator::new(model), options)))
    })
}

async fn wait_for_files(client: &mut Client, files: u64) {
    loop {
        let index = client.status().await["index"].clone();
        if index["state"] == "ready" && index["files"] == files {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is suggested at the end of a document's second line.
async fn invoke(client: &mut Client, uri: &str, line: &str) -> Option<String> {
    let place = json!({"line": 1, "character": line.len()});
    let params = inline_params(uri, &place, 1);
    texts(&client.call("textDocument/inlineCompletion", params).await).into_iter().next()
}

#[tokio::test]
async fn the_workspace_is_known_and_followed() {
    let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let unusual =
        |name: &str| format!("fn {name}() {{\n    wombat_counter.advance({name}, 42);\n}}\n");
    std::fs::write(work.path().join("known.rs"), unusual("burrow").repeat(12)).unwrap();
    let root = format!("file://{}", work.path().display());
    let params = json!({
        "capabilities": {"textDocument": {"inlineCompletion": {}}},
        "workspaceFolders": [{"uri": root, "name": "work"}],
    });
    let (mut client, _) = Client::start_with(with_model(store.path()), params).await;
    wait_for_files(&mut client, 1).await;
    let uri = format!("{root}/open.rs");
    let line = "    wombat_coun";
    client.open_as(&uri, "rust", &format!("fn open() {{\n{line}\n}}\n")).await;
    let answer = invoke(&mut client, &uri, line).await.unwrap_or_default();
    assert_eq!(answer, "ter.advance(burrow, 42);");

    client.notify("textDocument/didClose", json!({"textDocument": {"uri": uri}})).await;

    // A file that another program wrote is known once the client tells of it.
    std::fs::write(work.path().join("new.rs"), unusual("tunnel").repeat(12)).unwrap();
    std::fs::remove_file(work.path().join("known.rs")).unwrap();
    std::fs::write(work.path().join("third.rs"), "fn third() {}\n").unwrap();
    let change = json!({"changes": [{"uri": format!("{root}/new.rs"), "type": 1}]});
    client.notify("workspace/didChangeWatchedFiles", change).await;
    wait_for_files(&mut client, 2).await;
    let uri = format!("{root}/other.rs");
    client.open_as(&uri, "rust", &format!("fn other() {{\n{line}\n}}\n")).await;
    let answer = invoke(&mut client, &uri, line).await.unwrap_or_default();
    assert_eq!(answer, "ter.advance(tunnel, 42);");
}

#[tokio::test]
async fn a_client_is_asked_to_watch_files_and_a_server_without_a_folder_has_no_index() {
    let work = tempfile::tempdir().unwrap();
    let params = json!({
        "capabilities": {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": true}}},
        "rootUri": format!("file://{}", work.path().display()),
    });
    let script = options(|| anyhow::bail!("not needed"));
    let (mut client, _) = Client::start_with(script, params).await;
    let asked = client.server_sends("client/registerCapability").await;
    let registration = &asked["params"]["registrations"][0];
    assert_eq!(registration["method"], "workspace/didChangeWatchedFiles");
    let mut alone = Client::start(options(|| anyhow::bail!("not needed"))).await;
    assert_eq!(alone.status().await["index"], Value::Null);
}

#[tokio::test]
async fn folders_come_and_go_and_the_memory_can_be_switched_off() {
    let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = |name: &str, word: &str| {
        let path = work.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let text = format!("fn {word}() {{\n    wombat_counter.advance({word}, 42);\n}}\n");
        std::fs::write(path.join("known.rs"), text.repeat(12)).unwrap();
        format!("file://{}", path.display())
    };
    let (first, second) = (folder("first", "burrow"), folder("second", "tunnel"));
    let params = json!({
        "capabilities": {"textDocument": {"inlineCompletion": {}}},
        "workspaceFolders": [{"uri": first, "name": "first"}],
    });
    let (mut client, reply) = Client::start_with(with_model(store.path()), params).await;
    let folders = &reply["capabilities"]["workspace"]["workspaceFolders"];
    assert_eq!(*folders, json!({"supported": true, "changeNotifications": true}));
    wait_for_files(&mut client, 1).await;

    let line = "    wombat_coun";
    let text = format!("fn open() {{\n{line}\n}}\n");
    let change = |added: &[&str], removed: &[&str]| {
        let named = |uris: &[&str]| -> Vec<Value> {
            uris.iter().map(|uri| json!({"uri": uri, "name": "folder"})).collect()
        };
        json!({"event": {"added": named(added), "removed": named(removed)}})
    };
    client.notify("workspace/didChangeWorkspaceFolders", change(&[&second], &[])).await;
    let mut documents = 0;
    let mut answer_in = async |client: &mut Client, folder: &str| {
        documents += 1;
        let uri = format!("{folder}/open{documents}.rs");
        client.open_as(&uri, "rust", &text).await;
        let answer = invoke(client, &uri, line).await.unwrap_or_default();
        client.notify("textDocument/didClose", json!({"textDocument": {"uri": uri}})).await;
        answer
    };
    let (burrow, tunnel) = ("ter.advance(burrow, 42);", "ter.advance(tunnel, 42);");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while answer_in(&mut client, &second).await != tunnel {
        assert!(std::time::Instant::now() < end, "the second folder is not known");
    }
    assert_eq!(answer_in(&mut client, &first).await, burrow);
    // The status tells of both.
    wait_for_files(&mut client, 2).await;

    let settings = json!({"settings": {"nestling": {"memory": false, "retrieval": false}}});
    client.notify("workspace/didChangeConfiguration", settings).await;
    assert_ne!(answer_in(&mut client, &first).await, burrow);
    client
        .notify(
            "workspace/didChangeConfiguration",
            json!({"settings": {"nestling": {"memory": true}}}),
        )
        .await;
    assert_eq!(answer_in(&mut client, &first).await, burrow);

    client.notify("workspace/didChangeWorkspaceFolders", change(&[], &[&second])).await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while answer_in(&mut client, &second).await == tunnel {
        assert!(std::time::Instant::now() < end, "the second folder is still known");
    }
    assert_eq!(answer_in(&mut client, &first).await, burrow);
}
