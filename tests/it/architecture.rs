//! The rules of the house that the compiler does not hold: which module may know which, how large a
//! file may grow. Code under `#[cfg(test)]` at the end of a file, and files of tests, may know more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each module of `src/` and the modules just below it. A module may use whatever its arrows lead to,
/// and all may use `config`; everything else is forbidden.
const ARROWS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("files", &[]),
    ("text", &[]),
    ("syntax", &["text"]),
    ("workspace", &["syntax"]),
    ("sandbox", &[]),
    ("check", &["text", "sandbox"]),
    ("statistics", &[]),
    ("tokenizer", &[]),
    ("model", &["tokenizer", "files"]),
    ("memory", &["workspace", "tokenizer", "files", "statistics"]),
    ("generation", &["memory", "model"]),
    ("library", &["generation"]),
    ("remote", &["generation", "check"]),
    ("suggest", &["remote", "check", "sandbox"]),
    ("chat", &["suggest"]),
    ("store", &["files"]),
    ("download", &["model"]),
    ("train", &["suggest", "store"]),
    ("eval", &["train"]),
    ("finetune", &["eval"]),
    ("server", &["finetune", "chat"]),
    ("cli", &["server", "library", "download"]),
];

/// What only some modules may name, as whole words; a `*` stands for any end of the word.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("candle_*", &["model", "generation", "train"]),
    ("tree_sitter*", &["syntax"]),
    ("tower_lsp_server", &["server"]),
    ("gen_lsp_types", &["server"]),
    ("lsp_types", &["server"]),
    ("ureq", &["download", "remote"]),
    // The plain client beside which `eval remote` measures.
    ("TcpStream", &["cli"]),
    ("TcpListener", &[]),
    ("UdpSocket", &[]),
    ("println!", &["cli"]),
    ("print!", &["cli"]),
    ("stdout()", &["cli", "server"]),
];

/// The crates that the configuration may use: it is read everywhere, so it must weigh nothing.
const CONFIG_CRATES: &[&str] = &["std", "serde", "serde_json", "toml", "crate", "super", "self"];

const MAX_LINES: usize = 600;
const MAX_BYTES: u64 = 5_000_000;

