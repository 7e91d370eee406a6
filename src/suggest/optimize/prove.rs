//! What is proven of a rewrite by running it: the same results on generated inputs, in a sandbox, and times taken in turn.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::subject::Subject;
use crate::check::{Ended, Overlay, Program, installed};
use crate::generation::CancelToken;
use crate::sandbox::{End, Limits, Sandbox, TemporaryFolder};
use crate::statistics::paired_bootstrap;

/// The word "faster" needs a lower bound above this.
pub const FASTER: f64 = 1.05;
/// Timings that a claim needs at least.
pub const LEAST_PAIRS: usize = 20;

/// How much is asked of a proof.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Inputs on which both versions must do the same.
    pub inputs: usize,
    /// Pairs of timings; none if it need not be measured.
    pub pairs: usize,
    /// Time for the inputs, and again for the timings.
    pub seconds: f64,
    /// Seed of the inputs.
    pub seed: u64,
    /// Whether it may run where the machine does not isolate programs: in a workspace that is trusted, or on a command.
    pub weakly: bool,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { inputs: 200, pairs: 30, seconds: 20.0, seed: 1, weakly: true }
    }
}

/// What running both versions showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict")]
pub enum Verdict {
    /// They did the same on so many inputs.
    Same {
        /// Inputs.
        inputs: usize,
        /// Their times, if they were taken.
        speed: Option<Speed>,
        /// Why they were not.
        unmeasured: Option<String>,
    },
    /// They did not.
    Different {
        /// An input.
        input: String,
        /// What it came to before.
        before: String,
        /// And after.
        after: String,
    },
    /// Nothing was shown, for this reason.
    Unknown {
        /// In words that follow "not compared:".
        why: String,
    },
}

/// How many times faster the second version is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Time before over time after: the geometric mean.
    pub ratio: f64,
    /// The 95 % interval.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Pairs of timings.
    pub pairs: usize,
    /// Seconds of one run before.
    pub before: f64,
    /// And after.
    pub after: f64,
}

impl Speed {
    /// Of pairs of times taken in turn; none if there are too few.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Speed> {
        let logs: Vec<f64> = pairs
            .iter()
            .filter(|(before, after)| *before > 0.0 && *after > 0.0)
            .map(|(before, after)| (before / after).ln())
            .collect();
        if logs.len() < LEAST_PAIRS {
            return None;
        }
        let (mean, _) = paired_bootstrap(&logs, 1);
        let middle = |which: fn(&(f64, f64)) -> f64| {
            let mut times: Vec<f64> = pairs.iter().map(which).collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        Some(Speed {
            ratio: mean.value.exp(),
            low: mean.low?.exp(),
            high: mean.high?.exp(),
            pairs: logs.len(),
            before: middle(|pair| pair.0),
            after: middle(|pair| pair.1),
        })
    }

