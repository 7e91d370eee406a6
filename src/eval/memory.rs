//! What the index costs: time to read and sort, bytes, time of a question, for workspaces of growing size.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::texts::Repository;
use crate::memory::evidence::{Counter, Scope, gather};
use crate::memory::{Focus, FocusCache, Memory, Mixing};
use crate::statistics::{percentile, table};
use crate::tokenizer::Tokenizer;

/// Questions asked of each index.
const QUESTIONS: usize = 3000;
/// Tokens of a history.
const HISTORY: usize = 256;

/// One workspace.
#[derive(Clone, Debug, Serialize)]
pub struct IndexCost {
    /// Tokens in it.
    pub tokens: usize,
    /// Bytes of its files.
    pub text_bytes: usize,
    /// Seconds to find, read and tokenize its files from a folder.
    pub read_seconds: f64,
    /// Seconds to sort and store them.
    pub sort_seconds: f64,
    /// Millions of tokens a second, both together.
    pub million_tokens_s: f64,
    /// Bytes of the index for each token, in memory and on disk.
    pub bytes_per_token: f64,
    /// Seconds until lines can be retrieved for a prompt, beside that.
    pub retrieval_seconds: f64,
    /// Bytes that this takes for each token.
    pub retrieval_bytes_per_token: f64,
    /// Microseconds of a question to the index: median and 99th percentile.
    pub question_us: (f64, f64),
    /// Microseconds to mix one token, with all tiers and the gate.
    pub mix_us: (f64, f64),
    /// Milliseconds to open the stored index and to see that nothing changed.
    pub again_ms: (f64, f64),
    /// Milliseconds from the change of a file on disk to a new shelf.
    pub change_ms: f64,
}

/// Workspaces by size.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// What it ran on.
    pub machine: String,
    /// Smallest first.
    pub sizes: Vec<IndexCost>,
}

/// Lays the files of the repositories out in a folder up to each number of tokens, as far as they go, and
/// measures. `say` hears of sizes done.
pub fn cost(
    tokenizer: &Arc<Tokenizer>,
    repositories: &[Repository],
    sizes: &[usize],
    threads: usize,
    say: &mut dyn FnMut(usize),
) -> Result<IndexReport> {
    let files: Vec<(String, &str)> = repositories
        .iter()
        .flat_map(|r| r.files.iter().map(move |f| (format!("{}/{}", r.name, f.path), &*f.text)))
        .collect();
    let bytes_per_token = {
        let sample: String = files.iter().step_by(50).map(|(_, text)| *text).take(200).collect();
        sample.len() as f64 / tokenizer.encode(&sample).len().max(1) as f64
    };
    let mut report = IndexReport { machine: super::machine::machine(), sizes: Vec::new() };
    for (done, &size) in sizes.iter().enumerate() {
        let wanted = (size as f64 * bytes_per_token) as usize;
        let mut bytes = 0;
        let few = files.iter().take_while(|(_, text)| {
            bytes += text.len();
            bytes <= wanted + text.len()
        });
        let work = tempfile::tempdir().context("no temporary folder")?;
        let store = tempfile::tempdir().context("no temporary folder")?;
        for (name, text) in few {
            let path = work.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(work.path()))?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        report.sizes.push(measure(tokenizer, work.path(), store.path(), bytes, threads)?);
        say(done + 1);
        if bytes < wanted {
            break;
        }
    }
    Ok(report)
}

