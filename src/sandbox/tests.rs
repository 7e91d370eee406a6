//! Hostile programs. Where a machine refuses namespaces, the same programs meet the weak sandbox, and
//! what only namespaces hold is not asserted.

use super::*;

fn limits() -> Limits {
    Limits { wall: Duration::from_secs(20), memory: 512 << 20, processes: 16, ..Limits::default() }
}

/// The sandbox of this machine, and whether it isolates.
fn sandbox() -> (Sandbox, bool) {
    Sandbox::new().map_or((Sandbox::weak(), false), |sandbox| (sandbox, true))
}

fn shell(folder: &TemporaryFolder, script: &str, limits: &Limits) -> Outcome {
    let shell = Path::new("/bin/sh");
    sandbox().0.run(shell, &["-c", script], folder.path(), limits).unwrap()
}

#[test]
fn an_honest_program_gives_its_code_and_output() {
    let folder = TemporaryFolder::new().unwrap();
    std::fs::write(folder.path().join("in"), "hello").unwrap();
    let script = "cat in; echo $HOME; env | wc -l; cat; echo no >&2; touch made; exit 5";
    let outcome = shell(&folder, script, &limits());
    assert_eq!(outcome.end, End::Exited(5), "{outcome:?}");
    assert!(outcome.stdout.starts_with("hello/"), "{outcome:?}");
    assert_eq!(outcome.stderr, "no\n");
    let variables: usize =
        outcome.stdout.trim().rsplit('\n').next().unwrap().trim().parse().unwrap();
    assert!(variables <= 6, "{outcome:?}");
    assert!(folder.path().join("made").exists());
    let path = folder.path().to_path_buf();
    drop(folder);
    assert!(!path.exists());
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let folder = TemporaryFolder::new().unwrap();
    let missing = Path::new("/no/such/program");
    assert!(sandbox().0.run(missing, &[], folder.path(), &limits()).is_err());
}

#[test]
fn an_endless_loop_runs_out_of_time() {
    let folder = TemporaryFolder::new().unwrap();
    let wall = Duration::from_millis(300);
    let outcome = shell(&folder, "while :; do :; done", &Limits { wall, ..limits() });
    assert_eq!(outcome.end, End::OutOfTime);
    let cpu = Duration::from_secs(1);
    let outcome = shell(&folder, "while :; do :; done", &Limits { cpu, ..limits() });
    let kill = [End::Exited(128 + libc::SIGKILL), End::Signal(libc::SIGKILL)];
    assert!(kill.contains(&outcome.end), "{outcome:?}");
}

#[test]
fn a_fork_bomb_is_stopped() {
    let folder = TemporaryFolder::new().unwrap();
    let outcome = shell(&folder, "f() { f & f & sleep 1; }; f; f; f; sleep 2", &limits());
    // A user who is not root meets the kernel's limit first: no fork succeeds any more.
    assert_ne!(outcome.end, End::OutOfTime, "{outcome:?}");
    assert!(outcome.seconds < 10.0, "{outcome:?}");
}

#[test]
fn a_memory_hog_fails_alone_and_in_a_pack() {
    let folder = TemporaryFolder::new().unwrap();
    // tail keeps the one endless line.
    let hog = "head -c 3000000000 /dev/zero | tail -n 1 | wc -c";
    let outcome = shell(&folder, hog, &limits());
    assert!(!outcome.stdout.contains("3000000000"), "{outcome:?}");
    assert!(outcome.peak_memory > 8 << 20, "{outcome:?}");
    let one = "(head -c 300000000 /dev/zero | tail -n 1 | sleep 9) &";
    let outcome = shell(&folder, &format!("{one}{one}{one} wait"), &limits());
    assert_eq!(outcome.end, End::TooMuchMemory, "{outcome:?}");
}

#[test]
fn huge_output_is_cut_and_huge_files_fail() {
    let folder = TemporaryFolder::new().unwrap();
    let outcome = shell(&folder, "head -c 100000000 /dev/zero | tr '\\0' x", &limits());
    assert_eq!((outcome.end, outcome.stdout.len()), (End::Exited(0), limits().output));
    shell(&folder, "head -c 100000000 /dev/zero > big", &limits());
    let size = folder.path().join("big").metadata().unwrap().len();
    assert!(size <= limits().file, "{size}");
}

#[test]
fn nothing_is_written_outside_the_folder() {
    let (folder, outside) = (TemporaryFolder::new().unwrap(), TemporaryFolder::new().unwrap());
    let target = outside.path().join("escaped");
    let script = format!("echo x > in; echo x > {}; mount -o remount,rw /", target.display());
    shell(&folder, &script, &limits());
    assert!(folder.path().join("in").exists());
    assert!(!target.exists() || !sandbox().1);
}

#[test]
fn the_network_and_other_processes_are_out_of_sight() {
    let folder = TemporaryFolder::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "command -v python3 >/dev/null || exit 4; \
         python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'"
    );
    let (isolated, script) = (sandbox().1, &script);
    let connected = shell(&folder, script, &limits());
    assert!(!isolated || connected.end != End::Exited(0), "{connected:?}");
    let seen = shell(&folder, "ls /proc | wc -l; id -u", &limits());
    assert!(!isolated || seen.stdout.trim() == "0\n65534", "{seen:?}");
}

#[test]
fn a_daemon_dies_with_its_program() {
    let folder = TemporaryFolder::new().unwrap();
    let daemon = "while :; do echo x >> beat; sleep 0.02; done";
    let script = format!(
        "setsid sh -c '{daemon}' >/dev/null 2>&1 </dev/null & until [ -s beat ]; do sleep 0.02; done"
    );
    let outcome = shell(&folder, &script, &limits());
    let beats = || std::fs::read(folder.path().join("beat")).unwrap_or_default().len();
    std::thread::sleep(Duration::from_millis(100));
    let before = beats();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!sandbox().1 || (before > 0 && beats() == before), "{outcome:?}");
}
