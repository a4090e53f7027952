//! Threads of all processes, and the scheduler: one vCPU, switched when a thread waits, yields, or was kicked for running long.

use alloc::{boxed::Box, collections::BTreeMap, collections::VecDeque, rc::Rc, vec::Vec};
use core::ptr;

use crate::{
    abi::{Boot, Cpu, DIRECT_BASE, gpa},
    asm,
    cell::Global,
    hyper::{self, share, shared},
    net, phys,
    process::{self, Process, Space},
    regs::{self, Regs},
    signal, time,
};

/// Pages of a thread's library OS stack, as a power of two.
const STACK_ORDER: usize = 3;
/// Threads at a time.
pub const MOST_THREADS: usize = 4096;
/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It can run.
    No,
    /// A futex, with one of these bits set.
    Futex(Word, u32),
    /// Anything that a file, a socket or a timer may bring.
    Event,
    /// The deadline, or a signal.
    Sleep,
    /// The end of a child, of a thread of one's own process, or of the use of one's memory by a child.
    Child,
}

/// A futex's word: the address space and the address in it, or 0 and where it is in memory that processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64, pub u64);

/// A thread.
pub struct Task {
    pub tid: u32,
    pub process: Rc<Process>,
    /// It has never run.
    fresh: bool,
    stack: u64,
    saved_rsp: u64,
    fs: u64,
    xsave: u64,
    pub wait: Wait,
    pub deadline: u64,
    /// Whether the last wait ended by its deadline.
    timed_out: bool,
    pub clear_tid: u64,
    pub name: [u8; 16],
    pub signals: signal::Thread,
}

pub struct Tasks {
    pub all: BTreeMap<u32, Box<Task>>,
    ready: VecDeque<u32>,
    pub current: u32,
    next_tid: u32,
    /// Ended, but its stack was still in use.
    dead: Vec<Box<Task>>,
    dead_spaces: Vec<Rc<Space>>,
    xsave_size: u64,
    xcr0: u64,
    /// A clean XSAVE area's order of pages.
    xsave_order: usize,
}

/// All threads.
pub static TASKS: Global<Tasks> = Global::new(Tasks {
    all: BTreeMap::new(),
    ready: VecDeque::new(),
    current: 0,
    next_tid: process::FIRST,
    dead: Vec::new(),
    dead_spaces: Vec::new(),
    xsave_size: 0,
    xcr0: 0,
    xsave_order: 0,
});

/// What stubs and library OS share.
pub fn cpu() -> *mut Cpu {
    (DIRECT_BASE + gpa::CPU) as *mut Cpu
}

/// Takes what the monitor said about the processor.
pub fn init(boot: &Boot) {
    let mut tasks = TASKS.get();
    tasks.xcr0 = boot.xcr0;
    tasks.xsave_size = boot.xsave_size.max(576);
    tasks.xsave_order = (tasks.xsave_size.div_ceil(crate::abi::PAGE)).next_power_of_two().trailing_zeros() as usize;
}

impl Drop for Task {
    fn drop(&mut self) {
        phys::give(self.stack, STACK_ORDER);
        phys::give(self.xsave, TASKS_XSAVE_ORDER.get().0);
    }
}

/// The order again, for `drop`, which runs while `TASKS` may be borrowed.
static TASKS_XSAVE_ORDER: Global<(usize,)> = Global::new((0,));

/// A number for a new thread, and for a process whose first it is.
pub fn new_number() -> u32 {
    const LARGEST: u32 = 1 << 22;
    let mut tasks = TASKS.get();
    loop {
        let tid = tasks.next_tid;
        tasks.next_tid = if tid >= LARGEST { process::FIRST + 1 } else { tid + 1 };
        if !tasks.all.contains_key(&tid) && (tid == process::FIRST || !process::names(tid)) {
            return tid;
        }
    }
}

/// What a new thread begins with.
pub struct Start {
    pub tid: u32,
    pub regs: Regs,
    pub fs: u64,
    /// XMM registers of the thread that makes it, if it goes on where that one is.
    pub xmm: Option<*const [u8; 256]>,
}

