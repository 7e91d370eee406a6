//! What type an expression of Python or JavaScript has, where its function shows it: literals, annotations, results of
//! well-known functions, and all values that a variable is given. No answer where anything is in doubt.

use super::conditions::{Code, Value};
use crate::syntax::Piece;

/// A type by its name in Python, and that of its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) name: &'static str,
    item: Option<Box<Type>>,
}

impl Type {
    fn plain(name: &'static str) -> Type {
        Type { name, item: None }
    }

    fn of_items(name: &'static str, item: Option<Type>) -> Type {
        Type { name, item: item.map(Box::new) }
    }

    /// As an annotation says it.
    pub(super) fn written(&self) -> String {
        match &self.item {
            Some(item) => format!("{}[{}]", self.name, item.written()),
            None => self.name.to_string(),
        }
    }

    /// What one gets by going over it.
    pub(super) fn item(&self) -> Option<Type> {
        match self.name {
            "str" => Some(Type::plain("str")),
            "range" | "bytes" => Some(Type::plain("int")),
            _ => self.item.as_deref().cloned(),
        }
    }
}

/// Results of functions of Python that do not depend on their arguments.
const RESULTS: &[(&str, &str)] = &[
    ("len", "int"),
    ("int", "int"),
    ("ord", "int"),
    ("hash", "int"),
    ("id", "int"),
    ("float", "float"),
    ("str", "str"),
    ("chr", "str"),
    ("input", "str"),
    ("repr", "str"),
    ("bin", "str"),
    ("hex", "str"),
    ("bool", "bool"),
    ("isinstance", "bool"),
    ("any", "bool"),
    ("all", "bool"),
    ("range", "range"),
    ("bytes", "bytes"),
    ("math.sqrt", "float"),
    ("math.floor", "int"),
    ("math.gcd", "int"),
    ("sys.stdin.readline", "str"),
    ("time.time", "float"),
];

/// Results of methods of strings.
const OF_STRINGS: &[(&str, &str)] = &[
    ("strip", "str"),
    ("lstrip", "str"),
    ("rstrip", "str"),
    ("lower", "str"),
    ("upper", "str"),
    ("replace", "str"),
    ("join", "str"),
    ("format", "str"),
    ("title", "str"),
    ("zfill", "str"),
    ("capitalize", "str"),
    ("find", "int"),
    ("index", "int"),
    ("count", "int"),
    ("startswith", "bool"),
    ("endswith", "bool"),
    ("isdigit", "bool"),
    ("isalpha", "bool"),
    ("isalnum", "bool"),
    ("isspace", "bool"),
    ("rfind", "int"),
    ("ljust", "str"),
    ("rjust", "str"),
    ("casefold", "str"),
    ("swapcase", "str"),
];

/// Names of annotations.
const ANNOTATED: &[&str] =
    &["int", "float", "str", "bool", "bytes", "list", "set", "dict", "tuple", "frozenset", "range"];

const NUMBERS: &[&str] = &["bool", "int", "float"];
/// Variables looked through for one answer.
const DEPTH: usize = 6;

/// The type of an expression.
pub(super) fn of<'t>(expression: Piece<'t>, code: &Code<'t>) -> Option<Type> {
    seek(expression, code, DEPTH)
}

