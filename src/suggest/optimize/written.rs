//! Rewrites that the model writes: changes of the loops of the hottest functions, in its edit format and by infilling. They
//! are worth nothing until they are proven, and are offered only when they are measured to be faster.

use std::ops::Range;
use std::time::Duration;

use super::conditions::Code;
use super::{Gain, Rewrite, grammar};
use crate::generation::CancelToken;
use crate::suggest::ModelCompleter;
use crate::suggest::repair::{Ask, proposals};
use crate::workspace::{Document, Snapshot};

/// The rule's name of what the model wrote.
pub const WRITTEN: &str = "model";

/// Proposals for one function that are tried.
const MOST: usize = 24;
/// Time in which the model makes them.
const THINKING: Duration = Duration::from_secs(3);

/// A function with a loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Hot {
    /// Its name.
    pub function: String,
    /// Its place.
    pub place: Range<usize>,
    /// The statement of its first outermost loop.
    pub looped: Range<usize>,
    /// Loops within each other in it.
    pub depth: usize,
}

/// Functions with loops, in the order of the text.
pub fn hot(document: &Document) -> Vec<Hot> {
    let Some((tree, grammar)) = document
        .tree
        .as_ref()
        .zip(document.language.and_then(|language| grammar::of(language.name)))
    else {
        return Vec::new();
    };
    let code = Code { source: document.text.as_str(), root: tree.root(), grammar };
    let is_loop = |kind: &str| grammar.loops.iter().any(|(own, _)| *own == kind);
    let mut found = Vec::new();
    for function in code.root.all().into_iter().filter(|p| grammar.functions.contains(&p.kind())) {
        let Some(name) = function.field("name") else { continue };
        let loops: Vec<_> = function
            .all()
            .into_iter()
            .filter(|p| is_loop(p.kind()) && code.is_statement(*p))
            .collect();
        let Some(first) = loops.first() else { continue };
        let depth = loops.iter().map(|p| code.loop_depth(*p) + 1).max().unwrap_or(1);
        found.push(Hot {
            function: name.text(code.source).to_string(),
            place: function.range(),
            looped: first.range(),
            depth,
        });
    }
    found
}

/// What the model would make of a function's loop.
pub fn written(
    completer: &mut ModelCompleter,
    document: &Document,
    name: &str,
    hot: &Hot,
    cancel: &CancelToken,
) -> Vec<Rewrite> {
    let snapshot = Snapshot::alone(document.clone());
    let ask = Ask {
        snapshot: &snapshot,
        name,
        within: hot.looped.clone(),
        diagnostic: None,
        limit: THINKING,
        writes: true,
    };
    let found = proposals(Some(completer), &ask, cancel)
        .into_iter()
        .filter(|proposal| !proposal.only_deletes());
    found
        .take(MOST)
        .map(|proposal| Rewrite {
            rule: WRITTEN.into(),
            title: proposal.title,
            why: "The model proposes it; only the measurement speaks for it.".into(),
            source: "this model".into(),
            gain: Gain::Constant,
            is_sure: false,
            depth: hot.depth,
            place: hot.looped.clone(),
            function: Some((hot.function.clone(), hot.place.clone())),
            edits: proposal.edits,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    #[test]
    fn functions_with_loops_are_hot_by_their_depth() {
        let text = "def a(x):\n    return x\n\ndef b(xs):\n    for x in xs:\n        for y in xs:\n            print(x, y)\n\ndef c(xs):\n    while xs:\n        xs.pop()\n";
        let found = hot(&Document::new("file:///a.py", "python", 1, Text::new(text)));
        let found: Vec<(&str, usize)> =
            found.iter().map(|hot| (hot.function.as_str(), hot.depth)).collect();
        assert_eq!(found, [("b", 2), ("c", 1)]);
    }
}
