//! One question over HTTP, and its answer as it comes. Every wait has an end, and so has what is read.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use super::failure::{Asked, Failure};
use super::protocol::{is_cut, text_at};

/// To find the host and connect.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// Of the body of a refusal.
const MOST_REFUSAL: u64 = 4_000;

/// What an answer may take.
pub(super) struct Limits {
    /// Without a byte.
    pub(super) idle: Duration,
    /// For an answer in all.
    pub(super) whole: Duration,
    /// Bytes of an answer, with everything around its text…
    pub(super) most_bytes: u64,
    /// …and of its text.
    pub(super) most_text: usize,
}

/// Somebody types.
pub(super) const COMPLETION: Limits = Limits {
    idle: Duration::from_secs(5),
    whole: Duration::from_secs(15),
    most_bytes: 512_000,
    most_text: 8_000,
};

/// Somebody reads along, and can stop it. A server without a GPU reads long questions for minutes.
pub(super) const TALK: Limits = Limits {
    idle: Duration::from_secs(300),
    whole: Duration::from_secs(1800),
    most_bytes: 64_000_000,
    most_text: 400_000,
};

/// How often the lines so far are tried as a value.
const MOST_TRIES: usize = 50;
/// Lines of events that are not their data.
const BESIDE: [&str; 4] = [":", "event:", "id:", "retry:"];

