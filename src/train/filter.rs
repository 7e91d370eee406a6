//! Which files are worth learning from, and why the others are not: by path, by content, by licence.

use std::path::Path;

use crate::syntax::Language;
use crate::workspace;

/// Folders whose content is not written by the people of the repository, or not as code.
const FOREIGN_FOLDERS: [&str; 16] = [
    "vendor",
    "third_party",
    "node_modules",
    "dist",
    "build",
    "generated",
    "testdata",
    "fixtures",
    "snapshots",
    "__snapshots__",
    "migrations",
    "locale",
    "target",
    ".git",
    "site-packages",
    "__pycache__",
];
const GENERATED_NAMES: [&str; 6] =
    [".min.", "_pb2.", ".pb.", "zz_generated", ".bundle.", "_generated."];
const GENERATED_MARKS: [&str; 3] = ["@generated", "Code generated", "DO NOT EDIT"];
/// Phrases of notices that forbid what a permissive licence allows.
const REFUSED_NOTICES: [&str; 12] = [
    "general public license",
    "gnu affero",
    "gpl-2.0",
    "gpl-3.0",
    "agpl-",
    "mozilla public license",
    "mpl-2.0",
    "creative commons",
    "cc-by",
    "cc by",
    "business source license",
    "all rights reserved. proprietary",
];

/// A text longer than this is not learned from.
pub(super) const MAX_BYTES: usize = 100_000;
const MIN_BYTES: usize = 200;

/// The language of a path that may be worth reading, `None` if only its content can tell, or the
/// reason why it is not.
pub(super) fn by_path(path: &str) -> Result<Option<&'static Language>, &'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let lower = name.to_lowercase();
    if workspace::is_secret_file(name) {
        Err("may hold secrets")
    } else if path.split('/').any(|part| FOREIGN_FOLDERS.contains(&part)) {
        Err("vendored or generated folder")
    } else if GENERATED_NAMES.iter().any(|mark| lower.contains(mark)) {
        Err("generated file")
    } else if lower.ends_with(".lock") || lower.ends_with("-lock.json") || lower.ends_with(".snap")
    {
        Err("lock file or snapshot")
    } else {
        match Language::by_path(Path::new(path)) {
            Some(language) => Ok(Some(language)),
            None if !name.contains('.') => Ok(None),
            None => Err("no known language"),
        }
    }
}

/// Whether a file of a project was written by a program, or by others and copied here: nobody wants it changed.
pub fn is_foreign(path: &str, text: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let head = line_head(text, 10);
    let mean = text.len() / text.lines().count().max(1);
    path.split('/').any(|part| FOREIGN_FOLDERS.contains(&part))
        || GENERATED_NAMES.iter().any(|mark| name.contains(mark))
        || GENERATED_MARKS.iter().any(|mark| head.contains(mark))
        || mean > 300
}

/// The language that a script names in its first line.
pub(super) fn by_shebang(text: &str) -> Option<&'static Language> {
    let line = text.strip_prefix("#!")?.lines().next()?;
    let program =
        line.split(['/', ' ']).rfind(|part| !part.is_empty() && !part.starts_with('-'))?;
    let program = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    Language::by_name(match program {
        "sh" | "bash" | "zsh" | "dash" => "bash",
        "node" => "javascript",
        other => other,
    })
}

/// Bytes as text with `\n` line ends: UTF-8, or UTF-16 with a byte-order mark.
pub(super) fn decode(content: Vec<u8>) -> Result<String, &'static str> {
    let wide = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = content[2..].chunks_exact(2).map(|c| from([c[0], c[1]])).collect();
        String::from_utf16(&units).map_err(|_| "unknown encoding")
    };
    let text = match content.as_slice() {
        [0xFF, 0xFE, ..] => wide(u16::from_le_bytes)?,
        [0xFE, 0xFF, ..] => wide(u16::from_be_bytes)?,
        bytes if bytes.contains(&0) => return Err("binary"),
        _ => String::from_utf8(content).map_err(|_| "unknown encoding")?,
    };
    let text = text.strip_prefix('\u{FEFF}').map(str::to_string).unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

/// Why a text is not worth learning from, if so. `any_licence` lets notices pass that are not permissive.
pub(super) fn unfit(text: &str, any_licence: bool) -> Option<&'static str> {
    if text.len() < MIN_BYTES {
        return Some("shorter than 200 bytes");
    }
    if text.len() > MAX_BYTES {
        return Some("longer than 100 KB");
    }
    if text.contains('\0') {
        return Some("binary");
    }
    let head = line_head(text, 10);
    if GENERATED_MARKS.iter().any(|mark| head.contains(mark)) {
        return Some("generated file");
    }
    if !any_licence && notice_refuses(line_head(text, 40)) {
        return Some("licence that is not permissive");
    }
    let (mut lines, mut longest) = (0, 0);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        lines += 1;
        longest = longest.max(line.len());
    }
    if longest > 400 {
        return Some("line over 400 bytes");
    }
    if !(12..=100).contains(&(text.len() / lines.max(1))) {
        return Some("mean line length");
    }
    if text.bytes().filter(u8::is_ascii_digit).count() * 5 > text.len() {
        return Some("mostly digits");
    }
    if workspace::holds_secret(text) {
        return Some("may hold secrets");
    }
    None
}

