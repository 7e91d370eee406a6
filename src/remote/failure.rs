//! What went wrong with a remote model, in one sentence with the way out.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::http::{CONNECT, Limits};
use super::protocol::error_in;

/// A failure, for the status and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// A sentence about the server, which is put before it.
    pub(super) reason: String,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// What is known of the question that failed.
pub(super) struct Asked<'a> {
    /// The server's scheme, host and port.
    pub(super) origin: &'a str,
    /// The path it went to.
    pub(super) path: &'a str,
    /// The environment variable in which a key was found, or should be.
    pub(super) variable: &'a str,
    /// Whether one was.
    pub(super) has_key: bool,
}

/// Words of a server that are shown at most.
const MOST_WORDS: usize = 160;
/// A server that asks for more is asked again earlier.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), retry_after: None }
    }

    /// An answer with a status that is no success, and the beginning of its body.
    pub(super) fn of_status(
        status: u16,
        retry_after: Option<&str>,
        body: &[u8],
        asked: &Asked<'_>,
    ) -> Failure {
        let Asked { origin, path, variable, has_key } = *asked;
        let reason = match status {
            // Some servers say the wrong key again: nothing of their answer is shown.
            401 | 403 if has_key => {
                format!(
                    "refuses the key ({status}): put a valid one into the environment variable {variable}, or into the \
                     keyring by `nestling remote login {origin}`"
                )
            }
            401 | 403 => format!(
                "wants a key ({status}): put it into the environment variable {variable}, which the program sees when \
                 the editor is started anew, or into the keyring by `nestling remote login {origin}`"
            ),
            300..=399 => {
                format!("sends elsewhere ({status}): write the address of the server itself")
            }
            404 | 405 => format!(
                "has no {path} ({status}): is the protocol right, and the path in the address?"
            ),
            407 => {
                "is behind a proxy that wants a name and password (407): put them into HTTPS_PROXY"
                    .into()
            }
            429 => "has too much to do (429): it is left alone for a while".into(),
            _ => format!("answers {status}: {}", words(body)),
        };
        let seconds = retry_after.and_then(|text| text.trim().parse().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        Failure { reason, retry_after }
    }

    /// What the server said in place of an answer.
    pub(super) fn said(value: &Value) -> Failure {
        Failure::new(format!("says: {}", shown(error_in(value).unwrap_or("an error"))))
    }

    /// An answer that cannot be read as one.
    pub(super) fn unreadable(line: &str) -> Failure {
        Failure::new(match line.trim_start().starts_with('<') {
            true => {
                "answers with a web page: is the address right, or is it that of a login or proxy?"
                    .into()
            }
            false => format!("answers with what is no JSON: {}", shown(line)),
        })
    }

    /// No answer.
    pub(super) fn of_error(error: &ureq::Error, limits: &Limits) -> Failure {
        use ureq::{Error, Timeout};
        let whole = error.to_string();
        Failure::new(match error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                format!("cannot be reached within {} s: does it run, and is a proxy needed (HTTPS_PROXY)?", CONNECT.as_secs())
            }
            Error::Timeout(Timeout::PerRead) => format!("said nothing for {} s", limits.idle.as_secs()),
            Error::Timeout(_) => format!("did not come to an end within {} s", limits.whole.as_secs()),
            Error::HostNotFound => "is not known: is the name right?".into(),
            Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "refuses the connection: does the server run, and is the port right?".into()
            }
            Error::BodyExceedsLimit(_) => format!("sends more than {} KB: no answer is that long", limits.most_bytes / 1000),
            Error::LargeResponseHeader(..) => "sends more headers than any server should".into(),
            Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
                "cannot be reached through the proxy: is HTTPS_PROXY right, or should NO_PROXY name the host?".into()
            }
            // However it is wrapped, rustls says which of the two it is.
            _ if whole.contains("certificate") => format!(
                "has a certificate that is not accepted ({}): add its authority to those of the system, or name its \
                 file in SSL_CERT_FILE",
                shown(&whole)
            ),
            Error::Rustls(_) | Error::Tls(_) => format!("speaks no TLS ({}): is it http://?", shown(&whole)),
            _ if whole.contains("InvalidContentType") => "speaks no TLS: is it http://?".into(),
            Error::Protocol(_) => format!("does not speak HTTP as it should ({})", shown(&whole)),
            _ => format!("broke the connection off ({})", shown(&whole)),
        })
    }
}

/// What a body says of an error.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        return "a web page, not an answer; is the address right?".into();
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => shown(error_in(&value).unwrap_or(&text)),
        Err(_) => shown(&text),
    }
}

/// Somebody else's words: on one line, and not too many.
fn shown(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "nothing".into(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str, has_key: bool) -> String {
        let (origin, path, variable) = ("http://h", "/infill", "KEY_OF_MINE");
        let asked = Asked { origin, path, variable, has_key };
        Failure::of_status(status, None, body.as_bytes(), &asked).reason
    }

    #[test]
    fn each_status_names_the_way_out() {
        for (status, body, has_key, words) in [
            (
                401,
                r#"{"error":{"message":"bad key sk-1"}}"#,
                true,
                "put a valid one into the environment variable KEY_OF_MINE",
            ),
            (403, "", false, "put it into the environment variable KEY_OF_MINE"),
            (404, "<html>", true, "has no /infill (404): is the protocol right"),
            (302, "", true, "write the address of the server itself"),
            (
                400,
                r#"{"error":{"message":"suffix is not\n supported"}}"#,
                true,
                "400: suffix is not supported",
            ),
            (502, "<html>bad gateway", true, "502: a web page"),
            (500, r#"{"detail":"x"}"#, true, "500: x"),
            (500, "\u{1b}[2J", true, "500: [2J"),
        ] {
            let told = told(status, body, has_key);
            assert!(told.contains(words) && !told.contains("sk-1"), "{told}");
        }
        assert!(told(500, &"x".repeat(9999), true).len() < 300);
    }

    #[test]
    fn the_time_to_wait_is_the_servers_but_not_for_ever() {
        let asked = Asked { origin: "http://h", path: "/", variable: "K", has_key: true };
        let wait = |header| Failure::of_status(429, header, b"", &asked).retry_after;
        assert_eq!(wait(Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(wait(Some("99999999")), Some(LONGEST_WAIT));
        assert_eq!((wait(Some("soon")), wait(None)), (None, None));
    }
}
