//! A guest's first root: a cpio archive in the `newc` format, as the kernel's documentation of initramfs buffers describes it. The
//! same content gives the same bytes.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

use crate::{
    digest,
    error::{Error, io},
};

/// The name of the archive's last entry.
const LAST: &str = "TRAILER!!!";
const MAGIC: &str = "070701";
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// The largest file that the format can hold is one byte short of 4 GiB.
const LARGEST: u64 = u32::MAX as u64;
/// Entries of one archive.
const MOST_ENTRIES: u32 = 1_000_000;
/// What is there whatever an image holds.
const FOLDERS: [&str; 8] = ["dev", "proc", "sys", "run", "tmp", "etc", "etc/osvm", "etc/osvm/modules.d"];
const CHUNK: usize = 64 << 10;

/// Writes one archive.
#[derive(Debug)]
pub struct Archive<W> {
    to: W,
    at: u64,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(to: W) -> Self {
        Self { to, at: 0, entries: 0 }
    }

    /// A folder. Names are relative to the root, without `.` and `..`.
    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name.as_bytes(), FOLDER | 0o755, 0)
    }

    /// A file with its content.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.stream(name.as_bytes(), mode, content.len() as u64, content)
    }

    /// A file of the host.
    pub fn copy(&mut self, name: &str, mode: u32, from: &Path) -> Result<(), Error> {
        let failed = io("read", from);
        let copied = File::open(from).and_then(|file| {
            let size = file.metadata()?.len();
            self.stream(name.as_bytes(), mode, size, file)
        });
        copied.map_err(failed)
    }

    /// A folder of the host with all that is in it, in the order of its names. All belongs to root. What is neither file, folder
    /// nor symbolic link is an error.
    pub fn tree(&mut self, root: &Path) -> Result<(), Error> {
        self.below(root, Path::new(""))
    }

    fn below(&mut self, root: &Path, folder: &Path) -> Result<(), Error> {
        let here = root.join(folder);
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&here).map_err(io("read", &here))? {
            names.push(folder.join(entry.map_err(io("read", &here))?.file_name()));
        }
        names.sort();
        for name in names {
            let path = root.join(&name);
            let meta = fs::symlink_metadata(&path).map_err(io("read", &path))?;
            let mode = meta.permissions().mode() & 0o7777;
            let bytes = name.as_os_str().as_bytes();
            let kind = meta.file_type();
            if kind.is_dir() {
                self.entry(bytes, FOLDER | mode, 0).map_err(io("write", &path))?;
                self.below(root, &name)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).map_err(io("read", &path))?;
                let target = target.as_os_str().as_bytes();
                self.entry(bytes, LINK | 0o777, target.len() as u64)
                    .and_then(|()| self.content(target))
                    .and_then(|()| self.pad())
                    .map_err(io("write", &path))?;
            } else if kind.is_file() {
                let file = File::open(&path).map_err(io("read", &path))?;
                self.stream(bytes, mode, meta.size(), file).map_err(io("read", &path))?;
            } else {
                let why = if kind.is_socket() || kind.is_fifo() { "a socket or pipe" } else { "a device" };
                return Err(Error::Unfit { path, why: format!("{why}, which no image holds") });
            }
        }
        Ok(())
    }

    /// The last entry; further archives may follow it.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(LAST.as_bytes(), 0, 0)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn stream(&mut self, name: &[u8], mode: u32, size: u64, mut from: impl Read) -> io::Result<()> {
        self.entry(name, REGULAR | mode & 0o7777, size)?;
        let mut left = size;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let got = from.read(buffer.get_mut(..most).unwrap_or_default())?;
            if got == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
            }
            self.content(buffer.get(..got).unwrap_or_default())?;
            left -= got as u64;
        }
        self.pad()
    }

    fn entry(&mut self, name: &[u8], mode: u32, size: u64) -> io::Result<()> {
        if size > LARGEST || self.entries == MOST_ENTRIES || name.len() > 4096 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large or too many for an initramfs"));
        }
        self.entries += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // The inode's number, mode, user, group, links, time, size, four device numbers, the name's length, no checksum.
        let fields = [u64::from(self.entries), mode.into(), 0, 0, links, 0, size, 0, 0, 0, 0, name.len() as u64 + 1, 0];
        let head = fields.iter().fold(MAGIC.to_owned(), |head, field| head + &format!("{field:08x}"));
        self.content(head.as_bytes())?;
        self.content(name)?;
        self.content(&[0])?;
        self.pad()
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = usize::try_from(self.at.wrapping_neg() % 4).unwrap_or(0);
        self.content(&[0; 4][..missing])
    }
}

