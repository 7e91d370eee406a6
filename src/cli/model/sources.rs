//! Models that other programs keep on this machine, found by the names they have there: a Hugging Face cache, an
//! Ollama store, llama.cpp's cache. Nothing in them is changed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::model::split::{SplitName, title};

/// A model to import.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// A GGUF file, a model directory or an adapter.
    pub(super) path: PathBuf,
    /// What to call it; `None`: as the file.
    pub(super) name: Option<String>,
}

/// A store: what it is called, where it is, what it has of a name, and what it has at all.
struct Source {
    title: &'static str,
    folder: fn() -> Option<PathBuf>,
    find: fn(&Path, &str) -> Result<Vec<PathBuf>>,
    list: fn(&Path) -> Vec<String>,
}

const SOURCES: [Source; 3] = [
    Source {
        title: "Hugging Face cache",
        folder: hugging_face_folder,
        find: in_hugging_face,
        list: list_hugging_face,
    },
    Source { title: "Ollama", folder: ollama_folder, find: in_ollama, list: list_ollama },
    Source {
        title: "llama.cpp cache",
        folder: llama_cpp_folder,
        find: in_llama_cpp,
        list: list_ggufs,
    },
];

/// The model of that name: a path, or what some store on this machine calls so.
///
/// # Errors
/// Nothing or several things have that name; the text says what there is.
pub(super) fn find(name: &str) -> Result<Found> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(Found { path: one_model(path.to_path_buf())?, name: None });
    }
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for source in &SOURCES {
        let Some(folder) = (source.folder)().filter(|folder| folder.is_dir()) else { continue };
        let hits = (source.find)(&folder, name).with_context(|| source.title)?;
        found.extend(hits.into_iter().map(|path| (source.title, path)));
        known.extend((source.list)(&folder).into_iter().map(|name| (source.title, name)));
    }
    match &found[..] {
        [(_, path)] => {
            let last = name.rsplit('/').next().unwrap_or(name);
            let last = title(last);
            let name = last.strip_suffix(":latest").unwrap_or(last).replace(':', "-");
            Ok(Found { path: one_model(path.clone())?, name: Some(name) })
        }
        [] => {
            let list = known.iter().take(12).map(|(title, name)| format!("{name} ({title})"));
            let list = list.collect::<Vec<_>>().join(", ");
            let there = if list.is_empty() { "nothing".into() } else { list };
            bail!(
                "{name}: no such file or directory, and no such model in a Hugging Face cache, Ollama or llama.cpp \
                 cache; there is: {there}"
            );
        }
        several => {
            let list = several.iter().map(|(title, path)| format!("{} ({title})", path.display()));
            bail!(
                "{name} is the name of several models; give the path of one: {}",
                list.collect::<Vec<_>>().join(", ")
            );
        }
    }
}

/// A directory that holds nothing but one GGUF file, whatever that is called, stands for it.
fn one_model(path: PathBuf) -> Result<PathBuf> {
    let is_model = |part: &str| path.join(part).exists();
    let parts = ["config.json", "model.gguf", "adapter_config.json"];
    if !path.is_dir() || parts.into_iter().any(is_model) {
        return Ok(path);
    }
    match &list_ggufs(&path)[..] {
        [] => Ok(path),
        [one] => Ok(path.join(one)),
        several => bail!(
            "{} holds several models; give the path of one, or its name behind that of the model: {}",
            path.display(),
            several.join(", ")
        ),
    }
}

/// A folder that a variable names, or one below the user's.
fn folder(variable: &str, below: Option<PathBuf>, rest: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|folder| !folder.is_empty());
    named.map(PathBuf::from).or_else(|| Some(below?.join(rest)))
}

fn hugging_face_folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty());
    let cache = cache.map(PathBuf::from).or_else(|| Some(dirs::home_dir()?.join(".cache")));
    let home = folder("HF_HOME", cache, "huggingface");
    folder("HF_HUB_CACHE", home, "hub")
}

fn ollama_folder() -> Option<PathBuf> {
    let own = folder("OLLAMA_MODELS", dirs::home_dir(), ".ollama/models");
    // Where it runs as a service, its models are those of its own user.
    let service = Path::new("/usr/share/ollama/.ollama/models");
    own.filter(|own| own.is_dir()).or_else(|| Some(service.to_path_buf()))
}

