//! What /proc says of a process, and ending one.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Resident memory, in bytes; 0 for a process that is gone.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Resident memory of a process and all that it started, in bytes: an isolated instance is its monitor's child's child.
pub(crate) fn memory_of_all(pid: u32) -> u64 {
    memory(pid) + children(pid).into_iter().map(memory_of_all).sum::<u64>()
}

/// CPU time of a process, in ticks of the kernel's clock (100 a second on Linux); 0 for one that is gone.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold spaces: fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    number(11) + number(12)
}

/// Ticks a second of [`cpu_ticks`].
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// The processes that a process started and that are alive.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Whether there is a process of that id, dead or alive, asked without /proc.
pub(crate) fn exists(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// SIGKILL; a process that is gone already is fine.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// SIGTERM; a process that is gone already is fine.
pub(crate) fn terminate(pid: u32) {
    signal(pid, Signal::TERM);
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
