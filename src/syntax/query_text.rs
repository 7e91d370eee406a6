//! What a tree-sitter query says, read from its text: its patterns, the kinds they begin with, and the words that a text must
//! have for them to match.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

/// Something in a query that stands for nodes.
#[derive(Debug, Default)]
struct Item {
    /// What it is.
    form: Form,
    /// Behind it: a match may lack it.
    is_optional: bool,
    captures: Vec<String>,
    end: usize,
}

#[derive(Debug, Default)]
enum Form {
    /// `_`, a name of a field, an anchor: nothing that is known.
    #[default]
    Anything,
    /// A token, between quotation marks.
    Token(String),
    /// `(kind …)`; without a kind a sequence.
    Node(String, Vec<Item>),
    /// `[…]`.
    Choice(Vec<Item>),
    /// `(#eq? @capture "value" …)`.
    Said(String, Vec<String>),
}

/// The patterns of a query: where each stands, and what it is.
pub(super) struct Pattern {
    pub(super) place: Range<usize>,
    pub(super) needs: Vec<Vec<String>>,
    pub(super) roots: Roots,
}

/// What a pattern begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// A node of one of these kinds.
    Kinds(Vec<String>),
    /// Any node.
    Any,
    /// Several nodes side by side.
    Siblings,
}

/// Reads a query. What it does not understand is left out; the compiler will say what is wrong.
pub(super) fn patterns(query: &str) -> Vec<Pattern> {
    let mut reader = Reader { query, chars: query.char_indices().peekable() };
    let mut found: Vec<Pattern> = Vec::new();
    while let Some(start) = reader.skip() {
        let Some(item) = reader.item() else {
            reader.chars.next();
            continue;
        };
        let mut values = HashMap::new();
        said(&item, &mut values);
        let mut needs = needs(&item, &values);
        needs.sort();
        needs.dedup();
        found.push(Pattern { place: start..item.end, needs, roots: roots(&item) });
    }
    found
}

struct Reader<'q> {
    query: &'q str,
    chars: Peekable<CharIndices<'q>>,
}

impl Reader<'_> {
    /// Past blanks and comments; the next place.
    fn skip(&mut self) -> Option<usize> {
        while let Some(&(at, c)) = self.chars.peek() {
            match c {
                ';' => while self.chars.next_if(|(_, c)| *c != '\n').is_some() {},
                c if c.is_whitespace() => _ = self.chars.next(),
                _ => return Some(at),
            }
        }
        None
    }

    fn word(&mut self) -> String {
        let is_part = |c: char| c.is_alphanumeric() || "_-.?!#/".contains(c);
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| is_part(*c)) {
            word.push(c);
        }
        word
    }

    /// An item with its quantifier and captures; `None` at a bracket that closes.
    fn item(&mut self) -> Option<Item> {
        self.skip()?;
        let &(_, first) = self.chars.peek()?;
        let form = match first {
            ')' | ']' => return None,
            '"' => Form::Token(self.token()),
            '(' => {
                self.chars.next();
                self.skip();
                let kind = match self.chars.peek() {
                    Some((_, '(' | '[' | '"')) => String::new(),
                    _ => self.word(),
                };
                match kind.strip_prefix('#') {
                    Some(name) => self.said(name.to_string()),
                    None => Form::Node(kind, self.items()),
                }
            }
            '[' => {
                self.chars.next();
                Form::Choice(self.items())
            }
            _ => {
                if self.word().is_empty() {
                    self.chars.next();
                }
                // The name of a field stands before what it is about.
                if self.chars.next_if(|(_, c)| *c == ':').is_some() {
                    return self.item();
                }
                Form::Anything
            }
        };
        let mut item = Item { form, ..Item::default() };
        item.end = self.here();
        loop {
            self.skip();
            match self.chars.peek() {
                Some((_, '?' | '*')) => {
                    item.is_optional = true;
                    self.chars.next();
                }
                Some((_, '+')) => _ = self.chars.next(),
                Some((_, '@')) => {
                    self.chars.next();
                    item.captures.push(self.word());
                }
                _ => return Some(item),
            }
            item.end = self.here();
        }
    }

    fn here(&mut self) -> usize {
        self.chars.peek().map_or(self.query.len(), |(at, _)| *at)
    }

    fn items(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some(item) = self.item() {
            items.push(item);
        }
        self.chars.next();
        items
    }

    fn token(&mut self) -> String {
        let mut text = String::new();
        self.chars.next();
        while let Some((_, c)) = self.chars.next() {
            match c {
                '"' => break,
                '\\' => match self.chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c)) => text.push(c),
                    None => break,
                },
                c => text.push(c),
            }
        }
        text
    }

    fn said(&mut self, name: String) -> Form {
        let mut words = Vec::new();
        let mut captures = 0;
        while let Some(at) = self.skip() {
            match self.query[at..].chars().next() {
                Some('"') => words.push(self.token()),
                Some('@') => {
                    self.chars.next();
                    words.insert(captures, self.word());
                    captures += 1;
                }
                Some(')') | None => break,
                _ => _ = self.chars.next(),
            }
        }
        self.chars.next();
        // Two captures that are compared with each other say nothing of words.
        let known = captures == 1 && ["eq?", "any-of?"].contains(&name.as_str());
        if known { Form::Said(words.remove(0), words) } else { Form::Anything }
    }
}

