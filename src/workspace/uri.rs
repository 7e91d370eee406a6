//! From a `file:` URI to a path.
//! Editors escape differently (`%20`, `c%3A`), so the bytes are decoded before they are judged.

use std::path::{Path, PathBuf};

/// The path that a `file:` URI names; `None` for every other scheme and for a broken escape.
///
/// A host part is dropped. On Windows the slash before a drive letter is dropped too.
pub fn path_of_uri(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = &rest[rest.find('/')?..];
    let path = decode(path)?;
    let bytes = path.as_bytes();
    let has_drive = bytes.len() > 2 && bytes[1].is_ascii_alphabetic() && bytes[2] == b':';
    let path = if cfg!(windows) && has_drive { &path[1..] } else { &path };
    Some(PathBuf::from(path))
}

/// The `file:` URI of a path.
pub fn uri_of_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text =
        if cfg!(windows) { format!("/{}", text.replace('\\', "/")) } else { text.into_owned() };
    let mut uri = String::from("file://");
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(byte as char)
            }
            _ => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

/// Undoes percent-encoding; `None` when an escape is incomplete or the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = (bytes.next()? as char).to_digit(16)?;
        let low = (bytes.next()? as char).to_digit(16)?;
        decoded.push((high * 16 + low) as u8);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded() {
        let path = path_of_uri("file:///home/a%20b/caf%C3%A9.rs");
        assert_eq!(path, Some(PathBuf::from("/home/a b/café.rs")));
        assert_eq!(uri_of_path(&path.unwrap()), "file:///home/a%20b/caf%C3%A9.rs");
    }

    #[test]
    fn what_is_no_file_has_no_path() {
        for uri in ["untitled:Untitled-1", "file://", "file:///a%2", "file:///%ff", ""] {
            assert_eq!(path_of_uri(uri), None, "{uri}");
        }
    }
}
