//! From folders and repositories to prepared documents and a report of what was dropped and why.
//! Everything streams: one thread reads, all cores judge, texts go to disk as they come.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::memory::retrieval::hash;

use super::documents::{Document, Documents, Writer};
use super::filter;
use super::fixes::{Fix, LINES_AROUND, fixes};
use super::near_duplicates::{NearDuplicates, Signature};
use super::sources::{Listing, RawFile, Source};

/// How to prepare a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareOptions {
    /// Take texts whatever their licence: for one's own code.
    pub any_licence: bool,
    /// Keep nothing back for evaluation.
    pub no_held_out: bool,
}

/// A number of files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.files += 1;
        self.bytes += bytes as u64;
    }
}

/// What was dropped for one reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// How much; files that were not read count no bytes.
    pub amount: Amount,
    /// One of the files.
    pub example: String,
}

/// One folder or repository of the corpus.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Its licence (SPDX), or what stands for one.
    pub licence: String,
    /// The commit it was read at, if it is a repository.
    pub commit: Option<String>,
    /// What was kept of it.
    pub kept: Amount,
    /// Whether it is kept back for evaluation.
    pub held_out: bool,
}

/// What preparation did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CorpusReport {
    /// What was kept.
    pub kept: Amount,
    /// What was kept back for evaluation; part of `kept`.
    pub held_out: Amount,
    /// What was kept by language.
    pub languages: BTreeMap<String, Amount>,
    /// Lines that were corrected in commits, and are learned from.
    #[serde(default)]
    pub fixes: u64,
    /// What was dropped by reason.
    pub dropped: BTreeMap<String, Dropped>,
    /// The sources in order.
    pub repositories: Vec<Repository>,
    /// Bytes read.
    pub read_bytes: u64,
    /// Seconds of preparation.
    pub seconds: f64,
    /// Largest resident memory of the process so far, in bytes (Linux; else 0).
    pub peak_memory: u64,
    fingerprint: String,
}

/// Documents to train on and documents kept back.
pub struct Prepared {
    /// To train on.
    pub train: Documents,
    /// Whole repositories that are never trained on.
    pub held_out: Documents,
    /// How they came about.
    pub report: CorpusReport,
}

/// What preparation says while it runs.
pub struct PrepareNews<'a> {
    /// The source being read.
    pub source: &'a str,
    /// Sources done before it, and all.
    pub sources: (usize, usize),
    /// Kept so far.
    pub kept: Amount,
    /// Bytes read so far.
    pub read_bytes: u64,
}

/// Prepares the corpus into `folder`, or opens it if the only root is prepared already, or opens what is there if it came from the same sources at the
/// same state with the same options.
///
/// # Errors
/// A missing path, a broken repository, a full disk (nothing half-written stays), a corpus of which
/// nothing is kept, or a set `stop`.
pub fn prepare(
    roots: &[PathBuf],
    folder: &Path,
    options: &PrepareOptions,
    stop: &AtomicBool,
    say: &mut dyn FnMut(PrepareNews),
) -> Result<Prepared> {
    if let [root] = roots
        && root.join(REPORT).is_file()
        && let Ok(report) = serde_json::from_slice(&std::fs::read(root.join(REPORT))?)
    {
        // A prepared corpus was carried here.
        return split(Documents::open(root)?, report, options);
    }
    let mut sources = Vec::new();
    for root in roots {
        sources.extend(Source::find(root)?);
    }
    let listings: Vec<Listing> = sources.par_iter().map(Source::list).collect::<Result<_>>()?;
    let fingerprint = fingerprint(&sources, &listings, options);
    if let Some(report) = finished(folder, &fingerprint) {
        return split(Documents::open(folder)?, report, options);
    }
    let fresh = folder.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    let mut run = Run::new(&sources, &listings, options, &fresh)?;
    let made = run.read_all(stop, say).and_then(|()| run.finish(&fresh, fingerprint));
    let report =
        made.inspect_err(|_| drop(std::fs::remove_dir_all(&fresh))).with_context(|| {
            format!("cannot prepare the corpus in {} (as large as its texts)", folder.display())
        })?;
    let _ = std::fs::remove_dir_all(folder);
    std::fs::rename(&fresh, folder)
        .with_context(|| format!("cannot write {}", folder.display()))?;
    split(Documents::open(folder)?, report, options)
}

