//! Many VMs: how many start in a second, what each costs in memory, and how many answer at the same time.

use std::{fs, process::Child, time::Instant};

use serde::Serialize;

use crate::error::Error;

use super::{Bench, failed, once, spawn, talk};

/// Starts at a time: one a processor of the machine that the aim was set for.
const AT_A_TIME: usize = 2;

/// KiB a VM.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    vms: usize,
    /// Private memory of a monitor and its VM, the program's included.
    pub(crate) private_kib: u64,
    /// What the kernel holds beside it: slab and page tables.
    pub(crate) kernel_kib: u64,
}

/// VMs that end with this.
struct Vms(Vec<Child>);

impl Drop for Vms {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Whole runs of the tiny program, two at a time.
pub(crate) fn starts_a_second(bench: &Bench, runs: usize) -> Result<f64, Error> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..AT_A_TIME).map(|_| scope.spawn(|| (0..runs).try_for_each(|_| once(bench.vm(&[])).map(drop)))).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::Program("a thread of the bench panicked".to_owned())))
        })
    })?;
    Ok((AT_A_TIME * runs) as f64 / began.elapsed().as_secs_f64())
}

fn kib(file: &str, name: &str) -> Result<u64, Error> {
    let text = fs::read_to_string(file).map_err(failed("read /proc"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Error::Program(format!("{file} has no {name}")))
}

/// Of VMs that sleep after their first output.
pub(crate) fn memory(bench: &Bench, count: usize) -> Result<Memory, Error> {
    let kernel = || Ok::<u64, Error>(kib("/proc/meminfo", "Slab:")? + kib("/proc/meminfo", "PageTables:")?);
    let before = kernel()?;
    let mut vms = Vms(Vec::new());
    for _ in 0..count {
        vms.0.push(spawn(bench.vm(&[]).arg("stay"))?);
    }
    let held = kernel()?.saturating_sub(before);
    let mut private = 0;
    for child in &vms.0 {
        let file = format!("/proc/{}/smaps_rollup", child.id());
        private += kib(&file, "Private_Dirty:")? + kib(&file, "Private_Clean:")?;
    }
    let of = |sum: u64| sum / count.max(1) as u64;
    Ok(Memory { vms: count, private_kib: of(private), kernel_kib: of(held) })
}

/// Starts VMs that serve, and asks each when all are there; how many answered.
pub(crate) fn alive(bench: &Bench, count: usize) -> Result<usize, Error> {
    let mut vms = Vms(Vec::new());
    let place = |n: usize| bench.dir.path().join(format!("{n}.sock"));
    for n in 0..count {
        vms.0.push(spawn(bench.vm(&["--vsock".as_ref(), &place(n)]).arg("echo"))?);
    }
    let mut open = Vec::new();
    for n in 0..count {
        open.extend(talk::ask(&place(n)).ok());
    }
    Ok(open.len())
}
