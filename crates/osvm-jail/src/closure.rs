//! What a program needs to be executed: itself, its interpreter, and the libraries that it names, each as one read-only file.
//!
//! Files are read here, nothing is executed: the program is not trusted, and each offset it gives is checked. Libraries that a program
//! opens by itself later, and its data, have to be declared.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{error::Error, spec::Mount};

/// Scripts whose interpreter is a script, and so on, may go this deep. The kernel's own limit is 4.
const DEEPEST: usize = 4;
/// Files that one program may need.
const MOST_FILES: usize = 256;
/// An ELF file's own header, bytes.
const HEADER: usize = 64;
/// The most that is read of one table of an ELF file, bytes.
const LARGEST_TABLE: usize = 1 << 20;
/// The longest name, or first line of a script, that is read, bytes. The kernel reads 256 of a script's.
const LONGEST_LINE: usize = 1024;
/// Where the dynamic linker looks without a cache.
const LIBRARY_FOLDERS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// The read-only mounts for a program: each file at the path at which it will be looked for. What lies in a folder of `covered` is
/// there already.
///
/// # Errors
/// When the program or something it names does not exist.
pub fn closure(program: &Path, covered: &[Mount]) -> Result<Vec<Mount>, Error> {
    let mut needed = Needed { files: BTreeMap::new(), covered };
    needed.program(program, 0)?;
    let mounts =
        needed.files.into_iter().map(|(target, source)| Mount { source, target, writable: false, owned: false });
    Ok(mounts.collect())
}

struct Needed<'a> {
    files: BTreeMap<PathBuf, PathBuf>,
    covered: &'a [Mount],
}

impl Needed<'_> {
    fn program(&mut self, path: &Path, depth: usize) -> Result<(), Error> {
        let failed = |why: String| Error::Execute { program: path.to_owned(), why };
        // A program in a declared folder is looked for there.
        let Some(on_host) = self.on_host(path) else { return Ok(()) };
        let (file, elf) = open(&on_host).map_err(failed)?;
        self.add(path, &on_host)?;
        if let Some(interpreter) = script(&file) {
            if interpreter.is_empty() {
                return Err(failed("its first line names no interpreter".to_owned()));
            }
            if depth >= DEEPEST {
                return Err(failed("its interpreter is a script of a script of a script".to_owned()));
            }
            return self.program(Path::new(&interpreter), depth + 1);
        }
        let Some(elf) = elf else { return Ok(()) };
        if let Some(interpreter) = elf.interpreter() {
            let interpreter = PathBuf::from(interpreter);
            if let Some(on_host) = self.on_host(&interpreter) {
                self.add(&interpreter, &on_host)?;
            }
        }
        self.libraries(path, &elf, &[])
    }

    fn libraries(&mut self, path: &Path, elf: &Elf, inherited: &[String]) -> Result<(), Error> {
        let origin = path.parent().unwrap_or(Path::new("/")).display().to_string();
        let (needed, own) = elf.needed();
        let own: Vec<_> = own.iter().map(|p| p.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)).collect();
        for name in needed {
            let folders = own.iter().chain(inherited).map(String::as_str).chain(LIBRARY_FOLDERS);
            let found = folders.map(|folder| Path::new(folder).join(&name)).find_map(|target| {
                let on_host = self.on_host(&target)?;
                let library = open(&on_host).ok()?.1?;
                (library.machine == elf.machine).then_some((target, on_host, library))
            });
            // The dynamic linker will tell by name; a library that lies in a declared folder is there already.
            let Some((target, on_host, library)) = found else { continue };
            if self.files.contains_key(&target) {
                continue;
            }
            self.add(&target, &on_host)?;
            self.libraries(&target, &library, &own)?;
        }
        Ok(())
    }

    /// The file of the host for a path of the jail; none if a declared mount is responsible for it.
    fn on_host(&self, path: &Path) -> Option<PathBuf> {
        if self.covered.iter().any(|mount| path.starts_with(&mount.target)) {
            return None;
        }
        Some(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }

    fn add(&mut self, target: &Path, source: &Path) -> Result<(), Error> {
        if self.files.len() >= MOST_FILES {
            return Err(Error::Execute { program: target.to_owned(), why: "it needs more than 256 files".to_owned() });
        }
        self.files.insert(target.to_owned(), source.to_owned());
        Ok(())
    }
}

/// Opens a file, and its ELF header if it has one. Only the few parts that are needed are read: a library may have megabytes.
fn open(path: &Path) -> Result<(File, Option<Elf>), String> {
    // Not to wait for a writer if it is a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| error.to_string())?);
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let elf = file.try_clone().ok().and_then(Elf::read);
    Ok((file, elf))
}

/// A script's interpreter; none if the file is no script.
fn script(file: &File) -> Option<String> {
    let head = bytes_at(file, 0, LONGEST_LINE).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).split_whitespace().next().unwrap_or_default().to_owned())
}

