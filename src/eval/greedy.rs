//! The likeliest tokens after a prompt, and how close the decision was: for comparing this engine with
//! others, which may differ only where two tokens are nearly as likely.

use crate::generation::Model;
use crate::model::engine::EngineError;
use crate::tokenizer::TokenId;

/// A greedy continuation.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Greedy {
    /// The prompt's tokens.
    pub prompt: Vec<TokenId>,
    /// The likeliest token at each step; without tokens to follow, the one that would end the text is the last.
    pub tokens: Vec<TokenId>,
    /// The second likeliest at each step.
    pub runners_up: Vec<TokenId>,
    /// By how much the logit of the first exceeds that of the second.
    pub margins: Vec<f32>,
    /// By how much the logit of the first exceeds that of the token with which the text went on.
    pub lags: Vec<f32>,
}

/// Continues `prompt`, whose special tokens are plain text, until a special token or `most` tokens. Where there
/// is a token to `follow`, the text goes on with it, whatever is likeliest. An empty prompt has no continuation.
pub fn greedy(
    model: &Model,
    prompt: &str,
    most: usize,
    follow: &[TokenId],
) -> Result<Greedy, EngineError> {
    let mut result = Greedy { prompt: model.tokenizer.encode(prompt), ..Greedy::default() };
    let (mut cache, mut next) = (model.engine.new_cache(), result.prompt.clone());
    while !next.is_empty() && result.tokens.len() < most {
        let logits = model.engine.forward(&mut cache, &next, 1)?;
        let (mut first, mut second) = if logits.get(1) > logits.first() { (1, 0) } else { (0, 1) };
        for id in 2..logits.len() {
            if logits[id] > logits[first] {
                (first, second) = (id, first);
            } else if logits[id] > logits[second] {
                second = id;
            }
        }
        let taken = follow.get(result.tokens.len()).copied().unwrap_or(first as TokenId);
        result.tokens.push(first as TokenId);
        result.runners_up.push(second as TokenId);
        result.margins.push(logits[first] - logits[second]);
        let lag = logits.get(taken as usize).map_or(f32::INFINITY, |logit| logits[first] - logit);
        result.lags.push(lag);
        next = if model.tokenizer.is_special(taken) { Vec::new() } else { vec![taken] };
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::ModelSource;
    use crate::model::engine::Precision;

    #[test]
    fn the_first_two_are_the_largest_logits_and_the_first_goes_on() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny");
        let model = Model::load(&ModelSource::Path(path.into()), Precision::Float).unwrap();
        let greedy = greedy(&model, "fn main() {\n    let ", 12, &[]).unwrap();
        assert!(greedy.tokens.len() == 12 || model.tokenizer.is_special(greedy.tokens[11]));
        for at in 0..greedy.tokens.len() {
            let text = [&greedy.prompt[..], &greedy.tokens[..at]].concat();
            let logits = model.engine.forward(&mut model.engine.new_cache(), &text, 1).unwrap();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let named = [greedy.tokens[at] as usize, greedy.runners_up[at] as usize];
            assert_eq!(named, order[..2], "{at}");
            let margin = logits[order[0]] - logits[order[1]];
            assert!((margin - greedy.margins[at]).abs() < 1e-3, "{at}");
        }
        assert_eq!(super::greedy(&model, "", 5, &[]).unwrap(), Greedy::default());
        // Along its own tokens it says the same; along others, what comes after those.
        let prompt = "fn main() {\n    let ";
        assert_eq!(super::greedy(&model, prompt, 12, &greedy.tokens[..5]).unwrap(), greedy);
        let other = super::greedy(&model, prompt, 2, &[greedy.runners_up[0]]).unwrap();
        assert_eq!(other.tokens[0], greedy.tokens[0]);
        assert_eq!((greedy.lags[0], other.lags[0]), (0.0, greedy.margins[0]));
        let text = [&greedy.prompt[..], &[greedy.runners_up[0]]].concat();
        let logits = model.engine.forward(&mut model.engine.new_cache(), &text, 1).unwrap();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        assert_eq!(Some(other.tokens[1] as usize), best);
    }
}
