//! What must hold before code may be rewritten: a small vocabulary that the rules of the catalogue are written in.
//! Each answers yes only where the tree shows it; a doubt is a no.

use anyhow::{Context as _, Result, bail};

use super::types;
use crate::syntax::{Match, Piece};

pub(super) use super::code::{Code, Value, has_word, within};

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    verb: Verb,
    /// Whether it must not hold: an exclamation mark before the word.
    negated: bool,
    /// Captures or words, in order.
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    InLoop,
    Pure,
    Constant,
    ReadOnly,
    NoCalls,
    OnlyIn,
    Unused,
    Times,
    Type,
    Items,
    Declared,
    Builtin,
    Free,
    Statement,
    Local,
    Whole,
    Not,
    Kind,
    Absent,
    Present,
    Uses,
    Before,
    Given,
    Stable,
    IndexOnly,
    Kept,
    Hidden,
    NoTry,
    Total,
    Text,
    UntouchedBefore,
    NotIn,
}

/// The vocabulary: the word, what follows it, and what it says.
const VERBS: &[(&str, Verb, usize, &str)] = &[
    ("in-loop", Verb::InLoop, 1, "@a runs again and again in its function"),
    (
        "pure",
        Verb::Pure,
        1,
        "@a has a value and no effect, and calls only functions known for that",
    ),
    ("constant", Verb::Constant, 1, "@a is made of literals alone"),
    ("read-only", Verb::ReadOnly, 2, "variable @a is only looked at in @b"),
    ("no-calls", Verb::NoCalls, 1, "@a calls nothing, or only what is known to be pure"),
    ("only-in", Verb::OnlyIn, 2, "variable @a is nowhere else in its function than in @b"),
    ("unused", Verb::Unused, 2, "variable @a is not in @b"),
    ("times", Verb::Times, 3, "variable @a is in @b just so many times"),
    ("type", Verb::Type, 2, "@a has one of these types, by what the function shows"),
    ("items", Verb::Items, 2, "the items of @a have one of these types"),
    (
        "declared",
        Verb::Declared,
        2,
        "each declaration of variable @a has a type or value that begins with one of these",
    ),
    ("builtin", Verb::Builtin, 1, "the file gives this name no other meaning"),
    ("free-of", Verb::Free, 2, "@a has no node of these kinds in it"),
    ("statement", Verb::Statement, 1, "@a stands in a block, alone in its lines"),
    ("local", Verb::Local, 1, "variable @a is made in its function and nothing else can reach it"),
    ("whole", Verb::Whole, 1, "no comment and no error is in @a"),
    ("not", Verb::Not, 2, "@a is not one of these texts"),
    ("kind", Verb::Kind, 2, "@a is a node of one of these kinds"),
    ("absent", Verb::Absent, 1, "the file does not have one of these words"),
    ("present", Verb::Present, 1, "the file has one of these words"),
    (
        "uses",
        Verb::Uses,
        3,
        "variable @a stands in @b only as one of these: [] for an element, .name for a member, name() for an argument, in",
    ),
    ("given", Verb::Given, 2, "variable @a has a value whenever @b is reached"),
    ("stable", Verb::Stable, 2, "nothing in @b changes variable @a or what it holds"),
    (
        "index-only",
        Verb::IndexOnly,
        3,
        "variable @a is in @c only as the index of @b, which is read",
    ),
    ("kept", Verb::Kept, 2, "variable @a keeps its value in @b"),
    ("hidden", Verb::Hidden, 1, "no function within refers to variable @a"),
    ("no-try", Verb::NoTry, 1, "@a stands in no statement that catches errors"),
    ("total", Verb::Total, 1, "@a is pure, and no value makes it fail"),
    ("text", Verb::Text, 2, "@a is one of these texts"),
    (
        "untouched-before",
        Verb::UntouchedBefore,
        2,
        "before @b, variable @a is only given its first value",
    ),
    ("not-in", Verb::NotIn, 2, "the function or class around @a is none of these kinds"),
    ("before", Verb::Before, 2, "@a is the statement just before @b"),
];

impl std::str::FromStr for Condition {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Condition> {
        let mut words = text.split_whitespace().map(str::to_string);
        let first = words.next().context("a condition is empty")?;
        let (first, negated) = match first.strip_prefix('!') {
            Some(first) => (first.to_string(), true),
            None => (first, false),
        };
        let words: Vec<String> = words.collect();
        let known = VERBS.iter().find(|(name, ..)| *name == first);
        let (_, verb, count, says) =
            *known.with_context(|| format!("there is no condition {first:?}"))?;
        if words.len() != count {
            bail!("{text:?}: {first} takes {count} word(s): {says}");
        }
        Ok(Condition { verb, negated, words })
    }
}

