//! A child process whose output is kept and which cannot outlive its owner: whether the owner returns, fails or panics, the handle kills
//! and reaps the child.
//!
//! It knows nothing of what it runs. Waiting is always bounded, and a wait that fails says what the child wrote last.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use procfs::ProcResult;
use procfs::process::{FDInfo, FDTarget};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::clock::Deadline;
use crate::pods::Container;

/// Lines kept of one child; what comes after is read and dropped, so that the child never blocks on a full pipe.
const LINES_MAX: usize = 100_000;
/// From the end of a child's pipes to its own: the kernel closes them a moment before the child can be waited for.
const DYING_MAX: Duration = Duration::from_secs(1);
/// Lines shown of a child that failed.
const TAIL_LINES: usize = 15;

/// Why a child did not do what was expected of it.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was not even started.
    #[error("{name} cannot be started: {cause}")]
    Start {
        /// What the lab calls it.
        name: String,
        /// Why it could not.
        cause: io::Error,
    },
    /// It ended too early.
    #[error("{name} ended ({status}) without {what}{tail}")]
    Ended {
        /// What the lab calls it.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// What was awaited.
        what: String,
        /// What it wrote last.
        tail: Tail,
    },
    /// It took too long.
    #[error("{name}: no {what} within {limit:?}{tail}")]
    Late {
        /// What the lab calls it.
        name: String,
        /// What was awaited.
        what: String,
        /// How long it was awaited.
        limit: Duration,
        /// What it wrote last.
        tail: Tail,
    },
}

/// The last lines of a child's output, for a message.
#[derive(Debug)]
pub struct Tail(Vec<String>);

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("; it wrote nothing");
        }
        f.write_str("; it wrote:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  | {line}"))
    }
}

/// Which pipe a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pipe {
    Stdout,
    Stderr,
}

/// What a child has written so far. The two reader threads write, everybody else reads.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<(Pipe, String)>>,
    /// Notified for each line, and when a pipe ends.
    grew: Condvar,
}

/// A child process that is killed and reaped when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    /// End when the child's pipes do.
    readers: Vec<JoinHandle<()>>,
    /// What the child shows the output of, if it is not the program itself.
    container: Option<Container>,
}

impl Process {
    /// Starts the command with both of its outputs read; messages call it `name`.
    ///
    /// # Errors
    /// [`Failed::Start`].
    pub fn spawn(name: &str, command: Command) -> Result<Self, Failed> {
        Self::spawn_with(name, command, Stdio::null())
    }

    /// The same with this as its stdin.
    ///
    /// # Errors
    /// [`Failed::Start`].
    pub fn spawn_with(name: &str, mut command: Command, stdin: Stdio) -> Result<Self, Failed> {
        let failed = |cause| Failed::Start { name: name.to_owned(), cause };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(failed)?;
        // From here on the child has an owner, whatever fails.
        let mut process =
            Self { name: name.to_owned(), child, output: Arc::default(), readers: Vec::new(), container: None };
        let pipes: [(Pipe, Option<Box<dyn Read + Send>>); 2] = [
            (Pipe::Stdout, process.child.stdout.take().map(|pipe| Box::new(pipe) as _)),
            (Pipe::Stderr, process.child.stderr.take().map(|pipe| Box::new(pipe) as _)),
        ];
        for (pipe, source) in pipes {
            let Some(source) = source else { continue };
            let output = Arc::clone(&process.output);
            let reader = thread::Builder::new().name(format!("reads {name}"));
            process.readers.push(reader.spawn(move || output.read(pipe, source)).map_err(failed)?);
        }
        Ok(process)
    }

