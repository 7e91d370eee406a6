//! The examples drawn from prepared documents: plain, fill-in-the-middle, with snippets, edit pairs.
//!
//! Every example is a pure function of (seed, index): a resumed run sees what an unbroken one sees, and
//! another trainer that reads exported rows sees the same.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::ops::Targets;
use crate::syntax::Language;
use crate::tokenizer::{TokenId, Tokenizer};

use super::documents::Documents;

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
    /// Share of the pieces that follow snippets of related files, where there are any and a row has the
    /// room.
    pub snippets: f64,
    /// Share of the pieces that are broken lines with their correction.
    pub edits: f64,
    /// Share of those that somebody corrected in a commit, where there are any; the others are made.
    pub fixes: f64,
    /// Largest share that tests take of a language.
    pub tests: f64,
    /// Weights of the languages, the others are left out; empty: all by their bytes. None is drawn more than
    /// [`MOST_OVER`] times as often as by its bytes: a language of one file would have it learnt by heart.
    pub mix: BTreeMap<String, f64>,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

/// How many times as often as by its bytes a language of the mix is drawn at most.
const MOST_OVER: f64 = 20.0;

impl Default for ExampleConfig {
    fn default() -> ExampleConfig {
        ExampleConfig {
            sequence: 1024,
            fim: 0.7,
            psm: 0.3,
            middles: (0.4, 0.3),
            snippets: 0.4,
            edits: 0.03,
            fixes: 0.3,
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

    fn check(&self) -> Result<()> {
        /// A row below this has no room for a header and a line.
        const LEAST_SEQUENCE: usize = 16;
        if self.sequence < LEAST_SEQUENCE {
            bail!("examples.sequence is {}: at least {LEAST_SEQUENCE}", self.sequence);
        }
        let (characters, lines) = self.middles;
        let shares = [
            ("fim", self.fim),
            ("psm", self.psm),
            ("middles", characters),
            ("middles", lines),
            ("snippets", self.snippets),
            ("edits", self.edits),
            ("fixes", self.fixes),
            ("tests", self.tests),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                bail!("examples.{name} is {share}: a share lies between 0 and 1");
            }
        }
        if characters + lines > 1.0 + 1e-9 {
            bail!("examples.middles are {characters} and {lines}: more than all of them");
        }
        for (language, weight) in &self.mix {
            if Language::by_name(language).is_none() {
                bail!("examples.mix: there is no language {language:?}");
            }
            if !(*weight >= 0.0 && weight.is_finite()) {
                bail!("examples.mix.{language} is {weight}: a weight is a number from 0");
            }
        }
        Ok(())
    }
}

/// Documents to draw from.
pub struct Dataset {
    pub(super) documents: Documents,
    groups: Vec<Group>,
    pub(super) config: ExampleConfig,
    /// How long a piece may be for a number of tokens.
    pub bytes_per_token: f64,
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids (batch · sequence).
    pub tokens: Vec<TokenId>,
    /// The id that follows each token.
    pub targets: Vec<u32>,
    /// What each target counts; empty if all count 1.
    pub counts: Vec<f32>,
}

impl Batch {
    /// What is to be predicted.
    pub fn targets(&self) -> Targets<'_> {
        Targets { ids: &self.targets, counts: &self.counts }
    }
}

/// Some tokens and what each of them counts.
#[derive(Default)]
struct Row {
    ids: Vec<TokenId>,
    counts: Vec<f32>,
}

/// Documents with the running totals of their bytes.
type Members = (Vec<u32>, Vec<u64>);