fn seek<'t>(piece: Piece<'t>, code: &Code<'t>, depth: usize) -> Option<Type> {
    let depth = depth.checked_sub(1)?;
    let source = code.source;
    let plain = |name: &'static str| Some(Type::plain(name));
    match piece.kind() {
        "integer" => plain("int"),
        "float" => plain("float"),
        "number" => plain("float"),
        "string" | "concatenated_string" | "template_string" => {
            let bytes = piece.text(source).starts_with(['b', 'B']);
            plain(if bytes { "bytes" } else { "str" })
        }
        "true" | "false" | "not_operator" => plain("bool"),
        // Types of their own may compare to anything.
        "comparison_operator"
            if piece.parts().iter().all(|part| seek(*part, code, depth).is_some()) =>
        {
            plain("bool")
        }
        "none" => plain("none"),
        "parenthesized_expression" => seek(*piece.parts().first()?, code, depth),
        "list" | "array" => Some(Type::of_items("list", common(&piece.parts(), code, depth))),
        "set" => Some(Type::of_items("set", common(&piece.parts(), code, depth))),
        "tuple" | "expression_list" => {
            Some(Type::of_items("tuple", common(&piece.parts(), code, depth)))
        }
        "list_comprehension" | "set_comprehension" | "generator_expression" => {
            let item = piece.field("body").and_then(|body| seek(body, code, depth));
            let name = match piece.kind() {
                "list_comprehension" => "list",
                "set_comprehension" => "set",
                _ => "generator",
            };
            Some(Type::of_items(name, item))
        }
        "dictionary" | "dictionary_comprehension" => {
            let keys: Vec<Piece<'_>> = match piece.kind() {
                "dictionary" => {
                    piece.parts().into_iter().filter_map(|pair| pair.field("key")).collect()
                }
                _ => piece.field("body").and_then(|pair| pair.field("key")).into_iter().collect(),
            };
            Some(Type::of_items("dict", common(&keys, code, depth)))
        }
        "identifier" => of_variable(piece, code, depth),
        "binary_operator" => {
            let (left, right) = (piece.field("left")?, piece.field("right")?);
            let operator = piece.field("operator")?.text(source);
            let (left, right) = (seek(left, code, depth)?, seek(right, code, depth)?);
            joined(operator, left, right)
        }
        "unary_operator" => seek(piece.field("argument")?, code, depth)
            .filter(|found| NUMBERS.contains(&found.name))
            .map(|found| if found.name == "bool" { Type::plain("int") } else { found }),
        "conditional_expression" => {
            let parts = piece.parts();
            let (first, last) =
                (seek(*parts.first()?, code, depth)?, seek(*parts.last()?, code, depth)?);
            (first == last).then_some(first)
        }
        "boolean_operator" => {
            let (left, right) = (piece.field("left")?, piece.field("right")?);
            let (left, right) = (seek(left, code, depth)?, seek(right, code, depth)?);
            (left == right).then_some(left)
        }
        "subscript" => {
            let object = seek(piece.field("value")?, code, depth)?;
            let index = piece.field("subscript")?;
            match object.name {
                "str" => plain("str"),
                "list" if index.kind() == "slice" => Some(object),
                "list" => object.item(),
                _ => None,
            }
        }
        "call" => of_call(piece, code, depth),
        _ => None,
    }
}

/// The type that all of some expressions have.
fn common<'t>(pieces: &[Piece<'t>], code: &Code<'t>, depth: usize) -> Option<Type> {
    let mut types = pieces.iter().map(|piece| seek(*piece, code, depth));
    let first = types.next()??;
    types.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

fn joined(operator: &str, left: Type, right: Type) -> Option<Type> {
    let numbers = NUMBERS.contains(&left.name) && NUMBERS.contains(&right.name);
    let float = left.name == "float" || right.name == "float";
    match operator {
        "/" if numbers => Some(Type::plain("float")),
        "+" | "-" | "*" | "%" | "//" if numbers => {
            Some(Type::plain(if float { "float" } else { "int" }))
        }
        // A negative exponent makes a fraction.
        "**" => None,
        "&" | "|" | "^" | "<<" | ">>" if numbers && !float => Some(Type::plain("int")),
        "+" if left.name == "str" && right.name == "str" => Some(left),
        "+" if left.name == "list" && left == right => Some(left),
        "*" if left.name == "str" && right.name == "int" => Some(left),
        "*" if left.name == "list" && right.name == "int" => Some(left),
        "%" if left.name == "str" => Some(left),
        _ => None,
    }
}

