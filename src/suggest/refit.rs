//! Fits the gate to the user's own repository while nobody asks for anything: some windows of its files, each
//! judged without the file itself, a little at a time.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::files;
use crate::generation::{Model, fit};
use crate::memory::gate::Event;
use crate::memory::{FocusCache, Gate, Memory};
use crate::model::kv_cache::KvCache;

/// Windows of one fit, and tokens below which a repository says too little.
const WINDOWS: usize = 60;
const LEAST_TOKENS: usize = 20_000;

/// What has been done so far.
#[derive(Default)]
pub(super) struct Refit {
    /// Memories that are done with, by their place.
    done: usize,
    events: Vec<Event>,
    windows: usize,
    kv: Option<KvCache>,
}

impl Refit {
    /// One window, some tens of milliseconds. False if there is nothing to do for now.
    pub(super) fn step(
        &mut self,
        model: &Model,
        memories: &[Arc<Memory>],
        cache: &mut FocusCache,
    ) -> bool {
        let Some(memory) = memories.get(self.done) else { return false };
        let is_kept = memory.gate_file().is_some_and(|file| file.exists());
        let shelf = memory.shelf();
        let Some((segment, _)) = shelf.segments.first() else { return false };
        if is_kept || segment.tokens().len() < LEAST_TOKENS || self.windows >= WINDOWS {
            let events = std::mem::take(&mut self.events);
            if !events.is_empty() {
                finish(memory.clone(), shelf.gate.clone(), events);
            }
            *self = Refit { done: self.done + 1, ..Refit::default() };
            return true;
        }
        let mut rng = StdRng::seed_from_u64(self.windows as u64);
        self.windows += 1;
        // By tokens, so that long files count for what they are.
        let at = rng.random_range(0..segment.tokens().len() as u32);
        let Some(index) = segment.file_at(at) else { return true };
        let (name, range, _) = segment.file(index);
        let tokens = &segment.tokens()[range.start as usize..range.end as usize];
        let kv = self.kv.get_or_insert_with(|| model.engine.new_cache());
        match fit::events(model, kv, memory, cache, (name, tokens), &mut rng) {
            Ok(events) => self.events.extend(events),
            Err(error) => tracing::warn!("the gate cannot be fitted: {error}"),
        }
        true
    }
}

/// Fits beside everything else, and keeps the result only if it is better where it did not learn.
fn finish(memory: Arc<Memory>, gate: Arc<Gate>, events: Vec<Event>) {
    std::thread::spawn(move || {
        let (learn, judge) = events.split_at(events.len() / 2);
        let half = gate.refitted(learn);
        let (before, after) = (gate.nats(judge), half.nats(judge));
        tracing::info!(before, after, "the gate was fitted to {}", memory.root().display());
        let better = if after < before { gate.refitted(&events) } else { (*gate).clone() };
        if let Some(file) = memory.gate_file()
            && let Ok(json) = serde_json::to_string(&better)
            && let Err(error) = files::write(&file, json.as_bytes())
        {
            tracing::warn!("the fitted gate is not kept: {error:#}");
        }
        memory.set_gate(better);
    });
}
