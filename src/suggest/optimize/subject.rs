//! What is run to compare two versions: a function of a file with all that it refers to, or the whole file as a program.
//! Or why neither can be: effects that a comparison would not see.

use std::collections::BTreeSet;

use serde::Serialize;

use super::conditions::{Code, has_word, within};
use super::grammar::{self, BUILTINS};
use super::types;
use crate::syntax::{Piece, SyntaxTree};

/// A function or program in two versions.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(super) language: &'static str,
    /// The function's name; none for a program.
    pub(super) function: Option<String>,
    pub(super) before: String,
    pub(super) after: String,
    /// Types of the parameters, where they are said or shown.
    pub(super) parameters: Vec<Option<String>>,
    pub(super) literals: Literals,
    /// Why the function alone is not compared, where the whole program is.
    pub(super) whole: Option<String>,
}

/// Values that stand in the code: what it looks for is likely among them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Literals {
    pub(super) int: Vec<i64>,
    pub(super) str: Vec<String>,
}

/// Names that Python or JavaScript has by itself and that reach nothing outside, besides the functions of Python.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "ValueError", "TypeError", "KeyError", "IndexError", "Exception", "ZeroDivisionError",
    "StopIteration", "RuntimeError", "AssertionError", "OverflowError", "ArithmeticError",
    "LookupError", "NotImplementedError", "NotImplemented", "Ellipsis", "undefined", "NaN",
    "Infinity", "Math", "Object", "Array", "String", "Number", "Boolean", "JSON", "Map", "Set",
    "WeakMap", "BigInt", "Symbol", "parseInt", "parseFloat", "isNaN", "isFinite", "Error",
    "RangeError", "SyntaxError", "RegExp", "Int32Array", "Float64Array", "Uint8Array",
    "structuredClone", "arguments",
];

/// Functions of Python that reach outside of a function, or tell what is not the same each time.
const REACHING: &[&str] = &["dir", "id", "input", "open", "vars"];

/// What numpy does besides computing.
const NUMPY_REACHES: &[&str] = &[
    "random",
    "load",
    "save",
    "savez",
    "loadtxt",
    "savetxt",
    "genfromtxt",
    "fromfile",
    "tofile",
    "memmap",
];

/// Modules of Python whose functions compute and do nothing else.
const HARMLESS_MODULES: &[&str] = &[
    "math",
    "itertools",
    "functools",
    "collections",
    "re",
    "string",
    "operator",
    "bisect",
    "heapq",
    "fractions",
    "decimal",
    "copy",
    "statistics",
    "typing",
    "cmath",
    "numbers",
    "dataclasses",
    "enum",
    "__future__",
    "textwrap",
    "array",
    "abc",
];

/// Words with which a function of Rust reaches outside, or that a comparison cannot follow.
const OUTSIDE: &[&str] = &[
    "unsafe",
    "fs",
    "net",
    "process",
    "env",
    "thread",
    "Instant",
    "SystemTime",
    "File",
    "stdin",
    "stdout",
    "println",
    "print",
    "eprintln",
    "eprint",
    "rand",
    "async",
    "await",
    "dyn",
    "extern",
    "RefCell",
    "Mutex",
    "Atomic",
    "super",
    "crate",
    "self",
    "Self",
    "impl",
    "include_str",
    "include_bytes",
];

/// Words of JavaScript that are not the same each time.
const FICKLE: &[&str] =
    &["async", "await", "random", "now", "Date", "this", "import", "require", "console", "eval"];

impl Subject {
    /// What is compared for a change of `function` (or of the file outside of any).
    ///
    /// # Errors
    /// Why nothing can be, in words that follow "not compared:".
    pub fn of(
        (before, old): (&SyntaxTree, &str),
        (after, new): (&SyntaxTree, &str),
        function: Option<&str>,
    ) -> Result<Subject, String> {
        let language = before.language().name;
        let grammar = grammar::of(language).ok_or("the language has no rules")?;
        let old = Code { source: old, root: before.root(), grammar };
        let new = Code { source: new, root: after.root(), grammar };
        let language = grammar.languages[0];
        if !["python", "javascript", "rust"].contains(&language) {
            return Err(format!("functions of {language} are not run"));
        }
        let by_function = match function {
            Some(name) => of_function(language, &old, &new, name),
            None => Err("it stands outside of any function".to_string()),
        };
        match by_function {
            // A script of Python can be compared as a whole.
            Err(why) if language == "python" && is_script(&old) => Ok(Subject {
                whole: Some(why),
                language,
                function: None,
                before: old.source.into(),
                after: new.source.into(),
                parameters: Vec::new(),
                literals: literals(old.root, &old),
            }),
            other => other,
        }
    }
}

