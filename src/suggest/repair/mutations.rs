//! Typed mutations: small changes of the kinds by which people's mistakes are undone. Which there are is data.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::habits::Signals;
use crate::syntax::{Lexeme, LexemeKind, Part, SyntaxTree};
use crate::text::{Text, TextEdit};

/// A change, and why it is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// The edit.
    pub edit: TextEdit,
    /// The kind of mistake that it undoes.
    pub rule: &'static str,
    /// Nats that speak for it before any model is asked.
    pub worth: f32,
}

impl Mutation {
    /// What speaks for it before any model is asked.
    pub(super) fn signals(&self) -> Signals {
        let longer = self.edit.new_text.len() as isize - self.edit.range.len() as isize;
        Signals { kind: self.rule, prior: self.worth, longer, gain: 0.0 }
    }
}

/// Languages that a row is for; empty for all.
type Languages = &'static [&'static str];

const RUST: Languages = &["rust"];
const PYTHON: Languages = &["python"];
const SCRIPT: Languages = &["javascript", "typescript", "tsx"];

/// Tokens of which each may be meant where another one stands.
const CONFUSED: &[(&str, Languages, &[&str])] = &[
    ("comparison", &[], &["==", "!=", "<", "<=", ">", ">="]),
    ("comparison", SCRIPT, &["===", "!==", "<", "<=", ">", ">="]),
    ("arithmetic", &[], &["+", "-", "*", "/", "%"]),
    ("arithmetic", PYTHON, &["+", "-", "*", "/", "//", "%", "**"]),
    ("assignment", &[], &["=", "+=", "-=", "*=", "/="]),
    ("logic", &[], &["&&", "||"]),
    ("logic", PYTHON, &["and", "or"]),
    ("bits", &[], &["&", "|", "^", "<<", ">>"]),
    ("truth", &[], &["true", "false"]),
    ("truth", PYTHON, &["True", "False", "None"]),
    ("range", RUST, &["..", "..="]),
    ("reference", RUST, &["&", "&mut", "*"]),
    ("jump", &[], &["break", "continue"]),
    ("mutability", SCRIPT, &["let", "const", "var"]),
    ("nothing", SCRIPT, &["null", "undefined"]),
    ("separator", &[], &[",", ";", ":", "."]),
    ("path", RUST, &["::", "."]),
    ("arrow", RUST, &["->", "=>", ":"]),
];

/// Names of which each may be meant where another one stands.
const ALIKE: &[&[&str]] = &[
    &["min", "max"],
    &["upper", "lower"],
    &["isupper", "islower"],
    &["isdigit", "isalpha", "isalnum", "isnumeric"],
    &["startswith", "endswith"],
    &["starts_with", "ends_with"],
    &["startsWith", "endsWith"],
    &["append", "extend", "insert"],
    &["any", "all"],
    &["some", "every"],
    &["floor", "ceil", "round"],
    &["first", "last"],
    &["push", "push_str", "extend", "insert"],
    &["push", "unshift"],
    &["pop", "shift"],
    &["keys", "values", "items"],
    &["iter", "iter_mut", "into_iter"],
    &["to_string", "to_owned", "clone"],
    &["index", "find", "count"],
    &["sorted", "reversed", "list", "set"],
    &["sum", "len", "max", "min"],
    &["is_some", "is_none", "is_ok", "is_err"],
    &["Some", "Ok", "Err"],
    &["unwrap", "expect", "unwrap_or_default"],
    &["to_uppercase", "to_lowercase"],
    &["is_uppercase", "is_lowercase"],
    &["to_ascii_uppercase", "to_ascii_lowercase"],
    &["strip", "lstrip", "rstrip"],
    &["trim", "trim_start", "trim_end"],
    &["ord", "chr"],
    &["int", "float", "str", "round"],
    &["String", "str"],
    &["u8", "u32", "u64", "usize", "i32", "i64"],
    &["f32", "f64"],
    &["map", "filter", "filter_map", "flat_map"],
    &["skip", "take"],
    &["split", "splitlines"],
];

