//! The protocols as a table: where a question goes, what it says, and where the text stands in an answer.

use serde::Serialize;
use serde_json::{Value, json};

use super::Question;
use crate::config::Remote;
use crate::tokenizer::Markers;

/// One way to ask.
pub(super) struct Protocol {
    /// Its name in the settings.
    name: &'static str,
    /// Below the address of the server.
    pub(super) path: &'static str,
    /// What is sent.
    body: fn(&Ask<'_>) -> Value,
    /// Where the text of a chunk stands, streamed or whole: the first place that holds a text.
    pub(super) text: &'static [&'static str],
    /// Whether the answer is that of a talk, which may wrap the code and say again what is there.
    is_talk: bool,
    /// How the same server is talked with.
    pub(super) talk: &'static Talk,
}

/// One way to talk.
pub(super) struct Talk {
    /// Below the address of the server.
    pub(super) path: &'static str,
    /// What is sent: the model, what was said so far, and the tokens of the answer at most.
    pub(super) body: fn(&str, &[Said], usize) -> Value,
    /// Where the text of a chunk stands.
    pub(super) text: &'static [&'static str],
}

/// Somebody's words in a talk.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The words.
    pub content: String,
}

/// What almost all servers speak.
const OPENAI_TALK: Talk = Talk {
    path: "/v1/chat/completions",
    body: |model, said, max_tokens| {
        let body = json!({ "messages": said, "max_tokens": max_tokens, "stream": true });
        named(model, body)
    },
    text: OPENAI_TALKS,
};

const OLLAMA_TALK: Talk = Talk {
    path: "/api/chat",
    body: |model, said, max_tokens| {
        let options = json!({ "num_predict": max_tokens });
        named(model, json!({ "messages": said, "stream": true, "options": options }))
    },
    text: &["/message/content"],
};

const OPENAI_TALKS: &[&str] = &["/choices/0/delta/content", "/choices/0/message/content"];

/// What a body is made of.
struct Ask<'a> {
    model: &'a str,
    markers: Option<Markers>,
    question: &'a Question,
}

const TABLE: [Protocol; 5] = [
    Protocol {
        name: "openai",
        path: "/v1/completions",
        body: |ask| {
            let (prompt, suffix) = match &ask.markers {
                Some(markers) => (ask.marked(markers), None),
                None => (ask.commented(), Some(&ask.question.suffix)),
            };
            with_model(
                ask,
                json!({
                    "prompt": prompt, "suffix": suffix, "max_tokens": ask.question.max_tokens,
                    "temperature": 0, "stream": true, "stop": ask.stop(),
                }),
            )
        },
        text: &["/choices/0/text"],
        is_talk: false,
        talk: &OPENAI_TALK,
    },
    Protocol {
        name: "chat",
        path: "/v1/chat/completions",
        body: |ask| {
            let code = format!("{}{CURSOR}{}", ask.commented(), ask.question.suffix);
            with_model(
                ask,
                json!({
                    "messages": [
                        { "role": "system", "content": TALK },
                        { "role": "user", "content": code },
                    ],
                    "max_tokens": ask.question.max_tokens, "temperature": 0, "stream": true,
                }),
            )
        },
        text: OPENAI_TALKS,
        is_talk: true,
        talk: &OPENAI_TALK,
    },
    Protocol {
        name: "llama.cpp",
        path: "/infill",
        body: |ask| {
            let others = ask.question.others.iter();
            let extra = others.map(|(path, text)| json!({ "filename": path, "text": text }));
            json!({
                "input_prefix": ask.question.prefix, "input_suffix": ask.question.suffix,
                "input_extra": extra.collect::<Vec<_>>(), "n_predict": ask.question.max_tokens,
                "temperature": 0, "stream": true, "cache_prompt": true, "stop": ask.stop(),
            })
        },
        text: &["/content"],
        is_talk: false,
        talk: &OPENAI_TALK,
    },
    Protocol {
        name: "ollama",
        path: "/api/generate",
        body: |ask| {
            with_model(
                ask,
                json!({
                    "prompt": ask.commented(), "suffix": ask.question.suffix, "stream": true,
                    "options": {
                        "num_predict": ask.question.max_tokens, "temperature": 0, "stop": ask.stop(),
                    },
                }),
            )
        },
        text: &["/response"],
        is_talk: false,
        talk: &OLLAMA_TALK,
    },
    Protocol {
        name: "tabby",
        path: "/v1/completions",
        body: |ask| {
            json!({
                "language": ask.question.language,
                "segments": { "prefix": ask.commented(), "suffix": ask.question.suffix },
                "temperature": 0,
            })
        },
        text: &["/choices/0/text"],
        is_talk: false,
        talk: &OPENAI_TALK,
    },
];

