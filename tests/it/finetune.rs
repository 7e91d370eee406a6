//! Fine-tuning as its user meets it: what cannot be learnt from is refused, a killed run comes to the same end, nothing
//! is installed that is not better, and the editor can begin and stop it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nestling::store::{Choice, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::house::House;
use crate::program::{Run, tiny};
use crate::session::Session;

impl House {
    /// With code of this project, in nine commits.
    fn with_history() -> House {
        let house = House::new();
        house.git(&["init", "-q", "-b", "main"]);
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        for module in ["suggest", "server"] {
            let entries = std::fs::read_dir(own.join(module)).expect("a module");
            files.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        files.retain(|path| path.is_file());
        files.sort();
        for (number, files) in files.chunks(files.len().div_ceil(9)).enumerate() {
            for path in files {
                let name = path.file_name().expect("a name");
                std::fs::copy(path, house.work().join(name)).expect("a copy");
            }
            house.git(&["add", "-A"]);
            house.git(&["commit", "-q", "-m", &number.to_string()]);
        }
        house
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-C"]);
        let output = git.arg(self.work()).args(arguments).output().expect("git runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// A small run of the test model, with the same steps on every machine.
    fn finetune(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["finetune", "--json", "--no-wait", "--steps", "1", "--places", "20"]);
        command.arg("--model").arg(tiny()).args(arguments);
        command
    }

    fn choice(&self) -> Choice {
        Store::at(self.data()).workspace(&self.work()).in_use()
    }
}

/// The message at the end of what a failed run said.
#[track_caller]
fn refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{run:?}");
    let line = run.stderr.lines().last().unwrap_or_default();
    assert!(line.starts_with("nestling: "), "{run:?}");
    for word in words {
        assert!(line.contains(word), "{word:?} is missing: {line}");
    }
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let house = House::new();
    refused(&Run::of(&mut house.finetune(&["nowhere"])), 2, &["nowhere", "is no folder"]);
    refused(&Run::of(&mut house.finetune(&[])), 3, &["no source file"]);
    house.git(&["init", "-q"]);
    std::fs::write(house.work().join("a.py"), "def area(w, h):\n    return w * h\n\n\n".repeat(60))
        .expect("a file");
    refused(&Run::of(&mut house.finetune(&[])), 3, &["commit"]);
    std::fs::write(house.work().join(".gitignore"), "*.py\n").expect("a file");
    house.git(&["add", "-A"]);
    house.git(&["commit", "-q", "-m", "all files ignored"]);
    refused(&Run::of(&mut house.finetune(&[])), 3, &["no source file"]);
    std::fs::write(house.work().join(".gitignore"), "").expect("a file");
    house.git(&["add", "-A"]);
    house.git(&["commit", "-q", "-m", "a tiny one"]);
    refused(&Run::of(&mut house.finetune(&[])), 3, &["2 KB", "at least 30 KB are needed"]);
    assert_eq!(house.choice(), Choice::Default);
}

#[test]
fn too_small_a_budget_says_how_much_is_needed() {
    let house = House::with_history();
    let mut command = house.command();
    command.args(["finetune", "--budget", "1s", "--no-wait", "--model"]).arg(tiny());
    refused(&Run::of(&mut command), 3, &["budget is too small", "minutes (--budget"]);
    // A folder of a repository stands for all of it: so does what would be installed.
    std::fs::create_dir(house.work().join("empty")).expect("a folder");
    refused(&Run::of(command.arg("empty")), 3, &["budget is too small"]);
    assert_eq!(house.choice(), Choice::Default);
}

#[test]
fn what_cannot_be_tuned_or_written_is_said_at_once() {
    let house = House::with_history();
    refused(
        &Run::of(&mut house.finetune(&["--html", "nowhere/page.html"])),
        2,
        &["no such folder"],
    );
    let adapter = house.folder.path().join("adapter");
    std::fs::create_dir(&adapter).expect("a folder");
    std::fs::write(adapter.join("adapter_config.json"), "{}").expect("a file");
    for arguments in [&["finetune"][..], &["finetune", "--export", "job"]] {
        let run = Run::of(house.command().args(arguments).arg("--model").arg(&adapter));
        refused(&run, 3, &["is an adapter", "nestling quantize"]);
    }
    assert!(!house.work().join("job").exists(), "nothing is left of it");
    let granite = crate::parity::folder("granite");
    for arguments in [&["finetune"][..], &["finetune", "--export", "job"]] {
        let run = Run::of(house.command().args(arguments).arg("--model").arg(&granite));
        refused(&run, 3, &["a granite model can be used but not trained here"]);
    }
    // No room for what is kept: a file stands where the folder should be.
    let file = house.folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let run = Run::of(house.finetune(&[]).env("NESTLING_DATA", file.join("data")));
    refused(&run, 3, &["cannot make"]);
    assert_eq!(house.choice(), Choice::Default);
}

#[cfg(target_os = "linux")]
#[test]
fn it_goes_last_on_the_machine_and_waits_for_who_types() {
    let house = House::with_history();
    Store::at(house.data()).workspace(&house.work()).is_typing(Duration::ZERO);
    let mut command = house.command();
    command.args(["finetune", "--steps", "1", "--places", "20", "--threads", "2", "--model"]);
    command.arg(tiny()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let lines = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let waits = std::io::BufRead::lines(lines).any(|line| {
        Store::at(house.data()).workspace(&house.work()).touch_typing();
        line.is_ok_and(|line| line.contains("waiting: you are typing"))
    });
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("its threads");
    let nice = |task: std::fs::DirEntry| -> String {
        let stat = std::fs::read_to_string(task.path().join("stat")).expect("a line");
        // The name may hold spaces; priority and niceness are the 18th and 19th field.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.nth(16).unwrap_or_default().to_string()
    };
    let all: Vec<String> = tasks.map(|task| nice(task.expect("a thread"))).collect();
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert!(waits);
    assert!(all.len() > 2 && all.iter().filter(|nice| *nice == "19").count() >= 3, "{all:?}");
}

/// The report without what differs from run to run.
fn result(run: &Run) -> Value {
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    let mut report = run.json();
    for changing in ["seconds", "waited", "curve"] {
        report[changing].take();
    }
    report
}

#[test]
fn a_killed_run_comes_to_the_same_end() {
    let house = House::with_history();
    let page = house.folder.path().join("page.html");
    let unbroken = Run::of(house.finetune(&["--dry-run", "--html"]).arg(&page));
    let report = result(&unbroken);
    let page = std::fs::read_to_string(page).expect("a page");
    let verdict = report["verdict"].as_str().expect("a verdict");
    assert!(page.contains(verdict) && page.matches("<svg").count() >= 4, "{page}");
    assert_eq!(report["split"], "commits", "{report}");
    assert_eq!(report["trials"].as_array().map(Vec::len), Some(9));
    assert_eq!((&report["installed"], house.choice()), (&Value::Null, Choice::Default));

    let mut rng = StdRng::seed_from_u64(1);
    let state = Store::at(house.data()).workspace(&house.work());
    let state = state.folder().join(".finetune/state.json");
    assert!(!state.exists(), "nothing is left of a run that is done");
    for kill in 0..3 {
        let mut command = house.finetune(&["--dry-run", "--resume"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        // About twenty decisions are written down; the kill comes some time after one of the next few.
        let mut last = std::fs::read(&state).unwrap_or_default();
        for _ in 0..rng.random_range(1..=5) {
            loop {
                assert_eq!(child.try_wait().expect("a child"), None, "it goes on for longer");
                std::thread::sleep(Duration::from_millis(5));
                let now = std::fs::read(&state).unwrap_or_default();
                if now != last {
                    last = now;
                    break;
                }
            }
        }
        if kill == 0 {
            let second = Run::of(&mut house.finetune(&["--dry-run", "--resume"]));
            refused(&second, 3, &["is running already"]);
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..300)));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        if kill == 0 {
            // Without a word about it, what was done would be lost.
            let run = Run::of(&mut house.finetune(&["--dry-run"]));
            refused(&run, 3, &["--resume", "--fresh"]);
            let other = Run::of(&mut house.finetune(&["--dry-run", "--resume", "--seed", "2"]));
            refused(&other, 3, &["--fresh"]);
        }
    }
    let last = Run::of(&mut house.finetune(&["--dry-run", "--resume"]));
    assert_eq!(result(&last), report);
    assert_eq!(house.choice(), Choice::Default);
}

#[test]
fn a_candidate_whose_loss_is_lost_is_given_up() {
    let house = House::with_history();
    let state = Store::at(house.data()).workspace(&house.work());
    let state = state.folder().join(".finetune/state.json");
    let mut child = house.finetune(&["--dry-run"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    // Once there are candidates, all but the first get a rate at which nothing can be learnt.
    let mut known = loop {
        assert_eq!(child.try_wait().expect("a child"), None, "it goes on for longer");
        let text = std::fs::read(&state).unwrap_or_default();
        let known: Value = serde_json::from_slice(&text).unwrap_or_default();
        if known["trials"].as_array().is_some_and(|trials| trials.len() == 9) {
            break known;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    for trial in &mut known["trials"].as_array_mut().expect("trials")[1..] {
        trial["rate"] = json!(1e6);
    }
    for begun in 1..9 {
        let _ = std::fs::remove_dir_all(state.with_file_name(format!("trial-{begun}")));
    }
    std::fs::write(&state, known.to_string()).expect("a file");
    let mut child = house.finetune(&["--dry-run", "--resume"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let lines = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let lines = std::io::BufRead::lines(lines).map(|line| line.expect("UTF-8"));
    let told: Vec<String> = lines.take_while(|line| !line.starts_with("best candidate")).collect();
    assert_eq!(child.try_wait().expect("a child"), None, "the best of the others goes on");
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert!(told.iter().any(|line| line.contains("is given up: its loss is lost")), "{told:#?}");
    let known: Value =
        serde_json::from_slice(&std::fs::read(&state).expect("a state")).expect("JSON");
    let lost = |trial: &Value| trial["is_lost"] == true;
    let trials = known["trials"].as_array().expect("trials");
    assert!(!lost(&trials[0]) && trials[1..].iter().any(lost), "{known}");
}

#[test]
fn an_export_holds_all_of_a_job_and_what_comes_back_is_judged() {
    let house = House::with_history();
    let job = house.folder.path().join("job");
    let export = || {
        let mut command = house.command();
        command.args(["finetune", "--no-wait", "--steps", "1", "--export"]).arg(&job);
        Run::of(command.arg("--model").arg(tiny()))
    };
    let run = export();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("torchrun") && run.stdout.contains("--judge"), "{}", run.stdout);
    let settings: Value =
        serde_json::from_slice(&std::fs::read(job.join("job.json")).expect("a file"))
            .expect("JSON");
    let rows =
        settings["steps"].as_u64().expect("steps") * settings["batch"].as_u64().expect("rows");
    let sequence = 512;
    for (name, rows, newer_alone) in [("train", rows as usize, false), ("validation", 32, true)] {
        let file = std::fs::read(job.join(format!("data/{name}.safetensors"))).expect("a file");
        let tensors = safetensors::SafeTensors::deserialize(&file).expect("tensors");
        let tensor = |name| tensors.tensor(name).expect("a tensor");
        for part in ["tokens", "targets", "counts"] {
            assert_eq!(tensor(part).shape(), [rows, sequence], "{name} {part}");
        }
        let (tokens, targets) = (tensor("tokens"), tensor("targets"));
        assert_eq!(tokens.data()[4..4 * sequence], targets.data()[..4 * (sequence - 1)]);
        let counts = tensor("counts");
        let counts = counts.data().chunks_exact(4);
        let counts: Vec<f32> = counts.map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        // What is learnt is weighed by what the memory leaves of it; what judges is a newer line or is not.
        assert!(counts.iter().all(|count| (0.0..=1.0).contains(count)), "{name}");
        let whole = |count: &f32| *count == 0.0 || *count == 1.0;
        assert_eq!(counts.iter().all(whole), newer_alone, "{name}");
        assert!(counts.contains(&1.0) && (counts.contains(&0.0) || !newer_alone), "{name}");
    }
    let mut info = house.command();
    Run::of(info.args(["model", "info", "--model"]).arg(job.join("base"))).done();
    refused(&export(), 3, &["is not empty"]);

    // A model that changes nothing gains nothing.
    let mut import = house.command();
    let run =
        Run::of(import.args(["model", "import", "--judge", "--model"]).args([tiny(), tiny()]));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.contains("is not certain at 95 %"), "{}", run.stdout);
    assert!(Store::at(house.data()).workspace(&house.work()).models().is_empty());
}

#[test]
fn the_editor_begins_and_stops_it() {
    let house = House::with_history();
    let mut command = house.command();
    command.arg("serve").env("NESTLING_MODEL", tiny());
    let mut session = Session::start(&mut command);
    let root = format!("file://{}", house.work().display());
    let folders = json!([{"uri": root, "name": "work"}]);
    session.call("initialize", json!({"capabilities": {}, "workspaceFolders": folders}));
    session.send(json!({"method": "initialized", "params": {}}));
    let begin = json!({"command": "nestling.finetune", "arguments": [{"budget": "1h"}]});
    let started = session.call("workspace/executeCommand", begin);
    assert!(started["started"].is_string(), "{started}");
    // While it runs, the server answers.
    let start = Instant::now();
    let state = Store::at(house.data()).workspace(&house.work());
    let state = state.folder().join(".finetune/state.json");
    while !state.exists() && start.elapsed() < Duration::from_secs(120) {
        session.call("nestling/status", json!(null));
        std::thread::sleep(Duration::from_millis(100));
    }
    session.call("workspace/executeCommand", json!({"command": "nestling.cancelFinetune"}));
    let stopped = |session: &Session| session.shown.iter().any(|text| text.contains("can go on"));
    while !stopped(&session) && start.elapsed() < Duration::from_secs(180) {
        session.call("nestling/status", json!(null));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(stopped(&session), "{:?}", session.shown);
    assert!(state.exists(), "what was done is kept");
    assert_eq!(session.stop(), Some(0));
}