/// Puts the values of a fresh process into a zeroed area of extended state.
fn fresh_state(area: *mut u8) {
    // SAFETY: the caller owns the area, which is larger than that: MXCSR, the x87 control word, and which parts are there.
    unsafe {
        ptr::write(area.cast::<u16>(), 0x37f);
        ptr::write(area.add(24).cast::<u32>(), 0x1f80);
        ptr::write(area.add(512).cast::<u64>(), 3);
    }
}

/// Gives the running thread the extended state of a fresh process.
pub fn forget_state() {
    let (order, features) = {
        let tasks = TASKS.get();
        (tasks.xsave_order, tasks.xcr0)
    };
    if let Some(page) = phys::run(order) {
        fresh_state(phys::direct(page));
        // SAFETY: the area is whole and holds good values; the library OS keeps nothing in these registers over the call.
        unsafe {
            core::arch::asm!("xrstor64 ({})", in(reg) phys::direct(page), in("eax") features as u32, in("edx") (features >> 32) as u32,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(att_syntax))
        };
        phys::give(page, order);
    }
}

/// Makes a thread of a process; ready to run. False: no memory, or too many.
pub fn spawn(start: &Start, process: &Rc<Process>, from: Option<u32>) -> bool {
    try_spawn(start, process, from).is_some()
}

fn try_spawn(start: &Start, process: &Rc<Process>, from: Option<u32>) -> Option<()> {
    let mut tasks = TASKS.get();
    if tasks.all.len() >= MOST_THREADS {
        return None;
    }
    let (regs, fs, tid) = (&start.regs, start.fs, start.tid);
    let order = tasks.xsave_order;
    TASKS_XSAVE_ORDER.get().0 = order;
    let stack = phys::program_run(STACK_ORDER)?;
    let Some(xsave) = phys::program_run(order) else {
        phys::give(stack, STACK_ORDER);
        return None;
    };
    let top = DIRECT_BASE + stack + (crate::abi::PAGE << STACK_ORDER);
    let frame = top - size_of::<Regs>() as u64;
    let lower = frame - 256;
    let saved_rsp = lower - 8 - 48;
    // SAFETY: the stack is ours and zeroed: XMM registers and callee-saved ones start as zero. `switch_stack` pops six registers and
    // returns to `resume`, which pops the rest.
    unsafe {
        ptr::write(frame as *mut Regs, *regs);
        ptr::write((lower - 8) as *mut u64, asm::resume as *const () as u64);
    }
    match start.xmm {
        None => fresh_state(phys::direct(xsave)),
        Some(xmm) => {
            let (low, high) = (tasks.xcr0 as u32, (tasks.xcr0 >> 32) as u32);
            // SAFETY: the area is as large as the monitor said for these features; `xmm` is what the entry of the running thread pushed.
            unsafe {
                core::arch::asm!("xsave64 ({})", in(reg) phys::direct(xsave), in("eax") low, in("edx") high, options(att_syntax));
                ptr::copy_nonoverlapping(xmm.cast::<u8>(), lower as *mut u8, 256);
            }
        }
    }
    let parent = from.and_then(|tid| tasks.all.get(&tid));
    let name = parent.map_or(*b"main\0\0\0\0\0\0\0\0\0\0\0\0", |task| task.name);
    let signals = parent.map(|task| task.signals.inherit()).unwrap_or_default();
    tasks.all.insert(
        tid,
        Box::new(Task {
            tid,
            process: Rc::clone(process),
            fresh: true,
            stack,
            saved_rsp,
            fs,
            xsave,
            wait: Wait::No,
            deadline: u64::MAX,
            timed_out: false,
            clear_tid: 0,
            name,
            signals,
        }),
    );
    tasks.ready.push_back(tid);
    process.threads.set(process.threads.get() + 1);
    share!(want_tick, u32::from(tasks.all.len() > 1));
    Some(())
}

/// The running thread.
pub fn current() -> u32 {
    TASKS.get().current
}

