//! What lies at a name: the files of a repository of a hub that make a model, or one file at an address.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Client, RemoteFile, megabytes, refusal};
use crate::model::split::{SplitName, title};

/// The files that make a model.
#[derive(Debug)]
pub struct Listing {
    /// What to call the model.
    pub name: String,
    /// A folder's name that no other listing has.
    pub key: String,
    /// The files, the smallest first that say what the rest is.
    pub files: Vec<RemoteFile>,
}

impl Listing {
    /// Bytes of all files, as far as they are known.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.size).sum()
    }
}

impl Client {
    /// Lists what is behind `ORG/NAME`, `ORG/NAME/FILE` or the address of a file.
    ///
    /// # Errors
    /// No such name, no model there or several, no connection.
    pub fn list(&self, what: &str) -> Result<Listing> {
        if what.starts_with("http://") || what.starts_with("https://") {
            return match self.in_repository(what) {
                Some(inside) => self.list(&inside),
                None => self.one_file(what),
            };
        }
        let mut parts = what.trim_matches('/').splitn(3, '/');
        let (Some(org), Some(name), file) = (parts.next(), parts.next(), parts.next()) else {
            bail!(
                "{what:?} names no model: give ORG/NAME, ORG/NAME/FILE, or the address of a GGUF file"
            );
        };
        let is_plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(known) && !part.starts_with('.')
        };
        if ![org, name].into_iter().chain(file.iter().flat_map(|f| f.split('/'))).all(is_plain) {
            bail!("{what:?} names no model: a name has letters, digits, '-', '_' and '.'");
        }
        let url = format!("{}/api/models/{org}/{name}/revision/main?blobs=true", self.endpoint);
        let mut response = self.get(&url).call().with_context(|| unreachable_text(&url))?;
        if let Some(text) = refusal(response.status().as_u16(), &url) {
            bail!("{text}");
        }
        let text = response.body_mut().read_to_string().with_context(|| unreachable_text(&url))?;
        let list: Value = serde_json::from_str(&text)
            .with_context(|| format!("{url} answers with something else than a list of files"))?;
        let revision = list["sha"].as_str().unwrap_or("main").to_string();
        let all: Vec<RemoteFile> = list["siblings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry["rfilename"].as_str().filter(|p| p.split('/').all(is_plain))?;
                let url = format!("{}/{org}/{name}/resolve/{revision}/{path}", self.endpoint);
                let sha256 = entry["lfs"]["sha256"].as_str().map(String::from);
                let size = entry["lfs"]["size"].as_u64().or(entry["size"].as_u64());
                Some(RemoteFile { name: path.into(), url, size, sha256 })
            })
            .collect();
        let (title, files) = chosen(what, name, file, all)?;
        let key = format!("{org}--{title}--{}", &revision[..revision.len().min(12)]);
        Ok(Listing { name: title, key, files })
    }

    /// `ORG/NAME/FILE` of an address within this hub.
    fn in_repository(&self, url: &str) -> Option<String> {
        let path = url.strip_prefix(&self.endpoint)?.strip_prefix('/')?;
        let path = path.split(['?', '#']).next()?;
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            [org, name] => Some(format!("{org}/{name}")),
            [org, name, "resolve" | "blob", _, ..] if parts.len() > 4 => {
                Some(format!("{org}/{name}/{}", parts[4..].join("/")))
            }
            _ => None,
        }
    }

    /// A file at an address of its own, with the other parts beside it if it is one.
    fn one_file(&self, url: &str) -> Result<Listing> {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let name = path.rsplit('/').next().unwrap_or_default();
        if !name.ends_with(".gguf") || title(name).is_empty() {
            bail!(
                "{url} is no address of a GGUF file; give one, or the ORG/NAME of a model with several files"
            );
        }
        let (before, after) = (&path[..path.len() - name.len()], &url[path.len()..]);
        let names = SplitName::parse(name).map(|part| part.all().collect());
        let names: Vec<String> = names.unwrap_or_else(|| vec![name.into()]);
        let files = names.iter().map(|name| self.file_at(&format!("{before}{name}{after}"), name));
        let files = files.collect::<Result<_>>()?;
        let known = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let key: String = path.chars().map(known).collect();
        let key = key[key.len().saturating_sub(120)..].to_string();
        Ok(Listing { name: title(name).into(), key, files })
    }

    /// What is known of a file before it is here. Hubs say its checksum before they lead elsewhere.
    fn file_at(&self, url: &str, name: &str) -> Result<RemoteFile> {
        let request = self.agent.head(url).config().max_redirects(0);
        let response = request.max_redirects_will_error(false).build().call();
        let response = response.with_context(|| unreachable_text(url))?;
        // Some servers know no HEAD: then nothing is known before.
        if let Some(text) = refusal(response.status().as_u16(), url)
            && response.status() == 404
        {
            bail!("{text}");
        }
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.trim_matches('"').to_string())
        };
        let is_sum = |sum: &String| sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit());
        let is_here = response.status() == 200;
        let size = header("x-linked-size").or(header("content-length").filter(|_| is_here));
        Ok(RemoteFile {
            name: name.into(),
            url: url.into(),
            size: size.and_then(|size| size.parse().ok()),
            sha256: header("x-linked-etag").filter(is_sum),
        })
    }
}

pub(super) fn unreachable_text(url: &str) -> String {
    format!(
        "{url} cannot be reached; see that there is a network, or name another hub by HF_ENDPOINT"
    )
}

