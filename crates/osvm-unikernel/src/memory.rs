//! The guest's physical memory: what is where, and how it grows.

use std::{fs::File, io, path::Path, sync::Arc};

use kvm_ioctls::VmFd;

use crate::{
    abi::{Boot, Control, LARGE, Mapped, RINGS_SPAN, gpa},
    error::Error,
    sys::{self, Plain, Region},
};

/// Memory that a VM starts with; more comes when the guest asks.
const FIRST: u64 = 8 << 20;
/// What any program makes use of at once: tables, the library OS, its first pages.
const AT_ONCE: u64 = 256 << 10;

/// Slots of KVM: the memory grows by further ones from here on.
const RINGS_SLOT: u32 = 0;
const PROGRAM_SLOT: u32 = 1;
const IMAGE_SLOT: u32 = 2;
const LIBOS_SLOT: u32 = 3;
const MEMORY_SLOT: u32 = 4;

/// The guest's memory. The VM is dropped before its memory.
#[derive(Debug)]
pub(crate) struct Memory {
    vm: VmFd,
    ram: Arc<Region>,
    rings: Region,
    size: u64,
    /// Bytes at the beginning that came from a snapshot.
    overlaid: u64,
    slots: u32,
    _files: Vec<Region>,
}

/// A field of the page that monitor and library OS share.
macro_rules! control {
    ($($field:tt)+) => { $crate::abi::gpa::CONTROL + core::mem::offset_of!($crate::abi::Control, $($field)+) as u64 };
}
pub(crate) use control;

impl Memory {
    /// The same with the memory of a snapshot; `at` is where in the file that begins.
    pub(crate) fn again(vm: VmFd, file: &File, at: u64, size: u64, limit: u64) -> Result<Self, Error> {
        if size < FIRST || !size.is_multiple_of(LARGE) || !limit.is_multiple_of(LARGE) || size > limit {
            return Err(Error::Snapshot("it is broken"));
        }
        let map = |len| Region::anonymous(len).map_err(|error| Error::Host("reserve the VM's memory", error));
        let (ram, rings) = (Arc::new(map(limit)?), map(RINGS_SPAN)?);
        ram.overlay(file, at, size).map_err(|error| Error::Host("map the snapshot", error))?;
        let slot = |error| Error::Kvm("take a memory slot", error);
        rings.show(&vm, RINGS_SLOT, gpa::RINGS, 0, rings.len(), false).map_err(slot)?;
        ram.show(&vm, MEMORY_SLOT, 0, 0, size, false).map_err(slot)?;
        Ok(Self { vm, ram, rings, size, overlaid: size, slots: MEMORY_SLOT + 1, _files: Vec::new() })
    }

    /// Reserves the limit, and shows the guest the first part of it; and the rings, if connections may come.
    pub(crate) fn new(vm: VmFd, limit: u64, connections: bool) -> Result<Self, Error> {
        let limit = limit & !(LARGE - 1);
        if limit < FIRST {
            return Err(Error::Memory { memory: limit, needed: FIRST });
        }
        let map = |len| Region::anonymous(len).map_err(|error| Error::Host("reserve the VM's memory", error));
        let (ram, rings) = (Arc::new(map(limit)?), map(RINGS_SPAN)?);
        let slot = |error| Error::Kvm("take a memory slot", error);
        ram.populate(0, AT_ONCE);
        // A program that is not small saves most first touches by that; a small one stays below.
        ram.in_large_pages(LARGE, limit - LARGE);
        if connections {
            rings.show(&vm, RINGS_SLOT, gpa::RINGS, 0, rings.len(), false).map_err(slot)?;
        }
        ram.show(&vm, MEMORY_SLOT, 0, 0, FIRST, false).map_err(slot)?;
        Ok(Self { vm, ram, rings, size: FIRST, overlaid: 0, slots: MEMORY_SLOT + 1, _files: Vec::new() })
    }

    pub(crate) fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// The memory itself, for the ticker.
    pub(crate) fn ram(&self) -> Arc<Region> {
        Arc::clone(&self.ram)
    }

    /// The rings' memory.
    pub(crate) fn rings(&self) -> &Region {
        &self.rings
    }

    /// Bytes now and at most.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.size, self.ram.len())
    }

    /// Shows a file of the host read-only, the program or the image; where it is.
    pub(crate) fn map_file(&mut self, path: &Path, file: &File, is_program: bool) -> Result<Mapped, Error> {
        let broken = |source| Error::File { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(broken)?;
        let len = metadata.len();
        if !metadata.is_file() || len == 0 {
            return Err(broken(io::Error::new(io::ErrorKind::InvalidInput, "it is empty or no regular file")));
        }
        let region = Region::file(file, len).map_err(broken)?;
        let (slot, gpa) = if is_program { (PROGRAM_SLOT, gpa::FILES) } else { (IMAGE_SLOT, gpa::FILES + (1 << 34)) };
        if region.len() > 1 << 34 {
            return Err(broken(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        region
            .show(&self.vm, slot, gpa, 0, region.len(), true)
            .map_err(|error| Error::Kvm("take a read-only memory slot", error))?;
        self._files.push(region);
        Ok(Mapped { gpa, len })
    }

    /// Shows the library OS's code and constants, read-only.
    pub(crate) fn share(&mut self, bytes: &'static [u8]) -> Result<(), Error> {
        sys::show_static(&self.vm, LIBOS_SLOT, gpa::LIBOS, bytes)
            .map_err(|error| Error::Kvm("take a read-only memory slot", error))
    }

    /// Adds memory; the size now. Refused growth leaves it as it is.
    pub(crate) fn grow(&mut self, by: u64) -> u64 {
        let (size, limit) = self.size();
        let by = by.min(limit).next_multiple_of(LARGE).min(limit - size);
        if by > 0 && self.ram.show(&self.vm, self.slots, size, size, by, false).is_ok() {
            self.slots += 1;
            self.size += by;
        }
        self.size
    }

    /// Takes back what the guest no longer needs; it reads as zero afterwards. False: it has no such memory, or the host refused.
    pub(crate) fn give_back(&self, at: u64, len: u64) -> bool {
        // Pages of a snapshot that were merely forgotten would read as they were in it.
        let forget = if at < self.overlaid { Region::renew } else { Region::forget };
        self.holds(at, len) && forget(&self.ram, at, len).is_some()
    }

    /// Whether the guest has this memory.
    pub(crate) fn holds(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// Reads a value; `at` is one of the monitor's own constants.
    pub(crate) fn read<T: Plain + Default>(&self, at: u64) -> T {
        self.ram.read(at).unwrap_or_default()
    }

    /// Writes a value; `at` is one of the monitor's own constants.
    pub(crate) fn write<T: Plain>(&self, at: u64, value: T) {
        // Places of the layout lie in the first memory.
        let _ = self.ram.write(at, value);
    }

    /// Copies bytes in, at one of the monitor's own places.
    pub(crate) fn fill(&self, at: u64, bytes: &[u8]) {
        let _ = self.ram.fill(at, bytes);
    }
}

const _: () = assert!(gpa::CONTROL + size_of::<Control>() as u64 <= FIRST);
const _: () = assert!(gpa::BOOT + size_of::<Boot>() as u64 <= FIRST);
