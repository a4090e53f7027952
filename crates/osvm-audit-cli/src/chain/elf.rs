//! The head of a program's file: that it is an ELF for SBPF, and of which version.

/// `e_machine` of Solana's programs: eBPF at first, a number of its own later.
const MACHINES: [u16; 2] = [247, 263];
const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;

/// The version as `v0`, or why it is no program.
pub(super) fn sbpf_version(elf: &[u8]) -> Result<String, String> {
    let head = elf.get(..64).ok_or("no ELF: shorter than the head of one")?;
    if !head.starts_with(MAGIC) || head[4] != CLASS_64 || head[5] != LITTLE_ENDIAN {
        return Err("no ELF of 64 bits, little endian".to_owned());
    }
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if !MACHINES.contains(&machine) {
        return Err(format!("an ELF for machine {machine}, not for SBPF"));
    }
    let flags = u32::from_le_bytes([head[48], head[49], head[50], head[51]]);
    Ok(match flags {
        0..=4 => format!("v{flags}"),
        other => format!("unknown (flags {other:#x})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_in_the_flags() {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 247;
        assert_eq!(sbpf_version(&elf).unwrap(), "v0");
        elf[48] = 3;
        assert_eq!(sbpf_version(&elf).unwrap(), "v3");
        elf[48] = 0x20;
        assert_eq!(sbpf_version(&elf).unwrap(), "unknown (flags 0x20)");
        elf[18] = 62;
        assert!(sbpf_version(&elf).unwrap_err().contains("machine 62"));
        assert!(sbpf_version(&elf[..63]).is_err());
        assert!(sbpf_version(&[0; 64]).is_err());
    }
}
