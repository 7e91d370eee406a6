//! The child's side of the sandbox, between fork and exec, and the look from outside while it runs.
//! Nothing in [`Confinement::confine`] may allocate or lock: it runs in a fork of a program with threads.

use std::ffi::{CStr, CString, c_int, c_ulong};
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Limits;

/// What the child needs, prepared before the fork.
pub(super) struct Confinement {
    folder: CString,
    user_map: Vec<u8>,
    group_map: Vec<u8>,
    limits: [(c_int, u64); 5],
    processes: u64,
    isolated: bool,
}

/// In its namespace the program is nobody: a user without privileges even when root started it.
const NOBODY: u32 = 65534;
const NICE: c_int = 5;

impl Confinement {
    pub(super) fn new(folder: &Path, limits: &Limits, isolated: bool) -> Result<Confinement> {
        // SAFETY: both calls only return numbers.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        Ok(Confinement {
            folder: CString::new(folder.as_os_str().as_bytes())?,
            user_map: format!("{NOBODY} {user} 1").into_bytes(),
            group_map: format!("{NOBODY} {group} 1").into_bytes(),
            limits: [
                (libc::RLIMIT_AS as c_int, limits.memory),
                (libc::RLIMIT_CPU as c_int, limits.cpu.as_millis().div_ceil(1000) as u64),
                (libc::RLIMIT_FSIZE as c_int, limits.file),
                (libc::RLIMIT_NOFILE as c_int, 256),
                (libc::RLIMIT_CORE as c_int, 0),
            ],
            processes: limits.processes as u64,
            isolated,
        })
    }

    /// Returns in the process that becomes the program.
    pub(super) fn confine(&self) -> Result<()> {
        // SAFETY: system calls on prepared, valid pointers.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            // Whoever watches gets the processor first, even from a fork bomb.
            check(libc::setpriority(libc::PRIO_PROCESS, 0, NICE))?;
            if self.isolated {
                self.isolate()?;
                // Counted by namespace; without one, all that the user runs would count. The kernel
                // spares root, whom only the look from outside holds.
                limit(libc::RLIMIT_NPROC as c_int, self.processes)?;
            }
            for (resource, value) in self.limits {
                limit(resource, value)?;
            }
        }
        Ok(())
    }

    /// New namespaces; then two forks: this process waits for the first of the new namespace, that one
    /// for the program. When the first ends, the kernel kills everything in the namespace.
    unsafe fn isolate(&self) -> Result<()> {
        // SAFETY: as above.
        unsafe {
            let spaces = libc::CLONE_NEWUSER
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS;
            check(libc::unshare(spaces))?;
            write(c"/proc/self/setgroups", b"deny")?;
            write(c"/proc/self/uid_map", &self.user_map)?;
            write(c"/proc/self/gid_map", &self.group_map)?;
            self.mount()?;
            self.fork_and_stay()?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            self.fork_and_stay()?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        }
        Ok(())
    }

    /// Everything read-only, the folder writable, `/proc` empty.
    unsafe fn mount(&self) -> Result<()> {
        // SAFETY: as above; the structures live through the calls.
        unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            mount(c"none", c"/", private)?;
            mount(&self.folder, &self.folder, libc::MS_BIND)?;
            let mut change: libc::mount_attr = std::mem::zeroed();
            change.attr_set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID;
            set_attributes(c"/", libc::AT_RECURSIVE, &change)?;
            let mut change: libc::mount_attr = std::mem::zeroed();
            change.attr_clr = libc::MOUNT_ATTR_RDONLY;
            set_attributes(&self.folder, 0, &change)?;
            let still = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let (target, kind) = (c"/proc", c"tmpfs");
            let done =
                libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), still, std::ptr::null());
            check(done)?;
            // The working folder of before lies under the mount.
            check(libc::chdir(self.folder.as_ptr()))
        }
    }

    /// Forks. The child returns; the parent keeps only stdin, stdout and stderr, reaps what it inherits
    /// until the child ends, and ends as it did.
    unsafe fn fork_and_stay(&self) -> Result<()> {
        // SAFETY: as above.
        unsafe {
            let child = libc::fork();
            check(child)?;
            if child == 0 {
                return Ok(());
            }
            // Among them is the pipe on which the starting process waits for exec.
            if libc::syscall(libc::SYS_close_range, 3, c_int::MAX, 0) != 0 {
                (3..4096).for_each(|file| {
                    libc::close(file);
                });
            }
            let mut status = 0;
            loop {
                let ended = libc::waitpid(-1, &mut status, 0);
                let interrupted = || Error::last_os_error().raw_os_error() == Some(libc::EINTR);
                if ended == child {
                    break;
                } else if ended < 0 && !interrupted() {
                    libc::_exit(125);
                }
            }
            if libc::WIFSIGNALED(status) {
                libc::_exit(128 + libc::WTERMSIG(status));
            }
            libc::_exit(libc::WEXITSTATUS(status))
        }
    }
}

unsafe fn limit(resource: c_int, value: u64) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: reads the structure.
    check(unsafe { libc::setrlimit(resource as _, &limit) })
}

fn check(result: c_int) -> Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

unsafe fn mount(source: &CStr, target: &CStr, flags: c_ulong) -> Result<()> {
    let none = std::ptr::null();
    // SAFETY: both strings end with NUL; these kinds of mount read no other argument.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast()) })
}

unsafe fn set_attributes(path: &CStr, flags: c_int, change: &libc::mount_attr) -> Result<()> {
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path ends with NUL, the size is that of the structure.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), flags, change, size)
    };
    check(done as c_int)
}

unsafe fn write(path: &CStr, content: &[u8]) -> Result<()> {
    // SAFETY: the path ends with NUL, the length is the slice's.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(file)?;
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        let result = check(written as c_int);
        libc::close(file);
        result
    }
}

/// Kills every process of the group.
pub(super) fn kill_group(leader: u32) {
    // SAFETY: sends a signal; a group that is gone is no harm.
    unsafe { libc::kill(-(leader as c_int), libc::SIGKILL) };
}

/// Processes below `root` and itself, and their resident bytes; those of the first `own` generations do
/// not count. Stops at more than `most` processes. They come and go meanwhile: it is a look, not a count.
pub(super) fn usage(root: u32, own: usize, most: usize) -> (usize, u64) {
    let (mut count, mut memory) = (0, 0);
    let mut open = vec![(root, 0)];
    while let Some((pid, depth)) = open.pop() {
        if depth >= own {
            count += 1;
            memory += resident(pid);
        }
        if count > most {
            break;
        }
        open.extend(children(pid).into_iter().map(|child| (child, depth + 1)));
    }
    (count, memory)
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>())
        .collect()
}

fn resident(pid: u32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok();
    let pages = pages.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    // SAFETY: returns a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as u64;
    pages.unwrap_or(0) * page
}
