//! `nestling document`: comments for functions that have none, in the words of the repository where it has some.

use std::path::Path;

use tempfile::tempdir;

use crate::program::{Run, nestling};

const CODE: &str = "class Session:\n    def get(self, url, **kwargs):\n        \"\"\"Sends a request for a page.\n\n        :param url: The address of the page, with its scheme.\n        :param kwargs: Whatever the transport takes.\n        \"\"\"\n        return self.request('GET', url, **kwargs)\n\n    def head(self, url, **kwargs):\n        \"\"\"Sends a request for the head of a page.\n\n        :param url: The address of the page, with its scheme.\n        :param kwargs: Whatever the transport takes.\n        \"\"\"\n        return self.request('HEAD', url, **kwargs)\n\n    def put(self, url, data, **kwargs):\n        return self.request('PUT', url, data=data, **kwargs)\n";

fn document(path: &Path, more: &[&str]) -> Run {
    Run::of(nestling().arg("document").arg(path).args(more))
}

#[test]
fn every_parameter_is_named_and_the_file_says_how() {
    let folder = tempdir().expect("a folder");
    std::fs::write(folder.path().join("pyproject.toml"), "[project]\nname = \"a\"\n")
        .expect("a file");
    let path = folder.path().join("session.py");
    std::fs::write(&path, CODE).expect("a file");
    let shown = document(&path, &["--json"]).done();
    let function = &shown.json()["files"][0]["functions"][0];
    assert_eq!(function["name"], "put");
    assert_eq!(function["style"], "Sphinx");
    let comment = function["comment"].as_str().expect("a text");
    assert!(
        comment.contains(":param url: The address of the page, with its scheme.\n"),
        "{comment}"
    );
    let named: Vec<&str> = comment.lines().filter(|line| line.contains(":param ")).collect();
    assert_eq!(named.len(), 3, "{comment}");
    assert_eq!(
        std::fs::read_to_string(&path).expect("a file"),
        CODE,
        "nothing is written without --apply"
    );

    let written = document(&path, &["--line", "18", "--apply"]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""), "{written:?}");
    let now = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(now.replace(comment, ""), CODE, "only the comment was put in");
    let mut python = std::process::Command::new("python3");
    assert!(python.args(["-m", "py_compile"]).arg(&path).status().expect("python").success());
    // What is documented is left alone.
    let again = document(&path, &[]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""));
}

#[test]
fn wrong_use_is_said() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("a.py");
    std::fs::write(&path, "x = 1\n").expect("a file");
    document(&path, &["--line", "1"]).refused(2, &["no function without a comment"]);
    document(folder.path(), &["--line", "1"]).refused(2, &["--line goes with one file"]);
    document(&folder.path().join("b.py"), &[]).refused(2, &["b.py", "no such file"]);
    let without = nestling().args(["document", "--no-model"]).arg(&path).output().expect("it runs");
    assert_eq!(without.status.code(), Some(1));
}
