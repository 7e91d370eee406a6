//! Models in several GGUF files, as llama.cpp's gguf-split cuts them: which files belong together, and their headers
//! as one.
//!
//! The parts lie side by side as `NAME-00001-of-00003.gguf` and so on. Each holds some of the tensors, whole. The first
//! says what the model is; all say which part they are, of how many, and how many tensors there are in all.

use std::path::{Path, PathBuf};

use super::gguf::{Gguf, TensorInfo};
use super::weights::LoadError;

/// Which part a file is, from 0.
const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
/// Tensors of all parts together.
const TENSORS: &str = "split.tensors.count";

/// What a file's name says of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitName<'a> {
    /// What all parts have in common.
    pub stem: &'a str,
    /// Which part, from 1.
    pub number: usize,
    /// How many there are.
    pub count: usize,
}

impl<'a> SplitName<'a> {
    /// Reads `STEM-00002-of-00003.gguf`; the stem may have folders in it. `None` for other names.
    pub fn parse(name: &'a str) -> Option<SplitName<'a>> {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let number_of = |digits: &str| {
            let is_number = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        let (number, count) = (number_of(number)?, number_of(count)?);
        (1..=count).contains(&number).then_some(SplitName { stem, number, count })
    }

    /// The name of the last component of a path.
    pub fn of(path: &'a Path) -> Option<SplitName<'a>> {
        SplitName::parse(path.file_name()?.to_str()?)
    }

    /// The names of all parts, in order.
    pub fn all(self) -> impl Iterator<Item = String> + 'a {
        let SplitName { stem, count, .. } = self;
        (1..=count).map(move |number| format!("{stem}-{number:05}-of-{count:05}.gguf"))
    }
}

/// What the model in a file of that name is called: the name without its ending, and without the number of a part.
pub fn title(name: &str) -> &str {
    match SplitName::parse(name) {
        Some(part) => part.stem,
        None => name.strip_suffix(".gguf").unwrap_or(name),
    }
}

/// The GGUF file of a model directory: `model.gguf`, or the first that is there of its parts.
pub fn in_folder(folder: &Path) -> Option<PathBuf> {
    let whole = folder.join("model.gguf");
    if whole.exists() {
        return Some(whole);
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter(|path| SplitName::of(path).is_some_and(|part| part.stem == "model")).min()
}

/// All files of the model of which this is one, with its header; none if it is the only one.
///
/// # Errors
/// A part by its header whose name does not say so: where the others lie is not known then.
pub(super) fn parts(path: &Path, header: &Gguf) -> Result<Vec<PathBuf>, LoadError> {
    let size = |key: &str| header.size(key).map_err(|e| LoadError::broken(path, e));
    if !header.metadata.contains_key(COUNT) || size(COUNT)? <= 1 {
        return Ok(Vec::new());
    }
    let (number, count) = (size(NUMBER)? + 1, size(COUNT)?);
    match SplitName::of(path) {
        Some(name) if (name.number, name.count) == (number, count) => {
            Ok(name.all().map(|part| path.with_file_name(part)).collect())
        }
        _ => Err(LoadError::new(
            path,
            format!(
                "is part {number} of {count} of a model, but not called so; it and the others beside it must be \
                 called NAME-{number:05}-of-{count:05}.gguf and so on"
            ),
        )),
    }
}

/// The headers of all parts as that of one file. Each tensor knows which part holds it.
///
/// # Errors
/// Parts that do not belong together, or not all tensors.
pub(super) fn join(paths: &[PathBuf], headers: Vec<Gguf>) -> Result<Gguf, LoadError> {
    let mut whole = Gguf::default();
    let first = paths[0].display();
    for (file, (path, header)) in paths.iter().zip(headers).enumerate() {
        let says = (header.size(NUMBER).ok(), header.size(COUNT).ok());
        let foreign = |what: String| {
            LoadError::broken(path, format!("belongs to another model than {first}: {what}"))
        };
        if says != (Some(file), Some(paths.len())) {
            let (number, count) = (file + 1, paths.len());
            let says_not = format!("it does not say that it is part {number} of {count}");
            return Err(match file {
                0 => LoadError::broken(path, says_not),
                _ => foreign(says_not),
            });
        }
        for (key, value) in header.metadata.into_iter().filter(|(key, _)| key != NUMBER) {
            let known = whole.metadata.entry(key.clone()).or_insert_with(|| value.clone());
            if *known != value {
                return Err(foreign(format!("their {key} differ")));
            }
        }
        for (name, info) in header.tensors {
            if whole.tensors.insert(name.clone(), TensorInfo { file, ..info }).is_some() {
                return Err(foreign(format!("tensor {name} is in two parts")));
            }
        }
    }
    let found = whole.tensors.len();
    match whole.size(TENSORS) {
        Ok(wanted) if wanted == found => Ok(whole),
        wanted => {
            let wanted = wanted.map_or("does not say how many".into(), |n| format!("says {n}"));
            let text = format!("its parts hold {found} tensors and it {wanted}");
            Err(LoadError::broken(&paths[0], text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_told_from_others() {
        let name = SplitName::parse("q4/a-b-00002-of-00003.gguf").unwrap();
        assert_eq!(name, SplitName { stem: "q4/a-b", number: 2, count: 3 });
        assert_eq!(name.all().last().unwrap(), "q4/a-b-00003-of-00003.gguf");
        for other in ["a.gguf", "a-2-of-3.gguf", "a-00004-of-00003.gguf", "a-00000-of-00003.gguf"] {
            assert_eq!(SplitName::parse(other), None, "{other}");
        }
        assert_eq!(title("coder-00001-of-00002.gguf"), "coder");
        assert_eq!(title("coder.q4.gguf"), "coder.q4");
    }
}
