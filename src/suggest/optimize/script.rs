//! A Python script becomes a function: there variables are looked up by number, not by name. Refused wherever its names
//! would mean something else.

use super::conditions::{Code, has_word};
use super::grammar::BUILTINS;
use crate::syntax::{Match, Piece};
use crate::text::TextEdit;

/// Kinds of pieces that are not moved: what they say of names counts for a whole file, or is kept by it.
const REFUSED: &[&str] = &[
    "class_definition",
    "global_statement",
    "nonlocal_statement",
    "exec_statement",
    "decorated_definition",
    "yield",
    "await",
    "delete_statement",
    "match_statement",
    "type_alias_statement",
];

/// Words of scripts that see their own names or lines, or whose objects live until the program ends.
const WORDS: &[&str] = &[
    "globals",
    "locals",
    "vars",
    "exec",
    "__name__",
    "__file__",
    "main",
    "dir",
    "super",
    "NameError",
    "UnboundLocalError",
    "funcName",
    "lineno",
    "tb_lineno",
    "dis",
    "tempfile",
    "atexit",
    "patsy",
    "statsmodels",
];

const COMPREHENSIONS: &[&str] = &[
    "list_comprehension",
    "set_comprehension",
    "dictionary_comprehension",
    "generator_expression",
];

const IMPORTS: &[&str] = &["import_statement", "import_from_statement", "future_import_statement"];

fn is_import(piece: &Piece<'_>) -> bool {
    IMPORTS.contains(&piece.kind())
}

fn is_function(piece: &Piece<'_>) -> bool {
    piece.kind() == "function_definition"
}

fn is_docstring(piece: &Piece<'_>) -> bool {
    piece.kind() == "expression_statement"
        && piece.parts().first().is_some_and(|part| part.kind() == "string")
}

/// The names that an import gives values to.
fn imported_by<'s>(import: &Piece<'_>, source: &'s str) -> Vec<&'s str> {
    let bound = import.fields("name").into_iter().map(|part| {
        let name = part.field("alias").unwrap_or(part);
        let range = name.range();
        let text = source.get(range).unwrap_or_default();
        // `import a.b` makes `a` known.
        text.split('.').next().unwrap_or(text).trim()
    });
    bound.collect()
}

