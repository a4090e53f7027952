//! How long a tiny static program takes from the start of its process to its first output and to its end: bare, under bubblewrap, and in
//! a VM. And what a VM costs in memory. Prints JSON.
//!
//! `starts [ROUNDS] [VMS]`: runs `osvm-unikernel` from the folder above its own, 200 rounds in turn; then 100 VMs that sleep.
#![forbid(unsafe_code)]

use std::{
    error::Error,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PROGRAM: &str = r#"#include <unistd.h>
    int main(int c, char **v) { write(1, "x", 1); if (c > 1) pause(); return 0; }"#;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// To the first byte of output, and to the end.
fn once(mut command: Command) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut out = child.stdout.take().ok_or("no output")?;
    out.read_exact(&mut [0])?;
    let first = began.elapsed();
    let status = child.wait()?;
    let whole = began.elapsed();
    if status.success() { Ok((first, whole)) } else { Err(format!("{command:?}: {status}").into()) }
}

fn quantiles(mut all: Vec<Duration>) -> serde_json::Value {
    all.sort();
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize].as_micros() as u64;
    serde_json::json!({"p50_us": at(0.5), "p99_us": at(0.99)})
}

fn kib(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name)).ok_or_else(|| format!("{file} has no {name}"))?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

struct Vms(Vec<Child>);

impl Drop for Vms {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Private memory of each monitor, and what the kernel holds beside it, for VMs that sleep: both in KiB a VM.
fn memory(monitor: &Path, program: &Path, count: usize) -> Result<(u64, u64)> {
    let kernel = || Ok::<u64, Box<dyn Error>>(kib("/proc/meminfo", "Slab:")? + kib("/proc/meminfo", "PageTables:")?);
    let before = kernel()?;
    let mut vms = Vms(Vec::new());
    for _ in 0..count {
        let mut child =
            Command::new(monitor).args(["run", "--"]).arg(program).arg("stay").stdout(Stdio::piped()).spawn()?;
        child.stdout.as_mut().ok_or("no output")?.read_exact(&mut [0])?;
        vms.0.push(child);
    }
    let held = kernel()?.saturating_sub(before);
    let mut private = 0;
    for child in &vms.0 {
        let file = format!("/proc/{}/smaps_rollup", child.id());
        private += kib(&file, "Private_Dirty:")? + kib(&file, "Private_Clean:")?;
    }
    Ok((private / count as u64, held / count as u64))
}

fn main() -> Result<()> {
    let number = |n: usize, default: usize| std::env::args().nth(n).map_or(Ok(default), |text| text.parse());
    let (rounds, vms) = (number(1, 200)?, number(2, 100)?);
    let dir = PathBuf::from("/tmp").join(format!("osvm-starts-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let (source, program) = (dir.join("tiny.c"), dir.join("tiny"));
    fs::write(&source, PROGRAM)?;
    if !Command::new("cc").args(["-O1", "-static", "-o"]).arg(&program).arg(&source).status()?.success() {
        return Err("the program does not compile".into());
    }
    let monitor = std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no folder")?.join("osvm-unikernel");
    let bare = || Command::new(&program);
    let bubblewrap = || {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--ro-bind"]).arg(&program).arg("/tiny").arg("/tiny");
        command
    };
    let vm = || {
        let mut command = Command::new(&monitor);
        command.args(["run", "--"]).arg(&program);
        command
    };
    let mut times = [const { (Vec::new(), Vec::new()) }; 3];
    for _ in 0..rounds {
        for (n, command) in [bare(), bubblewrap(), vm()].into_iter().enumerate() {
            let (first, whole) = once(command)?;
            times[n].0.push(first);
            times[n].1.push(whole);
        }
    }
    let began = Instant::now();
    for _ in 0..rounds {
        once(vm())?;
    }
    let per_second = rounds as f64 / began.elapsed().as_secs_f64();
    let (private, kernel) = memory(&monitor, &program, vms)?;
    let mut out = serde_json::json!({
        "rounds": rounds,
        "vms": vms,
        "starts_a_second_one_after_another": per_second.round(),
        "private_kib_a_vm": private,
        "kernel_kib_a_vm": kernel,
    });
    for (name, (first, whole)) in ["bare", "bubblewrap", "unikernel"].into_iter().zip(times) {
        out[name] = serde_json::json!({"to_first_output": quantiles(first), "to_end": quantiles(whole)});
    }
    println!("{}", serde_json::to_string_pretty(&out)?);
    fs::remove_dir_all(&dir)?;
    Ok(())
}
