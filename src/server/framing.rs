//! Cuts the incoming bytes into messages, and finds the way back after bytes that are none.
//! The protocol library's own reader ends the connection at the first broken frame; this one must not.

use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

const MARK: &[u8] = b"content-length:";
const HEADER_END: &[u8] = b"\r\n\r\n";
const MAX_HEADER_BYTES: usize = 4096;
/// The largest body: a 50 MB text with every character escaped.
const MAX_BODY_BYTES: usize = 320_000_000;
const CHUNK_BYTES: usize = 64 * 1024;

/// Why some bytes were not a message.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum FrameError {
    /// No usable `Content-Length` where a header should be.
    #[error("broken header: {0}")]
    Header(&'static str),
    /// The body is not JSON.
    #[error("broken body: {0}")]
    Json(String),
}

/// Reads messages from a stream.
pub(super) struct FrameReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// What lies before it in `buffer` is done with.
    start: usize,
    /// The last bytes were broken: what has no header is the rest of them, and no second error.
    is_lost: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(input: R) -> FrameReader<R> {
        FrameReader { input, buffer: Vec::new(), start: 0, is_lost: false }
    }

    /// The next message or error; `None` at the end of the stream. Each run of broken bytes gives
    /// one error. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Result<Value, FrameError>> {
        loop {
            let wanted = match scan(&self.buffer[self.start..]) {
                Scan::Message { bytes, message } => {
                    self.start += bytes;
                    self.is_lost = false;
                    return Some(Ok(message));
                }
                Scan::Broken { bytes, error } => {
                    self.start += bytes;
                    let was_lost = std::mem::replace(&mut self.is_lost, true);
                    if was_lost && matches!(error, FrameError::Header(_)) {
                        continue;
                    }
                    return Some(Err(error));
                }
                Scan::Incomplete { bytes } => bytes,
            };
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > 16 * CHUNK_BYTES {
                self.buffer = Vec::new();
            }
            // The length is a claim: memory is taken as bytes arrive, not before.
            self.buffer.reserve(wanted.clamp(CHUNK_BYTES, 16 * CHUNK_BYTES));
            match self.input.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// What the first bytes of a buffer are.
#[derive(Debug)]
enum Scan {
    Message {
        bytes: usize,
        message: Value,
    },
    Broken {
        bytes: usize,
        error: FrameError,
    },
    /// About this many more are needed.
    Incomplete {
        bytes: usize,
    },
}

fn scan(input: &[u8]) -> Scan {
    let blank = input.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let input = &input[blank..];
    let broken =
        |bytes, text| Scan::Broken { bytes: blank + bytes, error: FrameError::Header(text) };

    let Some(header_len) = find(&input[..input.len().min(MAX_HEADER_BYTES)], HEADER_END) else {
        if input.len() < MAX_HEADER_BYTES {
            return Scan::Incomplete { bytes: CHUNK_BYTES };
        }
        // The last bytes may be the beginning of a header.
        let next = find_mark(&input[1..]).map_or(input.len() - MARK.len(), |at| at + 1);
        return broken(next, "no end within 4096 bytes");
    };
    let header = &input[..header_len];
    let after_header = header_len + HEADER_END.len();
    let Some(mark) = header.windows(MARK.len()).rposition(|bytes| bytes.eq_ignore_ascii_case(MARK))
    else {
        return broken(after_header, "no Content-Length");
    };
    if !are_header_lines(&header[..mark]) {
        return broken(mark, "bytes before Content-Length");
    }
    let Some(body_len) = parse_length(&header[mark + MARK.len()..]) else {
        return broken(after_header, "Content-Length is not a usable number");
    };
    let Some(body) = input[after_header..].get(..body_len) else {
        return Scan::Incomplete { bytes: after_header + body_len - input.len() };
    };
    let end = after_header + body_len;
    if !is_utf8_charset(header) {
        return broken(end, "the charset is not UTF-8");
    }
    match serde_json::from_slice(body) {
        Ok(message) => Scan::Message { bytes: blank + end, message },
        Err(error) => Scan::Broken {
            // With a length that was too large, the next message's header is inside this body.
            bytes: blank
                + after_header
                + swallowed_header(&input[after_header..], body_len).unwrap_or(body_len),
            error: FrameError::Json(error.to_string()),
        },
    }
}

/// Where a whole header begins within the first `body_len` bytes. JSON never contains one: raw line
/// ends are not allowed in its strings.
fn swallowed_header(input: &[u8], body_len: usize) -> Option<usize> {
    let mut from = 0;
    while let Some(mark) = find_mark(&input[from..]).map(|at| from + at).filter(|at| *at < body_len)
    {
        let line = &input[mark + MARK.len()..];
        let line_end = find(&line[..line.len().min(32)], b"\r\n");
        if line_end.is_some_and(|end| parse_length(&line[..end]).is_some()) {
            return Some(mark);
        }
        from = mark + 1;
    }
    None
}

fn are_header_lines(bytes: &[u8]) -> bool {
    let is_name = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    let is_line = |line: &[u8]| {
        line.iter().position(|byte| *byte == b':').is_some_and(|colon| is_name(&line[..colon]))
    };
    match bytes.strip_suffix(b"\r\n") {
        Some(lines) => lines.split(|byte| *byte == b'\n').all(is_line),
        None => bytes.is_empty(),
    }
}

/// The number up to the end of the line.
fn parse_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let length: usize = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    (length <= MAX_BODY_BYTES).then_some(length)
}

