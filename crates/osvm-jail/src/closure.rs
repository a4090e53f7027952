//! What a program needs to be executed: itself, its interpreter, and the libraries that it names, each as one read-only file.
//!
//! Files are read here, nothing is executed: the program is not trusted, and each offset it gives is checked. Libraries that a program
//! opens by itself later, and its data, have to be declared.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{error::Error, spec::Mount};

/// Scripts whose interpreter is a script, and so on, may go this deep. The kernel's own limit is 4.
const DEEPEST: usize = 4;
/// Files that one program may need.
const MOST_FILES: usize = 256;
/// The most that is read of one file, bytes.
const LARGEST_FILE: u64 = 1 << 30;
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
        let data = read(&on_host).map_err(failed)?;
        self.add(path, &on_host)?;
        if let Some(line) = data.strip_prefix(b"#!") {
            let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let Some(interpreter) = line.split_whitespace().next() else {
                return Err(failed("its first line names no interpreter".to_owned()));
            };
            if depth >= DEEPEST {
                return Err(failed("its interpreter is a script of a script of a script".to_owned()));
            }
            return self.program(Path::new(interpreter), depth + 1);
        }
        let Some(elf) = Elf::read(&data) else { return Ok(()) };
        if let Some(interpreter) = elf.interpreter() {
            let interpreter = PathBuf::from(interpreter);
            if let Some(on_host) = self.on_host(&interpreter) {
                self.add(&interpreter, &on_host)?;
            }
        }
        self.libraries(path, &elf, &[])
    }

    fn libraries(&mut self, path: &Path, elf: &Elf<'_>, inherited: &[String]) -> Result<(), Error> {
        let origin = path.parent().unwrap_or(Path::new("/")).display().to_string();
        let (needed, own) = elf.needed();
        let own: Vec<_> = own.iter().map(|p| p.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)).collect();
        for name in needed {
            let folders = own.iter().chain(inherited).map(String::as_str).chain(LIBRARY_FOLDERS);
            let found = folders.map(|folder| Path::new(folder).join(&name)).find_map(|target| {
                let on_host = self.on_host(&target)?;
                let data = read(&on_host).ok()?;
                let same = Elf::read(&data).is_some_and(|library| library.machine == elf.machine);
                same.then_some((target, on_host, data))
            });
            // The dynamic linker will tell by name; a library that lies in a declared folder is there already.
            let Some((target, on_host, data)) = found else { continue };
            if self.files.contains_key(&target) {
                continue;
            }
            self.add(&target, &on_host)?;
            if let Some(library) = Elf::read(&data) {
                self.libraries(&target, &library, &own)?;
            }
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

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if meta.len() > LARGEST_FILE {
        return Err("it is larger than 1 GiB".to_owned());
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// The little of a 64-bit little-endian ELF file that is needed here.
struct Elf<'a> {
    data: &'a [u8],
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

impl<'a> Elf<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        if data.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (table, size, count) = (number(data, 32, 8)?, number(data, 54, 2)?, number(data, 56, 2)?);
        let segment = |index: u64| {
            let at = table.checked_add(index.checked_mul(size)?)?;
            let field = |offset: u64, len| number(data, at.checked_add(offset)?, len);
            let kind = u32::try_from(field(0, 4)?).ok()?;
            Some(Segment { kind, offset: field(8, 8)?, address: field(16, 8)?, size: field(32, 8)? })
        };
        let segments = (0..count).map(segment).collect::<Option<_>>()?;
        Some(Self { data, machine: u16::try_from(number(data, 18, 2)?).ok()?, segments })
    }

    fn interpreter(&self) -> Option<&'a str> {
        let segment = self.segments.iter().find(|segment| segment.kind == PT_INTERP)?;
        self.text(segment.offset)
    }

    /// The names of needed libraries, and the folders in which they are looked for.
    fn needed(&self) -> (Vec<String>, Vec<String>) {
        let dynamic = || {
            let segment = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
            let entry = |index: u64| {
                let at = segment.offset.checked_add(index * 16)?;
                Some((number(self.data, at, 8)?, number(self.data, at.checked_add(8)?, 8)?))
            };
            let entries: Vec<_> = (0..segment.size / 16).map_while(entry).take_while(|(tag, _)| *tag != 0).collect();
            let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
            let load = self.segments.iter().find(|load| {
                load.kind == PT_LOAD && strings.checked_sub(load.address).is_some_and(|offset| offset < load.size)
            })?;
            let strings = load.offset.checked_add(strings - load.address)?;
            Some((entries, strings))
        };
        let Some((entries, strings)) = dynamic() else { return (Vec::new(), Vec::new()) };
        let texts = |wanted: &[u64]| -> Vec<String> {
            let texts = entries.iter().filter(|(tag, _)| wanted.contains(tag));
            texts.filter_map(|(_, at)| self.text(strings.checked_add(*at)?)).map(str::to_owned).collect()
        };
        let folders = texts(&[DT_RPATH, DT_RUNPATH]);
        let folders = folders.iter().flat_map(|list| list.split(':')).filter(|folder| !folder.is_empty());
        (
            texts(&[DT_NEEDED]).into_iter().filter(|name| !name.contains('/')).collect(),
            folders.map(str::to_owned).collect(),
        )
    }

    fn text(&self, offset: u64) -> Option<&'a str> {
        let rest = self.data.get(usize::try_from(offset).ok()?..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
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
            if let Some(elf) = Elf::read(&data) {
                let _ = (elf.interpreter(), elf.needed());
            }
        }
    }
}
