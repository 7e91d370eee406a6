//! Runs programs that a model wrote: limited, cut off, and gone when they are done.
//!
//! What holds (Linux):
//! - namespaces of its own for users, processes, mounts, network and IPC: no network at all; every file
//!   system read-only except the given folder, which is also HOME and TMPDIR; `/proc` empty; no
//!   privileges, whoever started nestling; whatever it started dies with it, daemons too;
//! - limits on address space, processor time, file size, open files, core dumps, and, watched from outside
//!   every few milliseconds, on processes and on memory over all of them;
//! - a limit on time; an empty environment; stdin at its end; output cut after a number of bytes.
//!
//! What does not: the program can read every file that the user can read (but send it nowhere), reach Unix
//! sockets by name if the user may, fill the disk of its folder with many files until its time is up, and
//! call whatever the kernel offers to programs without privileges: there is no filter of system calls. It
//! protects against accidents and careless code; it is no prison for a determined attacker.
//!
//! [`Sandbox::weak`] goes without namespaces: then the network, files and processes that leave their group
//! are not held.

#[cfg(target_os = "linux")]
mod linux;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

/// For output whose end does not come.
const PATIENCE: Duration = Duration::from_millis(500);

/// What one program may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time from start to end.
    pub wall: Duration,
    /// Processor time of one process, in whole seconds, rounded up.
    pub cpu: Duration,
    /// Bytes of address space of one process, and of resident memory of all together.
    pub memory: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Processes at a time.
    pub processes: usize,
    /// Bytes kept of stdout and of stderr each; what follows is read and forgotten.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            memory: 1 << 30,
            file: 16 << 20,
            processes: 32,
            output: 64 << 10,
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code. A program that a signal ended in namespaces has 128 + the signal's
    /// number, as in a shell.
    Exited(i32),
    /// By this signal.
    Signal(i32),
    /// It ran out of time and was killed.
    OutOfTime,
    /// It had too many processes and was killed.
    TooManyProcesses,
    /// Its processes had too much memory together and were killed.
    TooMuchMemory,
    /// Nobody wanted it any more, and it was killed.
    Unwanted,
}

/// What a program left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The beginning of its output; bytes that are no UTF-8 become U+FFFD.
    pub stdout: String,
    /// The beginning of its complaints.
    pub stderr: String,
    /// Most bytes of resident memory seen over all its processes; 0 if it ended before the first look.
    pub peak_memory: u64,
    /// Time it took.
    pub seconds: f64,
}

/// A way to run programs. Cheap; one serves any number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    isolated: bool,
}

impl Sandbox {
    /// With namespaces; an error that says why if this machine refuses them.
    pub fn new() -> Result<Sandbox> {
        let sandbox = Sandbox { isolated: true };
        let folder = TemporaryFolder::new()?;
        let limits = Limits { wall: Duration::from_secs(10), ..Limits::default() };
        let outcome = sandbox.run(Path::new("/bin/sh"), &["-c", "exit 7"], folder.path(), &limits);
        match outcome.context("this machine refuses to isolate programs")?.end {
            End::Exited(7) => Ok(sandbox),
            end => bail!("this machine does not isolate programs: a first one ended with {end:?}"),
        }
    }

    /// Limits and a process group only.
    pub fn weak() -> Sandbox {
        Sandbox { isolated: false }
    }

