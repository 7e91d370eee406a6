//! How many rests of lines come out exactly, as far as the probabilities of their tokens tell: what a fine-tune is
//! chosen by. And what each token does for that: what it learns from.
//!
//! Nats are the wrong measure: most of them lie in tokens that nobody foresees, and a model that foresees these a little
//! better completes nothing more. A rest is right if each of its tokens is the likeliest one.

/// Of this probability, a token is the likeliest one as often as not: the others share what is left.
const EVEN: f32 = 0.3;
/// How fast it becomes certain around there.
const STEEPNESS: i32 = 4;

/// How certain it is that a token of this probability is the likeliest one.
fn likeliest(probability: f32) -> f32 {
    let odds = (probability / EVEN).powi(STEEPNESS);
    if odds.is_finite() { odds / (1.0 + odds) } else { 1.0 }
}

/// For each token of a line how certain the rest from there on is.
fn rests(line: &[f32]) -> Vec<f32> {
    let mut rests = vec![1.0; line.len()];
    let mut rest = 1.0;
    for (at, &probability) in line.iter().enumerate().rev() {
        rest *= likeliest(probability);
        rests[at] = rest;
    }
    rests
}

/// The share of a line's rests that come out exactly, from each of its tokens on; by the tokens' probabilities.
pub(super) fn share(line: &[f32]) -> f64 {
    let sum: f32 = rests(line).iter().sum();
    f64::from(sum) / line.len().max(1) as f64
}

/// What it is worth to know each token of a line better: the derivative of [`share`] by the logarithms of the tokens'
/// probabilities. Near 0 for what is sure already, and where another token spoils the rests anyway.
pub(super) fn worth(line: &[f32]) -> Vec<f32> {
    let mut before = 0.0;
    let each = rests(line).into_iter().zip(line).map(|(rest, &probability)| {
        before += rest;
        before * STEEPNESS as f32 * (1.0 - likeliest(probability)) / line.len() as f32
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_right_if_all_of_it_is() {
        assert!(share(&[0.9, 0.9, 0.9]) > 0.95);
        assert!(share(&[0.9, 0.9, 0.01]) < 0.01, "no rest is right");
        let first = share(&[0.01, 0.9, 0.9]);
        assert!((0.6..0.7).contains(&first), "two of three are: {first}");
        assert_eq!(share(&[]), 0.0);
    }

    #[test]
    fn the_worth_of_a_token_is_the_derivative_of_the_share() {
        let line = [0.2, 0.7, 0.35, 0.9];
        let worth = worth(&line);
        for at in 0..line.len() {
            let moved = |by: f32| {
                let mut line = line;
                line[at] *= by.exp();
                share(&line)
            };
            let slope = (moved(0.01) - moved(-0.01)) / 0.02;
            assert!((slope - f64::from(worth[at])).abs() < 1e-3, "{at}: {slope}, {worth:?}");
        }
        assert!(worth[3] < worth[2], "what is nearly sure needs no help");
    }
}
