//! What must hold before code may be rewritten: a small vocabulary that the rules of the catalogue are written in.
//! Each answers yes only where the tree shows it; a doubt is a no.

use std::ops::Range;

use anyhow::{Context as _, Result, bail};

use super::grammar::Grammar;
use super::types;
use crate::syntax::{Match, Piece};

/// A file and the language's table.
#[derive(Clone, Copy)]
pub(super) struct Code<'t> {
    pub(super) source: &'t str,
    pub(super) root: Piece<'t>,
    pub(super) grammar: &'static Grammar,
}

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
    NoLoop,
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
    ("no-loop", Verb::NoLoop, 1, "no loop is in @a"),
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
            Verb::NoLoop => {
                let loops = code.grammar.loops;
                first.all().iter().all(|p| loops.iter().all(|(kind, _)| p.kind() != *kind))
            }
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

pub(super) fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    inner.start >= outer.start && inner.end <= outer.end
}

/// Whether a word stands in a text, as a whole.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

impl<'t> Code<'t> {
    /// The function around a piece, or the file.
    pub(super) fn function_of(&self, piece: Piece<'t>) -> Piece<'t> {
        let is_function = |p: &Piece<'_>| self.grammar.functions.contains(&p.kind());
        piece.ancestors().find(is_function).unwrap_or(self.root)
    }

    /// Loops of the same function in whose repeated part a piece lies.
    pub(super) fn loop_depth(&self, piece: Piece<'t>) -> usize {
        let (mut depth, mut inner) = (0, piece);
        for outer in piece.ancestors() {
            if self.grammar.functions.contains(&outer.kind()) {
                break;
            }
            let repeats = |(kind, field): &(&str, &str)| {
                *kind == outer.kind()
                    && match *field {
                        "if_clause" => inner.kind() == "if_clause",
                        field => outer.field(field) == Some(inner),
                    }
            };
            depth += usize::from(self.grammar.loops.iter().any(repeats));
            inner = outer;
        }
        depth
    }

    /// References to variables in a piece.
    pub(super) fn names_in(&self, place: Piece<'t>) -> Vec<Piece<'t>> {
        let mut all = place.all();
        all.retain(|piece| self.grammar.is_name(*piece));
        all
    }

    /// References to one variable in a piece.
    pub(super) fn references(&self, name: &str, place: Piece<'t>) -> Vec<Piece<'t>> {
        let mut all = place.all();
        all.retain(|p| self.grammar.is_name(*p) && p.text(self.source) == name);
        all
    }

    /// Whether calling a piece has no effect, and a value that depends on its arguments alone.
    fn is_pure_callee(&self, called: Piece<'t>) -> bool {
        let text = called.text(self.source);
        if self.grammar.pure.contains(&text) {
            return text.contains(['.', ':']) || self.is_builtin(text);
        }
        let called = match called.kind() {
            "generic_function" => called.field("function").unwrap_or(called),
            _ => called,
        };
        let member = self.grammar.member(called);
        member.is_some_and(|(_, name)| self.grammar.looks.contains(&name.text(self.source)))
    }

    pub(super) fn calls_nothing(&self, place: Piece<'t>) -> bool {
        place.all().into_iter().all(|piece| {
            let foreign =
                ["macro_invocation", "new_expression", "await", "await_expression", "yield"];
            !foreign.contains(&piece.kind())
                && self.grammar.called(piece).is_none_or(|called| self.is_pure_callee(called))
        })
    }

    /// Whether an expression has a value and no effect.
    pub(super) fn is_pure(&self, place: Piece<'t>) -> bool {
        let grammar = self.grammar;
        let known = |piece: &Piece<'t>| {
            let kind = piece.kind();
            !piece.is_named()
                || grammar.names.contains(&kind)
                || grammar.values.contains(&kind)
                || grammar.calls.iter().any(|(call, ..)| *call == kind)
                || grammar.members.iter().any(|(member, ..)| *member == kind)
                || grammar.elements.iter().any(|(element, _)| *element == kind)
        };
        let all = place.all();
        let untouched = all
            .iter()
            .all(|p| !["&mut", "mutable_specifier", "delete", "void"].contains(&p.kind()));
        // A function that is given by its name may do anything.
        let gives_function = |p: &Piece<'t>| {
            let member = grammar.called(*p).and_then(|called| grammar.member(called));
            let takes =
                member.is_some_and(|(_, name)| TAKES_FUNCTION.contains(&name.text(self.source)));
            takes
                && p.field("arguments")
                    .is_some_and(|a| a.parts().iter().any(|p| grammar.names.contains(&p.kind())))
        };
        if grammar.languages.contains(&"javascript") && all.iter().any(gives_function) {
            return false;
        }
        untouched && all.iter().all(known) && self.calls_nothing(place)
    }

    /// Whether an element of an element of a variable is given another value.
    pub(super) fn is_deeply_assigned(&self, reference: Piece<'t>) -> bool {
        let is_element =
            |p: &Piece<'t>| self.grammar.elements.iter().any(|(kind, _)| *kind == p.kind());
        let chain: Vec<Piece<'_>> = reference.ancestors().take_while(is_element).collect();
        chain.len() > 1 && self.grammar.is_assigned(chain[chain.len() - 1])
    }

    /// Whether a piece is computed later than it stands: in a generator that nobody goes over at once.
    fn is_lazy(&self, piece: Piece<'t>, within: Piece<'t>) -> bool {
        let mut outer = piece.ancestors().take_while(|p| *p != within);
        outer.any(|p| {
            p.kind() == "generator_expression" && p.parent().is_none_or(|p| p.kind() != "call")
        })
    }

    /// Whether a reference says only yes or no, and is not what comes of it.
    fn is_tested(&self, reference: Piece<'t>) -> bool {
        let mut inner = reference;
        for outer in reference.ancestors() {
            match outer.kind() {
                "boolean_operator" | "parenthesized_expression" | "binary_expression" => {
                    inner = outer
                }
                "not_operator" | "comparison_operator" => return true,
                "conditional_expression" => return outer.parts().get(1) == Some(&inner),
                kind => {
                    return kind.starts_with("if_")
                        || kind.starts_with("while_")
                        || kind == "elif_clause"
                        || kind == "assert_statement";
                }
            }
        }
        false
    }

    /// Whether a reference is only looked at: nothing there changes the variable, what it holds, or gives it to
    /// somebody who might.
    fn is_read(&self, reference: Piece<'t>) -> bool {
        let grammar = self.grammar;
        if grammar.is_assigned(reference) {
            return false;
        }
        let Some(parent) = reference.parent() else { return false };
        // Elements, however deep, unless one is assigned, and members that are called and known to look only.
        let is_element = |p: Piece<'t>| grammar.elements.iter().any(|(kind, _)| *kind == p.kind());
        if is_element(parent) {
            let mut outer = parent;
            while let Some(next) = outer.parent().filter(|next| is_element(*next)) {
                outer = next;
            }
            let called_on = outer.parent().is_some_and(|p| grammar.member(p).is_some());
            let given = outer.parent().is_some_and(|p| {
                p.kind() == "reference_expression" && p.text(self.source).starts_with("&mut")
            });
            return !grammar.is_assigned(outer) && !called_on && !given;
        }
        if let Some((object, name)) = grammar.member(parent) {
            let is_called = parent.parent().is_some_and(|p| grammar.called(p) == Some(parent));
            let name = name.text(self.source);
            let plain = ["length", "size"].contains(&name);
            return object != reference
                || is_called && grammar.looks.contains(&name)
                || !is_called && plain && !grammar.is_assigned(parent);
        }
        if grammar.is_in(reference, grammar.iterables) {
            return true;
        }
        if let Some(call) = parent.parent()
            && grammar.calls.iter().any(|(kind, _, arguments)| {
                *kind == call.kind() && call.field(arguments) == Some(parent)
            })
        {
            return grammar.called(call).is_some_and(|called| self.is_pure_callee(called));
        }
        // Streams of C++ are read into what stands behind the operator.
        let tokens = parent.tokens();
        let into = tokens.iter().position(|token| *token == reference).unwrap_or(0);
        let operator = into.checked_sub(1).map(|at| tokens[at].kind());
        if grammar.languages.contains(&"cpp") && operator == Some(">>") {
            return false;
        }
        let text = parent.text(self.source);
        grammar.reads.contains(&parent.kind()) && !text.starts_with("&mut")
    }

    /// Whether a reference stands only as one of these: `[]` for an element that is read, `.name` for a method that
    /// is called, `name()` for an argument, `in` for what is searched, `iterated` for what a loop goes over.
    fn is_used_as(&self, reference: Piece<'t>, uses: &str) -> bool {
        let grammar = self.grammar;
        let Some(parent) = reference.parent() else { return false };
        uses.split('|').any(|allowed| match allowed {
            "[]" => {
                let slice = parent.parts().iter().any(|part| part.kind() == "slice");
                grammar.is_in(reference, grammar.elements) && !grammar.is_assigned(parent) && !slice
            }
            "operand" => parent.kind() == "binary_operator",
            "[]=" => grammar.is_in(reference, grammar.elements),
            "=" => grammar.is_assigned(reference),
            "read" => self.is_read(reference),
            "iterated" => grammar.is_in(reference, grammar.iterables),
            "in" => {
                let tokens = parent.tokens();
                let at = tokens.iter().position(|token| *token == reference).unwrap_or(0);
                let operator = at.checked_sub(1).map(|at| tokens[at].text(self.source));
                parent.kind() == "comparison_operator"
                    && tokens.len() == 3
                    && matches!(operator, Some("in" | "not in"))
            }
            "test" => ["if_statement", "while_statement", "not_operator", "boolean_operator"]
                .contains(&parent.kind()),
            call if call.ends_with("()") && !call.starts_with('.') => {
                parent.parent().is_some_and(|outer| {
                    grammar
                        .called(outer)
                        .is_some_and(|c| c.text(self.source) == &call[..call.len() - 2])
                        && parent.parts().contains(&reference)
                })
            }
            member => {
                let (name, arguments) = match member.trim_start_matches('.').split_once('(') {
                    Some((name, arguments)) => (name, Some(arguments)),
                    None => (member.trim_start_matches('.'), None),
                };
                let is_called = parent.parent().is_some_and(|p| {
                    let own = p.tokens().last().map(|own| own.text(self.source));
                    grammar.called(p) == Some(parent)
                        && arguments.is_none_or(|wanted| own.is_some_and(|own| own[1..] == *wanted))
                });
                grammar.member(parent).is_some_and(|(object, own)| {
                    object == reference && own.text(self.source) == name && is_called
                })
            }
        })
    }

    /// Whether a variable is given a value in a statement that always comes before a place, or is a parameter.
    fn is_given(&self, variable: Piece<'t>, place: Piece<'t>) -> bool {
        let around = self.function_of(variable);
        let before: Vec<Piece<'_>> = std::iter::once(place)
            .chain(place.ancestors().take_while(|p| *p != around))
            .flat_map(|p| std::iter::successors(p.previous(), |p| p.previous()))
            .collect();
        self.references(variable.text(self.source), around).into_iter().any(|reference| {
            let statement = reference.ancestors().take(3).find(|p| self.is_statement(*p));
            self.grammar.is_assigned(reference)
                && (statement.is_some_and(|s| before.contains(&s))
                    || reference.ancestors().any(|p| p.kind().contains("parameter")))
        })
    }

    /// Whether no value of its variables makes a pure expression fail, if their types are right.
    fn cannot_fail(&self, place: Piece<'t>) -> bool {
        place.all().into_iter().all(|piece| {
            let risky = ["/", "//", "%", "**", "<<", ">>"].contains(&piece.kind());
            let calls = self.grammar.called(piece).is_none_or(|called| {
                let method = self.grammar.member(called).map(|(_, name)| name.text(self.source));
                let name = method.unwrap_or(called.text(self.source));
                ![
                    "index", "rindex", "int", "float", "min", "max", "chr", "pow", "divmod",
                    "decode", "encode", "format",
                ]
                .contains(&name)
            });
            let element = self.grammar.elements.iter().any(|(kind, _)| *kind == piece.kind());
            !risky && calls && !element
        })
    }

    /// Whether no function within a place refers to a variable of that name: it might run at any time.
    fn inner_names_are_its_own(&self, name: &str, place: Piece<'t>) -> bool {
        let functions = place.all().into_iter().filter(|p| *p != place);
        let mut functions = functions.filter(|p| self.grammar.functions.contains(&p.kind()));
        functions.all(|function| self.references(name, function).iter().all(|p| self.is_read(*p)))
    }

    /// Whether a file gives a name no meaning of its own.
    pub(super) fn is_builtin(&self, name: &str) -> bool {
        let all = self.references(name, self.root);
        let wild = self.grammar.imports.contains(&"import_from_statement")
            && self.root.all().iter().any(|p| p.kind() == "wildcard_import");
        // An import further down may not have happened.
        let late = |p: &Piece<'t>| {
            let import = p.ancestors().find(|a| self.grammar.imports.contains(&a.kind()));
            import.is_some_and(|import| import.parent() != Some(self.root))
        };
        !wild && all.iter().all(|p| !self.grammar.is_assigned(*p) && !late(p))
    }

