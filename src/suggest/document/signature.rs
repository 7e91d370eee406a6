//! What a documentation comment has to speak of: a function's name, its parameters, whether it returns something and how
//! it fails, read from the tree; the same for all languages, by a table.

use std::ops::Range;

use crate::syntax::{Piece, SyntaxTree};

/// Where functions and their parts are in one grammar.
struct Forms {
    languages: &'static [&'static str],
    functions: &'static [&'static str],
    /// What may stand around a function and belongs to it: what is said of it comes before.
    wrappers: &'static [&'static str],
    /// What has a name that its functions speak of.
    classes: &'static [&'static str],
    /// Parameters that nobody describes.
    skipped: &'static [&'static str],
    /// The comment is the first statement of the body.
    is_inside: bool,
}

const FORMS: &[Forms] = &[
    Forms {
        languages: &["rust"],
        functions: &["function_item", "function_signature_item"],
        wrappers: &[],
        classes: &["impl_item", "trait_item"],
        skipped: &[],
        is_inside: false,
    },
    Forms {
        languages: &["python"],
        functions: &["function_definition"],
        wrappers: &[],
        classes: &["class_definition"],
        skipped: &["self", "cls"],
        is_inside: true,
    },
    Forms {
        languages: &["javascript", "typescript", "tsx"],
        functions: &[
            "function_declaration",
            "generator_function_declaration",
            "method_definition",
            "arrow_function",
            "function_expression",
        ],
        wrappers: &[
            "export_statement",
            "lexical_declaration",
            "variable_declaration",
            "variable_declarator",
        ],
        classes: &["class_declaration", "abstract_class_declaration", "class"],
        skipped: &["this"],
        is_inside: false,
    },
    Forms {
        languages: &["go"],
        functions: &["function_declaration", "method_declaration"],
        wrappers: &[],
        classes: &[],
        skipped: &["_"],
        is_inside: false,
    },
    Forms {
        languages: &["java"],
        functions: &["method_declaration", "constructor_declaration"],
        wrappers: &[],
        classes: &[
            "class_declaration",
            "interface_declaration",
            "record_declaration",
            "enum_declaration",
        ],
        skipped: &[],
        is_inside: false,
    },
    Forms {
        languages: &["c", "cpp"],
        functions: &["function_definition"],
        wrappers: &["template_declaration"],
        classes: &["class_specifier", "struct_specifier"],
        skipped: &[],
        is_inside: false,
    },
];

/// What a function says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// What it is called.
    pub name: String,
    /// The type that it belongs to.
    pub class: Option<String>,
    /// Its parameters in order, with the stars or dots that collect several.
    pub parameters: Vec<String>,
    /// Whether it returns something; the name of that, if it is always the same variable.
    pub returns: Option<Option<String>>,
    /// How it fails: the error, if it has a name, and what the code says of it.
    pub fails: Vec<(String, Option<String>)>,
    /// All of it, with what stands around it.
    pub range: Range<usize>,
    /// The lines from its start to its body.
    pub header: Range<usize>,
    /// Where its comment goes: the start of a line.
    pub at: usize,
    /// The white space before it.
    pub indent: String,
}

impl Signature {
    /// The functions of a file that have no comment, and whose parameters all have names, in order.
    pub fn all(tree: &SyntaxTree, source: &str) -> Vec<Signature> {
        Signature::within(tree, source, &(0..source.len()))
    }

    /// The function of whose head a line is part, the innermost.
    pub fn at(tree: &SyntaxTree, source: &str, lines: &Range<usize>) -> Option<Signature> {
        let touches = |s: &Signature| s.header.start < lines.end && s.header.end > lines.start;
        Signature::within(tree, source, lines).into_iter().rfind(touches)
    }

