//! Where a remote model is asked and how, checked before anything is sent.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

/// The protocols in which a remote model can be asked; the first is the default.
pub const PROTOCOLS: [&str; 5] = ["openai", "chat", "llama.cpp", "ollama", "tabby"];

/// The environment variable that holds the key if no other is named.
pub const KEY_VARIABLE: &str = "NESTLING_REMOTE_KEY";

/// A server that completes code, without its key: that is only ever in the environment or the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `http://` or `https://`, a host, perhaps a port and a path; without a slash at the end.
    pub url: String,
    /// One of [`PROTOCOLS`].
    pub protocol: &'static str,
    /// The name of the model there; empty if the server has only one.
    pub model: String,
    /// The environment variable that holds the key.
    pub key_variable: String,
    /// The family whose markers the prompt is made with, for servers that do not know a suffix; else empty.
    pub markers: String,
}

impl Remote {
    /// The server at this address, asked in the first of the protocols.
    ///
    /// # Errors
    /// What is wrong with the address, in words that complete "url …" and without it: it may hold a password.
    pub fn at(url: &str) -> Result<Remote, String> {
        let url = url.trim();
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let rest = rest.ok_or("must begin with http:// or https://")?.trim_end_matches('/');
        if url.contains('@') {
            return Err(
                "must not hold a name or password; put the key into the environment or the keyring"
                    .into(),
            );
        }
        if url.contains(['?', '#']) {
            return Err("must end with its path, without ? or #".into());
        }
        let authority = rest.split('/').next().unwrap_or("");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let is_path = rest.chars().all(|c| c.is_ascii_graphic() && c != '\\');
        if authority.is_empty() || !authority.chars().all(is_plain) || !is_path {
            return Err("names no host; write it like https://host:8000".into());
        }
        Ok(Remote {
            url: url.trim_end_matches('/').into(),
            protocol: PROTOCOLS[0],
            model: String::new(),
            key_variable: KEY_VARIABLE.into(),
            markers: String::new(),
        })
    }

    /// Asks in another protocol.
    ///
    /// # Errors
    /// A protocol that is not known, in words that complete "protocol …".
    pub fn with_protocol(mut self, name: &str) -> Result<Remote, String> {
        let known = PROTOCOLS.iter().find(|known| **known == name);
        self.protocol = known.ok_or(format!("must be one of {}", PROTOCOLS.join(", ")))?;
        Ok(self)
    }

    /// Names the environment variable that holds the key.
    ///
    /// # Errors
    /// What is no name, and may be the key itself, in words that complete "keyVariable …" and without it.
    pub fn with_key_variable(mut self, name: &str) -> Result<Remote, String> {
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| !c.is_ascii_digit());
        if !is_name {
            return Err("must be the name of an environment variable, not the key itself".into());
        }
        self.key_variable = name.into();
        Ok(self)
    }

    /// Reads the settings; an empty object, or none with a `url`, is no remote model.
    ///
    /// # Errors
    /// What is wrong, in a sentence that begins with the name of the setting and never shows a value: it may be a key.
    pub(super) fn from_json(settings: &Map<String, Value>) -> Result<Option<Remote>, String> {
        const KEYS: [&str; 5] = ["url", "protocol", "model", "keyVariable", "markers"];
        for (name, value) in settings {
            let lower = name.to_lowercase();
            let is_secret = ["key", "token", "password", "secret", "authorization"];
            if KEYS.contains(&name.as_str()) {
                if !value.is_string() {
                    return Err(format!("{name} must be a text"));
                }
            } else if is_secret.iter().any(|word| lower.contains(word)) {
                return Err(format!(
                    "{name} is refused, since settings are no place for a key: put it into an environment variable \
                     and name that in keyVariable"
                ));
            } else {
                return Err(format!("{name} is not known; there are {}", KEYS.join(", ")));
            }
        }
        let text = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or("").trim();
        if text("url").is_empty() {
            return Ok(None);
        }
        let mut remote = Remote::at(text("url")).map_err(|reason| format!("url {reason}"))?;
        if !text("protocol").is_empty() {
            let told = remote.with_protocol(text("protocol"));
            remote = told.map_err(|reason| format!("protocol {reason}"))?;
        }
        if !text("keyVariable").is_empty() {
            let told = remote.with_key_variable(text("keyVariable"));
            remote = told.map_err(|reason| format!("keyVariable {reason}"))?;
        }
        (remote.model, remote.markers) = (text("model").into(), text("markers").into());
        Ok(Some(remote))
    }

    /// The address without its path: scheme, host and port. What the user allows is such an origin.
    pub fn origin(&self) -> &str {
        let from = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[from..].find('/').map_or(self.url.len(), |at| from + at);
        &self.url[..end]
    }

    /// Whether the server is on this machine: what is sent there does not leave it.
    pub fn is_local(&self) -> bool {
        let authority = self.origin().split("://").nth(1).unwrap_or("");
        let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None => authority.split(':').next().unwrap_or(""),
        };
        host == "localhost"
            || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(settings: Value) -> Result<Option<Remote>, String> {
        Remote::from_json(settings.as_object().expect("an object"))
    }

    #[test]
    fn a_server_is_read_with_its_defaults() {
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({"protocol": "ollama"})), Ok(None));
        let remote = read(json!({"url": "https://host:8000/api/"})).unwrap().unwrap();
        assert_eq!((remote.url.as_str(), remote.protocol), ("https://host:8000/api", "openai"));
        assert_eq!(
            (remote.origin(), remote.key_variable.as_str()),
            ("https://host:8000", KEY_VARIABLE)
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_what_may_be_a_key() {
        let secret = "sk-0123456789abcdef";
        for (settings, words) in [
            (json!({"url": "host:80"}), "url must begin with http"),
            (json!({"url": format!("https://u:{secret}@host")}), "url must not hold"),
            (json!({"url": format!("https://host/?key={secret}")}), "without ?"),
            (json!({"url": "http://"}), "names no host"),
            (json!({"url": "http://h", "apiKey": secret}), "no place for a key"),
            (json!({"url": "http://h", "keyVariable": secret}), "not the key itself"),
            (json!({"url": "http://h", "protocol": secret}), "one of openai, chat"),
            (json!({"url": "http://h", "modle": secret}), "modle is not known"),
            (json!({"url": "http://h", "model": 1}), "model must be a text"),
        ] {
            let told = read(settings).unwrap_err();
            assert!(told.contains(words) && !told.contains(secret), "{told}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for (url, local) in [
            ("http://localhost:1", true),
            ("http://127.3.2.1/x", true),
            ("http://[::1]:80", true),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("http://[2001:db8::1]", false),
        ] {
            assert_eq!(Remote::at(url).unwrap().is_local(), local, "{url}");
        }
    }
}