/// Does something with the running thread.
pub fn with<T>(act: impl FnOnce(&mut Task) -> T) -> T {
    let mut tasks = TASKS.get();
    let tid = tasks.current;
    match tasks.all.get_mut(&tid) {
        Some(task) => act(task),
        None => crate::crash::bug("the running thread is not in the list"),
    }
}

/// Gives the processor away; true if the wait ended by its deadline.
pub fn block(wait: Wait, deadline: u64) -> bool {
    with(|task| {
        task.wait = wait;
        task.deadline = deadline;
        task.timed_out = false;
    });
    schedule();
    with(|task| core::mem::take(&mut task.timed_out))
}

/// Lets others run first.
pub fn yield_now() {
    let tid = current();
    TASKS.get().ready.push_back(tid);
    schedule();
}

/// Makes a thread ready.
pub fn wake(tid: u32) {
    let mut tasks = TASKS.get();
    if let Some(task) = tasks.all.get_mut(&tid)
        && task.wait != Wait::No
    {
        task.wait = Wait::No;
        task.deadline = u64::MAX;
        tasks.ready.push_back(tid);
    }
}

/// Makes those ready that wait for an event: something about a file, a socket or a timer has changed.
pub fn notify() {
    let mut tasks = TASKS.get();
    let Tasks { all, ready, .. } = &mut *tasks;
    for task in all.values_mut().filter(|task| task.wait == Wait::Event) {
        task.wait = Wait::No;
        task.deadline = u64::MAX;
        ready.push_back(task.tid);
    }
}

/// Makes those ready whose deadline is there; the next deadline.
fn expire() -> u64 {
    let mut next = u64::MAX;
    let mut tasks = TASKS.get();
    let Tasks { all, ready, .. } = &mut *tasks;
    let mut now = None;
    for task in all.values_mut().filter(|task| task.wait != Wait::No && task.deadline != u64::MAX) {
        if task.deadline <= *now.get_or_insert_with(time::monotonic) {
            task.wait = Wait::No;
            task.deadline = u64::MAX;
            task.timed_out = true;
            ready.push_back(task.tid);
        } else {
            next = next.min(task.deadline);
        }
    }
    next
}

/// Looks at what the monitor brought.
pub fn poll_outside() {
    if net::poll() {
        notify();
    }
    signal::from_outside();
}

/// Runs the next thread that can; returns when the caller is that one again.
pub fn schedule() {
    poll_outside();
    let next = loop {
        let deadline = crate::alarm::fire().min(expire()).min(crate::fs::timer::next());
        if let Some(tid) = TASKS.get().ready.pop_front() {
            net::flush();
            break tid;
        }
        if crate::fs::timer::due() {
            notify();
            continue;
        }
        hyper::wait(deadline, net::flushed());
        poll_outside();
    };
    switch(next);
}

fn switch(next: u32) {
    let mut tasks = TASKS.get();
    let current = tasks.current;
    if current == next {
        return;
    }
    let (low, high) = (tasks.xcr0 as u32, (tasks.xcr0 >> 32) as u32);
    let from = match tasks.all.get_mut(&current) {
        Some(task) => {
            task.fs = regs::fs_base();
            // SAFETY: the area is as large as the monitor said for these features, and aligned to a page.
            unsafe {
                core::arch::asm!("xsave64 ({})", in(reg) phys::direct(task.xsave), in("eax") low, in("edx") high, options(att_syntax))
            };
            &raw mut task.saved_rsp
        }
        // The first switch, or from a thread that has ended.
        None => tasks.dead.last_mut().map_or(&raw mut NOWHERE.get().0, |task| &raw mut task.saved_rsp),
    };
    tasks.current = next;
    let Some(task) = tasks.all.get_mut(&next) else { crate::crash::bug("a thread that is ready is not in the list") };
    regs::set_fs_base(task.fs);
    task.fresh = false;
    process::enter(&task.process);
    // SAFETY: as above; it was filled by `xsave64` or by `spawn`.
    unsafe {
        core::arch::asm!("xrstor64 ({})", in(reg) phys::direct(task.xsave), in("eax") low, in("edx") high, options(att_syntax))
    };
    let to = task.saved_rsp;
    // SAFETY: the stubs read this field only.
    unsafe { (*cpu()).syscall_frame[3] = DIRECT_BASE + task.stack + (crate::abi::PAGE << STACK_ORDER) };
    drop(tasks);
    // SAFETY: `to` is where that thread's stack was left; `from` lives in a box that only `reap` frees, from another stack.
    unsafe { asm::switch_stack(from, to) };
    reap();
}

