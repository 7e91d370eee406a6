//! The index against plain search, and the life of a workspace: edits, deletions, damage, a second start.

use std::sync::Arc;

use proptest::prelude::*;

use super::evidence::{Counter, Scope, gather};
use super::segment::{Segment, SegmentBuilder};
use super::*;
use crate::tokenizer::{TokenId, Tokenizer};

const WORDS: usize = 6;

fn build(files: &[Vec<TokenId>]) -> Segment {
    let mut builder = SegmentBuilder::new(WORDS);
    for (i, tokens) in files.iter().enumerate() {
        assert!(builder.add(&format!("{i:03}"), i as u64, tokens));
    }
    builder.build(7).unwrap()
}

/// The agreement at all places that have some, longest first, with the token that followed; nothing at ends of files.
fn search(files: &[Vec<TokenId>], history: &[TokenId]) -> Vec<(usize, Option<TokenId>)> {
    let each = files.iter().flat_map(|file| (1..=file.len()).map(move |at| (file, at)));
    let agreement = |(file, at): (&Vec<TokenId>, usize)| {
        let before = file[..at].iter().rev();
        let length = before.zip(history.iter().rev()).take_while(|(a, b)| a == b).count();
        (length, file.get(at).copied())
    };
    let mut all: Vec<_> = each.map(agreement).filter(|(length, _)| *length > 0).collect();
    all.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    all
}

fn counters() -> [Counter; 2] {
    [Counter::new(WORDS), Counter::new(WORDS)]
}

fn text() -> impl Strategy<Value = Vec<TokenId>> {
    prop::collection::vec(0..WORDS as TokenId, 0..60)
}

