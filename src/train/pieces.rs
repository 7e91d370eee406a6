//! From a document to one piece of a row: plain text, fill-in-the-middle, snippets before it, edit pairs.
//! A task is cut so that it fits with its end; only plain text runs into the end of a row.

use std::ops::Range;
use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::memory::retrieval::{choose, lines_before};
use crate::suggest::repair::mistakes::broken_lines;
use crate::suggest::short_path;
use crate::syntax::{Language, SyntaxTree};
use crate::tokenizer::{FimLayout, FimPrompt, TokenId, Tokenizer};

use super::dataset::Dataset;
use super::documents::Document;
use super::fixes::Fix;

/// Tokens below which the rest of a row becomes plain text: a task would lose its answer.
const LEAST_ROOM: usize = 120;
/// Share of the pieces of a document that lie where it was changed lately.
const RECENT: f64 = 0.5;
/// Lengths in bytes of syntax nodes that are worth a middle.
const NODES: Range<usize> = 10..700;

/// The tokens of a piece, and which of them are text of its document.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) ids: Vec<TokenId>,
    /// Which tokens, and the byte of the document that the first of them begins at; `None` for those of other
    /// documents.
    pub(super) texts: Vec<(Range<usize>, Option<usize>)>,
}

impl Tokens {
    fn push(&mut self, ids: Vec<TokenId>, start: Option<usize>) {
        self.texts.push((self.ids.len()..self.ids.len() + ids.len(), start));
        self.ids.extend(ids);
    }

    /// What each token counts: markers and paths 1, the document's text what is said there, and nothing for
    /// lines of others beside a document that says so.
    pub(super) fn counts(&self, tokenizer: &Tokenizer, document: &Document) -> Vec<f32> {
        let mut counts = vec![1.0; self.ids.len()];
        let Some(known) = &document.counts else { return counts };
        for (tokens, start) in &self.texts {
            let mut byte = start.unwrap_or(usize::MAX);
            for at in tokens.clone() {
                let count = known.get(byte).map_or(0.0, |&count| f32::from(count) / 255.0);
                counts[at] = count;
                byte = byte.saturating_add(tokenizer.bytes(self.ids[at]).len());
            }
        }
        counts
    }
}

/// Some lines of a document.
struct Piece<'a> {
    text: &'a str,
    /// Whether it begins where the document does.
    first: bool,
    /// Whether it ends where the document does.
    last: bool,
    /// Where in the document it begins.
    start: usize,
}

impl Dataset {
    /// One piece of the document `index` for `room` tokens: plain text to the end of the row, or a whole
    /// small task. Empty only if the text is and the family has no headers.
    pub(super) fn piece(
        &self,
        tokenizer: &Tokenizer,
        index: usize,
        room: usize,
        rng: &mut StdRng,
    ) -> Tokens {
        let mut tokens = Tokens::default();
        let document = &self.documents.list()[index];
        let text = self.documents.text(index);
        let bytes = |tokens: f64| ((tokens * self.bytes_per_token) as usize).max(1);
        let Some(layout) = tokenizer.fim() else {
            let piece = lines(&text, bytes(room as f64 * 1.1), rng);
            tokens.push(tokenizer.encode(piece.text), Some(piece.start));
            return tokens;
        };
        let (config, tight) = (&self.config, room < 3 * LEAST_ROOM);
        let cut = rng.random_bool(config.fim) && room >= LEAST_ROOM;
        let edit = rng.random_bool(config.edits) && room >= 2 * LEAST_ROOM;
        let beside = rng.random_bool(config.snippets) && room >= 4 * LEAST_ROOM;
        if edit && let Some(ids) = self.edit_pair(tokenizer, document, &text, room, rng) {
            tokens.push(ids, None);
            return tokens;
        }
        // Pieces of all lengths, as windows are at serving time; the last one of a row fills it, and so does
        // text where nothing else is wanted. A task keeps some room to be sure of its end. What it drops
        // behind its suffix makes it shorter: plain text of its length would have more than its share.
        let part: f64 = rng.random_range(0.3..1.0);
        let share = match (cut, tight || config.fim == 0.0) {
            (true, true) => 0.85,
            (true, false) => 0.85 * part,
            (false, true) => 1.1,
            (false, false) => 0.9 * part * part,
        };
        let share = if beside { 0.6 * share } else { share };
        let recent = document.recent.choose(rng).filter(|_| rng.random_bool(RECENT));
        let recent = recent.map(|r| r.start as usize..r.end as usize);
        let piece = match &recent {
            Some(recent) => lines_around(&text, recent, bytes(room as f64 * share), rng),
            None => lines(&text, bytes(room as f64 * share), rng),
        };
        let (middle, exact) = match cut {
            true => self.middle(document, &piece, recent.as_ref(), rng),
            false => (piece.text.len() / 2..piece.text.len(), true),
        };
        if beside {
            let before = &piece.text[..piece.text.floor_char_boundary(middle.start)];
            tokens.push(self.snippets(tokenizer, document, before, room / 5 * 2, rng), None);
        }
        tokens.ids.extend(tokenizer.file_header(&short_path(Path::new(&document.path))));
        if cut {
            let psm = rng.random_bool(config.psm);
            let end = suffix_end(piece.text, middle.end, exact, rng);
            fill_in_the_middle(tokenizer, (layout, psm), &mut tokens, (&piece, end, middle));
        } else {
            tokens.push(tokenizer.encode(piece.text), Some(piece.start));
        }
        tokens.ids.extend(layout.end());
        tokens
    }

