//! Keys of servers in the keyring of the system, here one made of a folder behind a `secret-tool` of our own: put
//! there, found there, taken out again, and told to nobody.
#![cfg(target_os = "linux")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::house::House;
use crate::program::Run;
use crate::remote::{CODE, KEY, Server, event, response};

/// Notes its arguments and keeps what it reads in a file that is called as the last of them.
const SECRET_TOOL: &str = r#"#!/bin/sh
echo "$*" >> "$KEYS/calls"
for address; do :; done
file=$KEYS/$(echo "$address" | tr ':/' '__')
case $1 in
  store) cat > "$file" ;;
  lookup) [ -e "$file" ] && cat "$file" ;;
  clear) rm "$file" ;;
esac
"#;

/// A house with that program, and the folder of its keys.
fn with_keyring(program: &str) -> (House, PathBuf) {
    let house = House::new();
    let keys = house.folder.path().join("keys");
    std::fs::create_dir(&keys).expect("a folder");
    let (source, tool) = (keys.join("source"), keys.join("secret-tool"));
    std::fs::write(&source, program).expect("a program");
    // By another process: what other tests start just now would hold a file that is written here open, and then it
    // cannot be run.
    let copied = Command::new("cp").args([&source, &tool]).status().expect("cp");
    assert!(copied.success());
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).expect("its mode");
    (house, keys)
}

fn with_keys(command: &mut Command, keys: &Path) {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", keys.display())).env("KEYS", keys);
    command.env_remove("NESTLING_REMOTE_KEY").env("NESTLING_LOG", "trace,tokenizers=off");
}

/// Runs a command of `nestling remote` with something to read.
fn remote(house: &House, keys: &Path, arguments: &[&str], input: &str) -> Run {
    let mut command = house.command();
    with_keys(&mut command, keys);
    command.arg("remote").args(arguments).env_remove("NESTLING_LOG");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It need not read what it has no use for.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Completes with this server, and with a key in the environment if one is given.
fn complete(house: &House, keys: &Path, server: &str, key: Option<&str>) -> Run {
    let code = format!("{CODE}total = ");
    std::fs::write(house.work().join("shapes.py"), &code).expect("a file");
    let mut command = house.command();
    with_keys(&mut command, keys);
    if let Some(key) = key {
        command.env("NESTLING_REMOTE_KEY", key);
    }
    let place = format!("shapes.py:{}:9", code.matches('\n').count() + 1);
    Run::of(command.args(["complete", &place, "--remote", server]))
}

/// What the server was told of a key.
fn authorization(server: &Server) -> Option<String> {
    let request = server.requests.recv_timeout(Duration::from_secs(9)).expect("a request");
    let line = request.lines().find(|line| line.to_lowercase().starts_with("authorization:"))?;
    Some(line.split_once(' ')?.1.to_string())
}

#[test]
fn a_key_is_put_into_the_keyring_used_and_taken_out() {
    let (house, keys) = with_keyring(SECRET_TOOL);
    let server = Server::answering(response("200 OK", "", &event("zebra_count\n")));
    let mut said = String::new();
    let mut all = |run: &Run| said += &format!("{}{}", run.stdout, run.stderr);
    let ask = |key: Option<&str>| {
        let run = complete(&house, &keys, &server.url, key);
        assert_eq!(run.code, Some(0), "{run:?}");
        (authorization(&server), run)
    };
    let (told, run) = ask(None);
    all(&run);
    assert_eq!(told, None);

    // With a path behind it, the address is the same.
    let url = format!("{}/v1", server.url);
    let run = remote(&house, &keys, &["login", &url], &format!("{KEY}\n"));
    all(&run);
    assert!(run.code == Some(0) && run.stderr.contains("is in the keyring"), "{run:?}");
    let (told, run) = ask(None);
    all(&run);
    assert_eq!(told, Some(format!("Bearer {KEY}")));
    // The environment counts first, and the keyring is left alone.
    let before = std::fs::read_to_string(keys.join("calls")).expect("calls");
    assert_eq!(ask(Some("sk-another")).0.as_deref(), Some("Bearer sk-another"));
    let after = std::fs::read_to_string(keys.join("calls")).expect("calls");
    assert_eq!(before, after);

    let run = remote(&house, &keys, &["logout", &url], "");
    all(&run);
    assert!(run.code == Some(0) && run.stderr.contains("is out of the keyring"), "{run:?}");
    let (told, run) = ask(None);
    all(&run);
    assert_eq!(told, None);
    let run = remote(&house, &keys, &["logout", &url], "");
    all(&run);
    assert!(run.code == Some(1) && run.stderr.contains("is not in the keyring"), "{run:?}");

    assert!(!said.contains(KEY), "the key was told: {said}");
    assert!(!after.contains(KEY) && after.contains("lookup service nestling"), "{after}");
    for (path, _) in crate::program::listing(house.folder.path()) {
        let text = std::fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(KEY), "{} has it", path.display());
    }
}

