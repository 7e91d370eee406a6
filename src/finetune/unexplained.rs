//! What the memory of a repository leaves for the model to learn. What counts are rests of lines that come out exactly
//! from both mixed, and the gradient of that reaches the model only as far as a token decides about its line, and as
//! the model, and not the memory, has given the token its probability. So tokens are weighed by both, as in boosting: a
//! model that learns what the memory knows anyway only talks it down where it is right.

use std::sync::Arc;

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Watch, exact};
use crate::eval::completion::memory;
use crate::eval::texts::Repository;
use crate::generation::{Model, fit};
use crate::memory::{FocusCache, Gate};
use crate::tokenizer::TokenId;
use crate::train::corpus::SourceFile;
use crate::train::documents::Documents;

/// Tokens that are weighed at most; documents beyond count the mean.
const MOST_TOKENS: usize = 300_000;
/// Tokens that are scored at once.
const WINDOW: usize = 448;
/// What a token counts at least, so that nothing is forgotten…
const LEAST: f32 = 0.05;
/// …and what one of those that the memory leaves counts at least: lines that are far from right may come closer.
const FAR: f32 = 0.2;

/// The documents of the repository with what each token counts; general code counts in full. Each file is weighed by
/// a memory of the others and of what stands around in itself.
pub(super) fn weighed(
    documents: &Documents,
    model: &Model,
    gate: &Gate,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Result<Documents> {
    let own: Vec<usize> =
        (0..documents.list().len()).filter(|&i| documents.list()[i].repository == 0).collect();
    let file = |&i: &usize| {
        let (document, text) = (&documents.list()[i], documents.text(i));
        let (path, language) = (document.path.clone(), document.language);
        SourceFile { path, repository: String::new(), language, text }
    };
    let files: Vec<SourceFile> = own.iter().map(file).collect();
    let repository = Repository::of_files("learnt", files);
    let memory = memory(&repository, model.tokenizer.clone())?;
    let (mut kv, mut cache) = (model.engine.new_cache(), FocusCache::default());
    let mut order: Vec<usize> = (0..own.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    let mut counts: Vec<Option<Arc<[u8]>>> = vec![None; documents.list().len()];
    let (mut tokens_done, mut sum) = (0, 0f64);
    for (done, file) in order.into_iter().enumerate() {
        if tokens_done >= MOST_TOKENS {
            break;
        }
        watch.step("weighing what the memory leaves to learn", done, own.len())?;
        let text = &repository.files[file].text;
        let tokens = model.tokenizer.encode(text);
        let name = &repository.files[file].path;
        let mut bytes = vec![0u8; text.len()];
        let mut events = Vec::with_capacity(tokens.len());
        for start in (0..tokens.len()).step_by(WINDOW) {
            let end = (start + WINDOW).min(tokens.len());
            let parts = (&tokens[..start], &tokens[start..end], &tokens[end..]);
            events.extend(fit::events_within(model, &mut kv, &memory, &mut cache, name, parts)?);
        }
        let ends_line = |token: &TokenId| model.tokenizer.bytes(*token).contains(&b'\n');
        let (mut at, mut known) = (0, events.as_slice());
        for line in tokens.split_inclusive(ends_line) {
            let (events, rest) = known.split_at(line.len().min(known.len()));
            known = rest;
            let mixed: Vec<f32> = events.iter().map(|event| gate.mixed(event)).collect();
            for ((&token, event), worth) in line.iter().zip(events).zip(exact::worth(&mixed)) {
                let decides = FAR + (1.0 - FAR) * worth.min(1.0);
                let count = (decides * gate.left_to_model(event)).max(LEAST);
                sum += f64::from(count);
                let length = model.tokenizer.bytes(token).len();
                // Where a token is cut another way, the count of the text it begins in holds.
                if let Some(bytes) = bytes.get_mut(at..at + length) {
                    bytes.fill((255.0 * count).round() as u8);
                }
                at += length;
            }
        }
        tokens_done += tokens.len();
        counts[own[file]] = Some(bytes.into());
    }
    let mean = sum / tokens_done.max(1) as f64;
    watch.note(format!("of the repository {:.0} % are left to learn", 100.0 * mean));
    let mut at = 0;
    Ok(documents.clone().describe(|document| {
        if document.repository == 0 {
            let all = || vec![(255.0 * mean).round() as u8; document.bytes as usize].into();
            document.counts = Some(counts[at].take().unwrap_or_else(all));
        }
        at += 1;
    }))
}
