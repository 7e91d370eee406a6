//! One immutable index over the tokens of some files: every position, sorted by the text before it.
//!
//! It is the suffix array of the reversed text, built by libsais in linear time. The places where a history
//! stood before lie side by side in it, those with the longest common end nearest, and beside each
//! stands the token that followed: the counts of what comes next are a run of neighbours. 12 bytes a token,
//! the same on disk and in memory, so that a file is mapped and used as it is.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use libsais::SuffixArrayConstruction;
use memmap2::Mmap;

use crate::tokenizer::TokenId;

/// "nstl" and the version of the layout.
const MAGIC: u32 = 0x6e73_746c;
const VERSION: u32 = 1;
/// Words of the header: magic, version, fingerprint (2), vocabulary, tokens, positions, files, words of names,
/// sum of the words before.
const HEADER: usize = 10;
/// Tokens of one segment at most; positions are 32 bits, and the sort needs a sign.
pub const MAX_TOKENS: usize = 1 << 30;

/// Files to be indexed, with names and tokens. In order of their paths, a folder is one run.
#[derive(Default)]
pub struct SegmentBuilder {
    tokens: Vec<u32>,
    files: Vec<(String, u32, u64)>,
    vocabulary: usize,
}

impl SegmentBuilder {
    /// Nothing yet, for a vocabulary of that many tokens.
    pub fn new(vocabulary: usize) -> SegmentBuilder {
        SegmentBuilder { tokens: vec![vocabulary as u32], files: Vec::new(), vocabulary }
    }

    /// Adds a file; `state` is the caller's, to see later whether the file has changed. False if it no
    /// longer fits.
    pub fn add(&mut self, name: &str, state: u64, tokens: &[TokenId]) -> bool {
        if self.tokens.len() + tokens.len() + 1 > MAX_TOKENS {
            return false;
        }
        self.files.push((name.to_string(), self.tokens.len() as u32, state));
        let stranger = self.vocabulary as u32;
        self.tokens.extend(tokens.iter().map(|&t| t.min(stranger)));
        self.tokens.push(stranger);
        true
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Sorts and keeps the index in memory. `fingerprint` names the tokenizer.
    pub fn build(self, fingerprint: u64) -> Result<Segment> {
        let mut bytes = Vec::with_capacity(self.tokens.len() * 12 + 4096);
        self.write(fingerprint, &mut bytes)?;
        Segment::new(Words::Owned(words(&bytes)), fingerprint)
    }

    /// Sorts and writes the index; [`Segment::open`] reads it.
    pub fn write(self, fingerprint: u64, out: &mut impl Write) -> Result<()> {
        let SegmentBuilder { tokens, files, vocabulary } = self;
        let sorted = sort(&tokens, vocabulary)?;
        let separator = vocabulary as u32;
        let ends = sorted.into_iter().map(|r| tokens.len() - 1 - r as usize);
        // What stands before each sorted place; the starts of files have nothing before them.
        let ends: Vec<u32> =
            ends.filter(|&end| tokens[end] != separator).map(|end| end as u32).collect();
        let mut starts = vec![0u32; vocabulary + 1];
        ends.iter().for_each(|&end| starts[tokens[end as usize] as usize + 1] += 1);
        (0..vocabulary).for_each(|t| starts[t + 1] += starts[t]);
        let mut names = Vec::new();
        let mut table = Vec::with_capacity(files.len() * 4);
        for (name, start, state) in &files {
            let at = names.len() as u32;
            names.extend_from_slice(name.as_bytes());
            table.extend([*start, at, *state as u32, (*state >> 32) as u32]);
        }
        let length = names.len() as u32;
        names.resize(names.len().next_multiple_of(4), 0);
        let mut header = vec![
            MAGIC,
            VERSION,
            fingerprint as u32,
            (fingerprint >> 32) as u32,
            vocabulary as u32,
            tokens.len() as u32,
            ends.len() as u32,
            files.len() as u32,
            length,
        ];
        header.push(checksum(&header));
        let mut put = |words: &[u32]| out.write_all(bytemuck::cast_slice(words));
        put(&header)?;
        put(&starts)?;
        put(&table)?;
        put(&tokens)?;
        let mut block = Vec::with_capacity(1 << 14);
        for part in ends.chunks(1 << 14) {
            block.clear();
            block.extend(part.iter().map(|end| end + 1));
            put(&block)?;
        }
        for part in ends.chunks(1 << 14) {
            block.clear();
            block.extend(part.iter().map(|&end| tokens[end as usize + 1]));
            put(&block)?;
        }
        out.write_all(&names)?;
        Ok(())
    }
}

/// The suffix array of the reversed tokens.
fn sort(tokens: &[u32], vocabulary: usize) -> Result<Vec<i32>> {
    let fail = |e| anyhow::anyhow!("the index cannot be sorted: {e:?}");
    // 16 bits sort faster; the separator is one more than the vocabulary.
    if vocabulary < usize::from(u16::MAX) {
        let reversed: Vec<u16> = tokens.iter().rev().map(|&t| t as u16).collect();
        let sorted = SuffixArrayConstruction::for_text(&reversed).in_owned_buffer32();
        return Ok(sorted.single_threaded().run().map_err(fail)?.into_vec());
    }
    let mut reversed: Vec<i32> = tokens.iter().rev().map(|&t| t as i32).collect();
    let sorted = SuffixArrayConstruction::for_text_mut(&mut reversed).in_owned_buffer32();
    Ok(sorted.single_threaded().run().map_err(fail)?.into_vec())
}

fn checksum(words: &[u32]) -> u32 {
    words.iter().fold(0x811c_9dc5, |sum, &word| (sum ^ word).wrapping_mul(0x0100_0193))
}

enum Words {
    Owned(Vec<u32>),
    Mapped(Mmap),
}

/// The index; see the module.
pub struct Segment {
    words: Words,
    vocabulary: usize,
    /// Where each part lies, in words; names in bytes of their own part.
    starts: Range<usize>,
    table: Range<usize>,
    tokens: Range<usize>,
    positions: Range<usize>,
    next: Range<usize>,
    names: Range<usize>,
    names_length: usize,
}

impl Segment {
    /// Maps an index that [`SegmentBuilder::write`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read, of another version or tokenizer, cut off or damaged in its header. Damage
    /// behind it makes answers wrong, but nothing else.
    pub fn open(path: &Path, fingerprint: u64) -> Result<Segment> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: the file is replaced as a whole by renaming, never written in place; all of its content is
        // plain numbers, checked before they are used as indices.
        let map = unsafe { Mmap::map(&file) }?;
        Segment::new(Words::Mapped(map), fingerprint)
            .with_context(|| format!("{} is no index for this model", path.display()))
    }

