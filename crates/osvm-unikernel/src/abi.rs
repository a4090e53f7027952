//! The whole interface between guest and monitor: addresses, structures, hypercalls. Both sides compile this one file.
//!
//! Nothing else crosses the border. The monitor trusts no field that the guest can write.

/// Changes whenever anything in this file does.
pub const VERSION: u32 = 5;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Bytes of a large page.
pub const LARGE: u64 = 2 << 20;

/// Guest-virtual start of the library OS. Below 2 GiB, so that its code addresses itself in 32 bits.
pub const LIBOS_BASE: u64 = 0x7000_0000;

/// Span of the library OS: its image, and the hypercall page at its end.
pub const LIBOS_SPAN: u64 = LARGE;

/// A store of a [`hypercall`] number here leaves the guest. No memory lies behind it.
pub const HYPERCALL_VA: u64 = LIBOS_BASE + LIBOS_SPAN - PAGE;

/// All guest-physical addresses appear here, readable and writable for the library OS.
pub const DIRECT_BASE: u64 = 0x6100_0000_0000;

/// Span of [`DIRECT_BASE`]: one entry of the top page table.
pub const DIRECT_SPAN: u64 = 1 << 39;

/// Guest-physical places below the image.
pub mod gpa {
    /// The top page table.
    pub const PML4: u64 = 0x1000;
    /// Tables that map the library OS.
    pub const LIBOS_PDPT: u64 = 0x2000;
    /// See above.
    pub const LIBOS_PD: u64 = 0x3000;
    /// See above.
    pub const LIBOS_PT: u64 = 0x4000;
    /// Tables of the direct map.
    pub const DIRECT_PDPT: u64 = 0x5000;
    /// See above: the first GiB of memory.
    pub const DIRECT_PD: u64 = 0x6000;
    /// [`super::Cpu`], and the CPL0 stack at the end of its page.
    pub const CPU: u64 = 0x8000;
    /// Global and interrupt descriptor tables and the task state segment.
    pub const DESCRIPTORS: u64 = 0x9000;
    /// [`super::Control`].
    pub const CONTROL: u64 = 0xa000;
    /// [`super::Boot`].
    pub const BOOT: u64 = 0xb000;
    /// The library OS's data. Its code and constants are at [`LIBOS`].
    pub const IMAGE: u64 = 0x10000;
    /// Memory lies below; files are mapped from here.
    pub const FILES: u64 = 1 << 36;
    /// The library OS's code and constants, which all VMs share.
    pub const LIBOS: u64 = (1 << 36) + (1 << 35);
    /// [`super::Conn`]s, then their rings.
    pub const RINGS: u64 = 1 << 37;
    /// Behind the hypercall page.
    pub const HYPERCALL: u64 = 1 << 38;
}

/// Hypercalls. Arguments and answer are in [`Control`].
pub mod hypercall {
    /// End the VM: `[exit code, signal or 0]`.
    pub const EXIT: u32 = 1;
    /// Write to the console: `[1 or 2, guest-physical address, length]`; answers the bytes taken.
    pub const CONSOLE_OUT: u32 = 2;
    /// Read from the console: `[guest-physical address, length]`; answers bytes, 0 at its end, or [`super::AGAIN`].
    pub const CONSOLE_IN: u32 = 3;
    /// Wait for an event or the deadline: `[monotonic nanoseconds, or u64::MAX; the last activity that the guest has seen]`.
    pub const WAIT: u32 = 4;
    /// More memory: `[bytes]`; answers the size of memory now.
    pub const GROW: u32 = 5;
    /// Memory that the guest no longer needs: `[guest-physical address, length]`. It reads as zero afterwards.
    pub const GIVE_BACK: u32 = 6;
    /// Take connections to a port, or no longer: `[port, 1 or 0]`.
    pub const LISTEN: u32 = 7;
    /// Look at the rings now.
    pub const DOORBELL: u32 = 8;
    /// Something about a folder of the host: `[an operation of super::folder, and a handle times 2^32; a number; guest-physical
    /// address, length]`; answers a number, or an error number, negative.
    pub const FOLDER: u32 = 9;
}

