//! Whether the probabilities that come with suggestions are what they claim: of those that say 0.7, seven
//! of ten should be right.

const BINS: usize = 10;

/// Suggestions whose probability lies in one tenth of the scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Bin {
    /// How many there are.
    pub count: usize,
    /// Mean of their probabilities.
    pub predicted: f64,
    /// Share of them that is exact.
    pub observed: f64,
}

/// Promised and kept. Places without a suggestion promise nothing and do not count.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Reliability {
    /// The tenths of the scale, from 0.
    pub bins: Vec<Bin>,
    /// Expected calibration error: the mean gap between predicted and observed, weighted by count.
    pub calibration_error: f64,
    /// Mean squared distance of the probability from 1 (right) or 0 (wrong).
    pub brier: f64,
}

impl Reliability {
    /// Of pairs of a probability and whether the suggestion was exact.
    pub(super) fn new(answers: impl Iterator<Item = (f64, bool)>) -> Reliability {
        let (mut bins, mut squares) = (vec![Bin::default(); BINS], 0.0);
        for (probability, exact) in answers {
            let right = f64::from(u8::from(exact));
            let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
            bin.count += 1;
            bin.predicted += probability;
            bin.observed += right;
            squares += (probability - right).powi(2);
        }
        let all: usize = bins.iter().map(|bin| bin.count).sum();
        let gaps: f64 = bins.iter().map(|bin| (bin.predicted - bin.observed).abs()).sum();
        for bin in &mut bins {
            bin.predicted /= bin.count.max(1) as f64;
            bin.observed /= bin.count.max(1) as f64;
        }
        let all = all.max(1) as f64;
        Reliability { bins, calibration_error: gaps / all, brier: squares / all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_cases() {
        let of = |answers: &[(f64, bool)]| Reliability::new(answers.iter().copied());
        let kept = of(&[(0.75, true), (0.75, true), (0.75, true), (0.75, false)]);
        assert_eq!((kept.calibration_error, kept.brier), (0.0, 0.1875));
        assert_eq!(kept.bins[7], Bin { count: 4, predicted: 0.75, observed: 0.75 });
        let boasting = of(&[(1.0, false), (0.0, false)]);
        assert_eq!((boasting.calibration_error, boasting.brier), (0.5, 0.5));
        assert_eq!((boasting.bins[9].count, boasting.bins[0].count), (1, 1));
        assert_eq!(of(&[]).brier, 0.0);
    }
}
