//! Layouts of fill-in-the-middle prompts: one row per model family.
//!
//! A layout is chosen by the special tokens that a vocabulary has, so that a model is prompted the
//! way it was trained whatever its file is called.

use std::collections::HashMap;

use super::TokenId;

/// The order of the parts of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// suffix-marker suffix prefix-marker prefix → middle: typing appends, so the KV cache survives.
    Spm,
    /// prefix-marker prefix suffix-marker suffix middle-marker → middle.
    Psm,
}

/// One family's markers, by token text.
struct Row {
    name: &'static str,
    order: Order,
    prefix: &'static str,
    suffix: &'static str,
    /// Ends a PSM prompt; unused in SPM order.
    middle: &'static str,
    /// Tokens that end the middle.
    ends: &'static [&'static str],
    /// Starts a file with its path, if the family has such a token.
    file: Option<&'static str>,
    /// Begins every document, if the family was trained so.
    start: Option<&'static str>,
    /// Tells the family from others with the same markers.
    only_with: Option<&'static str>,
}

/// Of rows with the same markers, those that need one more come first.
const ROWS: [Row; 9] = [
    Row {
        name: "nestling",
        order: Order::Spm,
        prefix: "<|prefix|>",
        suffix: "<|suffix|>",
        middle: "<|middle|>",
        ends: &["<|end|>"],
        file: Some("<|file|>"),
        start: None,
        only_with: None,
    },
    Row {
        name: "codegemma",
        order: Order::Psm,
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: "<|fim_middle|>",
        ends: &["<|file_separator|>", "<eos>"],
        file: None,
        start: Some("<bos>"),
        only_with: Some("<|file_separator|>"),
    },
    Row {
        name: "granite",
        order: Order::Psm,
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: "<|fim_middle|>",
        ends: &["<|end_of_text|>", "<|fim_pad|>"],
        file: None,
        start: None,
        only_with: Some("<|end_of_text|>"),
    },
    Row {
        name: "qwen2.5-coder",
        order: Order::Psm,
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: "<|fim_middle|>",
        ends: &["<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|im_end|>"],
        file: Some("<|file_sep|>"),
        start: None,
        only_with: None,
    },
    Row {
        name: "starcoder2",
        order: Order::Psm,
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        middle: "<fim_middle>",
        ends: &["<|endoftext|>", "<file_sep>", "<repo_name>"],
        file: Some("<file_sep>"),
        start: None,
        only_with: Some("<file_sep>"),
    },
    // Also granite-code.
    Row {
        name: "starcoder",
        order: Order::Psm,
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        middle: "<fim_middle>",
        ends: &["<|endoftext|>", "<filename>", "<reponame>", "<fim_pad>"],
        file: None,
        start: None,
        only_with: None,
    },
    Row {
        name: "santacoder",
        order: Order::Psm,
        prefix: "<fim-prefix>",
        suffix: "<fim-suffix>",
        middle: "<fim-middle>",
        ends: &["<|endoftext|>", "<fim-pad>"],
        file: None,
        start: None,
        only_with: None,
    },
    Row {
        name: "codellama",
        order: Order::Psm,
        prefix: "▁<PRE>",
        suffix: "▁<SUF>",
        middle: "▁<MID>",
        ends: &["▁<EOT>", "</s>"],
        file: None,
        start: Some("<s>"),
        only_with: None,
    },
    Row {
        name: "deepseek-coder",
        order: Order::Psm,
        prefix: "<｜fim▁begin｜>",
        suffix: "<｜fim▁hole｜>",
        middle: "<｜fim▁end｜>",
        ends: &["<｜end▁of▁sentence｜>", "<|EOT|>"],
        file: None,
        start: Some("<｜begin▁of▁sentence｜>"),
        only_with: None,
    },
];

/// A layout whose markers are resolved to ids of one vocabulary.
#[derive(Clone, Debug)]
pub struct FimLayout {
    name: &'static str,
    order: Order,
    prefix: TokenId,
    suffix: TokenId,
    middle: TokenId,
    ends: Vec<TokenId>,
    file: Option<TokenId>,
    start: Option<TokenId>,
}

/// A family's markers as texts, for a prompt that is tokenized elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Markers {
    /// Before the text up to the cursor.
    pub prefix: &'static str,
    /// Before the text behind it.
    pub suffix: &'static str,
    /// At the end of a prompt, unless the prefix comes last.
    pub middle: &'static str,
    /// Before a file's path.
    pub file: Option<&'static str>,
    /// Whether the text up to the cursor comes last.
    pub prefix_is_last: bool,
}

