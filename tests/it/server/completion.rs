//! Requests for ghost text and for the popup: answers, replacements, cancellations, typing along.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, URI, inline_params, texts};
use super::script::{Gate, Script, eventually, insertions};

#[tokio::test]
async fn an_item_has_text_range_filter_and_command() {
    let script = Script::new(|request, _, _| {
        let mut completion = insertions(request, &["name()"]);
        completion.suggestions[0].edit.range = request.offset - 2..request.offset + 1;
        completion
    });
    let mut client = Client::ready(&script).await;
    let at = client.open("\n  🐦na|)").await;
    let reply = client.call("textDocument/inlineCompletion", inline_params(URI, &at, 2)).await;
    let item = &reply["result"]["items"][0];
    assert_eq!(item["insertText"], "name()");
    assert_eq!(item["filterText"], "name()");
    let start = json!({"line": 1, "character": 4});
    assert_eq!(item["range"], json!({"start": start, "end": {"line": 1, "character": 7}}));
    assert_eq!(item["command"]["command"], "nestling.accepted");
    assert!(item["command"]["arguments"][0].is_string());
}

#[tokio::test]
async fn typing_gets_one_suggestion_and_asking_up_to_three() {
    let mut client = Client::ready(&Script::inserts(&["a", "b", "c", "d"])).await;
    let at = client.open("|").await;
    let ask = client.ask(&at).await;
    assert_eq!(client.texts(ask).await, ["a"]);
    assert_eq!(client.invoke(&at).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_edit_that_the_protocol_forbids_is_not_sent() {
    let script = Script::new(|request, _, _| {
        let mut completion = insertions(request, &["a", "b", "c"]);
        completion.suggestions[0].edit.range.start = 0;
        completion.suggestions[2].edit.range = 0..0;
        completion
    });
    let mut client = Client::ready(&script).await;
    let at = client.open("one\ntwo|").await;
    assert_eq!(client.invoke(&at).await, ["b"]);
}

#[tokio::test]
async fn the_selected_popup_item_reaches_the_completer() {
    let script = Script::new(|request, _, _| {
        let selected = request.selected.clone().expect("an item is selected");
        assert_eq!(selected.range, 4..6);
        let mut completion = insertions(request, &[&format!("{}()", selected.new_text)]);
        completion.suggestions[0].edit.range = selected.range;
        completion
    });
    let mut client = Client::ready(&script).await;
    let at = client.open("let na|").await;
    let mut params = inline_params(URI, &at, 2);
    let range = json!({"start": {"line": 0, "character": 4}, "end": at});
    params["context"]["selectedCompletionInfo"] = json!({"range": range, "text": "name"});
    let reply = client.call("textDocument/inlineCompletion", params).await;
    assert_eq!(texts(&reply), ["name()"]);
}

#[tokio::test]
async fn a_newer_request_sends_the_older_home_at_once() {
    let gate = Gate::default();
    let script = Script::generates("abc", 0, &gate);
    let mut client = Client::ready(&script).await;
    let at = client.open("x\n|").await;
    let older = client.ask(&at).await;
    script.wait_for_calls(1).await;
    let newer = client.ask(&json!({"line": 0, "character": 1})).await;
    assert!(client.texts(older).await.is_empty());
    gate.open();
    assert_eq!(client.texts(newer).await, ["abc"]);
    assert_eq!(script.calls(), 2);
}

#[tokio::test]
async fn a_cancelled_request_is_answered_at_once_and_its_run_stops() {
    let script = Script::generates("abc", 2, &Gate::default());
    let mut client = Client::ready(&script).await;
    let at = client.open("|").await;
    let ask = client.ask(&at).await;
    script.wait_for_calls(1).await;
    let start = Instant::now();
    client.notify("$/cancelRequest", json!({"id": ask})).await;
    assert_eq!(client.response(ask).await["error"]["code"], -32800);
    // 20 ms are demanded; the machine that tests may be busy with other things.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    eventually(|| script.was_cancelled()).await;
    let counts = &client.status().await["counts"];
    assert_eq!((&counts["requests"], &counts["cancelled"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn typing_something_else_ends_the_run_and_the_request() {
    let script = Script::generates("abc", 2, &Gate::default());
    let mut client = Client::ready(&script).await;
    let at = client.open("|").await;
    let ask = client.ask(&at).await;
    script.wait_for_calls(1).await;
    client.type_text(&at, "x").await;
    assert!(client.texts(ask).await.is_empty());
    assert!(script.was_cancelled());
    assert_eq!(client.status().await["lastSilence"]["kind"], "Stale");
}

#[tokio::test]
async fn an_edit_elsewhere_ends_the_run() {
    let script = Script::generates("abc", 2, &Gate::default());
    let mut client = Client::ready(&script).await;
    let at = client.open("x\n|").await;
    let ask = client.ask(&at).await;
    script.wait_for_calls(1).await;
    client.type_text(&json!({"line": 0, "character": 0}), "a").await;
    assert!(client.texts(ask).await.is_empty());
    assert!(script.was_cancelled());
}

#[tokio::test]
async fn typing_what_is_generated_keeps_the_run_and_shortens_its_answer() {
    let gate = Gate::default();
    let script = Script::generates("abcd", 2, &gate);
    let mut client = Client::ready(&script).await;
    let at = client.open("|").await;
    let ask = client.ask(&at).await;
    script.wait_for_calls(1).await;
    // Two characters are generated; the third is typed ahead of the model, and one is taken back.
    let at = client.type_text(&at, "a").await;
    client.type_text(&at, "bcx").await;
    client.edit(&json!({"line": 0, "character": 3}), &json!({"line": 0, "character": 4}), "").await;
    client.server_text().await;
    gate.open();
    let texts = client.texts(ask).await;
    // "abcx" disagreed with "ab"? No: nobody knew yet. In the end "abc" agrees with "abcd".
    assert_eq!(texts, ["d"]);
    assert!(!script.was_cancelled());
}

#[tokio::test]
async fn a_request_joins_the_run_that_generates_what_was_typed() {
    let gate = Gate::default();
    let script = Script::generates("abcd", 3, &gate);
    let mut client = Client::ready(&script).await;
    let at = client.open("|").await;
    let older = client.ask(&at).await;
    script.wait_for_calls(1).await;
    // As an editor does it: withdraw, tell the change, ask again.
    client.notify("$/cancelRequest", json!({"id": older})).await;
    let at = client.type_text(&at, "ab").await;
    let newer = client.ask(&at).await;
    assert_eq!(client.response(older).await["error"]["code"], -32800);
    client.server_text().await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    gate.open();
    assert_eq!(client.texts(newer).await, ["cd"]);
    assert_eq!(script.calls(), 1);
}

#[tokio::test]
async fn typing_into_an_answer_is_answered_without_the_model() {
    let script = Script::inserts(&["abcd"]);
    let mut client = Client::ready(&script).await;
    let mut at = client.open("|").await;
    let ask = client.ask(&at).await;
    assert_eq!(client.texts(ask).await, ["abcd"]);
    for rest in ["bcd", "cd", "d"] {
        let key = ["a", "b", "c"][3 - rest.len()];
        at = client.type_text(&at, key).await;
        let ask = client.ask(&at).await;
        assert_eq!(client.texts(ask).await, [rest]);
    }
    assert_eq!(script.calls(), 1);
    at = client.type_text(&at, "x").await;
    let ask = client.ask(&at).await;
    assert_eq!(client.texts(ask).await, ["abcd"]);
    assert_eq!(script.calls(), 2);
}

#[tokio::test]
async fn a_request_that_is_replaced_during_the_debounce_costs_nothing() {
    let script = Script::inserts(&["a"]);
    let options = json!({"nestling": {"debounce": 1500}});
    let params = json!({"capabilities": {}, "initializationOptions": options});
    let (mut client, _) = Client::start_with(script.options(), params).await;
    client.wait_for_model("ready").await;
    let at = client.open("|").await;
    let first = client.ask(&at).await;
    let at = client.type_text(&at, "x").await;
    let second = client.ask(&at).await;
    let at = client.type_text(&at, "y").await;
    let start = Instant::now();
    let third = client.ask(&at).await;
    assert!(client.texts(first).await.is_empty() && client.texts(second).await.is_empty());
    assert_eq!(client.texts(third).await, ["a"]);
    assert!(start.elapsed() >= Duration::from_millis(1490));
    assert_eq!(script.calls(), 1);
    // The key that asks does not wait.
    let start = Instant::now();
    assert_eq!(client.invoke(&at).await, ["a"]);
    assert!(start.elapsed() < Duration::from_millis(1000));
}

#[tokio::test]
async fn the_popup_gets_the_same_suggestion() {
    let script = Script::inserts(&["me.len();\n    more"]);
    let params = json!({"capabilities": {}});
    let (mut client, _) = Client::start_with(script.options(), params).await;
    client.wait_for_model("ready").await;
    let at = client.open("let x = na|").await;
    let params = json!({"textDocument": {"uri": URI}, "position": at});
    let reply = client.call("textDocument/completion", params).await;
    assert_eq!(reply["result"]["isIncomplete"], true);
    let item = &reply["result"]["items"][0];
    // Popups compare, and some replace, the whole word.
    assert_eq!(item["label"], "name.len();");
    assert_eq!(item["textEdit"]["newText"], "name.len();\n    more");
    let start = json!({"line": 0, "character": 8});
    assert_eq!(item["textEdit"]["range"], json!({"start": start, "end": at}));
    assert_eq!(item["filterText"], "name.len();");
    assert_eq!(item["preselect"], false);
}

#[tokio::test]
async fn documents_do_not_disturb_each_other() {
    let mut client = Client::ready(&Script::inserts(&["a"])).await;
    let mut asks = Vec::new();
    for n in 0..50 {
        let uri = format!("file:///project/{n}.rs");
        let at: Value = client.open_as(&uri, "rust", "|").await;
        let params = inline_params(&uri, &at, 2);
        asks.push(client.request("textDocument/inlineCompletion", params).await);
    }
    for ask in asks {
        assert_eq!(client.texts(ask).await, ["a"]);
    }
}
