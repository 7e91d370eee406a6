//! The examples drawn from prepared documents: plain, fill-in-the-middle, with snippets, edit pairs.
//!
//! Every example is a pure function of (seed, index): a resumed run sees what an unbroken one sees, and
//! another trainer that reads exported rows sees the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::syntax::{Language, SyntaxTree};
use crate::tokenizer::{FimLayout, FimPrompt, TokenId, Tokenizer};

use super::documents::{Document, Documents};
use super::edit_pairs;
use super::near_duplicates::identifiers;
use super::snippets;

/// How documents become examples. Shares lie between 0 and 1.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExampleConfig {
    /// Tokens of one example.
    pub sequence: usize,
    /// Share of the pieces that are cut for fill-in-the-middle (Bavarian et al. 2022).
    pub fim: f64,
    /// Share of those in prefix-suffix-middle order; the others put the suffix first.
    pub psm: f64,
    /// Shares of the middles: random characters, rest of a line or next lines; the others are nodes of
    /// the syntax tree.
    pub middles: (f64, f64),
    /// Share of the pieces that follow snippets of related files, where there are any.
    pub snippets: f64,
    /// Share of the pieces that are broken lines with their correction.
    pub edits: f64,
    /// Largest share that tests take of a language.
    pub tests: f64,
    /// Weights of the languages; empty: by their bytes.
    pub mix: BTreeMap<String, f64>,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

impl Default for ExampleConfig {
    fn default() -> ExampleConfig {
        ExampleConfig {
            sequence: 1024,
            fim: 0.7,
            psm: 0.3,
            middles: (0.4, 0.3),
            snippets: 0.4,
            edits: 0.03,
            tests: 0.25,
            mix: BTreeMap::new(),
            seed: 11,
        }
    }
}

impl ExampleConfig {
    /// The same mixture as plain text only, for comparable losses.
    pub fn plain(&self) -> ExampleConfig {
        ExampleConfig { fim: 0.0, snippets: 0.0, edits: 0.0, ..self.clone() }
    }
}

/// Documents to draw from.
pub struct Dataset {
    documents: Documents,
    groups: Vec<Group>,
    config: ExampleConfig,
    /// How long a piece may be for a number of tokens.
    bytes_per_token: f64,
}

/// Documents of one language, tests or not, drawn in proportion to their lengths.
struct Group {
    /// Share of this and all groups before it.
    until: f64,
    members: Vec<u32>,
    /// Running totals of bytes.
    totals: Vec<u64>,
}

/// Inputs and targets of some sequences, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Token ids (batch · sequence).
    pub tokens: Vec<TokenId>,
    /// The id that follows each token.
    pub targets: Vec<u32>,
}

impl Dataset {
    /// Tokens are made when an example is drawn, because where a text is cut decides how it is tokenized.
    ///
    /// # Errors
    /// No document at all, or none of a language that the mix wants.
    pub fn new(
        documents: Documents,
        tokenizer: &Tokenizer,
        config: ExampleConfig,
    ) -> Result<Dataset> {
        if documents.list().iter().all(|d| d.bytes == 0) {
            bail!("there is nothing to learn from: no document has a text");
        }
        let mut languages: BTreeMap<&str, [(Vec<u32>, Vec<u64>); 2]> = BTreeMap::new();
        for (index, document) in documents.list().iter().enumerate() {
            let group = &mut languages.entry(document.language).or_default();
            let (members, totals) = &mut group[document.is_test as usize];
            members.push(index as u32);
            totals.push(totals.last().copied().unwrap_or(0) + document.bytes as u64);
        }
        let bytes = |totals: &[u64]| totals.last().copied().unwrap_or(0) as f64;
        let mut shares = Vec::new();
        for (language, [code, tests]) in languages {
            let (code_bytes, test_bytes) = (bytes(&code.1), bytes(&tests.1));
            let weight = match config.mix.is_empty() {
                true => code_bytes + test_bytes,
                false => config.mix.get(language).copied().unwrap_or(0.0),
            };
            let natural = test_bytes / (code_bytes + test_bytes).max(1.0);
            let capped = if code_bytes > 0.0 { natural.min(config.tests) } else { 1.0 };
            shares.push((weight * (1.0 - capped), code));
            shares.push((weight * capped, tests));
        }
        let total: f64 = shares.iter().map(|(share, _)| share).sum();
        if total <= 0.0 {
            let wanted: Vec<&String> = config.mix.keys().collect();
            bail!("the corpus has no text in any language of the mix: {wanted:?}");
        }
        let mut until = 0.0;
        let groups =
            shares.into_iter().filter(|(share, group)| *share > 0.0 && !group.0.is_empty());
        let groups = groups
            .map(|(share, (members, totals))| {
                until += share / total;
                Group { until, members, totals }
            })
            .collect();
        let bytes_per_token = documents.bytes_per_token(tokenizer);
        Ok(Dataset { documents, groups, config, bytes_per_token })
    }

