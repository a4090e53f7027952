//! A VM that stands still, as a file: what it is made again from, any number of times.
//!
//! First a head: registers, the CPU's features, which files were mapped, and a sum over all that. Then the guest's memory, page by page,
//! with holes where it is zero. A clone maps the memory privately, so clones share what they do not write. The sum covers the head, not
//! the memory: that is the guest's, and the monitor trusts it no more than a running guest's.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use kvm_bindings::{kvm_cpuid_entry2, kvm_regs, kvm_sregs, kvm_xcrs};

use crate::{
    abi::{PAGE, VERSION},
    error::Error,
    layout,
    sys::{self, Plain, Region, XSAVE_WORDS},
};

const MAGIC: u64 = u64::from_le_bytes(*b"OSVMSNAP");
/// Magic, the head's length, and its sum.
const PREFIX: usize = 24;
/// No head is longer.
const LONGEST: u64 = 1 << 20;

/// A file that the VM maps: the same file, unchanged, must be there for a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// Device, inode, length, and time of the last change in seconds and nanoseconds.
    identity: [u64; 5],
}

impl Source {
    pub(crate) fn of(path: &Path, file: &File) -> io::Result<Self> {
        let of = file.metadata()?;
        let identity = [of.dev(), of.ino(), of.len(), of.mtime() as u64, of.mtime_nsec() as u64];
        Ok(Self { path: std::path::absolute(path)?, identity })
    }

    /// Opens it again, if it is still the same.
    pub(crate) fn open(&self) -> Result<File, Error> {
        let broken = |source| Error::File { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(broken)?;
        if Self::of(&self.path, &file).map_err(broken)?.identity != self.identity {
            return Err(Error::Snapshot("a file that it needs has changed since; make the snapshot again"));
        }
        Ok(file)
    }
}

/// All but the memory.
pub(crate) struct Head {
    pub(crate) regs: kvm_regs,
    pub(crate) sregs: kvm_sregs,
    pub(crate) xcrs: kvm_xcrs,
    pub(crate) xsave: Box<[u32; XSAVE_WORDS]>,
    pub(crate) features: Vec<kvm_cpuid_entry2>,
    /// Memory then and at most, and the guest's monotonic clock.
    pub(crate) memory: u64,
    pub(crate) limit: u64,
    pub(crate) monotonic: u64,
    pub(crate) io: Standing,
    pub(crate) program: Source,
    pub(crate) image: Option<Source>,
}

/// What input and output were at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) ports: Vec<u32>,
    pub(crate) activity: u32,
    pub(crate) passed: u64,
    pub(crate) next_generation: u32,
}

/// A clone gets the same library OS, ABI, processor and kernel, or none.
fn machine() -> Vec<u8> {
    let leaf = |n| core::arch::x86_64::__cpuid(n);
    let (vendor, model, features) = (leaf(0), leaf(1), leaf(7));
    let words = [vendor.ebx, vendor.ecx, vendor.edx, model.eax, features.ebx, features.ecx, VERSION];
    let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    out.extend(layout::id().to_le_bytes());
    out.extend(rustix::system::uname().release().to_bytes());
    out
}

/// FNV-1a: against mistakes, not against malice.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
    }

    fn value<T: Plain>(&mut self, value: &T) {
        self.bytes(&sys::bytes_of(value));
    }

    fn source(&mut self, source: &Source) {
        self.bytes(source.path.as_os_str().as_bytes());
        self.value(&source.identity);
    }
}

struct In<'a>(&'a [u8]);

const BROKEN: Error = Error::Snapshot("it is broken");

impl<'a> In<'a> {
    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let (len, rest) = self.0.split_first_chunk().ok_or(BROKEN)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| BROKEN)?;
        let (bytes, rest) = rest.split_at_checked(len).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn value<T: Plain>(&mut self) -> Result<T, Error> {
        sys::value_of(self.bytes()?).ok_or(BROKEN)
    }

    fn source(&mut self) -> Result<Source, Error> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(self.bytes()?.to_vec()));
        Ok(Source { path, identity: self.value()? })
    }
}