    /// Where the middle of a piece lies, and whether it ends at a place that the text before explains.
    fn middle(
        &self,
        document: &Document,
        piece: &Piece,
        recent: Option<&Range<usize>>,
        rng: &mut StdRng,
    ) -> (Range<usize>, bool) {
        let text = piece.text;
        // Some text stays before the middle and after it, except where the file has none.
        let from = if piece.first { 0 } else { text.floor_char_boundary(text.len() / 8) };
        let late = text.floor_char_boundary(text.len() - text.len() / 8);
        let end = match piece.last {
            true => text.len(),
            false => text[from..late].rfind('\n').map_or(late, |i| from + i),
        };
        // What was written lately, if the piece shows enough of it.
        let inside = |r: &Range<usize>| {
            let at = |byte: usize| byte.saturating_sub(piece.start).clamp(from, end);
            let (from, end) = (at(r.start), at(r.end));
            let both = text.is_char_boundary(from) && text.is_char_boundary(end);
            (both && end - from >= NODES.start).then_some((from, end))
        };
        let (from, end) = recent.and_then(inside).unwrap_or((from, end));
        let (characters, lines) = self.config.middles;
        let kind: f64 = rng.random();
        if kind >= characters + lines
            && let Some(node) = node(document, text, from..end, rng)
        {
            return (node, true);
        }
        let start = text.floor_char_boundary(rng.random_range(from..=end));
        if kind < characters {
            let to = (start + rng.random_range(1..=200)).min(end);
            return (start..text.floor_char_boundary(to), false);
        }
        // People type after the indentation, which an editor gives them.
        let line = line_start(text, start);
        let blank = |text: &str| text.bytes().all(|b| b == b' ' || b == b'\t');
        let indentation = text[line..end].bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let start = if blank(&text[line..start]) { line + indentation } else { start };
        let line_end = |at: usize| text[at..end].find('\n').map_or(end, |i| at + i);
        // The rest of a line as often as some lines more.
        let more = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..=6) };
        let to = (0..more).fold(line_end(start), |at, _| line_end((at + 1).min(end)));
        (start..to, true)
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
        related.truncate(MOST_FILES);
        let texts: Vec<(String, String)> = related
            .iter()
            .map(|&other| {
                let text = self.documents.text(other as usize);
                let part = lines(&text, LOOK, rng).text.to_string();
                (short_path(Path::new(&self.documents.list()[other as usize].path)), part)
            })
            .collect();
        let files: Vec<(&str, &str)> =
            texts.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        let mut left = room;
        let mut chosen = Vec::new();
        for snippet in choose(lines_before(before), &files, rng.random_range(1..=3)) {
            let own = tokenizer.snippet(snippet.path, snippet.text);
            if own.len() <= left {
                left -= own.len();
                chosen.push(own);
            }
        }
        // The most similar one comes last, next to the file itself.
        chosen.into_iter().rev().flatten().collect()
    }

    /// A few lines with mistakes and what they should be, in the layout of [`Tokenizer::repair_prompt`];
    /// `None` if no mistake applies or it does not fit.
    fn edit_pair(
        &self,
        tokenizer: &Tokenizer,
        document: &Document,
        text: &str,
        room: usize,
        rng: &mut StdRng,
    ) -> Option<Vec<TokenId>> {
        const MOST_LINES: usize = 12;
        let bytes = (room as f64 * self.bytes_per_token) as usize;
        if let Some(fix) = self.documents.fixes().choose(rng)
            && rng.random_bool(self.config.fixes)
        {
            return edit_pair(tokenizer, fix, (bytes / 3, bytes / 6), room);
        }
        let starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let first = rng.random_range(0..starts.len());
        let count = rng.random_range(1..=(room / 40).clamp(1, MOST_LINES));
        let end = starts.get(first + count).copied().unwrap_or(text.len());
        let language = Language::by_name(document.language)?;
        let fix = Fix {
            repository: document.repository,
            path: document.path.clone(),
            before: text[..starts[first]].to_string(),
            wrong: broken_lines(language, text, starts[first]..end, rng)?,
            right: text[starts[first]..end].to_string(),
            after: text[end..].to_string(),
        };
        edit_pair(tokenizer, &fix, (bytes / 3, bytes / 6), room)
    }
}

