//! The lines of other files that stand before a document in its prompt, as tokens. They stay the same
//! while the user types at one place, so that the KV cache keeps the head of the prompt.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::memory::retrieval::{
    Edit, Kind, Open, Query, SharedRetrieval, Snippet, Texts, WINDOW, hash,
};
use crate::tokenizer::{TokenId, Tokenizer};
use crate::workspace::{Document, Snapshot, holds_secret, is_secret_file};

use super::prompt::short_path;

/// Documents whose tokens are kept, as many as there are caches and some more.
const KEPT: usize = 8;
/// An older edit is no longer what the user is about.
const RECENT: Duration = Duration::from_secs(10 * 60);
/// Room for fewer tokens of a snippet than this says nothing.
const LEAST_TOKENS: usize = 24;

/// The place to retrieve for.
pub(super) struct Site<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The document's text, with the popup item that is selected.
    pub(super) text: &'a str,
    /// The cursor in it, in bytes.
    pub(super) offset: usize,
}

/// What is retrieved for the documents of a workspace.
pub(super) struct Retrieved {
    index: Arc<SharedRetrieval>,
    texts: Arc<dyn Texts>,
    /// Last used last.
    kept: Vec<Kept>,
}

/// The tokens for one region of one document.
struct Kept {
    uri: String,
    region: Region,
    /// How many files the index had: one that is just being filled is asked again.
    files: usize,
    limit: usize,
    tokens: Vec<TokenId>,
    /// The same lines as texts, the most similar last, each with the path of its file.
    texts: Vec<(String, String)>,
}

/// The lines of a text that may change without a new question, by what stands around them.
struct Region {
    /// Length in bytes and hash of the text before and after the region.
    before: (usize, u64),
    after: (usize, u64),
}

impl Region {
    /// The cell of a grid of 16 lines in which `offset` lies.
    fn around(text: &str, offset: usize) -> Region {
        let line = text[..offset].matches('\n').count();
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let mut starts = std::iter::once(0).chain(breaks);
        let start = starts.nth(line - line % WINDOW).unwrap_or(0);
        let end = starts.nth(WINDOW - 1).unwrap_or(text.len());
        let known = |part: &str| (part.len(), hash(part));
        Region { before: known(&text[..start]), after: known(&text[end..]) }
    }

    /// Whether the cursor is still in the region, nothing around it has changed, and it has not grown to
    /// more than three times its size.
    fn holds(&self, text: &str, offset: usize) -> bool {
        let (start, end) = (self.before.0, text.len().saturating_sub(self.after.0));
        let same = |part: Option<&str>, known: u64| part.is_some_and(|part| hash(part) == known);
        (start..=end).contains(&offset)
            && same(text.get(..start), self.before.1)
            && same(text.get(end..), self.after.1)
            && text[start..offset].matches('\n').count() <= 3 * WINDOW
    }
}

impl Retrieved {
    pub(super) fn new(index: Arc<SharedRetrieval>, texts: Arc<dyn Texts>) -> Retrieved {
        Retrieved { index, texts, kept: Vec::new() }
    }

    /// At most `limit` tokens for the place, the most similar lines last. The same as before while the
    /// cursor stays in its region, unless `anew`. None for families that know no other file in a prompt.
    pub(super) fn tokens(
        &mut self,
        tokenizer: &Tokenizer,
        site: &Site<'_>,
        limit: usize,
        anew: bool,
    ) -> &[TokenId] {
        let uri = &site.snapshot.document.uri;
        let index = self.index.snapshot();
        let known = self.kept.iter().position(|kept| kept.uri == *uri);
        let mut kept = known.map(|at| self.kept.remove(at)).filter(|kept| {
            let filled = !kept.tokens.is_empty() || kept.files == index.len();
            !anew && filled && kept.limit == limit && kept.region.holds(site.text, site.offset)
        });
        let kept = kept.take().unwrap_or_else(|| {
            let snippets = retrieve(&index, &*self.texts, site);
            Kept {
                uri: uri.clone(),
                region: Region::around(site.text, site.offset),
                files: index.len(),
                limit,
                tokens: pack(tokenizer, &snippets, limit),
                texts: texts_of(&snippets),
            }
        });
        if self.kept.len() >= KEPT {
            self.kept.remove(0);
        }
        self.kept.push(kept);
        self.kept.last().map_or(&[], |kept| &kept.tokens)
    }

