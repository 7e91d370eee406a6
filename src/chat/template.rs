//! Runs the chat template of a model: a talk in, tokens out. What people and files say is guarded before it goes in, so
//! that special tokens come from the template alone.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::{Role, Turn};
use crate::model::chat_template::ChatTemplate;
use crate::tokenizer::{TokenId, Tokenizer};

/// Steps of a template, of which a long talk takes some thousands: none runs for ever.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat";

/// A template that can be run.
pub struct Template {
    environment: Environment<'static>,
    found: ChatTemplate,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// It is no template; the text names file and line, and the way out.
    pub fn new(found: &ChatTemplate) -> Result<Template, String> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| told(found, "is not understood", &error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment
            .add_function("strftime_now", |format: &str| strftime(format, SystemTime::now()));
        environment.add_filter("tojson", to_json);
        let added = environment.add_template_owned(NAME, without_marks(&found.source));
        added.map_err(|error| told(found, "is not understood", &error))?;
        Ok(Template { environment, found: found.clone() })
    }

    /// The talk in the model's form, up to where the next turn of the model begins.
    ///
    /// # Errors
    /// The template fails or refuses; the text names file and line, and the way out.
    pub fn render(&self, turns: &[Turn]) -> Result<String, String> {
        let render = |turns: &[Turn]| {
            let template = self.environment.get_template(NAME)?;
            template.render(context! {
                messages => Value::from(Serde(turns)),
                add_generation_prompt => true,
                bos_token => &self.found.bos,
                eos_token => &self.found.eos,
                tools => (),
                documents => (),
                // Thinking aloud takes a small model on a processor minutes.
                enable_thinking => false,
            })
        };
        let first = render(turns);
        let rendered = match (first, with_system_inside(turns)) {
            // Some families were trained without the role.
            (Err(error), Some(turns)) => render(&turns).map_err(|_| error),
            (first, _) => first,
        };
        rendered.map_err(|error| told(&self.found, "fails", &error))
    }

    /// The talk as tokens. Special ones stand only where the template has put them.
    ///
    /// # Errors
    /// Those of [`Template::render`].
    pub fn tokens(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Vec<TokenId>, String> {
        let said = || turns.iter().map(|turn| turn.content.as_str());
        let is_free =
            |c: &char| !said().any(|text| text.contains(*c)) && !self.found.source.contains(*c);
        let guard = ('\u{e000}'..='\u{f8ff}')
            .find(is_free)
            .ok_or("the talk holds all private characters")?;
        let guarded = |turn: &Turn| Turn {
            role: turn.role,
            content: tokenizer.guarded(&turn.content, guard),
        };
        let turns: Vec<Turn> = turns.iter().map(guarded).collect();
        Ok(tokenizer.encode_marked(&self.render(&turns)?, guard))
    }
}

/// The talk with what the system says at the head of the first question; `None` if it says nothing.
fn with_system_inside(turns: &[Turn]) -> Option<Vec<Turn>> {
    let (system, rest) = turns.split_first().filter(|(first, _)| first.role == Role::System)?;
    let mut turns = rest.to_vec();
    let first = turns.first_mut()?;
    first.content = format!("{}\n\n{}", system.content, first.content);
    Some(turns)
}

fn told(found: &ChatTemplate, what: &str, error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    format!(
        "{}: the chat template {what}{line}: {}. Copy the model again, put a template that works beside it as \
         chat_template.jinja, or ask another model with --model or --remote",
        found.place,
        reason.trim_end_matches('.')
    )
}

/// The template without the blocks that mark what a model is trained on: they change nothing of the text.
fn without_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, block) = rest.split_at(at);
        let end = block.find("%}").map_or(block.len(), |end| end + 2);
        let (block, after) = block.split_at(end);
        let word = block.trim_matches(['{', '%', '}', '-', '+', ' ', '\n', '\t', '\r']);
        text.push_str(before);
        match word {
            "generation" => text.push_str(&block.replace(word, "if true")),
            "endgeneration" => text.push_str(&block.replace(word, "endif")),
            _ => text.push_str(block),
        }
        rest = after;
    }
    text + rest
}

/// JSON as Python writes it.
fn to_json(value: Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    // What else Python knows changes nothing here.
    for other in ["ensure_ascii", "separators", "sort_keys"] {
        let _ = options.get::<Option<Value>>(other);
    }
    options.assert_all_used()?;
    let mut json = Vec::new();
    let spaces = " ".repeat(indent.unwrap_or(0));
    let written = match indent {
        Some(_) => {
            let pretty = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Spaced)),
    };
    written.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    Ok(Value::from(String::from_utf8_lossy(&json).into_owned()))
}

/// Commas and colons are followed by a space.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
    ) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// A time (UTC) in the words of C's `strftime`, as far as dates need it; the rest stays as it is written.
fn strftime(format: &str, time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // Years of the calendar that begins with March, so that the odd day comes last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[days as usize % 7]);
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        text += &match letters.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('B') => month_name.into(),
            Some('b') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('H') => format!("{:02}", clock / 3600),
            Some('M') => format!("{:02}", clock / 60 % 60),
            Some('S') => format!("{:02}", clock % 60),
            Some(other) => format!("%{other}"),
            None => "%".into(),
        };
    }
    text
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod template_tests;
