//! Why a suggestion reads as it does, and messages for commits: commands that a client executes.

use std::process::Command;

use serde_json::{Value, json};

use super::client::Client;
use super::script::Script;

async fn execute(client: &mut Client, command: &str, arguments: Value) -> Value {
    let params = json!({ "command": command, "arguments": arguments });
    client.call("workspace/executeCommand", params).await
}

#[tokio::test]
async fn a_model_that_cannot_explain_says_nothing_and_a_wrong_question_is_refused() {
    let params = json!({ "capabilities": {} });
    let (mut client, _) = Client::start_with(Script::inserts(&["x"]).options(), params).await;
    client.wait_for_model("ready").await;
    client.open_as("untitled:a.py", "python", "x = 1\n").await;
    let place = json!({ "textDocument": { "uri": "untitled:a.py" }, "position": { "line": 0, "character": 5 } });
    let answer = execute(&mut client, "nestling.explain", json!([place])).await;
    assert_eq!(answer["result"], Value::Null, "{answer}");
    let refused = execute(&mut client, "nestling.explain", json!(["here"])).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    let gone = json!({ "textDocument": { "uri": "untitled:b.py" }, "position": { "line": 0, "character": 0 } });
    let refused = execute(&mut client, "nestling.explain", json!([gone])).await;
    assert!(
        refused["error"]["message"].as_str().is_some_and(|m| m.contains("not open")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_message_for_what_is_staged() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b.c", "-C"]).arg(folder.path());
        assert!(git.args(arguments).output().expect("git").status.success(), "{arguments:?}");
    };
    let file = folder.path().join("door.py");
    let (mut client, _) =
        Client::start_with(Script::inserts(&["x"]).options(), json!({ "capabilities": {} })).await;
    let path = json!([folder.path()]);
    let refused = execute(&mut client, "nestling.commitMessage", path.clone()).await;
    let said = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("is in no git repository"), "{refused}");
    git(&["init", "-q"]);
    std::fs::write(&file, "def close():\n    return 1\n").expect("a file");
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "feat: add doors"]);
    std::fs::write(&file, "def close():\n    return 1\n\n\ndef open_all(doors):\n    return 2\n")
        .expect("a file");
    let uri = json!([format!("file://{}", folder.path().display())]);
    let unstaged = execute(&mut client, "nestling.commitMessage", uri).await;
    let wanted = "feat: add open_all to door";
    assert_eq!(unstaged["result"], json!({ "message": wanted, "staged": false }), "{unstaged}");
    git(&["add", "."]);
    let staged = execute(&mut client, "nestling.commitMessage", path).await;
    assert_eq!(staged["result"], json!({ "message": wanted, "staged": true }), "{staged}");
    let mut command = crate::program::nestling();
    let printed =
        command.args(["commit-message", "--repo"]).arg(folder.path()).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), format!("{wanted}\n"));
    git(&["commit", "-q", "-m", "feat: add more"]);
    let printed = command.output().expect("it runs");
    assert_eq!((printed.status.code(), printed.stdout.len()), (Some(1), 0));
}