    fn within(tree: &SyntaxTree, source: &str, lines: &Range<usize>) -> Vec<Signature> {
        let name = tree.language().name;
        let Some(forms) = FORMS.iter().find(|forms| forms.languages.contains(&name)) else {
            return Vec::new();
        };
        let (mut found, mut open) = (Vec::new(), vec![tree.root()]);
        while let Some(piece) = open.pop() {
            if forms.functions.contains(&piece.kind()) {
                found.extend(forms.signature(piece, source));
            }
            let touched =
                |p: &Piece<'_>| p.range().start < lines.end && p.range().end > lines.start;
            open.extend(piece.parts().into_iter().rev().filter(touched));
        }
        found
    }
}

impl Forms {
    fn signature(&self, function: Piece<'_>, source: &str) -> Option<Signature> {
        let mut top = function;
        while let Some(around) = top.parent().filter(|p| self.wrappers.contains(&p.kind())) {
            top = around;
        }
        let declared = innermost(function.field("declarator"), "function_declarator");
        let name =
            function.field("name").or_else(|| declared?.field("declarator")).or_else(|| {
                function.parent().filter(|p| p.kind() == "variable_declarator")?.field("name")
            })?;
        if function.has_error() && function.field("body").is_none_or(|body| !body.has_error()) {
            return None;
        }
        let name = name.text(source).rsplit("::").next()?.to_string();
        let above = std::iter::successors(top.previous(), |p| p.previous());
        let mut marks = above.take_while(|p| p.kind() == "attribute_item");
        let is_of_python = name.starts_with("__") && name.ends_with("__") && name != "__init__";
        let is_test = name.starts_with("test_")
            || name.starts_with("Test")
            || marks.any(|mark| mark.text(source).contains("test"));
        if is_test || is_of_python || name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let list = function.field("parameters").or_else(|| declared?.field("parameters"));
        let parts = match (list, function.field("parameter")) {
            (Some(list), _) => list.parts(),
            (None, Some(only)) => vec![only],
            (None, None) => Vec::new(),
        };
        let mut parameters = Vec::new();
        for part in parts {
            parameters.extend(names_of(part, source)?);
        }
        parameters.retain(|name| !self.skipped.contains(&name.as_str()));
        let class = function.ancestors().find(|p| self.classes.contains(&p.kind()));
        let class = class.and_then(|class| class.field("type").or_else(|| class.field("name")));
        let class = class.map(|class| {
            let text = class.text(source);
            text.split('<').next().unwrap_or(text).to_string()
        });
        let body = function.field("body");
        let (line, head) = (line_start(source, top.range().start), top.range().start);
        let first = body.and_then(|body| body.parts().first().copied());
        let (at, indent) = match self.is_inside {
            // A body on the line of its head has no line for a comment.
            true => {
                let first = first?;
                let is_text = first.kind() == "expression_statement"
                    && first.parts().first().is_some_and(|part| part.kind() == "string");
                let start = line_start(source, first.range().start);
                let colon = function.tokens().into_iter().rfind(|p| p.kind() == ":")?;
                let end = colon.range().end;
                let below = end + 1 + source[end..].find('\n')?;
                if is_text || below > start {
                    return None;
                }
                (below, &source[start..first.range().start])
            }
            false => {
                let (first, place) = self.attributes(top, source);
                if is_said(source, first) {
                    return None;
                }
                (first, &source[first..place])
            }
        };
        let is_space = |text: &str| text.chars().all(|c| c == ' ' || c == '\t');
        if !is_space(indent) || !is_space(&source[line..head]) {
            return None;
        }
        Some(Signature {
            class,
            parameters,
            returns: returns(function, source),
            fails: fails(function, source),
            header: line..body.map_or(top.range().end, |body| body.range().start),
            range: top.range(),
            name,
            at,
            indent: indent.to_string(),
        })
    }

    /// The start of the line of the first attribute of a function, or of its own, and of what stands in that line.
    fn attributes(&self, top: Piece<'_>, source: &str) -> (usize, usize) {
        let mut first = top;
        while let Some(before) = first.previous().filter(|p| p.kind() == "attribute_item") {
            first = before;
        }
        (line_start(source, first.range().start), first.range().start)
    }
}