/// An archive that becomes part of a first root.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The file.
    pub path: PathBuf,
    /// What its digest has to be, where one is known.
    pub sha256: Option<String>,
}

/// A first root for a Linux guest: layers, each of which may replace files of those before it; then the agent as `/init`, and a kernel's
/// modules with their list, which no layer replaces. What was written is no use after an error.
pub fn build(to: &mut impl Write, agent: &Path, modules: &[PathBuf], layers: &[Layer]) -> Result<(), Error> {
    const ABOUT: &str = "the guest's first root";
    let mut out = io::BufWriter::with_capacity(CHUNK, to);
    for layer in layers {
        match &layer.sha256 {
            Some(due) => digest::copy_checked(&layer.path, due, &mut out)?,
            None => {
                let mut file = File::open(&layer.path).map_err(io("read", &layer.path))?;
                io::copy(&mut file, &mut out).map_err(io("copy", &layer.path))?;
            }
        }
    }
    let mut archive = Archive::new(out);
    let written = |result: io::Result<()>| result.map_err(io("write", ABOUT));
    for folder in FOLDERS {
        written(archive.folder(folder))?;
    }
    archive.copy("init", 0o755, agent)?;
    let mut list = String::new();
    for module in modules {
        let name = module.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let inside = format!("etc/osvm/modules.d/{name}");
        archive.copy(&inside, 0o644, module)?;
        list += &format!("/{inside}\n");
    }
    written(archive.file("etc/osvm/modules", 0o644, list.as_bytes()))?;
    archive.finish().map(drop).map_err(io("write", ABOUT))
}

/// A file without a name in `dir`, and a path by which other processes of this user open it as long as it is held. Whatever ends this
/// process, it leaves nothing.
pub fn unnamed(dir: &Path) -> Result<(File, PathBuf), Error> {
    let mode = Mode::RUSR | Mode::WUSR;
    let file = open(dir, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode);
    let file = File::from(file.map_err(|error| io("write in", dir)(error.into()))?);
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok((file, path.into()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_same_folder_gives_the_same_bytes_and_each_entry_begins_at_a_multiple_of_four() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/b"), "12345").unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let archive = || {
            let mut archive = Archive::new(Vec::new());
            archive.tree(dir.path()).unwrap();
            archive.finish().unwrap()
        };
        let bytes = archive();
        assert_eq!(bytes, archive());
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(MAGIC.as_bytes())).collect();
        assert_eq!(starts.len(), 5);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
    }

    #[test]
    fn another_program_reads_what_is_written() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("etc").unwrap();
        archive.file("etc/name", 0o640, b"content").unwrap();
        let bytes = archive.finish().unwrap();
        let script = "import sys\nd=sys.stdin.buffer.read()\nat=0\nwhile True:\n f=[int(d[at+6+8*i:at+14+8*i],16) for i in range(13)]\n \
                      n=d[at+110:at+110+f[11]-1].decode()\n at+=(110+f[11]+3)&~3\n print(n,oct(f[1]),d[at:at+f[6]].decode())\n at+=(f[6]+3)&~3\n \
                      if n=='TRAILER!!!': break\n";
        let mut python =
            Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        python.stdin.take().unwrap().write_all(&bytes).unwrap();
        let said = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(said, "etc 0o40755 \netc/name 0o100640 content\nTRAILER!!! 0o0 \n");
    }

    #[test]
    fn a_socket_is_in_no_image() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let mut archive = Archive::new(Vec::new());
        assert!(matches!(archive.tree(dir.path()), Err(Error::Unfit { .. })));
    }
}