/// Whether a file does something when it is run: it reads and prints outside of functions.
fn is_script(code: &Code<'_>) -> bool {
    let calls = |name: &str| {
        code.references(name, code.root)
            .iter()
            .any(|p| p.parent().is_some_and(|call| code.grammar.called(call) == Some(*p)))
    };
    let has_loop_or_call = code.root.parts().iter().any(|p| {
        !p.kind().starts_with("import")
            && !["function_definition", "class_definition"].contains(&p.kind())
    });
    has_loop_or_call && calls("print")
}

fn of_function(
    language: &'static str,
    old: &Code<'_>,
    new: &Code<'_>,
    name: &str,
) -> Result<Subject, String> {
    let function = top_function(old, name)
        .ok_or_else(|| format!("{name} is not a plain function at the top of the file"))?;
    let before = slice(language, old, name)?;
    let after = slice(language, new, name)?;
    let mut parameters = Vec::new();
    let list = function.field("parameters").or_else(|| function.field("parameter"));
    for parameter in list.map(|list| list.parts()).unwrap_or_default() {
        parameters.push(parameter_type(language, parameter, function, old)?);
    }
    if parameters.is_empty() {
        return Err(format!("{name} takes nothing, so there is nothing to vary"));
    }
    if language == "rust" && function.field("type_parameters").is_some() {
        return Err(format!("{name} is generic"));
    }
    Ok(Subject {
        language,
        function: Some(name.into()),
        before,
        after,
        parameters,
        literals: literals(function, old),
        whole: None,
    })
}

fn top_function<'t>(code: &Code<'t>, name: &str) -> Option<Piece<'t>> {
    let mut found = code.root.parts().into_iter().filter_map(|piece| {
        let inner = match piece.kind() {
            "decorated_definition" => piece.field("definition")?,
            "export_statement" => piece.field("declaration")?,
            _ => piece,
        };
        let is_function = code.grammar.functions.contains(&inner.kind());
        (is_function && inner.field("name")?.text(code.source) == name).then_some(inner)
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn parameter_type<'t>(
    language: &str,
    parameter: Piece<'t>,
    function: Piece<'t>,
    code: &Code<'t>,
) -> Result<Option<String>, String> {
    let text = parameter.text(code.source);
    match (language, parameter.kind()) {
        ("rust", "parameter") => {
            let of = parameter.field("type").ok_or("a parameter without a type")?;
            Ok(Some(of.text(code.source).to_string()))
        }
        ("rust", _) => Err(format!("it takes {text}")),
        ("python", "identifier" | "default_parameter") => {
            let name = parameter.field("name").unwrap_or(parameter);
            let default = parameter.field("value").and_then(|value| types::of(value, code));
            Ok(default
                .filter(|d| d.name != "none")
                .map(|d| d.written())
                .or_else(|| from_calls(name, function, code)))
        }
        ("python", "typed_parameter" | "typed_default_parameter") => {
            let of = parameter.field("type").map(|p| p.text(code.source)).unwrap_or_default();
            Ok(types::annotated(of).map(|found| found.written()))
        }
        ("javascript", "identifier") => Ok(None),
        ("javascript", "required_parameter" | "optional_parameter") => {
            let of = parameter
                .field("type")
                .map(|p| p.text(code.source).trim_start_matches(':').trim().to_string());
            Ok(of.filter(|of| {
                ["number", "string", "boolean", "number[]", "string[]"].contains(&of.as_str())
            }))
        }
        _ => Err(format!("its parameter {text} is of a kind that is not made up")),
    }
}

/// The type that calls in the file give a parameter, if they agree.
fn from_calls<'t>(name: Piece<'t>, function: Piece<'t>, code: &Code<'t>) -> Option<String> {
    let list = function.field("parameters")?.parts();
    let place = list.iter().position(|p| within(&name.range(), &p.range()))?;
    let own = function.field("name")?.text(code.source);
    let mut types = code.references(own, code.root).into_iter().filter_map(|p| {
        let call = p.parent().filter(|call| code.grammar.called(*call) == Some(p))?;
        // A function that calls itself says nothing new.
        (!within(&call.range(), &function.range())).then(|| {
            let argument = call.field("arguments")?.parts().get(place).copied()?;
            types::of(argument, code)
        })
    });
    let first = types.next()??;
    types.all(|other| other.as_ref() == Some(&first)).then(|| first.written())
}