const REPORT: &str = "report.json";

fn finished(folder: &Path, fingerprint: &str) -> Option<CorpusReport> {
    let report = std::fs::read(folder.join(REPORT)).ok()?;
    let report: CorpusReport = serde_json::from_slice(&report).ok()?;
    (report.fingerprint == fingerprint).then_some(report)
}

fn fingerprint(sources: &[Source], listings: &[Listing], options: &PrepareOptions) -> String {
    let states = sources.iter().zip(listings);
    let states: Vec<String> =
        states.map(|(s, l)| format!("{} {}", s.root.display(), l.state)).collect();
    // The number changes when the rules do.
    format!("4 {options:?} {:016x}", hash(&states.join("\n")))
}

fn split(all: Documents, report: CorpusReport, options: &PrepareOptions) -> Result<Prepared> {
    let held = |d: &Document| -> bool {
        if options.no_held_out {
            return false;
        }
        let repository = report.repositories.get(d.repository as usize);
        match report.repositories.iter().any(|r| r.held_out) {
            true => repository.is_some_and(|r| r.held_out),
            // Too few repositories to spare one: every fiftieth file.
            false => hash(&d.path).is_multiple_of(50),
        }
    };
    let (train, held_out) = (all.select(|d| !held(d)), all.select(held));
    if train.list().is_empty() {
        bail!("nothing is left to train on: {} file(s) kept in all", report.kept.files);
    }
    Ok(Prepared { train, held_out, report })
}

struct Run<'a> {
    sources: &'a [Source],
    listings: &'a [Listing],
    options: &'a PrepareOptions,
    writer: Writer,
    signatures: Vec<Option<Signature>>,
    seen: FxHashSet<u64>,
    copies: NearDuplicates,
    report: CorpusReport,
    started: Instant,
}