    /// Bytes of all documents.
    pub fn bytes(&self) -> u64 {
        self.documents.bytes()
    }

    /// How examples are drawn.
    pub fn config(&self) -> &ExampleConfig {
        &self.config
    }

    /// The examples `first..first + size`, each packed full with pieces of documents.
    pub fn batch(&self, tokenizer: &Tokenizer, first: u64, size: usize) -> Batch {
        let sequence = self.config.sequence;
        let mut batch = Batch { tokens: Vec::new(), targets: Vec::new() };
        for row in self.rows(tokenizer, first, size) {
            batch.tokens.extend(&row[..sequence]);
            batch.targets.extend(&row[1..]);
        }
        batch
    }

    /// Rows of sequence + 1 tokens: what [`Dataset::batch`] cuts into inputs and targets.
    fn rows(&self, tokenizer: &Tokenizer, first: u64, size: usize) -> Vec<Vec<TokenId>> {
        use rayon::prelude::*;
        (first..first + size as u64).into_par_iter().map(|i| self.row(tokenizer, i)).collect()
    }

    fn row(&self, tokenizer: &Tokenizer, index: u64) -> Vec<TokenId> {
        let mut rng = StdRng::seed_from_u64(self.config.seed ^ index.wrapping_mul(0x9E37_79B9));
        let wanted = self.config.sequence + 1;
        let mut row = Vec::with_capacity(wanted + 64);
        while row.len() < wanted {
            let document = self.draw(&mut rng);
            self.example(tokenizer, document, wanted - row.len(), &mut rng, &mut row);
        }
        row.truncate(wanted);
        row
    }

    fn draw(&self, rng: &mut StdRng) -> usize {
        let share: f64 = rng.random();
        let last = self.groups.len() - 1;
        let group = &self.groups[self.groups.partition_point(|g| g.until <= share).min(last)];
        let at = rng.random_range(0..group.totals.last().copied().unwrap_or(1).max(1));
        let place = group.totals.partition_point(|&total| total <= at);
        group.members[place.min(group.members.len() - 1)] as usize
    }

