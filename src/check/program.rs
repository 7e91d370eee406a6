//! Runs a command with a limit on time and output; it and all that it started are gone afterwards.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::Output;

/// Bytes of output that are kept.
const MOST_OUTPUT: usize = 8 << 20;

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program with arguments.
    Direct(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, successfully or not.
    Itself(bool),
    /// It took too long.
    OutOfTime,
    /// Nobody wanted it any more.
    Cancelled,
}

/// What a command left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub end: Ended,
    /// What it printed, and complained.
    pub stdout: String,
    /// See `stdout`.
    pub stderr: String,
}

impl Finished {
    /// The last that it said: what went wrong stands there.
    pub fn last_line(&self) -> &str {
        self.stderr.lines().chain(self.stdout.lines()).last().unwrap_or("nothing")
    }
}

impl Program {
    /// Runs it in a folder, with these variables besides the own ones.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(
        &self,
        folder: &Path,
        variables: &[(&str, &Path)],
        limit: Duration,
        is_wanted: &dyn Fn() -> bool,
    ) -> std::io::Result<Finished> {
        self.run_with_input(folder, variables, "", limit, is_wanted)
    }

    /// The same with a text to read, which must be short enough for a pipe to hold.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run_with_input(
        &self,
        folder: &Path,
        variables: &[(&str, &Path)],
        input: &str,
        limit: Duration,
        is_wanted: &dyn Fn() -> bool,
    ) -> std::io::Result<Finished> {
        let mut command = match self {
            Program::Direct(words) => {
                let mut command = Command::new(words.first().map_or("", String::as_str));
                command.args(words.iter().skip(1));
                command
            }
            Program::Shell(line) if cfg!(windows) => {
                let mut command = Command::new("cmd");
                command.args(["/C", line]);
                command
            }
            Program::Shell(line) => {
                let mut command = Command::new("sh");
                command.args(["-c", line]);
                command
            }
        };
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.current_dir(folder).stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(variables.iter().copied());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // Who reads nothing says so by how it ends.
            let _ = stdin.write_all(input.as_bytes());
        }
        let stdout = child.stdout.take().map(|pipe| Output::read(pipe, MOST_OUTPUT));
        let stderr = child.stderr.take().map(|pipe| Output::read(pipe, MOST_OUTPUT));
        let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
        let end = loop {
            if let Some(status) = child.try_wait()? {
                break Ended::Itself(status.success());
            }
            let end = match () {
                () if start.elapsed() >= limit => Ended::OutOfTime,
                () if !is_wanted() => Ended::Cancelled,
                () => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                    continue;
                }
            };
            kill(&mut child);
            break end;
        };
        // What it left behind in its group would hold the pipes.
        kill(&mut child);
        let text = |output: Option<Output>| output.map(Output::finish).unwrap_or_default();
        Ok(Finished { end, stdout: text(stdout), stderr: text(stderr) })
    }
}

#[cfg(unix)]
fn kill(child: &mut std::process::Child) {
    // SAFETY: takes numbers only; the group is the child's own, and gone if it says so.
    unsafe {
        libc::kill(-(child.id() as i32), libc::SIGKILL);
    }
    let _ = child.wait();
}

#[cfg(not(unix))]
fn kill(child: &mut std::process::Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(line: &str, limit: u64) -> Finished {
        let program = Program::Shell(line.into());
        program.run(Path::new("/"), &[], Duration::from_millis(limit), &|| true).unwrap()
    }

    #[test]
    fn output_and_success_are_told_apart() {
        let done = shell("echo out; echo err >&2; exit 3", 5000);
        assert_eq!(
            (done.end, &*done.stdout, &*done.stderr),
            (Ended::Itself(false), "out\n", "err\n")
        );
        assert_eq!(shell("true", 5000).end, Ended::Itself(true));
    }

    #[test]
    fn what_hangs_is_ended_with_its_children() {
        let start = Instant::now();
        assert_eq!(shell("sleep 30 & sleep 30", 100).end, Ended::OutOfTime);
        assert!(start.elapsed() < Duration::from_secs(5));
        let program = Program::Shell("sleep 30".into());
        let ended = program.run(Path::new("/"), &[], Duration::from_secs(30), &|| false).unwrap();
        assert_eq!(ended.end, Ended::Cancelled);
    }

    #[test]
    fn a_flood_is_cut_and_a_missing_program_is_an_error() {
        let done = shell("head -c 20000000 /dev/zero", 20_000);
        assert_eq!(done.stdout.len(), MOST_OUTPUT);
        let missing = Program::Direct(vec!["no-such-program".into()]);
        assert!(missing.run(Path::new("/"), &[], Duration::from_secs(1), &|| true).is_err());
    }
}