    /// Whether it may be called faster.
    pub fn is_faster(&self) -> bool {
        self.low > FASTER
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    inputs: usize,
    why: Option<String>,
    different: Option<Differs>,
    pairs: Option<Vec<(f64, f64)>>,
    unmeasured: Option<String>,
}

#[derive(Deserialize)]
struct Differs {
    input: String,
    before: String,
    after: String,
}

/// Runs both versions of a subject.
///
/// # Errors
/// No sandbox, no room, or a program that is not installed.
pub fn compare(subject: &Subject, effort: &Effort, cancel: &CancelToken) -> Result<Verdict> {
    // Isolated where the machine allows it; limits hold in any case.
    let sandbox = match Sandbox::new() {
        Ok(sandbox) => sandbox,
        Err(_) if effort.weakly => Sandbox::weak(),
        Err(error) => {
            let why = format!("{error:#}: it runs after nestling trust");
            return Ok(Verdict::Unknown { why });
        }
    };
    let folder = TemporaryFolder::new()?;
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text)
            .context("cannot write what is to be run; free some space")
    };
    let spec = serde_json::json!({
        "kind": if subject.function.is_some() { "function" } else { "program" },
        "name": subject.function,
        "parameters": subject.parameters,
        "literals": subject.literals,
        "inputs": effort.inputs,
        "pairs": effort.pairs,
        "seconds": effort.seconds,
        "seed": effort.seed,
        "paths": if subject.language == "python" { libraries() } else { Vec::new() },
    });
    write("spec.json", &spec.to_string())?;
    let (program, arguments): (PathBuf, Vec<String>) = match subject.language {
        "python" => {
            write("before.py", &subject.before)?;
            write("after.py", &subject.after)?;
            write("prove.py", include_str!("harness/prove.py"))?;
            write("lines.py", include_str!("harness/lines.py"))?;
            (python()?, vec!["-S".into(), "-B".into(), "prove.py".into()])
        }
        "javascript" => {
            let name = subject.function.as_deref().unwrap_or_default();
            for (file, text) in [("before.mjs", &subject.before), ("after.mjs", &subject.after)] {
                write(file, &format!("{text}\nexport {{ {name} as subject }};\n"))?;
            }
            write("prove.mjs", include_str!("harness/prove.mjs"))?;
            let node = installed("node").context("node is not installed")?;
            (node, vec!["--stack-size=4000".into(), "prove.mjs".into()])
        }
        _ => match super::rust_harness::build(subject, effort, folder.path())? {
            Ok(binary) => (binary, Vec::new()),
            Err(why) => return Ok(Verdict::Unknown { why }),
        },
    };
    let time = Duration::from_secs_f64(3.0 * effort.seconds + 30.0);
    let limits = Limits {
        wall: time,
        cpu: time,
        // Node reserves much more than it uses.
        memory: if subject.language == "javascript" { 64 << 30 } else { 4 << 30 },
        output: 1 << 20,
        ..Limits::default()
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wanted = || !cancel.is_cancelled();
    let outcome = sandbox.run_while(&program, &arguments, folder.path(), &limits, &wanted)?;
    let Ok(answer) = serde_json::from_str::<Answer>(&outcome.stdout) else {
        let why = match outcome.end {
            End::Exited(_) => {
                format!(
                    "running it failed: {}",
                    outcome.stderr.lines().last().unwrap_or("it said nothing")
                )
            }
            End::OutOfTime => "running it took too long".into(),
            End::Unwanted => "cancelled".into(),
            end => format!("running it ended with {end:?}"),
        };
        return Ok(Verdict::Unknown { why });
    };
    Ok(match answer {
        Answer { different: Some(Differs { input, before, after }), .. } => {
            Verdict::Different { input, before, after }
        }
        Answer { why: Some(why), .. } => Verdict::Unknown {
            why: match &subject.whole {
                Some(whole) => format!("{whole}; as a program, {why}"),
                None => why,
            },
        },
        Answer { inputs, .. } if inputs < effort.inputs => Verdict::Unknown {
            why: format!("only {inputs} of {} inputs were tried in time", effort.inputs),
        },
        Answer { inputs, pairs, unmeasured, .. } => {
            let speed = pairs.as_deref().and_then(Speed::of);
            let few = || format!("fewer than {LEAST_PAIRS} pairs in time");
            let unmeasured = unmeasured.or((speed.is_none() && effort.pairs > 0).then(few));
            Verdict::Same { inputs, speed, unmeasured }
        }
    })
}

/// Times a command in two copies in turn. The first pair warms up and does not count.
///
/// # Errors
/// The command fails or takes too long: no claim can be made of it.
pub fn bench(
    copies: [&Overlay; 2],
    command: &Program,
    (pairs, limit): (usize, Duration),
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<(f64, f64)>> {
    let mut times = Vec::new();
    for index in 0..=pairs {
        let mut pair = [0.0; 2];
        let order = if index % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let start = std::time::Instant::now();
            let done = copies[which].run(command, limit, go_on)?;
            pair[which] = start.elapsed().as_secs_f64();
            match done.end {
                Ended::Itself(true) => {}
                Ended::Itself(false) => {
                    anyhow::bail!("the benchmark failed and said: {}", done.last_line());
                }
                Ended::OutOfTime => {
                    anyhow::bail!("the benchmark took more than {} s", limit.as_secs())
                }
                Ended::Cancelled => anyhow::bail!("cancelled"),
            }
        }
        if index > 0 {
            times.push((pair[0], pair[1]));
        }
    }
    Ok(times)
}

/// Where the user's interpreter finds libraries, as those of a virtual environment.
fn libraries() -> Vec<String> {
    let ask =
        "import sys, json; print(json.dumps([p for p in sys.path if p.endswith('-packages')]))";
    let output = installed("python3")
        .and_then(|python| std::process::Command::new(python).args(["-c", ask]).output().ok());
    output.and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
}

/// The interpreter itself: a version manager's stand-in needs more of the environment than a sandbox has.
fn python() -> Result<PathBuf> {
    let stand_in = installed("python3").context("python3 is not installed")?;
    let ask = ["-c", "import sys; print(getattr(sys, '_base_executable', sys.executable))"];
    let output = std::process::Command::new(&stand_in).args(ask).output();
    let own = output.ok().map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()));
    Ok(own.filter(|path| path.is_file()).unwrap_or(stand_in))
}
