//! Thousands of random edits, requests and cancellations, the same ones in every run.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use nestling::suggest::{Completion, Silence};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::client::{Client, URI, inline_params, position_after};
use super::script::{Script, insertions};

const STEPS: usize = 10_000;
const SOURCE: &str = "fn main() {\n}\n";

/// A model that needs a moment for each character, and now and then has nothing to say.
fn slow_model() -> Script {
    Script::new(|request, progress, cancel| {
        let text = ["value", "🐦 = 1;", "a\nb"][request.offset % 3];
        for end in text.char_indices().map(|(at, _)| at) {
            if cancel.is_cancelled() {
                return Completion::silent(Silence::Cancelled);
            }
            progress.set(&text[..end]);
            std::thread::sleep(Duration::from_micros(200));
        }
        match request.offset % 7 {
            0 => Completion::silent(Silence::LowConfidence),
            _ => insertions(request, &[text]),
        }
    })
}

/// The client's side of a document.
struct Mirror(String);

impl Mirror {
    fn place(&self, random: &mut StdRng) -> usize {
        self.floor(random.random_range(0..=self.0.len()))
    }

    /// The last place at or before an offset: not inside a character, nor inside a line end.
    fn floor(&self, mut offset: usize) -> usize {
        while !self.0.is_char_boundary(offset) || self.0[..offset].ends_with('\r') {
            offset -= 1;
        }
        offset
    }

    /// Edits at random and returns the change as a client tells it.
    fn edit(&mut self, random: &mut StdRng) -> Value {
        let text =
            ["a", "value", "🐦", "é\n", "\r\n", "{ }", "", "x = 1;"][random.random_range(0..8)];
        let start = self.place(random);
        let deleted = if random.random_bool(0.3) { random.random_range(0..12) } else { 0 };
        let end = self.floor(self.0.len().min(start + deleted)).max(start);
        let range = json!({"start": self.position(start), "end": self.position(end)});
        self.0.replace_range(start..end, text);
        json!({"range": range, "text": text})
    }

    /// In UTF-16.
    fn position(&self, offset: usize) -> Value {
        position_after(&self.0[..offset])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_steps_leave_the_same_text_and_one_answer_each() {
    let mut random = StdRng::seed_from_u64(20);
    let mut client = Client::ready(&slow_model()).await;
    let mut mirror = Mirror(SOURCE.repeat(10));
    client.open(&mirror.0).await;
    let mut asked = Vec::new();
    for step in 0..STEPS {
        match random.random_range(0..10) {
            0..5 => {
                let changes: Vec<Value> =
                    (0..random.random_range(1..3)).map(|_| mirror.edit(&mut random)).collect();
                client.notify("textDocument/didChange", json!({
                    "textDocument": {"uri": URI, "version": step + 2}, "contentChanges": changes
                })).await;
            }
            5..8 => {
                let at = mirror.position(mirror.place(&mut random));
                let params = inline_params(URI, &at, random.random_range(1..3));
                asked.push(client.request("textDocument/inlineCompletion", params).await);
            }
            8 => {
                let recent = asked.len().saturating_sub(random.random_range(1..4));
                let id = asked.get(recent).copied().unwrap_or(1);
                client.notify("$/cancelRequest", json!({"id": id})).await;
            }
            _ => tokio::time::sleep(Duration::from_micros(random.random_range(0..500))).await,
        }
        // Broken code is slow to parse, and its breaks add up.
        if mirror.0.len() > 500 {
            mirror.0 = SOURCE.repeat(10);
            client.notify("textDocument/didChange", json!({
                "textDocument": {"uri": URI, "version": step + 2}, "contentChanges": [{"text": mirror.0}]
            })).await;
        }
    }
    let last = client.request("nestling/text", json!({"uri": URI})).await;
    let answers = collect(&mut client, &asked, last).await;
    assert_eq!(answers[&last]["result"]["text"], mirror.0);

    let counts = client.status().await["counts"].clone();
    let count = |name: &str| counts[name].as_u64().expect("a number");
    assert_eq!(count("requests"), asked.len() as u64);
    assert_eq!(count("answered") + count("cancelled"), count("requests"));
    assert!(count("cancelled") > 0 && count("shown") > 0, "{counts}");
    let errors: HashSet<i64> =
        answers.values().filter_map(|answer| answer["error"]["code"].as_i64()).collect();
    assert_eq!(errors, HashSet::from([-32800]));
}

/// Reads until all requests are answered; panics when one is answered twice.
async fn collect(client: &mut Client, asked: &[i64], last: i64) -> HashMap<i64, Value> {
    let mut open: HashSet<i64> = asked.iter().copied().chain([last]).collect();
    let mut answers = HashMap::new();
    while !open.is_empty() {
        let answer = client.wait_for(|message| message["id"].is_i64()).await;
        let id = answer["id"].as_i64().expect("it is a number");
        assert!(open.remove(&id), "{id} was answered twice, or never asked");
        answers.insert(id, answer);
    }
    answers
}
