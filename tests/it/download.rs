//! `nestling model download` against a hub on this machine: whole files, cut connections, wrong files, refusals.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::house::House;
use crate::program::{Run, listing};

const NAME: &str = "org/small";

/// What the hub does with the files of its one repository.
#[derive(Default)]
struct Behaviour {
    /// Connections that send only so many bytes of a body, one after the other.
    cuts: Vec<usize>,
    /// Says that a file has this checksum.
    sum: Option<String>,
    /// Answers files with this status, content type and body.
    instead: Option<(u16, &'static str, &'static str)>,
    /// Sends whole files, whatever is asked for.
    ignores_ranges: bool,
    /// Leads to the files at another address, and says here what they are.
    redirects: bool,
}

/// Path and range of every request.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A hub with one repository. Its thread ends with the test.
struct Hub {
    address: String,
    asked: Asked,
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    fn new(files: &[(&str, Vec<u8>)], mut behaviour: Behaviour) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Asked::default();
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("the same socket"));
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    let read = reader.read_line(&mut line).unwrap_or(0);
                    if read == 0 || line.trim().is_empty() {
                        break;
                    }
                    lines.push(line.trim().to_string());
                }
                let Some(first) = lines.first() else { continue };
                let mut words = first.split(' ');
                let method = words.next().unwrap_or_default().to_string();
                let path = words.next().unwrap_or_default().to_string();
                let range = lines.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("range").then(|| value.to_string())
                });
                seen.lock().expect("the list").push((path.clone(), range.clone()));
                // The client may hang up at any time.
                let _ = answer(stream, &method, &path, range, &files, &mut behaviour);
            }
        });
        Hub { address, asked }
    }

    /// Ranges of the requests for a file.
    fn ranges(&self, file: &str) -> Vec<Option<String>> {
        let asked = self.asked.lock().expect("the list");
        let of_file = asked.iter().filter(|(path, _)| path.ends_with(file));
        of_file.map(|(_, range)| range.clone()).collect()
    }
}

fn answer(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    range: Option<String>,
    files: &BTreeMap<String, Vec<u8>>,
    behaviour: &mut Behaviour,
) -> std::io::Result<()> {
    let mut head = |status: &str, headers: &[(&str, String)]| {
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n")
    };
    if path == format!("/api/models/{NAME}/revision/main?blobs=true") {
        let siblings = files.iter().map(|(name, bytes)| {
            let sum = behaviour.sum.clone().unwrap_or_else(|| sum(bytes));
            json!({"rfilename": name, "size": bytes.len(),
                   "lfs": {"sha256": sum, "size": bytes.len()}})
        });
        let list = json!({"sha": "0123abcd", "siblings": siblings.collect::<Vec<_>>()}).to_string();
        head("200 OK", &[("Content-Length", list.len().to_string())])?;
        return stream.write_all(list.as_bytes());
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some(bytes) = files.get(name) else {
        return head("404 Not Found", &[("Content-Length", "0".into())]);
    };
    if let Some((status, kind, body)) = behaviour.instead {
        let headers = [("Content-Type", kind.into()), ("Content-Length", body.len().to_string())];
        head(&format!("{status} So"), &headers)?;
        return stream.write_all(body.as_bytes());
    }
    if behaviour.redirects && !path.starts_with("/elsewhere/") {
        let headers = [
            ("Location", format!("/elsewhere/{name}")),
            ("X-Linked-Etag", format!("\"{}\"", sum(bytes))),
            ("X-Linked-Size", bytes.len().to_string()),
            ("Content-Length", "0".into()),
        ];
        return head("302 Found", &headers);
    }
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.filter(|_| !behaviour.ignores_ranges).unwrap_or(0);
    let length = ("Content-Length", (bytes.len() - from).to_string());
    let tag = ("ETag", "\"one\"".to_string());
    match from {
        0 => head("200 OK", &[length, tag])?,
        _ => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            head("206 Partial Content", &[length, tag, ("Content-Range", range)])?;
        }
    }
    if method == "HEAD" {
        return Ok(());
    }
    let sent = match behaviour.cuts.is_empty() {
        true => bytes.len() - from,
        false => behaviour.cuts.remove(0).min(bytes.len() - from),
    };
    stream.write_all(&bytes[from..from + sent])
}

fn gguf() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base/model.gguf");
    std::fs::read(path).expect("the default model")
}

fn directory() -> Vec<(&'static str, Vec<u8>)> {
    let read = |name| (name, std::fs::read(crate::program::tiny().join(name)).expect("the model"));
    ["config.json", "tokenizer.json", "model.safetensors"].map(read).to_vec()
}