/// What is said of captures.
fn said(item: &Item, values: &mut HashMap<String, Vec<String>>) {
    match &item.form {
        Form::Said(capture, words) => _ = values.insert(capture.clone(), words.clone()),
        Form::Node(_, items) | Form::Choice(items) => {
            items.iter().for_each(|item| said(item, values));
        }
        _ => {}
    }
}

fn roots(item: &Item) -> Roots {
    match &item.form {
        Form::Node(kind, items) if kind.is_empty() => {
            let mut nodes = items.iter().filter(|item| match &item.form {
                Form::Node(..) | Form::Choice(_) | Form::Token(_) => true,
                Form::Anything | Form::Said(..) => false,
            });
            match (nodes.next(), nodes.next()) {
                (Some(one), None) => roots(one),
                _ => Roots::Siblings,
            }
        }
        Form::Node(kind, _) if kind != "_" => Roots::Kinds(vec![kind.clone()]),
        Form::Choice(items) => {
            let mut all = Vec::new();
            for item in items {
                match roots(item) {
                    Roots::Kinds(kinds) => all.extend(kinds),
                    other => return other,
                }
            }
            Roots::Kinds(all)
        }
        _ => Roots::Any,
    }
}

/// Of each group that comes back, a text must have one word.
fn needs(item: &Item, values: &HashMap<String, Vec<String>>) -> Vec<Vec<String>> {
    if item.is_optional {
        return Vec::new();
    }
    let mut all: Vec<Vec<String>> = Vec::new();
    match &item.form {
        Form::Token(text) => all.push(vec![text.clone()]),
        Form::Node(kind, items) => {
            let written = WRITTEN.iter().filter(|(known, _)| known == kind);
            all.extend(written.map(|(_, word)| vec![word.to_string()]));
            all.extend(items.iter().flat_map(|item| needs(item, values)));
        }
        Form::Choice(items) => {
            // Each choice must need something; then one of these words is needed.
            let each: Option<Vec<_>> = items
                .iter()
                .map(|item| {
                    let own = needs(item, values).into_iter();
                    own.max_by_key(|group| group.iter().map(String::len).min())
                })
                .collect();
            let mut group: Vec<String> = each.into_iter().flatten().flatten().collect();
            group.sort();
            group.dedup();
            all.extend((!group.is_empty()).then_some(group));
        }
        Form::Anything | Form::Said(..) => {}
    }
    all.extend(item.captures.iter().filter_map(|capture| values.get(capture).cloned()));
    all.retain(|group| group.iter().all(|word| !word.is_empty()));
    all
}

