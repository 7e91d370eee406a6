//! The memory of one workspace: a large sorted index of its files on disk, a small one of those that changed
//! since, and where both are kept. Readers hold a shelf that never changes; writers put up a new one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use parking_lot::{Mutex, RwLock};

use super::chunks::Chunks;
use super::gate::Gate;
use super::general::General;
use super::retrieval::{self, DiskTexts, Retrieval, SharedRetrieval, Texts};
use super::segment::{Segment, SegmentBuilder};
use super::walk;
use crate::files;
use crate::syntax::Language;
use crate::tokenizer::{TokenId, Tokenizer};

/// Tokens of one workspace that are indexed; files beyond are left out, which the log says.
const MOST_TOKENS: usize = 64 << 20;
/// The index is sorted anew when more than this share of it has changed, and at least so many tokens.
const STALE_SHARE: usize = 4;
const STALE_TOKENS: usize = 500_000;

/// Ranges of a segment that are out of date, sorted.
pub(super) type Hidden = Arc<Vec<Range<u32>>>;

/// What readers see: fixed at one moment.
#[derive(Clone, Default)]
pub struct Shelf {
    /// The segments, largest first, each with the ranges of it that are out of date.
    pub segments: Vec<(Arc<Segment>, Hidden)>,
    /// The shipped table.
    pub general: Option<Arc<General>>,
    /// How the tiers are weighed.
    pub gate: Arc<Gate>,
}

/// What is being done, for a progress bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexProgress {
    /// Files read.
    pub files: usize,
    /// Files there are.
    pub of: usize,
}

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Update {
    /// Files in the memory.
    pub files: usize,
    /// Files that were read now.
    pub read: usize,
    /// Tokens in the memory.
    pub tokens: usize,
    /// Bytes that the index takes, on disk or in memory.
    pub bytes: usize,
    /// Seconds to find, read and tokenize the files.
    pub read_seconds: f64,
    /// Seconds to sort and store.
    pub sort_seconds: f64,
    /// Seconds to find out what can be retrieved from which lines.
    pub retrieval_seconds: f64,
    /// Bytes that this takes.
    pub retrieval_bytes: usize,
    /// Whether everything was sorted anew.
    pub is_new: bool,
}

/// The memory; see the module.
pub struct Memory {
    root: PathBuf,
    tokenizer: Arc<Tokenizer>,
    fingerprint: u64,
    /// Where the index is kept; nowhere for a memory of texts alone.
    file: Option<PathBuf>,
    shelf: RwLock<Shelf>,
    retrieval: Arc<SharedRetrieval>,
    texts: Arc<dyn Texts>,
    /// The state in which retrieval knows each file.
    retrievable: Mutex<BTreeMap<String, u64>>,
    /// Files that changed since the large index, by name.
    changed: Mutex<BTreeMap<String, Changed>>,
    /// Tokens that an index holds at most.
    pub(super) most_tokens: usize,
}

struct Changed {
    state: u64,
    tokens: Arc<[TokenId]>,
}

