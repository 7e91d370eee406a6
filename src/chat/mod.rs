//! A talk about the code of a repository. A question gets its context from there ([`Repository`]); whoever answers sees
//! it and the user is shown it, as [`Source`]s. The answer comes from a model elsewhere, from one of this machine that
//! was trained to talk, or, without either, from the repository itself ([`plain`]): nothing is made up.
//!
//! This module knows neither terminals nor protocols: words in, words and places out.

pub mod apply;
mod blocks;
mod plain;
mod prompt;
mod repository;
mod template;
mod terms;

use serde::{Deserialize, Serialize};

use crate::generation::{CancelToken, Finish, Flow, GenerateOptions, Prompt};
use crate::remote::{RemoteModel, Said};
use crate::suggest::Completer;
use crate::tokenizer::TokenId;

pub use blocks::{Block, blocks};
pub use plain::explain;
pub use prompt::SYSTEM;
pub use repository::{Definition, Found, Named, Repository, Source};
pub use template::Template;
pub use terms::place as place_of;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What is to be kept to.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// Somebody's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who says them.
    pub role: Role,
    /// The words.
    pub content: String,
}

/// Tokens of an answer by a model elsewhere at most.
const MOST_TOKENS: usize = 4096;
/// What is said of an answer without a model that talks.
pub const PLAIN: &str = "no model that talks is in use: the answer is what the repository says, word for word. For talks, \
                         name a model with a chat template (--model, nestling model use) or a server (--remote)";

/// The answer of a model elsewhere to the last of the `turns`. `hear` gets each piece; cancelled, what came so far is the
/// answer.
///
/// # Errors
/// No answer, or something that must not be sent, in a sentence with the way out.
pub fn ask_remote(
    client: &RemoteModel,
    turns: &[Turn],
    found: &Found,
    hear: &mut dyn FnMut(&str),
    cancel: &CancelToken,
) -> Result<Reply, String> {
    if turns.iter().any(|turn| crate::workspace::holds_secret(&turn.content)) {
        return Err("what was said holds something that looks like a key or password: it is sent to nobody. Say it \
                    without, or begin anew"
            .into());
    }
    let (turns, sources) = prompt::for_remote(turns, &found.sources);
    let said: Vec<Said> = turns.into_iter().map(Said::from).collect();
    let text = client.talk(&said, MOST_TOKENS, hear, cancel)?;
    Ok(Reply { by: By::Remote, text: without_thoughts(&text), sources, notice: found.notice() })
}

impl From<Turn> for Said {
    fn from(turn: Turn) -> Said {
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        Said { role, content: turn.content }
    }
}

/// Who answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A model elsewhere.
    Remote,
    /// The model of this machine.
    Model,
    /// The repository, perhaps with code that the model continued.
    Repository,
    /// There is nothing to say.
    #[default]
    Nobody,
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Who answered.
    pub by: By,
    /// Markdown.
    pub text: String,
    /// What whoever answered has seen.
    pub sources: Vec<Source>,
    /// What the user should know beside it.
    pub notice: Option<String>,
}

/// An answer in the making, by the model of this machine. It may be left between two tokens, and gone on with later.
pub struct Answer {
    turns: Vec<Turn>,
    found: Found,
    stage: Stage,
    by: By,
    text: String,
    sources: Vec<Source>,
    notice: Option<String>,
}

enum Stage {
    New,
    /// A model that talks writes on behind these tokens.
    Talking(Vec<TokenId>),
    /// The code of the question is continued.
    Coding(plain::Code),
    Over,
}

impl Answer {
    /// The answer to the last of the `turns`, with what was found for it.
    pub fn new(turns: Vec<Turn>, found: Found) -> Answer {
        let notice = found.notice();
        Answer {
            turns,
            found,
            stage: Stage::New,
            by: By::Nobody,
            text: String::new(),
            sources: Vec::new(),
            notice,
        }
    }

