//! Packs a folder into a read-only image of files, as `guest/fs/image.rs` reads it: an index, and each content at a page border, so that
//! all VMs share it in the host's page cache.
//!
//! Symbolic links stay links. Devices, sockets and pipes are left out.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use crate::error::Error;

const MAGIC: &[u8; 8] = b"OSVMIMG1";
const ENTRY: u64 = 48;
const HEAD: u64 = 24;
const PAGE: u64 = crate::abi::PAGE;

struct Found {
    path: PathBuf,
    name: Vec<u8>,
    metadata: fs::Metadata,
    target: Option<PathBuf>,
}

impl Found {
    fn len(&self) -> u64 {
        match &self.target {
            Some(target) => target.as_os_str().len() as u64,
            None if self.metadata.is_file() => self.metadata.len(),
            None => 0,
        }
    }
}

fn walk(dir: &Path, prefix: &[u8], found: &mut Vec<Found>) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let mut name = prefix.to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(entry.file_name().as_bytes());
        let kind = metadata.file_type();
        let target = if kind.is_symlink() { Some(fs::read_link(&path)?) } else { None };
        if kind.is_dir() || kind.is_file() || target.is_some() {
            let below = (kind.is_dir()).then(|| name.clone());
            found.push(Found { path: path.clone(), name, metadata, target });
            if let Some(prefix) = below {
                walk(&path, &prefix, found)?;
            }
        }
    }
    Ok(())
}

/// Packs `dir` into `out`; how many files, folders and links there are.
pub fn pack(dir: &Path, out: &Path) -> Result<usize, Error> {
    let broken = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let mut found = Vec::new();
    walk(dir, b"", &mut found).map_err(broken(dir))?;
    let file = File::create(out).map_err(broken(out))?;
    write(&found, BufWriter::new(file)).map_err(broken(out))?;
    Ok(found.len())
}

fn write(found: &[Found], mut out: BufWriter<File>) -> io::Result<()> {
    let names: u64 = found.iter().map(|file| file.name.len() as u64).sum();
    out.write_all(MAGIC)?;
    out.write_all(&(found.len() as u64).to_le_bytes())?;
    out.write_all(&names.to_le_bytes())?;
    let mut offset = (HEAD + found.len() as u64 * ENTRY + names).next_multiple_of(PAGE);
    let mut name_at = 0u64;
    for file in found {
        let (len, mode) = (file.len(), file.metadata.mode());
        for word in [offset, len, name_at] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&(file.name.len() as u32).to_le_bytes())?;
        out.write_all(&mode.to_le_bytes())?;
        out.write_all(&(file.metadata.mtime().max(0) as u64).to_le_bytes())?;
        out.write_all(&[0; 8])?;
        offset += len.next_multiple_of(PAGE);
        name_at += file.name.len() as u64;
    }
    for file in found {
        out.write_all(&file.name)?;
    }
    let mut at = (HEAD + found.len() as u64 * ENTRY + names).next_multiple_of(PAGE);
    for file in found {
        let len = file.len();
        out.seek(SeekFrom::Start(at))?;
        match &file.target {
            Some(target) => out.write_all(target.as_os_str().as_bytes())?,
            None if file.metadata.is_file() => {
                let copied = io::copy(&mut File::open(&file.path)?, &mut out)?;
                if copied != len {
                    return Err(io::Error::other(format!("{} changed while it was packed", file.path.display())));
                }
            }
            None => {}
        }
        at += len.next_multiple_of(PAGE);
    }
    out.flush()?;
    // The last page is whole too, so that it can be mapped.
    out.get_ref().set_len(at)
}