/// A function with all of the file that it refers to, in the file's order.
fn slice(language: &str, code: &Code<'_>, name: &str) -> Result<String, String> {
    let top = code.root.parts();
    let source = code.source;
    let mut wanted: BTreeSet<String> = [name.to_string()].into();
    let mut taken = vec![false; top.len()];
    loop {
        let mut grown = false;
        for (index, piece) in top.iter().enumerate() {
            if taken[index] || !defines(*piece, code).iter().any(|name| wanted.contains(name)) {
                continue;
            }
            check_definition(language, *piece, code)?;
            taken[index] = true;
            grown = true;
            for reference in referenced(*piece, code) {
                wanted.insert(reference);
            }
        }
        if !grown {
            break;
        }
    }
    let known: BTreeSet<String> =
        (0..top.len()).filter(|i| taken[*i]).flat_map(|i| defines(top[i], code)).collect();
    if !known.contains(name) {
        return Err(format!("{name} is not a plain function at the top of the file"));
    }
    if language == "rust" {
        let text: Vec<&str> =
            (0..top.len()).filter(|i| taken[*i]).map(|i| top[i].text(source)).collect();
        let outside = |word: &&&str| text.iter().any(|text| has_word(text, word));
        if let Some(word) = OUTSIDE.iter().find(outside) {
            return Err(format!("it has to do with `{word}`"));
        }
    } else {
        for index in (0..top.len()).filter(|i| taken[*i]) {
            if let Some(unknown) = unknown_name(top[index], code, &known) {
                return Err(format!("it uses `{unknown}`, of which it is not known what it does"));
            }
        }
        let all = || (0..top.len()).filter(|i| taken[*i]).map(|i| top[i]);
        if language == "javascript"
            && let Some(word) = FICKLE.iter().find(|w| all().any(|p| has_word(p.text(source), w)))
        {
            return Err(format!("it has to do with `{word}`"));
        }
        let changes =
            |p: &Piece<'_>| code.grammar.member(*p).is_some() && code.grammar.is_assigned(*p);
        if all().any(|p| p.all().iter().any(changes)) {
            return Err("it changes an attribute of something".into());
        }
    }
    let mut text = String::new();
    for index in (0..top.len()).filter(|i| taken[*i]) {
        let own = top[index].text(source);
        // Marks before an item of Rust belong to it.
        text.push_str(
            own.strip_prefix("export default ").or(own.strip_prefix("export ")).unwrap_or(own),
        );
        text.push_str("\n\n");
    }
    Ok(text)
}

/// Names that a statement at the top of a file gives a meaning.
fn defines(piece: Piece<'_>, code: &Code<'_>) -> Vec<String> {
    let source = code.source;
    let text = |p: Piece<'_>| p.text(source).to_string();
    match piece.kind() {
        "decorated_definition" => {
            piece.field("definition").map(|p| defines(p, code)).unwrap_or_default()
        }
        "export_statement" => {
            piece.field("declaration").map(|p| defines(p, code)).unwrap_or_default()
        }
        "impl_item" => piece.field("type").map(text).into_iter().collect(),
        "use_declaration" | "import_statement" | "import_from_statement" => {
            // The last part of each path, or its other name.
            let mut names = Vec::new();
            for part in piece.all() {
                match part.kind() {
                    "dotted_name" => names.extend(text(part).split('.').map(String::from)),
                    "identifier" | "type_identifier" => names.push(text(part)),
                    _ => {}
                }
            }
            names
        }
        "expression_statement" => {
            let assigned = piece.parts().into_iter().filter_map(|p| p.field("left"));
            assigned.flat_map(|left| code.names_in(left)).map(text).collect()
        }
        "lexical_declaration" | "variable_declaration" => {
            piece.parts().into_iter().filter_map(|p| p.field("name")).map(text).collect()
        }
        _ => piece.field("name").map(text).into_iter().collect(),
    }
}

/// Names that something refers to.
fn referenced(piece: Piece<'_>, code: &Code<'_>) -> Vec<String> {
    let kinds = ["identifier", "type_identifier", "shorthand_property_identifier"];
    let all = piece.all().into_iter().filter(|p| kinds.contains(&p.kind()));
    all.filter(|p| !code.grammar.is_in(*p, code.grammar.labels))
        .map(|p| p.text(code.source).to_string())
        .collect()
}

/// Whether a definition may be run by itself.
fn check_definition(language: &str, piece: Piece<'_>, code: &Code<'_>) -> Result<(), String> {
    let text = piece.text(code.source);
    let first = text.lines().next().unwrap_or_default();
    match piece.kind() {
        "import_statement" | "import_from_statement" if language == "python" => {
            let module = text.split_whitespace().nth(1).unwrap_or_default();
            let module = module.split(['.', ',']).next().unwrap_or_default();
            let numbers =
                module == "numpy" && !NUMPY_REACHES.iter().any(|word| has_word(code.source, word));
            match HARMLESS_MODULES.contains(&module) || numbers {
                true => Ok(()),
                false => Err(format!("it uses the module {module}")),
            }
        }
        "import_statement" => Err(format!("it needs `{first}`")),
        "use_declaration" if !text.trim_start_matches("use ").starts_with("std::") => {
            Err(format!("it needs `{first}`"))
        }
        "function_definition"
        | "decorated_definition"
        | "use_declaration"
        | "function_item"
        | "const_item"
        | "struct_item"
        | "enum_item"
        | "type_item"
        | "function_declaration"
        | "export_statement"
        | "expression_statement"
        | "lexical_declaration"
        | "variable_declaration"
        | "static_item" => {
            match piece.all().iter().any(|p| {
                ["global_statement", "nonlocal_statement", "yield"].contains(&p.kind())
                    && p.kind() != "yield"
            }) {
                true => Err("it changes variables of the file".into()),
                false => Ok(()),
            }
        }
        _ => Err(format!("it refers to `{first}`")),
    }
}

