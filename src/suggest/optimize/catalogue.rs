//! The catalogue of rewrites: rules as data, one file per language, compiled when a language is first met.

use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::conditions::Condition;
use super::{grammar, procedures};
use crate::syntax::{Language, Patterns};

/// The files of rules, by the language of the grammar's row.
const FILES: &[(&str, &str)] = &[
    ("python", include_str!("rules/python.toml")),
    ("rust", include_str!("rules/rust.toml")),
    ("javascript", include_str!("rules/javascript.toml")),
    ("go", include_str!("rules/go.toml")),
    ("cpp", include_str!("rules/cpp.toml")),
];

/// How much a rewrite is expected to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gain {
    /// Some share of the time.
    Constant,
    /// An allocation or a copy each time.
    Copy,
    /// The time grows more slowly with the data.
    Order,
}

/// One edit of a rule, its texts with `$capture` in them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// The capture that is replaced.
    pub(super) replace: Option<String>,
    /// The statement before which lines are put.
    pub(super) before: Option<String>,
    /// The statement behind which lines are put.
    pub(super) after: Option<String>,
    /// The statement whose lines are taken out.
    pub(super) delete: Option<String>,
    /// A line that the head of the file needs.
    pub(super) import: Option<String>,
    /// A text that is replaced wherever it is a node of `within`.
    pub(super) each: Option<String>,
    #[serde(rename = "in")]
    pub(super) within: Option<String>,
    /// The new text.
    #[serde(rename = "with", default)]
    pub(super) text: String,
}

/// A rule as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Its name in reports and settings.
    pub(super) name: String,
    /// What it does, in the imperative.
    pub(super) title: String,
    /// Why that should help.
    pub(super) why: String,
    /// Where the idea is described.
    pub(super) source: String,
    pub(super) gain: Gain,
    /// Tree-sitter patterns; `@site` is what is shown.
    pub(super) query: String,
    #[serde(default, rename = "where")]
    pub(super) conditions: Vec<String>,
    #[serde(default)]
    pub(super) edits: Vec<Edit>,
    /// A rewrite that texts cannot say: its name in `procedures`.
    #[serde(default)]
    pub(super) procedure: Option<String>,
}

impl Rule {
    /// Words that a text must have for its edits: those of the texts that it replaces.
    fn words(&self) -> Vec<String> {
        let each = self.edits.iter().filter_map(|edit| edit.each.as_deref());
        let parts = each
            .flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$'));
        let is_word = |word: &&str| word.starts_with(|c: char| c.is_alphabetic() || c == '_');
        parts.filter(is_word).map(String::from).collect()
    }

    fn check(&self) -> Result<()> {
        if self.edits.is_empty() == self.procedure.is_none() {
            bail!("a rule has edits or a procedure");
        }
        if let Some(name) = self.procedure.as_ref().filter(|name| procedures::named(name).is_none())
        {
            bail!("there is no procedure {name:?}");
        }
        if !self.query.contains("@site") {
            bail!("its query captures no @site");
        }
        for edit in &self.edits {
            let Edit { replace, before, after, delete, import, each, within, .. } = edit;
            let kinds = [replace, before, after, delete, import, each];
            if kinds.iter().filter(|kind| kind.is_some()).count() != 1
                || each.is_some() != within.is_some()
            {
                bail!("an edit has one of replace, before, after, delete, import, or each with in");
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Rule>,
}

/// The rules of one language, ready to be sought.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) rules: Vec<Rule>,
    pub(super) conditions: Vec<Vec<Condition>>,
    pub(super) patterns: Patterns,
}

impl Catalogue {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// What does not fit, and the rule it is in.
    pub(super) fn read(text: &str, language: &'static Language) -> Result<Catalogue> {
        let rules = toml::from_str::<File>(text)?.rule;
        let mut conditions = Vec::new();
        for rule in &rules {
            let parsed = rule.conditions.iter().map(|condition| condition.parse());
            conditions.push(parsed.collect::<Result<_>>().with_context(|| rule.name.clone())?);
            rule.check().with_context(|| rule.name.clone())?;
        }
        let queries: Vec<_> =
            rules.iter().map(|rule| (rule.query.as_str(), rule.words())).collect();
        let patterns = Patterns::new(language, &queries).map_err(anyhow::Error::msg)?;
        Ok(Catalogue { rules, conditions, patterns })
    }

    /// Whether all queries fit the grammar.
    ///
    /// # Errors
    /// What does not fit, and the rule it is in.
    pub(super) fn check(&self) -> Result<()> {
        self.patterns
            .check()
            .map_err(|(index, error)| anyhow::anyhow!("{}: {error}", self.rules[index].name))
    }

    /// The rules of a language; none if there are none.
    ///
    /// Panics if a file of ours is wrong: a mistake in the build, not in any input, and a test reads all of them.
    pub(super) fn of(language: &'static Language) -> Option<&'static Catalogue> {
        static ALL: OnceLock<Vec<(&'static str, OnceLock<Catalogue>)>> = OnceLock::new();
        let grammar = grammar::of(language.name)?;
        let (_, text) = FILES.iter().find(|(name, _)| grammar.languages.contains(name))?;
        let all =
            ALL.get_or_init(|| Language::all().iter().map(|l| (l.name, OnceLock::new())).collect());
        let (_, own) = all.iter().find(|(name, _)| *name == language.name)?;
        let catalogue = own.get_or_init(|| {
            Catalogue::read(text, language)
                .unwrap_or_else(|e| panic!("rules of {}: {e:#}", language.name))
        });
        Some(catalogue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{Piece, SyntaxTree};

    /// What is sought from its words upwards must be all that there is: on the texts of the fixtures, which the rules were
    /// written for or nearly fit.
    #[test]
    fn nothing_is_missed_that_a_walk_through_the_tree_finds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/optimize");
        for (name, _) in FILES {
            let language = Language::by_name(name).unwrap();
            let catalogue = Catalogue::of(language).unwrap();
            let fixtures = std::fs::read_to_string(folder.join(format!("{name}.toml"))).unwrap();
            let fixtures: toml::Table = fixtures.parse().unwrap();
            let list = |key: &str| fixtures[key].as_array().unwrap().clone();
            let (mut compared, mut texts) = (0, Vec::new());
            texts.extend(list("hit").iter().map(|hit| hit["before"].as_str().unwrap().to_string()));
            texts
                .extend(list("miss").iter().map(|miss| miss["text"].as_str().unwrap().to_string()));
            for text in texts {
                let tree = SyntaxTree::parse_steadily(language, &text).unwrap();
                let sought = catalogue.patterns.matches(&tree, &text, 0..text.len());
                for (origin, rule) in catalogue.rules.iter().enumerate() {
                    // Without these its edits cannot be made.
                    if rule.words().iter().any(|word| !text.contains(word.as_str())) {
                        continue;
                    }
                    let own = sought.iter().filter(|m| m.origin == origin);
                    let place = |piece: &Piece<'_>| (piece.range().start, piece.range().end);
                    let mut own: Vec<Vec<_>> = own
                        .map(|m| m.captures().iter().map(|(_, piece)| place(piece)).collect())
                        .collect();
                    own.sort();
                    own.dedup();
                    let walked = catalogue.patterns.walked(origin, &tree, &text);
                    compared += walked.len();
                    assert_eq!(own, walked, "{} in\n{text}", rule.name);
                }
            }
            assert!(compared > 50, "{name}: only {compared} matches");
        }
    }
}
