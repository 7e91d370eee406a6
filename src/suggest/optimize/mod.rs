//! Rewrites that should be faster: found by rules that are data, ranked by where they stand, and offered with what was
//! proven of them.

mod catalogue;
mod code;
mod conditions;
mod delegated;
mod grammar;
mod ladder;
mod procedures;
mod prove;
mod rank;
mod rewrite;
mod rust_harness;
mod script;
mod subject;
mod types;
mod written;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

pub use catalogue::Gain;
pub use delegated::delegated;
pub use ladder::{Evidence, Workshop, climb};
pub use prove::{Effort, FASTER, LEAST_PAIRS, Speed, Verdict, bench, compare};
pub use rank::{Profile, worth};
pub use subject::Subject;
pub use written::{Hot, WRITTEN, hot, written};

use catalogue::Catalogue;
use conditions::Code;

use crate::syntax::{Language, Match, Piece, SyntaxTree};
use crate::text::{Text, TextEdit};
use crate::workspace::Document;

/// A rewrite for a place of a file. The result parses; nothing else is known yet, but what `is_sure` says.
#[derive(Clone, Debug, Serialize)]
pub struct Rewrite {
    /// The rule's name.
    pub rule: String,
    /// What it does.
    pub title: String,
    /// Why it should help.
    pub why: String,
    /// Where the idea is described.
    pub source: String,
    /// How much it is expected to save.
    pub gain: Gain,
    /// Whether conditions that keep what the code does were seen to hold; where not, it is offered only once it is proven.
    pub is_sure: bool,
    /// Loops of its function around it.
    pub depth: usize,
    /// The place, in bytes.
    pub place: Range<usize>,
    /// The function around it, if it is in one: its name and place.
    pub function: Option<(String, Range<usize>)>,
    /// The edits, in the order of the text.
    #[serde(skip)]
    pub edits: Vec<TextEdit>,
}

impl Rewrite {
    /// Whether it changes what another one changes.
    pub fn meets(&self, other: &Rewrite) -> bool {
        let meet = |a: &TextEdit, b: &TextEdit| {
            a.range.start <= b.range.end && b.range.start <= a.range.end
        };
        self.edits.iter().any(|own| other.edits.iter().any(|edit| meet(own, edit)))
    }

    /// The same rewrite in a text that was changed elsewhere; `None` if it is not clear where.
    pub fn moved(&self, from: &str, to: &str) -> Option<Rewrite> {
        let start = self.edits.first()?.range.start.min(self.place.start);
        let end = self.edits.last()?.range.end.max(self.place.end);
        let own = from.get(start..end)?;
        let mut places = to.match_indices(own);
        let at = places.next()?.0;
        if places.next().is_some() || from.matches(own).count() != 1 {
            return None;
        }
        let shift = |range: &Range<usize>| range.start - start + at..range.end - start + at;
        let mut moved = Rewrite { place: shift(&self.place), ..self.clone() };
        moved.edits.iter_mut().for_each(|edit| edit.range = shift(&edit.range));
        Some(moved)
    }
}

