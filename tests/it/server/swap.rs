//! Another model takes over while the server runs: between two requests, without losing one, and only if it works.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nestling::generation::CancelToken;
use nestling::server::ServeOptions;
use nestling::store::{Installed, Store, Workspace};
use nestling::suggest::{Completer, Completion, CompletionRequest, Progress};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::client::{Client, URI, inline_params, texts};
use super::script::{Gate, insertions, options};

/// A model that inserts its own name.
struct Named {
    name: String,
    work: Duration,
}

impl Completer for Named {
    fn complete(
        &mut self,
        request: &CompletionRequest,
        _progress: &Progress,
        _cancel: &CancelToken,
    ) -> Completion {
        std::thread::sleep(self.work);
        assert_ne!(self.name, "mad", "a model that always panics");
        assert!(!request.snapshot.document.text.as_str().contains("panic"), "a scripted panic");
        insertions(request, &[&self.name])
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A workspace with models `one`, `two`, `broken` and `mad`, and a server for it. Loading `two` waits for `gate`.
struct House {
    folder: TempDir,
    workspace: Workspace,
    gate: Gate,
    work: Duration,
}

impl House {
    fn new() -> House {
        let folder = tempdir().expect("a folder");
        let store = Store::at(folder.path().join("data"));
        std::fs::create_dir(folder.path().join("work")).expect("a folder");
        let workspace = store.workspace(&folder.path().join("work"));
        for name in ["one", "two", "broken", "mad"] {
            let fill = |folder: &Path| Ok(std::fs::write(folder.join("model.gguf"), name)?);
            workspace.install(name, fill).expect("a model");
        }
        House { folder, workspace, gate: Gate::default(), work: Duration::ZERO }
    }

    fn options(&self) -> ServeOptions {
        let (gate, work) = (self.gate.clone(), self.work);
        let factory = move |model: Option<&Installed>| -> anyhow::Result<Box<dyn Completer>> {
            let name = model.map_or("default", |model| &model.name).to_string();
            match name.as_str() {
                "broken" => anyhow::bail!("the weights are cut off"),
                "two" => gate.wait(),
                _ => {}
            }
            Ok(Box::new(Named { name, work }))
        };
        let store = Some(Store::at(self.folder.path().join("data")));
        let others = options(|| anyhow::bail!("not used"));
        ServeOptions { factory: Arc::new(factory), store, model: None, ..others }
    }

    async fn client(&self) -> Client {
        let params = json!({
            "capabilities": {"textDocument": {"inlineCompletion": {}}},
            "rootUri": format!("file://{}", self.folder.path().join("work").display()),
        });
        let (mut client, _) = Client::start_with(self.options(), params).await;
        client.wait_for_model("ready").await;
        client
    }
}

async fn use_model(client: &mut Client, name: &str) -> Value {
    let params = json!({"command": "nestling.useModel", "arguments": [name]});
    client.call("workspace/executeCommand", params).await
}

/// Waits for a message to the user with these words.
async fn shown(client: &mut Client, kind: u32, words: &[&str]) {
    let message = client.server_sends("window/showMessage").await["params"].clone();
    let text = message["message"].as_str().unwrap_or_default();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    assert_eq!(message["type"], kind, "{text}");
}

#[tokio::test]
async fn the_chosen_model_answers_from_the_start_and_another_one_after_a_swap() {
    let house = House::new();
    house.workspace.set_in_use(Some("one")).expect("a choice");
    let mut client = house.client().await;
    let model = client.status().await["model"].clone();
    assert_eq!((&model["state"], &model["name"]), (&"ready".into(), &"one".into()));
    assert!(model["since"].as_u64().is_some_and(|since| since > 1_700_000_000), "{model}");
    let at = client.open("|").await;
    assert_eq!(client.invoke(&at).await, ["one"]);
    // By whoever changes the file, as the command line does.
    house.gate.open();
    house.workspace.set_in_use(Some("two")).expect("a choice");
    shown(&mut client, 3, &["two is in use"]).await;
    assert_eq!(client.status().await["model"]["name"], "two");
    assert_eq!(client.invoke(&at).await, ["two"], "the old answer does not come again");
    // By the editor.
    assert_eq!(use_model(&mut client, "default").await["result"]["model"], "default");
    shown(&mut client, 3, &["default is in use"]).await;
    assert_eq!(client.invoke(&at).await, ["default"]);
    assert_eq!(house.workspace.use_text(), None);
}

#[tokio::test]
async fn the_old_model_answers_until_the_new_one_is_ready() {
    let house = House::new();
    let mut client = house.client().await;
    let at = client.open("|").await;
    use_model(&mut client, "two").await;
    let end = Instant::now() + Duration::from_millis(1500);
    let mut at = at;
    while Instant::now() < end {
        assert_eq!(client.invoke(&at).await, ["default"]);
        at = client.type_text(&at, "x").await;
        assert_eq!(client.status().await["model"]["name"], "default");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.gate.open();
    shown(&mut client, 3, &["two is in use"]).await;
    assert_eq!(client.invoke(&at).await, ["two"]);
}

#[tokio::test]
async fn each_request_in_flight_is_answered_once_across_swaps() {
    const DOCUMENTS: usize = 12;
    let mut house = House::new();
    house.work = Duration::from_millis(3);
    house.gate.open();
    let mut client = house.client().await;
    let uri = |document: usize| format!("file:///project/{document}.rs");
    let mut at = Value::Null;
    for document in 0..DOCUMENTS {
        at = client.open_as(&uri(document), "rust", "|").await;
    }
    let mut ids = Vec::new();
    for round in 0..60 {
        if round % 6 == 0 {
            let name = ["one", "two", "default", "broken"][round / 6 % 4];
            let params = json!({"command": "nestling.useModel", "arguments": [name]});
            ids.push(client.request("workspace/executeCommand", params).await);
        }
        for document in 0..DOCUMENTS {
            let params = inline_params(&uri(document), &at, 1);
            ids.push(client.request("textDocument/inlineCompletion", params).await);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let mut answers: BTreeMap<i64, usize> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    while answers.len() < ids.len() {
        let message = client.read().await.expect("the connection is open");
        let Some(id) = message["id"].as_i64().filter(|_| message.get("method").is_none()) else {
            continue;
        };
        *answers.entry(id).or_default() += 1;
        if message["result"]["items"].is_array() {
            texts(&message).into_iter().for_each(|name| *names.entry(name).or_default() += 1);
        }
    }
    let counts = loop {
        let status = client.status().await;
        assert_ne!(status["model"]["state"], "failed");
        if status["counts"]["answered"].as_u64() == status["counts"]["requests"].as_u64() {
            break status["counts"].clone();
        }
    };
    assert!(ids.iter().all(|id| answers[id] == 1), "{answers:?}");
    assert_eq!(counts["requests"].as_u64(), Some(60 * DOCUMENTS as u64));
    assert!(!client.has_received(|m| m["id"].is_i64() && m.get("method").is_none()), "a second");
    assert!(!names.contains_key("broken") && names.len() > 1, "{names:?}");
}

#[tokio::test]
async fn a_model_that_does_not_work_leaves_the_old_one() {
    let house = House::new();
    house.workspace.set_in_use(Some("one")).expect("a choice");
    let mut client = house.client().await;
    let at = client.open("|").await;
    use_model(&mut client, "broken").await;
    shown(&mut client, 2, &["broken", "the weights are cut off", "one is in use"]).await;
    assert_eq!(client.status().await["model"]["name"], "one");
    assert_eq!(client.invoke(&at).await, ["one"]);
    // One that goes while it is chosen.
    let noted = house.workspace.use_text().expect("a note").replace("broken", "gone");
    std::fs::write(house.workspace.folder().join("use.json"), noted).expect("a note");
    shown(&mut client, 2, &["gone", "there are: default", "one is in use"]).await;
    assert_eq!(client.invoke(&at).await, ["one"]);
    let error = use_model(&mut client, "nobody").await["error"].clone();
    let text = error["message"].as_str().unwrap_or_default();
    assert!(text.contains("nobody") && text.contains("mad, one, two"), "{error}");
}

#[tokio::test]
async fn a_start_with_a_broken_model_is_one_with_the_default() {
    let house = House::new();
    house.workspace.set_in_use(Some("broken")).expect("a choice");
    let mut client = house.client().await;
    shown(&mut client, 2, &["broken", "the weights are cut off", "default is in use"]).await;
    let at = client.open("|").await;
    assert_eq!(client.invoke(&at).await, ["default"]);
    assert_eq!(client.status().await["model"]["name"], "default");
}

#[tokio::test]
async fn a_panic_brings_the_model_back_that_was_in_use() {
    let house = House::new();
    let mut client = house.client().await;
    use_model(&mut client, "one").await;
    shown(&mut client, 3, &["one is in use"]).await;
    let at = client.open("panic|").await;
    assert!(client.invoke(&at).await.is_empty());
    client.notify("textDocument/didClose", json!({"textDocument": {"uri": URI}})).await;
    client.wait_for_model("ready").await;
    let at = client.open("calm|").await;
    assert_eq!(client.invoke(&at).await, ["one"]);
}

#[tokio::test]
async fn a_server_with_a_given_model_follows_nobody_but_tells_that_the_user_types() {
    let house = House::new();
    house.workspace.set_in_use(Some("one")).expect("a choice");
    let mut client = {
        let options = ServeOptions { model: Some("given".into()), ..house.options() };
        let root = format!("file://{}", house.folder.path().join("work").display());
        let params = json!({"capabilities": {}, "rootUri": root});
        Client::start_with(options, params).await.0
    };
    client.wait_for_model("ready").await;
    assert_eq!(client.status().await["model"]["name"], "default");
    let error = use_model(&mut client, "one").await["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("--model")), "{error}");
    let minute = Duration::from_secs(60);
    let at = client.open("|").await;
    assert!(!house.workspace.is_typing(minute), "opening is not typing");
    client.type_text(&at, "x").await;
    let end = Instant::now() + Duration::from_secs(8);
    while !house.workspace.is_typing(minute) {
        assert!(Instant::now() < end, "nobody tells");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_model_that_only_panics_gives_way_to_the_default() {
    let house = House::new();
    let mut client = house.client().await;
    use_model(&mut client, "mad").await;
    shown(&mut client, 3, &["mad is in use"]).await;
    let mut at = client.open("|").await;
    while client.status().await["model"]["name"] != "default" {
        client.invoke(&at).await;
        at = client.type_text(&at, "x").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shown(&mut client, 2, &["mad cannot be used, default is in use", "always panics"]).await;
    assert_eq!(client.invoke(&at).await, ["default"]);
}
