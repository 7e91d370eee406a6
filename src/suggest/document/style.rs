//! How documentation comments look: a row for each convention, and the comment that is made of it.

use super::signature::Signature;
use super::words;

/// One convention. In items `$name` and `$text` stand for what is filled in.
#[derive(Debug)]
pub struct Style {
    /// What its users call it.
    pub name: &'static str,
    pub(super) languages: &'static [&'static str],
    /// What shows that a file keeps to it, where a language has several.
    marks: &'static [&'static str],
    /// The comment begins so, each line has that before it, and it ends so.
    open: &'static str,
    line: &'static str,
    pub(super) close: &'static str,
    /// The first sentence stands on the line of the opening.
    is_joined: bool,
    /// Verbs command: `Read`, not `Reads`.
    commands: bool,
    /// The first sentence begins with the name of the function.
    is_named: bool,
    /// Parameters that collect several have their stars.
    is_starred: bool,
    parameters: Section,
    returns: Section,
    fails: Section,
}

/// A part of a comment: its heading, and an item for each thing.
#[derive(Debug)]
struct Section {
    heading: &'static str,
    item: &'static str,
    /// No empty line between it and the section before.
    is_close: bool,
}

const NONE: Section = Section { heading: "", item: "", is_close: true };
const fn tag(item: &'static str, is_close: bool) -> Section {
    Section { heading: "", item, is_close }
}
const fn headed(heading: &'static str, item: &'static str) -> Section {
    Section { heading, item, is_close: false }
}

/// Tags between stars, as Java has them; for others to be derived from.
const TAGGED: Style = Style {
    name: "Javadoc",
    languages: &["java"],
    marks: &[],
    open: "/**",
    line: " *",
    close: " */",
    is_joined: false,
    commands: false,
    is_named: false,
    is_starred: false,
    parameters: tag("@param $name $text", false),
    returns: tag("@return $text", true),
    fails: tag("@throws $name $text", true),
};

/// A text at the head of a body, as Google's Python has it.
const DOCSTRING: Style = Style {
    name: "Google",
    languages: &["python"],
    marks: &["\n    Args:\n", "\n        Args:\n", "\n    Returns:\n", "\n        Returns:\n"],
    open: "\"\"\"",
    line: "",
    close: "\"\"\"",
    is_joined: true,
    commands: true,
    is_named: false,
    is_starred: true,
    parameters: headed("Args:", "    $name: $text"),
    returns: headed("Returns:", "    $text"),
    fails: headed("Raises:", "    $name: $text"),
};

const STYLES: &[Style] = &[
    Style {
        name: "rustdoc",
        languages: &["rust"],
        open: "",
        line: "///",
        close: "",
        parameters: tag("- `$name`: $text", false),
        returns: NONE,
        fails: headed("# Errors\n", "$text"),
        ..TAGGED
    },
    Style {
        name: "Go doc",
        languages: &["go"],
        open: "",
        line: "//",
        close: "",
        is_named: true,
        parameters: tag("  - $name: $text", false),
        returns: NONE,
        fails: NONE,
        ..TAGGED
    },
    TAGGED,
    Style { name: "Doxygen", languages: &["c", "cpp"], ..TAGGED },
    Style {
        name: "JSDoc",
        languages: &["javascript", "typescript", "tsx"],
        returns: tag("@returns $text", true),
        fails: tag("@throws {$name} $text", true),
        ..TAGGED
    },
    DOCSTRING,
    Style {
        name: "numpydoc",
        marks: &[
            "\n    ----------\n",
            "\n        ----------\n",
            "\n    -------\n",
            "\n        -------\n",
        ],
        parameters: headed("Parameters\n----------", "$name\n    $text"),
        returns: headed("Returns\n-------", "object\n    $text"),
        fails: headed("Raises\n------", "$name\n    $text"),
        ..DOCSTRING
    },
    Style {
        name: "Sphinx",
        marks: &["\n    :param ", "\n        :param ", "\n    :return", "\n        :return"],
        is_starred: false,
        parameters: tag(":param $name: $text", false),
        returns: tag(":returns: $text", true),
        fails: tag(":raises $name: $text", true),
        ..DOCSTRING
    },
];

/// What a text in a comment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Summary,
    Parameter(usize),
    Returns,
    Fails(usize),
}

