//! Preparing a corpus: what goes in and out, and that nothing trained on is evaluated on.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nestling::train::documents::Documents;
use nestling::train::prepare::{PrepareOptions, Prepared, prepare};

const MIT: &str = "MIT License\n\nPermission is hereby granted, free of charge, to any person";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Code whose identifiers no other name shares.
fn code(name: &str, functions: usize) -> String {
    (0..functions)
        .map(|i| format!("fn {name}_{i}(first_{name}: u8) -> u8 {{\n    first_{name} + {name}_value_{i}\n}}\n"))
        .collect()
}

fn options() -> PrepareOptions {
    PrepareOptions { any_licence: false, no_held_out: false }
}

fn run(roots: &[PathBuf], folder: &Path, options: &PrepareOptions) -> anyhow::Result<Prepared> {
    prepare(roots, folder, options, &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn every_drop_has_a_reason_and_an_example() {
    let corpus = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write(corpus.path(), path, text);
    write("src/a.rs", &code("alpha", 30));
    write("src/same.rs", &code("alpha", 30));
    write("src/nearly.rs", &code("alpha", 29));
    write("src/short.rs", "fn a() {}");
    write("vendor/b.rs", &code("vendored", 30));
    write("src/made.rs", &format!("// @generated\n{}", code("made", 30)));
    write("src/key.rs", &format!("// -----BEGIN PRIVATE KEY-----\n{}", code("key", 30)));
    write("src/copyleft.rs", &format!("// GNU General Public License\n{}", code("gnu", 30)));
    write("part/LICENSE", "GNU AFFERO GENERAL PUBLIC LICENSE");
    write("part/c.rs", &code("closed", 30));
    write("notes.xyz", "nothing known");
    write(".env", "PASSWORD=1");
    write(
        "run",
        &format!("#!/usr/bin/env python3\n{}", "print('hello world of scripts')\n".repeat(20)),
    );
    std::fs::write(corpus.path().join("src/raw.rs"), [0u8; 400]).unwrap();
    std::fs::write(corpus.path().join("src/latin.rs"), b"// gr\xF6\xDFe".repeat(40)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = PrepareOptions { no_held_out: true, ..options() };
    let data = folder.path().join("data");
    let prepared = run(&[corpus.path().into()], &data, &options).unwrap();
    let mut kept: Vec<_> =
        prepared.train.list().iter().map(|d| (d.path.as_str(), d.language)).collect();
    kept.sort();
    assert_eq!(kept, [("run", "python"), ("src/a.rs", "rust")]);
    let dropped: Vec<_> =
        prepared.report.dropped.iter().map(|(why, d)| (why.as_str(), d.amount.files)).collect();
    let expected = [
        ("below a licence that is not permissive", 2),
        ("binary", 1),
        ("exact duplicate", 1),
        ("generated file", 1),
        ("licence that is not permissive", 1),
        ("may hold secrets", 1),
        ("near duplicate", 1),
        ("no known language", 1),
        ("shorter than 200 bytes", 1),
        ("unknown encoding", 1),
        ("vendored or generated folder", 1),
    ];
    assert_eq!(dropped, expected);
    assert!(prepared.report.dropped["near duplicate"].example.contains("src/"));
    assert!(prepared.report.to_string().contains("near duplicate"));
}

#[test]
fn whole_repositories_are_held_out_and_lists_name_them() {
    let corpus = tempfile::tempdir().unwrap();
    let mut list = String::from("# repositories\n");
    for name in ["one", "two", "three", "four", "five", "six"] {
        let root = corpus.path().join(name);
        write(&root, "LICENSE", MIT);
        for file in 0..3 {
            let functions = if name == "four" { 8 } else { 40 };
            write(&root, &format!("src/{file}.rs"), &code(&format!("{name}{file}"), functions));
        }
        list += &format!("{name}  # MIT\n");
    }
    write(corpus.path(), "list.txt", &list);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let roots = [corpus.path().join("list.txt")];
    let prepared = run(&roots, &data, &options()).unwrap();
    let held: Vec<_> =
        prepared.report.repositories.iter().filter(|r| r.held_out).map(|r| &r.name).collect();
    assert_eq!(held, ["four"], "the smallest");
    assert_eq!(prepared.held_out.list().len(), 3);
    assert!(prepared.held_out.text(0).contains("four"));
    for i in 0..prepared.train.list().len() {
        let text = prepared.train.text(i);
        assert!(!text.contains("four") && text.starts_with("fn "), "{text}");
    }

    // The same inputs are not read again; changed ones are.
    let index = data.join("documents.jsonl");
    let made = std::fs::metadata(&index).unwrap().modified().unwrap();
    run(&roots, &data, &options()).unwrap();
    assert_eq!(std::fs::metadata(&index).unwrap().modified().unwrap(), made);
    write(&corpus.path().join("six"), "src/new.rs", &code("newcomer", 30));
    let again = run(&roots, &data, &options()).unwrap();
    assert_eq!(again.train.list().len(), prepared.train.list().len() + 1);
}

#[test]
fn a_damaged_preparation_is_an_error_and_not_a_crash() {
    let corpus = tempfile::tempdir().unwrap();
    write(corpus.path(), "a.rs", &code("alpha", 30));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let options = PrepareOptions { no_held_out: true, ..options() };
    run(&[corpus.path().into()], &data, &options).unwrap();
    let index = data.join("documents.jsonl");
    let whole = std::fs::read_to_string(&index).unwrap();
    for wrong in [
        whole.replace("\"start\":0", "\"start\":99999999999"),
        whole.replace("\"bytes\":", "\"bytes\":-"),
        whole.replace("\"rust\"", "\"klingon\""),
        whole[..whole.len() / 2].to_string(),
    ] {
        std::fs::write(&index, wrong).unwrap();
        let error = format!("{:#}", Documents::open(&data).err().unwrap());
        assert!(error.contains("damaged"), "{error}");
    }
}

#[test]
fn unusable_corpora_are_named() {
    let corpus = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let error = |roots: &[PathBuf]| {
        let error = run(roots, &data, &options()).err().unwrap();
        assert!(!data.exists() && !data.with_extension("new").exists());
        format!("{error:#}")
    };
    assert!(error(&["/no/such/place".into()]).contains("/no/such/place"));
    assert!(error(&[corpus.path().into()]).contains("empty"));
    std::fs::write(corpus.path().join("only.rs"), [0u8; 300]).unwrap();
    assert!(error(&[corpus.path().into()]).contains("1 binary"));
    write(corpus.path(), "list.txt", "missing-folder\n");
    assert!(error(&[corpus.path().join("list.txt")]).contains("missing-folder"));

    // A repository without a licence is refused, and taken when asked for.
    write(corpus.path(), "src/a.rs", &code("alpha", 30));
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e@x", "-C"]).arg(corpus.path());
        assert!(git.args(arguments).output().unwrap().status.success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    assert!(error(&[corpus.path().into()]).contains("without a permissive licence"));
    let any = PrepareOptions { any_licence: true, no_held_out: true };
    let prepared = run(&[corpus.path().into()], &data, &any).unwrap();
    assert_eq!(prepared.train.list().len(), 1);
    assert_eq!(prepared.report.repositories[0].commit.as_ref().unwrap().len(), 40);
}
