//! The model's life as the client sees it: loading, failing, panicking, and the settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::client::{Client, URI};
use super::script::{Gate, Script, insertions, options};

#[tokio::test]
async fn while_the_model_loads_the_fallback_answers_or_the_silence_is_honest() {
    let gate = Gate::default();
    let door = gate.clone();
    let mut client = Client::start(options(move || {
        door.wait();
        Ok(Box::new(Script::inserts(&["model"])))
    }))
    .await;
    let at = client.open("F|").await;
    assert_eq!(client.status().await["model"]["state"], "loading");
    assert_eq!(client.invoke(&at).await, ["allback"]);
    let at = client.type_text(&at, "x").await;
    assert!(client.invoke(&at).await.is_empty());
    let silence = client.status().await["lastSilence"].clone();
    assert_eq!(silence["reason"], "the model is still loading");
    assert_eq!(silence["uri"], URI);
    gate.open();
    client.wait_for_model("ready").await;
    assert_eq!(client.invoke(&at).await, ["model"]);
}

#[tokio::test]
async fn loading_shows_progress_to_clients_that_can() {
    let gate = Gate::default();
    let door = gate.clone();
    let options = options(move || {
        door.wait();
        Ok(Box::new(Script::inserts(&["model"])))
    });
    let params = json!({"capabilities": {"window": {"workDoneProgress": true}}});
    let (mut client, _) = Client::start_with(options, params).await;
    let create = client.server_sends("window/workDoneProgress/create").await;
    client.send(json!({"jsonrpc": "2.0", "id": create["id"], "result": null})).await;
    let begin = client.server_sends("$/progress").await;
    assert_eq!(begin["params"]["token"], create["params"]["token"]);
    assert_eq!(begin["params"]["value"]["kind"], "begin");
    gate.open();
    assert_eq!(client.server_sends("$/progress").await["params"]["value"]["kind"], "end");
}