impl Dataset {
    /// Tokens are made when an example is drawn, because where a text is cut decides how it is tokenized.
    ///
    /// # Errors
    /// No document at all, or none of a language that the mix wants; a share that is none.
    pub fn new(
        documents: Documents,
        tokenizer: &Tokenizer,
        config: ExampleConfig,
    ) -> Result<Dataset> {
        config.check()?;
        if documents.list().iter().all(|d| d.bytes == 0) {
            bail!("there is nothing to learn from: no document has a text");
        }
        let mut languages: BTreeMap<&str, [Members; 2]> = BTreeMap::new();
        for (index, document) in documents.list().iter().enumerate() {
            let group = &mut languages.entry(document.language).or_default();
            let (members, totals) = &mut group[document.is_test as usize];
            members.push(index as u32);
            let weighted = (document.bytes as f64 * f64::from(document.weight)).ceil() as u64;
            totals.push(totals.last().copied().unwrap_or(0) + weighted);
        }
        let bytes = |totals: &[u64]| totals.last().copied().unwrap_or(0) as f64;
        let all: f64 = languages.values().flatten().map(|(_, totals)| bytes(totals)).sum();
        let whole: f64 = config.mix.values().sum();
        let mut shares = Vec::new();
        for (language, [code, tests]) in languages {
            let (code_bytes, test_bytes) = (bytes(&code.1), bytes(&tests.1));
            let own = code_bytes + test_bytes;
            let weight = match config.mix.is_empty() {
                true => own,
                false => {
                    let wanted = config.mix.get(language).copied().unwrap_or(0.0);
                    wanted.min(MOST_OVER * whole * own / all)
                }
            };
            let natural = test_bytes / own.max(1.0);
            let capped = if code_bytes > 0.0 { natural.min(config.tests) } else { 1.0 };
            shares.push((weight * (1.0 - capped), code));
            shares.push((weight * capped, tests));
        }
        // What has no text takes no share.
        shares.retain(|(share, (_, totals))| *share > 0.0 && bytes(totals) > 0.0);
        let total: f64 = shares.iter().map(|(share, _)| share).sum();
        if total <= 0.0 {
            let wanted: Vec<&String> = config.mix.keys().collect();
            bail!("the corpus has no text in any language of the mix: {wanted:?}");
        }
        let mut until = 0.0;
        let groups = shares
            .into_iter()
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
        let weighed = self.documents.list().iter().any(|d| d.counts.is_some());
        let mut batch = Batch::default();
        for row in self.each_row(tokenizer, first, size) {
            batch.tokens.extend(&row.ids[..sequence]);
            batch.targets.extend(&row.ids[1..]);
            if weighed {
                batch.counts.extend(&row.counts[1..]);
            }
        }
        batch
    }

    /// Rows of sequence + 1 tokens: what [`Dataset::batch`] cuts into inputs and targets.
    pub(super) fn rows(&self, tokenizer: &Tokenizer, first: u64, size: usize) -> Vec<Vec<TokenId>> {
        self.each_row(tokenizer, first, size).into_iter().map(|row| row.ids).collect()
    }

    fn each_row(&self, tokenizer: &Tokenizer, first: u64, size: usize) -> Vec<Row> {
        use rayon::prelude::*;
        (first..first + size as u64).into_par_iter().map(|i| self.row(tokenizer, i)).collect()
    }

