//! The completer with the memory of the repository that it is asked about, in the forms that are compared.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::Variant;
use super::longest_match::Floor;
use crate::eval::texts::Repository;
use crate::generation::{Generator, Model};
use crate::memory::{Memory, Mixing};
use crate::suggest::{Completer, CompletionOptions, ModelCompleter};

/// Makes the options of a variant.
type Options = fn() -> CompletionOptions;

/// What can be compared beside [`FLOOR`]: a name, what it is, and the options that make it.
pub const VARIANTS: [(&str, &str, Options); 8] = [
    ("default", "as the editor gets it", CompletionOptions::default),
    ("gate", "memory mixed in by the gate, no lines of other files in the prompt", || {
        CompletionOptions { retrieval: false, ..CompletionOptions::default() }
    }),
    ("undrafted", "as the editor gets it, but one token at a time", || CompletionOptions {
        drafts: false,
        ..CompletionOptions::default()
    }),
    (
        "written",
        "as the editor gets it, but without lines that stand whole at other places",
        || CompletionOptions { lines: 0, ..CompletionOptions::default() },
    ),
    ("fixed", "memory mixed in with the same weight everywhere", || CompletionOptions {
        mixing: Mixing::Fixed(0.5),
        retrieval: false,
        ..CompletionOptions::default()
    }),
    ("memory", "the memory alone", || CompletionOptions {
        mixing: Mixing::MemoryAlone,
        retrieval: false,
        ..CompletionOptions::default()
    }),
    ("model", "the model alone", || CompletionOptions {
        mixing: Mixing::ModelAlone,
        retrieval: false,
        ..CompletionOptions::default()
    }),
    ("retrieval", "the model with lines of other files in its prompt, nothing mixed in", || {
        CompletionOptions { mixing: Mixing::ModelAlone, ..CompletionOptions::default() }
    }),
];

/// The name of the variant without model and memory, and what it is.
pub const FLOOR: (&str, &str) =
    ("floor", "copies words after the longest match; no model, no memory");

/// The variant of that name; `None` if there is none.
pub fn variant(
    name: &str,
    model: impl FnOnce() -> Result<Model>,
) -> Result<Option<Box<dyn Variant>>> {
    if name == FLOOR.0 {
        return Ok(Some(Box::new(Floor::default())));
    }
    let Some((_, _, options)) = VARIANTS.iter().find(|(known, ..)| *known == name) else {
        return Ok(None);
    };
    let generator = Generator::new(model()?);
    Ok(Some(Box::new(Remembering(ModelCompleter::new(generator, options())))))
}

/// A completer that remembers each repository before it is asked about it. The file of a place is open, so
/// that of it only the place's own text is known.
struct Remembering(ModelCompleter);

impl Variant for Remembering {
    fn prepare(&mut self, repository: &Repository) -> Result<&mut dyn Completer> {
        let tokenizer = self.0.generator().model().tokenizer.clone();
        self.0.set_memory(Some(memory(repository, tokenizer)?));
        Ok(&mut self.0)
    }
}

/// The memory of a repository's files, at the place where its documents are opened.
pub fn memory(
    repository: &Repository,
    tokenizer: Arc<crate::tokenizer::Tokenizer>,
) -> Result<Arc<Memory>> {
    let files = repository.files.iter().map(|f| (f.path.as_str(), f.text.as_str()));
    let root = Path::new("/").join(&repository.name);
    Ok(Arc::new(Memory::of_texts(&root, tokenizer, files)?))
}