impl Style {
    /// The convention of a language, or of the texts around if it has several: the one that most of them show.
    pub fn of(language: &str, texts: &mut dyn Iterator<Item = &str>) -> Option<&'static Style> {
        let all: Vec<&Style> = STYLES.iter().filter(|s| s.languages.contains(&language)).collect();
        if all.len() < 2 {
            return all.first().copied();
        }
        let mut shown = vec![0; all.len()];
        for text in texts {
            for (style, shown) in all.iter().zip(&mut shown) {
                *shown += style.marks.iter().map(|mark| text.matches(mark).count()).sum::<usize>();
            }
        }
        let best = shown.iter().enumerate().max_by_key(|(at, count)| (**count, usize::MAX - at))?.0;
        Some(all[best])
    }

    /// The comment, line by line, for what `fill` says of each thing when it has seen what stands before it.
    pub(super) fn comment(
        &self,
        signature: &Signature,
        fill: &mut dyn FnMut(Slot, &str) -> String,
    ) -> String {
        let mut text = String::new();
        let leader = format!("{}{}", signature.indent, self.line);
        let line = |text: &mut String, content: &str| {
            text.push_str(
                format!(
                    "{leader}{}{content}",
                    if self.line.is_empty() || content.is_empty() { "" } else { " " }
                )
                .trim_end(),
            );
            text.push('\n');
        };
        let name = if self.is_named { format!("{} ", signature.name) } else { String::new() };
        if self.is_joined {
            text += &format!("{}{}{name}", signature.indent, self.open);
        } else {
            if !self.open.is_empty() {
                text += &format!("{}{}\n", signature.indent, self.open);
            }
            text += &format!("{leader} {name}");
        }
        let summary = fill(Slot::Summary, &text);
        let summary = if self.is_named { words::small(&summary) } else { summary };
        text += &format!("{summary}.");
        let parameters = (0..signature.parameters.len()).map(Slot::Parameter).collect::<Vec<_>>();
        let returns = signature.returns.iter().map(|_| Slot::Returns).collect();
        let fails = (0..signature.fails.len()).map(Slot::Fails).collect();
        let sections =
            [(&self.parameters, parameters), (&self.returns, returns), (&self.fails, fails)];
        let is_alone =
            sections.iter().all(|(section, slots)| slots.is_empty() || section.item.is_empty());
        if is_alone && self.is_joined {
            return text + self.close + "\n";
        }
        text.push('\n');
        let mut is_first = true;
        for (section, slots) in sections {
            if section.item.is_empty() || slots.is_empty() {
                continue;
            }
            if !section.is_close || is_first {
                line(&mut text, "");
            }
            is_first = false;
            if !section.heading.is_empty() {
                section.heading.split('\n').for_each(|part| line(&mut text, part));
            }
            for slot in slots {
                let item = section.item.replace("$name", &self.name_of(signature, slot));
                let item = item.trim_end_matches("$text");
                let mut parts = item.split('\n').peekable();
                while let Some(part) = parts.next() {
                    if parts.peek().is_some() {
                        line(&mut text, part);
                    } else {
                        let space = if self.line.is_empty() { "" } else { " " };
                        text += &format!("{leader}{space}{part}");
                    }
                }
                let said = fill(slot, &text);
                text += &format!("{said}.\n");
            }
        }
        if !self.close.is_empty() {
            text += &format!("{}{}\n", signature.indent, self.close);
        }
        text
    }

    fn name_of(&self, signature: &Signature, slot: Slot) -> String {
        match slot {
            Slot::Parameter(at) if self.is_starred => signature.parameters[at].clone(),
            Slot::Parameter(at) => {
                signature.parameters[at].trim_start_matches(['.', '*']).to_string()
            }
            Slot::Fails(at) => signature.fails[at].0.clone(),
            _ => String::new(),
        }
    }

    /// What is said of a thing by its name alone.
    pub(super) fn by_name(&self, signature: &Signature, slot: Slot) -> String {
        let Signature { name, class, returns, .. } = signature;
        let class = class.as_deref();
        let given = signature.parameters.first().map(String::as_str);
        match slot {
            Slot::Summary => words::sentence(name, class, given, returns.is_some(), self.commands),
            Slot::Parameter(at) => words::capital(&words::parameter(&signature.parameters[at])),
            Slot::Returns => match returns {
                Some(Some(name)) => words::capital(&words::parameter(name)),
                _ => words::capital(&returned(name)),
            },
            Slot::Fails(at) => match &signature.fails[at].1 {
                Some(text) => text.trim_end_matches('.').to_string(),
                None => format!("When {}", words::failure(name, class, given)),
            },
        }
    }

    /// The parameters that a comment speaks of, in order.
    pub(super) fn parameters_in(&self, comment: &str) -> Vec<String> {
        let item = self.parameters.item.split('\n').next().unwrap_or_default();
        let (before, after) = item.split_once("$name").unwrap_or_default();
        let after = after.split("$text").next().unwrap_or_default();
        let heading = self.parameters.heading.split('\n').next_back().unwrap_or_default();
        let mut is_within = heading.is_empty();
        let mut found = Vec::new();
        for line in comment.lines() {
            let content =
                line.trim_start().strip_prefix(self.line.trim()).unwrap_or(line).trim_end();
            let content = if self.line.is_empty() {
                content.trim_start()
            } else {
                content.strip_prefix(' ').unwrap_or(content)
            };
            if !heading.is_empty() {
                is_within = content == heading || is_within && !content.is_empty();
                if content == heading {
                    continue;
                }
            }
            // Where an item has two lines, the second is set in deeper.
            let is_text = self.parameters.item.contains('\n')
                && line.len() - line.trim_start().len() > 4 + depth(comment);
            let before = if self.line.is_empty() { before.trim_start() } else { before };
            let Some(rest) = content.strip_prefix(before).filter(|_| is_within && !is_text) else {
                continue;
            };
            let is_name = |c: char| c.is_alphanumeric() || "_$*".contains(c);
            let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
            if !name.is_empty() && rest[name.len()..].starts_with(after.trim_end()) {
                found.push(name);
            }
        }
        found
    }

    pub(super) fn names(&self, signature: &Signature) -> Vec<String> {
        (0..signature.parameters.len())
            .map(|at| self.name_of(signature, Slot::Parameter(at)))
            .collect()
    }
}

/// The indentation of a comment, less one level: that of its first line.
fn depth(comment: &str) -> usize {
    let first = comment.lines().next().unwrap_or_default();
    (first.len() - first.trim_start().len()).saturating_sub(4)
}

/// What a function returns, by its name alone: what is read by `read_lines` are the lines.
fn returned(name: &str) -> String {
    let words = words::words(name);
    match words.first().map(String::as_str) {
        Some("is" | "has" | "can" | "should") if words.len() > 1 => {
            format!("whether it {} {}", words[0], words[1..].join(" "))
        }
        Some(
            "get" | "read" | "load" | "find" | "make" | "create" | "build" | "parse" | "fetch",
        ) if words.len() > 1 => words::parameter(&words[1..].join("_")),
        _ => "the result".into(),
    }
}
