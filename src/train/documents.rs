//! Prepared documents on disk: all texts in one file, what is known about them in another. Texts are
//! read when they are asked for, so memory stays flat whatever the corpus size.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::syntax::Language;
use crate::tokenizer::Tokenizer;

use super::fixes::Fix;

const TEXTS: &str = "texts.bin";
const INDEX: &str = "documents.jsonl";
const FIXES: &str = "fixes.jsonl";

/// A name of the language table; an alias, so that serde does not take it for borrowed input.
type LanguageName = &'static str;

/// What is known about one document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Path inside its repository, with `/`.
    pub path: String,
    /// Index of its repository.
    pub repository: u32,
    /// Name of its language.
    #[serde(deserialize_with = "language")]
    pub language: LanguageName,
    /// Whether it is a test, by its path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// Where its text starts.
    start: u64,
    /// Bytes of its text.
    pub bytes: u32,
    /// At most eight similar documents of the same repository, most similar first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<u32>,
    /// How much more often than others of its length it is drawn.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f32,
    /// Bytes that were written lately: half of the pieces lie there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Range<u32>>,
    /// What the token that begins at each byte counts in the loss, in 255ths; without it each token counts 1.
    #[serde(skip)]
    pub counts: Option<Arc<[u8]>>,
}

fn one() -> f32 {
    1.0
}

fn is_one(weight: &f32) -> bool {
    *weight == 1.0
}

fn language<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(reader)?;
    let known = Language::by_name(&name).map(|l| l.name);
    known.ok_or_else(|| serde::de::Error::custom(format!("unknown language {name:?}")))
}

/// Documents in a folder, or in memory.
#[derive(Clone)]
pub struct Documents {
    list: Arc<Vec<Document>>,
    texts: Texts,
    fixes: Arc<Vec<Fix>>,
}

#[derive(Clone)]
enum Texts {
    Disk(Arc<File>),
    Memory(Arc<String>),
}

impl Documents {
    /// Opens what [`Writer`] wrote.
    ///
    /// # Errors
    /// A file that is missing, or an index that does not fit the texts.
    pub fn open(folder: &Path) -> Result<Documents> {
        let index = folder.join(INDEX);
        let read = || -> Result<Documents> {
            let texts = File::open(folder.join(TEXTS))?;
            let length = texts.metadata()?.len();
            let mut list = Vec::new();
            for (number, line) in BufReader::new(File::open(&index)?).lines().enumerate() {
                let document: Document =
                    serde_json::from_str(&line?).with_context(|| format!("line {}", number + 1))?;
                if document.start.checked_add(document.bytes as u64).is_none_or(|end| end > length)
                {
                    bail!("line {}: the text lies outside of {TEXTS}", number + 1);
                }
                list.push(document);
            }
            let count = list.len() as u32;
            if list.iter().flat_map(|d| &d.related).any(|&r| r >= count) {
                bail!("a related document does not exist");
            }
            let fixes = BufReader::new(File::open(folder.join(FIXES))?).lines();
            let fixes =
                fixes.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
            let (list, texts) = (Arc::new(list), Texts::Disk(Arc::new(texts)));
            Ok(Documents { list, texts, fixes: Arc::new(fixes) })
        };
        read().with_context(|| format!("{} is damaged: delete the folder", index.display()))
    }