/// Names the tokenizer of an index: whatever changes its tokens changes this.
pub fn fingerprint(tokenizer: &Tokenizer) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ tokenizer.vocab_size() as u64;
    for id in 0..tokenizer.vocab_size() as TokenId {
        for &byte in tokenizer.bytes(id).iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

impl Memory {
    /// The memory of the workspace at `root`, kept in the folder `store`. What is there from last time is
    /// there at once; [`Memory::update`] brings it up to date. A damaged or older index is put aside.
    pub fn open(root: &Path, store: Option<&Path>, tokenizer: Arc<Tokenizer>) -> Memory {
        let memory = Memory::empty(root, store, tokenizer);
        if let Some(file) = memory.file.as_ref().filter(|file| file.exists()) {
            match Segment::open(file, memory.fingerprint) {
                Ok(segment) => memory.put_up(Arc::new(segment), Vec::new(), &BTreeMap::new()),
                Err(error) => tracing::warn!("the index is made anew: {error:#}"),
            }
            memory.open_retrieval();
        }
        memory
    }

    /// A memory of texts that are not on disk, each with its path below `root`.
    pub fn of_texts<'a>(
        root: &Path,
        tokenizer: Arc<Tokenizer>,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Memory> {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        let texts = files.iter().map(|&(name, text)| (name.to_string(), Arc::from(text)));
        let texts = KeptTexts { root: root.to_path_buf(), texts: texts.collect() };
        let mut memory = Memory::empty(root, None, tokenizer);
        memory.texts = Arc::new(texts);
        memory.retrieval.change(|retrieval| {
            files.iter().for_each(|(name, text)| learn(retrieval, name, text));
        });
        let mut builder = SegmentBuilder::new(memory.tokenizer.vocab_size());
        let (mut chunks, mut tokens) = (Chunks::default(), Vec::new());
        for (name, text) in files {
            tokens.clear();
            chunks.encode(&memory.tokenizer, text, &mut tokens);
            builder.add(name, 0, &tokens);
        }
        let segment = builder.build(memory.fingerprint)?;
        memory.put_up(Arc::new(segment), Vec::new(), &BTreeMap::new());
        Ok(memory)
    }

    fn empty(root: &Path, store: Option<&Path>, tokenizer: Arc<Tokenizer>) -> Memory {
        let fingerprint = fingerprint(&tokenizer);
        let root = root.to_path_buf();
        let file = store.map(|store| store.join(file_name(&root, fingerprint)));
        let texts = Arc::new(DiskTexts { root: root.clone() });
        let memory = Memory {
            root,
            tokenizer,
            fingerprint,
            file,
            shelf: RwLock::default(),
            retrieval: Arc::default(),
            texts,
            retrievable: Mutex::default(),
            changed: Mutex::default(),
            most_tokens: MOST_TOKENS,
        };
        memory.reset_gate();
        memory.set_general(General::shipped(fingerprint).map(Arc::new));
        memory
    }

    /// The folder that it remembers.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The tokenizer of its tokens.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// See [`fingerprint`].
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What finds lines of other files for a prompt.
    pub fn retrieval(&self) -> &Arc<SharedRetrieval> {
        &self.retrieval
    }

    /// Reads the files.
    pub fn texts(&self) -> &Arc<dyn Texts> {
        &self.texts
    }

    /// What there is now.
    pub fn shelf(&self) -> Shelf {
        self.shelf.read().clone()
    }

    /// Puts the shipped table on the shelf.
    pub fn set_general(&self, general: Option<Arc<General>>) {
        self.shelf.write().general = general;
    }

    /// Replaces the weights of the tiers.
    pub fn set_gate(&self, gate: Gate) {
        self.shelf.write().gate = Arc::new(gate);
    }

    /// Weighs the tiers as was fitted to this workspace, or as shipped.
    pub fn reset_gate(&self) {
        let own = self.gate_file().and_then(|file| fs::read_to_string(file).ok());
        let own = own.and_then(|json| serde_json::from_str(&json).ok());
        self.set_gate(own.unwrap_or_else(Gate::shipped));
    }

    /// Throws away what is kept of this workspace.
    pub fn forget(&self) {
        let files = [self.file.clone(), self.gate_file(), self.retrieval_file()];
        files.into_iter().flatten().for_each(|file| _ = fs::remove_file(file));
    }

    /// The file in which weights that were fitted to this workspace are kept.
    pub fn gate_file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.with_extension("gate.json"))
    }

    /// Reads what changed on disk since the last time: new and changed files, deletions, another branch.
    /// Returns at once where nothing did. `is_wanted` is asked between files.
    pub fn update(
        &self,
        threads: usize,
        say: &(dyn Fn(IndexProgress) + Sync),
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Update> {
        let start = Instant::now();
        let found = walk::walk(&self.root);
        let base = self.shelf.read().segments.first().map(|(segment, _)| segment.clone());
        // What the large index has of each file, in the order of names on both sides.
        let mut old = base.as_ref().map_or_else(BTreeMap::new, |base| names(base));
        let mut changed = self.changed.lock();
        let mut wanted = Vec::new();
        let mut still = BTreeMap::new();
        for file in &found {
            if old.get(file.name.as_str()).is_some_and(|(state, _)| *state == file.state) {
                old.remove(file.name.as_str());
                continue;
            }
            match changed.remove(&file.name) {
                Some(known) if known.state == file.state => {
                    still.insert(file.name.clone(), known);
                }
                _ => wanted.push(file.clone()),
            }
        }
        // What is left in `changed` is gone from disk, what is left in `old` is out of date.
        let is_same = wanted.is_empty() && changed.is_empty();
        let hidden: Vec<Range<u32>> = sorted(old.into_values().map(|(_, range)| range));
        *changed = still;
        let read = wanted.len();
        for (name, known) in self.read(&wanted, threads, say, is_wanted) {
            changed.insert(name, known);
        }
        let read_seconds = start.elapsed().as_secs_f64();
        let stale: usize = changed.values().map(|c| c.tokens.len()).sum();
        let all = base.as_ref().map_or(0, |base| base.tokens().len());
        let start = Instant::now();
        let is_new = base.is_none() || stale > STALE_TOKENS.max(all / STALE_SHARE);
        if is_new {
            let segment = self.rebuild(base.as_deref(), &found, &changed)?;
            changed.clear();
            self.put_up(segment, Vec::new(), &changed);
        } else if let Some(base) = base
            && !(is_same && self.shelf.read().segments.first().is_some_and(|s| *s.1 == hidden))
        {
            self.put_up(base, hidden, &changed);
        }
        drop(changed);
        let start_retrieval = Instant::now();
        self.update_retrieval(&found, is_wanted);
        let shelf = self.shelf();
        let sum = |of: &dyn Fn(&Segment) -> usize| shelf.segments.iter().map(|s| of(&s.0)).sum();
        Ok(Update {
            files: found.len(),
            read,
            tokens: sum(&|s| s.tokens().len()),
            bytes: sum(&Segment::size_in_bytes),
            read_seconds,
            sort_seconds: (start_retrieval - start).as_secs_f64(),
            retrieval_seconds: start_retrieval.elapsed().as_secs_f64(),
            retrieval_bytes: self.retrieval.snapshot().size_in_bytes(),
            is_new,
        })
    }

    /// Reads and tokenizes files on some threads. What is not fit to be remembered has no tokens.
    fn read(
        &self,
        files: &[walk::FoundFile],
        threads: usize,
        say: &(dyn Fn(IndexProgress) + Sync),
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> Vec<(String, Changed)> {
        let (next, of) = (AtomicUsize::new(0), files.len());
        let room = AtomicUsize::new(self.most_tokens);
        let work = || {
            let (mut chunks, mut done) = (Chunks::default(), Vec::new());
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(index).filter(|_| is_wanted()) else { return done };
                let mut tokens = Vec::new();
                let text = match room.load(Ordering::Relaxed) {
                    0 => Err("the index is full".to_string()),
                    _ => walk::read(&self.root, &file.name),
                };
                match text {
                    Ok(text) => chunks.encode(&self.tokenizer, &text, &mut tokens),
                    Err(reason) => tracing::info!("{} is left out: {reason}", file.name),
                }
                let taken = |room: usize| Some(room.saturating_sub(tokens.len()));
                let _ = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
                let known = Changed { state: file.state, tokens: tokens.into() };
                done.push((file.name.clone(), known));
                say(IndexProgress { files: index + 1, of });
            }
        };
        let all = std::thread::scope(|scope| {
            let threads = threads.clamp(1, of.div_ceil(8).max(1));
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            all.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        if room.into_inner() == 0 {
            tracing::warn!("the workspace is too large: of some files nothing is known");
        }
        all
    }

    /// Sorts everything anew, from the large index and what changed, and stores it; where that cannot be, it is kept in
    /// memory.
    fn rebuild(
        &self,
        base: Option<&Segment>,
        found: &[walk::FoundFile],
        changed: &BTreeMap<String, Changed>,
    ) -> Result<Arc<Segment>> {
        let fill = || self.collect(base, found, changed);
        let Some(path) = &self.file else {
            return Ok(Arc::new(fill().build(self.fingerprint)?));
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let store = || -> Result<Segment> {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            files::replace(path, |out| fill().write(self.fingerprint, out))?;
            Segment::open(path, self.fingerprint)
        };
        let segment = store().or_else(|error| {
            tracing::warn!("the index lasts as long as this program: {error:#}");
            fill().build(self.fingerprint)
        });
        Ok(Arc::new(segment?))
    }

    /// The tokens of all files, from the large index and what changed. A file for which there is no room is known, but
    /// has none.
    fn collect(
        &self,
        base: Option<&Segment>,
        found: &[walk::FoundFile],
        changed: &BTreeMap<String, Changed>,
    ) -> SegmentBuilder {
        let mut builder = SegmentBuilder::new(self.tokenizer.vocab_size());
        let mut left_out = 0;
        let old: BTreeMap<&str, usize> = base
            .map(|base| (0..base.files()).map(|i| (base.file(i).0, i)).collect())
            .unwrap_or_default();
        for file in found {
            let (state, tokens) = match (changed.get(&file.name), base) {
                (Some(known), _) => (known.state, &*known.tokens),
                (None, Some(base)) => {
                    let Some(&index) = old.get(file.name.as_str()) else { continue };
                    let (_, range, state) = base.file(index);
                    (state, &base.tokens()[range.start as usize..range.end as usize])
                }
                (None, None) => continue,
            };
            let fits = builder.tokens() + tokens.len() <= self.most_tokens;
            left_out += usize::from(!fits);
            builder.add(&file.name, state, if fits { tokens } else { &[] });
        }
        if left_out > 0 {
            tracing::warn!("the workspace is too large: {left_out} files are left out");
        }
        builder
    }

    /// Reads again what changed, for retrieval: the tokens are there by then, and this takes longer.
    fn update_retrieval(&self, found: &[walk::FoundFile], is_wanted: &dyn Fn() -> bool) {
        /// Files that become known together.
        const TOGETHER: usize = 64;
        let mut known = self.retrievable.lock();
        let mut old = std::mem::take(&mut *known);
        let mut wanted = Vec::new();
        for file in found {
            match old.remove(&file.name) {
                Some(state) if state == file.state => _ = known.insert(file.name.clone(), state),
                _ => wanted.push(file),
            }
        }
        let gone: Vec<String> =
            old.into_keys().filter(|name| !wanted.iter().any(|f| f.name == *name)).collect();
        let is_news = !gone.is_empty() || !wanted.is_empty();
        if !gone.is_empty() {
            self.retrieval.change(|retrieval| gone.iter().for_each(|n| _ = retrieval.remove(n)));
        }
        for files in wanted.chunks(TOGETHER).take_while(|_| is_wanted()) {
            self.retrieval.change(|retrieval| {
                for file in files {
                    match walk::read(&self.root, &file.name) {
                        Ok(text) => learn(retrieval, &file.name, &text),
                        Err(_) => _ = retrieval.remove(&file.name),
                    }
                    known.insert(file.name.clone(), file.state);
                }
            });
        }
        if is_news && let Some(path) = self.retrieval_file() {
            let bytes = self.retrieval.snapshot().to_bytes();
            let all = serde_json::to_vec(&*known).unwrap_or_default();
            let length = (all.len() as u64).to_le_bytes();
            let kept = files::replace(&path, |out| {
                [&length[..], &all, &bytes].into_iter().try_for_each(|part| out.write_all(part))?;
                Ok(())
            });
            if let Err(error) = kept {
                tracing::warn!("what can be retrieved is not kept: {error:#}");
            }
        }
    }

    /// Takes over what was kept for retrieval. What is missing or damaged is found out again.
    fn open_retrieval(&self) {
        let Some(bytes) = self.retrieval_file().and_then(|path| fs::read(path).ok()) else {
            return;
        };
        let parts = || -> Option<(BTreeMap<String, u64>, &[u8])> {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            let (all, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
            Some((serde_json::from_slice(all).ok()?, rest))
        };
        let Some((known, rest)) = parts() else { return };
        match Retrieval::from_bytes(rest) {
            Ok(retrieval) => {
                self.retrieval.change(|current| *current = retrieval);
                *self.retrievable.lock() = known;
            }
            Err(error) => tracing::warn!("what can be retrieved is found out anew: {error}"),
        }
    }

    fn retrieval_file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.with_extension("retrieval"))
    }

    /// Makes the shelf of a large index, of which some ranges are out of date, and of what changed since.
    fn put_up(
        &self,
        base: Arc<Segment>,
        hidden: Vec<Range<u32>>,
        changed: &BTreeMap<String, Changed>,
    ) {
        let mut segments = vec![(base, Arc::new(hidden))];
        if !changed.is_empty() {
            let mut builder = SegmentBuilder::new(self.tokenizer.vocab_size());
            for (name, known) in changed {
                builder.add(name, known.state, &known.tokens);
            }
            match builder.build(self.fingerprint) {
                Ok(segment) => segments.push((Arc::new(segment), Arc::default())),
                Err(error) => tracing::warn!("changed files are not indexed: {error:#}"),
            }
        }
        self.shelf.write().segments = segments;
    }
}

fn sorted(ranges: impl Iterator<Item = Range<u32>>) -> Vec<Range<u32>> {
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges
}

/// Takes a file in, with its windows and its definitions.
fn learn(retrieval: &mut Retrieval, name: &str, text: &str) {
    let language = Language::by_path(Path::new(name));
    retrieval.update(name, language, text);
    if let Some(language) = language {
        retrieval.update_symbols(name, language, text);
    }
}

/// Texts that are not on disk.
struct KeptTexts {
    root: PathBuf,
    texts: BTreeMap<String, Arc<str>>,
}

impl Texts for KeptTexts {
    fn text(&self, name: &str) -> Option<Arc<str>> {
        self.texts.get(name).cloned()
    }

    fn name(&self, file: &Path) -> String {
        walk::name_below(&self.root, file).unwrap_or_default()
    }
}

/// What an index has of each file: its state then, and where it lies.
fn names(base: &Segment) -> BTreeMap<&str, (u64, Range<u32>)> {
    (0..base.files())
        .map(|i| {
            let (name, range, state) = base.file(i);
            (name, (state, range))
        })
        .collect()
}

/// The name of the index of a workspace for one tokenizer.
fn file_name(root: &Path, fingerprint: u64) -> String {
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hash = retrieval::hash(&root.to_string_lossy()) ^ fingerprint;
    let name: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    format!("{name}-{hash:016x}.index")
}