/// Operations on folders of the host. A handle is the monitor's number for an open folder or file; 1 and so on are the folders that it
/// was started with. A name is a single component. "Buffer" is the hypercall's part of guest memory.
pub mod folder {
    /// Open the name in the buffer: `number` is [`WRITE`] and so on, and a mode for a new file times 2^32; answers a handle.
    pub const OPEN: u32 = 1;
    /// Close a handle.
    pub const CLOSE: u32 = 2;
    /// Read into the buffer from offset `number`; answers bytes.
    pub const READ: u32 = 3;
    /// Write the buffer to offset `number`; answers bytes.
    pub const WRITE_TO: u32 = 4;
    /// Set a file's length to `number`.
    pub const TRUNCATE: u32 = 5;
    /// Begin to bring a file or folder to the disk; answers a ticket.
    pub const SYNC: u32 = 6;
    /// What became of ticket `number`: 0, an error, or [`super::AGAIN`]. Activity changes when there is an answer.
    pub const SYNCED: u32 = 7;
    /// Fill the buffer with [`super::Entry`]s, each followed by its name and zeroes up to 8 bytes, from the `number`th on; answers bytes.
    pub const LIST: u32 = 8;
    /// Give a name another folder, whose handle is `number`, and another name: the buffer is both names with a zero between.
    pub const RENAME: u32 = 9;
    /// Take the name in the buffer away; `number` 1: it is a folder.
    pub const UNLINK: u32 = 10;
    /// Make a folder of the name in the buffer; `number` is its mode.
    pub const MAKE: u32 = 11;
    /// Lock a file: `number` 1 shared, 2 exclusive, 8 no more; [`super::AGAIN`] if another has it.
    pub const LOCK: u32 = 12;
    /// Answers a file's length.
    pub const LENGTH: u32 = 13;

    /// [`OPEN`]: for writing too.
    pub const WRITE: u64 = 1;
    /// [`OPEN`]: a new file.
    pub const NEW: u64 = 2;
    /// [`OPEN`]: a folder.
    pub const FOLDER: u64 = 4;

    /// Bytes of a buffer at most.
    pub const BUFFER: u64 = 1 << 20;
    /// Bytes of a name at most.
    pub const NAME: usize = 255;
    /// Folders that a VM is started with, at most.
    pub const MOST: u32 = 512;
}

/// A name in a folder of the host.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Kind and rights, as in `st_mode`.
    pub mode: u32,
    /// Bytes of its name.
    pub name: u32,
    /// Bytes of the file.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: u64,
}

/// An answer: nothing there now.
pub const AGAIN: i64 = -11;

/// An answer: refused.
pub const REFUSED: i64 = -1;

/// What a vCPU's stubs and the library OS share, at GS. Offsets are used by assembly; the guest alone reads and writes it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// 0: where a `syscall` left the program's stack pointer.
    pub user_rsp: u64,
    /// 8: address of [`Cpu::syscall_frame`].
    pub syscall_frame_at: u64,
    /// 16: address of [`Cpu::fault_frame`].
    pub fault_frame_at: u64,
    /// 24: address of [`Cpu::page_fault_frame`].
    pub page_fault_frame_at: u64,
    /// 32: number of the last exception.
    pub vector: u64,
    /// 40: RAX at a page fault, until its entry has changed it for the address.
    pub cr2: u64,
    /// 48: the next `ud2` flushes the TLB.
    pub flush: u64,
    /// 56: where a return to the program goes.
    pub resume_rip: u64,
    /// 64: what a kick interrupted: RIP, RFLAGS, RSP. Written by the monitor.
    pub kicked: [u64; 3],
    /// 88: `syscall` instructions that trapped.
    pub traps: u64,
    /// 96: IRETQ frame (RIP, CS, RFLAGS, RSP, SS) of a `syscall`. Its RSP is the current thread's library OS stack.
    pub syscall_frame: [u64; 5],
    /// 136: the same of an exception.
    pub fault_frame: [u64; 5],
    /// 176: the same of a page fault.
    pub page_fault_frame: [u64; 5],
}

/// How many unanswered system calls are told apart.
pub const UNKNOWN: usize = 32;

/// The page that monitor and library OS share.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Control {
    /// Arguments of a hypercall.
    pub args: [u64; 4],
    /// Its answer.
    pub answer: i64,
    /// Guest to monitor: interrupt a program that runs long, there are others.
    pub want_tick: u32,
    /// Monitor to guest: a kick came while the library OS ran.
    pub resched: u32,
    /// Monitor to guest: signals that were sent to the VM, a bit each.
    pub signals: u64,
    /// Monitor to guest: changes with every change of a ring, a signal or standard input.
    pub activity: u32,
    /// Guest to monitor: rings have changed since the last hypercall that looks at them.
    pub dirty: u32,
    /// Monitor to guest: the clock.
    pub clock: Clock,
    /// Guest to monitor, statistics: system calls, and how many of them trapped.
    pub calls: u64,
    /// See above.
    pub traps: u64,
    /// Page faults that the library OS answered.
    pub faults: u64,
    /// Bytes of memory in use.
    pub memory: u64,
    /// Call sites that were rewritten.
    pub rewritten: u64,
    /// System calls without an answer: number and count.
    pub unknown: [[u32; 2]; UNKNOWN],
    /// Monitor to guest: this VM is a new clone of another that stood still in [`hypercall::WAIT`]. The guest takes it back.
    pub cloned: u64,
    /// Monitor to guest: randomness of this clone alone.
    pub seed: [u64; 4],
}

/// How guest time follows from the time stamp counter.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Time stamp counter at the moment of the two times below.
    pub tsc: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic: u64,
    /// CLOCK_REALTIME, nanoseconds.
    pub realtime: u64,
    /// Nanoseconds a tick, times 2^32.
    pub scale: u64,
}