/// A correction with at most so many bytes before it and after it; `None` if it does not fit.
fn edit_pair(
    tokenizer: &Tokenizer,
    fix: &Fix,
    (before, after): (usize, usize),
    room: usize,
) -> Option<Vec<TokenId>> {
    let before = &fix.before[line_start(&fix.before, fix.before.len().saturating_sub(before))..];
    let after = &fix.after[..line_start(&fix.after, fix.after.len().min(after))];
    let path = short_path(Path::new(&fix.path));
    let mut tokens = tokenizer.repair_prompt(&path, before, &fix.wrong, after)?;
    tokens.extend(tokenizer.encode(&fix.right));
    tokens.extend(tokenizer.special("<|end|>"));
    (tokens.len() <= room).then_some(tokens)
}

/// Related files that are looked at for one piece: not always the best, so that a model learns to doubt.
const MOST_FILES: usize = 5;

/// Whole lines of about `bytes` bytes from a random place; a longer line is cut anywhere.
fn lines<'a>(text: &'a str, bytes: usize, rng: &mut StdRng) -> Piece<'a> {
    let start = match text.len().saturating_sub(bytes) {
        0 => 0,
        // Over the end, so that ends of files are seen as often as other places.
        rest => line_start(text, rng.random_range(0..=rest + bytes / 4)),
    };
    lines_from(text, start, bytes)
}

/// As [`lines`], around a range: it begins somewhere in the last two thirds.
fn lines_around<'a>(
    text: &'a str,
    range: &Range<usize>,
    bytes: usize,
    rng: &mut StdRng,
) -> Piece<'a> {
    let before = bytes / 3 + rng.random_range(0..=bytes / 3);
    let start = text.floor_char_boundary(range.start.min(text.len()).saturating_sub(before));
    lines_from(text, line_start(text, start), bytes)
}

fn lines_from(text: &str, start: usize, bytes: usize) -> Piece<'_> {
    let end = text.floor_char_boundary(start + bytes);
    let end = match text[start..end].rfind('\n') {
        Some(at) if end < text.len() && at > 0 => start + at + 1,
        _ => end,
    };
    Piece { text: &text[start..end], first: start == 0, last: end == text.len(), start }
}