#[test]
fn a_wrong_key_of_the_keyring_is_told_with_the_way_out() {
    let (house, keys) = with_keyring(SECRET_TOOL);
    let server = Server::answering(response("401 No", "", KEY));
    let run = complete(&house, &keys, &server.url, None);
    let command = format!("nestling remote login {}`", server.url);
    assert!(run.stderr.contains("wants a key (401)") && run.stderr.contains(&command), "{run:?}");
    assert_eq!(remote(&house, &keys, &["login", &server.url], KEY).code, Some(0));
    let run = complete(&house, &keys, &server.url, None);
    assert!(run.stderr.contains("refuses the key (401)"), "{run:?}");
    assert!(run.stderr.contains(&command) && !run.stderr.contains(KEY), "{run:?}");
}

#[test]
fn without_a_keyring_the_environment_is_named() {
    let (house, keys) = with_keyring(SECRET_TOOL);
    let url = "https://code.example";
    for key in ["", "\n", "two words\n"] {
        remote(&house, &keys, &["login", url], key).refused(3, &["no key"]);
    }
    remote(&house, &keys, &["login", "code.example"], KEY).refused(2, &["must begin with http"]);
    remote(&house, &keys, &["login", &format!("https://u:{KEY}@h")], "").refused(2, &["keyring"]);

    // It says the key again.
    let refusing = "#!/bin/sh\necho \"cannot keep $(cat)\" >&2\nexit 1\n";
    let (house, keys) = with_keyring(refusing);
    let run = remote(&house, &keys, &["login", url], KEY);
    run.refused(3, &["cannot keep [key]", "NESTLING_REMOTE_KEY"]);
    assert!(!run.stderr.contains(KEY), "{run:?}");
    let (house, keys) = with_keyring("#!/bin/sh\ncat > /dev/null\n");
    remote(&house, &keys, &["login", url], KEY)
        .refused(3, &["did not keep", "NESTLING_REMOTE_KEY"]);

    let mut command = house.command();
    command.args(["remote", "logout", url]).env("PATH", house.work());
    Run::of(&mut command).refused(3, &["secret-tool", "libsecret", "NESTLING_REMOTE_KEY"]);
}

#[test]
fn a_keyring_that_stays_locked_is_not_waited_for() {
    let (house, keys) = with_keyring("#!/bin/sh\nexec sleep 600\n");
    let server = Server::answering(response("200 OK", "", &event("zebra_count\n")));
    let start = Instant::now();
    let run = complete(&house, &keys, &server.url, None);
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert!(run.code == Some(0) || run.code == Some(1), "{run:?}");
    assert!(run.stderr.contains("waits for its key from the keyring"), "{run:?}");
    assert!(run.stderr.contains("NESTLING_REMOTE_KEY"), "{run:?}");
    assert!(server.requests.try_recv().is_err(), "it was asked without the key");
}
