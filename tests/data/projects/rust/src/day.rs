//! One day: spans that do not overlap, in order.

use crate::span::Span;

/// The spans of one day, sorted by their start.
#[derive(Clone, Debug, Default)]
pub struct Day {
    spans: Vec<Span>,
}

impl Day {
    pub fn new() -> Day {
        Day { spans: Vec::new() }
    }

    /// Adds a span; those that it overlaps are merged into it.
    pub fn add(&mut self, span: Span) {
        let mut merged = span;
        self.spans.retain(|other| {
            if other.overlaps(&merged) {
                merged = merged.merge(other);
                false
            } else {
                true
            }
        });
        self.spans.push(merged);
        self.spans.sort_by_key(|span| span.start);
    }

    /// Minutes worked on this day.
    pub fn minutes(&self) -> u32 {
        self.spans.iter().map(|span| span.minutes()).sum()
    }

    /// The span that contains a minute.
    pub fn at(&self, minute: u32) -> Option<&Span> {
        self.spans.iter().find(|span| span.contains(minute))
    }

    /// The breaks between the spans.
    pub fn breaks(&self) -> Vec<Span> {
        self.spans
            .windows(2)
            .filter_map(|pair| Span::new(pair[0].end, pair[1].start))
            .filter(|span| !span.is_empty())
            .collect()
    }
}