/// Moves the statements of a script into a function.
pub(super) fn into_main(found: &Match<'_>, code: &Code<'_>) -> Option<Vec<TextEdit>> {
    let source = code.source;
    let top = code.root.parts();
    let loops = |p: &Piece<'_>| ["for_statement", "while_statement"].contains(&p.kind());
    // Offered once, at the first loop.
    if top.iter().find(|p| loops(p)).copied() != found.get("site") || code.root.has_error() {
        return None;
    }
    let at_top = |p: &Piece<'_>| code.function_of(*p) == code.root;
    let all = code.root.all();
    let is_refused = |p: &Piece<'_>| match p.kind() {
        // Such an import may not have happened, and such an annotation is not looked at in a function.
        kind if IMPORTS.contains(&kind) => at_top(p) && p.parent() != Some(code.root),
        "assignment" => p.field("type").is_some() && at_top(p),
        // Texts that name variables.
        "attribute" => {
            let name = p.field("attribute").map(|name| name.text(source));
            name.is_some_and(|name| ["query", "eval", "evaluate"].contains(&name))
        }
        kind => REFUSED.contains(&kind),
    };
    if all.iter().any(is_refused) || WORDS.iter().any(|word| has_word(source, word)) {
        return None;
    }
    let names = code.names_in(code.root);
    let calls = |p: &Piece<'_>, name: &str| {
        p.text(source) == name
            && p.parent().is_some_and(|call| code.grammar.called(call) == Some(*p))
    };
    // Only a script: it prints at its top.
    if !names.iter().any(|p| calls(p, "print") && at_top(p)) {
        return None;
    }
    // What is evaluated sees the names of the function that evaluates it, but not from functions and comprehensions in it.
    let sees_names = |p: &Piece<'_>| {
        let argument = p.parent().and_then(|call| call.field("arguments"));
        let asks = |argument: Piece<'_>| {
            let [call] = argument.parts()[..] else { return false };
            let input = code.grammar.called(call).is_some_and(|name| name.text(source) == "input");
            let said = call.field("arguments").map(|said| said.parts()).unwrap_or_default();
            input
                && said.iter().all(|part| {
                    part.kind() == "string"
                        && part.parts().iter().all(|p| p.kind() != "interpolation")
                })
        };
        calls(p, "eval")
            && argument.is_some_and(asks)
            && at_top(p)
            && !p.ancestors().any(|outer| COMPREHENSIONS.contains(&outer.kind()))
    };
    if names.iter().any(|p| p.text(source) == "eval" && !sees_names(p)) {
        return None;
    }
    let is_head = |at: usize, p: &Piece<'_>| is_import(p) || at == 0 && is_docstring(p);
    // Its functions stay where others may import them, if they do not need what the script gives names to.
    let until = |with: fn(&Piece<'_>) -> bool| {
        let first = top.iter().enumerate().position(|(at, p)| !is_head(at, p) && !with(p));
        first.map(|first| top.split_at(first))
    };
    let (mut head, mut body) = until(is_function)?;
    let given_in = |body: &[Piece<'_>]| -> Vec<&str> {
        let names = body.iter().flat_map(|p| code.names_in(*p));
        let names = names.filter(|p| code.grammar.is_assigned(*p)).map(|p| p.text(source));
        let imports = body.iter().filter(|p| is_import(p));
        names.chain(imports.flat_map(|p| imported_by(p, source))).collect()
    };
    let needs = |function: &Piece<'_>, name: &str| {
        let all = code.references(name, *function);
        // A name that a function gives a value is its own, but not what a comprehension in it does.
        let inner = |outer: Piece<'_>| {
            COMPREHENSIONS.contains(&outer.kind()) || outer.kind() == "interpolation"
        };
        let is_own = |p: &Piece<'_>| {
            code.grammar.is_assigned(*p)
                && code.function_of(*p) == *function
                && !p.ancestors().take_while(|outer| outer != function).any(inner)
        };
        !all.is_empty() && !all.iter().any(is_own)
    };
    let given = given_in(body);
    let is_free = |function: &Piece<'_>| {
        let own = function.field("name").map_or("", |name| name.text(source));
        !given.iter().any(|name| *name == own || needs(function, name))
    };
    if body.iter().any(is_function) || !head.iter().filter(|p| is_function(p)).all(is_free) {
        // Nobody imports from a file that waits for its input. Messages of errors tell where a function is defined.
        let waits = ["input", "stdin"].iter().any(|word| has_word(source, word));
        if !waits
            || all.iter().any(|p| {
                p.kind() == "as_pattern" && p.parent().is_some_and(|p| p.kind() == "except_clause")
            })
        {
            return None;
        }
        (head, body) = until(|_| false)?;
    }
    // A name that the builtins have is a local one from its first line on in a function, and not before.
    let mut given = given_in(body);
    given.sort_unstable();
    given.dedup();
    let imports = head.iter().filter(|p| is_import(p));
    let imported: Vec<&str> = imports.flat_map(|p| imported_by(p, source)).collect();
    let known = |name: &&str| {
        let is_error = ["Error", "Exception", "Warning", "Exit", "Interrupt", "Iteration"]
            .iter()
            .any(|end| name.ends_with(end));
        is_error || BUILTINS.contains(name) || imported.contains(name)
    };
    // Not everything can be imported in a function.
    let is_late = |p: &&Piece<'_>| is_import(p);
    let wild = |p: &Piece<'_>| p.all().iter().any(|p| p.kind() == "wildcard_import");
    if body.iter().filter(is_late).any(|p| {
        p.kind() == "future_import_statement" || wild(p) || imported_by(p, source).iter().any(known)
    }) {
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
    let (first, end) = (body.first()?.range().start, code.root.range().end);
    let start = source[..first].rfind('\n').map_or(0, |i| i + 1);
    // Something of the head stands in the same line, or a page begins there.
    if source[start..first].contains(|c: char| !c.is_whitespace())
        || source[start..].contains('\x0c')
    {
        return None;
    }
    // Lines that begin within a string must not be changed.
    let strings: Vec<_> = all.iter().filter(|p| p.kind() == "string").map(|p| p.range()).collect();
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