/// What may be missing behind an expression.
const BEHIND: &[(&str, Languages, &[&str])] = &[
    ("off by one", &[], &[" + 1", " - 1"]),
    ("ownership", RUST, &[".clone()", ".to_string()", ".to_owned()", ".into()", ".as_str()"]),
    ("result", RUST, &["?", ".unwrap()", ".is_some()", ".ok()"]),
    ("await", RUST, &[".await"]),
    ("conversion", RUST, &[" as usize", " as u32", " as i32", " as u64", " as f64", ".len()"]),
    ("iteration", RUST, &[".iter()", ".collect()", ".rev()", ".chars()", ".abs()", "()"]),
    ("slice", PYTHON, &["[::-1]", "[1:]", "[:-1]", "[0]", "[-1]"]),
    ("call", PYTHON, &["()", ".lower()", ".upper()", ".strip()", ".copy()", ".items()"]),
    ("call", SCRIPT, &["()", ".length", ".toLowerCase()", "[0]"]),
    ("power", PYTHON, &[" ** 2", " % 10", " // 2"]),
];

/// What may be missing before one.
const BEFORE: &[(&str, Languages, &[&str])] = &[
    ("negation", PYTHON, &["not ", "-"]),
    ("negation", &[], &["!", "-"]),
    ("reference", RUST, &["&", "*", "&mut "]),
    ("await", SCRIPT, &["await "]),
    ("await", PYTHON, &["await "]),
    ("owner", PYTHON, &["self."]),
    ("owner", SCRIPT, &["this."]),
    ("owner", RUST, &["self.", "Self::"]),
];

/// Text before and text behind.
type Wrap = (&'static str, &'static str);

/// What may be missing around one.
const AROUND: &[(&str, Languages, &[Wrap])] = &[
    ("wrapping", RUST, &[("Some(", ")"), ("Ok(", ")"), ("Box::new(", ")"), ("String::from(", ")")]),
    (
        "wrapping",
        PYTHON,
        &[("len(", ")"), ("str(", ")"), ("int(", ")"), ("abs(", ")"), ("list(", ")")],
    ),
    (
        "wrapping",
        PYTHON,
        &[("sorted(", ")"), ("set(", ")"), ("sum(", ")"), ("round(", ")"), ("(", ")")],
    ),
];

/// What may be missing at the beginning of a statement.
const STATEMENT: &[(&str, Languages, &[&str])] = &[
    ("return", PYTHON, &["return "]),
    ("return", SCRIPT, &["return "]),
    ("return", RUST, &["return "]),
];

/// Modules of Python's library that are used by their name.
const PYTHON_MODULES: &[&str] = &[
    "math",
    "re",
    "os",
    "sys",
    "json",
    "time",
    "random",
    "itertools",
    "functools",
    "collections",
    "datetime",
    "string",
    "logging",
    "typing",
    "pathlib",
    "subprocess",
    "copy",
    "heapq",
    "bisect",
];
/// Names of `typing` and `collections` that are used without them.
const PYTHON_NAMES: &[(&str, &[&str])] = &[
    (
        "typing",
        &["List", "Dict", "Optional", "Tuple", "Any", "Union", "Set", "Callable", "Iterable"],
    ),
    ("collections", &["defaultdict", "Counter", "deque", "OrderedDict", "namedtuple"]),
    ("pathlib", &["Path"]),
    ("dataclasses", &["dataclass", "field"]),
    ("functools", &["lru_cache", "partial", "reduce"]),
];

/// Expressions up to this many bytes are wrapped and moved.
const LONGEST: usize = 120;
/// Names of the surroundings that may be meant.
const MOST_NAMES: usize = 10;
const MOST: usize = 6000;

