//! What must never be learned, indexed or shown: files that hold secrets by name, and texts that hold
//! keys, tokens or passwords by content.

const NAMES: [&str; 8] =
    [".env", ".pem", ".key", ".p12", ".keystore", "id_rsa", "credentials", ".netrc"];

/// Prefixes of keys that services hand out, with the least number of key characters that follow.
const PREFIXES: [(&str, usize); 10] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("sk-proj-", 20),
    ("sk_live_", 20),
];

/// Whether a file of that name is expected to hold secrets.
pub fn is_secret_file(name: &str) -> bool {
    let name = name.to_lowercase();
    NAMES.iter().any(|end| name.ends_with(end)) || name.starts_with(".env.")
}

/// Whether the text holds a private key, a service's key, or a literal password or token that looks
/// random.
pub fn holds_secret(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
        || PREFIXES.iter().any(|&(prefix, least)| {
            text.match_indices(prefix).any(|(at, _)| {
                let rest = &text.as_bytes()[at + prefix.len()..];
                let starts_a_word = at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric();
                let key = rest.iter().take_while(|&&b| b.is_ascii_alphanumeric() || b == b'_');
                let key: Vec<u8> = key.copied().collect();
                starts_a_word && key.len() >= least && looks_random(&key)
            })
        })
        || text.lines().any(assigns_secret)
}

/// `password = "…"` and the like, with a literal that looks random.
fn assigns_secret(line: &str) -> bool {
    const WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "apikey"];
    let Some(quote) = line.find(['"', '\'']) else { return false };
    // Only a line with a long literal is worth lowering.
    let literal = &line.as_bytes()[quote + 1..];
    let end = literal.iter().position(|&b| b == line.as_bytes()[quote]);
    let Some(literal) = end.map(|end| &literal[..end]) else { return false };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-+/=".contains(b);
    if literal.len() < 20 || !literal.iter().all(plain) || !looks_random(literal) {
        return false;
    }
    let name = line[..quote].to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// At least 3.7 bits of entropy per character, with letters and digits mixed.
fn looks_random(key: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    key.iter().for_each(|&b| counts[b as usize] += 1);
    let length = key.len() as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|&&n| n > 0)
        .map(|&n| -(n as f64 / length) * (n as f64 / length).log2())
        .sum();
    let digits = key.iter().filter(|b| b.is_ascii_digit()).count();
    entropy >= 3.7 && digits >= 3 && digits < key.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_seen_and_code_is_not() {
        let random = "Zk3pQ9vX7rT2mW8yL4nB6cF1hJ5dG0sA";
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----".to_string(),
            format!("token = \"ghp_{random}\""),
            "aws = AKIA3XQ7ZP2MK9VB4LTW".to_string(),
            format!("let password = \"{random}\";"),
            format!("  'api_key': '{random}'").replace("'api_key': ", "api_key="),
        ] {
            assert!(holds_secret(&text), "{text}");
        }
        for text in [
            "let token = tokens.next();",
            "password = \"correct horse battery staple\"",
            "const SECRET_NAME: &str = \"application_configuration\";",
            "let digest = \"d41d8cd98f00b204e9800998ecf8427e\";",
            "AKIAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(!holds_secret(text), "{text}");
        }
        assert!(is_secret_file("prod.pem") && is_secret_file(".env.local"));
        assert!(!is_secret_file("environment.rs"));
    }
}
