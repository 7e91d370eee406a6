//! Answers of the repository and of the embedded model, from the question to the text.

use std::sync::Arc;

use super::*;
use crate::generation::{Generator, Model, ModelSource};
use crate::memory::Memory;
use crate::model::engine::Precision;
use crate::suggest::{CompletionOptions, ModelCompleter};

const STORE: &str = "\"\"\"Keeps what was bought.\"\"\"\n\n\n# Opens the store at a path.\ndef open_store(path, retries):\n    \
                     return Store(path, retries)\n\n\nclass Store:\n    \"\"\"All that is kept.\"\"\"\n\n    def \
                     forget_items(self):\n        # Items of last year are dropped.\n        self.items.clear()\n";
const MAIN: &str =
    "from store import open_store\n\n\ndef main():\n    store = open_store(\"a\", 3)\n";
const KEY: &str = "def secret_store():\n    key = \"-----BEGIN PRIVATE KEY-----\"\n";

struct House {
    folder: tempfile::TempDir,
    completer: ModelCompleter,
    repository: Repository,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("store.py", STORE), ("main.py", MAIN), ("key.py", KEY)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let model = Model::load(&ModelSource::Embedded, Precision::Quantized).unwrap();
    let root = folder.path().canonicalize().unwrap();
    let memory = Memory::open(&root, None, model.tokenizer.clone());
    memory.update(1, &|_| {}, &|| true).unwrap();
    let completer = ModelCompleter::new(Generator::new(model), CompletionOptions::default());
    House { folder, completer, repository: Repository::new(vec![Arc::new(memory)], Vec::new()) }
}

impl House {
    fn ask(&mut self, question: &str, named: &[Named]) -> Reply {
        let found = self.repository.find(question, named);
        let turns = vec![Turn { role: Role::User, content: question.into() }];
        let (mut answer, mut heard) = (Answer::new(turns, found), String::new());
        let cancel = CancelToken::new();
        assert!(answer.go_on(&mut self.completer, &mut |piece| heard += piece, &cancel).unwrap());
        let reply = answer.reply();
        assert_eq!(reply.text, heard);
        reply
    }

    fn named(&self, file: &str, lines: Option<(usize, usize)>) -> Named {
        Named { path: self.folder.path().canonicalize().unwrap().join(file), lines }
    }
}

#[test]
fn without_a_model_that_talks_the_repository_answers_and_nothing_is_made_up() {
    let mut house = house();
    let reply = house.ask("What does `open_store` do?", &[]);
    let code = "```python\n# Opens the store at a path.\ndef open_store(path, retries):\n";
    assert!(
        reply.text.starts_with(&format!("`open_store` is a function in `store.py:4-6`:\n\n{code}")),
        "{}",
        reply.text
    );
    assert!(reply.text.contains("It is named in `main.py:1, 5`."), "{}", reply.text);
    assert_eq!(reply.notice.as_deref(), Some(PLAIN));
    assert_eq!((reply.sources[0].place(), reply.sources[0].lines), ("store.py:4-6".into(), (4, 6)));
    // Words lead to the lines that speak of them, and to types.
    let reply = house.ask("when are items of last year dropped?", &[]);
    assert!(reply.text.contains("Items of last year are dropped."), "{}", reply.text);
    let reply = house.ask("What is written in store.py?", &[]);
    assert!(
        reply
            .text
            .starts_with("`store.py` has 14 lines and says of itself:\n\n> Keeps what was bought."),
        "{}",
        reply.text
    );
    assert!(
        reply
            .text
            .contains("- line 5: `def open_store(path, retries):` — Opens the store at a path."),
        "{}",
        reply.text
    );
    let reply = house.ask("quantum chromodynamics?", &[]);
    assert!(reply.text.starts_with("Nothing in the repository answers"), "{}", reply.text);
}

#[test]
fn code_of_a_question_goes_on() {
    let mut house = house();
    let reply =
        house.ask("Go on:\n```python\nfor index in range(len(items)):\n    print(items[\n", &[]);
    let block = blocks(&reply.text).pop().unwrap();
    assert!(block.code.starts_with("    print(items[") && block.code.len() > 17, "{}", reply.text);
}