/// Rules of the user's own, in the place of those of the catalogue.
#[derive(Debug)]
pub struct Rules(BTreeMap<&'static str, Catalogue>);

impl Rules {
    /// Reads the files of rules in a folder: `python.toml`, `rust.toml` and so on.
    ///
    /// # Errors
    /// What is wrong, in which file and rule; a folder that has none.
    pub fn read(folder: &Path) -> Result<Rules> {
        let mut all = BTreeMap::new();
        for language in Language::all() {
            let file = folder.join(format!("{}.toml", language.name));
            if file.exists() {
                let read = || {
                    let catalogue = Catalogue::read(&std::fs::read_to_string(&file)?, language)?;
                    catalogue.check().map(|()| catalogue)
                };
                all.insert(language.name, read().with_context(|| file.display().to_string())?);
            }
        }
        ensure!(
            !all.is_empty(),
            "{} holds no rules: a file is named as python.toml",
            folder.display()
        );
        Ok(Rules(all))
    }
}

/// The rules that count for a language.
fn catalogue_of<'r>(language: &'static Language, own: Option<&'r Rules>) -> Option<&'r Catalogue> {
    match own {
        Some(Rules(own)) => own.get(language.name),
        None => Catalogue::of(language),
    }
}

/// Names of all rules for a language.
pub fn rule_names<'r>(language: &'static Language, own: Option<&'r Rules>) -> Vec<&'r str> {
    let rules = catalogue_of(language, own).into_iter().flat_map(|catalogue| &catalogue.rules);
    rules.map(|rule| rule.name.as_str()).collect()
}

/// All rewrites of a document, in the order of the text. Most texts lack the words that rules ask for; those are not even
/// parsed.
pub fn search(document: &mut Document, own: Option<&Rules>) -> Vec<Rewrite> {
    let catalogue = document.language.and_then(|language| catalogue_of(language, own));
    if !catalogue.is_some_and(|catalogue| catalogue.patterns.may_match(document.text.as_str())) {
        return Vec::new();
    }
    document.catch_up();
    let Some(tree) = &document.tree else { return Vec::new() };
    rewrites(tree, &document.text, 0..document.text.len(), own)
}

/// All rewrites in what touches `within`, in the order of the text.
pub fn rewrites(
    tree: &SyntaxTree,
    text: &Text,
    within: Range<usize>,
    own: Option<&Rules>,
) -> Vec<Rewrite> {
    let Some((grammar, catalogue)) =
        grammar::of(tree.language().name).zip(catalogue_of(tree.language(), own))
    else {
        return Vec::new();
    };
    let source = text.as_str();
    let code = Code { source, root: tree.root(), grammar };
    let before = tree.error_count(0..source.len());
    let mut found: Vec<Rewrite> = Vec::new();
    for mut matched in catalogue.patterns.matches(tree, source, within.clone()) {
        let rule = &catalogue.rules[matched.origin];
        let Some(site) = matched.get("site") else { continue };
        let place = site.range();
        let touches = place.start <= within.end && place.end >= within.start;
        if !touches
            || found.iter().any(|f| f.rule == rule.name && f.place == place)
            || site.has_error()
        {
            continue;
        }
        derive(&mut matched, site, &code);
        let conditions = &catalogue.conditions[matched.origin];
        if !conditions.iter().all(|condition| condition.holds(&matched, &code)) {
            continue;
        }
        let Some(edits) = rewrite::edits(rule, &matched, &code) else { continue };
        // A formatted string that prints its own code would print another.
        let prints_itself = |edit: &TextEdit| {
            let piece = tree.piece_at(edit.range.clone());
            let mut around =
                piece.into_iter().flat_map(|p| std::iter::once(p).chain(p.ancestors()));
            around.any(|p| {
                p.kind() == "interpolation" && p.tokens().iter().any(|t| t.text(source) == "=")
            })
        };
        if edits.iter().any(prints_itself) || !parses(tree, text, &edits, before) {
            continue;
        }
        found.push(Rewrite {
            rule: rule.name.clone(),
            title: rule.title.clone(),
            why: rule.why.clone(),
            source: rule.source.clone(),
            gain: rule.gain,
            is_sure: true,
            depth: code.loop_depth(site),
            place,
            function: code.named_function(site),
            edits,
        });
    }
    found
}

/// Names what every rule may ask for: `function` around the site, `loop` (the statement of the innermost loop), `outer`
/// (that of the outermost one; for a comprehension the statement it stands in), and for a variable `NAME_init`, the
/// value that it is given, if it is given one only.
fn derive<'t>(matched: &mut Match<'t>, site: Piece<'t>, code: &Code<'t>) {
    let around = code.function_of(site);
    matched.add("function", around);
    let within: Vec<Piece<'_>> =
        std::iter::once(site).chain(site.ancestors()).take_while(|p| *p != around).collect();
    let repeats = |p: &Piece<'_>| code.grammar.loops.iter().any(|(kind, _)| *kind == p.kind());
    let statement = |from: usize| within[from..].iter().find(|p| code.is_statement(**p)).copied();
    if let Some(inner) = within.iter().position(repeats).and_then(statement) {
        matched.add("loop", inner);
    }
    if let Some(outer) = within.iter().rposition(repeats).and_then(statement) {
        matched.add("outer", outer);
    }
    for (name, piece) in matched.captures().to_vec() {
        if !code.grammar.is_name(piece) {
            continue;
        }
        if let Some([conditions::Value::Is(value)]) =
            code.values_of(piece.text(code.source), code.function_of(piece)).as_deref()
        {
            matched.add(format!("{name}_init"), *value);
        }
    }
}

/// Whether a text has no more errors after the edits than before.
fn parses(tree: &SyntaxTree, text: &Text, edits: &[TextEdit], before: usize) -> bool {
    let after = crate::text::apply(text.as_str(), edits);
    let after_tree = tree.language_tree(&after);
    after_tree.is_some_and(|tree| tree.error_count(0..after.len()) <= before)
}