/// A host file that is mapped into the guest.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// Guest-physical address; page-aligned.
    pub gpa: u64,
    /// Bytes. 0: there is none.
    pub len: u64,
}

/// What the guest is told at its start.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// [`VERSION`].
    pub version: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory at the start, bytes.
    pub memory: u64,
    /// Memory at most, bytes.
    pub memory_limit: u64,
    /// The program.
    pub program: Mapped,
    /// The read-only image of files.
    pub image: Mapped,
    /// Arguments, then the environment: strings, each closed by a zero.
    pub strings: Mapped,
    /// How many of the strings are arguments.
    pub args: u32,
    /// How many are the environment. The program's path follows, the working directory, and the paths of the folders.
    pub envs: u32,
    /// Folders of the host: their handles are 1 and so on.
    pub folders: u32,
    /// Fills the word.
    pub pad: u32,
    /// Start of free memory.
    pub free: u64,
    /// Randomness of this VM alone.
    pub seed: [u64; 4],
    /// XSAVE features in force.
    pub xcr0: u64,
    /// Bytes of an XSAVE area.
    pub xsave_size: u64,
    /// Bits: [`boot_flags`].
    pub flags: u64,
}

/// Bits of [`Boot::flags`].
pub mod boot_flags {
    /// Leave `syscall` instructions as they are.
    pub const NO_REWRITE: u64 = 1;
    /// Load everything where it asks to be, or at fixed places.
    pub const NO_ASLR: u64 = 2;
    /// No connections come: there is no memory at [`super::gpa::RINGS`].
    pub const NO_RINGS: u64 = 4;
}

/// Start of the library OS's image.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u64,
    /// Ends of code, of constants, of data in the file, and of data in memory.
    pub text_end: u64,
    /// See above.
    pub rodata_end: u64,
    /// See above.
    pub data_end: u64,
    /// See above.
    pub bss_end: u64,
    /// First instruction, at CPL3.
    pub start: u64,
    /// Stack for it.
    pub start_stack: u64,
    /// CPL0: where `syscall` lands.
    pub syscall_stub: u64,
    /// CPL0: the first of 32 exception stubs, [`STUB`] bytes each.
    pub exception_stubs: u64,
    /// CPL3: where a system call goes on.
    pub syscall_entry: u64,
    /// CPL3: where an exception goes on.
    pub fault_entry: u64,
    /// The same for page faults.
    pub page_fault_entry: u64,
    /// Stack for both.
    pub fault_stack: u64,
    /// CPL3: where a kick goes on, on the stack of [`Cpu::syscall_frame`].
    pub kick_entry: u64,
}

/// First word of the library OS's image.
pub const MAGIC: u64 = 0x534f_4249_4c4d_564f;

/// Bytes between exception stubs.
pub const STUB: u64 = 64;

/// Connections at a time.
pub const CONNS: u32 = 256;

/// Bytes of a ring; a power of two.
pub const RING: u32 = 64 << 10;

/// A connection. Counters run freely; a ring holds `head - tail` bytes. Two rings follow each other: to the guest, to the host.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct Conn {
    /// Host: 0 free, else which use of this place it is.
    pub generation: u32,
    /// Host: the port that was asked for.
    pub port: u32,
    /// Host: bytes put into the ring to the guest.
    pub in_head: u32,
    /// Host: bytes taken from the ring to the host.
    pub out_tail: u32,
    /// Host: 1 the peer sends no more, 2 the connection is gone.
    pub host_flags: u32,
    /// Fills half a line.
    pub pad: [u32; 3],
    /// Guest: bytes taken from the ring to the guest.
    pub in_tail: u32,
    /// Guest: bytes put into the ring to the host.
    pub out_head: u32,
    /// Guest: [`Conn::generation`] that it will send no more for.
    pub shut: u32,
    /// Guest: [`Conn::generation`] that it has closed.
    pub closed: u32,
    /// Fills the line.
    pub pad2: [u32; 4],
}

/// Bits of [`Conn::host_flags`].
pub mod host_flags {
    /// The peer sends no more.
    pub const EOF: u32 = 1;
    /// The connection is gone.
    pub const GONE: u32 = 2;
}

/// Where rings begin, from [`gpa::RINGS`].
pub const RINGS_AT: u64 = CONNS as u64 * 64;

/// Bytes of the memory behind [`gpa::RINGS`].
pub const RINGS_SPAN: u64 = RINGS_AT + CONNS as u64 * 2 * RING as u64;

const _: () = assert!(core::mem::size_of::<Conn>() == 64);
const _: () = assert!(core::mem::size_of::<Control>() <= PAGE as usize);
const _: () = assert!(core::mem::size_of::<Boot>() <= PAGE as usize);
const _: () = assert!(core::mem::size_of::<Cpu>() == 216);