/// Where the text after a middle ends: after whole lines, as at serving time. Every tenth exact middle has
/// none, as at the end of a file; a middle that ends anywhere could not know where.
fn suffix_end(text: &str, from: usize, exact: bool, rng: &mut StdRng) -> usize {
    if exact && rng.random_bool(0.1) {
        return from;
    }
    let after = rng.random_range(0..=text.len() / 3);
    let at = text.floor_char_boundary((from + after).min(text.len()));
    match text[from..at].rfind('\n') {
        Some(i) if i > 0 => from + i + 1,
        // At least the rest of this line, and of the next if the middle ends with its line.
        _ => text[from..]
            .bytes()
            .skip(1)
            .position(|b| b == b'\n')
            .map_or(text.len(), |i| from + i + 2),
    }
}

/// The tokens of a task from a text and the place of its middle. In suffix-first order prefix and middle
/// are one text: the tokens across the cursor are those of plain text, as they are at serving time once
/// the cursor's token is healed. In prefix-first order the middle is a text of its own.
fn fill_in_the_middle(
    tokenizer: &Tokenizer,
    (layout, psm): (&FimLayout, bool),
    tokens: &mut Tokens,
    (piece, end, middle): (&Piece, usize, Range<usize>),
) {
    let text = &piece.text[..end];
    let suffix = tokenizer.encode(&text[middle.end..]);
    let context = std::mem::take(&mut tokens.ids);
    // Other families know one order only.
    let split = psm || !layout.prefix_is_last();
    let prefix = tokenizer.encode(&text[..if split { middle.start } else { middle.end }]);
    let prompt = FimPrompt { context: &context, prefix: &prefix, suffix: &suffix };
    // A marker stands before each part.
    let mut parts = [(&prefix, piece.start), (&suffix, piece.start + middle.end)];
    tokens.ids = match split {
        true => layout.psm().assemble(&prompt),
        false => {
            parts.reverse();
            layout.assemble(&prompt)
        }
    };
    let mut at = context.len();
    for (part, start) in parts {
        tokens.texts.push((at + 1..at + 1 + part.len(), Some(start)));
        at += 1 + part.len();
    }
    if split {
        tokens.push(tokenizer.encode(&text[middle.clone()]), Some(piece.start + middle.start));
    }
}

/// A node of the piece's syntax tree that lies `within`.
fn node(
    document: &Document,
    text: &str,
    within: Range<usize>,
    rng: &mut StdRng,
) -> Option<Range<usize>> {
    let language = Language::by_name(document.language)?;
    let tree = SyntaxTree::parse_steadily(language, text)?;
    let mut nodes = tree.nodes(NODES);
    nodes.retain(|node| node.start >= within.start && node.end <= within.end);
    nodes.choose(rng).cloned()
}