fn of_variable<'t>(variable: Piece<'t>, code: &Code<'t>, depth: usize) -> Option<Type> {
    if !code.grammar.languages.contains(&"python") {
        return None;
    }
    let name = variable.text(code.source);
    // A variable of a comprehension has its own values.
    for outer in variable.ancestors() {
        if ![
            "list_comprehension",
            "set_comprehension",
            "generator_expression",
            "dictionary_comprehension",
        ]
        .contains(&outer.kind())
        {
            continue;
        }
        for clause in outer.parts().into_iter().filter(|part| part.kind() == "for_in_clause") {
            if clause.field("left").is_some_and(|left| left.text(code.source) == name) {
                return seek(clause.field("right")?, code, depth)?.item();
            }
        }
    }
    let around = code.function_of(variable);
    // Somebody may reach all variables of the file.
    if around == code.root && super::conditions::has_word(code.source, "globals") {
        return None;
    }
    let inner: Vec<Value<'_>> = code.values_of(name, around)?;
    let mut types = inner.iter().filter_map(|value| match value {
        // What is built up keeps the type that it began with, or the answer is none.
        Value::Joined(joined) => {
            let right = joined.field("right").and_then(|right| seek(right, code, depth));
            Some(right.map(|right| (true, right)))
        }
        Value::Is(piece) if piece.text(code.source) == name => None,
        Value::Is(piece) => Some(seek(*piece, code, depth).map(|found| (false, found))),
        Value::Declared(piece) => {
            Some(
                {
                    let text = piece.text(code.source);
                    let word = text
                        .split(|c: char| !c.is_alphanumeric() && c != '_')
                        .next()
                        .unwrap_or_default();
                    // The file may have a class of that name.
                    annotated(text).filter(|_| code.is_builtin(word))
                }
                .map(|found| (false, found)),
            )
        }
        Value::ItemOf(piece) => {
            let found = seek(*piece, code, depth).and_then(|whole| whole.item());
            Some(found.map(|found| (false, found)))
        }
        Value::PartOfItem(piece, index) => {
            Some(part_of_item(*piece, *index, code, depth).map(|t| (false, t)))
        }
        Value::Part(piece, index) => {
            let found = match piece.kind() {
                "expression_list" | "tuple" => {
                    piece.parts().get(*index).and_then(|part| seek(*part, code, depth))
                }
                _ => seek(*piece, code, depth).and_then(|whole| whole.item()),
            };
            Some(found.map(|found| (false, found)))
        }
    });
    let (_, first) = types.next()??;
    let mut known = first;
    for other in types {
        let (joins, other) = other?;
        known = match joins {
            // int += float is a float.
            true if NUMBERS.contains(&known.name)
                && NUMBERS.contains(&other.name)
                && known != other =>
            {
                return None;
            }
            true if known.name == other.name && known.item == other.item => known,
            true if known.name == other.name => Type::of_items(known.name, None),
            true => return None,
            // An empty list takes the items of the other.
            false if known.name == other.name => match (&known.item, &other.item) {
                (None, _) | (_, None) => Type::of_items(known.name, None),
                (a, b) if a == b => known,
                _ => Type::of_items(known.name, None),
            },
            false => return None,
        };
    }
    // What others can reach, others may put things into.
    if known.item.is_some()
        && !["range", "tuple"].contains(&known.name)
        && !code.is_reached_by_name_alone(name, around)
    {
        return Some(Type::of_items(known.name, None));
    }
    // Items of a list that grows are those that are put in, too; they are not looked for.
    let grows = ["list", "set", "dict", "deque"].contains(&known.name)
        && code.references(name, around).iter().any(|reference| {
            let Some(parent) = reference.parent() else { return false };
            let method = code.grammar.member(parent).map(|(_, name)| name.text(code.source));
            let stored = code.grammar.is_in(*reference, code.grammar.elements)
                && code.grammar.is_assigned(parent);
            stored
                || code.is_deeply_assigned(*reference)
                || method.is_some_and(|name| {
                    ["append", "extend", "insert", "add", "update", "appendleft"].contains(&name)
                })
        });
    if grows {
        let bare = |piece: &Piece<'_>| {
            ["list", "set", "dictionary"].contains(&piece.kind()) && piece.parts().is_empty()
        };
        let empty = inner.iter().all(|value| matches!(value, Value::Is(piece) if bare(piece)));
        return Some(grown((known, empty), name, around, code, depth));
    }
    Some(known)
}

/// A list with all that `append` and `add` put in, if that has one type.
fn grown<'t>(
    (known, empty): (Type, bool),
    name: &str,
    around: Piece<'t>,
    code: &Code<'t>,
    depth: usize,
) -> Type {
    let mut item = known.item.as_deref().cloned();
    for reference in code.references(name, around) {
        let Some(parent) = reference.parent() else { continue };
        let method = code.grammar.member(parent).map(|(_, name)| name.text(code.source));
        if code.is_deeply_assigned(reference) {
            return Type::of_items(known.name, None);
        }
        let stored = code.grammar.is_in(reference, code.grammar.elements)
            && code.grammar.is_assigned(parent);
        let put = match method {
            Some("append" | "add" | "appendleft") => {
                let call = parent.parent().and_then(|call| call.field("arguments"));
                call.and_then(|arguments| arguments.parts().first().copied())
            }
            Some("extend" | "insert" | "update") => None,
            _ if stored => match parent.parent() {
                Some(assignment) if known.name == "list" => assignment.field("right"),
                _ => None,
            },
            _ => continue,
        };
        let put = put.and_then(|put| seek(put, code, depth));
        let fits = put.is_some() && (item == put || item.is_none() && empty);
        if !fits {
            return Type::of_items(known.name, None);
        }
        item = put;
    }
    Type::of_items(known.name, item)
}