/// A name in a definition that neither it, nor the file, nor the language explains.
fn unknown_name(piece: Piece<'_>, code: &Code<'_>, known: &BTreeSet<String>) -> Option<String> {
    if code.grammar.imports.contains(&piece.kind()) {
        return None;
    }
    let names = code.names_in(piece);
    let own: BTreeSet<&str> = names
        .iter()
        .filter(|p| code.grammar.is_assigned(**p))
        .map(|p| p.text(code.source))
        .collect();
    let is_label =
        |p: &Piece<'_>| p.ancestors().any(|a| a.kind() == "type" || a.kind() == "type_annotation");
    let unknown = names.iter().find(|p| {
        let text = p.text(code.source);
        !own.contains(text)
            && !known.contains(text)
            && !HARMLESS.contains(&text)
            && (!BUILTINS.contains(&text) || REACHING.contains(&text))
            && !is_label(p)
    });
    unknown.map(|p| p.text(code.source).to_string())
}

fn literals(piece: Piece<'_>, code: &Code<'_>) -> Literals {
    const MOST: usize = 12;
    let mut found = Literals::default();
    for part in piece.all() {
        let text = part.text(code.source);
        match part.kind() {
            "integer" | "number" | "integer_literal" if found.int.len() < MOST => {
                found.int.extend(
                    text.replace('_', "").parse::<i64>().ok().filter(|n| n.abs() < 1_000_000),
                );
            }
            "string_content" | "string_fragment"
                if found.str.len() < MOST && !text.contains('\\') =>
            {
                found.str.push(text.to_string());
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Language;

    fn of(language: &str, source: &str, function: &str) -> Result<Subject, String> {
        let tree = SyntaxTree::parse(Language::by_name(language).unwrap(), source).unwrap();
        Subject::of((&tree, source), (&tree, source), Some(function))
    }

    #[test]
    fn a_function_is_cut_out_with_what_it_refers_to() {
        let source = "import math\nimport os\n\nLIMIT = 3\n\ndef helper(x):\n    return math.floor(x) + LIMIT\n\n\
                      def f(xs: list[int], n=2):\n    return [helper(x) * n for x in xs]\n\ndef g():\n    os.remove('a')\n";
        let subject = of("python", source, "f").unwrap();
        assert_eq!(subject.parameters, [Some("list[int]".to_string()), Some("int".to_string())]);
        assert!(subject.before.contains("LIMIT = 3") && subject.before.contains("import math"));
        assert!(!subject.before.contains("os"), "{}", subject.before);
        let rust = "use std::collections::HashMap;\nconst N: u32 = 2;\nfn f(x: &[u32]) -> u32 { x.len() as u32 * N }\nfn g() { std::fs::remove_file(\"a\"); }\n";
        let subject = of("rust", rust, "f").unwrap();
        assert!(subject.before.contains("const N") && !subject.before.contains("remove_file"));
        let script = "const N = 3;\nexport function f(xs) { return xs.filter((x) => x > N); }\n";
        assert!(of("javascript", script, "f").unwrap().before.contains("const N = 3;"));
    }

    #[track_caller]
    fn refused(language: &str, source: &str, because: &str) {
        let why = of(language, source, "f").map(|s| s.before).unwrap_err();
        assert!(why.contains(because), "{why}");
    }

    #[test]
    fn what_has_effects_is_refused_and_it_is_said_why() {
        refused("python", "def f(p):\n    return open(p).read()\n", "open");
        refused("python", "import os\ndef f(p):\n    return os.stat(p)\n", "module os");
        refused("python", "n = 0\ndef f(p):\n    global n\n    n += p\n", "variables of the file");
        refused("python", "def f(p):\n    p.x = 1\n", "attribute");
        refused("python", "class A:\n    def f(self):\n        return 1\n", "not a plain function");
        refused("rust", "fn f(p: &str) { std::fs::remove_file(p); }\n", "fs");
        refused("rust", "fn f<T>(p: T) -> T { p }\n", "generic");
        refused("javascript", "function f(x) { return Date.now() + x; }\n", "Date");
        refused("go", "package p\nfunc f(x int) int { return x }\n", "go");
    }
}