#[test]
fn secrets_are_no_sources() {
    let mut house = house();
    let named = house.named("key.py", None);
    let reply = house.ask("what is `secret_store`?", &[named]);
    assert!(!reply.text.contains("PRIVATE") && reply.sources.is_empty(), "{reply:?}");
    assert!(reply.notice.unwrap().contains("key.py is left out"));
    let reply = house.ask("these lines?", &[house.named("key.py", Some((1, 1)))]);
    assert_eq!(reply.sources[0].text, "def secret_store():");
}

#[test]
fn what_a_question_mentions_is_sought_in_the_repository_alone() {
    let mut house = house();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("private.py");
    std::fs::write(&file, "def of_nobody():\n    pass\n").unwrap();
    let above = format!("../{}/private.py", elsewhere.path().file_name().unwrap().display());
    for path in [file.to_str().unwrap(), &above] {
        let reply = house.ask(&format!("What is in {path}?"), &[]);
        assert!(reply.sources.is_empty() && !reply.text.contains("of_nobody"), "{reply:?}");
    }
    let named = Named { path: file, lines: None };
    assert_eq!(house.ask("What is that?", &[named]).sources.len(), 1);
}

#[test]
fn names_files_and_places_are_explained() {
    let house = house();
    let told = explain(&house.repository, "store.py:13").unwrap();
    assert!(told.starts_with("`forget_items` is a function in `store.py:12-14`"), "{told}");
    assert_eq!(
        explain(&house.repository, "open_store").unwrap(),
        explain(&house.repository, "store.py:5").unwrap()
    );
    assert!(explain(&house.repository, "store.py").unwrap().contains("It defines:"));
    assert!(
        explain(&house.repository, "nothing_there")
            .unwrap_err()
            .contains("neither a file nor a name")
    );
    assert!(explain(&house.repository, "store.py:99").unwrap_err().contains("no line 99"));
}

#[test]
fn a_model_with_a_template_talks_and_can_be_left_in_between() {
    let mut house = house();
    let found = crate::model::chat_template::ChatTemplate {
        place: "m".into(),
        source:
            "{% for m in messages %}<|file|>{{ m.role }}\n{{ m.content }}{% endfor %}<|prefix|>"
                .into(),
        ..Default::default()
    };
    let with = |found: Result<Option<crate::model::chat_template::ChatTemplate>, String>| {
        let mut model = Model::load(&ModelSource::Embedded, Precision::Quantized).unwrap();
        model.chat_template = found;
        ModelCompleter::new(Generator::new(model), CompletionOptions::default())
    };
    house.completer = with(Ok(Some(found.clone())));
    let question = "def open_store(path";
    let whole = house.ask(question, &[]);
    assert!(!whole.text.is_empty() && whole.text.len() < 20_000, "{whole:?}");
    // Cancelled after each piece, it comes to the same.
    let turns = vec![Turn { role: Role::User, content: question.into() }];
    let mut answer = Answer::new(turns.clone(), house.repository.find(question, &[]));
    let (mut heard, mut visits) = (String::new(), 0);
    loop {
        visits += 1;
        let cancel = CancelToken::new();
        let mut hear = |piece: &str| {
            heard += piece;
            if visits < 4 {
                cancel.cancel();
            }
        };
        if answer.go_on(&mut house.completer, &mut hear, &cancel).unwrap() {
            break;
        }
    }
    assert!(visits == 4 && heard == answer.reply().text, "{visits}");
    assert_eq!(heard[..40], whole.text[..40]);
    house.completer = with(Ok(Some(crate::model::chat_template::ChatTemplate {
        source: "{% if".into(),
        ..found
    })));
    let mut answer = Answer::new(turns, Found::default());
    let told = answer.go_on(&mut house.completer, &mut |_| {}, &CancelToken::new()).unwrap_err();
    assert!(told.starts_with("m: the chat template is not understood in line 1"), "{told}");
}

#[test]
fn what_goes_round_is_seen() {
    assert!(goes_round(&"return self.items.pop()\n".repeat(6)));
    assert!(!goes_round("- a\n- b\n- c\n- d\n"));
    assert!(!goes_round(&" ".repeat(500)));
    assert_eq!(without_thoughts("<think>\nhm\n</think>\n\nYes."), "Yes.");
}
