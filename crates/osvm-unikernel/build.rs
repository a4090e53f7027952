//! Builds the guest with the same compiler, as a freestanding program at fixed addresses, and lays its segments out as one flat image.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the guest is linked to; `guest/link.ld` says the same.
const BASE: u64 = 0x7000_0000;

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-changed=src/abi.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let elf = out.join("guest.elf");
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut command = Command::new(variable("RUSTC")?);
    command
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "guest",
            "--target",
            "x86_64-unknown-linux-gnu",
        ])
        .args([
            "-C",
            "opt-level=2",
            "-C",
            "panic=abort",
            "-C",
            "codegen-units=1",
            "-C",
            "debuginfo=0",
            "-D",
            "warnings",
        ])
        .args(["-C", "relocation-model=static", "-C", "target-feature=+crt-static"])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nostdlib",
            "-C",
            "link-arg=-static",
            "-C",
            "link-arg=-no-pie",
        ])
        .arg(format!(
            "-Clink-arg=-Wl,-T,{},-z,norelro,--gc-sections,--build-id=none",
            root.join("guest/link.ld").display()
        ))
        .arg("-o")
        .arg(&elf)
        .arg(root.join("guest/main.rs"));
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the guest does not build:\n{said}").replace('\n', "\ncargo::error="));
    }
    let image = flatten(&elf)?;
    let id = image
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    fs::write(out.join("guest.id"), id.to_string()).map_err(|error| format!("cannot write its sum: {error}"))?;
    fs::write(out.join("guest.bin"), image).map_err(|error| format!("cannot write the image: {error}"))
}

/// The loadable segments of an ELF file at their distance from [`BASE`].
fn flatten(elf: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(elf).map_err(|error| format!("cannot read {}: {error}", elf.display()))?;
    let word = |at: usize| -> Result<u64, String> {
        let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
        field.map(u64::from_le_bytes).ok_or_else(|| "a header lies outside the file".to_owned())
    };
    let headers = word(32)? as usize;
    let count = (word(56)? & 0xffff) as usize;
    let mut image = Vec::new();
    for at in (0..count).map(|n| headers + n * 56) {
        let (offset, address, len) = (word(at + 8)? as usize, word(at + 16)?, word(at + 32)? as usize);
        if word(at)? as u32 != 1 || len == 0 {
            continue;
        }
        let start = address.checked_sub(BASE).ok_or("a segment lies below the base")? as usize;
        if image.len() < start + len {
            image.resize(start + len, 0);
        }
        image[start..start + len]
            .copy_from_slice(bytes.get(offset..offset + len).ok_or("a segment lies outside the file")?);
    }
    Ok(image)
}