    /// What [`Retrieved::tokens`] chose last for a document, as texts.
    pub(super) fn texts(&self, uri: &str) -> Vec<(String, String)> {
        let kept = self.kept.iter().find(|kept| kept.uri == uri);
        kept.map(|kept| kept.texts.clone()).unwrap_or_default()
    }

    /// What is retrieved for a place, as texts, whatever was chosen before.
    pub(super) fn around(&self, site: &Site<'_>) -> Vec<String> {
        let snippets = retrieve(&self.index.snapshot(), &*self.texts, site);
        texts_of(&snippets).into_iter().map(|(_, text)| text).collect()
    }

    /// Forgets a document that was closed.
    pub(super) fn forget(&mut self, uri: &str) {
        self.kept.retain(|kept| kept.uri != uri);
    }
}

fn retrieve(
    index: &crate::memory::retrieval::Retrieval,
    texts: &dyn Texts,
    site: &Site<'_>,
) -> Vec<Snippet> {
    let Snapshot { document, others, recent_edits } = site.snapshot;
    let name = |document: &Document| match &document.path {
        Some(path) => texts.name(path),
        None => document.uri.clone(),
    };
    // A file that holds secrets is not shown to the model from elsewhere, whatever the lines are.
    let harmless = |document: &Document| {
        let file = document.uri.rsplit('/').next().unwrap_or_default();
        !is_secret_file(file) && !holds_secret(document.text.as_str())
    };
    let open: Vec<Open<'_>> = others
        .iter()
        .filter(|other| harmless(other))
        .map(|other| Open {
            path: Cow::Owned(name(other)),
            language: other.language,
            text: other.text.as_str(),
        })
        .collect();
    let recent: Vec<Edit<'_>> = recent_edits
        .iter()
        .filter(|edit| edit.uri != document.uri && edit.when.elapsed() < RECENT)
        .filter_map(|edit| {
            let other = others.iter().find(|other| other.uri == edit.uri)?;
            let path = name(other);
            let open = open.iter().find(|open| open.path == path)?;
            Some(Edit { path: Cow::Owned(path), text: open.text, line: edit.line as usize })
        })
        .collect();
    // The tree is that of the document, not of what a popup item would make of it.
    let same = site.text.len() == document.text.len();
    index.retrieve(
        &Query {
            path: &name(document),
            text: site.text,
            offset: site.offset,
            language: document.language,
            tree: document.tree.as_ref().filter(|_| same),
            open: &open,
            recent: &recent,
        },
        texts,
    )
}

/// The best snippets as texts, the best last: as many as are worth sending.
fn texts_of(snippets: &[Snippet]) -> Vec<(String, String)> {
    const MOST_BYTES: usize = 4_000;
    let mut left = MOST_BYTES;
    let mut texts: Vec<(String, String)> = Vec::new();
    for snippet in snippets {
        let Some(rest) = left.checked_sub(snippet.text.len()) else { continue };
        left = rest;
        let text = snippet.text.replace("\r\n", "\n").replace('\r', "\n");
        texts.push((short_path(Path::new(&snippet.path)), text));
    }
    texts.reverse();
    texts
}

