//! HumanEval-Infilling, one line: the line between a prompt and a suffix is written by the model and the
//! program is run with its tests. pass@1 is the share of problems whose first, greedy line passes.
//!
//! A suite is a file of JSON lines with `task_id`, `entry_point`, `prompt`, `suffix`,
//! `canonical_solution` and `test`, as github.com/openai/human-eval-infilling publishes them; it is read
//! from where the user has it. The place is shown to the model as an editor would have it: the cursor on a
//! line of its own, the line break after it belongs to the suffix. The answer is cut after its first line
//! that is not blank. Several problems are cut from one task, so intervals take tasks as the unit sampled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::generation::{CancelToken, Flow, GenerateOptions, Generator, Prompt};
use crate::sandbox::{End, Limits, Sandbox, TemporaryFolder};
use crate::statistics::{Ratio, table, with_interval};
use crate::suggest::{Completer, CompletionRequest, Progress, Trigger};
use crate::text::{Text, TextEdit, apply};
use crate::tokenizer::FimPrompt;
use crate::workspace::{Document, Snapshot};

/// Tokens that one line may take.
const MAX_TOKENS: usize = 96;
/// Share of the room that the suffix may take.
const SUFFIX_SHARE: usize = 3;
/// The code with which a program ends whose tests passed. A line that ends the program early, with
/// whatever success, does not reach it.
const PASSED: i32 = 73;
/// Programs run at a time.
const WORKERS: usize = 2;

/// One hole in one program.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Problem {
    /// Kind, task and line, separated by `/`; the last part is the line.
    pub task_id: String,
    /// The function under test.
    pub entry_point: String,
    /// The text before the hole, up to a line break.
    pub prompt: String,
    /// The text after it.
    pub suffix: String,
    /// A line that passes, with its line break.
    pub canonical_solution: String,
    /// Defines `check`.
    pub test: String,
}

/// Reads a suite; a name that ends with `gz` is unpacked by `gzip`. With `count`, that many problems are
/// drawn by the seed.
pub fn read_suite(path: &Path, count: Option<usize>, seed: u64) -> Result<Vec<Problem>> {
    let shown = path.display();
    let mut bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if path.extension().is_some_and(|e| e == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(path).output();
        let output = output.context("gzip is needed to unpack the suite")?;
        if !output.status.success() {
            bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        bytes = output.stdout;
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{shown} is no text"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut problems = lines
        .map(|(i, line)| {
            serde_json::from_str(line).with_context(|| format!("{shown}:{}: no problem", i + 1))
        })
        .collect::<Result<Vec<Problem>>>()?;
    if problems.is_empty() {
        bail!("{shown} holds no problem");
    }
    if let Some(count) = count {
        problems.shuffle(&mut StdRng::seed_from_u64(seed));
        problems.truncate(count);
    }
    Ok(problems)
}

/// The model's own line for each problem: its fill-in-the-middle prompt with a made-up path, greedy.
pub fn model_lines(
    generator: &mut Generator,
    problems: &[Problem],
    say: &mut dyn FnMut(usize),
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for problem in problems {
        let prompt = prompt(generator, problem)?;
        let options = GenerateOptions { max_tokens: MAX_TOKENS, ..GenerateOptions::default() };
        let mut rule = |generated: crate::generation::Generated<'_>| {
            let text = generated.text.trim_start();
            if text.contains('\n') { Flow::Stop } else { Flow::Continue }
        };
        let cancel = CancelToken::new();
        let generation =
            generator.generate("suite", &prompt, &options, None, &mut rule, &cancel)?;
        lines.push(first_line(&generation.text).to_string());
        say(lines.len());
    }
    Ok(lines)
}

fn prompt(generator: &Generator, problem: &Problem) -> Result<Prompt> {
    let model = generator.model();
    let (tokenizer, context) = (&model.tokenizer, model.engine.context());
    let layout = tokenizer.fim();
    let layout = layout.with_context(|| format!("{} cannot fill in the middle", model.name))?;
    let header = tokenizer.file_header("solution.py");
    let room = context.saturating_sub(header.len() + layout.overhead() + MAX_TOKENS);
    let mut suffix = tokenizer.encode(&format!("\n{}", problem.suffix));
    suffix.truncate(room / SUFFIX_SHARE);
    let mut prefix = tokenizer.encode(&problem.prompt);
    let mut healed = Vec::new();
    if layout.prefix_is_last() {
        healed = prefix.pop().map(|t| tokenizer.bytes(t).to_vec()).unwrap_or_default();
    }
    let prefix = &prefix[prefix.len().saturating_sub(room - suffix.len())..];
    let tokens = layout.assemble(&FimPrompt { context: &header, prefix, suffix: &suffix });
    Ok(Prompt { tokens, healed, history: Vec::new() })
}

/// The line that the completion service puts there when the user asks, under its own rules.
pub fn service_lines(
    completer: &mut dyn Completer,
    problems: &[Problem],
    say: &mut dyn FnMut(usize),
) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, problem) in problems.iter().enumerate() {
        let text = format!("{}\n{}", problem.prompt, problem.suffix);
        let uri = format!("file:///{index}/solution.py");
        let document = Document::new(uri, "python", 1, Text::new(text.as_str()));
        let snapshot = Snapshot::alone(document);
        let request = CompletionRequest {
            snapshot,
            offset: problem.prompt.len(),
            trigger: Trigger::Invoked,
            items: 1,
            selected: None,
            precision: None,
            habit: 0.0,
        };
        let completion = completer.complete(&request, &Progress::new(), &CancelToken::new());
        let first = completion.suggestions.into_iter().next();
        let line = first.map(|suggestion| {
            let TextEdit { range, new_text } = suggestion.edit;
            let edit = TextEdit { range, new_text: first_line(&new_text).to_string() };
            let whole = apply(&text, &[edit]);
            let end = whole.len() - problem.suffix.len() - 1;
            whole.get(problem.prompt.len()..end).unwrap_or_default().to_string()
        });
        lines.push(line.unwrap_or_default());
        say(lines.len());
    }
    lines
}