/// All mutations within a range of the text. `undefined` is a name that something said is not known.
pub fn mutations(
    tree: &SyntaxTree,
    text: &Text,
    within: Range<usize>,
    undefined: Option<&str>,
) -> Vec<Mutation> {
    let source = text.as_str();
    let language = tree.language().name;
    let mut all = Mutator { source, undefined, language, found: Vec::new() };
    let lexemes = tree.lexemes(source);
    let inside = |range: &Range<usize>| range.start < within.end && range.end > within.start;
    if let Some(name) = undefined {
        all.import(name);
    }
    for (at, _) in lexemes.iter().enumerate().filter(|(_, l)| inside(&l.range)) {
        all.token(&lexemes, at);
    }
    for part in tree.parts(within.clone()) {
        all.part(&part);
    }
    all.lines(text, &within);
    let mut seen = HashSet::new();
    all.found.retain(|m| seen.insert((m.edit.range.clone(), m.edit.new_text.clone())));
    all.found.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    all.found.truncate(MOST);
    all.found
}

struct Mutator<'a> {
    source: &'a str,
    undefined: Option<&'a str>,
    language: &'static str,
    found: Vec<Mutation>,
}

impl Mutator<'_> {
    fn push(
        &mut self,
        rule: &'static str,
        range: Range<usize>,
        new_text: impl Into<String>,
        worth: f32,
    ) {
        let new_text = new_text.into();
        if self.source[range.clone()] != new_text {
            self.found.push(Mutation { edit: TextEdit { range, new_text }, rule, worth });
        }
    }

    fn token(&mut self, lexemes: &[Lexeme], at: usize) {
        let range = lexemes[at].range.clone();
        let token = &self.source[range.clone()];
        for (rule, languages, tokens) in CONFUSED {
            if is_for(self.language, languages) && tokens.contains(&token) {
                for other in tokens.iter().filter(|other| **other != token) {
                    self.push(rule, range.clone(), *other, -1.0);
                }
            }
        }
        match lexemes[at].kind {
            LexemeKind::Literal => self.literal(range.clone(), token),
            LexemeKind::Name => self.name(lexemes, at),
            _ => {}
        }
        // A negation or reference too many.
        if ["!", "not", "&", "*", "-", "?"].contains(&token) {
            let end = range.end + usize::from(self.source[range.end..].starts_with(' '));
            self.push("negation", range.start..end, "", -1.5);
        }
        if ["let", "ref"].contains(&token) && self.language == "rust" {
            self.push("mutability", range.end..range.end, " mut", -1.0);
        }
        if token == "mut" {
            let end = range.end + usize::from(self.source[range.end..].starts_with(' '));
            self.push("mutability", range.start..end, "", -1.5);
        }
        if ["return", "await"].contains(&token) {
            let end = range.end + usize::from(self.source[range.end..].starts_with(' '));
            self.push("return", range.start..end, "", -3.0);
        }
        if token == ";" && self.language == "rust" {
            self.push("return", range, "", -1.5);
        }
    }

    fn literal(&mut self, range: Range<usize>, token: &str) {
        if let Ok(number) = token.parse::<i64>() {
            let mut others =
                BTreeSet::from([0, 1, 2, number.saturating_add(1), number.saturating_sub(1)]);
            others.extend([number.saturating_mul(2), number / 2, number.saturating_neg(), 10]);
            for other in others {
                let far = if (other - number).abs() <= 1 { 0.0 } else { -1.0 };
                self.push("number", range.clone(), other.to_string(), -1.0 + far);
            }
        } else if token.parse::<f64>().is_ok() {
            for other in ["0.0", "1.0", "0.5", "2.0"] {
                self.push("number", range.clone(), other, -2.0);
            }
        } else if let Some(quote) = token.chars().next().filter(|c| "\"'".contains(*c)) {
            for inside in ["", " "] {
                self.push("text", range.clone(), format!("{quote}{inside}{quote}"), -3.0);
            }
            // Upper and lower case are confused in words like "Yes".
            self.push("text", range, token.to_lowercase(), -3.0);
        }
    }

    fn name(&mut self, lexemes: &[Lexeme], at: usize) {
        let range = lexemes[at].range.clone();
        let token = &self.source[range.clone()];
        for group in ALIKE.iter().filter(|group| group.contains(&token)) {
            for other in group.iter().filter(|other| **other != token) {
                self.push("confused name", range.clone(), *other, -1.0);
            }
        }
        let mut near: Vec<(usize, &str)> = lexemes
            .iter()
            .enumerate()
            .filter(|(_, l)| l.kind == LexemeKind::Name)
            .map(|(other, l)| (other.abs_diff(at), &self.source[l.range.clone()]))
            .filter(|(_, name)| *name != token)
            .collect();
        near.sort_unstable();
        let mut seen = HashSet::new();
        near.retain(|(_, name)| seen.insert(*name));
        let alike = |name: &str| is_misspelled(token, name);
        let spelled: Vec<&str> =
            near.iter().map(|(_, n)| *n).filter(|n| alike(n)).take(3).collect();
        // A name that nothing knows, one letter away from one that stands here: hardly anything else can be meant.
        let worth = if self.undefined == Some(token) { 4.0 } else { 0.0 };
        for name in spelled {
            self.push("misspelled name", range.clone(), name, worth);
        }
        for (_, name) in near.iter().take(MOST_NAMES) {
            self.push("other name", range.clone(), *name, -2.0);
        }
    }

    fn part(&mut self, part: &Part) {
        let (range, language) = (part.range.clone(), self.language);
        if range.len() <= LONGEST && part.is_expression {
            for (rule, _, texts) in BEHIND.iter().filter(|(_, l, _)| is_for(language, l)) {
                for text in *texts {
                    self.push(rule, range.end..range.end, *text, -2.5);
                }
            }
            for (rule, _, texts) in BEFORE.iter().filter(|(_, l, _)| is_for(language, l)) {
                for text in *texts {
                    self.push(rule, range.start..range.start, *text, -2.5);
                }
            }
            for (rule, _, texts) in AROUND.iter().filter(|(_, l, _)| is_for(language, l)) {
                for (before, behind) in *texts {
                    let inner = &self.source[range.clone()];
                    let new_text = format!("{before}{inner}{behind}");
                    self.push(rule, range.clone(), new_text, -3.0);
                }
            }
        }
        // One part of an expression instead of all of it: what is too much goes.
        if range.len() <= 2 * LONGEST {
            for child in &part.children {
                // A call whose arguments go does nothing any more.
                let behind = &self.source[child.end..range.end];
                let is_called = behind.starts_with('(') && !behind.starts_with("()");
                let worth = if is_called { -6.0 } else { -2.5 };
                self.push("too much", range.clone(), &self.source[child.clone()], worth);
            }
        }
        for pair in part.children.windows(2) {
            let (a, b) = (pair[0].clone(), pair[1].clone());
            if b.end - a.start > 2 * LONGEST || a.is_empty() || b.is_empty() {
                continue;
            }
            let [first, between, second] =
                [a.clone(), a.end..b.start, b.clone()].map(|range| &self.source[range]);
            self.push("swapped", a.start..b.end, format!("{second}{between}{first}"), -2.0);
            self.push("too much", a.start..b.start, "", -3.0);
            self.push("too much", a.end..b.end, "", -3.0);
        }
    }

    /// Whole lines that are too many, lack their beginning, or stand too deep.
    fn lines(&mut self, text: &Text, within: &Range<usize>) {
        let language = self.language;
        let last = text.line_of(within.end.saturating_sub(1).max(within.start));
        for line in text.line_of(within.start)..=last {
            let range = text.line_range(line);
            let content = text.line(line);
            if content.trim().is_empty() {
                continue;
            }
            let start = range.start + (content.len() - content.trim_start().len());
            self.push("too much", range.clone(), "", -5.0);
            for (rule, _, texts) in STATEMENT.iter().filter(|(_, l, _)| is_for(language, l)) {
                for text in *texts {
                    self.push(rule, start..start, *text, -2.0);
                }
            }
            if self.language == "python" {
                self.push("indentation", start..start, "    ", -2.5);
                if content.starts_with("    ") {
                    self.push("indentation", range.start..range.start + 4, "", -2.5);
                }
            }
        }
    }

    /// An import of Python's library.
    fn import(&mut self, name: &str) {
        if self.language != "python" {
            return;
        }
        // Behind a text or comment at the top.
        let lines = self.source.split_inclusive('\n');
        let at: usize = lines.take_while(|l| l.starts_with('#')).map(str::len).sum();
        if PYTHON_MODULES.contains(&name) {
            self.push("import", at..at, format!("import {name}\n"), 2.0);
        }
        for (module, names) in PYTHON_NAMES {
            if names.contains(&name) {
                self.push("import", at..at, format!("from {module} import {name}\n"), 2.0);
            }
        }
    }
}