/// Whether tests live there, by the path alone.
pub(super) fn is_test(path: &str) -> bool {
    let lower = path.to_lowercase();
    let mut parts = lower.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or(name);
    parts.any(|part| matches!(part, "test" | "tests" | "testing" | "__tests__" | "spec" | "e2e"))
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
        || name.contains(".test.")
        || name.contains(".spec.")
        || (stem.ends_with("test") && name.ends_with(".java"))
}

/// Whether a file of that name states a licence.
pub(super) fn is_licence_file(name: &str) -> bool {
    let lower = name.to_lowercase();
    ["license", "licence", "copying", "unlicense"].iter().any(|start| lower.starts_with(start))
        && !lower.ends_with(".rs")
        && !lower.ends_with(".py")
        && !lower.ends_with(".go")
}

/// The SPDX identifier of a permissive licence by its key phrases, or `None`.
pub(super) fn permissive_licence(text: &str) -> Option<&'static str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").to_lowercase();
    let has = |phrase: &str| text.contains(phrase);
    // Apache's own text names no other licence; a file that starts with the GPL is not saved by
    // quoting MIT further down.
    let head: String = text.chars().take(400).collect();
    if ["general public license", "mozilla public", "creative commons", "business source"]
        .iter()
        .any(|refused| head.contains(refused))
    {
        return None;
    }
    if has("apache license") && has("version 2.0") {
        Some("Apache-2.0")
    } else if has("permission is hereby granted, free of charge") {
        Some("MIT")
    } else if has("redistribution and use in source and binary forms") {
        Some(if has("neither the name") { "BSD-3-Clause" } else { "BSD-2-Clause" })
    } else if has("permission to use, copy, modify, and/or distribute")
        || has("permission to use, copy, modify, and distribute")
    {
        Some("ISC")
    } else if has("free and unencumbered software released into the public domain") {
        Some("Unlicense")
    } else if has("boost software license") {
        Some("BSL-1.0")
    } else if has("'as-is', without any express or implied warranty") {
        Some("Zlib")
    } else if has("python software foundation license") {
        Some("PSF-2.0")
    } else {
        None
    }
}

fn notice_refuses(head: &str) -> bool {
    let lower = head.to_lowercase();
    // The Apache notice speaks of the licence "for the specific language governing permissions".
    REFUSED_NOTICES.iter().any(|notice| lower.contains(notice))
}

/// The first `lines` lines.
fn line_head(text: &str, lines: usize) -> &str {
    let end = text.match_indices('\n').nth(lines - 1).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(decode(b"a\r\nb".to_vec()).unwrap(), "a\nb");
        assert_eq!(decode(b"\xEF\xBB\xBFx".to_vec()).unwrap(), "x");
        assert_eq!(decode(b"\xFF\xFEx\0\xE9\0".to_vec()).unwrap(), "xé");
        assert_eq!(decode(b"gr\xF6\xDFe".to_vec()).unwrap_err(), "unknown encoding");
        assert_eq!(decode(b"a\0b".to_vec()).unwrap_err(), "binary");
    }

    #[test]
    fn scripts_are_known_by_their_first_line() {
        let name = |text| by_shebang(text).map(|l| l.name);
        assert_eq!(name("#!/usr/bin/env python3\n"), Some("python"));
        assert_eq!(name("#!/bin/bash -e\n"), Some("bash"));
        assert_eq!(name("plain"), None);
    }

    #[test]
    fn licences_by_their_texts() {
        let mit = "MIT License\n\nPermission is hereby granted, free\nof charge, to any person";
        assert_eq!(permissive_licence(mit), Some("MIT"));
        assert_eq!(
            permissive_licence("Apache License\n  Version 2.0, January 2004"),
            Some("Apache-2.0")
        );
        assert_eq!(permissive_licence("GNU GENERAL PUBLIC LICENSE Version 3"), None);
        assert_eq!(permissive_licence("All rights reserved."), None);
    }

    #[test]
    fn tests_by_their_paths() {
        for path in ["tests/a.rs", "a/test_b.py", "b_test.go", "x.spec.ts", "src/FooTest.java"] {
            assert!(is_test(path), "{path}");
        }
        for path in ["src/latest.rs", "contest/a.py", "src/attestation.go"] {
            assert!(!is_test(path), "{path}");
        }
    }
}
