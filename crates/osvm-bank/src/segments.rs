//! The log on disk: segments of framed entries, appended by one writer and read back by place.
//!
//! A segment begins with a header: magic, the genesis hash, the sequence number of its first entry, a CRC of these. What follows is
//! frames until the end of the file. Only the last segment may end in the middle of a frame: that is what a crash leaves, and it is
//! cut off at the next start. A wrong frame anywhere else is damage, and is reported as such.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use solana_hash::Hash;

use crate::{
    Error,
    codec::{Dec, Enc, Malformed},
    config::Tuning,
    entry::{FRAME_HEAD, Frame, MAX_PAYLOAD, parse_frame},
    history::Location,
};

/// A segment that is this long is followed by a new one when a slot begins.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A segment that is this long is followed by a new one in any case: a place in it has 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const MAGIC: &[u8; 8] = b"OSVMLOG1";
/// Magic, genesis hash, first sequence number, CRC.
pub(crate) const HEADER: u64 = 8 + 32 + 8 + 4;
/// How far ahead a sequence number may be to count as an entry that follows damage.
const PLAUSIBLE: u64 = 1 << 20;

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { what, path, source }
}

fn name(id: u32) -> String {
    format!("log-{id:010}")
}

/// The files to read from.
#[derive(Clone, Default)]
pub(crate) struct SegmentFiles {
    first: u32,
    files: VecDeque<Arc<File>>,
}

impl SegmentFiles {
    fn get(&self, id: u32) -> Option<&Arc<File>> {
        self.files.get(id.checked_sub(self.first)? as usize)
    }

    pub(crate) fn push(&mut self, id: u32, file: Arc<File>) {
        if self.files.is_empty() {
            self.first = id;
        }
        self.files.push_back(file);
    }

    /// Forgets all below `id`.
    pub(crate) fn drop_before(&mut self, id: u32) {
        while self.first < id && self.files.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// The whole frame at a place.
    pub(crate) fn read(&self, at: Location) -> io::Result<Vec<u8>> {
        let file = self.get(at.segment).ok_or_else(|| io::Error::other("the segment is no longer kept"))?;
        let mut head = [0; FRAME_HEAD];
        file.read_exact_at(&mut head, at.offset.into())?;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if len > MAX_PAYLOAD {
            return Err(io::Error::other("an entry's length is impossible"));
        }
        let mut frame = vec![0; FRAME_HEAD + len];
        file.read_exact_at(&mut frame, at.offset.into())?;
        Ok(frame)
    }
}

/// A place in the log to read on from.
#[derive(Debug)]
pub(crate) struct Cursor {
    segment: u32,
    offset: u64,
    next: u64,
}

/// Frames are read in pieces of about this size.
const READ_BYTES: usize = 1 << 20;

impl SegmentFiles {
    /// At the first entry that is kept.
    pub(crate) fn cursor(&self) -> io::Result<Cursor> {
        let mut bytes = [0; HEADER as usize];
        self.files.front().ok_or_else(|| io::Error::other("there is no log"))?.read_exact_at(&mut bytes, 0)?;
        let next = Dec(&bytes[40..]).u64().map_err(io::Error::other)?;
        Ok(Cursor { segment: self.first, offset: HEADER, next })
    }
}

impl Cursor {
    /// The next whole frames, up to entry `last`, which must be in the files. None: all are read.
    pub(crate) fn read(&mut self, files: &SegmentFiles, last: u64) -> io::Result<Option<Vec<u8>>> {
        if self.next > last {
            return Ok(None);
        }
        let file = files.get(self.segment).ok_or_else(|| io::Error::other("the segment is no longer kept"))?;
        let left = file.metadata()?.len().saturating_sub(self.offset) as usize;
        if left == 0 {
            self.segment += 1;
            self.offset = HEADER;
            return self.read(files, last);
        }
        let mut bytes = vec![0; left.min(READ_BYTES)];
        file.read_exact_at(&mut bytes, self.offset)?;
        if bytes.len() == READ_BYTES && frame_size(&bytes) > READ_BYTES {
            bytes = files.read(Location { segment: self.segment, offset: self.offset as u32 })?;
        }
        let mut end = 0;
        while self.next <= last && end < bytes.len() {
            let frame = match parse_frame(&bytes[end..]) {
                Ok(frame) if frame.seq == self.next => frame,
                Err(_) if end > 0 => break,
                Ok(_) => return Err(io::Error::other("an entry is missing")),
                Err(err) => return Err(io::Error::other(err)),
            };
            end += frame.size;
            self.next += 1;
        }
        bytes.truncate(end);
        self.offset += end as u64;
        Ok(Some(bytes))
    }
}

fn frame_size(bytes: &[u8]) -> usize {
    Dec(bytes).u32().map_or(0, |len| len as usize + FRAME_HEAD)
}

/// A segment as the log knows it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u32,
    path: PathBuf,
    /// The slot of its last block. Until it has one, the slot after the segment before.
    pub(crate) last_slot: u64,
}