fn is_for(language: &str, languages: Languages) -> bool {
    languages.is_empty() || languages.contains(&language)
}

/// Whether a word may be a misspelling of another one: a letter too many, too few, wrong, or two swapped.
pub(super) fn is_misspelled(word: &str, of: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (word.chars().collect(), of.chars().collect());
    if a.len().abs_diff(b.len()) > 1 || b.len() < 2 || a == b {
        return false;
    }
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same..], &b[same..]);
    let tail = |a: &[char], b: &[char]| a == b;
    match a.len() as i32 - b.len() as i32 {
        1 => tail(&a[1..], b),
        -1 => tail(a, &b[1..]),
        _ => {
            tail(&a[1..], &b[1..])
                || a.len() > 1 && a[0] == b[1] && a[1] == b[0] && tail(&a[2..], &b[2..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Language;

    /// Whether some mutation of the text between the marks gives the other text.
    #[track_caller]
    fn check(language: &str, marked: &str, wanted: &str) {
        let parts: Vec<&str> = marked.split('‸').collect();
        let [before, inside, after] = parts[..] else { panic!("two marks") };
        let text = Text::new([before, inside, after].concat());
        let language = Language::by_name(language).unwrap();
        let tree = SyntaxTree::parse(language, text.as_str()).unwrap();
        let within = before.len()..before.len() + inside.len();
        let all = mutations(&tree, &text, within, None);
        let apply = |m: &Mutation| crate::text::apply(text.as_str(), std::slice::from_ref(&m.edit));
        assert!(all.iter().any(|m| apply(m) == wanted), "{wanted:?} is not among {}", all.len());
    }

    #[test]
    fn common_mistakes_are_undone() {
        check("python", "def f(a, b):\n    ‸return a <= b‸\n", "def f(a, b):\n    return a < b\n");
        check("python", "def f(a):\n    ‸return a[1]‸\n", "def f(a):\n    return a[0]\n");
        check("python", "def f(a):\n    ‸return g(a, 1)‸\n", "def f(a):\n    return g(1, a)\n");
        check("python", "def f(a):\n    ‸return a + 1 + 2‸\n", "def f(a):\n    return a + 1\n");
        check("python", "def f(a):\n    ‸return not a‸\n", "def f(a):\n    return a\n");
        check("python", "def f(a):\n    ‸return a‸\n", "def f(a):\n    return a[::-1]\n");
        check("python", "def f(a):\n    ‸a + 1‸\n", "def f(a):\n    return a + 1\n");
        check("rust", "fn f(a: &str) { ‸g(a)‸ }\n", "fn f(a: &str) { g(a.to_string()) }\n");
        check("rust", "fn f() { ‸let x = 1;‸ }\n", "fn f() { let mut x = 1; }\n");
        check("rust", "fn f(v: V) { ‸g(v)‸ }\n", "fn f(v: V) { g(&v) }\n");
        check("rust", "fn f() -> u8 { ‸1;‸ }\n", "fn f() -> u8 { 1 }\n");
        check(
            "typescript",
            "function f(a) { ‸return a.lenght‸; }\n let length;",
            "function f(a) { return a.length; }\n let length;",
        );
    }

    #[test]
    fn a_name_of_the_library_is_imported() {
        let text = Text::new("# x\ny = math.pi\n");
        let tree = SyntaxTree::parse(Language::by_name("python").unwrap(), text.as_str()).unwrap();
        let all = mutations(&tree, &text, 4..10, Some("math"));
        assert_eq!(all[0].edit, TextEdit { range: 4..4, new_text: "import math\n".into() });
    }
}