    /// Appends one piece of a document: plain text to the end of the row, or a whole small task.
    fn example(
        &self,
        tokenizer: &Tokenizer,
        index: usize,
        room: usize,
        rng: &mut StdRng,
        row: &mut Vec<TokenId>,
    ) {
        /// A task that does not fit into the rest of a row would lose its answer.
        const LEAST_ROOM: usize = 120;
        let document = &self.documents.list()[index];
        let text = self.documents.text(index);
        let kind: f64 = rng.random();
        let cut = rng.random_bool(self.config.fim) && room >= LEAST_ROOM;
        let beside = rng.random_bool(self.config.snippets) && room >= 4 * LEAST_ROOM;
        // Snippets take up to a third; a task keeps some room to be sure of its end.
        let tokens = room as f64 * if beside { 0.6 } else { 1.0 } * if cut { 0.85 } else { 1.1 };
        // Pieces of all lengths, as windows are at serving time: short files, narrow budgets.
        let tokens = if cut { tokens * rng.random_range(0.3..1.0) } else { tokens };
        let span = ((tokens * self.bytes_per_token) as usize).clamp(1, text.len().max(1));
        let start = match text.len().saturating_sub(span) {
            0 => 0,
            rest => line_start(&text, rng.random_range(0..=rest)),
        };
        let piece = &text[start..text.floor_char_boundary((start + span).min(text.len()))];
        let Some(layout) = tokenizer.fim() else {
            row.extend(tokenizer.encode(piece));
            return;
        };
        if kind < self.config.edits
            && room >= 4 * LEAST_ROOM
            && let Some(tokens) = edit_pair(tokenizer, document, piece, rng)
        {
            row.extend(tokens);
            return;
        }
        let middle = if cut { self.middle(document, piece, rng) } else { 0..piece.len() / 2 };
        let snippets = match beside {
            true => self.snippets(tokenizer, document, &piece[..middle.start], room / 3, rng),
            false => Vec::new(),
        };
        let header = [snippets, tokenizer.file_header(&document.path)].concat();
        if cut {
            let psm = rng.random_bool(self.config.psm);
            row.extend(fill_in_the_middle(tokenizer, layout, psm, &header, piece, middle, rng));
        } else {
            row.extend(header);
            row.extend(tokenizer.encode(piece));
        }
        row.extend(layout.end());
    }