impl Head {
    /// What the monitor knows; the vCPU adds its part.
    pub(crate) fn new(memory: u64, limit: u64, io: Standing, program: Source, image: Option<Source>) -> Self {
        Self {
            regs: kvm_regs::default(),
            sregs: kvm_sregs::default(),
            xcrs: kvm_xcrs::default(),
            xsave: Box::new([0; XSAVE_WORDS]),
            features: Vec::new(),
            memory,
            limit,
            monotonic: 0,
            io,
            program,
            image,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Out::default();
        out.bytes(&machine());
        out.value(&self.regs);
        out.value(&self.sregs);
        out.value(&self.xcrs);
        out.value(&*self.xsave);
        out.value(&(self.features.len() as u64));
        self.features.iter().for_each(|entry| out.value(entry));
        let words = [self.memory, self.limit, self.monotonic, self.io.passed];
        out.value(&words);
        out.value(&[self.io.activity, self.io.next_generation]);
        out.bytes(&self.io.ports.iter().flat_map(|port| port.to_le_bytes()).collect::<Vec<_>>());
        out.source(&self.program);
        out.value(&u64::from(self.image.is_some()));
        if let Some(image) = &self.image {
            out.source(image);
        }
        out.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = In(bytes);
        if from.bytes()? != machine() {
            return Err(Error::Snapshot("another machine, kernel or version of this program made it; make it again"));
        }
        let (regs, sregs, xcrs, xsave) = (from.value()?, from.value()?, from.value()?, Box::new(from.value()?));
        let count: u64 = from.value()?;
        let features = (0..count.min(LONGEST)).map(|_| from.value()).collect::<Result<_, _>>()?;
        let [memory, limit, monotonic, passed] = from.value::<[u64; 4]>()?;
        let [activity, next_generation] = from.value::<[u32; 2]>()?;
        let ports = from.bytes()?.as_chunks().0.iter().map(|port| u32::from_le_bytes(*port)).collect();
        let program = from.source()?;
        let image = if from.value::<u64>()? == 0 { None } else { Some(from.source()?) };
        let io = Standing { ports, activity, passed, next_generation };
        Ok(Self { regs, sregs, xcrs, xsave, features, memory, limit, monotonic, io, program, image })
    }

    /// Writes the file: under another name first, so that there is never half a snapshot of this name.
    pub(crate) fn write(&self, path: &Path, ram: &Region) -> Result<(), Error> {
        let broken = |source| Error::File { path: path.to_owned(), source };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let made = self.write_as(Path::new(&name), ram).and_then(|()| fs::rename(&name, path));
        made.map_err(|error| {
            // It may not have come to be.
            let _ = fs::remove_file(&name);
            broken(error)
        })
    }

    fn write_as(&self, path: &Path, ram: &Region) -> io::Result<()> {
        // What the program knows is in it, so it is its owner's alone.
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        let head = self.encode();
        for word in [MAGIC, head.len() as u64, sum(&head)] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&head)?;
        let start = memory_at(head.len() as u64);
        let mut page = vec![0; PAGE as usize];
        for at in (0..self.memory).step_by(PAGE as usize) {
            ram.copy_out(at, &mut page).ok_or(io::ErrorKind::InvalidInput)?;
            if page.iter().any(|byte| *byte != 0) {
                file.write_all_at(&page, start + at)?;
            }
        }
        file.set_len(start + self.memory)
    }

    /// Reads a file's head; the file, and where in it memory begins.
    pub(crate) fn read(path: &Path) -> Result<(Self, File, u64), Error> {
        let broken = |source| Error::File { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(broken)?;
        let mut prefix = [0; PREFIX];
        file.read_exact(&mut prefix).map_err(|_| Error::Snapshot("it is none"))?;
        let word = |n: usize| prefix[n * 8..n * 8 + 8].try_into().map_or(0, u64::from_le_bytes);
        let (magic, len, wanted) = (word(0), word(1), word(2));
        if magic != MAGIC || len > LONGEST {
            return Err(Error::Snapshot("it is none"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact(&mut bytes).map_err(|_| BROKEN)?;
        if sum(&bytes) != wanted {
            return Err(BROKEN);
        }
        let head = Self::decode(&bytes)?;
        let start = memory_at(len);
        if head.memory > head.limit || file.metadata().map_err(broken)?.len() != start.saturating_add(head.memory) {
            return Err(BROKEN);
        }
        Ok((head, file, start))
    }
}

fn memory_at(head: u64) -> u64 {
    (PREFIX as u64 + head).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let dir = std::env::current_exe().unwrap();
        let source = Source::of(&dir, &File::open(&dir).unwrap()).unwrap();
        let io = Standing { ports: vec![80, 7000], activity: 3, passed: 2, next_generation: 9 };
        let mut head = Head::new(3 * PAGE, 4 * PAGE, io, source.clone(), Some(source));
        head.regs.rip = 7;
        head.features = vec![kvm_cpuid_entry2 { function: 1, ..Default::default() }; 3];
        head
    }

    #[test]
    fn a_head_and_its_memory_come_back_as_they_were() {
        let (dir, ram) = (tempfile::tempdir().unwrap(), Region::anonymous(4 * PAGE).unwrap());
        ram.fill(PAGE, b"content").unwrap();
        let path = dir.path().join("snapshot");
        head().write(&path, &ram).unwrap();
        let (got, file, start) = Head::read(&path).unwrap();
        assert_eq!((got.regs.rip, got.io, got.features.len()), (7, head().io, 3));
        assert_eq!(got.image, Some(got.program));
        let mut back = [0; 7];
        file.read_exact_at(&mut back, start + PAGE).unwrap();
        assert_eq!(&back, b"content");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the snapshot is left");
    }

    #[test]
    fn each_changed_byte_of_a_head_and_each_other_length_is_refused() {
        let (dir, ram) = (tempfile::tempdir().unwrap(), Region::anonymous(4 * PAGE).unwrap());
        let path = dir.path().join("snapshot");
        head().write(&path, &ram).unwrap();
        let good = fs::read(&path).unwrap();
        let end = PREFIX + head().encode().len();
        for at in (0..end).step_by(37).chain(0..PREFIX) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            assert!(Head::read(&path).is_err(), "byte {at}");
        }
        for len in [0, 8, PREFIX, end - 1, good.len() - 1] {
            fs::write(&path, &good[..len]).unwrap();
            assert!(Head::read(&path).is_err(), "length {len}");
        }
        fs::write(&path, &good).unwrap();
        assert!(Head::read(&path).is_ok());
    }
}