impl Markers {
    /// Those of the family of that name.
    pub fn of_family(name: &str) -> Option<Markers> {
        let row = ROWS.iter().find(|row| row.name == name)?;
        let Row { prefix, suffix, middle, file, .. } = *row;
        Some(Markers { prefix, suffix, middle, file, prefix_is_last: row.order == Order::Spm })
    }

    /// The names of all families.
    pub fn families() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }
}

/// The token parts of a prompt, before they are put in order.
#[derive(Clone, Debug, Default)]
pub struct FimPrompt<'a> {
    /// Path header and other text that comes first, already encoded.
    pub context: &'a [TokenId],
    /// Text before the cursor.
    pub prefix: &'a [TokenId],
    /// Text after the cursor.
    pub suffix: &'a [TokenId],
}

impl FimLayout {
    /// The first row whose markers are all in the vocabulary.
    pub fn detect(special: &HashMap<String, TokenId>) -> Option<FimLayout> {
        ROWS.iter().find_map(|row| {
            let id = |text: &str| special.get(text).copied();
            row.only_with.map_or(Some(0), id)?;
            Some(FimLayout {
                name: row.name,
                order: row.order,
                prefix: id(row.prefix)?,
                suffix: id(row.suffix)?,
                middle: id(row.middle)?,
                ends: row.ends.iter().filter_map(|text| id(text)).collect(),
                file: row.file.and_then(id),
                start: row.start.and_then(id),
            })
        })
    }

    /// Whether some family uses this text as a marker.
    pub(super) fn is_marker(text: &str) -> bool {
        ROWS.iter().any(|row| {
            [row.prefix, row.suffix, row.middle].contains(&text)
                || row.ends.contains(&text)
                || [row.file, row.start, row.only_with].contains(&Some(text))
        })
    }

    /// The family's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tokens that end a completion, the prompt markers among them: a model that opens a new prompt
    /// has nothing more to say.
    pub fn is_end(&self, id: TokenId) -> bool {
        self.ends.contains(&id) || [self.prefix, self.suffix, self.middle].contains(&id)
    }

    /// The first token that ends a middle, used to close training examples.
    pub fn end(&self) -> Option<TokenId> {
        self.ends.first().copied()
    }

    /// The marker that precedes a file's path, if there is one.
    pub fn file(&self) -> Option<TokenId> {
        self.file
    }

    /// The token that begins a document, if there is one.
    pub fn start(&self) -> Option<TokenId> {
        self.start
    }

    /// The same family in prefix-suffix-middle order, which models that continue with a middle of its own
    /// tokens are also trained on.
    pub fn psm(&self) -> FimLayout {
        FimLayout { order: Order::Psm, ..self.clone() }
    }

    /// Whether the prefix comes last, directly before the middle.
    pub fn prefix_is_last(&self) -> bool {
        self.order == Order::Spm
    }

    /// Tokens that the layout adds to the parts.
    pub fn overhead(&self) -> usize {
        if self.order == Order::Spm { 2 } else { 3 }
    }

    /// The parts in the family's order; the model continues with the middle.
    pub fn assemble(&self, prompt: &FimPrompt<'_>) -> Vec<TokenId> {
        let FimPrompt { context, prefix, suffix } = *prompt;
        match self.order {
            Order::Spm => [context, &[self.suffix], suffix, &[self.prefix], prefix].concat(),
            Order::Psm => {
                [context, &[self.prefix], prefix, &[self.suffix], suffix, &[self.middle]].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_is_detected_and_ordered_its_way() {
        for row in &ROWS {
            let texts = [row.prefix, row.suffix, row.middle];
            let texts = texts.iter().chain(row.ends).chain(&row.file);
            let texts = texts.chain(&row.start).chain(&row.only_with);
            let mut special = HashMap::new();
            for text in texts {
                let next = 100 + special.len() as TokenId;
                special.entry(text.to_string()).or_insert(next);
            }
            let layout = FimLayout::detect(&special).unwrap();
            assert_eq!(layout.name(), row.name);
            assert_eq!(layout.start().is_some(), row.start.is_some());
            let prompt = layout.assemble(&FimPrompt { context: &[1], prefix: &[2], suffix: &[3] });
            assert_eq!(prompt.len(), 3 + layout.overhead());
            assert_eq!(prompt[0], 1);
            assert_eq!(layout.prefix_is_last(), prompt.last() == Some(&2));
            assert!(layout.is_end(layout.end().unwrap()));
        }
    }
}