fn line_start(source: &str, at: usize) -> usize {
    source[..at].rfind('\n').map_or(0, |at| at + 1)
}

/// Whether a comment ends on the line before a place.
fn is_said(source: &str, at: usize) -> bool {
    let before = source[..at].trim_end_matches(['\n', '\r']);
    let gap = source[before.len()..at].matches('\n').count();
    let line = before[line_start(before, before.len())..].trim();
    let is_comment = ["//", "/*", "*"].iter().any(|mark| line.starts_with(mark));
    gap == 1 && (is_comment || line.ends_with("*/"))
}

/// The declarator of that kind within others, which only say how it is pointed to.
fn innermost<'t>(declarator: Option<Piece<'t>>, kind: &str) -> Option<Piece<'t>> {
    let mut declarator = declarator?;
    while declarator.kind() != kind {
        declarator =
            declarator.field("declarator").or_else(|| declarator.parts().first().copied())?;
    }
    Some(declarator)
}

/// The names of a parameter; none if it takes something apart and has no name of its own.
fn names_of(parameter: Piece<'_>, source: &str) -> Option<Vec<String>> {
    let kind = parameter.kind();
    let separators =
        ["keyword_separator", "positional_separator", "self_parameter", "receiver_parameter"];
    if separators.contains(&kind) || kind == "variadic_parameter" {
        return Some(Vec::new());
    }
    let whole = parameter.text(source);
    // One Go parameter has several names, or none.
    let names = parameter.fields("name");
    let patterns = if names.is_empty() {
        let field = ["pattern", "declarator", "left"].iter().find_map(|name| parameter.field(name));
        match field {
            Some(field) => vec![field],
            // Of a type alone.
            None if kind == "parameter_declaration" => return Some(Vec::new()),
            None => vec![parameter],
        }
    } else {
        names
    };
    let dots = if kind == "variadic_parameter_declaration" || kind == "spread_parameter" {
        "..."
    } else {
        ""
    };
    patterns
        .into_iter()
        .map(|pattern| {
            let apart = [
                "object_pattern",
                "array_pattern",
                "tuple_pattern",
                "struct_pattern",
                "slice_pattern",
            ];
            let all = pattern.all();
            if all.iter().any(|p| apart.contains(&p.kind()) || p.kind() == "tuple_struct_pattern") {
                return None;
            }
            let name = all
                .iter()
                .find(|p| ["identifier", "field_identifier", "this"].contains(&p.kind()))?;
            let text = pattern.text(source);
            let mark = ["**", "*", "..."]
                .into_iter()
                .find(|mark| whole.starts_with(mark) && !text.is_empty());
            // In C a star is of the type.
            let mark = mark.filter(|mark| {
                *mark == "..." || kind.contains("splat") || kind == "typed_parameter"
            });
            Some(format!("{}{}", mark.unwrap_or(dots), name.text(source)))
        })
        .collect()
}

const FUNCTIONS: &[&str] = &[
    "function_definition",
    "lambda",
    "function_item",
    "closure_expression",
    "function_declaration",
    "generator_function_declaration",
    "method_definition",
    "arrow_function",
    "function_expression",
    "func_literal",
    "lambda_expression",
    "method_declaration",
    "class_definition",
    "class_body",
];

/// What runs when a function does, and not what the functions within it do.
fn own<'t>(function: Piece<'t>) -> Vec<Piece<'t>> {
    let Some(body) = function.field("body") else { return Vec::new() };
    let mut found = Vec::new();
    let mut open = vec![body];
    while let Some(piece) = open.pop() {
        found.push(piece);
        let parts = piece.parts();
        open.extend(parts.into_iter().rev().filter(|part| !FUNCTIONS.contains(&part.kind())));
    }
    found
}