    /// Documents in memory: (path, repository, text), the language by the path.
    pub fn from_texts<'a>(files: impl IntoIterator<Item = (&'a str, u32, &'a str)>) -> Documents {
        let (mut list, mut all) = (Vec::new(), String::new());
        for (path, repository, text) in files {
            let language = Language::by_path(Path::new(path)).map_or("", |l| l.name);
            list.push(Document {
                path: path.to_string(),
                repository,
                language,
                is_test: super::filter::is_test(path),
                start: all.len() as u64,
                bytes: text.len() as u32,
                related: Vec::new(),
                weight: 1.0,
                recent: Vec::new(),
                counts: None,
            });
            all.push_str(text);
        }
        let signatures: Vec<_> = (0..list.len())
            .map(|i| {
                let start = list[i].start as usize;
                super::near_duplicates::Signature::of(&all[start..start + list[i].bytes as usize])
            })
            .collect();
        relate(&mut list, &signatures);
        Documents {
            list: Arc::new(list),
            texts: Texts::Memory(Arc::new(all)),
            fixes: Arc::default(),
        }
    }

    /// The documents for which `keep` is true, over the same texts.
    pub fn select(&self, keep: impl Fn(&Document) -> bool) -> Documents {
        let mut places = vec![u32::MAX; self.list.len()];
        let mut list: Vec<Document> = Vec::new();
        for (old, document) in self.list.iter().enumerate() {
            if keep(document) {
                places[old] = list.len() as u32;
                list.push(document.clone());
            }
        }
        for document in &mut list {
            let moved = document.related.iter().map(|&r| places[r as usize]);
            document.related = moved.filter(|&r| r != u32::MAX).collect();
        }
        // What was corrected in a text that is left out is left out with it.
        let place = |document: &Document| (document.repository, document.path.clone());
        let out: FxHashSet<_> = self.list.iter().filter(|d| !keep(d)).map(place).collect();
        let repositories: FxHashSet<u32> = list.iter().map(|d| d.repository).collect();
        let mut fixes = self.fixes.to_vec();
        fixes.retain(|fix| {
            repositories.contains(&fix.repository)
                && !out.contains(&(fix.repository, fix.path.clone()))
        });
        Documents { list: Arc::new(list), texts: self.texts.clone(), fixes: Arc::new(fixes) }
    }

    /// Lines that were corrected in commits.
    pub(super) fn fixes(&self) -> &[Fix] {
        &self.fixes
    }

    /// Changes what is known of each document.
    pub fn describe(mut self, mut change: impl FnMut(&mut Document)) -> Documents {
        Arc::make_mut(&mut self.list).iter_mut().for_each(&mut change);
        self
    }

    /// All documents, in order.
    pub fn list(&self) -> &[Document] {
        &self.list
    }

    /// Bytes of all texts.
    pub fn bytes(&self) -> u64 {
        self.list.iter().map(|d| d.bytes as u64).sum()
    }

    /// Mean bytes of a token, over a sample of about a hundred documents.
    pub fn bytes_per_token(&self, tokenizer: &Tokenizer) -> f64 {
        let every = (self.list.len() / 100).max(1);
        let (mut bytes, mut tokens) = (0, 0);
        for index in (0..self.list.len()).step_by(every) {
            let text = self.text(index);
            (bytes, tokens) = (bytes + text.len(), tokens + tokenizer.encode(&text).len());
        }
        bytes as f64 / tokens.max(1) as f64
    }

    /// The text of a document; empty if the disk fails or the file was changed under us.
    pub fn text(&self, index: usize) -> String {
        let document = &self.list[index];
        match &self.texts {
            Texts::Memory(all) => {
                let start = document.start as usize;
                all[start..start + document.bytes as usize].to_string()
            }
            Texts::Disk(file) => {
                let mut bytes = vec![0; document.bytes as usize];
                match read_at(file, &mut bytes, document.start) {
                    Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
                    Err(_) => String::new(),
                }
            }
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], start: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut start: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, start)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => (bytes, start) = (&mut bytes[read..], start + read as u64),
        }
    }
    Ok(())
}

/// Writes documents one by one; nothing counts until [`Writer::finish`].
pub(super) struct Writer {
    texts: BufWriter<File>,
    length: u64,
    list: Vec<Document>,
}

impl Writer {
    pub(super) fn create(folder: &Path) -> Result<Writer> {
        std::fs::create_dir_all(folder)?;
        let texts = BufWriter::with_capacity(1 << 20, File::create(folder.join(TEXTS))?);
        Ok(Writer { texts, length: 0, list: Vec::new() })
    }

    pub(super) fn push(
        &mut self,
        path: String,
        repository: u32,
        language: &'static str,
        text: &str,
    ) -> std::io::Result<()> {
        self.texts.write_all(text.as_bytes())?;
        self.list.push(Document {
            is_test: super::filter::is_test(&path),
            path,
            repository,
            language,
            start: self.length,
            bytes: text.len() as u32,
            related: Vec::new(),
            weight: 1.0,
            recent: Vec::new(),
            counts: None,
        });
        self.length += text.len() as u64;
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        folder: &Path,
        signatures: &[Option<super::near_duplicates::Signature>],
        fixes: &[Fix],
    ) -> Result<()> {
        relate(&mut self.list, signatures);
        write_lines(&folder.join(FIXES), fixes)?;
        write_lines(&folder.join(INDEX), &self.list)?;
        self.texts.into_inner()?.sync_all()?;
        Ok(())
    }
}

/// Writes a value per line, as JSON.
fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in values {
        serde_json::to_writer(&mut file, value)?;
        file.write_all(b"\n")?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Fills `related`: per repository, the most similar signatures. In a large repository only documents
/// that lie close by path are compared.
fn relate(list: &mut [Document], signatures: &[Option<super::near_duplicates::Signature>]) {
    use rayon::prelude::*;
    const RELATED: usize = 8;
    const NEIGHBOURS: usize = 2000;
    let mut repositories: std::collections::BTreeMap<u32, Vec<u32>> = Default::default();
    for (i, document) in list.iter().enumerate() {
        repositories.entry(document.repository).or_default().push(i as u32);
    }
    for members in repositories.values() {
        let related: Vec<Vec<u32>> = members
            .par_iter()
            .enumerate()
            .map(|(place, &own)| {
                let Some(mine) = &signatures[own as usize] else { return Vec::new() };
                let near =
                    place.saturating_sub(NEIGHBOURS)..(place + NEIGHBOURS).min(members.len());
                let mut scored: Vec<(f64, u32)> = members[near]
                    .iter()
                    .filter(|&&other| other != own)
                    .filter_map(|&other| {
                        let score = mine.similarity(signatures[other as usize].as_ref()?);
                        (score > 0.1).then_some((score, other))
                    })
                    .collect();
                scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                scored.into_iter().take(RELATED).map(|(_, other)| other).collect()
            })
            .collect();
        for (&member, related) in members.iter().zip(related) {
            list[member as usize].related = related;
        }
    }
}
