//! Prose in any script is completed as code is: in Markdown and in comments, whole characters only.

use nestling::generation::{CancelToken, Generator, Model, ModelSource};
use nestling::model::engine::Precision;
use nestling::suggest::{
    Completer, CompletionOptions, CompletionRequest, ModelCompleter, Progress,
};
use nestling::text::{Text, apply};
use nestling::workspace::{Document, Snapshot};

/// Sentences that recur, one for each script.
const SENTENCES: &[&str] = &[
    "Every door of the gate has its own keeper, and no keeper sleeps.",
    "每一扇门都有自己的守门人，没有一个守门人会睡着。",
    "لكل باب حارسه الخاص ولا ينام أي حارس في الليل.",
    "Jede Tür hat ihren Wächter, und keiner schläft über Nacht – größer geht's nicht.",
    "すべての扉に番人がいて、番人は決して眠らない。",
    "The 🚪 has a 👩‍🚀 keeper and a 🏳️‍🌈 flag, é and e\u{301} alike.",
];

/// What is offered where the sentence, begun a second time, breaks off; every place between two characters is tried.
fn continued(
    completer: &mut ModelCompleter,
    uri: &str,
    language: &str,
    mark: &str,
    sentence: &str,
) -> usize {
    let mut whole = 0;
    for (at, _) in sentence.char_indices().skip(1) {
        let before = format!("{mark}{sentence}\n{mark}{}", &sentence[..at]);
        let source = format!("{before}\n{mark}🦀 end\n");
        let document = Document::new(uri, language, 1, Text::new(source.clone()));
        let request = CompletionRequest {
            items: 2,
            ..CompletionRequest::invoked(Snapshot::alone(document), before.len())
        };
        let completion = completer.complete(&request, &Progress::new(), &CancelToken::new());
        for (rank, suggestion) in completion.suggestions.iter().enumerate() {
            let edit = &suggestion.edit;
            assert!(
                source.is_char_boundary(edit.range.start)
                    && source.is_char_boundary(edit.range.end),
                "{edit:?}"
            );
            assert!(edit.range.start <= before.len() && before.len() <= edit.range.end, "{edit:?}");
            assert!(!source[edit.range.clone()].contains('\n'), "{edit:?}");
            let after = apply(&source, std::slice::from_ref(edit));
            assert!(!after.contains('\u{fffd}'), "{sentence} at {at}: {edit:?}");
            assert!(
                after.ends_with(&format!("\n{mark}🦀 end\n")),
                "what stands below stays: {after}"
            );
            whole += usize::from(
                rank == 0 && after.starts_with(&format!("{mark}{sentence}\n{mark}{sentence}")),
            );
        }
    }
    whole
}

#[test]
fn sentences_of_any_script_are_continued_between_characters() {
    let model = Model::load(&ModelSource::Embedded, Precision::Quantized).expect("the model");
    let mut completer = ModelCompleter::new(Generator::new(model), CompletionOptions::default());
    for sentence in SENTENCES {
        let places = sentence.chars().count() - 1;
        for (uri, language, mark) in [
            ("untitled:notes.md", "markdown", ""),
            ("untitled:gate.py", "python", "# "),
            ("untitled:gate.go", "go", "// "),
        ] {
            let whole = continued(&mut completer, uri, language, mark, sentence);
            assert!(
                3 * whole > places,
                "{language}: only {whole} of {places} places of {sentence}"
            );
        }
    }
}