    /// Goes on until the end, and is then true, or until it is cancelled. `hear` gets each piece of text.
    ///
    /// # Errors
    /// The model cannot be talked with, in a sentence with the way out.
    pub fn go_on(
        &mut self,
        completer: &mut dyn Completer,
        hear: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<bool, String> {
        if matches!(self.stage, Stage::New) {
            self.stage = self.begin(completer, hear)?;
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Talking(tokens) => {
                if !self.write(&tokens, completer, hear, cancel)? {
                    self.stage = Stage::Talking(tokens);
                }
            }
            Stage::Coding(mut code) => {
                let is_over = code.go_on(completer, cancel);
                if is_over {
                    self.by = By::Repository;
                    self.say(&code.block(), hear);
                } else {
                    self.stage = Stage::Coding(code);
                }
            }
            Stage::New | Stage::Over => {}
        }
        Ok(matches!(self.stage, Stage::Over))
    }

    /// What came of it.
    pub fn reply(self) -> Reply {
        let Answer { by, text, sources, notice, .. } = self;
        Reply { by, text: without_thoughts(&text), sources, notice }
    }

    fn say(&mut self, text: &str, hear: &mut dyn FnMut(&str)) {
        self.text.push_str(text);
        hear(text);
    }

    fn begin(
        &mut self,
        completer: &mut dyn Completer,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Stage, String> {
        let model = completer.generator().map(|generator| generator.model());
        let template = match model.map(|model| model.chat_template.clone()) {
            Some(found) => found?,
            None => None,
        };
        if let (Some(found), Some(model)) = (template, model) {
            let template = Template::new(&found)?;
            let packed = prompt::for_model(&template, model, &self.turns, &self.found.sources)?;
            (self.sources, self.by) = (packed.1, By::Model);
            return Ok(Stage::Talking(packed.0));
        }
        self.notice = Some(match self.notice.take() {
            Some(notice) => format!("{notice}; {PLAIN}"),
            None => PLAIN.into(),
        });
        self.sources = std::mem::take(&mut self.found.sources);
        let question = self.turns.last().map_or("", |turn| turn.content.as_str());
        let code = plain::Code::of(question);
        let plain = std::mem::take(&mut self.found.plain);
        if !plain.is_empty() {
            self.by = By::Repository;
            self.say(&plain, hear);
        } else if code.is_none() {
            self.say(&plain::nothing(&self.found.asked), hear);
        }
        Ok(code.map_or(Stage::Over, Stage::Coding))
    }

    /// Lets the model write behind `tokens` and what it has written; whether it is done.
    fn write(
        &mut self,
        tokens: &[TokenId],
        completer: &mut dyn Completer,
        hear: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<bool, String> {
        const KEY: &str = "nestling:chat";
        let generator = completer.generator().ok_or("the model is gone: ask again")?;
        let model = generator.model();
        let tokens = [tokens, &model.tokenizer.encode(&self.text)].concat();
        let room = model.engine.context().saturating_sub(tokens.len());
        if room == 0 {
            return Ok(true);
        }
        let options = GenerateOptions { max_tokens: room, ..GenerateOptions::default() };
        let before = self.text.len();
        let text = &mut self.text;
        let rule = &mut |generated: crate::generation::Generated<'_>| {
            let piece = &generated.text[text.len() - before..];
            text.push_str(piece);
            if !piece.is_empty() {
                hear(piece);
            }
            if goes_round(text) { Flow::Stop } else { Flow::Continue }
        };
        let prompt = Prompt { tokens, ..Prompt::default() };
        let written = generator.generate(KEY, &prompt, &options, None, rule, cancel);
        let written = written.map_err(|error| format!("the model failed: {error}"))?;
        if written.finish == Finish::Limit {
            self.notice =
                Some("the answer was cut off: it fills what the model can see at once".into());
        }
        Ok(written.finish != Finish::Cancelled)
    }
}

/// Whether a text only says the same again and again, as small models do that take the likeliest word each time.
fn goes_round(text: &str) -> bool {
    const LEAST: usize = 240;
    const TIMES: usize = 4;
    let bytes = text.as_bytes();
    (20..=LEAST / TIMES).chain([80, 120, 200]).any(|length| {
        let Some(from) = bytes.len().checked_sub(length * TIMES) else { return false };
        let tail = &bytes[from..];
        tail.iter().any(|byte| byte.is_ascii_alphanumeric())
            && tail.windows(2 * length).step_by(length).all(|pair| pair[..length] == pair[length..])
    })
}

/// An answer without what the model thought aloud before it.
fn without_thoughts(text: &str) -> String {
    match text.split_once("</think>") {
        Some((_, answer)) => answer.trim_start().to_string(),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests;