/// The tokens of the best snippets that fit, the best last. What does not fit is cut to whole lines: the
/// first ones of a definition, of other lines the last ones, which say how it went on.
fn pack(tokenizer: &Tokenizer, snippets: &[Snippet], limit: usize) -> Vec<TokenId> {
    let mut left = limit;
    let mut packed: Vec<Vec<TokenId>> = Vec::new();
    for snippet in snippets {
        let path = short_path(Path::new(&snippet.path));
        let text = snippet.text.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        loop {
            let tokens = tokenizer.other_file(&path, &lines.concat());
            if lines.is_empty() || tokens.is_empty() || left < LEAST_TOKENS {
                break;
            }
            if tokens.len() <= left {
                left -= tokens.len();
                packed.push(tokens);
                break;
            }
            // Encoding is quick enough to try again; a guess of the excess saves most attempts.
            let excess = lines.len() * (tokens.len() - left) / tokens.len();
            let keep = lines.len() - excess.max(1);
            match snippet.kind {
                Kind::Definition => lines.truncate(keep),
                Kind::RecentEdit | Kind::SimilarWindow => drop(lines.drain(..lines.len() - keep)),
            }
        }
    }
    packed.into_iter().rev().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::retrieval::{DiskTexts, Retrieval};
    use crate::suggest::prompt;
    use crate::syntax::Language;
    use crate::workspace::Documents;

    const STORE: &str = "def open_store(path, retries):\n    store = Store(path)\n    \
                         store.configure(retries=retries)\n    return store\n";

    fn tokenizer() -> Tokenizer {
        let code = format!("{STORE}def load(path):\n    store = open_store(path, 3)\n");
        crate::tokenizer::train([code.repeat(9).as_str()].into_iter(), 420).unwrap()
    }

    /// A folder with one file, known to the index if `known`.
    fn retrieved(known: bool) -> (Retrieved, Arc<SharedRetrieval>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("store.py"), STORE).unwrap();
        let index = Arc::new(SharedRetrieval::default());
        if known {
            fill(&index);
        }
        let texts = DiskTexts { root: folder.path().to_path_buf() };
        (Retrieved::new(index.clone(), Arc::new(texts)), index, folder)
    }

    fn fill(index: &SharedRetrieval) {
        let python = Language::by_name("python").unwrap();
        index.change(|index: &mut Retrieval| index.update_symbols("store.py", python, STORE));
    }

    /// The prompt at the `|` of a text, with special tokens by name.
    fn shown(retrieved: &mut Retrieved, marked: &str, limit: usize, anew: bool) -> String {
        let (offset, text) = (marked.find('|').unwrap(), marked.replacen('|', "", 1));
        let mut documents = Documents::new();
        documents.open("file:///w/load.py", "python", 1, text.clone());
        let snapshot = documents.snapshot("file:///w/load.py").unwrap();
        let (tokenizer, site) = (tokenizer(), Site { snapshot: &snapshot, text: &text, offset });
        let tokens = retrieved.tokens(&tokenizer, &site, limit, anew);
        assert!(tokens.len() <= limit);
        let prompt =
            prompt::build(&tokenizer, &snapshot.document, (&text, offset), tokens, 512, 16);
        let name = |id: TokenId| {
            let special = crate::tokenizer::SPECIAL_TOKENS.get(id as usize);
            special.map_or_else(|| tokenizer.decode(&[id]), |name| name.to_string())
        };
        prompt.tokens.iter().map(|&id| name(id)).collect()
    }

    fn head(prompt: &str) -> &str {
        prompt.split("<|suffix|>").next().unwrap()
    }

    #[test]
    fn snippets_come_before_the_file_in_the_layout_of_training() {
        let (mut retrieved, _, _folder) = retrieved(true);
        let text = "def load(path, retries):\n    store = open_store(|)\n    return store\n";
        let prompt = shown(&mut retrieved, text, 200, false);
        assert_eq!(head(&prompt), format!("<|snippet|>store.py\n{STORE}<|file|>w/load.py\n"));
    }

    #[test]
    fn the_head_stays_while_one_types_in_a_region() {
        let (mut retrieved, index, _folder) = retrieved(true);
        let typed = "path, retries):\n    store = Store(path)\n    store.con";
        let prompts: Vec<String> = (0..=typed.len())
            .map(|end| format!("x = 1\n\nclass load({}|\n\nlast = 2\n", &typed[..end]))
            .map(|text| shown(&mut retrieved, &text, 200, false))
            .collect();
        for prompt in &prompts {
            assert_eq!(head(prompt), head(&prompts[0]));
        }
        // A new question has another answer by now.
        let text = format!("x = 1\n\nclass load({typed}|\n\nlast = 2\n");
        let anew = shown(&mut retrieved, &text, 200, true);
        assert!(!prompts[0].contains("<|snippet|>") && anew.contains("<|snippet|>"), "{anew}");
        // The file is gone, but the region is the same; away from it, or with other lines around it, it is not.
        index.change(|index| assert!(index.remove("store.py")));
        let still = shown(&mut retrieved, &text, 200, false);
        assert_eq!(head(&still), head(&anew));
        let far = format!("{}{}", "\n".repeat(80), text);
        assert!(!shown(&mut retrieved, &far, 200, false).contains("<|snippet|>"));
    }

    #[test]
    fn an_index_that_was_empty_is_asked_again() {
        let (mut retrieved, index, _folder) = retrieved(false);
        let text = "def load(path, retries):\n    store = Store(path)\n    |\n";
        assert!(!shown(&mut retrieved, text, 200, false).contains("<|snippet|>"));
        fill(&index);
        assert!(shown(&mut retrieved, text, 200, false).contains("<|snippet|>"));
    }

    fn snippet(kind: Kind) -> Snippet {
        let (path, text) = ("src/store.py".into(), STORE.into());
        Snippet { kind, path, range: 0..STORE.len(), text, score: 0.5 }
    }

    #[test]
    fn other_families_get_their_own_separator() {
        let names = [
            ("<|prefix|>", "<|fim_prefix|>"),
            ("<|suffix|>", "<|fim_suffix|>"),
            ("<|middle|>", "<|fim_middle|>"),
            ("<|snippet|>", "<|fim_pad|>"),
            ("<|file|>", "<|file_sep|>"),
        ];
        let rename = |json: String, names: &[(&str, &str)]| {
            let json = names.iter().fold(json, |json, (own, other)| json.replace(own, other));
            Tokenizer::from_json(json.as_bytes()).unwrap()
        };
        let json = tokenizer().to_json().unwrap();
        let qwen = rename(json.clone(), &names);
        let tokens = pack(&qwen, &[snippet(Kind::Definition)], 1000);
        assert_eq!(tokens.first().copied(), qwen.special("<|file_sep|>"));
        assert_eq!(qwen.decode(&tokens), format!("src/store.py\n{STORE}"));
        let markerless = rename(json, &[&names[..4], &[("<|file|>", "<|other|>")]].concat());
        assert!(pack(&markerless, &[snippet(Kind::Definition)], 1000).is_empty());
    }

    #[test]
    fn what_is_too_long_is_cut_to_whole_lines() {
        let tokenizer = tokenizer();
        let whole = pack(&tokenizer, &[snippet(Kind::SimilarWindow)], 1000);
        let limit = whole.len() - 2;
        let shown = |kind| tokenizer.decode(&pack(&tokenizer, &[snippet(kind)], limit));
        let first = shown(Kind::Definition);
        assert!(
            first.starts_with("src/store.py\ndef open_store") && first.ends_with('\n'),
            "{first}"
        );
        let last = shown(Kind::SimilarWindow);
        assert!(
            last.starts_with("src/store.py\n    ") && last.ends_with("return store\n"),
            "{last}"
        );
        assert!(pack(&tokenizer, &[snippet(Kind::Definition)], LEAST_TOKENS - 1).is_empty());
    }
}