fn is_utf8_charset(header: &[u8]) -> bool {
    let header = String::from_utf8_lossy(header).to_ascii_lowercase();
    let Some((_, charset)) = header.split_once("charset=") else { return true };
    let charset = charset.split([';', '\r']).next().unwrap_or("").trim().trim_matches('"');
    matches!(charset, "utf-8" | "utf8")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|bytes| bytes == needle)
}

fn find_mark(haystack: &[u8]) -> Option<usize> {
    haystack.windows(MARK.len()).position(|bytes| bytes.eq_ignore_ascii_case(MARK))
}

/// A message with its header.
pub(super) fn frame(message: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let mut bytes = format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Reads everything; messages as their text, errors as `!`.
    fn read(input: &[u8]) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut reader = FrameReader::new(input);
            let mut messages = Vec::new();
            while let Some(message) = reader.next().await {
                messages.push(message.map_or_else(|_| "!".into(), |message| message.to_string()));
            }
            messages
        })
    }

    const ONE: &str = "Content-Length: 1\r\n\r\n1";
    const TWO: &str = "Content-Length: 1\r\n\r\n2";

    #[track_caller]
    fn check(broken: &str, expected: &[&str]) {
        assert_eq!(read(format!("{ONE}{broken}{TWO}").as_bytes()), expected, "{broken:?}");
    }

    #[test]
    fn whole_frames_are_read() {
        check("", &["1", "2"]);
        check("content-length:  3 \r\n\r\n\"a\"", &["1", "\"a\"", "2"]);
        let typed = "Content-Type: application/vscode-jsonrpc; charset=utf-8";
        check(&format!("{typed}\r\nContent-Length: 1\r\n\r\n3"), &["1", "3", "2"]);
        check(&format!("Content-Length: 1\r\n{typed}\r\n\r\n3"), &["1", "3", "2"]);
    }

    #[test]
    fn after_broken_bytes_the_next_message_is_read() {
        check("Content-Length: 3\r\n\r\n{1}", &["1", "!", "2"]);
        check("Content-Length: x\r\n\r\n{\"a\": 1}", &["1", "!", "2"]);
        check("Content-Length: 99999999999999999999\r\n\r\n{}", &["1", "!", "2"]);
        check("Content-Length: -1\r\n\r\n{}", &["1", "!", "2"]);
        check("X: 1\r\n\r\n{}", &["1", "!", "2"]);
        check("hello\r\n\r\n", &["1", "!", "2"]);
        check("hello ", &["1", "!", "2"]);
        check("Content-Type: x; charset=latin1\r\nContent-Length: 1\r\n\r\n3", &["1", "!", "2"]);
        check(&"x".repeat(10_000), &["1", "!", "2"]);
    }

    #[test]
    fn a_wrong_length_costs_one_message() {
        check("Content-Length: 2\r\n\r\n{\"a\": 1}", &["1", "!", "2"]);
        check("Content-Length: 12\r\n\r\n{\"a\": 1}", &["1", "!", "2"]);
        check("Content-Length: 30\r\n\r\n{\"a\": 1}", &["1", "!", "2"]);
        check("Content-Length: 3\r\n\r\n{1}Content-Length: 3\r\n\r\n{1}", &["1", "!", "!", "2"]);
    }

    #[test]
    fn an_unfinished_frame_ends_with_the_stream() {
        assert_eq!(read(b"Content-Length: 10\r\n\r\n{"), Vec::<String>::new());
        assert_eq!(read(b"Content-Le"), Vec::<String>::new());
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let body = "[".repeat(100_000);
        check(&format!("Content-Length: {}\r\n\r\n{body}", body.len()), &["1", "!", "2"]);
    }

    proptest! {
        #[test]
        fn any_bytes_between_messages_leave_the_last_one_readable(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut input = bytes;
            // More than any header may be, so that even an unfinished one is over.
            input.extend([b' '; MAX_HEADER_BYTES]);
            for _ in 0..3 {
                input.extend(frame(&json!({"last": true})).expect("valid JSON"));
            }
            let last = json!({"last": true}).to_string();
            let messages = read(&input);
            prop_assert_eq!(messages.last(), Some(&last));
        }
    }
}