fn house() -> House {
    let house = House::new();
    std::fs::create_dir(house.work().join(".git")).expect("a folder");
    house
}

impl House {
    fn download(&self, hub: &Hub, arguments: &[&str]) -> Run {
        let mut command = self.command();
        command.args(["model", "download"]).args(arguments).args(["--endpoint", &hub.address]);
        Run::of(command.env_remove("HF_TOKEN").env("NO_PROXY", "127.0.0.1"))
    }

    /// Installed models with their cards.
    fn installed(&self) -> Vec<(String, Value)> {
        let list = Run::of(self.command().args(["model", "list", "--json"])).json();
        let models = list["models"].as_array().expect("a list")[1..].to_vec();
        let name = |model: &Value| model["name"].as_str().expect("a name").to_string();
        models.iter().map(|model| (name(model), model["card"].clone())).collect()
    }

    /// Files of downloads that are not installed.
    fn kept(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("cache/nestling/downloads");
        match folder.exists() {
            true => listing(&folder).into_keys().filter(|path| path.is_file()).collect(),
            false => Vec::new(),
        }
    }
}

/// A failure: this code, and one last line with these words.
#[track_caller]
fn failed(run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""), "{run:?}");
    let line = run.stderr.lines().last().unwrap_or_default();
    for word in words {
        assert!(line.contains(word), "{word:?} is missing: {run:?}");
    }
}

