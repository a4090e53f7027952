//! What the guest writes on its console: the last lines, and whether its kernel panicked. Nothing of it is trusted.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Lines that are kept.
const MOST_LINES: usize = 400;
/// Bytes of a line that are kept.
const LONGEST_LINE: usize = 500;
/// Lines that a message shows.
const SHOWN: usize = 12;
/// Bytes of the console that are written to its file; what comes later is kept in memory alone, by its last lines.
const FILE_LIMIT: u64 = 8 << 20;
/// What Linux says before it gives up.
const PANIC: &str = "Kernel panic - not syncing";

/// The console of one VM.
#[derive(Clone, Debug)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    partial: Vec<u8>,
    panicked: bool,
    ended: bool,
}

impl Console {
    /// Reads `from` in a thread of its own until it ends, and copies it to `file`.
    pub(crate) fn follow(mut from: impl Read + Send + 'static, mut file: File) -> io::Result<Self> {
        let console = Self { shared: Arc::default() };
        let own = console.clone();
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            let mut buffer = [0; 4096];
            let mut room = FILE_LIMIT;
            loop {
                let bytes = match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => buffer.get(..count).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                own.take(bytes);
                if let Some(left) = room.checked_sub(bytes.len() as u64) {
                    room = left;
                    // A full disk loses the copy; the last lines are in memory.
                    let _ = file.write_all(bytes);
                }
            }
            let mut state = own.state();
            state.end_line();
            state.ended = true;
            own.shared.1.notify_all();
        })?;
        Ok(console)
    }

    /// The last lines, for a message.
    pub fn tail(&self) -> Vec<String> {
        let state = self.state();
        state.lines.iter().skip(state.lines.len().saturating_sub(SHOWN)).cloned().collect()
    }

    /// Whether a line holds this text.
    pub fn holds(&self, text: &str) -> bool {
        self.state().lines.iter().any(|line| line.contains(text))
    }

    /// Whether the guest's kernel said that it panicked.
    pub fn panicked(&self) -> bool {
        self.state().panicked
    }

    /// The lines from the panic on, or the last ones.
    pub fn panic_lines(&self) -> Vec<String> {
        let state = self.state();
        match state.lines.iter().position(|line| line.contains(PANIC)) {
            Some(at) => state.lines.iter().skip(at.saturating_sub(2)).take(SHOWN).cloned().collect(),
            None => state.lines.iter().skip(state.lines.len().saturating_sub(SHOWN)).cloned().collect(),
        }
    }

    /// Waits until all was read that the VMM wrote; it ends with the VMM.
    pub(crate) fn wait_end(&self, most: Duration) {
        let state = self.state();
        let _ = self.shared.1.wait_timeout_while(state, most, |state| !state.ended);
    }

    fn take(&self, bytes: &[u8]) {
        let mut state = self.state();
        for &byte in bytes {
            match byte {
                b'\n' => state.end_line(),
                byte if state.partial.len() < LONGEST_LINE => state.partial.push(byte),
                _ => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.partial);
        // A guest's control characters are not to reach a terminal.
        let plain = |c: char| if c.is_control() { None } else { Some(c) };
        let line: String = String::from_utf8_lossy(&bytes).chars().filter_map(plain).collect();
        if line.is_empty() {
            return;
        }
        self.panicked |= line.contains(PANIC);
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(bytes: Vec<u8>) -> Console {
        let console = Console::follow(Cursor::new(bytes), tempfile::tempfile().unwrap()).unwrap();
        console.wait_end(Duration::from_secs(10));
        console
    }

    #[test]
    fn a_guest_that_writes_without_end_fills_no_memory_and_no_terminal() {
        let mut bytes = b"x".repeat(100_000);
        bytes.extend(b"\n\x1b[2Jlast\r\n");
        let console = read(bytes);
        assert_eq!(console.tail()[0].len(), LONGEST_LINE);
        assert_eq!(console.tail()[1], "[2Jlast");
        let many = read(b"line\n".repeat(10_000));
        assert_eq!(many.tail().len(), SHOWN);
        assert_eq!(many.state().lines.len(), MOST_LINES);
    }

    #[test]
    fn a_panic_is_seen_and_its_lines_are_given() {
        let text = "a\nb\n[ 1.0] Kernel panic - not syncing: sysrq\n[ 1.0] CPU: 0\n";
        let console = read(text.into());
        assert!(console.panicked() && !read(b"fine\n".to_vec()).panicked());
        assert_eq!(console.panic_lines(), ["a", "b", "[ 1.0] Kernel panic - not syncing: sysrq", "[ 1.0] CPU: 0"]);
    }
}
