//! Rewrites that a text with captures cannot say.

use super::conditions::{Code, within};
use super::script::into_main;
use super::types;
use crate::syntax::{Match, Piece};
use crate::text::TextEdit;

type Procedure = fn(&Match<'_>, &Code<'_>) -> Option<Vec<TextEdit>>;

/// The procedure of that name: from a match to its edits, if it applies.
pub(super) fn named(name: &str) -> Option<Procedure> {
    match name {
        "into-main" => Some(into_main),
        "memoize" => Some(memoize),
        _ => None,
    }
}

/// Puts a cache before a function that calls itself more than once with smaller values. The rule's pattern says what its
/// body looks like; here it is made sure that it is itself that it calls, and numbers that it is called with.
fn memoize(found: &Match<'_>, code: &Code<'_>) -> Option<Vec<TextEdit>> {
    let function = found.get("site")?;
    let (name, body) = (function.field("name")?, function.field("body")?);
    let [parameter] = function.field("parameters")?.parts()[..] else { return None };
    let (own, parameter) = (name.text(code.source), parameter.text(code.source));
    let known = |p: &Piece<'_>| [own, parameter].contains(&p.text(code.source));
    if own == parameter || !code.names_in(body).iter().all(known) {
        return None;
    }
    let all = code.references(own, code.root);
    let (inside, outside): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|p| within(&p.range(), &body.range()));
    let number = |p: &Piece<'_>| {
        let call = p.parent().filter(|call| code.grammar.called(*call) == Some(*p));
        let arguments = call.and_then(|call| call.field("arguments"));
        arguments.is_some_and(|arguments| {
            let is_number =
                |part: &Piece<'_>| types::of(*part, code).is_some_and(|t| t.name == "int");
            arguments.parts().iter().all(is_number)
        })
    };
    let mut others = outside.iter().filter(|p| p.range() != name.range());
    if inside.len() < 2 || !others.all(number) {
        return None;
    }
    let indent = super::rewrite::indent_of(code.source, function.range().start);
    let start = function.range().start - indent.len();
    let cached = format!("{indent}@lru_cache(maxsize=None)\n");
    // Where both stand at the head of the file, the import comes first.
    let import = super::rewrite::import("from functools import lru_cache", code);
    Some(import.into_iter().chain([TextEdit { range: start..start, new_text: cached }]).collect())
}