/// What keeps connections, for servers on this machine or elsewhere.
pub(super) fn agent(is_local: bool, limits: &Limits) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // No proxy leads back to this machine.
        .proxy(if is_local { None } else { Proxy::try_from_env() })
        .http_status_as_error(false)
        // A key goes to the address that was named, and nowhere else.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(limits.idle))
        .timeout_per_write(Some(limits.idle))
        .timeout_global(Some(limits.whole))
        .user_agent(concat!("nestling/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::new_with_config(config)
}

/// An answer whose head has come.
pub(super) type Body = BufReader<ureq::BodyReader<'static>>;

/// Sends a question.
///
/// # Errors
/// No connection, or a status that is no success.
pub(super) fn send(
    agent: &Agent,
    url: &str,
    key: Option<&str>,
    body: &Value,
    asked: &Asked<'_>,
    limits: &Limits,
) -> Result<Body, Failure> {
    let mut request = agent.post(url).header("Content-Type", "application/json");
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let sent = request.send(body.to_string());
    let response = sent.map_err(|error| Failure::of_error(&error, limits))?;
    let status = response.status();
    let retry_after = response.headers().get("Retry-After").and_then(|value| value.to_str().ok());
    let retry_after = retry_after.map(str::to_string);
    let body = response.into_body().into_with_config();
    if !status.is_success() {
        let mut beginning = Vec::new();
        // Whatever comes of it: the status says enough.
        let _ =
            body.limit(limits.most_bytes).reader().take(MOST_REFUSAL).read_to_end(&mut beginning);
        return Err(Failure::of_status(status.as_u16(), retry_after.as_deref(), &beginning, asked));
    }
    Ok(BufReader::new(body.limit(limits.most_bytes).reader()))
}

/// Reads an answer, whose text stands at one of these `places`, to its end and tells `hear` each piece of its text, and whether the text was cut there because its
/// tokens ran out; false from it is the end as well. Events, lines of JSON and a single value are told apart by what
/// they are: servers are wrong about their content type.
///
/// # Errors
/// An answer that breaks off, or is none.
pub(super) fn listen(
    body: &mut impl BufRead,
    places: &[&str],
    limits: &Limits,
    hear: &mut dyn FnMut(&str, bool) -> bool,
) -> Result<(), Failure> {
    let (mut line, mut value) = (Vec::new(), String::new());
    let (mut length, mut tries) = (0, 0);
    let (mut is_over, mut is_answer) = (false, false);
    while !is_over {
        line.clear();
        let read = body.read_until(b'\n', &mut line);
        is_over = read.map_err(|error| Failure::of_error(&ureq::Error::from(error), limits))? == 0;
        let whole = str::from_utf8(&line);
        let text = whole.map_err(|_| Failure::new("answers with what is no UTF-8"))?.trim();
        let event = text.strip_prefix("data:").map(str::trim);
        match event {
            Some("[DONE]") => break,
            Some(data) => value = data.into(),
            None if BESIDE.iter().any(|beside| text.starts_with(beside)) => continue,
            None => value += text.strip_prefix("error:").unwrap_or(text),
        }
        // A value outside of an event may go over several lines.
        let may_end = event.is_some() || is_over || line.starts_with(b"}") || text == value;
        if value.is_empty() || !may_end {
            continue;
        }
        let chunk: Value = match serde_json::from_str(&value) {
            Ok(chunk) => chunk,
            Err(error) if error.is_eof() && event.is_none() && !is_over && tries < MOST_TRIES => {
                tries += 1;
                continue;
            }
            Err(_) => return Err(Failure::unreadable(&value)),
        };
        value.clear();
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Failure::said(&chunk));
        }
        let Some(text) = text_at(&chunk, places) else { continue };
        is_answer = true;
        length += text.len();
        if !hear(text, is_cut(&chunk) || length > limits.most_text) || length > limits.most_text {
            break;
        }
    }
    match is_answer {
        true => Ok(()),
        false => Err(Failure::new("answers, but not in this protocol: is the right one set?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::protocol::Protocol;

    /// The text of an answer, with a mark where it was cut; or what is wrong.
    fn heard(protocol: &str, body: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        let mut hear = |piece: &str, is_cut: bool| {
            text += piece;
            text += if is_cut { "…" } else { "" };
            true
        };
        let places = Protocol::named(protocol).unwrap().text;
        let end = listen(&mut &body[..], places, &COMPLETION, &mut hear);
        end.map(|()| text).map_err(|failure| failure.reason)
    }

    #[test]
    fn events_lines_and_single_values_are_read() {
        let events = b"event: x\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n: ping\n\ndata: \
            {\"choices\":[{\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n";
        assert_eq!(heard("openai", events), Ok("ab…".into()));
        let lines = b"{\"response\":\"a\"}\n{\"response\":\"b\",\"done\":true}\n";
        assert_eq!(heard("ollama", lines), Ok("ab".into()));
        let value = b"{\n  \"choices\": [\n    {\n      \"text\": \"a\"\n    }\n  ]\n}";
        assert_eq!(heard("tabby", value), Ok("a".into()));
        let infill = b"data: {\"content\":\"a\"}\n\ndata: {\"content\":\"\",\"stop\":true}\n\n";
        assert_eq!(heard("llama.cpp", infill), Ok("a".into()));
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let deep = "[".repeat(100_000);
        for (body, words) in [
            (&b"<!DOCTYPE html>\n<p>hi"[..], "a web page"),
            (b"hello", "no JSON: hello"),
            (b"data: {\"choices\"", "no JSON"),
            (b"data: \xff\xfe\n", "no UTF-8"),
            (b"", "not in this protocol"),
            (b"{}", "not in this protocol"),
            (b"{\"choices\":[{\"text\":7}]}", "not in this protocol"),
            (b"data: {\"error\":{\"message\":\"out\\nof luck\"}}\n", "says: out of luck"),
            (b"error: {\"error\":\"x\"}\n", "says: x"),
            (deep.as_bytes(), "no JSON"),
        ] {
            let told = heard("openai", body).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn more_text_than_anybody_wants_is_not_read() {
        let event = "data: {\"choices\":[{\"text\":\"0123456789\"}]}\n\n";
        let text = heard("openai", event.repeat(9_000).as_bytes()).unwrap();
        assert!(text.len() < COMPLETION.most_text + 20 && text.ends_with('…'), "{}", text.len());
        // Nor is a value that never ends tried again and again.
        let endless = format!("{{\"a\":\"{}", "\n}".repeat(100_000));
        assert!(heard("openai", endless.as_bytes()).unwrap_err().contains("no JSON"));
    }
}