#[test]
fn arrows_point_one_way() {
    let mut broken = Vec::new();
    for file in source_files() {
        if ["lib", "main"].contains(&file.module.as_str()) {
            continue; // They only tie the modules together.
        }
        let in_table = ARROWS.iter().any(|(module, _)| *module == file.module);
        assert!(in_table, "{} is in no module of the table", file.name);
        for (line, code) in &file.code {
            for used in used_modules(code) {
                if used != "config" && !leads_to(&file.module, used) {
                    broken
                        .push(format!("{}:{line}: {} must not use {used}", file.name, file.module));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn heavy_crates_and_stdout_stay_where_they_belong() {
    let mut broken = Vec::new();
    for file in source_files() {
        for (line, code) in &file.code {
            for (word, modules) in ONLY_IN {
                if has_word(code, word) && !modules.contains(&file.module.as_str()) {
                    broken.push(format!("{}:{line}: {word} is for {modules:?}", file.name));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn configuration_needs_nothing_heavy() {
    for file in source_files().iter().filter(|file| file.module == "config") {
        for (line, code) in &file.code {
            let Some(path) = code.trim_start().strip_prefix("use ") else { continue };
            let first = path.trim_start_matches("::").split([':', ';', ' ']).next().unwrap();
            assert!(CONFIG_CRATES.contains(&first), "{}:{line}: config uses {first}", file.name);
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_and_stays_readable() {
    for file in source_files() {
        assert!(file.text.starts_with("//!"), "{} does not start with //!", file.name);
        let lines = file.text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, more than {MAX_LINES}", file.name);
    }
}

#[test]
fn the_repository_stays_small() {
    if !root().join(".git").exists() {
        return; // Not a clone.
    }
    let mut git = Command::new("git");
    let git = git.args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(root());
    let listing = git.output().expect("git runs");
    assert!(listing.status.success(), "{}", String::from_utf8_lossy(&listing.stderr));
    for path in String::from_utf8_lossy(&listing.stdout).split_terminator('\0') {
        let size = fs::metadata(root().join(path)).map_or(0, |metadata| metadata.len());
        let allowed = path.starts_with("models/") || size <= MAX_BYTES;
        assert!(allowed, "{path} has {size} bytes, more than {MAX_BYTES}");
    }
}

#[test]
fn the_scanner_sees_what_it_must() {
    assert!(leads_to("server", "text") && leads_to("generation", "tokenizer"));
    assert!(leads_to("server", "store") && !leads_to("suggest", "store"));
    assert!(leads_to("cli", "download") && !leads_to("server", "download"));
    assert!(
        !leads_to("text", "syntax") && !leads_to("model", "text") && !leads_to("train", "server")
    );
    assert_eq!(used_modules("use crate::text::Text;"), ["text"]);
    assert_eq!(used_modules("use crate::{"), Vec::<&str>::new());
    assert_eq!(used_modules("use crate::{text::{Text, apply}, model};"), ["text", "model"]);
    assert_eq!(used_modules("let x = crate::server::run();"), ["server"]);
    assert_eq!(used_modules("nestling::cli::main()"), ["cli"]);
    assert!(has_word("use candle_core::Tensor;", "candle_*"));
    assert!(has_word("std::io::stdout().lock()", "stdout()"));
    assert!(!has_word("command.stdout(Stdio::piped())", "stdout()"));
    assert!(!has_word("eprintln!(\"x\")", "println!"));
    assert!(!has_word("lsp_types_of()", "lsp_types"));
    let code =
        code_lines("use a; // b\n/// c\nconst D: &str = \"e//f\";\n#[cfg(test)]\nmod tests {\n}\n");
    let code: Vec<&str> = code.iter().map(|(_, line)| line.trim_end()).collect();
    assert_eq!(code, ["use a;", "const D: &str = \"\";"]);
    let joined = code_lines("use crate::{\n    text::Text,\n    cli,\n};\nf();\n");
    assert_eq!(used_modules(&joined[0].1), ["text", "cli"]);
    assert_eq!((joined[1].0, joined[1].1.as_str()), (5, "f();"));
}

/// A file of `src/`.
struct SourceFile {
    /// Its path below the repository, for messages.
    name: String,
    /// The folder or file directly below `src/`, without `.rs`.
    module: String,
    text: String,
    /// What is code and no test, with line numbers from 1.
    code: Vec<(usize, String)>,
}

/// Whether one follows arrows from `module` to `used`, or is there already.
fn leads_to(module: &str, used: &str) -> bool {
    let below = ARROWS.iter().find(|(from, _)| *from == module).map_or(&[][..], |(_, below)| below);
    module == used || below.iter().any(|below| leads_to(below, used))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source_files() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    assert!(paths.len() > 10, "the sources were not found");
    paths.sort();
    paths.into_iter().map(|path| read(&path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> SourceFile {
    let text = fs::read_to_string(path).expect("a source file is UTF-8");
    let below_src = path.strip_prefix(root().join("src")).expect("a path below src");
    let module = below_src.iter().next().expect("a name").to_string_lossy();
    let module = module.trim_end_matches(".rs").to_string();
    let stem = path.file_stem().expect("a name").to_string_lossy();
    let only_tests = ["tests", "properties"].contains(&&*stem) || stem.ends_with("_tests");
    let code = if only_tests { Vec::new() } else { code_lines(&text) };
    let name = format!("src/{}", below_src.display());
    SourceFile { name, module, text, code }
}

/// The lines up to the first test module, without comments and without the contents of strings; a `use`
/// that goes over several lines is one line.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut inside_use = false;
    let mut rest = text.lines().enumerate().peekable();
    while let Some((index, line)) = rest.next() {
        let next = rest.peek().map_or("", |(_, next)| next);
        if line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
            break;
        }
        let code = without_strings_and_comments(line);
        if code.trim().is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if inside_use => last.push_str(&code),
            _ => lines.push((index + 1, code)),
        }
        let last = lines.last().expect("a line was added").1.as_str();
        let start = last.trim_start().trim_start_matches("pub ");
        inside_use = start.starts_with("use ") && !last.contains(';');
    }
    lines
}

fn without_strings_and_comments(line: &str) -> String {
    let mut code = String::new();
    let mut inside_string = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if inside_string => drop(characters.next()),
            '\'' if !inside_string && characters.peek() == Some(&'"') => drop(characters.next()),
            '"' => {
                inside_string = !inside_string;
                code.push('"');
            }
            '/' if !inside_string && characters.peek() == Some(&'/') => break,
            _ if inside_string => {}
            _ => code.push(character),
        }
    }
    code
}

/// The modules that a line names by a path from the root of the crate.
fn used_modules(code: &str) -> Vec<&str> {
    let paths = ["crate::", "nestling::"].into_iter().flat_map(|start| code.split(start).skip(1));
    let mut used = Vec::new();
    for path in paths {
        match path.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.extend(first_identifier(path)),
        }
    }
    used.retain(|name| ARROWS.iter().any(|(module, _)| module == name));
    used
}

/// The first identifier of each entry of a `{group, like::this}`, whose opening brace is taken off.
fn group_heads(group: &str) -> Vec<&str> {
    let mut heads: Vec<&str> = first_identifier(group).into_iter().collect();
    let mut depth = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(first_identifier(&group[at + 1..])),
            _ => {}
        }
    }
    heads
}

fn first_identifier(path: &str) -> Option<&str> {
    path.trim_start().split(|c: char| !is_identifier(c)).next().filter(|name| !name.is_empty())
}

fn has_word(code: &str, word: &str) -> bool {
    let (stem, open) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
    code.match_indices(stem).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + stem.len()..].chars().next();
        let ends = open || !stem.ends_with(is_identifier) || !after.is_some_and(is_identifier);
        !before.is_some_and(is_identifier) && ends
    })
}

fn is_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