#[test]
fn a_model_directory_is_downloaded_and_imported() {
    let (house, hub) = (house(), Hub::new(&directory(), Behaviour::default()));
    let run = house.download(&hub, &[NAME, "--use"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for words in ["small: 3 files, 1.", "of memory", "tokens a second", "and in use"] {
        assert!(run.stderr.contains(words), "{words:?}: {run:?}");
    }
    let installed = house.installed();
    assert_eq!((installed.len(), installed[0].0.as_str()), (1, "small"));
    assert_eq!(installed[0].1["from"], NAME);
    assert!(house.kept().is_empty(), "{:?}", house.kept());
    let mut complete = house.command();
    let run = Run::of(complete.args(["model", "info", "--json"]));
    assert_eq!(run.json()["name"], "small");
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    // Twice within a run, which goes on by itself; then for good.
    let cuts = vec![1_000_000, 500_000];
    let hub = Hub::new(&[("a.gguf", gguf())], Behaviour { cuts, ..Behaviour::default() });
    let house = house();
    let run = house.download(&hub, &[&format!("{NAME}/a.gguf")]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let resumed = ["bytes=1000000-", "bytes=1500000-"].map(|range| Some(range.to_string()));
    assert_eq!(hub.ranges("a.gguf"), [&[None], &resumed[..]].concat());
    assert_eq!(house.installed()[0].0, "a");
}

#[test]
fn a_second_run_goes_on_where_the_first_was_lost() {
    let model = gguf();
    let cuts = [&[1_000_000][..], &[0; 8]].concat();
    let hub = Hub::new(&[("a.gguf", model.clone())], Behaviour { cuts, ..Behaviour::default() });
    let house = house();
    failed(&house.download(&hub, &[NAME]), &["a.gguf", "1.0 MB are kept", "goes on"]);
    assert!(house.installed().is_empty());
    assert_eq!(house.kept().len(), 1);
    let hub = Hub::new(&[("a.gguf", model)], Behaviour::default());
    assert_eq!(house.download(&hub, &[NAME]).code, Some(0));
    assert_eq!(hub.ranges("a.gguf"), [Some("bytes=1000000-".to_string())]);
    assert_eq!(house.installed()[0].0, "a");
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let behaviour = Behaviour { cuts: vec![700_000], ignores_ranges: true, ..Behaviour::default() };
    let hub = Hub::new(&[("a.gguf", gguf())], behaviour);
    let house = house();
    assert_eq!(house.download(&hub, &[NAME]).code, Some(0));
    assert_eq!(hub.ranges("a.gguf").len(), 2);
    assert_eq!(house.installed()[0].0, "a");
}

#[test]
fn a_file_with_another_checksum_is_refused_and_removed() {
    let behaviour = Behaviour { sum: Some("0".repeat(64)), ..Behaviour::default() };
    let hub = Hub::new(&[("a.gguf", gguf())], behaviour);
    let house = house();
    failed(&house.download(&hub, &[NAME]), &["a.gguf", "SHA-256", &"0".repeat(64), "again"]);
    assert!(house.installed().is_empty() && house.kept().is_empty());
    // The user's word counts more than the hub's.
    let right = sum(&gguf());
    assert_eq!(house.download(&hub, &[NAME, "--sha256", &right]).code, Some(0));
}

#[test]
fn an_address_of_a_file_is_followed_and_checked() {
    let hub =
        Hub::new(&[("a.gguf", gguf())], Behaviour { redirects: true, ..Behaviour::default() });
    let house = house();
    let elsewhere = Hub::new(&[], Behaviour::default());
    let url = format!("{}/files/a.gguf", hub.address);
    let run = house.download(&elsewhere, &[&url]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!run.stderr.contains("no checksum"), "{run:?}");
    assert_eq!(house.installed()[0].1["from"], url.as_str());
    let plain = Hub::new(&[("b.gguf", gguf())], Behaviour::default());
    let url = format!("{}/b.gguf", plain.address);
    let run = house.download(&elsewhere, &[&url]);
    assert!(run.code == Some(0) && run.stderr.contains("no checksum of b.gguf"), "{run:?}");
    failed(
        &house.download(&elsewhere, &[&url, "--sha256", &"1".repeat(64)]),
        &["SHA-256", &"1".repeat(64)],
    );
}

#[test]
fn all_parts_of_a_model_are_brought_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.gguf");
    std::fs::write(&whole, gguf()).expect("a file");
    let parts = crate::split::cut(&whole, &folder.path().join("big"), 3, false, |_, _| {});
    let read = |path: &PathBuf| std::fs::read(path).expect("a part");
    let names = ["big-00001-of-00003.gguf", "big-00002-of-00003.gguf", "big-00003-of-00003.gguf"];
    let files: Vec<_> = names.into_iter().zip(parts.iter().map(read)).collect();
    let (house, hub) = (house(), Hub::new(&files, Behaviour::default()));
    let run = house.download(&hub, &[NAME]);
    assert!(run.code == Some(0) && run.stderr.contains("big: 3 files"), "{run:?}");
    let run = house.download(&hub, &[&format!("{NAME}/{}", names[1]), "--use"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    // At an address that is no hub's.
    let plain = Hub::new(&files, Behaviour { redirects: true, ..Behaviour::default() });
    let url = format!("{}/files/{}", plain.address, names[0]);
    let run = house.download(&hub, &[&url]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let installed: Vec<String> = house.installed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(installed, ["big", "big-2", "big-3"]);
    let info = Run::of(house.command().args(["model", "info", "--json"])).json();
    assert_eq!(info["name"], "big-2");
    assert!(house.kept().is_empty(), "{:?}", house.kept());
    let some = Hub::new(&files[..2], Behaviour::default());
    failed(&house.download(&some, &[NAME]), &["big-00003-of-00003.gguf", "is missing there"]);
}

#[test]
fn refusals_are_said_in_one_line() {
    let house = house();
    let hub = Hub::new(&[("a.gguf", gguf())], Behaviour::default());
    failed(&house.download(&hub, &["org/none"]), &["org/none", "does not exist", "check the name"]);
    failed(&house.download(&hub, &["words"]), &["words", "ORG/NAME"]);
    failed(&house.download(&hub, &[&format!("{NAME}/b.gguf")]), &["there are: a.gguf"]);
    for (instead, word) in [
        ((200, "text/html; charset=utf-8", "<html>please sign in</html>"), "is a web page"),
        ((403, "text/plain", "no"), "HF_TOKEN"),
        ((404, "text/plain", "no"), "does not exist"),
    ] {
        let instead = Some(instead);
        let hub = Hub::new(&[("a.gguf", gguf())], Behaviour { instead, ..Behaviour::default() });
        failed(&house.download(&hub, &[NAME]), &["a.gguf", word]);
    }
    let nobody = Hub { address: "http://127.0.0.1:9".into(), asked: Arc::default() };
    failed(&house.download(&nobody, &[NAME]), &["127.0.0.1:9", "cannot be reached", "HF_ENDPOINT"]);
    assert!(house.installed().is_empty() && house.kept().is_empty());
}

#[test]
fn a_model_that_cannot_be_run_is_refused_before_its_weights_come() {
    let mut files = directory();
    files[0].1 = br#"{"model_type": "gpt_neox"}"#.to_vec();
    let hub = Hub::new(&files, Behaviour::default());
    let house = house();
    failed(&house.download(&hub, &[NAME]), &[NAME, "gpt_neox", "starcoder2"]);
    assert!(hub.ranges("model.safetensors").is_empty());
}