impl Condition {
    /// Whether it holds. A capture that the match lacks makes it hold: the pattern had none there.
    pub(super) fn holds<'t>(&self, found: &Match<'t>, code: &Code<'t>) -> bool {
        self.is_so(found, code) != self.negated
    }

    fn is_so<'t>(&self, found: &Match<'t>, code: &Code<'t>) -> bool {
        let word = |index: usize| self.words.get(index).map_or("", String::as_str);
        let piece = |index: usize| found.get(word(index).trim_start_matches('@'));
        let one_of = |index: usize, text: &str| word(index).split('|').any(|word| word == text);
        if self.verb == Verb::Builtin {
            return code.is_builtin(word(0));
        }
        if let Verb::Absent | Verb::Present = self.verb {
            let has = word(0).split('|').any(|word| has_word(code.source, word));
            return has == (self.verb == Verb::Present);
        }
        let Some(first) = piece(0) else { return !self.negated };
        let name = first.text(code.source);
        match self.verb {
            Verb::InLoop => code.loop_depth(first) > 0,
            Verb::Pure => code.is_pure(first),
            Verb::Constant => code.is_pure(first) && code.names_in(first).is_empty(),
            Verb::NoCalls => code.calls_nothing(first),
            Verb::Type | Verb::Items => {
                let Some(found) = types::of(first, code) else { return false };
                let found = if self.verb == Verb::Items { found.item() } else { Some(found) };
                found.is_some_and(|found| one_of(1, found.name))
            }
            Verb::Declared => code.is_declared(first, word(1)),
            Verb::Free => first.all().iter().all(|p| !one_of(1, p.kind())),
            Verb::Statement => code.is_statement(first),
            Verb::Local => code.is_local(first),
            Verb::Whole => first.all().iter().all(|p| !p.is_comment()) && !first.has_error(),
            Verb::Not => !one_of(1, name),
            Verb::Kind => one_of(1, first.kind()),
            Verb::OnlyIn => piece(1).is_none_or(|place| {
                let around = code.function_of(first);
                let inside = |p: &Piece<'_>| within(&p.range(), &place.range());
                let names = code.names_in(first);
                names
                    .iter()
                    .all(|n| code.references(n.text(code.source), around).iter().all(inside))
            }),
            Verb::Given => piece(1).is_none_or(|place| code.is_given(first, place)),
            Verb::Stable => piece(1).is_none_or(|place| {
                code.references(name, place).into_iter().all(|p| code.is_read(p))
                    && code.inner_names_are_its_own(name, place)
                    && (code.is_local(first) || code.calls_nothing(place))
            }),
            Verb::IndexOnly => piece(1).zip(piece(2)).is_none_or(|(object, place)| {
                let wanted = object.text(code.source);
                code.references(name, place).into_iter().all(|p| {
                    let Some(element) = p.parent() else { return false };
                    let of = element.parts().first().map(|p| p.text(code.source));
                    code.grammar.elements.iter().any(|(kind, _)| *kind == element.kind())
                        && of == Some(wanted)
                        && !code.grammar.is_in(p, code.grammar.elements)
                        && !code.grammar.is_assigned(element)
                        && !element.text(code.source).contains(['\n', '#'])
                })
            }),
            Verb::Kept => piece(1).is_none_or(|place| {
                code.references(name, place).iter().all(|p| !code.grammar.is_assigned(*p))
            }),
            Verb::Hidden => {
                let around = code.function_of(first);
                let all = code.references(name, around);
                all.iter().all(|p| code.function_of(*p) == around && !code.is_lazy(*p, around))
            }
            Verb::NoTry => {
                let around = code.function_of(first);
                let mut outer = first.ancestors().take_while(|p| *p != around);
                outer.all(|p| !["try_statement", "with_statement"].contains(&p.kind()))
            }
            Verb::Total => code.is_pure(first) && code.cannot_fail(first),
            Verb::Text => one_of(1, name),
            Verb::UntouchedBefore => piece(1).is_none_or(|place| {
                let mut all = code.references(name, code.function_of(first));
                all.retain(|p| p.range().start < place.range().start);
                all.len() == 1 && code.grammar.is_assigned(all[0])
            }),
            Verb::NotIn => !one_of(1, code.function_of(first).kind()),
            Verb::Unused => piece(1).is_none_or(|place| code.references(name, place).is_empty()),
            Verb::Times => piece(1)
                .is_none_or(|place| word(2).parse() == Ok(code.references(name, place).len())),
            Verb::ReadOnly => piece(1).is_none_or(|place| {
                code.references(name, place).into_iter().all(|p| code.is_read(p))
                    && code.inner_names_are_its_own(name, place)
            }),
            Verb::Uses => piece(1).is_none_or(|place| {
                code.references(name, place).into_iter().all(|p| code.is_used_as(p, word(2)))
            }),
            Verb::Before => piece(1).is_none_or(|next| next.previous() == Some(first)),
            Verb::Builtin | Verb::Absent | Verb::Present => true,
        }
    }
}