/// At most so many bytes from there on.
fn bytes_at(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut len = 0;
    while len < most {
        match file.read_at(&mut bytes[len..], offset.saturating_add(len as u64))? {
            0 => break,
            n => len += n,
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The little of a 64-bit little-endian ELF file that is needed here.
struct Elf {
    file: File,
    machine: u16,
    segments: Vec<Segment>,
}

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

impl Elf {
    fn read(file: File) -> Option<Self> {
        let head = bytes_at(&file, 0, HEADER).ok()?;
        if head.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (table, size, count) = (number(&head, 32, 8)?, number(&head, 54, 2)?, number(&head, 56, 2)?);
        let headers = bytes_at(&file, table, usize::try_from(size * count).ok()?.min(LARGEST_TABLE)).ok()?;
        let segment = |index: u64| {
            let field = |offset: u64, len| number(&headers, index * size + offset, len);
            let kind = u32::try_from(field(0, 4)?).ok()?;
            Some(Segment { kind, offset: field(8, 8)?, address: field(16, 8)?, size: field(32, 8)? })
        };
        let segments = (0..count).map(segment).collect::<Option<_>>()?;
        let machine = u16::try_from(number(&head, 18, 2)?).ok()?;
        Some(Self { file, machine, segments })
    }

    fn interpreter(&self) -> Option<String> {
        let segment = self.segments.iter().find(|segment| segment.kind == PT_INTERP)?;
        self.text(segment.offset)
    }

    /// The names of needed libraries, and the folders in which they are looked for.
    fn needed(&self) -> (Vec<String>, Vec<String>) {
        let dynamic = || {
            let segment = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
            let most = usize::try_from(segment.size).ok()?.min(LARGEST_TABLE);
            let table = bytes_at(&self.file, segment.offset, most).ok()?;
            let entry = |index: u64| Some((number(&table, index * 16, 8)?, number(&table, index * 16 + 8, 8)?));
            let entries: Vec<_> =
                (0..table.len() as u64 / 16).map_while(entry).take_while(|(tag, _)| *tag != 0).collect();
            let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
            let load = self.segments.iter().find(|load| {
                load.kind == PT_LOAD && strings.checked_sub(load.address).is_some_and(|offset| offset < load.size)
            })?;
            let strings = load.offset.checked_add(strings - load.address)?;
            Some((entries, strings))
        };
        let Some((entries, strings)) = dynamic() else { return (Vec::new(), Vec::new()) };
        let texts = |wanted: &[u64]| -> Vec<String> {
            let texts = entries.iter().filter(|(tag, _)| wanted.contains(tag)).take(MOST_FILES);
            texts.filter_map(|(_, at)| self.text(strings.checked_add(*at)?)).collect()
        };
        let folders = texts(&[DT_RPATH, DT_RUNPATH]);
        let folders = folders.iter().flat_map(|list| list.split(':')).filter(|folder| !folder.is_empty());
        (
            texts(&[DT_NEEDED]).into_iter().filter(|name| !name.contains('/')).collect(),
            folders.map(str::to_owned).collect(),
        )
    }

    fn text(&self, offset: u64) -> Option<String> {
        let bytes = bytes_at(&self.file, offset, LONGEST_LINE).ok()?;
        let text = std::str::from_utf8(&bytes[..bytes.iter().position(|byte| *byte == 0)?]).ok()?;
        Some(text.to_owned())
    }
}

fn number(data: &[u8], offset: u64, len: usize) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let bytes = data.get(start..start.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::fs::MemfdFlags;

    use super::*;

    #[test]
    fn a_dynamic_program_brings_its_interpreter_and_its_libraries() {
        let mounts = closure(Path::new("/bin/ls"), &[]).unwrap();
        let targets: Vec<_> = mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
        assert!(targets.contains(&"/bin/ls"), "{targets:?}");
        assert!(targets.iter().any(|target| target.contains("ld-linux")), "{targets:?}");
        assert!(targets.iter().any(|target| target.ends_with("/libc.so.6")), "{targets:?}");
        assert!(mounts.iter().all(|mount| !mount.writable));
    }

    #[test]
    fn what_a_declared_folder_holds_is_not_mounted_again() {
        let covered =
            |target: &str| Mount { source: target.into(), target: target.into(), writable: false, owned: false };
        let mounts = closure(Path::new("/usr/bin/ls"), &[covered("/usr"), covered("/lib"), covered("/lib64")]).unwrap();
        assert_eq!(mounts, []);
    }

    proptest! {
        #[test]
        fn no_file_however_broken_makes_the_reader_panic(mut data in prop::collection::vec(any::<u8>(), 0..400)) {
            for (to, from) in data.iter_mut().zip(b"\x7fELF\x02\x01") {
                *to = *from;
            }
            let file = File::from(rustix::fs::memfd_create("elf", MemfdFlags::CLOEXEC).unwrap());
            file.write_all_at(&data, 0).unwrap();
            if let Some(elf) = Elf::read(file) {
                let _ = (elf.interpreter(), elf.needed());
            }
        }
    }
}
