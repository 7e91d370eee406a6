//! Ends the server when the editor that started it is gone without a word.
//! The end of stdin says it too, but not when another process still holds the pipe.

use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

/// Returns when the process is gone; never if it cannot be watched here.
///
/// A client in another container has a number that means nothing on this side: a process that
/// is not there at the first look is not watched.
pub(super) async fn gone(process_id: u32) {
    if is_alive(process_id) != Some(true) {
        return std::future::pending().await;
    }
    while is_alive(process_id) != Some(false) {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether a process runs; `None` where that cannot be told without the system's own functions.
#[cfg(target_os = "linux")]
fn is_alive(process_id: u32) -> Option<bool> {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process_id}/stat")) else {
        return Some(false);
    };
    // "123 (name) S …"; the name may contain anything. Z and X are dead and not yet collected.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    Some(!matches!(state, Some('Z' | 'X')))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_alive(process_id: u32) -> Option<bool> {
    use std::sync::OnceLock;
    static FIRST_PARENT: OnceLock<u32> = OnceLock::new();
    let parent = std::os::unix::process::parent_id();
    // An orphan gets another parent.
    (*FIRST_PARENT.get_or_init(|| parent) == process_id).then_some(parent == process_id)
}

#[cfg(not(unix))]
fn is_alive(_process_id: u32) -> Option<bool> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_dead_process_is_seen_before_it_is_collected() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep can be started");
        assert_eq!(is_alive(child.id()), Some(true));
        child.kill().expect("it runs");
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while is_alive(child.id()) != Some(false) {
            assert!(std::time::Instant::now() < end, "it does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait().expect("it is a child");
        assert_eq!(is_alive(child.id()), Some(false));
    }
}
