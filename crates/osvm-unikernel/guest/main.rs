//! The guest: CPL0 stubs and the library OS that answers the program's system calls. Everything here runs inside the VM and at CPL3 but
//! for the stubs of `asm`; the monitor trusts none of it.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate alloc;

#[path = "../src/abi.rs"]
#[allow(dead_code)]
mod abi;
mod alarm;
mod asm;
mod cell;
mod crash;
mod elf;
mod errno;
mod fault;
mod fs;
mod futex;
mod group;
mod heap;
mod hyper;
mod load;
mod mm;
mod net;
mod phys;
mod process;
mod pt;
mod random;
mod regs;
mod rewrite;
mod sigframe;
mod signal;
mod split;
mod stats;
mod sys;
mod task;
mod time;
mod user;
mod wait;

use alloc::{rc::Rc, string::String, vec::Vec};

use abi::{Boot, VERSION, gpa};
use fs::{Content, Kind, Node, Open, file::Console, table, tree};

/// The first code at CPL3: what the monitor said, then files, the program, and its first thread.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: the monitor wrote the page before the VM started, and nobody writes it later.
    let boot: Boot = unsafe { core::ptr::read(phys::direct(gpa::BOOT).cast()) };
    if boot.version != VERSION {
        crash::bug("monitor and library OS are of different versions");
    }
    phys::init(boot.free, boot.memory, boot.memory_limit);
    process::init();
    time::init();
    random::init(boot.seed);
    task::init(&boot);
    rewrite::init(&boot);
    load::init(&boot);
    if net::init(&boot) {
        pt::map_direct(gpa::RINGS, gpa::RINGS + abi::RINGS_SPAN);
    }
    for file in [boot.program, boot.image, boot.strings] {
        pt::map_direct(file.gpa, file.gpa + file.len);
    }
    let content = files(&boot);
    let strings = load::mapped(boot.strings);
    let program = load::Program { content, strings, args: boot.args as usize, envs: boot.envs as usize };
    match program.load() {
        Ok(regs) => {
            let start = task::Start { tid: task::new_number(), regs, fs: 0, xmm: None };
            if !task::spawn(&start, &process::own(), None) {
                crash::bug("no memory for the first thread");
            }
            task::start()
        }
        Err(failed) => {
            let why = match failed {
                load::Failed::Elf(elf::Bad::NotElf) => String::from("it is no ELF file for x86-64"),
                load::Failed::Elf(elf::Bad::Kind) => String::from("it is an ELF file, but no executable"),
                load::Failed::Elf(elf::Bad::Range) => String::from("its ELF headers are broken"),
                load::Failed::Interpreter(path) => {
                    alloc::format!("its dynamic loader {} is not in the image", String::from_utf8_lossy(&path))
                }
                load::Failed::Memory => String::from("it does not fit into memory"),
            };
            hyper::console(2, alloc::format!("osvm-unikernel: the program cannot be run: {why}\n").as_bytes());
            hyper::exit(126, 0)
        }
    }
}

/// The tree of files: the image, then what every program expects; and the three standard streams.
fn files(boot: &Boot) -> Rc<Content> {
    let image = load::mapped(boot.image);
    for entry in fs::image::entries(image).into_iter().flatten() {
        let kind = match entry.mode & fs::S_IFMT {
            fs::S_IFDIR => {
                let dir = tree::make_dirs(entry.name);
                dir.mode.set(fs::S_IFDIR | entry.mode & 0o7777);
                continue;
            }
            fs::S_IFREG => Kind::File(Rc::new(Content::host(boot.image.gpa + entry.offset, entry.len))),
            fs::S_IFLNK => Kind::Link(image[entry.offset as usize..(entry.offset + entry.len) as usize].to_vec()),
            _ => continue,
        };
        let node = Node::new(kind, entry.mode);
        node.mtime.set(entry.mtime.saturating_mul(time::SECOND));
        tree::place(entry.name, node);
    }
    let strings = load::mapped(boot.strings);
    let mut parts = strings.split_inclusive(|&byte| byte == 0);
    let arguments: Vec<u8> = parts.by_ref().take(boot.args as usize).flatten().copied().collect();
    let environment: Vec<u8> = parts.by_ref().take(boot.envs as usize).flatten().copied().collect();
    let path = parts.next().map_or(&b"/program"[..], |path| path.strip_suffix(&[0]).unwrap_or(path));
    *fs::proc::PROGRAM.get() = (path.to_vec(), arguments, environment);
    let content = Rc::new(Content::host(boot.program.gpa, boot.program.len));
    tree::place(path, Node::new(Kind::File(Rc::clone(&content)), 0o755));
    fs::proc::populate();
    let mut text = || parts.next().and_then(|text| text.strip_suffix(&[0])).unwrap_or_default();
    let cwd = text();
    for folder in 0..boot.folders {
        fs::folder::mount(text(), folder + 1);
    }
    let dir = tree::make_dirs(cwd);
    *tree::CWD.get() = Some(dir);
    for stream in 0..3 {
        // The table is empty, so these are descriptors 0 to 2.
        let _ = table::add(Open::new(Rc::new(Console(stream)), 2), false);
    }
    content
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    crash::panicked(info)
}
