//! What `/proc` says of a process. Nothing here fails: a process may be gone at any moment, and then there is nothing to say.

use std::{fs, path::Path};

use osvm_model::{ResourceUse, handover::ENV_VSOCK};

/// The unit of times in `/proc/PID/stat` is 1/100 s on every architecture (`USER_HZ`).
const TICK_MS: u64 = 10;

/// What the process uses, without its children; none if it is gone.
pub(crate) fn stats(pid: u32) -> Option<ResourceUse> {
    let stat = Stat::read(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(ResourceUse {
        cpu_ms: Some(stat.cpu_ticks * TICK_MS),
        memory_bytes: Some(resident_kib(&status).unwrap_or(0) * 1024),
        ..ResourceUse::default()
    })
}

/// The processes, by id and start time, that were started as instances with their socket in that folder: those of this user that
/// lead a process group and have it in their environment.
pub fn instances_under(folder: &Path) -> Vec<(u32, u64)> {
    let mut wanted = format!("{ENV_VSOCK}=").into_bytes();
    wanted.extend_from_slice(folder.join("").as_os_str().as_encoded_bytes());
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = Stat::read(pid)?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let is_instance = environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(&wanted));
        (stat.alive && stat.group == pid && is_instance).then_some((pid, stat.start_time))
    })
    .collect()
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Whether the process has not ended. One that ended and was not waited for still has an entry.
    pub(crate) alive: bool,
    /// User and system time.
    cpu_ticks: u64,
    /// The process group.
    group: u32,
    /// Ticks from boot to the process's start. With the process id it names a process for good, until the next boot.
    pub(crate) start_time: u64,
}

impl Stat {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses and may hold anything, parentheses too; it ends at the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `fields` begins with the third field of proc_pid_stat(5).
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let state = fields.first()?;
        Some(Self {
            alive: !matches!(*state, "Z" | "X" | "x"),
            group: u32::try_from(number(5)?).ok()?,
            cpu_ticks: number(14)?.saturating_add(number(15)?),
            start_time: number(22)?,
        })
    }
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) Z (b) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 98765 1 2 3";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { alive: true, cpu_ticks: 42, group: 7, start_time: 98765 });
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn this_process_is_alive_and_uses_memory() {
        let pid = std::process::id();
        assert!(Stat::read(pid).unwrap().alive);
        assert!(stats(pid).unwrap().memory_bytes.unwrap() > 0);
    }
}
