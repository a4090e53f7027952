//! Following the log of a service over its instances.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, stream};
use osvm_model::{Generation, ServiceName, api::LogLine};

use crate::manager::Manager;

/// Pause between two looks at a log that is followed. The instance writes its file itself, and tells nobody.
const LOOK: Duration = Duration::from_millis(100);
/// How much of a log is read at once.
const CHUNK: u64 = 256 << 10;

struct Follow {
    manager: Arc<Manager>,
    name: ServiceName,
    generation: Generation,
    /// Where to read on in that instance's log.
    offset: u64,
    lines: VecDeque<String>,
    follow: bool,
}

/// The last lines of the newest instance's log and, with `follow`, those that come after, of its successors too.
pub(super) fn lines(
    manager: Arc<Manager>,
    name: ServiceName,
    count: usize,
    follow: bool,
) -> impl Stream<Item = LogLine> {
    let generation = newest(&manager, &name).unwrap_or_default();
    let log = manager.ctx.paths.log(&name, generation);
    let (lines, offset) = osvm_runtime::log::tail(&log, count).unwrap_or_default();
    let state = Follow { manager, name, generation, offset, lines: lines.into(), follow };
    stream::unfold(state, |mut state| async move { state.next().await.map(|line| (line, state)) })
}

fn newest(manager: &Manager, name: &ServiceName) -> Option<Generation> {
    manager.ctx.store.service(name).ok().flatten().map(|service| service.generation)
}

impl Follow {
    async fn next(&mut self) -> Option<LogLine> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(LogLine { generation: self.generation, line });
            }
            if !self.follow {
                return None;
            }
            // Seen before the log is read to its end, so that nothing of the older instance is missed.
            let newest = newest(&self.manager, &self.name)?;
            let log = self.manager.ctx.paths.log(&self.name, self.generation);
            let (lines, offset) = read_on(&log, self.offset).unwrap_or((VecDeque::new(), self.offset));
            (self.lines, self.offset) = (lines, offset);
            if !self.lines.is_empty() {
                continue;
            }
            if newest > self.generation {
                (self.generation, self.offset) = (self.generation.next(), 0);
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.manager.end.cancelled() => return None,
            }
        }
    }
}

/// The whole lines from `offset` on, and where to read on after them. A log that became shorter is read from its beginning.
fn read_on(path: &Path, offset: u64) -> std::io::Result<(VecDeque<String>, u64)> {
    let mut file = File::open(path)?;
    let offset = if file.metadata()?.len() < offset { 0 } else { offset };
    file.seek(SeekFrom::Start(offset))?;
    let mut text = Vec::new();
    file.take(CHUNK).read_to_end(&mut text)?;
    let end = match text.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        // A line longer than a chunk is told in pieces.
        None if text.len() as u64 == CHUNK => text.len(),
        None => 0,
    };
    let lines = String::from_utf8_lossy(&text[..end]).lines().map(str::to_owned).collect();
    Ok((lines, offset + end as u64))
}