    /// Runs `program` (an absolute path) in `folder` and waits for its end, or brings it about.
    pub fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        folder: &Path,
        limits: &Limits,
    ) -> std::io::Result<Outcome> {
        self.run_while(program, arguments, folder, limits, &|| true)
    }

    /// [`Sandbox::run`] as long as somebody wants it.
    #[cfg(target_os = "linux")]
    pub fn run_while(
        &self,
        program: &Path,
        arguments: &[&str],
        folder: &Path,
        limits: &Limits,
        is_wanted: &dyn Fn() -> bool,
    ) -> std::io::Result<Outcome> {
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        use std::process::{Command, Stdio};
        let folder = folder.canonicalize()?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder).env_clear();
        command.env("HOME", &folder).env("TMPDIR", &folder);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let child_side = linux::Confinement::new(&folder, limits, self.isolated)?;
        // SAFETY: `confine` allocates nothing and takes no lock; it only makes system calls on what was
        // prepared before the fork.
        unsafe { command.pre_exec(move || child_side.confine()) };
        let start = Instant::now();
        let mut child = command.spawn()?;
        let outputs = [
            child.stdout.take().map(|pipe| Output::read(pipe, limits.output)),
            child.stderr.take().map(|pipe| Output::read(pipe, limits.output)),
        ];
        // The first two processes of an isolated run only keep house.
        let own = if self.isolated { 2 } else { 0 };
        let (mut peak_memory, mut pause) = (0, Duration::from_millis(1));
        let end = loop {
            if let Some(status) = child.try_wait()? {
                break match (status.code(), status.signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Signal(signal.unwrap_or(0)),
                };
            }
            let (processes, memory) = linux::usage(child.id(), own, limits.processes);
            peak_memory = peak_memory.max(memory);
            let broken = if start.elapsed() >= limits.wall {
                Some(End::OutOfTime)
            } else if processes > limits.processes {
                Some(End::TooManyProcesses)
            } else if memory > limits.memory {
                Some(End::TooMuchMemory)
            } else if !is_wanted() {
                Some(End::Unwanted)
            } else {
                None
            };
            if let Some(end) = broken {
                linux::kill_group(child.id());
                child.wait()?;
                break end;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        };
        // What stayed behind in the group, without namespaces.
        linux::kill_group(child.id());
        let seconds = start.elapsed().as_secs_f64();
        let [stdout, stderr] = outputs.map(|output| output.map_or(String::new(), Output::finish));
        Ok(Outcome { end, stdout, stderr, peak_memory, seconds })
    }

    /// Runs nothing: an error everywhere but on Linux.
    #[cfg(not(target_os = "linux"))]
    pub fn run_while(
        &self,
        _program: &Path,
        _arguments: &[&str],
        _folder: &Path,
        _limits: &Limits,
        _is_wanted: &dyn Fn() -> bool,
    ) -> std::io::Result<Outcome> {
        let message = "programs of a model are only run on Linux";
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, message))
    }
}

/// A pipe that is read to its end by a thread, so that the program never waits for us; what is too much is forgotten.
pub struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Output {
    /// Begins to read; `limit` bytes are kept.
    pub fn read(mut pipe: impl Read + Send + 'static, limit: usize) -> Output {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let thread = std::thread::spawn({
            let kept = kept.clone();
            move || {
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    let mut kept = kept.lock();
                    let room = limit - kept.len();
                    kept.extend_from_slice(&buffer[..count.min(room)]);
                }
            }
        });
        Output { kept, thread }
    }

    /// What was kept. A process that left its group or escaped a weak sandbox may hold the pipe; it is not waited for.
    pub fn finish(self) -> String {
        let (start, mut looks) = (Instant::now(), 0);
        // After a pause of the whole machine, the reader has its turn before we give up.
        while !self.thread.is_finished() && (looks < 50 || start.elapsed() < PATIENCE) {
            std::thread::sleep(Duration::from_micros(200));
            looks += 1;
        }
        String::from_utf8_lossy(&self.kept.lock()).into_owned()
    }
}

/// A folder of this run alone, removed with everything in it when it is dropped.
#[derive(Debug)]
pub struct TemporaryFolder(std::path::PathBuf);

impl TemporaryFolder {
    /// An empty folder that only this user can enter.
    pub fn new() -> Result<TemporaryFolder> {
        let base = std::env::temp_dir();
        for _ in 0..16 {
            let path = base.join(format!("nestling-{:016x}", rand::random::<u64>()));
            let mut builder = std::fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&path) {
                Ok(()) => return Ok(TemporaryFolder(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("cannot make {}", path.display())),
            }
        }
        bail!("no free name for a folder in {}", base.display())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