/// A text that passed the filter, or the reason why not with the bytes read.
type Judged = (String, Result<(&'static str, String, Option<Signature>), &'static str>, usize);

impl<'a> Run<'a> {
    fn new(
        sources: &'a [Source],
        listings: &'a [Listing],
        options: &'a PrepareOptions,
        folder: &Path,
    ) -> Result<Run<'a>> {
        let writer =
            Writer::create(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        Ok(Run {
            sources,
            listings,
            options,
            writer,
            signatures: Vec::new(),
            seen: Default::default(),
            copies: NearDuplicates::default(),
            report: CorpusReport::default(),
            started: Instant::now(),
        })
    }

    fn read_all(&mut self, stop: &AtomicBool, say: &mut dyn FnMut(PrepareNews)) -> Result<()> {
        let (sources, listings) = (self.sources, self.listings);
        let licences: Vec<Result<String, &'static str>> = sources
            .iter()
            .zip(listings)
            .map(|(source, listing)| licence_of(source, listing, self.options))
            .collect();
        for ((source, listing), licence) in sources.iter().zip(listings).zip(&licences) {
            self.report.repositories.push(Repository {
                name: source.name.clone(),
                licence: licence.as_ref().map_or_else(|refused| refused.to_string(), String::clone),
                commit: source.is_git().then(|| listing.state.clone()),
                kept: Amount::default(),
                held_out: false,
            });
            for (path, reason) in &listing.dropped {
                self.drop(reason, 0, &source.name, path);
            }
        }
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<(usize, Vec<RawFile>)>(2);
            let reader = scope.spawn(move || -> Result<()> {
                for (index, (source, listing)) in sources.iter().zip(listings).enumerate() {
                    if licences[index].is_ok() {
                        source.read(listing, &mut |batch| send.send((index, batch)).is_ok())?;
                    } else {
                        let refused = listing.files().map(|path| RawFile {
                            path: path.to_string(),
                            content: Err("repository without a permissive licence"),
                        });
                        let _ = send.send((index, refused.collect()));
                    }
                }
                Ok(())
            });
            for (index, batch) in receive {
                if stop.load(Ordering::Relaxed) {
                    bail!("stopped while the corpus was being prepared");
                }
                self.take(index, batch)?;
                say(PrepareNews {
                    source: &sources[index].name,
                    sources: (index, sources.len()),
                    kept: self.report.kept,
                    read_bytes: self.report.read_bytes,
                });
            }
            reader.join().unwrap_or_else(|_| bail!("reading the corpus failed"))
        })
    }

    /// Judges a batch on all cores, then keeps what is new, in order.
    fn take(&mut self, index: usize, batch: Vec<RawFile>) -> Result<()> {
        let closed = closed_folders(&self.listings[index], self.options);
        let any = self.options.any_licence;
        let judged: Vec<Judged> =
            batch.into_par_iter().map(|file| judge(file, &closed, any)).collect();
        let source = &self.sources[index].name;
        for (path, verdict, bytes) in judged {
            self.report.read_bytes += bytes as u64;
            let (language, text, signature) = match verdict {
                Ok(kept) => kept,
                Err(reason) => {
                    self.drop(reason, bytes, source, &path);
                    continue;
                }
            };
            if !self.seen.insert(hash(&text)) {
                self.drop("exact duplicate", bytes, source, &path);
            } else if signature.as_ref().is_some_and(|s| self.copies.is_copy(s)) {
                self.drop("near duplicate", bytes, source, &path);
            } else {
                self.writer.push(path, index as u32, language, &text).context("writing a text")?;
                self.signatures.push(signature);
                self.report.kept.add(text.len());
                self.report.languages.entry(language.into()).or_default().add(text.len());
                self.report.repositories[index].kept.add(text.len());
            }
        }
        Ok(())
    }

    fn drop(&mut self, reason: &str, bytes: usize, source: &str, path: &str) {
        if !self.report.dropped.contains_key(reason) {
            let example = format!("{source}/{path}");
            self.report.dropped.insert(reason.into(), Dropped { example, ..Dropped::default() });
        }
        if let Some(entry) = self.report.dropped.get_mut(reason) {
            entry.amount.add(bytes);
        }
    }

    /// Corrected lines in the history of every source that may be learned from.
    fn fixes(&self) -> Result<Vec<Fix>> {
        let all: Vec<Vec<Fix>> = (0..self.sources.len())
            .into_par_iter()
            .map(|index| {
                let (source, listing) = (&self.sources[index], &self.listings[index]);
                if licence_of(source, listing, self.options).is_err() {
                    return Ok(Vec::new());
                }
                let closed = closed_folders(listing, self.options);
                let mut found = fixes(source, index as u32, LINES_AROUND)?;
                found.retain(|fix| !closed.iter().any(|folder| lies_below(&fix.path, folder)));
                Ok(found)
            })
            .collect::<Result<_>>()?;
        Ok(all.concat())
    }

    fn finish(mut self, folder: &Path, fingerprint: String) -> Result<CorpusReport> {
        let mut report = std::mem::take(&mut self.report);
        if report.kept.files == 0 {
            let reasons: Vec<String> =
                report.dropped.iter().map(|(why, d)| format!("{} {why}", d.amount.files)).collect();
            let reasons = if reasons.is_empty() { "no files".into() } else { reasons.join(", ") };
            bail!("the corpus is empty: none of its files is worth learning from ({reasons})");
        }
        if !self.options.no_held_out {
            hold_out(&mut report);
        }
        let fixes = self.fixes()?;
        report.fixes = fixes.len() as u64;
        self.writer.finish(folder, &self.signatures, &fixes)?;
        report.seconds = self.started.elapsed().as_secs_f64();
        report.peak_memory = peak_memory();
        report.fingerprint = fingerprint;
        std::fs::write(folder.join(REPORT), serde_json::to_vec_pretty(&report)?)?;
        Ok(report)
    }
}