/// Where a talk sees the cursor, and what it is told.
const CURSOR: &str = "<CURSOR>";
const TALK: &str = "You complete code. The user sends a part of a file with <CURSOR> in it. Answer with nothing \
                    but the code to insert in place of <CURSOR>: no explanation, no fence, nothing that stands there \
                    already. Usually that is the rest of a line, or a few lines.";

/// Where servers say what went wrong, the likeliest first.
const ERRORS: [&str; 5] = ["/error/message", "/error", "/detail", "/message", "/detail/0/msg"];
/// Where they say that the tokens ran out.
const LIMITS: [(&str, &str); 4] = [
    ("/choices/0/finish_reason", "length"),
    ("/stop_type", "limit"),
    ("/done_reason", "length"),
    ("/stop_reason", "max_tokens"),
];

impl Protocol {
    /// The row of that name.
    pub(super) fn named(name: &str) -> Option<&'static Protocol> {
        TABLE.iter().find(|row| row.name == name)
    }

    /// Whether it can be asked with markers in the prompt.
    pub(super) fn takes_markers(&self) -> bool {
        self.name == "openai"
    }

    /// What is sent for a question.
    pub(super) fn body(&self, remote: &Remote, question: &Question) -> Value {
        let markers = Markers::of_family(&remote.markers);
        (self.body)(&Ask { model: &remote.model, markers, question })
    }

    /// What is code in the text so far: of a talk, without a fence and without the beginning of the line if it is said
    /// again.
    pub(super) fn code<'a>(&self, text: &'a str, question: &Question) -> &'a str {
        if !self.is_talk {
            return text;
        }
        let inside = match text.trim_start().strip_prefix("```") {
            Some(fenced) => fenced.split_once('\n').map_or("", |(_, inside)| inside),
            None => text,
        };
        let code = inside.split("\n```").next().unwrap_or("");
        let line = question.prefix.rsplit('\n').next().unwrap_or("").trim_start();
        match code.trim_start().strip_prefix(line) {
            Some(rest) if !line.is_empty() => rest,
            _ => code,
        }
    }
}

/// The text in one chunk of an answer; `None` if it has none, as the last one of some servers.
pub(super) fn text_at<'a>(chunk: &'a Value, places: &[&str]) -> Option<&'a str> {
    places.iter().find_map(|place| chunk.pointer(place)?.as_str())
}

/// What the server says went wrong, if the value says so.
pub(super) fn error_in(value: &Value) -> Option<&str> {
    ERRORS.iter().find_map(|place| value.pointer(place)?.as_str())
}

/// Whether a chunk says that the answer ends where its tokens did.
pub(super) fn is_cut(chunk: &Value) -> bool {
    LIMITS.iter().any(|(place, value)| chunk.pointer(place).is_some_and(|told| told == value))
}

