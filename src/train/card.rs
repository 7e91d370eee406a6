//! `CARD.md`: what a model is, what it was made of, what it can do and how to make it again.

use std::fmt::Write;

use crate::model::config::ModelConfig;

use super::autotune::flops_per_token;
use super::pipeline::TrainReport;
use super::report::{facts, grouped};

/// The card of a trained model, Markdown.
pub(super) fn markdown(report: &TrainReport, model: &ModelConfig) -> String {
    let (recipe, progress, corpus) = (&report.recipe, &report.progress, &report.corpus);
    let (train, examples, optimizer) = (&recipe.train, &recipe.examples, &recipe.train.optimizer);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let mut text = format!("# A code model: {}\n\n", cell(&recipe.size));
    text += "A small decoder for code that fills in the middle, made by `nestling train`.\n\n";
    if progress.step < progress.steps {
        text += &format!(
            "**Unfinished**: stopped after step {} of {}, before the learning rate had fallen. \
             `--resume` goes on from there.\n\n",
            grouped(progress.step),
            grouped(progress.steps)
        );
    }
    text += &table(&["", ""], facts(report));
    let family = model.model_type.name();
    text += &format!(
        "\nArchitecture {family}: RMSNorm, RoPE (base {}), grouped-query attention, SwiGLU, {} embeddings; \
         context {} tokens; byte-level BPE trained on the same data. `model.safetensors` and `config.json` \
         are in the form of Hugging Face Transformers, f32; `model.gguf` has matrices as Q8_0.\n",
        model.rope_theta,
        if model.tie_word_embeddings { "tied" } else { "separate" },
        grouped(model.max_position_embeddings)
    );

    text += "\n## Data\n\n";
    let _ = writeln!(
        text,
        "{} files and {:.1} MB were kept of {:.1} MB read; {:.1} MB were trained on, {:.1} MB of other \
         repositories (or, with too few of them, other files) held out.{}\n",
        grouped(corpus.kept.files),
        corpus.kept.bytes as f64 / 1e6,
        corpus.read_bytes as f64 / 1e6,
        report.bytes.0 as f64 / 1e6,
        report.bytes.1 as f64 / 1e6,
        match recipe.prepare.any_licence {
            true => " Licences were not looked at (`any_licence`).",
            false => " Only texts under permissive licences, or of one's own, were taken.",
        }
    );
    let megabytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
    let languages = corpus
        .languages
        .iter()
        .map(|(name, a)| vec![name.clone(), grouped(a.files), megabytes(a.bytes)]);
    text += &table(&["language", "files", "MB"], languages);
    text += "\n";
    let dropped = corpus.dropped.iter().map(|(reason, dropped)| {
        vec![reason.clone(), grouped(dropped.amount.files), megabytes(dropped.amount.bytes)]
    });
    text += &table(&["dropped because", "files", "MB"], dropped);
    text += "\n";
    let sources = corpus.repositories.iter().map(|r| {
        let commit = r.commit.clone().unwrap_or_default();
        let use_ = if r.held_out { "held out" } else { "" }.to_string();
        vec![r.name.clone(), r.licence.clone(), commit, megabytes(r.kept.bytes), use_]
    });
    text += &table(&["source", "licence", "commit", "MB", ""], sources);

    text += "\n## Recipe\n\n";
    let _ = writeln!(
        text,
        "- Examples: documents packed to {} tokens, each piece after its path; {} cut for fill-in-the-middle \
         ({} of those prefix first, the others suffix first), {} after snippets of related files, {} broken \
         lines with their correction{}.",
        grouped(examples.sequence),
        percent(examples.fim),
        percent(examples.psm),
        percent(examples.snippets),
        percent(examples.edits),
        match report.corpus.fixes {
            0 => String::new(),
            fixes => format!(
                " ({} of those from {} places that commits corrected)",
                percent(examples.fixes),
                grouped(fixes as usize)
            ),
        }
    );
    let _ = writeln!(
        text,
        "- Optimizer: {}; weight decay {}, gradients clipped at norm {}, weights averaged over {} steps.",
        match optimizer.muon {
            true => "Muon for the matrices of the layers, AdamW for everything else",
            false => "AdamW",
        },
        optimizer.weight_decay,
        optimizer.clip,
        optimizer.average
    );
    let _ = writeln!(
        text,
        "- Schedule: {} steps of warm-up, then constant, linear to zero over the last {}.",
        train.warmup,
        percent(train.decay)
    );
    let _ = writeln!(
        text,
        "- f32 on the CPU, seeds {} (weights) and {} (examples); {:.2e} floating-point operations.",
        train.seed,
        examples.seed,
        flops_per_token(model) * report.tokens as f64
    );

    text += "\n## Limits\n\n\
             - It continues code in the manner of what it has read; it knows nothing else, and what it writes \
             may be wrong, insecure, or close to a text of its corpus.\n\
             - Only the languages of the table, in their proportions.\n\
             - The figures above are losses on held-out text, not how often a completion is right: \
             `nestling eval` measures that.\n";

    let from = if recipe.size == super::pipeline::AS_GIVEN { " --model START" } else { "" };
    let _ = write!(
        text,
        "\n## Making it again\n\n```sh\nnestling train LIST --config train.toml --steps {}{from} --out DIR\n```\n\n\
         LIST is a text file that names the sources above, one per line, at those commits; `train.toml` lies \
         beside this card.{}\n",
        progress.asked,
        if from.is_empty() { "" } else { " START is the model that this run began with." }
    );
    text
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|h| h.to_string()).collect());
    text += &line(head.iter().map(|_| "---".to_string()).collect());
    for row in rows {
        text += &line(row.iter().map(|c| cell(c)).collect());
    }
    text
}

/// Names come from the corpus: nothing in them may end a cell or become markup.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