    fn new(words: Words, fingerprint: u64) -> Result<Segment> {
        let all = slice(&words);
        ensure!(all.len() >= HEADER, "it is too short");
        let header = &all[..HEADER];
        ensure!(header[0] == MAGIC, "it is something else");
        ensure!(header[1] == VERSION, "its layout is version {}, not {VERSION}", header[1]);
        ensure!(checksum(&header[..HEADER - 1]) == header[HEADER - 1], "its header is damaged");
        if u64::from(header[2]) | u64::from(header[3]) << 32 != fingerprint {
            bail!("it is for another tokenizer");
        }
        let [vocabulary, tokens, positions, files, names] =
            [4, 5, 6, 7, 8].map(|i| header[i] as usize);
        let mut at = HEADER;
        let mut part = |length: usize| {
            let range = at..at + length;
            at = range.end;
            range
        };
        let segment = Segment {
            vocabulary,
            starts: part(vocabulary + 1),
            table: part(files * 4),
            tokens: part(tokens),
            positions: part(positions),
            next: part(positions),
            names: part(names.div_ceil(4)),
            names_length: names,
            words,
        };
        ensure!(slice(&segment.words).len() == segment.names.end, "it is cut off");
        Ok(segment)
    }

    fn part(&self, range: &Range<usize>) -> &[u32] {
        &slice(&self.words)[range.clone()]
    }

    /// All tokens, with a separator (the size of the vocabulary) around each file.
    pub fn tokens(&self) -> &[u32] {
        self.part(&self.tokens)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.table.len() / 4
    }

    /// The name of a file, its tokens' range, and the state that was given with it.
    pub fn file(&self, index: usize) -> (&str, Range<u32>, u64) {
        let table = self.part(&self.table);
        let row = &table[index * 4..index * 4 + 4];
        let end = table.get(index * 4 + 4).copied().unwrap_or(self.tokens.len() as u32);
        let names: &[u8] = bytemuck::cast_slice(self.part(&self.names));
        let names = &names[..self.names_length];
        let name_end = table.get(index * 4 + 5).map_or(names.len(), |&at| at as usize);
        let name = names.get(row[1] as usize..name_end).unwrap_or_default();
        let state = u64::from(row[2]) | u64::from(row[3]) << 32;
        (std::str::from_utf8(name).unwrap_or_default(), row[0]..end.saturating_sub(1), state)
    }

    /// The file that holds a position.
    pub fn file_at(&self, position: u32) -> Option<usize> {
        let table = self.part(&self.table);
        partition(0..self.files(), |file| table[file * 4] <= position).checked_sub(1)
    }

    /// How many places the order has.
    pub fn places(&self) -> usize {
        self.positions.len()
    }

    /// Bytes of the index.
    pub fn size_in_bytes(&self) -> usize {
        slice(&self.words).len() * 4
    }

    /// How many tokens before `position` agree with the end of `history`.
    pub fn agreement(&self, history: &[TokenId], position: u32) -> usize {
        let before = self.tokens().get(..position as usize).unwrap_or_default();
        before.iter().rev().zip(history.iter().rev()).take_while(|(a, b)| a == b).count()
    }