#[tokio::test]
async fn a_client_that_never_answers_the_progress_request_is_served() {
    let params = json!({"capabilities": {"window": {"workDoneProgress": true}}});
    let options = Script::inserts(&["x"]).options();
    let (mut client, _) = Client::start_with(options, params).await;
    client.wait_for_model("ready").await;
    let at = client.open("|").await;
    assert_eq!(client.invoke(&at).await, ["x"]);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_named_with_its_reason() {
    let mut client = Client::start(options(|| anyhow::bail!("no.gguf: no such file"))).await;
    let message = client.server_sends("window/showMessage").await;
    assert!(message["params"]["message"].as_str().is_some_and(|text| text.contains("no.gguf")));
    let at = client.open("F|").await;
    assert_eq!(client.invoke(&at).await, ["allback"]);
    let model = &client.status().await["model"];
    assert_eq!(*model, json!({"state": "failed", "reason": "no.gguf: no such file"}));
}

#[tokio::test]
async fn a_panic_is_answered_with_nothing_and_the_engine_comes_back() {
    let builds = Arc::new(AtomicUsize::new(0));
    let counter = builds.clone();
    let gate = Gate::default();
    let door = gate.clone();
    let script = Script::new(|request, _, _| {
        let text = request.snapshot.document.text.as_str();
        assert!(!text.contains("panic"), "a scripted panic");
        insertions(request, &["fine"])
    });
    let mut client = Client::start(options(move || {
        if counter.fetch_add(1, Ordering::SeqCst) > 0 {
            door.wait();
        }
        Ok(Box::new(script.clone()))
    }))
    .await;
    client.wait_for_model("ready").await;
    let at = client.open("panic|").await;
    assert!(client.invoke(&at).await.is_empty());
    let status = client.status().await;
    assert_eq!(status["lastSilence"]["kind"], "EngineFailed");
    assert_eq!(status["model"]["state"], "restarting");
    assert!(status["model"]["reason"].as_str().is_some_and(|text| text.contains("scripted")));
    gate.open();
    client.wait_for_model("ready").await;
    let at = client.open("calm|").await;
    assert_eq!(client.invoke(&at).await, ["fine"]);
    assert_eq!(builds.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn switched_off_means_no_model_and_no_suggestions() {
    let script = Script::inserts(&["x"]);
    let params = json!({"capabilities": {}, "initializationOptions": {"enable": false}});
    let (mut client, _) = Client::start_with(script.options(), params).await;
    let at = client.open("F|").await;
    assert!(client.invoke(&at).await.is_empty());
    let status = client.status().await;
    assert_eq!(status["model"]["state"], "unused");
    assert_eq!(status["lastSilence"]["kind"], "Disabled");
    let settings = json!({"settings": {"nestling": {"enable": true}}});
    client.notify("workspace/didChangeConfiguration", settings).await;
    client.wait_for_model("ready").await;
    assert_eq!(client.invoke(&at).await, ["x"]);
}

#[tokio::test]
async fn one_language_can_be_switched_off() {
    let mut client = Client::ready(&Script::inserts(&["x"])).await;
    let settings = json!({"settings": {"nestling": {"languages": {"python": false}}}});
    client.notify("workspace/didChangeConfiguration", settings).await;
    let at = client.open_as(URI, "python", "|").await;
    assert!(client.invoke(&at).await.is_empty());
    let at = client.open_as(URI, "rust", "|").await;
    assert_eq!(client.invoke(&at).await, ["x"]);
}

#[tokio::test]
async fn settings_that_are_not_understood_are_reported() {
    let mut client = Client::ready(&Script::inserts(&["x"])).await;
    let settings = json!({"settings": {"nestling": {"enabel": true, "maxItems": 99}}});
    client.notify("workspace/didChangeConfiguration", settings).await;
    for expected in ["nestling.enabel is not a setting", "nestling.maxItems must be"] {
        let log = client.server_sends("window/logMessage").await;
        let text = log["params"]["message"].as_str().expect("a text").to_string();
        assert!(text.contains(expected), "{text}");
    }
    let at = client.open("|").await;
    assert_eq!(client.invoke(&at).await, ["x"]);
}

#[tokio::test]
async fn settings_are_fetched_from_clients_that_only_say_that_they_changed() {
    let capabilities = json!({"workspace": {"configuration": true}});
    let params = json!({"capabilities": capabilities});
    let (mut client, _) = Client::start_with(Script::inserts(&["x"]).options(), params).await;
    client.notify("workspace/didChangeConfiguration", json!({"settings": null})).await;
    let pull = client.server_sends("workspace/configuration").await;
    assert_eq!(pull["params"]["items"][0]["section"], "nestling");
    let settings = json!([{"enable": false}]);
    client.send(json!({"jsonrpc": "2.0", "id": pull["id"], "result": settings})).await;
    while client.status().await["enabled"] == true {}
}

#[tokio::test]
async fn the_status_counts_what_happened() {
    let mut client = Client::ready(&Script::inserts(&["x"])).await;
    let at = client.open("|").await;
    let ask = client.ask(&at).await;
    let reply = client.response(ask).await;
    let command = &reply["result"]["items"][0]["command"];
    let execute = json!({"command": command["command"], "arguments": command["arguments"]});
    client.call("workspace/executeCommand", execute).await;
    let execute = json!({"command": "nestling.status"});
    let status = client.call("workspace/executeCommand", execute).await["result"].clone();
    let counts = json!({
        "requests": 1, "answered": 1, "cancelled": 0, "shown": 1, "accepted": 1
    });
    assert_eq!(status["counts"], counts);
    assert!(status["latencyMs"]["p95"].as_f64().is_some_and(|ms| ms > 0.0));
    assert!(!client.has_received(|message| message["method"] == "nestling/statusChanged"));
}

#[tokio::test]
async fn status_changes_are_sent_to_clients_that_want_them() {
    let options = json!({"statusNotifications": true});
    let params = json!({"capabilities": {}, "initializationOptions": options});
    let (mut client, _) = Client::start_with(Script::inserts(&["x"]).options(), params).await;
    let is_ready = |message: &Value| {
        message["method"] == "nestling/statusChanged"
            && message["params"]["model"]["state"] == "ready"
    };
    client.wait_for(is_ready).await;
}