    /// How many descriptors it has open; 0 once it has ended.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        // Not `fd_count`: the kernel's count has numbers that are only reserved, as during an accept without a client.
        self.proc(|proc| proc.fd()).map_or(0, Iterator::count)
    }

    /// How many of its descriptors are of files, pipes and folders with a path, so none of its connections; 0 once it has ended.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let is_file = |info: &FDInfo| matches!(info.target, FDTarget::Path(_));
        self.proc(|proc| proc.fd()).map_or(0, |all| all.flatten().filter(is_file).count())
    }

    /// Bytes of memory that are resident; 0 once it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.proc(|proc| proc.status()).and_then(|status| status.vmrss).unwrap_or(0) * 1024
    }

    /// The most bytes that were resident; 0 once it has ended.
    #[must_use]
    pub fn peak_resident_bytes(&self) -> u64 {
        self.proc(|proc| proc.status()).and_then(|status| status.vmhwm).unwrap_or(0) * 1024
    }

    fn proc<T>(&self, read: impl FnOnce(procfs::process::Process) -> ProcResult<T>) -> Option<T> {
        procfs::process::Process::new(i32::try_from(self.id()).ok()?).and_then(read).ok()
    }

    /// The same for a program in a container, which gets the signals.
    ///
    /// # Errors
    /// [`Failed::Start`].
    pub fn spawn_in(name: &str, (command, container): (Command, Container)) -> Result<Self, Failed> {
        let mut process = Self::spawn(name, command)?;
        process.container = Some(container);
        Ok(process)
    }

    /// The container that it is in, if any.
    #[must_use]
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// Its id while it has not been waited for.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first thing that `find` finds in the lines of its stdout, those to come included.
    ///
    /// # Errors
    /// It ended without, or has not written it within `limit`; `what` names it.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Failed> {
        let deadline = Deadline::after(limit);
        let mut seen = 0;
        loop {
            let has_ended = self.readers.iter().all(JoinHandle::is_finished);
            let lines = self.output.lines();
            let fresh = lines[seen..].iter().filter(|(pipe, _)| *pipe == Pipe::Stdout);
            if let Some(found) = fresh.map(|(_, line)| line).find_map(|line| find(line)) {
                return Ok(found);
            }
            seen = lines.len();
            if has_ended || deadline.left().is_zero() {
                drop(lines);
                if has_ended {
                    // One that has only closed its outputs counts as late, below.
                    let _ = Deadline::after(DYING_MAX).poll(|| self.ended());
                }
                return Err(self.missed(what, limit));
            }
            // Short, because a pipe's end is notified a moment before its reader has finished.
            let pause = deadline.left().min(Duration::from_millis(20));
            let waited = self.output.grew.wait_timeout(lines, pause).unwrap_or_else(PoisonError::into_inner);
            drop(waited);
        }
    }

    /// Its status, if it has ended.
    #[must_use]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // It is our child and not yet reaped by anybody else, so asking cannot fail.
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; then its output is complete.
    ///
    /// # Errors
    /// It goes on after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Failed> {
        let status = Deadline::after(limit).poll(|| self.ended());
        let status = status.ok_or_else(|| self.missed("end", limit))?;
        for reader in self.readers.drain(..) {
            // A reader that panicked has lost lines. A wait for them will fail.
            let _ = reader.join();
        }
        Ok(status)
    }

    /// Sends a signal; to a child that has ended, nothing.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        if let Some(container) = &self.container {
            container.signal(signal);
        } else {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
            // Not reaped, hence still there, if only as a zombie that takes any signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// The lines of its stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.lines_of(Pipe::Stdout)
    }

    /// The lines of its stderr so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.lines_of(Pipe::Stderr)
    }

    fn lines_of(&self, wanted: Pipe) -> Vec<String> {
        self.output.lines().iter().filter(|(pipe, _)| *pipe == wanted).map(|(_, line)| line.clone()).collect()
    }

    /// What it wrote last, on either pipe.
    #[must_use]
    pub fn tail(&self) -> Tail {
        let lines = self.output.lines();
        let from = lines.len().saturating_sub(TAIL_LINES);
        Tail(lines[from..].iter().map(|(_, line)| line.clone()).collect())
    }

    fn missed(&mut self, what: &str, limit: Duration) -> Failed {
        let (name, what, tail) = (self.name.clone(), what.to_owned(), self.tail());
        match self.ended() {
            Some(status) => Failed::Ended { name, status, what, tail },
            None => Failed::Late { name, what, limit, tail },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<(Pipe, String)>> {
        // A thread that panicked held it for a push or a read: the lines are whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, pipe: Pipe, source: impl Read) {
        for line in BufReader::new(source).split(b'\n') {
            let Ok(line) = line else { break };
            let mut lines = self.lines();
            if lines.len() < LINES_MAX {
                lines.push((pipe, String::from_utf8_lossy(&line).into_owned()));
            }
            drop(lines);
            self.grew.notify_all();
        }
        self.grew.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell", command).expect("there is a shell")
    }

    fn is_running(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_line_is_found_whether_it_has_come_or_is_to_come() {
        let mut process = shell("echo one; echo two; read never");
        for wanted in ["two", "one"] {
            let found = process.wait_for("line", WAIT_MAX, |line| (line == wanted).then(|| line.to_owned()));
            assert_eq!(found.expect("it is written"), wanted);
        }
    }

    #[test]
    fn a_child_that_ends_too_early_is_shown_with_its_last_lines() {
        let mut process = shell("echo so far; echo so bad >&2; exit 3");
        let error = process.wait_for("port", WAIT_MAX, |_| None::<()>).expect_err("it ended");
        let message = error.to_string();
        assert!(message.starts_with("shell ended (exit status: 3) without port; it wrote:"), "{message}");
        assert!(message.contains("\n  | so far") && message.contains("\n  | so bad"), "{message}");
    }

    #[test]
    fn a_child_that_is_late_is_told_from_one_that_ended() {
        let mut process = shell("exec sleep 1000");
        let error = process.wait_for("port", Duration::from_millis(30), |_| None::<()>).expect_err("it is late");
        assert_eq!(error.to_string(), "shell: no port within 30ms; it wrote nothing");
    }

    #[test]
    fn a_child_does_not_outlive_its_owner_not_even_in_a_panic() {
        let process = shell("exec sleep 1000");
        let pid = process.id();
        assert!(is_running(pid));
        let panicked = thread::spawn(move || {
            let _owned = process;
            panic!("on purpose, to see that the child dies");
        });
        assert!(panicked.join().is_err());
        assert!(!is_running(pid));
    }

    #[test]
    fn its_output_is_complete_when_it_has_been_waited_for() {
        let mut process = shell("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; echo last >&2; exit 7");
        assert_eq!(process.wait(WAIT_MAX).expect("it ends").code(), Some(7));
        assert_eq!((process.stdout().len(), process.stderr()), (1_000, vec!["last".to_owned()]));
    }

    #[test]
    fn a_signal_arrives() {
        // Not HUP: a shell whose parent ignores a signal (nohup) cannot trap it.
        let mut process = shell("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done");
        process.wait_for("readiness", WAIT_MAX, |line| (line == "ready").then_some(())).expect("it is ready");
        process.signal(Signal::USR1);
        assert_eq!(process.wait(WAIT_MAX).expect("it ends").code(), Some(5));
        process.signal(Signal::USR1);
    }
}