fn llama_cpp_folder() -> Option<PathBuf> {
    folder("LLAMA_CACHE", dirs::cache_dir(), "llama.cpp")
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The GGUF files of a folder; of a model in parts, the first that is there.
fn list_ggufs(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        names(folder).into_iter().filter(|name| name.ends_with(".gguf")).collect();
    names.dedup_by(|a, b| SplitName::parse(a).is_some() && title(a) == title(b));
    names
}

/// Whether these can be parts of a path below a store.
fn are_plain<'a>(parts: impl IntoIterator<Item = &'a str>) -> bool {
    parts.into_iter().all(|part| !part.is_empty() && part != "." && part != "..")
}

/// `ORG/NAME`, or `ORG/NAME/FILE` of its newest snapshot.
fn in_hugging_face(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let parts: Vec<&str> = name.split('/').collect();
    if !are_plain(parts.iter().copied()) {
        return Ok(Vec::new());
    }
    let (repository, file) = parts.split_at(parts.len().min(2));
    let folder = folder.join(format!("models--{}", repository.join("--")));
    let snapshots = folder.join("snapshots");
    let main = std::fs::read_to_string(folder.join("refs/main")).ok();
    let main = main.map(|revision| snapshots.join(revision.trim())).filter(|path| path.is_dir());
    let newest = || {
        let made = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        names(&snapshots).into_iter().map(|name| snapshots.join(name)).max_by_key(made)
    };
    let Some(snapshot) = main.or_else(newest) else { return Ok(Vec::new()) };
    let path = file.iter().fold(snapshot, |path, part| path.join(part));
    Ok(if path.exists() { vec![path] } else { Vec::new() })
}

fn list_hugging_face(folder: &Path) -> Vec<String> {
    let names = names(folder).into_iter();
    names.filter_map(|name| Some(name.strip_prefix("models--")?.replace("--", "/"))).collect()
}

/// `NAME[:TAG]`, `USER/NAME[:TAG]` or `HOST/USER/NAME[:TAG]`: its manifest names the blob of the weights.
fn in_ollama(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let usual = ["registry.ollama.ai", "library"];
    let parts =
        [&usual[..usual.len().saturating_sub(parts.len() - 1)], &parts[..], &[tag]].concat();
    if !are_plain(parts.iter().copied()) {
        return Ok(Vec::new());
    }
    let manifest = parts.iter().fold(folder.join("manifests"), |path, part| path.join(part));
    let Ok(text) = std::fs::read_to_string(&manifest) else { return Ok(Vec::new()) };
    let at = || manifest.display().to_string();
    let json: Value = serde_json::from_str(&text).with_context(at)?;
    let layers = json["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let layer = |kind: &str| {
        let is_it =
            |layer: &&Value| layer["mediaType"] == format!("application/vnd.ollama.image.{kind}");
        Some(layers.iter().find(is_it)?["digest"].as_str()?.replace(':', "-"))
    };
    if layer("adapter").is_some() {
        bail!("{name} is an adapter over another model, which cannot be taken from there");
    }
    let blob = layer("model").with_context(|| format!("{} names no weights", at()))?;
    let blob = folder.join("blobs").join(blob);
    if !blob.is_file() {
        bail!("the weights of {name} are missing; `ollama pull {name}` brings them back");
    }
    Ok(vec![blob])
}

fn list_ollama(folder: &Path) -> Vec<String> {
    let root = folder.join("manifests");
    let mut list = Vec::new();
    for host in names(&root) {
        for user in names(&root.join(&host)) {
            for name in names(&root.join(&host).join(&user)) {
                for tag in names(&root.join(&host).join(&user).join(&name)) {
                    list.push(match (host.as_str(), user.as_str()) {
                        ("registry.ollama.ai", "library") => format!("{name}:{tag}"),
                        ("registry.ollama.ai", user) => format!("{user}/{name}:{tag}"),
                        (host, user) => format!("{host}/{user}/{name}:{tag}"),
                    });
                }
            }
        }
    }
    list
}