impl Ask<'_> {
    fn stop(&self) -> &'static [&'static str] {
        if self.question.one_line { &["\n"] } else { &[] }
    }

    /// Lines of other files as comments, and the file's own up to the cursor.
    fn commented(&self) -> String {
        let question = self.question;
        let Some(mark) = question.comment else { return question.prefix.clone() };
        let mut text = String::new();
        for (path, lines) in &question.others {
            text += &format!("{mark} {path}\n");
            lines.lines().for_each(|line| text += &format!("{mark} {line}\n"));
        }
        if !text.is_empty() {
            text += &format!("{mark} {}\n", question.path);
        }
        text + &question.prefix
    }

    /// All of it in the layout that a family was trained on.
    fn marked(&self, markers: &Markers) -> String {
        let question = self.question;
        let mut text = String::new();
        if let Some(file) = markers.file {
            for (path, lines) in &question.others {
                text += &format!("{file}{path}\n{lines}");
            }
            text += &format!("{file}{}\n", question.path);
        }
        let Markers { prefix, suffix, middle, .. } = *markers;
        let (before, after) = (&question.prefix, &question.suffix);
        text + &match markers.prefix_is_last {
            true => format!("{suffix}{after}{prefix}{before}"),
            false => format!("{prefix}{before}{suffix}{after}{middle}"),
        }
    }
}

fn named(model: &str, mut body: Value) -> Value {
    if !model.is_empty() {
        body["model"] = model.into();
    }
    body
}

fn with_model(ask: &Ask<'_>, body: Value) -> Value {
    let mut body = named(ask.model, body);
    if body["suffix"].is_null()
        && let Some(body) = body.as_object_mut()
    {
        body.remove("suffix");
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PROTOCOLS;

    fn question() -> Question {
        Question {
            path: "src/a.py".into(),
            language: "python",
            comment: Some("#"),
            prefix: "def area(w, h):\n    return ".into(),
            suffix: "\n".into(),
            others: vec![("src/b.py".into(), "x = 1\n".into())],
            max_tokens: 9,
            one_line: true,
        }
    }

    fn body(protocol: &str, markers: &str) -> Value {
        let mut remote = Remote::at("http://h").unwrap();
        (remote.model, remote.markers) = ("m".into(), markers.into());
        Protocol::named(protocol).unwrap().body(&remote, &question())
    }

    #[test]
    fn every_setting_has_its_row() {
        assert_eq!(TABLE.each_ref().map(|row| row.name), PROTOCOLS);
    }

    #[test]
    fn lines_of_other_files_come_as_each_protocol_knows_them() {
        let commented = "# src/b.py\n# x = 1\n# src/a.py\ndef area(w, h):\n    return ";
        let openai = body("openai", "");
        assert_eq!((&openai["prompt"], &openai["suffix"]), (&commented.into(), &"\n".into()));
        assert_eq!(body("llama.cpp", "")["input_extra"][0]["filename"], "src/b.py");
        assert_eq!(body("ollama", "")["options"]["num_predict"], 9);
        assert_eq!(body("tabby", "")["segments"]["prefix"], commented);
        let chat = body("chat", "")["messages"][1]["content"].clone();
        assert_eq!(chat, format!("{commented}<CURSOR>\n"));
    }

    #[test]
    fn a_family_gets_its_own_markers_and_no_suffix() {
        let marked = body("openai", "qwen2.5-coder");
        assert_eq!(
            marked["prompt"],
            "<|file_sep|>src/b.py\nx = 1\n<|file_sep|>src/a.py\n<|fim_prefix|>def area(w, h):\n    \
             return <|fim_suffix|>\n<|fim_middle|>"
        );
        assert_eq!(marked.get("suffix"), None);
    }

    #[test]
    fn a_talk_is_reduced_to_its_code() {
        let chat = Protocol::named("chat").unwrap();
        for (said, code) in [
            ("w * h", "w * h"),
            ("```python\nw * h\n```\nThat is all.", "w * h"),
            ("```pyth", ""),
            ("    return w * h", "w * h"),
            ("```\nreturn w * h", "w * h"),
        ] {
            assert_eq!(chat.code(said, &question()), code, "{said:?}");
        }
    }
}