/// The start of the line that `at` lies in.
fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::dataset::ExampleConfig;
    use crate::train::dataset::tests::{dataset, documents};
    use crate::train::documents::Documents;
    use rand::SeedableRng;

    /// The pieces of many rows that end before their row does, without their end.
    fn pieces(config: ExampleConfig) -> (Vec<Vec<TokenId>>, Tokenizer) {
        let (dataset, tokenizer) = dataset(config);
        let whole = |row: &Vec<TokenId>| -> Vec<Vec<TokenId>> {
            let mut parts: Vec<_> = row.split(|&id| id == 0).map(<[_]>::to_vec).collect();
            parts.pop();
            parts
        };
        (dataset.rows(&tokenizer, 0, 200).iter().flat_map(whole).collect(), tokenizer)
    }

    /// The texts behind the markers of a piece, in order.
    fn parts(piece: &[TokenId], tokenizer: &Tokenizer) -> Vec<(&'static str, String)> {
        let starts: Vec<usize> = (0..piece.len()).filter(|&i| piece[i] < 8).collect();
        let ends = starts[1..].iter().copied().chain([piece.len()]);
        let name = |at: usize| crate::tokenizer::SPECIAL_TOKENS[piece[at] as usize];
        starts
            .iter()
            .zip(ends)
            .map(|(&a, b)| (name(a), tokenizer.decode(&piece[a + 1..b])))
            .collect()
    }

    fn part<'a>(parts: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        parts.iter().find(|(marker, _)| *marker == name).map(|(_, text)| text.as_str())
    }

    fn texts() -> Vec<String> {
        let documents = documents();
        (0..documents.list().len()).map(|i| documents.text(i)).collect()
    }

    #[test]
    fn kinds_come_in_their_shares_of_tokens() {
        let config = ExampleConfig { edits: 0.05, ..ExampleConfig::default() };
        let (dataset, tokenizer) = dataset(config);
        let rows = dataset.rows(&tokenizer, 0, 400);
        let (mut all, mut cut, mut psm, mut edits) = (0.0, 0.0, 0.0, 0.0);
        for piece in rows.iter().flat_map(|row| row.split(|&id| id == 0)) {
            let size = piece.len() as f64 / rows.len() as f64 / 513.0;
            let has = |name: &str| piece.contains(&tokenizer.special(name).unwrap());
            let edit = has("<|diagnostic|>");
            all += size;
            edits += if edit { size } else { 0.0 };
            cut += if has("<|suffix|>") && !edit { size } else { 0.0 };
            psm += if has("<|middle|>") { size } else { 0.0 };
        }
        assert!((0.53..0.75).contains(&(cut / (all - edits))), "{cut} of {all}");
        assert!((psm / cut - 0.3).abs() < 0.05, "{psm} of {cut}");
        assert!((0.01..0.07).contains(&edits), "{edits}");
    }

    #[test]
    fn a_middle_joins_its_prefix_and_its_suffix() {
        let texts = texts();
        for psm in [0.0, 1.0] {
            let config =
                ExampleConfig { fim: 1.0, psm, snippets: 0.0, edits: 0.0, ..Default::default() };
            let (pieces, tokenizer) = pieces(config);
            let (mut seen, mut without) = (0, 0);
            for piece in &pieces {
                let parts = parts(piece, &tokenizer);
                let Some(suffix) = part(&parts, "<|suffix|>") else { continue };
                let prefix = part(&parts, "<|prefix|>").unwrap();
                let whole = [prefix, part(&parts, "<|middle|>").unwrap_or(""), suffix].concat();
                assert!(texts.iter().any(|t| t.contains(&whole)), "{whole:?}");
                assert!(suffix.is_empty() || suffix.ends_with('\n'), "whole lines: {suffix:?}");
                seen += 1;
                without += usize::from(suffix.is_empty());
            }
            let share = without as f64 / seen as f64;
            assert!(seen > 300 && (0.03..0.25).contains(&share), "{share} of {seen}");
        }
    }

    #[test]
    fn other_families_get_their_own_order() {
        let (dataset, tokenizer) = dataset(ExampleConfig {
            fim: 1.0,
            psm: 0.0,
            snippets: 1.0,
            edits: 1.0,
            ..Default::default()
        });
        let mut json = tokenizer.to_json().unwrap();
        let theirs = ["|endoftext|", "|file_sep|", "|fim_prefix|", "|fim_suffix|", "|fim_middle|"];
        for (ours, theirs) in crate::tokenizer::SPECIAL_TOKENS.iter().zip(theirs) {
            json = json.replace(ours, &format!("<{theirs}>"));
        }
        let json = json.replace("<|snippet|>", "<|x|>").replace("<|fix|>", "<|y|>");
        let theirs = Tokenizer::from_json(json.as_bytes()).unwrap();
        assert_eq!(theirs.fim().unwrap().name(), "qwen2.5-coder");
        let row = dataset.rows(&theirs, 0, 1).remove(0);
        let markers: Vec<u32> = row.into_iter().filter(|&id| id < 8).take(5).collect();
        // File, prefix, suffix, middle, end; nothing that the family does not know.
        assert_eq!(markers, [1, 2, 3, 4, 0]);
    }

    #[test]
    fn middles_that_are_nodes_close_what_they_open() {
        let middles = |kinds| {
            let config = ExampleConfig {
                fim: 1.0,
                psm: 1.0,
                snippets: 0.0,
                edits: 0.0,
                middles: kinds,
                ..Default::default()
            };
            let (pieces, tokenizer) = pieces(config);
            let all = pieces.iter().map(|piece| parts(piece, &tokenizer));
            all.filter_map(|p| part(&p, "<|middle|>").map(str::to_string)).collect::<Vec<_>>()
        };
        let balanced = |text: &String| {
            "() {} []".split(' ').all(|pair| {
                let count = |i: usize| text.matches(&pair[i..i + 1]).count();
                count(0) == count(1)
            })
        };
        let share =
            |all: &[String]| all.iter().filter(|m| balanced(m)).count() as f64 / all.len() as f64;
        let (nodes, characters) = (middles((0.0, 0.0)), middles((1.0, 0.0)));
        assert!(share(&nodes) > 0.95, "{}", share(&nodes));
        assert!(share(&characters) < 0.7, "{}", share(&characters));
        // Rests of lines start where people type.
        assert!(middles((0.0, 1.0)).iter().all(|middle| !middle.starts_with("  ")));
    }

    #[test]
    fn snippets_come_from_related_files_and_stand_first() {
        let config = ExampleConfig { snippets: 1.0, edits: 0.0, ..Default::default() };
        let (pieces, tokenizer) = pieces(config);
        let mut seen = 0;
        for piece in &pieces {
            let parts = parts(piece, &tokenizer);
            let first_line = |text: &str| text.lines().next().unwrap_or("").to_string();
            let header = parts.iter().position(|(name, _)| *name == "<|file|>").unwrap();
            let own = first_line(&parts[header].1);
            for (place, (_, text)) in
                parts.iter().enumerate().filter(|(_, (name, _))| *name == "<|snippet|>")
            {
                assert!(place < header);
                assert_ne!(first_line(text), own);
                let lines = text.split_once('\n').unwrap().1;
                assert!(texts().iter().any(|t| t.contains(lines)), "{lines}");
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn edit_pairs_mend_what_is_broken() {
        let (pieces, tokenizer) = pieces(ExampleConfig { edits: 1.0, ..Default::default() });
        let mut seen = 0;
        for piece in &pieces {
            let parts = parts(piece, &tokenizer);
            let Some(wrong) = part(&parts, "<|diagnostic|>") else { continue };
            let [before, right, after] =
                ["<|prefix|>", "<|fix|>", "<|suffix|>"].map(|name| part(&parts, name).unwrap());
            let whole = [before, right, after].concat();
            assert!(texts().iter().any(|t| t.contains(&whole)), "{whole:?}");
            assert_ne!(wrong, right);
            seen += 1;
        }
        assert!(seen > 200, "{seen}");
    }

    #[test]
    fn markers_in_texts_and_paths_stay_text() {
        let text = "let a = \"<|fix|><|end|>\"; // <|middle|> <|snippet|>\n".repeat(40);
        let documents = Documents::from_texts([("src/<|fix|>.rs", 0, text.as_str())]);
        let (_, tokenizer) = dataset(ExampleConfig::default());
        let config = ExampleConfig { fim: 0.0, edits: 0.0, sequence: 256, ..Default::default() };
        let data = Dataset::new(documents, &tokenizer, config).unwrap();
        let rows = data.rows(&tokenizer, 0, 20).concat();
        assert!(rows.iter().all(|&id| id < 2 || !tokenizer.is_special(id)));
    }

    #[test]
    fn every_place_of_a_text_is_drawn_its_end_too() {
        let text: String = (0..400).map(|i| format!("line {i}\n")).collect();
        let mut rng = StdRng::seed_from_u64(3);
        let drawn: Vec<Piece> = (0..400).map(|_| lines(&text, 900, &mut rng)).collect();
        let first = drawn.iter().filter(|piece| piece.text.starts_with("line 0\n")).count();
        let last = drawn.iter().filter(|piece| piece.text.ends_with("line 399\n")).count();
        assert!(last > 10 && last == drawn.iter().filter(|piece| piece.last).count(), "{last}");
        assert_eq!(first, drawn.iter().filter(|piece| piece.first).count());
        assert!(
            drawn.iter().all(|piece| piece.text.starts_with("line") && piece.text.ends_with('\n'))
        );
        for odd in ["", "\n", "ü", "üüüüüüüü", "\n\n\n"] {
            for bytes in 1..6 {
                let piece = lines(odd, bytes, &mut rng);
                assert!(piece.text.len() <= odd.len());
                assert!(suffix_end(piece.text, 0, false, &mut rng) <= piece.text.len());
            }
        }
    }
}
