//! Where a rewrite matters: in inner loops, in functions that are called, where a profile says that the time goes.

use std::collections::BTreeMap;

use super::conditions::has_word;
use super::{Gain, Rewrite};

/// How the time of a program is spread over its functions: folded stacks, as perf, py-spy and cargo-flamegraph write them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Share of the samples in which each function was running or waiting for what it called.
    shares: BTreeMap<String, f64>,
}

impl Profile {
    /// Reads lines of `frame;frame;frame count`.
    ///
    /// # Errors
    /// A file in which no line is one.
    pub fn read(text: &str) -> anyhow::Result<Profile> {
        let (mut counts, mut all) = (BTreeMap::<String, f64>::new(), 0.0);
        for line in text.lines() {
            let Some((stack, count)) = line.trim().rsplit_once(' ') else { continue };
            let Ok(count) = count.parse::<f64>() else { continue };
            all += count;
            let mut frames: Vec<String> = stack.split(';').map(function_of).collect();
            // One that calls itself counts once.
            frames.sort_unstable();
            frames.dedup();
            for frame in frames {
                *counts.entry(frame).or_default() += count;
            }
        }
        anyhow::ensure!(
            all > 0.0,
            "it holds no folded stacks (lines of frame;frame count): write them with py-spy record --format raw, \
             inferno-collapse-perf or cargo flamegraph --post-process"
        );
        Ok(Profile {
            shares: counts.into_iter().map(|(name, count)| (name, count / all)).collect(),
        })
    }

    /// The share of a function, by its bare name; 0 if it was never seen.
    pub fn share(&self, function: &str) -> f64 {
        self.shares.get(function).copied().unwrap_or(0.0)
    }
}

/// The bare name in a frame: `crate::module::f::h0123`, `f (file.py:12)`, `Type.method`.
fn function_of(frame: &str) -> String {
    let frame = frame.split(" (").next().unwrap_or(frame).trim();
    let frame = frame.split('<').next().unwrap_or(frame);
    let mut parts: Vec<&str> = frame.split("::").filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last.len() == 17 && last.starts_with('h'))
    {
        parts.pop();
    }
    let last = parts.last().copied().unwrap_or(frame);
    last.rsplit('.').next().unwrap_or(last).to_string()
}

/// How much a rewrite is worth looking at; `texts` are those in which calls are counted.
pub fn worth<'a>(
    rewrite: &Rewrite,
    texts: impl IntoIterator<Item = &'a str>,
    profile: Option<&Profile>,
) -> f64 {
    /// What one more loop around it is taken to multiply.
    const LOOP: f64 = 4.0;
    let gain = match rewrite.gain {
        Gain::Order => 30.0,
        Gain::Copy => 6.0,
        Gain::Constant => 3.0,
    };
    let name = rewrite.function.as_ref().map(|(name, _)| name.as_str());
    let calls = name.map_or(0, |name| {
        texts
            .into_iter()
            .filter(|text| has_word(text, name))
            .map(|text| text.matches(name).count())
            .sum::<usize>()
    });
    let share = match (profile, name) {
        (Some(profile), Some(name)) => profile.share(name) + 0.001,
        (Some(_), None) => 0.001,
        (None, _) => 1.0,
    };
    gain * LOOP.powi(rewrite.depth.min(5) as i32) * (1.0 + (1.0 + calls as f64).ln()) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_three_profilers_are_read_and_anything_else_is_an_error() {
        let text = "main;app::hot::h0123456789abcdef;alloc::vec::Vec<T>::push 30\nmain;cold (app.py:3) 10\nnoise\n\
                    Type.method;hot;hot 60\n";
        let profile = Profile::read(text).unwrap();
        assert_eq!(
            (profile.share("hot"), profile.share("cold"), profile.share("method")),
            (0.9, 0.1, 0.6)
        );
        assert_eq!(profile.share("absent"), 0.0);
        assert!(Profile::read("what is this\n").is_err());
    }
}