fn returns(function: Piece<'_>, source: &str) -> Option<Option<String>> {
    let own = own(function);
    let typed = ["return_type", "result", "type"].iter().find_map(|name| function.field(name));
    let says = typed.map(|typed| typed.text(source).trim_start_matches([':', ' ']).to_string());
    let nothing = ["None", "void", "()", "never", "NoReturn", "undefined", "Promise<void>"];
    // `void *` says void, too: the star is part of the name.
    let points = function.field("declarator").is_some_and(|d| d.kind() == "pointer_declarator");
    if says.is_some_and(|says| nothing.contains(&says.as_str())) && !points {
        return None;
    }
    let given: Vec<Option<Piece<'_>>> = own
        .iter()
        .filter(|piece| ["return_statement", "return_expression"].contains(&piece.kind()))
        .map(|piece| piece.parts().first().copied())
        .collect();
    let body = function.field("body");
    let is_value = body.is_some_and(|body| {
        function.kind() == "arrow_function" && body.kind() != "statement_block"
    });
    let yields =
        own.iter().any(|piece| piece.kind() == "yield" || piece.kind() == "yield_expression");
    let is_written = function.kind() != "constructor_declaration" && typed.is_some();
    let last = body.filter(|body| body.kind() == "block" && typed.is_some());
    let last =
        last.and_then(|body| body.parts().last().copied()).filter(|p| p.kind() == "identifier");
    let values: Vec<Piece<'_>> = given.into_iter().flatten().chain(last).collect();
    if values.is_empty() && !is_value && !yields && !is_written {
        return None;
    }
    let names: Vec<&str> = values.iter().map(|value| value.text(source)).collect();
    let is_name = values.first().is_some_and(|value| value.kind() == "identifier");
    let same = is_name && names.iter().all(|name| *name == names[0]);
    Some(same.then(|| names[0].to_string()))
}

