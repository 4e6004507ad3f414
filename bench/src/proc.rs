//! What the kernel knows of a process and its children: time on the processor and memory.
//!
//! The sum of processor time is that of `/proc/PID/task/*/schedstat`, in nanoseconds. How much of it is the user's comes from `/proc/PID/stat`,
//! whose ticks of 10 ms are too coarse for the sum. A thread that has ended is missing from the sum; no peer ends threads under load.

use std::io;
use std::ops::Sub;

use procfs::process::{Process, all_processes};

/// Time on processors, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    /// From the scheduler, exact.
    pub(crate) total_s: f64,
    /// Of `user_s + system_s`, by ticks.
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

impl Cpu {
    /// The share of the total that was spent outside the kernel.
    pub(crate) fn user_share(self) -> f64 {
        let ticks = self.user_s + self.system_s;
        if ticks > 0.0 { self.user_s / ticks } else { 0.0 }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            total_s: self.total_s - before.total_s,
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
        }
    }
}

/// The process and all that descend from it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all_processes()
        .into_iter()
        .flatten()
        .filter_map(|process| process.ok()?.stat().ok())
        .filter_map(|stat| Some((stat.pid.try_into().ok()?, stat.ppid.try_into().ok()?)))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let children = parents.iter().filter(|(_, parent)| *parent == tree[at]).map(|(pid, _)| *pid);
        let children: Vec<u32> = children.filter(|pid| !tree.contains(pid)).collect();
        tree.extend(children);
        at += 1;
    }
    tree
}

/// What these processes have used so far.
///
/// # Errors
/// One of them is gone.
pub(crate) fn cpu(pids: &[u32]) -> io::Result<Cpu> {
    let mut sum = Cpu::default();
    for &pid in pids {
        let process = process(pid)?;
        let stat = process.stat().map_err(io::Error::other)?;
        sum.user_s += seconds(stat.utime, procfs::ticks_per_second());
        sum.system_s += seconds(stat.stime, procfs::ticks_per_second());
        // A thread that ends meanwhile has used little since the last look.
        let tasks = process.tasks().map_err(io::Error::other)?.filter_map(|task| task.ok()?.schedstat().ok());
        sum.total_s += seconds(tasks.map(|task| task.sum_exec_runtime).sum(), 1_000_000_000);
    }
    Ok(sum)
}

/// Memory of these processes that is resident, in bytes; pages they share count for each.
///
/// # Errors
/// One of them is gone.
pub(crate) fn resident_bytes(pids: &[u32]) -> io::Result<u64> {
    let resident =
        |pid| process(pid)?.status().map(|status| status.vmrss.unwrap_or(0) * 1024).map_err(io::Error::other);
    pids.iter().map(|pid| resident(*pid)).sum()
}

fn process(pid: u32) -> io::Result<Process> {
    let pid = pid.try_into().map_err(io::Error::other)?;
    Process::new(pid).map_err(io::Error::other)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are a hundred days")]
fn seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_time_memory_and_a_child() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("there is a sleep");
        let tree = tree(std::process::id());
        child.kill().and_then(|()| child.wait()).expect("it was running");
        assert!(tree.contains(&child.id()) && tree[0] == std::process::id(), "{tree:?}");
        let this = &tree[..1];
        assert!(cpu(this).expect("it runs").total_s > 0.0);
        assert!(resident_bytes(this).expect("it runs") > 100_000);
    }
}