/// The log that is appended to.
pub(crate) struct Log {
    dir: PathBuf,
    genesis: Hash,
    segments: VecDeque<Segment>,
    file: Arc<File>,
    len: u64,
    /// Bytes of a failed write may lie behind `len`.
    dirty: bool,
    begun: Vec<(u32, Arc<File>)>,
    tuning: Tuning,
}

/// Where a batch went.
pub(crate) struct Appended {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    /// Segments begun since the last batch, for the readers.
    pub(crate) begun: Vec<(u32, Arc<File>)>,
}

impl Log {
    /// A new log whose first entry is to be number `first_seq`.
    pub(crate) fn create(
        dir: &Path,
        genesis: Hash,
        first_seq: u64,
        tuning: Tuning,
    ) -> Result<(Self, SegmentFiles), Error> {
        let (segment, file) = new_segment(dir, 0, genesis, first_seq).map_err(io_error("write", &dir.join(name(0))))?;
        let mut files = SegmentFiles::default();
        files.push(0, file.clone());
        let segments = VecDeque::from([segment]);
        Ok((
            Self { dir: dir.into(), genesis, segments, file, len: HEADER, dirty: false, begun: Vec::new(), tuning },
            files,
        ))
    }

    /// Opens an existing log and calls `each` for each entry in it. A torn end is cut off; its length is returned.
    pub(crate) fn open(
        dir: &Path,
        genesis: Hash,
        tuning: Tuning,
        mut each: impl FnMut(Location, Frame<'_>) -> Result<(), Malformed>,
    ) -> Result<(Self, SegmentFiles, u64), Error> {
        let ids = list(dir)?;
        let (mut segments, mut files) = (VecDeque::new(), SegmentFiles::default());
        let (mut next_seq, mut torn, mut last) = (None, 0, None);
        for (at, id) in ids.iter().enumerate() {
            let path = dir.join(name(*id));
            let corrupt = |offset: u64, why: &str| Error::Corrupt { path: path.clone(), offset, why: why.into() };
            if at > 0 && ids[at - 1] + 1 != *id {
                return Err(corrupt(0, "the segment before it is missing"));
            }
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
            let bytes = fs::read(&path).map_err(io_error("read", &path))?;
            let is_last = at + 1 == ids.len();
            let first = match header(&bytes, genesis) {
                Ok(first) => first,
                // A crash while a segment was begun.
                Err(_) if is_last && bytes.len() < HEADER as usize && next_seq.is_some() => {
                    fs::remove_file(&path).map_err(io_error("delete", &path))?;
                    torn += bytes.len() as u64;
                    break;
                }
                Err(err) => return Err(corrupt(0, err.0)),
            };
            if *next_seq.get_or_insert(first) != first {
                return Err(corrupt(0, "it does not begin with the entry that is next"));
            }
            let slot = segments.back().map_or(0, |before: &Segment| before.last_slot + 1);
            let mut segment = Segment { id: *id, path: path.clone(), last_slot: slot };
            let mut offset = HEADER as usize;
            while offset < bytes.len() {
                let seq = next_seq.unwrap_or(first);
                let frame = match parse_frame(&bytes[offset..]) {
                    Ok(frame) if frame.seq == seq => frame,
                    Ok(_) => return Err(corrupt(offset as u64, "an entry is missing")),
                    Err(err) if is_last && !entry_follows(&bytes[offset + 1..], seq) => {
                        tracing::debug!(why = err.0, offset, "torn end of the log");
                        torn = (bytes.len() - offset) as u64;
                        file.set_len(offset as u64).map_err(io_error("cut", &path))?;
                        break;
                    }
                    Err(err) => return Err(corrupt(offset as u64, err.0)),
                };
                let place = Location { segment: *id, offset: offset as u32 };
                each(place, frame).map_err(|err| corrupt(offset as u64, err.0))?;
                if let Some(slot) = frame.block_slot() {
                    segment.last_slot = slot;
                }
                offset += frame.size;
                next_seq = Some(seq + 1);
            }
            let file = Arc::new(file);
            files.push(*id, file.clone());
            last = Some((file, offset as u64));
            segments.push_back(segment);
        }
        let Some((file, len)) = last else {
            return Err(Error::Corrupt { path: dir.into(), offset: 0, why: "there is no log in it".into() });
        };
        Ok((
            Self { dir: dir.into(), genesis, segments, file, len, dirty: false, begun: Vec::new(), tuning },
            files,
            torn,
        ))
    }

    /// Appends whole frames with one write. After an error nothing of them is in the log.
    pub(crate) fn append(&mut self, frames: &[u8], first_seq: u64, slot_begins: bool) -> io::Result<Appended> {
        if self.dirty {
            self.file.set_len(self.len)?;
            self.dirty = false;
        }
        if let Some(quota) = &self.tuning.disk_quota
            && quota
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(frames.len() as u64))
                .is_err()
        {
            // As a full disk does: a part is written.
            self.dirty = true;
            let part = quota.load(Ordering::SeqCst).min(frames.len() as u64 / 2) as usize;
            self.file.write_all_at(&frames[..part], self.len)?;
            self.cut();
            return Err(io::ErrorKind::StorageFull.into());
        }
        if (self.len >= self.tuning.segment_bytes.unwrap_or(SEGMENT_BYTES) && slot_begins)
            || self.len >= SEGMENT_BYTES_MAX
        {
            let id = self.current().wrapping_add(1);
            let (mut segment, file) = new_segment(&self.dir, id, self.genesis, first_seq)?;
            segment.last_slot = self.segments.back().map_or(0, |before| before.last_slot + 1);
            self.segments.push_back(segment);
            self.file = file.clone();
            self.len = HEADER;
            self.begun.push((id, file));
        }
        let offset = self.len;
        if let Err(err) = self.file.write_all_at(frames, offset) {
            self.dirty = true;
            self.cut();
            return Err(err);
        }
        self.len += frames.len() as u64;
        Ok(Appended { segment: self.current(), offset, begun: std::mem::take(&mut self.begun) })
    }