fn judge(file: RawFile, closed: &[&str], any_licence: bool) -> Judged {
    let RawFile { path, content } = file;
    let bytes = content.as_ref().map_or(0, Vec::len);
    let verdict = content.and_then(|content| {
        if closed.iter().any(|folder| lies_below(&path, folder)) {
            return Err("below a licence that is not permissive");
        }
        let text = filter::decode(content)?;
        let language = match filter::by_path(&path)? {
            Some(language) => language,
            None => filter::by_shebang(&text).ok_or("no known language")?,
        };
        if let Some(reason) = filter::unfit(&text, any_licence) {
            return Err(reason);
        }
        let signature = Signature::of(&text);
        Ok((language.name, text, signature))
    });
    (path, verdict, bytes)
}

fn lies_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The licence of a source as one line, or why it is refused.
fn licence_of(
    source: &Source,
    listing: &Listing,
    options: &PrepareOptions,
) -> Result<String, &'static str> {
    let root: Vec<_> = listing.licences.iter().filter(|l| l.folder.is_empty()).collect();
    let mut permissive: Vec<&str> =
        root.iter().filter_map(|l| filter::permissive_licence(&l.text)).collect();
    permissive.sort();
    permissive.dedup();
    if !permissive.is_empty() {
        Ok(permissive.join(" OR "))
    } else if options.any_licence {
        Ok("any (asked for)".into())
    } else if root.is_empty() && !source.is_git() {
        Ok("own code (a folder without a licence file)".into())
    } else if root.is_empty() {
        Err("refused: no licence file (--any-licence takes it)")
    } else {
        Err("refused: not permissive (--any-licence takes it)")
    }
}

/// Folders below a licence file of their own that is not permissive.
fn closed_folders<'l>(listing: &'l Listing, options: &PrepareOptions) -> Vec<&'l str> {
    let refused = |folder: &str| {
        let mut own = listing.licences.iter().filter(|l| l.folder == folder);
        own.all(|l| filter::permissive_licence(&l.text).is_none())
    };
    let folders = listing.licences.iter().map(|l| l.folder.as_str());
    folders.filter(|f| !f.is_empty() && !options.any_licence && refused(f)).collect()
}

/// Marks the smallest repositories, up to 2 % of the bytes and one at least, as held out. With fewer
/// than five nothing is marked.
fn hold_out(report: &mut CorpusReport) {
    let mut order: Vec<usize> =
        (0..report.repositories.len()).filter(|&i| report.repositories[i].kept.files > 0).collect();
    if order.len() >= 5 {
        order.sort_by_key(|&i| report.repositories[i].kept.bytes);
        for index in order {
            let size = report.repositories[index].kept;
            let full = (report.held_out.bytes + size.bytes) * 50 > report.kept.bytes;
            if full && report.held_out.files > 0 {
                break;
            }
            report.repositories[index].held_out = true;
            report.held_out.files += size.files;
            report.held_out.bytes += size.bytes;
        }
    }
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

impl fmt::Display for CorpusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            f,
            "kept {} files, {:.1} MB ({:.1} MB held out) of {:.1} MB read in {:.1} s: {:.1} MB/s, peak memory {:.0} MB",
            self.kept.files,
            mb(self.kept.bytes),
            mb(self.held_out.bytes),
            mb(self.read_bytes),
            self.seconds,
            mb(self.read_bytes) / self.seconds.max(1e-9),
            mb(self.peak_memory),
        )?;
        writeln!(f, "  {:<44}{:>9}{:>11}", "language", "files", "MB")?;
        for (language, amount) in &self.languages {
            writeln!(f, "  {language:<44}{:>9}{:>11.2}", amount.files, mb(amount.bytes))?;
        }
        if self.fixes > 0 {
            writeln!(f, "  {} places corrected in commits", self.fixes)?;
        }
        writeln!(f, "  {:<44}{:>9}{:>11}  such as", "dropped", "files", "MB")?;
        for (reason, Dropped { amount, example }) in &self.dropped {
            let mb = mb(amount.bytes);
            writeln!(f, "  {reason:<44}{:>9}{mb:>11.2}  {example}", amount.files)?;
        }
        for refused in self.repositories.iter().filter(|r| r.licence.starts_with("refused")) {
            writeln!(f, "  {}: {}", refused.name, refused.licence)?;
        }
        Ok(())
    }
}