    /// Whether at least `length` tokens before `position` agree with the end of `history`.
    fn agrees(&self, history: &[TokenId], length: usize, position: u32) -> bool {
        let end = position as usize;
        let before = end.checked_sub(length).and_then(|start| self.tokens().get(start..end));
        before.is_some_and(|before| history.ends_with(before))
    }

    /// The position at a place of the order; a damaged index gives 0, which agrees with nothing.
    pub fn position(&self, place: usize) -> u32 {
        self.part(&self.positions).get(place).copied().unwrap_or(0)
    }

    /// The positions and the tokens at them for a run of places.
    pub fn run(&self, places: Range<usize>) -> (&[u32], &[u32]) {
        let get = |part| self.part(part).get(places.clone()).unwrap_or_default();
        (get(&self.positions), get(&self.next))
    }

    /// Where `history` would stand among the places whose last token is its own; `None` if there are none.
    pub fn find(&self, history: &[TokenId]) -> Option<Found> {
        let &last = history.last()?;
        if last as usize >= self.vocabulary {
            return None;
        }
        let starts = self.part(&self.starts);
        let end = (starts[last as usize + 1] as usize).min(self.positions.len());
        let bucket = (starts[last as usize] as usize).min(end)..end;
        let mut seen = Vec::with_capacity(32);
        let (mut low, mut high) = (bucket.start, bucket.end);
        // All places between two agree with the history in what both do (Manber and Myers 1990).
        let (mut below, mut above) = (1, 1);
        while low < high {
            let middle = (low + high) / 2;
            let (order, agreed) = self.order(history, self.position(middle), below.min(above));
            seen.push((middle, agreed));
            match order {
                Ordering::Less => (low, below) = (middle + 1, agreed),
                _ => (high, above) = (middle, agreed),
            }
        }
        (!bucket.is_empty()).then_some(Found { bucket, at: low, seen })
    }

    /// The text before `position` against the end of `history`, last tokens first, of which the last `agreed` are known
    /// to agree; with how many do.
    fn order(&self, history: &[TokenId], position: u32, agreed: usize) -> (Ordering, usize) {
        // In a damaged index a place may stand anywhere.
        let agreed = agreed.min(history.len()).min(position as usize);
        let (history, position) = (&history[..history.len() - agreed], position as usize - agreed);
        let n = self.agreement(history, position as u32);
        let all = agreed + n;
        let Some(at) = history.len().checked_sub(n + 1) else { return (Ordering::Greater, all) };
        let token = position.checked_sub(n + 1).and_then(|at| self.tokens().get(at)).copied();
        (token.cmp(&Some(history[at])).then(Ordering::Less), all)
    }

    /// The places that agree with at least `length` tokens of `history`, which was found there; `inside` is a run of such
    /// places around it, which may be empty.
    pub fn widen(
        &self,
        history: &[TokenId],
        length: usize,
        found: &Found,
        inside: Range<usize>,
    ) -> Range<usize> {
        let Found { bucket, at, seen } = found;
        // The bucket is what agrees in one token.
        if length <= 1 {
            return bucket.clone();
        }
        // Agreement falls to both sides: the search has left marks between which each end lies.
        let (mut first, mut end) = (bucket.start..inside.start, inside.end..bucket.end);
        for &(place, agreed) in seen {
            match (place < *at, agreed >= length) {
                (true, true) => first.end = first.end.min(place),
                (true, false) => first.start = first.start.max(place + 1),
                (false, true) => end.start = end.start.max(place + 1),
                (false, false) => end.end = end.end.min(place),
            }
        }
        let fits = |place: usize| self.agrees(history, length, self.position(place));
        partition(first, |place| !fits(place))..partition(end, fits)
    }
}

/// Where a history stands in the order of an index.
#[derive(Clone, Debug)]
pub struct Found {
    /// The places that agree with its last token.
    pub bucket: Range<usize>,
    /// The place in them before which it would stand.
    pub at: usize,
    /// Places that were compared with it, and how many tokens agree.
    seen: Vec<(usize, usize)>,
}

/// The first place of a range for which `holds` does not; it holds for all before and for none behind.
pub(super) fn partition(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = (low + high) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Bytes as aligned words; a rest of less than a word is left out.
pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![0u32; bytes.len() / 4];
    let whole = words.len() * 4;
    bytemuck::cast_slice_mut(&mut words).copy_from_slice(&bytes[..whole]);
    words
}

fn slice(words: &Words) -> &[u32] {
    match words {
        Words::Owned(words) => words,
        // Pages are aligned; a length that is no multiple of 4 gives nothing, which is refused.
        Words::Mapped(map) => bytemuck::try_cast_slice(map).unwrap_or_default(),
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment of {} tokens in {} files", self.tokens.len(), self.files())
    }
}