/// The errors that a function names, once each, with the text that they are given.
fn fails(function: Piece<'_>, source: &str) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    let result = function.field("return_type").map(|typed| typed.text(source));
    if function.kind().starts_with("function_")
        && result.is_some_and(|t| t.contains("Result<") || t.ends_with("Result"))
    {
        found.push((String::new(), None));
    }
    let thrown = function.parts().into_iter().filter(|part| part.kind() == "throws");
    for error in thrown.flat_map(|throws| throws.parts()) {
        found.push((error.text(source).to_string(), None));
    }
    for piece in own(function) {
        if !["raise_statement", "throw_statement"].contains(&piece.kind()) {
            continue;
        }
        let Some(error) = piece.parts().first().copied() else { continue };
        let called = ["function", "constructor", "type"].iter().find_map(|name| error.field(name));
        let name = called.unwrap_or(error).text(source);
        let is_type =
            name.rsplit('.').next().is_some_and(|name| name.starts_with(char::is_uppercase));
        if !is_type || found.iter().any(|(known, _)| known == name) {
            continue;
        }
        let text = error
            .all()
            .into_iter()
            .find(|p| ["string_content", "string_fragment"].contains(&p.kind()));
        let is_format = error
            .all()
            .iter()
            .any(|p| ["interpolation", "template_substitution"].contains(&p.kind()));
        let text = text.filter(|_| !is_format).map(|text| text.text(source).trim().to_string());
        found.push((name.to_string(), text.filter(|text| text.contains(' '))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Language;

    fn of(language: &str, source: &str) -> Vec<Signature> {
        let language = Language::by_name(language).unwrap();
        Signature::all(&SyntaxTree::parse_steadily(language, source).unwrap(), source)
    }

    #[test]
    fn parameters_of_all_languages() {
        for (language, source, name, class, wanted) in [
            (
                "rust",
                "impl<T> Pool<T> {\n    #[inline]\n    pub fn get(&mut self, mut at: usize, &key: &u8) -> T { x }\n}\n",
                "get",
                Some("Pool"),
                "at key",
            ),
            (
                "python",
                "class A:\n    async def f(self, a, b: int = 2, *args, c=3, **kwargs):\n        pass\n",
                "f",
                Some("A"),
                "a b *args c **kwargs",
            ),
            (
                "javascript",
                "export const sum = (a, b = 2, ...rest) => a + b;\n",
                "sum",
                None,
                "a b ...rest",
            ),
            ("javascript", "const twice = x => x * 2;\n", "twice", None, "x"),
            (
                "typescript",
                "class A {\n  private async run(this: A, a: number, b?: string): Promise<void> {}\n}\n",
                "run",
                Some("A"),
                "a b",
            ),
            (
                "go",
                "func (p *Pool) Get(a, b int, rest ...string) (int, error) {\n\treturn 0, nil\n}\n",
                "Get",
                None,
                "a b ...rest",
            ),
            (
                "java",
                "class A {\n  @Override\n  public int f(final int a, String... rest) throws IOException { return 1; }\n}\n",
                "f",
                Some("A"),
                "a ...rest",
            ),
            (
                "c",
                "static char *f(const char *a, int b[], void (*call)(int), void) {\n  return 0;\n}\n",
                "f",
                None,
                "a b call",
            ),
            (
                "cpp",
                "template <typename T>\nT A::f(const T& a, int b = 2) {\n  return a;\n}\n",
                "f",
                None,
                "a b",
            ),
        ] {
            let all = of(language, source);
            assert_eq!(all.len(), 1, "{source}: {all:?}");
            assert_eq!((all[0].name.as_str(), all[0].class.as_deref()), (name, class), "{source}");
            assert_eq!(all[0].parameters.join(" "), wanted, "{source}");
        }
    }

    #[test]
    fn what_is_documented_or_has_no_names_is_left_alone() {
        for (language, source) in [
            ("rust", "/// Said.\n#[inline]\nfn f() {}\n"),
            ("rust", "fn f((a, b): (u8, u8)) {}\n"),
            ("python", "def f():\n    '''Said.'''\n"),
            ("python", "def f(): pass\n"),
            ("python", "def test_f():\n    pass\n"),
            ("python", "class A:\n    def __eq__(self, other):\n        return True\n"),
            ("rust", "#[tokio::test]\n#[ignore]\nasync fn f() {}\n"),
            ("javascript", "/** Said. */\nexport function f() {}\n"),
            ("javascript", "function f({ a, b }) {}\n"),
            ("javascript", "run(function () {});\n"),
            ("go", "// F is said.\nfunc F() {}\n"),
            ("c", "/*\n * Said.\n */\nint f(void) { return 1; }\n"),
        ] {
            assert_eq!(of(language, source), [], "{source}");
        }
    }

    #[test]
    fn what_comes_out() {
        let returned = |language, source: &str| of(language, source)[0].returns.clone();
        assert_eq!(returned("rust", "fn f() {}\n"), None);
        assert_eq!(
            returned("rust", "fn f() -> u8 {\n    let size = 1;\n    size\n}\n"),
            Some(Some("size".into()))
        );
        assert_eq!(returned("python", "def f():\n    def g():\n        return 1\n    g()\n"), None);
        assert_eq!(
            returned("python", "def f(a):\n    if a:\n        return total\n    return total\n"),
            Some(Some("total".into()))
        );
        assert_eq!(returned("javascript", "const f = (a) => a + 1;\n"), Some(None));
        assert_eq!(returned("c", "void f(int a) { return; }\n"), None);
        assert_eq!(returned("java", "class A {\n  void f() {}\n}\n"), None);
        let source = "def f(size):\n    if size < 0:\n        raise ValueError(\"size must not be negative\")\n    raise errors.Closed(f\"{size} is\")\n";
        let fails = &of("python", source)[0].fails;
        assert_eq!(
            fails,
            &[
                ("ValueError".to_string(), Some("size must not be negative".to_string())),
                ("errors.Closed".into(), None)
            ]
        );
        assert_eq!(
            of("rust", "fn f() -> io::Result<u8> { x }\n")[0].fails,
            [(String::new(), None)]
        );
    }
}
