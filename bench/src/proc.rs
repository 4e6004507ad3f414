//! What the kernel tells of a process and its children: time on the processor and memory.
//!
//! The sum of processor time is that of `/proc/PID/task/*/schedstat`, in nanoseconds; how much of it is the user's comes from
//! `/proc/PID/stat`, whose ticks of 10 ms are too coarse for
//! the sum. A thread that has ended is missing from it; no peer ends threads under load.

use std::fs;
use std::io;
use std::ops::Sub;

/// Of `/proc/PID/stat`: fixed by the kernel's interface on every common architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Time on processors, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    /// In all.
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
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, stat(pid).ok()?.parent)))
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
        let stat = stat(pid)?;
        sum.user_s += stat.user_s;
        sum.system_s += stat.system_s;
        sum.total_s += on_processor_s(pid)?;
    }
    Ok(sum)
}

/// Memory of these processes that is resident, in bytes; pages they share count for each.
///
/// # Errors
/// One of them is gone.
pub(crate) fn resident_bytes(pids: &[u32]) -> io::Result<u64> {
    pids.iter().map(|pid| resident(*pid)).sum()
}

fn resident(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    Ok(kib.ok_or_else(|| unreadable("status"))? * 1024)
}

fn on_processor_s(pid: u32) -> io::Result<f64> {
    let mut nanoseconds = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ends meanwhile has used little since the last look.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let first = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        nanoseconds += first.ok_or_else(|| unreadable("schedstat"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns are a hundred days")]
    Ok(nanoseconds as f64 / 1e9)
}

struct Stat {
    parent: u32,
    user_s: f64,
    system_s: f64,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| unreadable("stat"))
}

/// The name, in brackets, may hold anything; what is wanted comes after it.
fn parse_stat(text: &str) -> Option<Stat> {
    let words: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| Some(words.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat { parent: words.get(1)?.parse().ok()?, user_s: ticks(11)?, system_s: ticks(12)? })
}

fn unreadable(file: &str) -> io::Error {
    io::Error::other(format!("/proc: no {file} as it is known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_past_a_name_with_brackets() {
        let stat = parse_stat("7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 2 0 9").expect("readable");
        assert_eq!((stat.parent, stat.user_s, stat.system_s), (3, 2.5, 0.5));
    }

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
