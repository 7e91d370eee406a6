//! The models of a workspace, as the user of the program meets them: on the command line, in a running server, and
//! after the program was killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nestling::store::{Choice, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::house::House;
use crate::program::{Run, listing, project, tiny};
use crate::session::Session;

/// The default model as a file.
fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base/model.gguf")
}

/// A repository with a file.
fn house() -> House {
    let house = House::new();
    std::fs::create_dir(house.work().join(".git")).expect("a folder");
    let text = std::fs::read(project("rust/src/span.rs")).expect("a file of the test projects");
    std::fs::write(house.work().join("span.rs"), text).expect("a file");
    house
}

impl House {
    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command().args(arguments))
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{run:?}");
        run
    }

    fn list(&self) -> Value {
        self.done(&["model", "list", "--json"]).json()
    }

    fn names(&self) -> Vec<String> {
        let list = self.list();
        let models = list["models"].as_array().expect("a list");
        models.iter().map(|model| model["name"].as_str().expect("a name").to_string()).collect()
    }

    /// The model that a completion comes from.
    fn answers(&self) -> (String, Run) {
        let run = self.run(&["complete", "span.rs:20:1", "--json"]);
        assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
        (run.json()["model"].as_str().expect("a name").to_string(), run)
    }
}

#[test]
fn a_model_is_imported_used_and_removed() {
    let house = house();
    assert_eq!((house.names(), house.answers().0), (vec!["default".into()], "default".into()));
    let tiny = tiny();
    let tiny = tiny.to_str().expect("UTF-8");
    let import = house.done(&["model", "import", tiny]);
    assert!(import.stderr.contains("nestling model use tiny"), "{import:?}");
    let list = house.list();
    assert_eq!((&list["in_use"], &list["problem"]), (&"default".into(), &Value::Null));
    let model = &list["models"][1];
    assert_eq!((&model["name"], &model["in_use"]), (&"tiny".into(), &false.into()), "{list}");
    assert_eq!(model["card"]["what"], "imported");
    assert!(model["bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{model}");

    house.done(&["model", "use", "tiny"]);
    assert_eq!((house.list()["in_use"].clone(), house.answers().0), ("tiny".into(), "tiny".into()));
    let info = house.done(&["model", "info", "--json"]).json();
    assert_eq!((&info["name"], &info["embedded"]), (&"tiny".into(), &false.into()), "{info}");
    // Whatever is in use, what must come out the same everywhere does.
    let given =
        Run::of(house.command().arg("--model").arg(base()).args(["model", "info", "--json"]));
    assert_eq!(given.json()["name"], "model");
    let doctor = house.run(&["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["check"] == "model").expect("a check");
    assert!(check["detail"].as_str().is_some_and(|d| d.contains("tiny, chosen for ")), "{check}");
    let text = house.done(&["model", "list"]).stdout;
    assert!(text.lines().any(|line| line.starts_with("* tiny ")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("  default ")), "{text}");

    // Another workspace goes on as it was.
    let other = tempdir().expect("a folder");
    let elsewhere =
        house.command().current_dir(other.path()).args(["model", "list", "--json"]).output();
    let elsewhere: Value = serde_json::from_slice(&elsewhere.expect("a run").stdout).expect("JSON");
    assert_eq!(
        (&elsewhere["in_use"], elsewhere["models"].as_array().map(Vec::len)),
        (&"default".into(), Some(1))
    );

    house.done(&["model", "use", "default"]);
    assert_eq!(house.answers().0, "default");
    house.done(&["model", "use", "tiny"]);
    let removed = house.done(&["model", "remove", "tiny"]);
    assert!(removed.stderr.contains("the default is in use now"), "{removed:?}");
    assert_eq!((house.names(), house.answers().0), (vec!["default".into()], "default".into()));
}

#[test]
fn a_gguf_file_is_imported_under_a_name_and_used_at_once() {
    let house = house();
    let base = base();
    let base = base.to_str().expect("UTF-8");
    house.done(&["model", "import", base, "--name", "twin", "--use"]);
    let (name, run) = house.answers();
    assert_eq!((name.as_str(), run.stderr.contains("cannot be used")), ("twin", false), "{run:?}");
    house.done(&["model", "import", base]);
    house.done(&["model", "import", base]);
    assert_eq!(house.names(), ["default", "model", "model-2", "twin"]);
}

#[test]
fn models_of_other_programs_are_imported_by_their_names() {
    let house = house();
    let root = house.folder.path();
    let put = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, bytes).expect("a file");
    };
    let model = std::fs::read(base()).expect("the default model");
    put("ollama/blobs/sha256-1", &model);
    let layer = json!({"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:1"});
    let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    put("ollama/manifests/registry.ollama.ai/library/coder/1b", manifest.as_bytes());
    put("llama/org_Tiny-GGUF_tiny-q8_0.gguf", &model);
    // Snapshots are links to blobs.
    let snapshot = root.join("hub/models--org--code/snapshots/abc");
    std::fs::create_dir_all(&snapshot).expect("folders");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::os::unix::fs::symlink(tiny().join(name), snapshot.join(name)).expect("a link");
    }
    put("hub/models--org--code/refs/main", b"abc");
    let import = |arguments: &[&str]| {
        let mut command = house.command();
        command.args(["model", "import"]).args(arguments);
        command.env("OLLAMA_MODELS", root.join("ollama")).env("LLAMA_CACHE", root.join("llama"));
        Run::of(command.env("HF_HUB_CACHE", root.join("hub")))
    };
    for name in ["coder:1b", "tiny-q8_0", "org/code"] {
        let run = import(&[name]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(
            run.stderr.contains("of memory") && run.stderr.contains("within 200 ms"),
            "{run:?}"
        );
    }
    assert_eq!(house.names(), ["default", "code", "coder-1b", "tiny-q8_0"]);
    let froms = house.list()["models"].as_array().expect("a list")[1..]
        .iter()
        .map(|model| model["card"]["from"].as_str().expect("a name").to_string())
        .collect::<Vec<_>>();
    assert_eq!(froms, ["org/code", "coder:1b", "tiny-q8_0"]);
    import(&["coder:7b"])
        .refused(3, &["coder:7b", "no such", "coder:1b (Ollama)", "org/code (Hugging Face cache)"]);
    assert_eq!(std::fs::read(root.join("ollama/blobs/sha256-1")).expect("the blob"), model);
}

#[test]
fn what_does_not_exist_is_refused_with_what_does() {
    let house = house();
    let tiny = tiny();
    house.done(&["model", "import", tiny.to_str().expect("UTF-8")]);
    let before = listing(&house.data());
    house.run(&["model", "use", "nobody"]).refused(2, &["nobody", "default, tiny"]);
    house.run(&["model", "remove", "nobody"]).refused(2, &["nobody", "default, tiny"]);
    house.run(&["model", "remove", "default"]).refused(2, &["part of the program"]);
    house.run(&["model", "import", "no.gguf"]).refused(3, &["no.gguf", "no such file"]);
    let again = ["model", "import", tiny.to_str().expect("UTF-8"), "--name", "tiny"];
    house.run(&again).refused(2, &["already a model", "--name"]);
    let bad = ["model", "import", tiny.to_str().expect("UTF-8"), "--name", "../x"];
    house.run(&bad).refused(3, &["../x", "cannot be a model's name"]);
    house.run(&["model", "list", "no/such/folder"]).refused(3, &["no/such/folder"]);
    std::fs::write(house.work().join("words.gguf"), "once upon a time").expect("a file");
    house.run(&["model", "import", "words.gguf"]).refused(3, &["words.gguf", "not a GGUF file"]);
    assert_eq!(listing(&house.data()), before, "something was written");
}

#[test]
fn a_model_in_use_that_is_broken_gives_way_to_the_default() {
    let house = house();
    let base = base();
    house.done(&["model", "import", base.to_str().expect("UTF-8"), "--name", "twin", "--use"]);
    let folder = house.done(&["model", "path"]).stdout;
    let file = Path::new(folder.trim_end()).join("twin/model.gguf");
    let whole = std::fs::read(&file).expect("the weights");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("half of them");
    let (name, run) = house.answers();
    assert_eq!(name, "default");
    assert!(run.stderr.contains("the model twin cannot be used, default is in use: "), "{run:?}");
    let doctor = house.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    std::fs::remove_dir_all(file.parent().expect("a folder")).expect("the model is removed");
    let (name, run) = house.answers();
    assert_eq!(
        (name.as_str(), run.stderr.contains("no model \"twin\"")),
        ("default", true),
        "{run:?}"
    );
    assert!(house.list()["problem"].as_str().is_some_and(|reason| reason.contains("twin")));
}

/// Waits until the server says that this model is in use, and that it has read the workspace.
fn wait_for_model(session: &mut Session, name: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let status = session.call("nestling/status", Value::Null);
        if status["model"]["name"] == name && status["index"]["state"] == "ready" {
            return;
        }
        assert!(Instant::now() < end, "{name}: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_running_server_follows_the_command_line() {
    let house = house();
    let (base, tiny) = (base(), tiny());
    house.done(&["model", "import", base.to_str().expect("UTF-8"), "--name", "twin"]);
    house.done(&["model", "import", tiny.to_str().expect("UTF-8")]);
    let mut session = Session::start(house.command().arg("serve"));
    let root = format!("file://{}", house.work().display());
    session.call(
        "initialize",
        json!({
            "processId": null, "rootUri": root,
            "capabilities": {"textDocument": {"inlineCompletion": {}}},
        }),
    );
    session.send(json!({"method": "initialized", "params": {}}));
    wait_for_model(&mut session, "default");
    let uri = format!("{root}/span.rs");
    let text = std::fs::read_to_string(house.work().join("span.rs")).expect("the file");
    let document = json!({"uri": uri, "languageId": "rust", "version": 1, "text": text});
    session.send(json!({"method": "textDocument/didOpen", "params": {"textDocument": document}}));
    let mut asked = 0;
    let mut ask = |session: &mut Session| {
        asked += 1;
        let place = json!({
            "textDocument": {"uri": uri}, "position": {"line": asked % 40, "character": 0},
            "context": {"triggerKind": 1},
        });
        assert!(session.call("textDocument/inlineCompletion", place)["items"].is_array());
    };
    // The same tokens, then others, then what does not work, then back.
    for name in ["twin", "tiny", "default", "tiny"] {
        ask(&mut session);
        house.done(&["model", "use", name]);
        while !session.shown.iter().any(|text| text.contains("is in use now")) {
            ask(&mut session);
        }
        assert_eq!(session.shown, [format!("nestling: the model {name} is in use now")]);
        session.shown.clear();
        wait_for_model(&mut session, name);
        ask(&mut session);
    }
    let store = Store::at(house.data());
    let workspace = store.workspace(&house.work());
    let twin = workspace.find("twin").expect("it is installed");
    std::fs::write(twin.folder.join("model.gguf"), "GGUF and no more").expect("a broken file");
    house.done(&["model", "use", "twin"]);
    while session.shown.is_empty() {
        ask(&mut session);
    }
    let shown = session.shown.remove(0);
    assert!(shown.contains("twin cannot be used, tiny is in use"), "{shown}");
    wait_for_model(&mut session, "tiny");
    let counts = session.call("nestling/status", Value::Null)["counts"].clone();
    assert_eq!((&counts["requests"], &counts["answered"]), (&json!(asked), &json!(asked)));
    assert_eq!(session.stop(), Some(0));
}

#[test]
fn an_import_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let house = house();
    let base = base();
    let weights = std::fs::read(&base).expect("the default model");
    let workspace = Store::at(house.data()).workspace(&house.work());
    let mut random = StdRng::seed_from_u64(5);
    let (mut in_use, mut survived) = (None, 0);
    for n in 0..24 {
        let name = format!("n{n}");
        let mut command = house.command();
        command.args(["model", "import"]).arg(&base).args(["--name", &name, "--use"]);
        command.stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(random.random_range(20..350)));
        let _ = child.kill();
        child.wait().expect("it ends");
        let found = workspace.find(&name);
        match workspace.in_use() {
            Choice::Default => assert_eq!(in_use, None),
            Choice::Installed(model) if model.name == name => in_use = Some(name),
            Choice::Installed(model) => assert_eq!(in_use, Some(model.name)),
            missing => panic!("{missing:?}"),
        }
        if let Ok(model) = found {
            survived += 1;
            assert_eq!(std::fs::read(model.folder.join("model.gguf")).expect("weights"), weights);
            assert_eq!(model.card()["what"], "imported");
        }
    }
    // What was left over is gone after the next one that is let be.
    house.done(&["model", "import", base.to_str().expect("UTF-8"), "--name", "last", "--use"]);
    assert_eq!(house.list()["in_use"], "last");
    let left = std::fs::read_dir(workspace.folder()).expect("a folder").flatten();
    let parts = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".part-"));
    assert_eq!(parts.count(), 0, "{survived} imports were faster than their end");
}