    /// Where the middle of a piece lies.
    fn middle(&self, document: &Document, piece: &str, rng: &mut StdRng) -> Range<usize> {
        let (characters, lines) = self.config.middles;
        let kind: f64 = rng.random();
        if kind >= characters + lines
            && let Some(node) = node(document, piece, rng)
        {
            return node;
        }
        let end = piece.len();
        let from = piece.floor_char_boundary(rng.random_range(end / 8..=end));
        if kind < characters {
            let to = (from + rng.random_range(1..=200)).min(end);
            return from..piece.floor_char_boundary(to);
        }
        let line_end = |at: usize| piece[at..].find('\n').map_or(end, |i| at + i);
        // The rest of a line as often as some lines more.
        let more = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..=6) };
        from..(0..more).fold(line_end(from), |at, _| line_end((at + 1).min(end)))
    }

    /// One to three windows of related documents, each behind its marker and path.
    fn snippets(
        &self,
        tokenizer: &Tokenizer,
        document: &Document,
        before: &str,
        room: usize,
        rng: &mut StdRng,
    ) -> Vec<TokenId> {
        /// More of a file is not looked at.
        const LOOK: usize = 16_000;
        let mut related = document.related.clone();
        related.shuffle(rng);
        related.truncate(3);
        let texts: Vec<(&str, String)> = related
            .iter()
            .map(|&other| {
                let text = self.documents.text(other as usize);
                let rest = text.len().saturating_sub(LOOK);
                let start = line_start(&text, rng.random_range(0..=rest));
                let end = text.floor_char_boundary(start + LOOK);
                (self.documents.list()[other as usize].path.as_str(), text[start..end].to_string())
            })
            .collect();
        let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, &**text)).collect();
        let lines = before.rmatch_indices('\n').nth(20).map_or(0, |(at, _)| at);
        let count = rng.random_range(1..=3);
        let mut tokens = Vec::new();
        // The most similar one comes last, next to the file itself.
        for snippet in snippets::choose(&before[lines..], &files, count).iter().rev() {
            let own = tokenizer.snippet(snippet.path, snippet.text);
            if tokens.len() + own.len() <= room {
                tokens.extend(own);
            }
        }
        tokens
    }

    /// Writes the first `rows` examples as NumPy files of (rows, sequence + 1) 16-bit ids, at most
    /// `per_file` rows in each, for trainers in other languages.
    ///
    /// # Errors
    /// A vocabulary over 65,536; a folder that cannot be written (nothing half-written stays).
    pub fn export(
        &self,
        tokenizer: &Tokenizer,
        rows: u64,
        per_file: u64,
        folder: &Path,
        mut say: impl FnMut(u64),
    ) -> Result<()> {
        if tokenizer.vocab_size() > 1 << 16 {
            bail!("a vocabulary of {} does not fit 16-bit ids", tokenizer.vocab_size());
        }
        std::fs::create_dir_all(folder)?;
        for (number, first) in (0..rows).step_by(per_file.max(1) as usize).enumerate() {
            let count = per_file.min(rows - first);
            let path = folder.join(format!("rows-{number:04}.npy"));
            let mut file = npy_header(count as usize, self.config.sequence + 1);
            for from in (first..first + count).step_by(256) {
                let size = 256.min(first + count - from) as usize;
                for row in self.rows(tokenizer, from, size) {
                    file.extend(row.iter().flat_map(|&id| (id as u16).to_le_bytes()));
                }
                say(from + size as u64);
            }
            let fresh = path.with_extension("new");
            std::fs::write(&fresh, file)
                .and_then(|()| std::fs::rename(&fresh, &path))
                .inspect_err(|_| drop(std::fs::remove_file(&fresh)))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The head of a NumPy file (format 1.0) of little-endian 16-bit integers.
fn npy_header(rows: usize, columns: usize) -> Vec<u8> {
    let text =
        format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{text:<width$}\n", width = length - 1).bytes());
    header
}

/// In suffix-first order prefix and middle are one text: the tokens across the cursor are those of plain
/// text, as they are at serving time once the cursor's token is healed. In prefix-first order the
/// middle is a text of its own.
fn fill_in_the_middle(
    tokenizer: &Tokenizer,
    layout: &FimLayout,
    psm: bool,
    context: &[TokenId],
    piece: &str,
    middle: Range<usize>,
    rng: &mut StdRng,
) -> Vec<TokenId> {
    // What follows the middle: nothing in every tenth, else up to a third of the piece.
    let after = if rng.random_bool(0.1) { 0 } else { rng.random_range(0..=piece.len() / 3) };
    let suffix_end = piece.floor_char_boundary((middle.end + after).min(piece.len()));
    let suffix = tokenizer.encode(&piece[middle.end..suffix_end]);
    if psm {
        let prefix = tokenizer.encode(&piece[..middle.start]);
        let prompt = FimPrompt { context, prefix: &prefix, suffix: &suffix };
        let mut tokens = layout.psm().assemble(&prompt);
        tokens.extend(tokenizer.encode(&piece[middle]));
        tokens
    } else {
        let prefix = tokenizer.encode(&piece[..middle.end]);
        layout.assemble(&FimPrompt { context, prefix: &prefix, suffix: &suffix })
    }
}

/// A node of 8 to 700 bytes of the piece's syntax tree.
fn node(document: &Document, piece: &str, rng: &mut StdRng) -> Option<Range<usize>> {
    let language = Language::by_name(document.language)?;
    let tree = SyntaxTree::parse(language, piece)?;
    tree.nodes(8..700).choose(rng).cloned()
}

/// A few lines with mistakes and what they should be, in the layout of [`Tokenizer::repair_prompt`].
fn edit_pair(
    tokenizer: &Tokenizer,
    document: &Document,
    piece: &str,
    rng: &mut StdRng,
) -> Option<Vec<TokenId>> {
    let lines: Vec<usize> =
        std::iter::once(0).chain(piece.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let first = rng.random_range(0..lines.len());
    let end = lines.get(first + rng.random_range(1..=8)).copied().unwrap_or(piece.len());
    let (before, right, after) = (&piece[..lines[first]], &piece[lines[first]..end], &piece[end..]);
    let mut names: Vec<&str> = identifiers(piece).filter(|name| name.len() > 2).collect();
    names.sort_unstable();
    names.dedup();
    let wrong = edit_pairs::broken(right, &names, rng)?;
    let after = &after[..after.floor_char_boundary(after.len().min(400))];
    let before = &before[line_start(before, before.len().saturating_sub(1200))..];
    let mut tokens = tokenizer.repair_prompt(&document.path, before, &wrong, after)?;
    tokens.extend(tokenizer.encode(right));
    tokens.extend(tokenizer.special("<|end|>"));
    Some(tokens)
}

/// The start of the line that `at` lies in, or of the next if `at` lies inside a character.
fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Documents {
        let code = |name: &str, n: usize| -> String {
            (0..n)
                .map(|i| format!("pub fn {name}_{i}(größe: u8, count: u8) -> u8 {{\n    größe + count * {i} // 🦀\n}}\n\n"))
                .collect()
        };
        let python: String = (0..30)
            .map(|i| format!("def area_{i}(width, height):\n    return width * height + {i}\n\n\n"))
            .collect();
        Documents::from_texts([
            ("src/lib.rs", 0, code("add", 40).as_str()),
            ("src/more.rs", 0, code("add", 30).replace("count", "total").as_str()),
            ("tests/it.rs", 0, code("checks", 120).as_str()),
            ("tool.py", 0, python.as_str()),
        ])
    }

    fn dataset(config: ExampleConfig) -> (Dataset, Tokenizer) {
        let documents = documents();
        let texts: Vec<String> = (0..4).map(|i| documents.text(i)).collect();
        let tokenizer = crate::tokenizer::train(texts.iter().map(String::as_str), 500).unwrap();
        let config = ExampleConfig { sequence: 512, ..config };
        (Dataset::new(documents, &tokenizer, config).unwrap(), tokenizer)
    }

    /// The pieces of many rows, cut at their ends.
    fn pieces(config: ExampleConfig) -> (Vec<Vec<TokenId>>, Tokenizer) {
        let (dataset, tokenizer) = dataset(config);
        let rows = dataset.rows(&tokenizer, 0, 200);
        // The last piece of a row may be cut short.
        let whole = |row: &Vec<TokenId>| -> Vec<Vec<TokenId>> {
            let mut parts: Vec<_> = row.split(|&id| id == 0).map(<[_]>::to_vec).collect();
            parts.pop();
            parts
        };
        (rows.iter().flat_map(whole).collect(), tokenizer)
    }

    #[test]
    fn examples_depend_on_their_index_alone() {
        let (dataset, tokenizer) = dataset(ExampleConfig::default());
        let all = dataset.batch(&tokenizer, 0, 6);
        let later = dataset.batch(&tokenizer, 4, 2);
        assert_eq!(all.tokens[4 * 512..], later.tokens);
        assert_ne!(all.tokens[..512], all.tokens[512..1024]);
        assert_eq!(all.tokens[1..512], all.targets[..511]);
    }

    #[test]
    fn orders_come_in_their_shares() {
        let (dataset, tokenizer) = dataset(ExampleConfig::default());
        let rows = dataset.rows(&tokenizer, 0, 300).concat();
        let count = |text: &str| {
            rows.iter().filter(|&&id| Some(id) == tokenizer.special(text)).count() as f64
        };
        let (pieces, edits) = (count("<|file|>"), count("<|fix|>"));
        let cut = count("<|suffix|>") - edits;
        // The short rests of rows are always plain.
        assert!((0.45..0.72).contains(&(cut / pieces)), "{cut} of {pieces}");
        let psm = count("<|middle|>") / cut;
        assert!((psm - 0.3).abs() < 0.05, "{psm}");
        assert!((0.005..0.05).contains(&(edits / pieces)), "{edits} of {pieces}");
        // Most tasks end before their row does.
        let (ends, rows) = (count("<|end|>"), 300.0);
        assert!(ends > pieces - 1.1 * rows && ends > cut, "{ends} ends, {pieces} pieces");
    }

    #[test]
    fn a_middle_joins_its_prefix_and_its_suffix() {
        for psm in [0.0, 1.0] {
            let config =
                ExampleConfig { fim: 1.0, psm, snippets: 0.0, edits: 0.0, ..Default::default() };
            let (pieces, tokenizer) = pieces(config);
            let documents = documents();
            let texts: Vec<String> = (0..4).map(|i| documents.text(i)).collect();
            let suffix = tokenizer.special("<|suffix|>").unwrap();
            for piece in pieces.iter().filter(|p| p.contains(&suffix)) {
                let special = |text: &str| tokenizer.special(text).unwrap();
                let at = |text: &str| piece.iter().position(|&id| id == special(text)).unwrap();
                let text = |range: Range<usize>| tokenizer.decode(&piece[range]);
                let (suffix, prefix) = (at("<|suffix|>"), at("<|prefix|>"));
                let whole = if psm == 0.0 {
                    text(prefix + 1..piece.len()) + &text(suffix + 1..prefix)
                } else {
                    let middle = at("<|middle|>");
                    text(prefix + 1..suffix)
                        + &text(middle + 1..piece.len())
                        + &text(suffix + 1..middle)
                };
                assert!(texts.iter().any(|t| t.contains(&whole)), "{whole:?}");
            }
        }
    }

    #[test]
    fn the_mix_and_the_cap_on_tests_decide_what_is_drawn() {
        let mix = [("rust".to_string(), 1.0), ("python".to_string(), 3.0)].into();
        let (dataset, tokenizer) = dataset(ExampleConfig { mix, tests: 0.2, ..Default::default() });
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = [0f64; 4];
        (0..4000).for_each(|_| counts[dataset.draw(&mut rng)] += 1.0 / 4000.0);
        assert!((counts[3] - 0.75).abs() < 0.03, "{counts:?}");
        assert!((counts[2] - 0.05).abs() < 0.02, "tests are a fifth of rust: {counts:?}");
        let nothing = ExampleConfig { mix: [("go".to_string(), 1.0)].into(), ..Default::default() };
        let error = Dataset::new(documents(), &tokenizer, nothing).err().unwrap().to_string();
        assert!(error.contains("go"), "{error}");
    }

    #[test]
    fn snippets_come_from_related_files_and_stand_first() {
        let config = ExampleConfig { snippets: 1.0, edits: 0.0, ..Default::default() };
        let (pieces, tokenizer) = pieces(config);
        let (snippet, file) = (tokenizer.special("<|snippet|>"), tokenizer.special("<|file|>"));
        let mut seen = 0;
        for piece in pieces.iter().filter(|p| p.contains(&snippet.unwrap())) {
            let header = piece.iter().position(|&id| Some(id) == file).unwrap();
            let path =
                |at: usize| tokenizer.decode(&piece[at + 1..]).lines().next().unwrap().to_string();
            let own = path(header);
            let places = (0..piece.len()).filter(|&i| Some(piece[i]) == snippet);
            for place in places {
                assert!(place < header);
                assert_ne!(path(place), own);
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn exported_rows_are_those_of_the_batches() {
        let (dataset, tokenizer) = dataset(ExampleConfig::default());
        let folder = tempfile::tempdir().unwrap();
        dataset.export(&tokenizer, 5, 3, folder.path(), |_| {}).unwrap();
        let mut rows: Vec<u32> = Vec::new();
        for name in ["rows-0000.npy", "rows-0001.npy"] {
            let file = std::fs::read(folder.path().join(name)).unwrap();
            let head = u16::from_le_bytes([file[8], file[9]]) as usize + 10;
            assert!(head % 64 == 0 && file[head - 1] == b'\n');
            let ids = file[head..].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]) as u32);
            rows.extend(ids);
        }
        assert_eq!(rows, dataset.rows(&tokenizer, 0, 5).concat());
    }
}
