//! Running other programs. Errors are lines for people: nothing here is handled by kind.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A task's outcome; the error is the line to print.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The repository's root: this crate's parent folder.
pub(crate) fn root() -> PathBuf {
    let mut here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.pop();
    here
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A binary of the release build.
pub(crate) fn release(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// The cargo that runs this task, at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; a status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.status().map_err(|error| format!("cannot run {shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} ended with {status}")) }
}

/// What a command prints on stdout; its stderr goes to ours.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("cannot run {shown}: {error}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("{shown} ended with {}", output.status)) }
}

/// Runs a command, passes on what it prints line by line, and shows each line to `look`. True if it ended with 0.
pub(crate) fn watch(command: &mut Command, mut look: impl FnMut(&str)) -> Result<bool> {
    let shown = show(command);
    eprintln!("$ {shown}");
    // One pipe for both streams keeps their order, which a reader of a test's output needs.
    let (reader, writer) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let copy = writer.try_clone().map_err(|error| format!("cannot copy a pipe: {error}"))?;
    let mut child =
        command.stdout(writer).stderr(copy).spawn().map_err(|error| format!("cannot run {shown}: {error}"))?;
    // The command holds the pipe's other end open; reading would never end while it lives.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut out = std::io::stdout();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read what {shown} prints: {error}"))?;
        let text = String::from_utf8_lossy(&line);
        look(&text);
        // Our own reader may have gone; the command's status still counts.
        let _ = writeln!(out, "{text}");
    }
    let status = child.wait().map_err(|error| format!("cannot wait for {shown}: {error}"))?;
    Ok(status.success())
}

/// Whether a program answers `--version`-like probing by existing in `PATH`, and where.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps servers in /usr/sbin, which is not in every user's PATH.
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a step and says how long it took.
pub(crate) fn timed<T>(step: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = step();
    (result, start.elapsed())
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.get_args().fold(name, |line, arg| line + " " + &arg.to_string_lossy())
}