/// What a name in the pattern of a loop gets, for the usual things that loops go over.
fn part_of_item<'t>(whole: Piece<'t>, index: usize, code: &Code<'t>, depth: usize) -> Option<Type> {
    let called = whole.field("function")?.text(code.source);
    let arguments = whole.field("arguments")?.parts();
    match (called, index) {
        ("enumerate", 0) => Some(Type::plain("int")),
        ("enumerate", 1) => seek(*arguments.first()?, code, depth)?.item(),
        ("zip", _) => seek(*arguments.get(index)?, code, depth)?.item(),
        _ => None,
    }
}

pub(super) fn annotated(text: &str) -> Option<Type> {
    let text = text.trim();
    // One of several is none for sure.
    if text.contains('|') || text.contains('[') && !text.ends_with(']') {
        return None;
    }
    let (name, item) = match text.split_once('[') {
        Some((name, rest)) => (name, rest.strip_suffix(']')),
        None => (text, None),
    };
    let name = name.strip_prefix("typing.").unwrap_or(name).to_lowercase();
    let name = ANNOTATED.iter().find(|known| **known == name)?;
    let item = match *name {
        "dict" => item.and_then(|pair| annotated(pair.split(',').next().unwrap_or_default())),
        "tuple" => item.and_then(|items| {
            let mut items = items.split(',').map(annotated);
            let first = items.next()??;
            items.all(|other| other.as_ref() == Some(&first)).then_some(first)
        }),
        _ => item.and_then(annotated),
    };
    Some(Type::of_items(name, item))
}

fn of_call<'t>(call: Piece<'t>, code: &Code<'t>, depth: usize) -> Option<Type> {
    let called = call.field("function")?;
    let arguments = call.field("arguments")?;
    // A generator in the place of the arguments.
    let first = match arguments.kind() {
        "generator_expression" => Some(arguments),
        _ => arguments.parts().first().copied(),
    };
    let text = called.text(code.source);
    let builtin =
        |name: &str| code.is_builtin(name.split('.').next().unwrap_or(name)) || name.contains('.');
    if let Some((_, result)) =
        RESULTS.iter().find(|(name, _)| *name == text).filter(|(name, _)| builtin(name))
    {
        return Some(Type::plain(result));
    }
    let items = |first: Option<Piece<'t>>| {
        first.and_then(|first| seek(first, code, depth)).and_then(|t| t.item())
    };
    match text {
        "list" | "sorted" if builtin(text) => return Some(Type::of_items("list", items(first))),
        "set" | "frozenset" if builtin(text) => return Some(Type::of_items("set", items(first))),
        "tuple" if builtin(text) => return Some(Type::of_items("tuple", items(first))),
        "dict" if builtin(text) => return Some(Type::plain("dict")),
        "deque" | "collections.deque" => return Some(Type::of_items("deque", items(first))),
        "reversed" if builtin(text) => return Some(Type::of_items("iterator", items(first))),
        "abs" if builtin(text) => {
            return seek(first?, code, depth)
                .filter(|found| ["int", "float"].contains(&found.name));
        }
        "sum"
            if builtin(text) && arguments.parts().len() == 1
                || arguments.kind() == "generator_expression" =>
        {
            return items(first).filter(|item| NUMBERS.contains(&item.name)).map(|item| match item
                .name
            {
                "float" => Type::plain("float"),
                _ => Type::plain("int"),
            });
        }
        "min" | "max" if builtin(text) => {
            let parts = arguments.parts();
            return match parts.as_slice() {
                [one] => seek(*one, code, depth)?.item(),
                several => common(several, code, depth),
            };
        }
        "map" if builtin(text) => {
            let parts = arguments.parts();
            let [function, _] = parts.as_slice() else { return None };
            let name = function.text(code.source);
            let (_, result) = RESULTS.iter().find(|(known, _)| *known == name && builtin(name))?;
            return Some(Type::of_items("iterator", Some(Type::plain(result))));
        }
        _ => {}
    }
    let (object, method) = code.grammar.member(called)?;
    let (object, method) = (seek(object, code, depth)?, method.text(code.source));
    match (object.name, method) {
        ("str", "split" | "splitlines" | "rsplit") => {
            Some(Type::of_items("list", Some(Type::plain("str"))))
        }
        ("str", _) => {
            let (_, result) = OF_STRINGS.iter().find(|(name, _)| *name == method)?;
            Some(Type::plain(result))
        }
        ("list" | "set" | "dict" | "deque", "copy") => Some(object),
        ("list", "index" | "count") => Some(Type::plain("int")),
        ("list", "pop") => object.item(),
        ("dict", "keys") => Some(object),
        _ => None,
    }
}
