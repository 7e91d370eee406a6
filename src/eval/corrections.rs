//! Lines that people corrected, in the commits of repositories that say so: is what they wrote among the first proposals
//! for the lines as they were, when nothing is known but the function or type around them?

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::generation::CancelToken;
use crate::statistics::{self, Figure};
use crate::suggest::ModelCompleter;
use crate::suggest::repair::mutations::mutations;
use crate::suggest::repair::{Ask, Choice, Habits, Signals, proposals};
use crate::syntax::Language;
use crate::text::{Text, TextEdit, apply};
use crate::train::sources::Source;
use crate::train::{Fix, ITEM_AROUND, fixes};
use crate::workspace::{Document, Snapshot};

/// Lines beside those that were wrong in which the mistake is sought, too.
const BESIDE: usize = 5;
/// Time for each.
const LIMIT: Duration = Duration::from_secs(10);
/// Proposals that count.
const FIRST: usize = 5;
/// Bytes of a function or type that is looked at.
const LONGEST: usize = 60_000;
/// Corrections from which habits are learnt at least.
const LEAST: usize = 50;

/// A correction, and whether it was proposed.
#[derive(Clone, Debug, Serialize)]
pub struct Correction {
    /// Name of the language.
    pub language: &'static str,
    /// The file, with its repository.
    pub path: String,
    /// The lines as they were.
    pub wrong: String,
    /// What somebody made of them.
    pub right: String,
    /// Whether it is one of the changes that are tried.
    pub tried: bool,
    /// The place of that among the proposals, from 0.
    pub rank: Option<usize>,
    /// What spoke for each proposal, likeliest first; none where what was made of the lines is not tried.
    pub proposals: Vec<Signals>,
}

/// Draws `count` corrections from the histories of some repositories, and proposes. `say` hears of those done.
///
/// # Errors
/// There is no correction.
pub fn corrections(
    completer: &mut ModelCompleter,
    sources: &[Source],
    count: usize,
    seed: u64,
    say: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Correction>> {
    let mut all = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        all.extend(fixes(source, number as u32, ITEM_AROUND)?);
    }
    if all.is_empty() {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        bail!("no commit of {} says that it corrects a few lines", names.join(", "));
    }
    all.shuffle(&mut StdRng::seed_from_u64(seed));
    all.truncate(count);
    let mut done = Vec::new();
    for (number, fix) in all.iter().enumerate() {
        say(number + 1, all.len());
        let name = &sources[fix.repository as usize].name;
        done.extend(
            proposed(completer, fix).map(|correction| Correction {
                path: format!("{name}/{}", fix.path),
                ..correction
            }),
        );
    }
    Ok(done)
}

fn proposed(completer: &mut ModelCompleter, fix: &Fix) -> Option<Correction> {
    let language = Language::by_path(std::path::Path::new(&fix.path))?;
    let text = [fix.before.as_str(), &fix.wrong, &fix.after].concat();
    let wanted = [fix.before.as_str(), &fix.right, &fix.after].concat();
    let start = fix.before.rmatch_indices('\n').nth(BESIDE).map_or(0, |(at, _)| at + 1);
    let beside = fix.after.match_indices('\n').nth(BESIDE - 1);
    let after = beside.map_or(fix.after.len(), |(at, _)| at + 1);
    let within = start..fix.before.len() + fix.wrong.len() + after;
    let document = Document::new(fix.path.clone(), language.name, 1, Text::new(text.as_str()));
    let tree = document.tree.as_ref()?;
    // What does not parse by itself, as a method without its type in some languages, says nothing.
    if text.len() > LONGEST || tree.error_count(0..text.len()) > 0 {
        return None;
    }
    let is_wanted = |edits: &[TextEdit]| apply(&text, edits) == wanted;
    let known = mutations(tree, &document.text, within.clone(), None);
    let mut correction = Correction {
        language: language.name,
        path: fix.path.clone(),
        wrong: fix.wrong.clone(),
        right: fix.right.clone(),
        tried: known.iter().any(|mutation| is_wanted(std::slice::from_ref(&mutation.edit))),
        rank: None,
        proposals: Vec::new(),
    };
    if correction.tried {
        let snapshot = Snapshot::alone(document);
        let (name, limit) = (fix.path.as_str(), LIMIT);
        let ask = Ask { snapshot: &snapshot, name, within, diagnostic: None, limit, writes: true };
        let found = proposals(Some(completer), &ask, &CancelToken::new());
        correction.rank = found.iter().position(|proposal| is_wanted(&proposal.edits));
        correction.proposals = found.into_iter().map(|proposal| proposal.signals).collect();
    }
    Some(correction)
}

/// Figures that make what people wrote likely among what was proposed.
///
/// # Errors
/// There are too few to learn from.
pub fn habits(corrections: &[Correction]) -> Result<Habits> {
    let choices: Vec<Choice> =
        corrections.iter().filter_map(|c| Some((c.proposals.clone(), c.rank?))).collect();
    if choices.len() < LEAST {
        bail!(
            "{} corrections were among the proposals, {LEAST} are needed: name more repositories or a higher --count",
            choices.len()
        );
    }
    Ok(Habits::fit(&choices))
}

/// A table of corrections by language.
pub fn table(corrections: &[Correction]) -> String {
    let mut groups: BTreeMap<(usize, &str), Vec<&Correction>> = BTreeMap::new();
    for correction in corrections {
        groups.entry((0, correction.language)).or_default().push(correction);
        groups.entry((1, "all")).or_default().push(correction);
    }
    let head = ["", "corrections", "of a kind that is tried %", "of these in five %", "first %"];
    let mut lines = vec![head.map(String::from).to_vec()];
    for ((_, name), group) in groups {
        let share = |such: usize, all: usize| format!("{:.1}", Figure::share(such, all));
        let tried: Vec<_> = group.iter().filter(|c| c.tried).collect();
        let within = |most: usize| {
            let such = tried.iter().filter(|c| c.rank.is_some_and(|rank| rank < most)).count();
            share(such, tried.len())
        };
        let figures = [share(tried.len(), group.len()), within(FIRST), within(1)];
        lines.push([name.into(), group.len().to_string()].into_iter().chain(figures).collect());
    }
    statistics::table(&lines)
}
