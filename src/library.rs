//! A model in three lines, for other programs: loaded, asked, listened to while it writes.
//!
//! What stands here and in [`crate::generation`]'s [`GenerateOptions`], [`CancelToken`] and [`Flow`] keeps to semantic
//! versioning; the modules below it are the program's own and may change with any version.

use std::path::Path;

use crate::generation::{
    CancelToken, Flow, GenerateOptions, Generation, Generator, ModelSource, Prompt,
};
use crate::model::engine::{EngineError, Precision};
use crate::model::weights::LoadError;

/// A language model that continues text.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut model = nestling::Model::load("models/base/model.gguf")?;
/// println!("{}", model.generate("fn main() {")?);
/// # Ok(())
/// # }
/// ```
pub struct Model {
    generator: Generator,
}

impl Model {
    /// The model inside the program.
    ///
    /// ```
    /// let mut model = nestling::Model::embedded()?;
    /// assert!(!model.generate("for i in range(")?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Not on a machine with memory for it.
    pub fn embedded() -> Result<Model, LoadError> {
        Model::of(&ModelSource::Embedded)
    }

    /// A GGUF file, a folder as Hugging Face lays it out, or the folder of a PEFT adapter.
    ///
    /// # Errors
    /// No model, a broken one, or one of a family that is not known; the text names file and reason.
    pub fn load(path: impl AsRef<Path>) -> Result<Model, LoadError> {
        Model::of(&ModelSource::Path(path.as_ref().to_path_buf()))
    }

    fn of(source: &ModelSource) -> Result<Model, LoadError> {
        let model = crate::generation::Model::load(source, Precision::Quantized)?;
        Ok(Model::from(Generator::new(model)))
    }

    /// What follows `prompt`, likeliest token by token, at most 128 of them.
    ///
    /// # Errors
    /// The network failed: weights that are no numbers.
    pub fn generate(&mut self, prompt: &str) -> Result<String, EngineError> {
        let options = GenerateOptions { max_tokens: 128, ..GenerateOptions::default() };
        let every = &mut |_: &str| Flow::Continue;
        Ok(self.stream(prompt, &options, &CancelToken::new(), every)?.text)
    }

    /// What follows `prompt`, told piece by piece: `hear` gets each new piece of whole characters and says whether to go
    /// on. Another thread may end it through `cancel`. Of a prompt that is too long for the model, the end counts.
    ///
    /// ```
    /// use nestling::generation::{CancelToken, Flow, GenerateOptions};
    ///
    /// let mut model = nestling::Model::embedded()?;
    /// let mut heard = String::new();
    /// let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
    /// let written = model.stream("fn main() {", &options, &CancelToken::new(), &mut |piece| {
    ///     heard += piece;
    ///     Flow::Continue
    /// })?;
    /// assert_eq!(heard, written.text);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The network failed: weights that are no numbers.
    pub fn stream(
        &mut self,
        prompt: &str,
        options: &GenerateOptions,
        cancel: &CancelToken,
        hear: &mut dyn FnMut(&str) -> Flow,
    ) -> Result<Generation, EngineError> {
        let model = self.generator.model();
        let mut tokens = model.tokenizer.encode(prompt);
        if tokens.is_empty() {
            tokens.push(model.tokenizer.special("<|end|>").unwrap_or(0));
        }
        let room = model.engine.context().saturating_sub(options.max_tokens.min(256));
        let tokens = tokens.split_off(tokens.len().saturating_sub(room.max(1)));
        let prompt = Prompt { tokens, ..Prompt::default() };
        let mut told = 0;
        let rule = &mut |generated: crate::generation::Generated<'_>| {
            let piece = &generated.text[told..];
            told = generated.text.len();
            if piece.is_empty() { Flow::Continue } else { hear(piece) }
        };
        self.generator.generate("", &prompt, options, None, rule, cancel)
    }
}

impl From<Generator> for Model {
    fn from(generator: Generator) -> Model {
        Model { generator }
    }
}