    fn cut(&mut self) {
        self.dirty = self.file.set_len(self.len).is_err();
    }

    fn current(&self) -> u32 {
        self.segments.back().map_or(0, |segment| segment.id)
    }

    /// Notes that a block of this slot is in the current segment.
    pub(crate) fn sealed(&mut self, slot: u64) {
        if let Some(segment) = self.segments.back_mut() {
            segment.last_slot = slot;
        }
    }

    /// The current file, to be synced.
    pub(crate) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Deletes segments, oldest first, that end below `slot`. Returns the first that is kept and the last slot that is gone.
    pub(crate) fn drop_below(&mut self, slot: u64) -> Option<(u32, u64)> {
        let mut kept = None;
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.last_slot < slot) {
            let Some(gone) = self.segments.pop_front() else { break };
            if let Err(err) = fs::remove_file(&gone.path) {
                tracing::warn!("cannot delete {}: {err}", gone.path.display());
            }
            kept = self.segments.front().map(|segment| (segment.id, gone.last_slot));
        }
        kept
    }
}

fn new_segment(dir: &Path, id: u32, genesis: Hash, first_seq: u64) -> io::Result<(Segment, Arc<File>)> {
    let path = dir.join(name(id));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let mut e = Enc::default();
    e.raw(MAGIC);
    e.raw(genesis.as_ref());
    e.u64(first_seq);
    e.u32(crc32fast::hash(&e.0));
    file.write_all_at(&e.0, 0)?;
    Ok((Segment { id, path, last_slot: 0 }, Arc::new(file)))
}

fn header(bytes: &[u8], genesis: Hash) -> Result<u64, Malformed> {
    let mut d = Dec(bytes);
    let covered = bytes.get(..HEADER as usize - 4).ok_or(Malformed("it is too short"))?;
    if d.array()? != *MAGIC {
        return Err(Malformed("it is no log of this version"));
    }
    let (found, first) = (Hash::from(d.array::<32>()?), d.u64()?);
    if d.u32()? != crc32fast::hash(covered) {
        return Err(Malformed("its header's checksum is wrong"));
    }
    if found != genesis {
        return Err(Malformed("it belongs to another ledger"));
    }
    Ok(first)
}

/// Whether an entry begins anywhere in `bytes`: then what is before is damage, not the end that a crash left.
fn entry_follows(bytes: &[u8], seq: u64) -> bool {
    (0..bytes.len().saturating_sub(FRAME_HEAD)).any(|at| {
        let found = Dec(&bytes[at + 8..]).u64().unwrap_or(0);
        (seq..seq + PLAUSIBLE).contains(&found) && parse_frame(&bytes[at..]).is_ok()
    })
}

/// Ids of the segments in a folder, in order.
fn list(dir: &Path) -> Result<Vec<u32>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
        let entry = entry.map_err(io_error("read", dir))?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.strip_prefix("log-")?.parse().ok()) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Deletes all segments in a folder.
pub(crate) fn delete_all(dir: &Path) -> Result<(), Error> {
    for id in list(dir)? {
        let path = dir.join(name(id));
        fs::remove_file(&path).map_err(io_error("delete", &path))?;
    }
    Ok(())
}
