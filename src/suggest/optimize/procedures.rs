//! Rewrites that a text with captures cannot say.

use super::conditions::{Code, has_word};
use crate::syntax::{Match, Piece};
use crate::text::TextEdit;

/// Runs the procedure of that name; `None` if it does not apply.
pub(super) fn run(name: &str, found: &Match<'_>, code: &Code<'_>) -> Option<Vec<TextEdit>> {
    match name {
        "into-main" => into_main(found, code),
        "memoize" => memoize(found, code),
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
    let words = [
        "globals", "locals", "vars", "exec", "eval", "__name__", "__file__", "main", "dir", "super",
    ];
    if words.iter().any(|word| has_word(source, word)) {
        return None;
    }
    let is_head = |p: &Piece<'_>| {
        ["import_statement", "import_from_statement", "future_import_statement"].contains(&p.kind())
    };
    let first = top.iter().position(|p| !is_head(p))?;
    // A script: loops at its top, and nothing that others could import but itself.
    let body = &top[first..];
    if body.iter().any(is_head) {
        return None;
    }
    // A name that the builtins have is a local one from its first line on in a function, and not before.
    let given = code.names_in(code.root).into_iter().filter(|p| code.grammar.is_assigned(*p));
    let mut given: Vec<&str> = given.map(|p| p.text(source)).collect();
    given.sort_unstable();
    given.dedup();
    let imported: Vec<&str> = top[..first]
        .iter()
        .flat_map(|import| import.all())
        .filter(|p| p.kind() == "identifier")
        .map(|p| p.text(source))
        .collect();
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
    let known = |name: &&str| BUILTINS.contains(name) || imported.contains(name);
    if given.iter().any(|name| known(name) && is_given_late(name)) {
        return None;
    }
    let (start, end) = (body.first()?.range().start, code.root.range().end);
    let start = source[..start].rfind('\n').map_or(0, |i| i + 1);
    // Lines within a string must not be moved.
    let within_string = |at: usize| {
        code.root
            .all()
            .iter()
            .any(|p| p.kind() == "string" && p.range().start < at && at < p.range().end)
    };
    let text = &source[start..end.max(start)];
    let many_lines =
        code.root.all().iter().any(|p| {
            p.kind() == "string" && p.range().start >= start && p.text(source).contains('\n')
        });
    let mut moved = String::from("def main():\n");
    let mut at = start;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            moved.push('\n');
        } else {
            if !(many_lines && within_string(at)) {
                moved.push_str("    ");
            }
            moved.push_str(line);
        }
        at += line.len();
    }
    let moved = format!("{}\n\n\nmain()\n", moved.trim_end());
    Some(vec![TextEdit { range: start..source.len(), new_text: moved }])
}

/// Puts a cache before a function that calls itself more than once with smaller values.
fn memoize(found: &Match<'_>, code: &Code<'_>) -> Option<Vec<TextEdit>> {
    let function = found.get("site")?;
    let name = function.field("name")?;
    let own = name.text(code.source);
    let body = function.field("body")?;
    let calls = code
        .references(own, body)
        .into_iter()
        .filter(|p| p.parent().is_some_and(|call| code.grammar.called(call) == Some(*p)));
    if calls.count() < 2 || code.references(own, body).len() < 2 {
        return None;
    }
    // Everything it calls is itself or pure, everything it names is its own.
    let parameters: Vec<Piece<'_>> = function.field("parameters")?.parts();
    if parameters.is_empty() || parameters.iter().any(|p| p.kind() != "identifier") {
        return None;
    }
    let made: Vec<&str> = code
        .names_in(function)
        .into_iter()
        .filter(|p| code.grammar.is_assigned(*p))
        .map(|p| p.text(code.source))
        .collect();
    for reference in code.names_in(body) {
        let text = reference.text(code.source);
        let known = text == own
            || made.contains(&text)
            || code.grammar.pure.contains(&text) && code.is_builtin(text);
        if !known {
            return None;
        }
    }
    let pure_kinds = [
        "return_statement",
        "if_statement",
        "elif_clause",
        "else_clause",
        "block",
        "assignment",
        "expression_statement",
        "call",
    ];
    let plain = |p: &Piece<'_>| {
        !p.is_named()
            || pure_kinds.contains(&p.kind())
            || code.grammar.names.contains(&p.kind())
            || p.kind() != "list"
                && p.kind() != "dictionary"
                && p.kind() != "set"
                && code.grammar.values.contains(&p.kind())
    };
    if !body.all().iter().all(plain)
        || body.all().iter().any(|p| p.kind().ends_with("_comprehension"))
    {
        return None;
    }
    let calls_known = body.all().into_iter().all(|p| {
        code.grammar.called(p).is_none_or(|called| {
            let text = called.text(code.source);
            text == own || code.grammar.pure.contains(&text)
        })
    });
    // Numbers are what it is called with, wherever the file calls it.
    let outside = code.references(own, code.root).into_iter().filter(|p| {
        let call = p.parent().filter(|call| code.grammar.called(*call) == Some(*p));
        let arguments = call.and_then(|call| call.field("arguments"));
        p.range() != name.range()
            && !super::conditions::within(&p.range(), &body.range())
            && !arguments.is_some_and(|arguments| {
                let parts = arguments.parts();
                parts.iter().all(|part| {
                    super::types::of(*part, code)
                        .is_some_and(|t| ["int", "str", "bool"].contains(&t.name))
                })
            })
    });
    let single =
        code.references(own, code.root).iter().filter(|p| code.grammar.is_assigned(**p)).count()
            == 1;
    if !calls_known || !single || outside.count() > 0 {
        return None;
    }
    let mut edits = Vec::new();
    let line = "from functools import lru_cache";
    edits.extend(super::rewrite::import(line, code));
    let start = function.range().start;
    let indent = super::rewrite::indent_of(code.source, start);
    let start = start - indent.len();
    edits.push(TextEdit {
        range: start..start,
        new_text: format!("{indent}@lru_cache(maxsize=None)\n"),
    });
    Some(edits)
}

/// Names that Python has without an import.
const BUILTINS: &[&str] = &[
    "abs",
    "all",
    "any",
    "bin",
    "bool",
    "bytes",
    "chr",
    "dict",
    "dir",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "format",
    "frozenset",
    "hash",
    "hex",
    "id",
    "input",
    "int",
    "isinstance",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "min",
    "next",
    "object",
    "oct",
    "open",
    "ord",
    "pow",
    "print",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "slice",
    "sorted",
    "str",
    "sum",
    "tuple",
    "type",
    "vars",
    "zip",
];