/// The first line that is not blank, with the blank ones before it and without its line break.
fn first_line(text: &str) -> &str {
    let indent = text.len() - text.trim_start().len();
    let end = text[indent..].find('\n').map_or(text.len(), |at| indent + at);
    text[..end].trim_end()
}

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The tests passed.
    Passed,
    /// They did not, or something else went wrong.
    Failed,
    /// It is no Python.
    SyntaxError,
    /// It did not end in time.
    OutOfTime,
}

/// Runs programs with a Python.
pub struct Checker {
    python: PathBuf,
    sandbox: Sandbox,
    limits: Limits,
}

impl Checker {
    /// Finds the interpreter behind `python`: what is on PATH may be a script that needs an environment.
    pub fn new(python: &str, sandbox: Sandbox, limits: Limits) -> Result<Checker> {
        let code = "import sys; print(sys.executable)";
        let output = Command::new(python).args(["-c", code]).output();
        let output = output.with_context(|| format!("cannot run {python}"))?;
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if !output.status.success() || !path.is_absolute() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{python} is no Python that works: {}", complaint.trim());
        }
        let checker = Checker { python: path, sandbox, limits };
        match checker.run("")? {
            Verdict::Passed => Ok(checker),
            other => bail!("{python} does not work in the sandbox: an empty program {other:?}"),
        }
    }

    /// Runs a program in a folder of its own.
    pub fn run(&self, program: &str) -> Result<Verdict> {
        let folder = TemporaryFolder::new()?;
        let program = format!("{program}\nimport os\nos._exit({PASSED})\n");
        std::fs::write(folder.path().join("program.py"), program)?;
        // Isolated, without site packages and without leaving bytecode behind.
        let arguments = ["-I", "-S", "-B", "program.py"];
        let outcome = self.sandbox.run(&self.python, &arguments, folder.path(), &self.limits)?;
        let complaint = outcome.stderr.trim_end().rsplit('\n').next().unwrap_or("");
        let syntax = ["SyntaxError", "IndentationError", "TabError"];
        Ok(match outcome.end {
            End::Exited(PASSED) => Verdict::Passed,
            End::OutOfTime => Verdict::OutOfTime,
            _ if syntax.iter().any(|name| complaint.starts_with(name)) => Verdict::SyntaxError,
            _ => Verdict::Failed,
        })
    }

    /// The verdicts over all problems with these lines, a few at a time. `say` hears how many are done.
    pub fn verdicts(
        &self,
        problems: &[Problem],
        lines: &[String],
        say: &mut dyn FnMut(usize),
    ) -> Result<Vec<Verdict>> {
        let (next, (send, receive)) = (AtomicUsize::new(0), std::sync::mpsc::channel());
        let mut verdicts = vec![Verdict::Failed; problems.len()];
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                let (next, send) = (&next, send.clone());
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(problem), Some(line)) = (problems.get(i), lines.get(i)) else {
                            return;
                        };
                        let verdict = self.run(&program(problem, line));
                        // Nobody listens after an error; then there is nothing left to do.
                        if send.send((i, verdict)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            for (done, (i, verdict)) in receive.into_iter().enumerate() {
                verdicts[i] = verdict?;
                say(done + 1);
            }
            Ok(verdicts)
        })
    }
}

