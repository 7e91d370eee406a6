//! What a file's tree tells of its variables: where they stand, what changes them, who else may reach them.

use std::ops::Range;

use super::grammar::Grammar;
use crate::syntax::Piece;

/// A file and the language's table.
#[derive(Clone, Copy)]
pub(super) struct Code<'t> {
    pub(super) source: &'t str,
    pub(super) root: Piece<'t>,
    pub(super) grammar: &'static Grammar,
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

    /// Name and place of the function that a piece is or lies in.
    pub(super) fn named_function(&self, piece: Piece<'t>) -> Option<(String, Range<usize>)> {
        let own = self.grammar.functions.contains(&piece.kind());
        let around = if own { piece } else { self.function_of(piece) };
        let name = around.field("name").or_else(|| around.field("declarator"))?;
        Some((name.text(self.source).to_string(), around.range()))
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
    pub(super) fn is_pure_callee(&self, called: Piece<'t>) -> bool {
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
    pub(super) fn is_lazy(&self, piece: Piece<'t>, within: Piece<'t>) -> bool {
        let mut outer = piece.ancestors().take_while(|p| *p != within);
        outer.any(|p| {
            p.kind() == "generator_expression" && p.parent().is_none_or(|p| p.kind() != "call")
        })
    }

    /// Whether a reference says only yes or no, and is not what comes of it.
    pub(super) fn is_tested(&self, reference: Piece<'t>) -> bool {
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
    pub(super) fn is_read(&self, reference: Piece<'t>) -> bool {
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
    pub(super) fn is_used_as(&self, reference: Piece<'t>, uses: &str) -> bool {
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
    pub(super) fn is_given(&self, variable: Piece<'t>, place: Piece<'t>) -> bool {
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
    pub(super) fn cannot_fail(&self, place: Piece<'t>) -> bool {
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
    pub(super) fn inner_names_are_its_own(&self, name: &str, place: Piece<'t>) -> bool {
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
    pub(super) fn is_local(&self, variable: Piece<'t>) -> bool {
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
            Value::Joined(_) | Value::Declared(_) => true,
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
    pub(super) fn is_declared(&self, variable: Piece<'t>, wanted: &str) -> bool {
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
                    if parent.field("value").is_some_and(|value| value.kind() == "none") {
                        return None;
                    }
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