/// What a model directory needs, beside its weights.
const SMALL: [&str; 4] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/// What to call the model, and the files of a repository that make it.
fn chosen(
    what: &str,
    name: &str,
    file: Option<&str>,
    all: Vec<RemoteFile>,
) -> Result<(String, Vec<RemoteFile>)> {
    // Of a model in parts, the first.
    let begins = |name: &str| SplitName::parse(name).is_none_or(|part| part.number == 1);
    let is_gguf = |file: &&RemoteFile| file.name.ends_with(".gguf") && begins(&file.name);
    let ggufs: Vec<&RemoteFile> = all.iter().filter(is_gguf).collect();
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_string();
    let one = |found: &RemoteFile| {
        let parts = SplitName::parse(&found.name).map(|part| part.all().collect());
        let parts: Vec<String> = parts.unwrap_or_else(|| vec![found.name.clone()]);
        let files = parts.iter().map(|part| match all.iter().find(|file| file.name == *part) {
            Some(file) => Ok(RemoteFile { name: last(part), ..file.clone() }),
            None => bail!("{what}: {part} is missing there, which is a part of the model"),
        });
        Ok((title(&last(&found.name)).to_string(), files.collect::<Result<Vec<_>>>()?))
    };
    let list = || {
        let each = ggufs.iter().take(12).map(|file| match file.size {
            Some(size) => format!("{} ({})", file.name, megabytes(size)),
            None => file.name.clone(),
        });
        each.collect::<Vec<_>>().join(", ")
    };
    if let Some(file) = file {
        return match all.iter().find(|found| found.name == file && file.ends_with(".gguf")) {
            Some(found) => one(found),
            None if ggufs.is_empty() => bail!("{what}: there is no GGUF file; give ORG/NAME alone"),
            None => bail!("{what}: there is no such GGUF file; there are: {}", list()),
        };
    }
    let has = |name: &str| all.iter().any(|file| file.name == name);
    let is_weights =
        |file: &&RemoteFile| file.name.ends_with(".safetensors") && !file.name.contains('/');
    if has("config.json") && has("tokenizer.json") && all.iter().any(|file| is_weights(&file)) {
        // Some repositories hold the same weights once more under another name.
        let is_usual = |file: &&RemoteFile| is_weights(file) && file.name.starts_with("model");
        let usual = all.iter().any(|file| is_usual(&file));
        let small = SMALL.iter().filter_map(|name| all.iter().find(|file| file.name == *name));
        let weights = all.iter().filter(|f| if usual { is_usual(f) } else { is_weights(f) });
        return Ok((name.to_string(), small.chain(weights).cloned().collect()));
    }
    match ggufs[..] {
        [found] => one(found),
        [] => bail!(
            "{what} holds neither *.safetensors with config.json and tokenizer.json nor a GGUF file; models in \
             other formats have to be converted first"
        ),
        _ => bail!("{what} holds several models; name one as ORG/NAME/FILE: {}", list()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<RemoteFile> {
        let file = |name: &&str| RemoteFile {
            name: name.to_string(),
            url: String::new(),
            size: Some(5_000_000),
            sha256: None,
        };
        names.iter().map(file).collect()
    }

    #[track_caller]
    fn check(names: &[&str], file: Option<&str>, expected: Result<(&str, &[&str]), &str>) {
        match (chosen("o/n", "n", file, files(names)), expected) {
            (Ok((name, files)), Ok((wanted, wanted_files))) => {
                assert_eq!(name, wanted);
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                assert_eq!(names, wanted_files);
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn the_files_that_make_a_model_are_chosen() {
        let whole = ["README.md", "config.json", "tokenizer.json", "model-1.safetensors"];
        let both = [&whole[..], &["consolidated.safetensors", "x.gguf"]].concat();
        let wanted = ["config.json", "tokenizer.json", "model-1.safetensors"];
        check(&whole, None, Ok(("n", &wanted)));
        check(&both, None, Ok(("n", &wanted)));
        check(&both, Some("x.gguf"), Ok(("x", &["x.gguf"])));
        check(&["q4/a.gguf"], None, Ok(("a", &["a.gguf"])));
        let parts = ["q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf"];
        let wanted = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"];
        check(&parts, None, Ok(("a", &wanted)));
        check(&[&parts[..], &["b.gguf"]].concat(), Some(parts[1]), Ok(("a", &wanted)));
        check(&parts[..1], None, Err("q/a-00002-of-00002.gguf is missing there"));
        check(&["a.gguf", "b.gguf"], None, Err("a.gguf (5.0 MB), b.gguf (5.0 MB)"));
        check(&["a.gguf", "b.gguf"], Some("c.gguf"), Err("there are: a.gguf"));
        check(&["config.json", "pytorch_model.bin"], None, Err("converted"));
    }

    #[test]
    fn an_address_within_the_hub_is_a_name() {
        let client = Client::new("https://hub/", None);
        for (url, name) in [
            ("https://hub/o/n", Some("o/n")),
            ("https://hub/o/n/resolve/main/q/a.gguf?download=true", Some("o/n/q/a.gguf")),
            ("https://hub/o/n/blob/main/a.gguf", Some("o/n/a.gguf")),
            ("https://hubs/o/n", None),
            ("https://elsewhere/a.gguf", None),
        ] {
            assert_eq!(client.in_repository(url).as_deref(), name, "{url}");
        }
    }
}