fn measure(
    tokenizer: &Arc<Tokenizer>,
    work: &Path,
    store: &Path,
    text_bytes: usize,
    threads: usize,
) -> Result<IndexCost> {
    let open = || Memory::open(work, Some(store), tokenizer.clone());
    let update = |memory: &Memory| memory.update(threads, &|_| {}, &|| true);
    let first = update(&open())?;
    let start = Instant::now();
    let memory = open();
    let opened = start.elapsed().as_secs_f64() * 1000.0;
    update(&memory)?;
    let seen = start.elapsed().as_secs_f64() * 1000.0;
    let (question_us, mix_us) = questions(&memory);
    fs::write(work.join("changed.rs"), "fn changed() -> usize {\n    1\n}\n")?;
    let start = Instant::now();
    update(&memory)?;
    let tokens = first.tokens as f64;
    Ok(IndexCost {
        tokens: first.tokens,
        text_bytes,
        read_seconds: first.read_seconds,
        sort_seconds: first.sort_seconds,
        million_tokens_s: tokens / 1e6 / (first.read_seconds + first.sort_seconds),
        bytes_per_token: first.bytes as f64 / tokens,
        retrieval_seconds: first.retrieval_seconds,
        retrieval_bytes_per_token: first.retrieval_bytes as f64 / tokens,
        question_us,
        mix_us,
        again_ms: (opened, seen),
        change_ms: start.elapsed().as_secs_f64() * 1000.0,
    })
}

/// Times of questions at random places, each without the place's own file.
fn questions(memory: &Memory) -> ((f64, f64), (f64, f64)) {
    let (shelf, size) = (memory.shelf(), memory.tokenizer().vocab_size());
    let Some((segment, _)) = shelf.segments.first() else { return Default::default() };
    let mut rng = StdRng::seed_from_u64(1);
    let mut counters = [Counter::new(size), Counter::new(size)];
    let mut cache = FocusCache::default();
    let (mut asked, mut mixed) = (Vec::new(), Vec::new());
    for question in 0..QUESTIONS {
        let at = rng.random_range(1..segment.tokens().len() as u32);
        let Some(index) = segment.file_at(at) else { continue };
        let (name, range, _) = segment.file(index);
        let from = range.start.max(at.saturating_sub(HISTORY as u32));
        let history = segment.tokens()[from as usize..at as usize].to_vec();
        let hidden = [range.clone()];
        let scope = Scope { segment, hidden: &hidden, near: 0..0 };
        let start = Instant::now();
        black_box(gather(&[scope], &history, &mut counters));
        asked.push(start.elapsed().as_secs_f64() * 1e6);
        if question % 4 == 0 {
            let before = segment.tokens()[range.start as usize..at as usize].to_vec();
            let mut focus = Focus::of_tokens(
                memory,
                &mut cache,
                Some(name),
                &[],
                before,
                Vec::new(),
                Mixing::Gate,
            );
            let mut logits = vec![0.0; size];
            let start = Instant::now();
            black_box(focus.mix(&history, &mut logits));
            mixed.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let ends = |times: &mut [f64]| (percentile(times, 0.5), percentile(times, 0.99));
    (ends(&mut asked), ends(&mut mixed))
}

impl fmt::Display for IndexReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "M tokens",
            "read s",
            "sort s",
            "M tokens/s",
            "B/token",
            "+ retrieval",
            "its s",
            "question p50 µs",
            "p99",
            "mix p50 µs",
            "p99",
            "reopen ms",
            "checked ms",
            "change ms",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        for s in &self.sizes {
            rows.push(vec![
                format!("{:.2}", s.tokens as f64 / 1e6),
                format!("{:.2}", s.read_seconds),
                format!("{:.2}", s.sort_seconds),
                format!("{:.2}", s.million_tokens_s),
                format!("{:.1}", s.bytes_per_token),
                format!("{:.1}", s.retrieval_bytes_per_token),
                format!("{:.2}", s.retrieval_seconds),
                format!("{:.0}", s.question_us.0),
                format!("{:.0}", s.question_us.1),
                format!("{:.0}", s.mix_us.0),
                format!("{:.0}", s.mix_us.1),
                format!("{:.1}", s.again_ms.0),
                format!("{:.1}", s.again_ms.1),
                format!("{:.1}", s.change_ms),
            ]);
        }
        write!(f, "{}\n{}", self.machine, table(&rows))
    }
}
