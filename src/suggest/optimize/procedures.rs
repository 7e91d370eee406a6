//! Rewrites that a text with captures cannot say.

use super::conditions::{Code, has_word, within};
use super::grammar::BUILTINS;
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

/// Moves the statements of a Python script into a function: there variables are looked up by number, not by name.
fn into_main(found: &Match<'_>, code: &Code<'_>) -> Option<Vec<TextEdit>> {
    let source = code.source;
    let top = code.root.parts();
    let loops = |p: &Piece<'_>| ["for_statement", "while_statement"].contains(&p.kind());
    // Offered once, at the first loop.
    if top.iter().find(|p| loops(p)).copied() != found.get("site") {
        return None;
    }
    let refused = [
        "class_definition",
        "global_statement",
        "nonlocal_statement",
        "exec_statement",
        "decorated_definition",
        "yield",
        "await",
        "delete_statement",
    ];
    if code.root.all().iter().any(|p| refused.contains(&p.kind())) {
        return None;
    }
    let words =
        ["globals", "locals", "vars", "exec", "__name__", "__file__", "main", "dir", "super"];
    if words.iter().any(|word| has_word(source, word)) {
        return None;
    }
    let at_top = |p: &Piece<'_>| code.function_of(*p) == code.root;
    let calls = |p: &Piece<'_>, name: &str| {
        p.text(source) == name
            && p.parent().is_some_and(|call| code.grammar.called(call) == Some(*p))
    };
    // Only a script: it prints at its top.
    let names = code.names_in(code.root);
    if !names.iter().any(|p| calls(p, "print") && at_top(p)) {
        return None;
    }
    // What is evaluated sees the names of the function that evaluates it, but not from functions and comprehensions in it.
    let inner = [
        "list_comprehension",
        "set_comprehension",
        "dictionary_comprehension",
        "generator_expression",
    ];
    let sees_names = |p: &Piece<'_>| {
        let argument = p.parent().and_then(|call| call.field("arguments"));
        calls(p, "eval")
            && argument.is_some_and(|argument| argument.text(source) == "(input())")
            && at_top(p)
            && !p.ancestors().any(|outer| inner.contains(&outer.kind()))
    };
    if names.iter().any(|p| p.text(source) == "eval" && !sees_names(p)) {
        return None;
    }
    let is_import = |p: &Piece<'_>| {
        ["import_statement", "import_from_statement", "future_import_statement"].contains(&p.kind())
    };
    let is_function = |p: &Piece<'_>| p.kind() == "function_definition";
    let imported_by = |import: &Piece<'_>| -> Vec<&str> {
        let names = import.all().into_iter().filter(|p| p.kind() == "identifier");
        names.map(|p| p.text(source)).collect()
    };
    // Its functions stay where others may import them, if they do not need what the script gives names to.
    let first = top.iter().position(|p| !is_import(p) && !is_function(p))?;
    let (mut head, mut body) = top.split_at(first);
    let in_body = |body: &[Piece<'_>]| -> Vec<&str> {
        let names = body.iter().flat_map(|p| code.names_in(*p));
        let names = names.filter(|p| code.grammar.is_assigned(*p)).map(|p| p.text(source));
        names.chain(body.iter().filter(|p| is_import(p)).flat_map(imported_by)).collect()
    };
    let needs = |function: &Piece<'_>, name: &str| {
        let all = code.references(name, *function);
        // A name that a function gives a value is its own.
        let is_own =
            |p: &Piece<'_>| code.grammar.is_assigned(*p) && code.function_of(*p) == *function;
        !all.is_empty() && !all.iter().any(is_own)
    };
    let given = in_body(body);
    let functions = head.iter().filter(|p| is_function(p));
    let stay = functions.clone().all(|function| !given.iter().any(|name| needs(function, name)));
    if !stay || body.iter().any(is_function) {
        // Nobody imports from a file that waits for its input.
        if !["input", "stdin"].iter().any(|word| has_word(source, word)) {
            return None;
        }
        (head, body) = top.split_at(top.iter().position(|p| !is_import(p))?);
    }
    // A name that the builtins have is a local one from its first line on in a function, and not before.
    let mut given = in_body(body);
    given.sort_unstable();
    given.dedup();
    let imported: Vec<&str> = head.iter().filter(|p| is_import(p)).flat_map(imported_by).collect();
    let known = |name: &&str| BUILTINS.contains(name) || imported.contains(name);
    // Not everything can be imported in a function.
    let late = || body.iter().filter(|p| is_import(p));
    let all = |p: &Piece<'_>| p.all().iter().any(|p| p.kind() == "wildcard_import");
    if late().any(|p| all(p) || imported_by(p).iter().any(known)) {
        return None;
    }
    // Unless it is given its value before anything else refers to it.
    let is_given_late = |name: &&str| {
        let all: Vec<Piece<'_>> = body.iter().flat_map(|p| code.references(name, *p)).collect();
        let Some(first) = all.first().filter(|_| all.iter().any(|p| code.grammar.is_assigned(*p)))
        else {
            return false;
        };
        let given =
            first.parent().filter(|p| p.kind() == "assignment" && p.field("left") == Some(*first));
        let at_top = given.and_then(|p| p.parent()).and_then(|p| p.parent()) == Some(code.root);
        let value = given.and_then(|p| p.field("right"));
        !at_top || value.is_none_or(|value| !code.references(name, value).is_empty())
    };
    if given.iter().any(|name| known(name) && is_given_late(name)) {
        return None;
    }
    let (start, end) = (body.first()?.range().start, code.root.range().end);
    let start = source[..start].rfind('\n').map_or(0, |i| i + 1);
    // Lines that begin within a string must not be changed.
    let strings: Vec<_> =
        code.root.all().into_iter().filter(|p| p.kind() == "string").map(|p| p.range()).collect();
    let mut moved = String::from("def main():\n");
    let mut at = start;
    for line in source[start..end.max(start)].split_inclusive('\n') {
        let is_text = strings.iter().any(|string| string.start < at && at < string.end);
        match line.trim().is_empty() {
            true if !is_text => moved.push('\n'),
            _ => moved.extend([if is_text { "" } else { "    " }, line]),
        }
        at += line.len();
    }
    let moved = format!("{}\n\n\nmain()\n", moved.trim_end());
    Some(vec![TextEdit { range: start..source.len(), new_text: moved }])
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