static NOWHERE: Global<(u64,)> = Global::new((0,));

/// Frees threads that ended. Runs on the stack of a living one.
fn reap() {
    let mut tasks = TASKS.get();
    let current = tasks.current;
    if tasks.all.contains_key(&current) {
        let dead = (core::mem::take(&mut tasks.dead), core::mem::take(&mut tasks.dead_spaces));
        drop(tasks);
        drop(dead);
    }
}

/// Tells the other threads of a process to end. They do as soon as they run.
pub fn end_others(pid: u32) {
    let mut tasks = TASKS.get();
    let Tasks { all, ready, current, .. } = &mut *tasks;
    let others = |task: &&mut Box<Task>| task.process.pid == pid && task.tid != *current;
    let mut never_ran = Vec::new();
    for task in all.values_mut().filter(others) {
        if task.fresh {
            never_ran.push(task.tid);
        } else if task.wait != Wait::No {
            task.wait = Wait::No;
            task.deadline = u64::MAX;
            ready.push_back(task.tid);
        }
    }
    ready.retain(|tid| !never_ran.contains(tid));
    let gone: Vec<_> = never_ran.iter().filter_map(|tid| all.remove(tid)).collect();
    drop(tasks);
    gone.iter().for_each(|task| task.process.threads.set(task.process.threads.get() - 1));
}

/// Gives the running thread, the only one of its process, the number of the process.
pub fn become_first(pid: u32) {
    let mut tasks = TASKS.get();
    let tid = tasks.current;
    if tid != pid
        && let Some(mut task) = tasks.all.remove(&tid)
    {
        task.tid = pid;
        tasks.all.insert(pid, task);
        tasks.current = pid;
    }
}

/// Makes those ready that wait for a change among the children or threads of a process.
pub fn wake_children_waiters(pid: u32) {
    let mut tasks = TASKS.get();
    let Tasks { all, ready, .. } = &mut *tasks;
    for task in all.values_mut().filter(|task| task.process.pid == pid && task.wait == Wait::Child) {
        task.wait = Wait::No;
        task.deadline = u64::MAX;
        ready.push_back(task.tid);
    }
}

/// Whether the running thread is to end.
pub fn ends() -> bool {
    process::current().ends(current())
}

/// Ends the running thread. The last one ends the process.
pub fn end(code: i32) -> ! {
    reap();
    let clear = with(|task| task.clear_tid);
    if clear != 0 && crate::user::write(clear, 0u32).is_ok() {
        crate::futex::wake(crate::futex::word(clear, false), u32::MAX, u32::MAX);
    }
    let process = process::current();
    let space = if process.threads.get() == 1 { process::last_thread_ends(code) } else { None };
    process.threads.set(process.threads.get() - 1);
    wake_children_waiters(process.pid);
    {
        let mut tasks = TASKS.get();
        let tid = tasks.current;
        let task = tasks.all.remove(&tid);
        tasks.dead.extend(task);
        tasks.dead_spaces.extend(space);
        share!(want_tick, u32::from(tasks.all.len() > 1));
    }
    schedule();
    crate::crash::bug("an ended thread went on")
}

/// Runs the first thread.
pub fn start() -> ! {
    schedule();
    crate::crash::bug("the start went on")
}

/// A kick while the program ran, or one that was deferred: others get their turn.
pub fn tick() {
    share!(resched, 0);
    poll_outside();
    yield_now();
}

/// Whether a kick was deferred.
pub fn tick_is_due() -> bool {
    shared!(resched) != 0
}