    fn row(&self, tokenizer: &Tokenizer, index: u64) -> Row {
        let mut rng = StdRng::seed_from_u64(self.config.seed ^ index.wrapping_mul(0x9E37_79B9));
        let wanted = self.config.sequence + 1;
        let mut row = Row::default();
        while row.ids.len() < wanted {
            let document = self.draw(&mut rng);
            let piece = self.piece(tokenizer, document, wanted - row.ids.len(), &mut rng);
            row.counts.extend(piece.counts(tokenizer, &self.documents.list()[document]));
            row.ids.extend(piece.ids);
            // A text that cannot be read any more, and a family without headers: go on all the same.
            if piece.texts.is_empty() {
                row.ids.push(0);
                row.counts.push(1.0);
            }
        }
        row.ids.truncate(wanted);
        row.counts.truncate(wanted);
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
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::train) fn documents() -> Documents {
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

    pub(in crate::train) fn dataset(config: ExampleConfig) -> (Dataset, Tokenizer) {
        let documents = documents();
        let texts: Vec<String> = (0..4).map(|i| documents.text(i)).collect();
        let tokenizer = crate::tokenizer::train(texts.iter().map(String::as_str), 500).unwrap();
        let config = ExampleConfig { sequence: 512, ..config };
        (Dataset::new(documents, &tokenizer, config).unwrap(), tokenizer)
    }

    #[test]
    fn examples_depend_on_their_index_alone() {
        let (dataset, tokenizer) = self::dataset(ExampleConfig::default());
        let all = dataset.batch(&tokenizer, 0, 6);
        let later = dataset.batch(&tokenizer, 4, 2);
        assert_eq!(all.tokens[4 * 512..], later.tokens);
        assert_ne!(all.tokens[..512], all.tokens[512..1024]);
        assert_eq!(all.tokens[1..512], all.targets[..511]);
        let (again, tokenizer) = self::dataset(ExampleConfig::default());
        assert_eq!(again.batch(&tokenizer, 0, 6), all);
        let other = ExampleConfig { seed: 12, ..ExampleConfig::default() };
        assert_ne!(self::dataset(other).0.batch(&tokenizer, 0, 6), all);
    }

    #[test]
    fn the_mix_and_the_cap_on_tests_decide_what_is_drawn() {
        let mix = [("rust".to_string(), 1.0), ("python".to_string(), 3.0)].into();
        let (dataset, _) = dataset(ExampleConfig { mix, tests: 0.2, ..Default::default() });
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = [0f64; 4];
        (0..4000).for_each(|_| counts[dataset.draw(&mut rng)] += 1.0 / 4000.0);
        assert!((counts[3] - 0.75).abs() < 0.03, "{counts:?}");
        assert!((counts[2] - 0.05).abs() < 0.02, "tests are a fifth of rust: {counts:?}");
    }

    #[test]
    fn a_language_of_one_small_file_is_not_learnt_by_heart() {
        let code = "fn area(width: u32) -> u32 {\n    width\n}\n".repeat(500);
        let documents =
            Documents::from_texts([("a.rs", 0, code.as_str()), ("b.py", 0, "print(1)\n")]);
        let tokenizer = crate::tokenizer::train([code.as_str()].into_iter(), 300).unwrap();
        let mix = [("rust".to_string(), 1.0), ("python".to_string(), 1.0)].into();
        let config = ExampleConfig { mix, ..Default::default() };
        let dataset = Dataset::new(documents, &tokenizer, config).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let python = (0..2000).filter(|_| dataset.draw(&mut rng) == 1).count();
        assert!((5..60).contains(&python), "{python} of 2000");
    }

    #[test]
    fn what_has_no_text_takes_no_share() {
        let documents = Documents::from_texts([
            ("a.rs", 0, "fn a() {}\n"),
            ("b.py", 0, ""),
            ("c.go", 0, "package c\n"),
        ]);
        let (_, tokenizer) = dataset(ExampleConfig::default());
        let mix =
            [("rust", 1.0), ("python", 8.0), ("go", 1.0)].map(|(l, w)| (l.to_string(), w)).into();
        let config = ExampleConfig { mix, ..Default::default() };
        let dataset = Dataset::new(documents, &tokenizer, config).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let go = (0..1000).filter(|_| dataset.draw(&mut rng) == 2).count();
        assert!((400..600).contains(&go), "{go}");
    }

    #[test]
    fn impossible_settings_are_refused_by_name() {
        let (_, tokenizer) = dataset(ExampleConfig::default());
        let refused = |config: ExampleConfig, name: &str| {
            let error = Dataset::new(documents(), &tokenizer, config).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        };
        let mix = |name: &str, weight| ExampleConfig {
            mix: [(name.to_string(), weight)].into(),
            ..Default::default()
        };
        refused(mix("go", 1.0), "go");
        refused(mix("Rust", 1.0), "Rust");
        refused(mix("rust", -1.0), "mix.rust");
        refused(mix("rust", f64::NAN), "mix.rust");
        refused(ExampleConfig { fim: 1.5, ..Default::default() }, "fim");
        refused(ExampleConfig { edits: f64::NAN, ..Default::default() }, "edits");
        refused(ExampleConfig { middles: (0.7, 0.7), ..Default::default() }, "middles");
        refused(ExampleConfig { sequence: 0, ..Default::default() }, "sequence");
    }
}