fn program(problem: &Problem, line: &str) -> String {
    let Problem { prompt, suffix, test, entry_point, .. } = problem;
    format!("{prompt}{line}\n{suffix}\n{test}\ncheck({entry_point})\n")
}

/// How one writer of lines did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct InfillingScore {
    /// Who wrote the lines: `model`, `service` or `reference`.
    pub writer: &'static str,
    /// Problems.
    pub problems: usize,
    /// Problems whose program passed.
    pub passed: usize,
    /// Their share in percent.
    pub pass_at_1: f64,
    /// Half the width of its 95 % interval over tasks, in percent points.
    pub interval: Option<f64>,
    /// Lines equal to the reference.
    pub exact: usize,
    /// Lines that are blank.
    pub empty: usize,
    /// Programs that are no Python.
    pub syntax_errors: usize,
    /// Programs that did not end in time.
    pub out_of_time: usize,
    /// Seconds to write the lines and to run the programs.
    pub seconds: f64,
}

/// Scores of one suite.
#[derive(Clone, Debug, serde::Serialize)]
pub struct InfillingReport {
    /// The suite's file name.
    pub suite: String,
    /// One row per writer.
    pub scores: Vec<InfillingScore>,
}

/// Counts the verdicts on these lines; `time` was spent on them.
pub fn score(
    writer: &'static str,
    problems: &[Problem],
    lines: &[String],
    verdicts: &[Verdict],
    time: Duration,
) -> InfillingScore {
    let count = |wanted: Verdict| verdicts.iter().filter(|&&v| v == wanted).count();
    let mut tasks: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (problem, &verdict) in problems.iter().zip(verdicts) {
        let task = problem.task_id.rsplit_once('/').map_or(&*problem.task_id, |(task, _)| task);
        let (passed, all) = tasks.entry(task).or_default();
        *passed += f64::from(verdict == Verdict::Passed);
        *all += 1.0;
    }
    let mut share = Ratio::default();
    tasks.values().for_each(|&(passed, all)| share.add(100.0 * passed, all));
    let pairs = || problems.iter().zip(lines);
    InfillingScore {
        writer,
        problems: problems.len(),
        passed: count(Verdict::Passed),
        pass_at_1: share.value(),
        interval: share.interval(),
        exact: pairs().filter(|(p, l)| p.canonical_solution.trim_end() == l.trim_end()).count(),
        empty: lines.iter().filter(|line| line.trim().is_empty()).count(),
        syntax_errors: count(Verdict::SyntaxError),
        out_of_time: count(Verdict::OutOfTime),
        seconds: time.as_secs_f64(),
    }
}

impl std::fmt::Display for InfillingReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = ["writer", "problems", "pass@1 %", "exact", "empty", "no Python", "no end", "s"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for s in &self.scores {
            rows.push(vec![
                s.writer.to_string(),
                s.problems.to_string(),
                with_interval(s.pass_at_1, s.interval, 1),
                s.exact.to_string(),
                s.empty.to_string(),
                s.syntax_errors.to_string(),
                s.out_of_time.to_string(),
                format!("{:.0}", s.seconds),
            ]);
        }
        f.write_str(&table(&rows))
    }
}

#[cfg(test)]
mod tests;
