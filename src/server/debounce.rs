//! How long an automatic request waits before the model starts: long enough not to compute what the
//! next key makes worthless, and not a moment longer.
//!
//! The wait is the user's mean time between keys in this document, minus the mean time an answer
//! takes (the user waits for that anyway, and a run is cancelled within a token). It is never longer
//! than an answer itself takes, so it at most doubles the time to an answer while it saves at most
//! half of the work: what is cheap to compute is not worth a wait. Nor is it longer than 100 ms. It is 0 when the engine is idle and the user has paused: the last key is further
//! back than two mean intervals, or there was none. An invoked request never waits.

use std::time::{Duration, Instant};

use crate::config::Debounce;

/// The longest wait in the automatic mode.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(100);

/// Longer gaps between keys are pauses and say nothing about the rhythm.
const LONGEST_INTERVAL: Duration = Duration::from_millis(1000);
const SHORTEST_MEAN: Duration = Duration::from_millis(40);
const LONGEST_MEAN: Duration = Duration::from_millis(300);
/// A comfortable typist; the mean before anything is measured.
const FIRST_MEAN: Duration = Duration::from_millis(150);
/// The share of a new value in a running mean.
const WEIGHT: f64 = 0.1;

/// A running mean of durations in which the past fades.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean(Option<f64>);

impl Mean {
    pub(super) fn add(&mut self, value: Duration) {
        let value = value.as_secs_f64();
        self.0 = Some(self.0.map_or(value, |mean| mean + WEIGHT * (value - mean)));
    }

    /// `None` before the first value.
    pub(super) fn get(&self) -> Option<Duration> {
        self.0.map(Duration::from_secs_f64)
    }
}

/// The typing rhythm in one document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rhythm {
    last_key: Option<Instant>,
    interval: Mean,
}

impl Rhythm {
    /// Notes a change of the document.
    pub(super) fn key(&mut self, now: Instant) {
        if let Some(last) = self.last_key.replace(now) {
            let interval = now.saturating_duration_since(last);
            if interval < LONGEST_INTERVAL {
                self.interval.add(interval);
            }
        }
    }

    /// How long an automatic request that came at `now` should wait. `mean_answer` is what answers
    /// take, `is_idle` whether the engine has nothing to do.
    pub(super) fn wait(
        &self,
        setting: Debounce,
        now: Instant,
        mean_answer: Duration,
        is_idle: bool,
    ) -> Duration {
        if let Debounce::Fixed(wait) = setting {
            return wait;
        }
        let interval = self.interval.get().unwrap_or(FIRST_MEAN);
        let interval = interval.clamp(SHORTEST_MEAN, LONGEST_MEAN);
        let since_key = self.last_key.map(|key| now.saturating_duration_since(key));
        if is_idle && since_key.is_none_or(|since| since > 2 * interval) {
            return Duration::ZERO;
        }
        interval.saturating_sub(mean_answer).min(mean_answer).min(MAX_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The wait for a request `after` the last of some keys, each `interval` after the one before.
    fn wait(interval: Duration, after: Duration, answer: Duration, is_idle: bool) -> Duration {
        let mut rhythm = Rhythm::default();
        let start = Instant::now();
        for key in 0..50 {
            rhythm.key(start + key * interval);
        }
        rhythm.wait(Debounce::Auto, start + 49 * interval + after, answer, is_idle)
    }

    #[test]
    fn while_typing_it_waits_for_the_next_key_less_the_time_of_an_answer() {
        assert_eq!(wait(ms(90), ms(1), ms(60), true), ms(30));
        assert_eq!(wait(ms(90), ms(1), ms(90), true), ms(0));
        assert_eq!(wait(ms(290), ms(1), ms(150), true), MAX_WAIT);
    }

    #[test]
    fn it_never_waits_longer_than_an_answer_takes() {
        assert_eq!(wait(ms(90), ms(1), ms(15), true), ms(15));
    }

    #[test]
    fn after_a_pause_an_idle_engine_starts_at_once() {
        assert_eq!(wait(ms(90), ms(200), ms(30), true), ms(0));
        assert_eq!(wait(ms(90), ms(200), ms(30), false), ms(30));
        let fresh = Rhythm::default();
        assert_eq!(fresh.wait(Debounce::Auto, Instant::now(), ms(30), true), ms(0));
    }

    #[test]
    fn pauses_do_not_spoil_the_rhythm() {
        let mut rhythm = Rhythm::default();
        let start = Instant::now();
        for at in [0, 80, 160, 60_000, 60_080] {
            rhythm.key(start + ms(at));
        }
        let now = start + ms(60_081);
        assert_eq!(rhythm.wait(Debounce::Auto, now, ms(50), true), ms(30));
    }

    #[test]
    fn a_fixed_setting_is_taken_as_it_is() {
        let rhythm = Rhythm::default();
        let wait = rhythm.wait(Debounce::Fixed(ms(250)), Instant::now(), ms(900), true);
        assert_eq!(wait, ms(250));
    }
}
