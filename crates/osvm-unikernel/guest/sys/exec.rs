//! `execve`: another program in the place of the running one.

use alloc::{rc::Rc, vec::Vec};

use super::path;
use crate::{
    errno::{Answer, E2BIG, EACCES, EINTR, ELOOP, ENOENT, ENOEXEC, ENOMEM, Errno},
    fs::{Content, Kind, Node, proc::PROGRAM, table},
    load::{Failed, Program},
    process::{self, Space, Status},
    regs::{self, Regs},
    signal, task, user,
};

/// Bytes of arguments and environment together, and of one of them.
const MOST_BYTES: usize = 2 << 20;
const LONGEST: usize = 128 << 10;
/// Interpreters that name interpreters.
const DEEPEST: u32 = 4;
/// Bytes of a script's first line that count.
const LINE: usize = 256;

/// The strings that a vector in the program's memory points to, each closed by a zero.
fn strings(at: u64, left: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut out = Vec::new();
    for n in 0.. {
        // Linux takes no vector for an empty one.
        let pointer = if at == 0 { 0 } else { user::read::<u64>(at + n * 8)? };
        if pointer == 0 {
            break;
        }
        let mut string = user::string_of(pointer, LONGEST, E2BIG)?;
        string.push(0);
        *left = left.checked_sub(string.len() + 8).ok_or(E2BIG)?;
        out.push(string);
    }
    Ok(out)
}

/// The content of a file that may be executed.
fn executable(node: &Rc<Node>) -> Result<Rc<Content>, Errno> {
    match &node.kind {
        Kind::File(content) if node.mode.get() & 0o111 != 0 => Ok(Rc::clone(content)),
        _ => Err(EACCES),
    }
}

/// Interpreter and argument of a script.
fn interpreter(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let rest = line[end..].trim_ascii();
    (end > 0).then(|| (line[..end].to_vec(), (!rest.is_empty()).then(|| rest.to_vec())))
}

fn closed(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    out.push(0);
    out
}

/// Runs the program at a path; the registers become those of its first instruction.
pub fn execute(
    fd: u64,
    at: u64,
    args: u64,
    environment: u64,
    flags: u64,
    regs: &mut Regs,
    xmm: *mut [u8; 256],
) -> Answer {
    let mut node = path::find(fd, at, flags)?;
    let mut name = user::string(at)?;
    if name.is_empty() {
        name = node.path();
    }
    let mut left = MOST_BYTES;
    let mut args = strings(args, &mut left)?;
    let environment = strings(environment, &mut left)?;
    let mut content = executable(&node)?;
    let mut scripts = 0;
    loop {
        let mut head = [0; LINE];
        let len = content.read(0, &mut head);
        let Some((shell, argument)) = interpreter(&head[..len]) else { break };
        scripts += 1;
        if scripts > DEEPEST {
            return Err(ELOOP);
        }
        let rest = args.split_off(args.len().min(1));
        args = [Some(closed(&shell)), argument.map(|text| closed(&text)), Some(closed(&name))]
            .into_iter()
            .flatten()
            .collect();
        args.extend(rest);
        node = crate::fs::tree::find(&crate::fs::tree::cwd(), &shell, true)?;
        content = executable(&node)?;
        name = shell;
    }
    if args.is_empty() {
        args.push(closed(b""));
    }
    let mut all: Vec<u8> = Vec::new();
    args.iter().chain(&environment).for_each(|string| all.extend_from_slice(string));
    let program = Program { content, strings: &all, args: args.len(), envs: environment.len() };
    // What can be wrong with the file is found before the old program is gone.
    program.check().map_err(|failed| match failed {
        Failed::Elf(_) => ENOEXEC,
        Failed::Interpreter(_) => ENOENT,
        Failed::Memory => ENOMEM,
    })?;
    let space = Space::new().ok_or(ENOMEM)?;
    process::only_this_thread();
    if task::ends() {
        // The call's end sees to it.
        return Err(EINTR);
    }
    process::replace_space(space);
    match program.load() {
        Ok(first) => *regs = first,
        Err(_) => process::end(Status::Signal(signal::SIGKILL)),
    }
    regs::set_fs_base(0);
    // SAFETY: part of the frame that the entry pushed.
    unsafe { (*xmm).fill(0) };
    task::forget_state();
    signal::execute();
    table::execute();
    let path = node.path();
    task::with(|task| {
        task.clear_tid = 0;
        task.name = [0; 16];
        let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or(&name);
        let len = base.len().min(15);
        task.name[..len].copy_from_slice(&base[..len]);
    });
    *PROGRAM.get() = (path, args.concat(), environment.concat());
    process::current().executed.set(true);
    Ok(0)
}