/// A file by its whole name, else all whose names hold these words.
fn in_llama_cpp(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let files = list_ggufs(folder);
    let stem = |file: &str| title(file).to_lowercase();
    // The cache writes the name of a repository with an underscore.
    let wanted = stem(&name.replace('/', "_"));
    let exact: Vec<&String> = files.iter().filter(|file| stem(file) == wanted).collect();
    let found = match exact.is_empty() {
        true => files.iter().filter(|file| stem(file).contains(&wanted)).collect(),
        false => exact,
    };
    Ok(found.into_iter().map(|file| folder.join(file)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_hugging_face_cache_gives_the_snapshot_of_main() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for revision in ["old", "new"] {
            put(root, &format!("models--org--code/snapshots/{revision}/config.json"), "{}");
        }
        put(root, "models--org--code/refs/main", "old\n");
        put(root, "models--org--quants/snapshots/abc/a.gguf", "");
        put(root, "models--org--quants/snapshots/abc/b.gguf", "");
        let snapshot = |path: &str| vec![root.join(path)];
        let found = |name: &str| in_hugging_face(root, name).unwrap();
        assert_eq!(found("org/code"), snapshot("models--org--code/snapshots/old"));
        assert_eq!(
            found("org/quants/b.gguf"),
            snapshot("models--org--quants/snapshots/abc/b.gguf")
        );
        for name in ["org/none", "code", "../org", "org/quants/c.gguf", "org/quants/../b.gguf"] {
            assert!(found(name).is_empty(), "{name}");
        }
        let several = one_model(found("org/quants").remove(0)).unwrap_err().to_string();
        assert!(several.contains("a.gguf, b.gguf"), "{several}");
        fs::remove_file(root.join("models--org--quants/snapshots/abc/a.gguf")).unwrap();
        assert!(one_model(found("org/quants").remove(0)).unwrap().ends_with("b.gguf"));
        assert_eq!(list_hugging_face(root), ["org/code", "org/quants"]);
    }

    #[test]
    fn an_ollama_store_gives_the_blob_of_the_weights() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let manifest = |digest: &str, kind: &str| {
            let layers = json!([
                {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:t"},
                {"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest},
            ]);
            json!({"schemaVersion": 2, "layers": layers}).to_string()
        };
        let at = |path: &str| format!("manifests/registry.ollama.ai/{path}");
        put(root, &at("library/coder/1.5b"), &manifest("sha256:abc", "model"));
        put(root, &at("library/coder/latest"), &manifest("sha256:gone", "model"));
        put(root, &at("me/tuned/latest"), &manifest("sha256:abc", "adapter"));
        put(root, "blobs/sha256-abc", "GGUF");
        let blob = vec![root.join("blobs/sha256-abc")];
        assert_eq!(in_ollama(root, "coder:1.5b").unwrap(), blob);
        assert_eq!(in_ollama(root, "library/coder:1.5b").unwrap(), blob);
        assert_eq!(in_ollama(root, "registry.ollama.ai/library/coder:1.5b").unwrap(), blob);
        assert!(in_ollama(root, "coder:7b").unwrap().is_empty());
        assert!(in_ollama(root, "../../library/coder:1.5b").unwrap().is_empty());
        let error = |name: &str| in_ollama(root, name).unwrap_err().to_string();
        assert!(error("coder").contains("ollama pull coder"));
        assert!(error("me/tuned").contains("adapter"));
        assert_eq!(list_ollama(root), ["coder:1.5b", "coder:latest", "me/tuned:latest"]);
    }

    #[test]
    fn a_llama_cpp_cache_gives_a_file_by_its_name_or_some_of_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for file in ["org_Coder-GGUF_coder-q4_k_m.gguf", "coder.gguf", "coder.gguf.json"] {
            put(root, file, "");
        }
        for part in 1..=3 {
            put(root, &format!("large-0000{part}-of-00003.gguf"), "");
        }
        let found = |name: &str| in_llama_cpp(root, name).unwrap().len();
        assert_eq!((found("large"), found("large-00002-of-00003.gguf"), found("lar")), (1, 1, 1));
        assert!(in_llama_cpp(root, "large").unwrap()[0].ends_with("large-00001-of-00003.gguf"));
        assert_eq!((found("coder"), found("coder.gguf"), found("org/coder-gguf")), (1, 1, 1));
        assert_eq!((found("code"), found("other")), (2, 0));
    }
}
