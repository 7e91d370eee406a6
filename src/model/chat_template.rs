//! The chat template that comes with a model: a program in Jinja that puts a talk into the form which the model was
//! trained on. It is only found here; `chat` runs it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::gguf::{self, Gguf};
use super::weights::{LoadError, Weights};

/// A template as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplate {
    /// The file that holds it.
    pub place: String,
    /// Its text.
    pub source: String,
    /// What it knows as `bos_token`; empty if the model has none.
    pub bos: String,
    /// What it knows as `eos_token`; empty if the model has none.
    pub eos: String,
}

/// The template's file beside weights, as newer versions of Transformers write it; it counts before the other.
const FILE: &str = "chat_template.jinja";
/// Where older ones keep it, and the special tokens.
const CONFIG: &str = "tokenizer_config.json";
/// Of several templates, the one for talks without tools or documents.
const DEFAULT: &str = "default";

impl Weights {
    /// The template that came with the weights; `None` for models that were not trained to talk.
    ///
    /// # Errors
    /// A file that should hold it cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, LoadError> {
        match self.metadata() {
            Some(metadata) => Ok(in_gguf(metadata, self.path())),
            None => beside(self.path()),
        }
    }
}

/// The texts that begin and end a document, as the files in a model directory name them; empty where they do not.
///
/// # Errors
/// A file that should hold them cannot be read.
pub(super) fn bos_and_eos(folder: &Path) -> Result<[String; 2], LoadError> {
    let config = config(&folder.join(CONFIG))?;
    Ok(["bos_token", "eos_token"].map(|name| token(&config, name)))
}

fn in_gguf(metadata: &Gguf, path: &Path) -> Option<ChatTemplate> {
    let token = |name: &str| {
        let id = metadata.size(&format!("tokenizer.ggml.{name}_token_id")).ok()?;
        match metadata.metadata.get("tokenizer.ggml.tokens")? {
            gguf::Value::List(tokens) => match tokens.get(id)? {
                gguf::Value::Text(text) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        }
    };
    Some(ChatTemplate {
        place: path.display().to_string(),
        source: metadata.text("tokenizer.chat_template").ok()?.into(),
        bos: token("bos").unwrap_or_default(),
        eos: token("eos").unwrap_or_default(),
    })
}

fn beside(folder: &Path) -> Result<Option<ChatTemplate>, LoadError> {
    let config_file = folder.join(CONFIG);
    let config = config(&config_file)?;
    let file = folder.join(FILE);
    let (place, source) = match read(&file)? {
        Some(source) => (file, Some(source)),
        None => (config_file, chosen(&config["chat_template"])),
    };
    Ok(source.map(|source| ChatTemplate {
        place: place.display().to_string(),
        source,
        bos: token(&config, "bos_token"),
        eos: token(&config, "eos_token"),
    }))
}

fn config(file: &Path) -> Result<Value, LoadError> {
    let Some(json) = read(file)? else { return Ok(Value::Null) };
    let config = serde_json::from_str(&json);
    config.map_err(|e| LoadError::new(file, format!("no JSON: {e}; copy it again")))
}

/// A token is its text, or an object with that.
fn token(config: &Value, name: &str) -> String {
    let value = &config[name];
    let text = value.as_str().or_else(|| value["content"].as_str());
    text.unwrap_or_default().to_string()
}

/// The template, or of a list of named ones the one for plain talks, else the first.
fn chosen(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.into());
    }
    let all = value.as_array()?;
    let one = all.iter().find(|one| one["name"] == DEFAULT).or(all.first())?;
    one["template"].as_str().map(String::from)
}

/// The text of a file; `None` if it is not there.
fn read(file: &Path) -> Result<Option<String>, LoadError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LoadError::new(file, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(files: &[(&str, String)]) -> Result<Option<ChatTemplate>, LoadError> {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        beside(folder.path())
    }

    #[test]
    fn a_template_is_found_where_versions_of_transformers_put_it() {
        assert_eq!(found(&[]).unwrap(), None);
        let plain = json!({ "bos_token": null, "eos_token": { "content": "<e>" } }).to_string();
        assert_eq!(found(&[(CONFIG, plain.clone())]).unwrap(), None);
        let text = json!({ "chat_template": "a", "bos_token": "<b>" }).to_string();
        let one = found(&[(CONFIG, text)]).unwrap().unwrap();
        assert_eq!((&*one.source, &*one.bos, &*one.eos), ("a", "<b>", ""));
        let list = json!({ "chat_template": [
            { "name": "tool_use", "template": "t" }, { "name": "default", "template": "d" },
        ] });
        assert_eq!(found(&[(CONFIG, list.to_string())]).unwrap().unwrap().source, "d");
        let both = found(&[(CONFIG, plain), (FILE, "j".into())]).unwrap().unwrap();
        assert_eq!((&*both.source, &*both.eos), ("j", "<e>"));
        assert!(both.place.ends_with(FILE), "{}", both.place);
        let broken = found(&[(CONFIG, "{".into())]).unwrap_err().to_string();
        assert!(broken.contains("tokenizer_config.json: no JSON"), "{broken}");
    }
}