proptest! {
    #[test]
    fn the_index_finds_what_a_search_finds(
        files in prop::collection::vec(text(), 1..6),
        history in prop::collection::vec(0..WORDS as TokenId, 1..12),
        hide in any::<prop::sample::Index>(),
    ) {
        let segment = build(&files);
        let whole = Scope { segment: &segment, hidden: &[], near: 0..0 };
        let [found, _] = gather(&[whole], &history, &mut counters());
        let places = search(&files, &history);
        let longest = places.iter().find(|(_, next)| next.is_some()).map_or(0, |(length, _)| *length);
        // Where only ends of files agree longest, the next shorter ones are counted.
        prop_assert!(found.length() <= longest && (found.length() > 0) == (longest > 0));
        for level in &found.levels {
            let mut counts = [0.0; WORDS];
            let those = places.iter().filter(|(length, _)| *length >= level.length);
            those.filter_map(|(_, next)| *next).for_each(|token| counts[token as usize] += 1.0);
            let mut seen = [0.0; WORDS];
            level.counts.iter().for_each(|&(token, count)| seen[token as usize] = count);
            prop_assert_eq!(seen, counts);
        }
        let nearest = Scope { segment: &segment, hidden: &[], near: 0..0 }.nearest(&history, 5);
        let wanted = places.iter().take(5).map(|(length, _)| *length);
        let agreed = nearest.iter().map(|(length, _)| *length);
        prop_assert_eq!(agreed.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        // Two indexes of a part each say what one of all says, and a hidden file says nothing.
        let cut = hide.index(files.len());
        let (left, right) = (build(&files[..cut]), build(&files[cut..]));
        let scopes = [&left, &right].map(|segment| Scope { segment, hidden: &[], near: 0..0 });
        let [both, _] = gather(&scopes, &history, &mut counters());
        let sorted = |e: &evidence::Evidence| {
            let mut levels = e.levels.clone();
            levels.iter_mut().for_each(|l| l.counts.sort_by_key(|(t, _)| *t));
            levels
        };
        prop_assert_eq!(sorted(&both), sorted(&found));
        let mut rest = files;
        rest.remove(cut);
        let (without, hidden) = (build(&rest), [segment.file(cut).1]);
        let scope = Scope { segment: &segment, hidden: &hidden, near: 0..0 };
        let [a, _] = gather(&[scope], &history, &mut counters());
        let scope = Scope { segment: &without, hidden: &[], near: 0..0 };
        let [b, _] = gather(&[scope], &history, &mut counters());
        prop_assert_eq!(sorted(&a), sorted(&b));
    }

    #[test]
    fn damaged_indexes_are_refused_or_harmless(
        files in prop::collection::vec(text(), 1..4),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut builder = SegmentBuilder::new(WORDS);
        files.iter().for_each(|f| assert!(builder.add("x/y", 1, f)));
        let mut bytes = Vec::new();
        builder.write(7, &mut bytes).unwrap();
        let place = at.index(bytes.len());
        bytes[place] = with;
        let folder = tempfile::tempdir().unwrap();
        for bytes in [&bytes[..], &bytes[..keep.index(bytes.len())]] {
            let path = folder.path().join("index");
            std::fs::write(&path, bytes).unwrap();
            if let Ok(segment) = Segment::open(&path, 7) {
                for history in [[1, 2, 3], [5, 5, 5]] {
                    let scope = Scope { segment: &segment, hidden: &[], near: 0..9 };
                    scope.nearest(&history, 4);
                    gather(&[scope], &history, &mut counters());
                }
                (0..segment.files()).for_each(|i| drop(segment.file(i).0.to_string()));
            }
        }
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let code = "fn main() {\n    let value = compute(1);\n}\n".repeat(9);
    Arc::new(crate::tokenizer::train([code.as_str()].into_iter(), 330).unwrap())
}

fn update(memory: &Memory) -> Update {
    memory.update(2, &|_| {}, &|| true).unwrap()
}

/// What most often follows a text in the memory.
fn follows(memory: &Memory, text: &str) -> Option<String> {
    let history = memory.tokenizer().encode(text);
    let shelf = memory.shelf();
    let scopes: Vec<Scope> = shelf
        .segments
        .iter()
        .map(|(segment, hidden)| Scope { segment, hidden, near: 0..0 })
        .collect();
    let size = memory.tokenizer().vocab_size();
    let [found, _] = gather(&scopes, &history, &mut [Counter::new(size), Counter::new(size)]);
    let level = found.levels.first().filter(|level| level.length == history.len())?;
    let best = level.counts.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(memory.tokenizer().decode(&[best.0]))
}

#[test]
fn a_workspace_is_followed_through_its_changes_and_kept() {
    let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| {
        let path = work.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("src/a.rs", "let alpha = 1;\n");
    write("src/b.rs", "let beta = 2;\n");
    write("ignored/c.rs", "let gamma = 3;\n");
    write(".gitignore", "ignored/\n");
    write("key.pem", "let delta = 4;\n");
    write("binary.rs", "let epsilon = 5;\0\n");
    write("empty.rs", "");
    let open = || Memory::open(work.path(), Some(store.path()), tokenizer());
    let memory = open();
    let first = update(&memory);
    assert!(first.is_new && first.read >= 2, "{first:?}");
    assert_eq!(follows(&memory, "let alpha =").as_deref(), Some(" "));
    for left_out in ["let gamma =", "let delta =", "let epsilon ="] {
        assert_eq!(follows(&memory, left_out), None, "{left_out}");
    }
    let again = update(&memory);
    assert_eq!((again.read, again.is_new), (0, false));

    // A second start has it at once, and reads nothing.
    drop(memory);
    let memory = open();
    assert_eq!(follows(&memory, "let beta =").as_deref(), Some(" "));
    assert_eq!(update(&memory).read, 0);

    // Another branch: one file changed, one gone, one new.
    write("src/a.rs", "let zeta = 1000;\n");
    std::fs::remove_file(work.path().join("src/b.rs")).unwrap();
    write("src/new.rs", "let theta = 3;\n");
    let changed = update(&memory);
    assert_eq!((changed.read, changed.is_new), (2, false));
    assert!(follows(&memory, "let zeta =").is_some() && follows(&memory, "let theta =").is_some());
    assert_eq!((follows(&memory, "let alpha ="), follows(&memory, "let beta =")), (None, None));

    // And back again.
    write("src/b.rs", "let beta = 2;\n");
    std::fs::remove_file(work.path().join("src/new.rs")).unwrap();
    assert_eq!(update(&memory).read, 1);
    assert!(follows(&memory, "let beta =").is_some() && follows(&memory, "let theta =").is_none());

    // A damaged index is made anew.
    drop(memory);
    for kept in std::fs::read_dir(store.path()).unwrap() {
        std::fs::write(kept.unwrap().path(), b"garbage").unwrap();
    }
    let memory = open();
    assert!(memory.shelf().segments.is_empty());
    assert!(update(&memory).is_new);
    assert!(follows(&memory, "let zeta =").is_some());
}

#[test]
fn a_workspace_that_is_too_large_is_read_once() {
    let work = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(work.path().join(name), text).unwrap();
    write("a.rs", "let alpha = 1;\n");
    write("b.rs", &"let beta = 2;\n".repeat(9));
    let mut memory = Memory::open(work.path(), None, tokenizer());
    memory.most_tokens = memory.tokenizer().encode("let alpha = 1;\n").len() + 3;
    assert!(update(&memory).is_new);
    assert!(follows(&memory, "let alpha =").is_some());
    assert_eq!(follows(&memory, "let beta ="), None);
    let again = update(&memory);
    assert_eq!((again.read, again.is_new), (0, false), "what has no room is not tried again");
}

#[test]
fn where_the_index_cannot_be_kept_it_is_there_all_the_same() {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("a.rs"), "let alpha = 1;\n").unwrap();
    // A file stands where the folder should be.
    let store = tempfile::NamedTempFile::new().unwrap();
    let memory = Memory::open(work.path(), Some(store.path()), tokenizer());
    assert!(update(&memory).is_new);
    assert_eq!(follows(&memory, "let alpha =").as_deref(), Some(" "));
    assert!(!update(&memory).is_new);
}

#[cfg(unix)]
#[test]
fn loops_pipes_and_what_may_not_be_read_are_left_out() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("a.rs"), "let alpha = 1;\n").unwrap();
    symlink(work.path(), work.path().join("loop")).unwrap();
    symlink("/etc/hostname", work.path().join("outside.rs")).unwrap();
    std::fs::write(work.path().join("closed.rs"), "let closed = 1;\n").unwrap();
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(work.path().join("closed.rs"), closed).unwrap();
    let memory = Memory::open(work.path(), None, tokenizer());
    let done = update(&memory);
    assert!(done.files <= 2, "{done:?}");
    assert!(follows(&memory, "let alpha =").is_some());
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("only.rs"), "").unwrap();
    assert_eq!(update(&Memory::open(empty.path(), None, tokenizer())).files, 0);
    let missing = Memory::open(&empty.path().join("gone"), None, tokenizer());
    assert_eq!(update(&missing).files, 0);
}
