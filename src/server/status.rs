//! What the server can say about itself: the model, the last silence and its reason, and counts.
//! Nothing here leaves the machine; the editor asks with `nestling/status`.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::debounce::Mean;
use super::engine::ModelState;
use crate::suggest::Silence;

/// How many answer times the percentiles look back.
const LATENCIES: usize = 512;
/// The time an answer is assumed to take before one was measured.
const FIRST_ANSWER: Duration = Duration::from_millis(50);

/// Counts of completion requests. Once nothing is pending, `requests = answered + cancelled`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) answered: u64,
    pub(super) cancelled: u64,
    /// Answers that had something to show.
    pub(super) shown: u64,
    pub(super) accepted: u64,
}

/// The record that [`Stats::to_json`] reports.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) counts: Counts,
    last_silence: Option<(Silence, String)>,
    /// Request to answer, as the editor sees it, without superseded requests; newest last.
    latencies: VecDeque<Duration>,
    /// From the start of a change's handler to its end; newest last.
    changes: VecDeque<Duration>,
    /// The engine's own time for an answer.
    answer_time: Mean,
}

impl Stats {
    /// Notes an answer for a document.
    pub(super) fn answered(&mut self, uri: &str, silence: Option<Silence>, latency: Duration) {
        self.counts.answered += 1;
        match silence {
            // Its successor says more.
            Some(Silence::Superseded) => return,
            Some(reason) => self.last_silence = Some((reason, uri.to_string())),
            None => self.counts.shown += 1,
        }
        remember(&mut self.latencies, latency);
    }

    /// Notes how long a change of a document took to take in.
    pub(super) fn changed(&mut self, time: Duration) {
        remember(&mut self.changes, time);
    }

    /// Notes how long the engine worked for an answer.
    pub(super) fn engine_took(&mut self, time: Duration) {
        self.answer_time.add(time);
    }

    /// How long the engine usually works for an answer.
    pub(super) fn mean_answer(&self) -> Duration {
        self.answer_time.get().unwrap_or(FIRST_ANSWER)
    }

    /// The status as the editor gets it.
    pub(super) fn to_json(
        &self,
        model: &ModelState,
        enabled: bool,
        open_documents: usize,
    ) -> Value {
        let Counts { requests, answered, cancelled, shown, accepted } = self.counts;
        let silence = self.last_silence.as_ref();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "enabled": enabled,
            "model": model_json(model),
            "openDocuments": open_documents,
            "lastSilence": silence.map(|(reason, uri)| json!({
                "kind": format!("{reason:?}"), "reason": reason.to_string(), "uri": uri
            })),
            "counts": {
                "requests": requests, "answered": answered, "cancelled": cancelled,
                "shown": shown, "accepted": accepted
            },
            "latencyMs": percentiles(&self.latencies),
            "changeMs": percentiles(&self.changes),
        })
    }
}

fn remember(times: &mut VecDeque<Duration>, time: Duration) {
    if times.len() == LATENCIES {
        times.pop_front();
    }
    times.push_back(time);
}

/// In milliseconds; null before there is any.
pub(super) fn percentiles(times: &VecDeque<Duration>) -> Value {
    let mut sorted: Vec<Duration> = times.iter().copied().collect();
    sorted.sort_unstable();
    let at = |percent: usize| -> Option<f64> {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        let ms = sorted.get(rank - 1)?.as_secs_f64() * 1000.0;
        Some((ms * 1000.0).round() / 1000.0)
    };
    json!({ "p50": at(50), "p95": at(95) })
}

fn model_json(model: &ModelState) -> Value {
    match model {
        ModelState::Unused => json!({"state": "unused"}),
        ModelState::Loading => json!({"state": "loading"}),
        ModelState::Ready => json!({"state": "ready"}),
        ModelState::Failed(reason) => json!({"state": "failed", "reason": reason}),
        ModelState::Restarting(reason) => json!({"state": "restarting", "reason": reason}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(latencies_ms: impl IntoIterator<Item = u64>) -> Stats {
        let mut stats = Stats::default();
        for ms in latencies_ms {
            stats.answered("a", None, Duration::from_millis(ms));
        }
        stats
    }

    #[test]
    fn percentiles_are_taken_from_the_last_answers() {
        assert_eq!(percentiles(&stats(1..=100).latencies)["p50"], 50.0);
        assert_eq!(percentiles(&stats(1..=100).latencies)["p95"], 95.0);
        assert_eq!(percentiles(&stats([7]).latencies)["p95"], 7.0);
        assert_eq!(percentiles(&stats([]).latencies)["p50"], Value::Null);
        let many = (0..2000).map(|n| if n < 1000 { 900 } else { 3 });
        assert_eq!(percentiles(&stats(many).latencies)["p95"], 3.0);
    }

    #[test]
    fn the_last_silence_is_kept_with_its_reason_but_not_a_superseded_one() {
        let mut stats = stats([]);
        stats.answered("a", Some(Silence::LowConfidence), Duration::ZERO);
        stats.answered("b", Some(Silence::Superseded), Duration::ZERO);
        let json = stats.to_json(&ModelState::Ready, true, 2);
        assert_eq!(json["lastSilence"]["reason"], "the model is not sure enough");
        assert_eq!(json["lastSilence"]["uri"], "a");
        assert_eq!(json["counts"]["answered"], 2);
    }
}