    /// Whether a variable is made in the function around it and no function within refers to it.
    fn is_local(&self, variable: Piece<'t>) -> bool {
        let (name, around) = (variable.text(self.source), self.function_of(variable));
        let all = self.references(name, around);
        if self.grammar.languages.contains(&"python")
            && !self.is_reached_by_name_alone(name, around)
        {
            return false;
        }
        if around == self.root && self.grammar.languages.contains(&"python") {
            // What a function of the file refers to, it may change.
            return self.inner_names_are_its_own(name, around) && !has_word(self.source, "globals");
        }
        let parameters = [
            "parameters",
            "parameter",
            "formal_parameters",
            "parameter_declaration",
            "required_parameter",
        ];
        let is_parameter = |p: &Piece<'_>| {
            p.ancestors().take_while(|a| *a != around).any(|a| parameters.contains(&a.kind()))
        };
        let shared = |p: &Piece<'_>| {
            p.parent()
                .is_some_and(|p| ["global_statement", "nonlocal_statement"].contains(&p.kind()))
        };
        let inner = |p: &Piece<'t>| self.function_of(*p) != around;
        around != self.root
            && all.iter().any(|p| self.grammar.is_assigned(*p))
            && all.iter().all(|p| !is_parameter(p) && !shared(p) && !inner(p))
    }

    /// Whether what a variable of Python holds is made for it and is given to nobody else.
    pub(super) fn is_reached_by_name_alone(&self, name: &str, around: Piece<'t>) -> bool {
        let Some(values) = self.values_of(name, around) else { return false };
        let fresh = |piece: Piece<'t>| match self.grammar.called(piece) {
            Some(called) => match self.grammar.member(called) {
                Some((_, name)) => MAKERS.contains(&name.text(self.source)),
                None => self.is_pure_callee(called) || called.text(self.source) == "input",
            },
            None => true,
        };
        let made = |value: &Value<'t>| match value {
            Value::Is(piece) if piece.kind() == "call" => fresh(*piece),
            Value::Is(piece) => ![
                "assignment",
                "await",
                "yield",
                "named_expression",
                "identifier",
                "attribute",
                "subscript",
                "conditional_expression",
                "boolean_operator",
            ]
            .contains(&piece.kind()),
            Value::Joined(_) => true,
            _ => false,
        };
        values.iter().all(made)
            && self.references(name, around).into_iter().all(|reference| {
                let parent = reference.parent();
                let flows = parent.is_some_and(|p| {
                    ["boolean_operator", "conditional_expression", "parenthesized_expression"]
                        .contains(&p.kind())
                });
                if self.is_lazy(reference, around) || flows && !self.is_tested(reference) {
                    return false;
                }
                self.grammar.is_assigned(reference)
                    || self.is_read(reference)
                    || self.grammar.is_in(reference, self.grammar.elements)
                    || parent.is_some_and(|p| {
                        let printed = p.parent().is_some_and(|call| {
                            self.grammar
                                .called(call)
                                .is_some_and(|c| c.text(self.source) == "print")
                        });
                        self.grammar.member(p).is_some()
                            || p.kind() == "return_statement"
                            || printed
                    })
            })
    }

    /// Whether a piece is a statement of a block and nothing else stands in its lines.
    pub(super) fn is_statement(&self, piece: Piece<'t>) -> bool {
        let in_block = piece.parent().is_some_and(|p| self.grammar.statements.contains(&p.kind()));
        let range = piece.range();
        let before = self.source[..range.start].rsplit('\n').next().unwrap_or_default();
        let after = self.source[range.end..].split('\n').next().unwrap_or_default().trim();
        in_block && before.trim().is_empty() && [";", ""].contains(&after)
    }

    /// Whether all declarations of a variable, of which there is one at least, have a type or else a value that begins
    /// with one of `|`-separated texts (blanks left out).
    fn is_declared(&self, variable: Piece<'t>, wanted: &str) -> bool {
        let name = variable.text(self.source);
        let fits = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            let text = text.trim_start_matches(':');
            wanted.split('|').any(|wanted| match wanted.strip_suffix('$') {
                Some(exact) => text == exact,
                None => text.starts_with(wanted),
            })
        };
        let mut places = vec![self.function_of(variable)];
        if places[0] != self.root {
            places.push(self.root);
        }
        for place in places {
            let mut seen = 0;
            for reference in self.references(name, place) {
                // Of the file, only what stands outside of functions.
                if place == self.root && self.function_of(reference) != self.root {
                    continue;
                }
                let declares = |p: &Piece<'t>| {
                    self.grammar.declares.iter().find(|[kind, field, ..]| {
                        // What it is made of is no declaration.
                        let value = p.field("declarator").and_then(|d| d.field("value"));
                        let is_value =
                            value.is_some_and(|v| within(&reference.range(), &v.range()));
                        let named = |f: Piece<'_>| within(&reference.range(), &f.range());
                        // An element that is given a value is not the variable.
                        let is_element = *kind == "assignment_expression"
                            && !self.grammar.is_assigned(reference);
                        *kind == p.kind()
                            && !is_value
                            && !is_element
                            && (field.is_empty() || p.fields(field).into_iter().any(named))
                    })
                };
                let mut around = reference.ancestors().take(4);
                let Some((declaration, row)) =
                    around.find_map(|p| declares(&p).map(|row| (p, row)))
                else {
                    let parent = reference.parent().map_or("", |p| p.kind());
                    let again = parent.contains("assignment")
                        || parent.contains("update")
                        || parent.contains("_statement");
                    // A variable of another kind under the same name.
                    if self.grammar.is_assigned(reference) && !again {
                        return false;
                    }
                    continue;
                };
                let part = |field: &str| {
                    let part = (!field.is_empty()).then(|| declaration.field(field)).flatten();
                    part.map(|p| p.text(self.source))
                };
                let Some(text) = part(row[2]).or_else(|| part(row[3])) else { return false };
                // C++ says half of the type beside the name.
                let text = match declaration.field("declarator").filter(|_| row[1] == "declarator")
                {
                    Some(declarator) if text == "auto" => {
                        declarator.field("value").map_or(text, |v| v.text(self.source))
                    }
                    _ => text,
                };
                if !fits(text) {
                    return false;
                }
                seen += 1;
            }
            if seen > 0 {
                return true;
            }
        }
        false
    }

    /// All values that a variable is given in its function; `None` if one is given in another way than by `name =`.
    pub(super) fn values_of(&self, name: &str, around: Piece<'t>) -> Option<Vec<Value<'t>>> {
        let mut values = Vec::new();
        for reference in self.references(name, around) {
            if !self.grammar.is_assigned(reference) {
                continue;
            }
            let parent = reference.parent()?;
            values.push(match parent.kind() {
                "assignment" if parent.field("left") == Some(reference) => {
                    // What is given to several is none's alone.
                    if parent.parent()?.kind() == "assignment" {
                        return None;
                    }
                    match (parent.field("type"), parent.field("right")) {
                        (Some(declared), _) => Value::Declared(declared),
                        (None, Some(right)) => Value::Is(right),
                        (None, None) => return None,
                    }
                }
                "augmented_assignment" => Value::Joined(parent),
                "for_statement" | "for_in_clause" => Value::ItemOf(parent.field("right")?),
                "typed_parameter" | "typed_default_parameter" => {
                    Value::Declared(parent.field("type")?)
                }
                "pattern_list" | "tuple_pattern" => {
                    if parent.parts().iter().any(|part| part.kind() == "list_splat_pattern") {
                        return None;
                    }
                    let index = parent.parts().iter().position(|part| *part == reference)?;
                    let outer = parent.parent()?;
                    match outer.kind() {
                        "for_statement" | "for_in_clause" => {
                            Value::PartOfItem(outer.field("right")?, index)
                        }
                        "assignment" => Value::Part(outer.field("right")?, index),
                        _ => return None,
                    }
                }
                _ => return None,
            });
        }
        Some(values)
    }
}

/// Methods of JavaScript that call what they are given.
const TAKES_FUNCTION: &[&str] = &[
    "map",
    "filter",
    "some",
    "every",
    "find",
    "findIndex",
    "reduce",
    "forEach",
    "flatMap",
    "replace",
    "from",
];

/// Methods that make something new each time.
const MAKERS: &[&str] = &[
    "split",
    "rsplit",
    "splitlines",
    "copy",
    "readline",
    "strip",
    "lstrip",
    "rstrip",
    "join",
    "replace",
    "lower",
    "upper",
    "format",
    "union",
    "intersection",
    "difference",
    "encode",
    "decode",
    "zfill",
    "count",
    "index",
    "find",
];

/// How a variable comes by a value.
#[derive(Clone, Copy)]
pub(super) enum Value<'t> {
    Is(Piece<'t>),
    Declared(Piece<'t>),
    Joined(Piece<'t>),
    ItemOf(Piece<'t>),
    PartOfItem(Piece<'t>, usize),
    Part(Piece<'t>, usize),
}