/// What a node of some kinds is written with, in every language that has the kind.
const WRITTEN: &[(&str, &str)] = &[
    ("for_statement", "for"),
    ("for_in_statement", "for"),
    ("for_range_loop", "for"),
    ("for_expression", "for"),
    ("for_in_clause", "for"),
    ("while_statement", "while"),
    ("export_statement", "export"),
    ("import_statement", "import"),
    ("while_expression", "while"),
    ("do_statement", "do"),
    ("loop_expression", "loop"),
    ("if_statement", "if"),
    ("return_statement", "return"),
    ("range_clause", "range"),
    ("arrow_function", "=>"),
    ("new_expression", "new"),
    ("await_expression", "await"),
    ("spread_element", "..."),
    ("template_string", "`"),
    ("closure_expression", "|"),
    ("lambda", "lambda"),
    ("short_var_declaration", ":="),
    ("subscript_expression", "["),
    ("index_expression", "["),
    ("dictionary", "{"),
    ("list", "["),
    ("list_comprehension", "["),
    ("function_definition", "("),
    ("call_expression", "("),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_needed_only_where_every_match_has_them() {
        let words = |query| {
            let [pattern] = &patterns(query)[..] else { panic!("one pattern: {query}") };
            pattern.needs.iter().map(|group| group.join("|")).collect::<Vec<_>>().join(" ")
        };
        let call = "((call function: (identifier) @f arguments: (arguments) @a) @site (#eq? @f \"len\") (#eq? @a \"()\"))";
        assert_eq!(words(call), "() len");
        assert_eq!(words("([(a) @x (b) @y] (#eq? @x \"one\") (#eq? @y \"two\"))"), "one|two");
        assert_eq!(words("([(a) @x (b) @y] (#eq? @x \"one\"))"), "");
        assert_eq!(words("((a (b)? @x (c) @y) (#eq? @x \"one\") (#eq? @y \"[\"))"), "[");
        assert_eq!(words("((a ((b) @x)* ) (#eq? @x \"one\"))"), "");
        assert_eq!(words("((a) @x (b) @xy (#eq? @x @xy) (#eq? @xy \"one\"))"), "one");
        assert_eq!(words("((a) @x (#any-of? @x \"one\" \"two\"))"), "one|two");
        assert_eq!(words("; (#eq? @x \"no\")\n((a) @x (#not-eq? @x \"no\"))"), "");
        assert_eq!(
            words(
                "((for_statement !type left: (_) @x (if_statement)? operator: \"+=\" \"else\"?) @site)"
            ),
            "+= for"
        );
        assert_eq!(words("(a [\"in\" \"not in\"] . (_) .)"), "in|not in");
        assert_eq!(words("(a (string) @x (#eq? @x \"\\\"\\\"\"))"), "\"\"");
    }

    #[test]
    fn queries_fall_apart_into_patterns_with_the_kinds_they_begin_with() {
        let query = "; one\n((a) @x (#eq? @x \"(\"))\n(b [(c) (d)]) @y ((e) . (f))\n([(g) (h (i))] @z (#eq? @z \"\"))\n(_ (j)) @k\n";
        let found = patterns(query);
        let found: Vec<_> =
            found.iter().map(|p| (&query[p.place.clone()], p.roots.clone())).collect();
        let kinds = |kinds: &[&str]| Roots::Kinds(kinds.iter().map(|k| k.to_string()).collect());
        assert_eq!(
            found,
            [
                ("((a) @x (#eq? @x \"(\"))", kinds(&["a"])),
                ("(b [(c) (d)]) @y", kinds(&["b"])),
                ("((e) . (f))", Roots::Siblings),
                ("([(g) (h (i))] @z (#eq? @z \"\"))", kinds(&["g", "h"])),
                ("(_ (j)) @k", Roots::Any)
            ]
        );
    }
}
