//! Processes: what belongs to one and not to its threads, and how they begin and end.
//!
//! All processes of a VM share its one vCPU and its library OS. Each has an address space of its own, except after `vfork`, which shares
//! the parent's until the child runs another program.

use alloc::{collections::BTreeMap, rc::Rc, vec::Vec};
use core::{
    cell::{Cell, RefCell, RefMut},
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::{
    alarm::Alarm,
    cell::Global,
    errno::Errno,
    fs::{Node, table::Table},
    hyper, mm,
    mm::Mm,
    phys, pt, rewrite, signal,
    split::Split,
    task::{self, Wait},
};

/// The first process. The VM ends with it.
pub const FIRST: u32 = 1;

/// An address space.
pub struct Space {
    pub id: u64,
    root: u64,
    pub mm: Global<Mm>,
    /// Where rewritten call sites jump to.
    pub calls: Global<Vec<rewrite::Area>>,
    /// The program and its dynamic loader, with their bases, for the names in a crash report.
    pub loaded: Global<Vec<(&'static [u8], u64)>>,
}

static NEXT_SPACE: Global<u64> = Global::new(1);

fn next_space() -> u64 {
    let mut next = NEXT_SPACE.get();
    *next += 1;
    *next
}

impl Space {
    /// With no memory in it.
    pub fn new() -> Option<Rc<Self>> {
        Some(Self::with(pt::new_root()?, Mm::new(), Vec::new(), Vec::new()))
    }

    fn with(root: u64, mm: Mm, calls: Vec<rewrite::Area>, loaded: Vec<(&'static [u8], u64)>) -> Rc<Self> {
        Rc::new(Self {
            id: next_space(),
            root,
            mm: Global::new(mm),
            calls: Global::new(calls),
            loaded: Global::new(loaded),
        })
    }

    /// A copy of the running process's space; pages are copied when one of the two writes.
    fn fork(stack: u64, thread: u64) -> Option<Rc<Self>> {
        let root = pt::new_root()?;
        let mm = mm::MM.get().copy();
        let space = Self::with(root, mm, rewrite::AREAS.get().clone(), crate::load::LOADED.get().clone());
        // A copy that breaks off is freed with what it has.
        let mut split = Split::new(stack, thread);
        let done = pt::copy_to(root, |va, entry| split.page(va, entry));
        if split.changed {
            pt::flush();
        }
        done.then_some(space)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        pt::free(self.root, mm::forget_entry);
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exit(i32),
    Signal(u32),
}

impl Status {
    /// As `wait4` tells it.
    pub fn word(self) -> u32 {
        match self {
            Self::Exit(code) => (code as u32 & 0xff) << 8,
            Self::Signal(signal) => signal,
        }
    }
}

/// A process.
pub struct Process {
    pub pid: u32,
    pub parent: Cell<u32>,
    pub group: Cell<u32>,
    pub session: Cell<u32>,
    /// Threads that have not ended.
    pub threads: Cell<u32>,
    space: RefCell<Option<Rc<Space>>>,
    pub table: Global<Table>,
    pub cwd: Global<Option<Rc<Node>>>,
    pub umask: Cell<u32>,
    pub actions: Global<signal::Actions>,
    /// Signals sent to the process, not yet to a thread.
    pub pending: Global<u64>,
    /// Path, arguments and environment.
    pub program: Global<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    pub alarm: Alarm,
    /// It has run `execve`.
    pub executed: Cell<bool>,
    /// What the parent is told when it ends: a signal, or none.
    exit_signal: Cell<u32>,
    /// Its threads are to end, with this.
    pub ending: Cell<Option<Status>>,
    /// All threads but this one are to end.
    alone: Cell<Option<u32>>,
    /// It has ended, and nobody has asked yet.
    pub zombie: Cell<bool>,
    /// The thread that waits until it no longer uses its parent's memory.
    borrowed_from: Cell<Option<u32>>,
}

/// All processes, also those that have ended and were not asked about.
pub static ALL: Global<BTreeMap<u32, Rc<Process>>> = Global::new(BTreeMap::new());
static CURRENT: AtomicPtr<Process> = AtomicPtr::new(core::ptr::null_mut());
static SPACE: AtomicPtr<Space> = AtomicPtr::new(core::ptr::null_mut());

/// The running process.
pub fn current() -> &'static Process {
    // SAFETY: set by `init` before anything asks, then by `enter`; the running thread's process lives while it runs.
    unsafe { &*CURRENT.load(Ordering::Relaxed) }
}

fn space() -> &'static Space {
    // SAFETY: as above; a space that is replaced is dropped after its successor is in force.
    unsafe { &*SPACE.load(Ordering::Relaxed) }
}

/// The number of the address space in force.
pub fn space_id() -> u64 {
    space().id
}

/// A piece of state that each process has.
pub struct OfProcess<T: 'static>(fn(&'static Process) -> &'static Global<T>);

impl<T> OfProcess<T> {
    /// Names the piece.
    pub const fn new(piece: fn(&'static Process) -> &'static Global<T>) -> Self {
        Self(piece)
    }

    /// The running process's. A second borrow while the first lives is a bug and ends the VM.
    pub fn get(&self) -> RefMut<'static, T> {
        (self.0)(current()).get()
    }
}

/// A piece of state that each address space has.
pub struct OfSpace<T: 'static>(fn(&'static Space) -> &'static Global<T>);

impl<T> OfSpace<T> {
    /// Names the piece.
    pub const fn new(piece: fn(&'static Space) -> &'static Global<T>) -> Self {
        Self(piece)
    }

    /// That of the space in force.
    pub fn get(&self) -> RefMut<'static, T> {
        (self.0)(space()).get()
    }

    /// The same, if nobody holds it.
    pub fn try_get(&self) -> Option<RefMut<'static, T>> {
        (self.0)(space()).try_get()
    }
}

/// Makes the first process, in the address space that the monitor made.
pub fn init() {
    let space = Space::with(crate::abi::gpa::PML4, Mm::new(), Vec::new(), Vec::new());
    let first = Rc::new(Process {
        pid: FIRST,
        parent: Cell::new(0),
        group: Cell::new(FIRST),
        session: Cell::new(FIRST),
        threads: Cell::new(0),
        space: RefCell::new(Some(space)),
        table: Global::new(Table::new()),
        cwd: Global::new(None),
        umask: Cell::new(0o22),
        actions: Global::new(signal::NO_ACTIONS),
        pending: Global::new(0),
        program: Global::new((Vec::new(), Vec::new(), Vec::new())),
        alarm: Alarm::default(),
        executed: Cell::new(false),
        exit_signal: Cell::new(0),
        ending: Cell::new(None),
        alone: Cell::new(None),
        zombie: Cell::new(false),
        borrowed_from: Cell::new(None),
    });
    enter(&first);
    ALL.get().insert(FIRST, first);
}

/// Puts a process into force, as one of its threads is about to run.
pub fn enter(process: &Rc<Process>) {
    if CURRENT.swap(Rc::as_ptr(process).cast_mut(), Ordering::Relaxed) == Rc::as_ptr(process).cast_mut() {
        return;
    }
    if let Some(space) = &*process.space.borrow() {
        SPACE.store(Rc::as_ptr(space).cast_mut(), Ordering::Relaxed);
        pt::enter(space.root);
    }
}

/// Does something as if another process ran: for its memory.
fn within<T>(process: &Rc<Process>, act: impl FnOnce() -> T) -> T {
    let before = rc(current());
    enter(process);
    let done = act();
    enter(&before);
    done
}

fn rc(process: &Process) -> Rc<Process> {
    match ALL.get().get(&process.pid) {
        Some(process) => Rc::clone(process),
        None => crate::crash::bug("the running process is not in the list"),
    }
}

/// The running process, for a new thread of it.
pub fn own() -> Rc<Process> {
    rc(current())
}

/// A process by number, also one that has ended.
pub fn find(pid: u32) -> Option<Rc<Process>> {
    ALL.get().get(&pid).cloned()
}

/// All processes that have not ended.
pub fn living() -> Vec<Rc<Process>> {
    ALL.get().values().filter(|process| !process.zombie.get()).cloned().collect()
}

/// Whether a number is a process's, or that of a group or session of one.
pub fn names(id: u32) -> bool {
    ALL.get().values().any(|p| p.pid == id || p.group.get() == id || p.session.get() == id)
}

impl Process {
    /// Whether this thread of it is to end.
    pub fn ends(&self, tid: u32) -> bool {
        self.ending.get().is_some() || self.alone.get().is_some_and(|only| only != tid)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.zombie.get()
    }

    /// Makes a child. It has no thread yet.
    /// `stack` and `thread` are pointers to what it will write to first.
    pub fn child(
        &self,
        pid: u32,
        share_memory: bool,
        exit_signal: u32,
        keep_parent: bool,
        [stack, thread]: [u64; 2],
    ) -> Option<Rc<Process>> {
        let space = if share_memory { self.space.borrow().clone()? } else { Space::fork(stack, thread)? };
        let child = Rc::new(Process {
            pid,
            parent: Cell::new(if keep_parent { self.parent.get() } else { self.pid }),
            group: self.group.clone(),
            session: self.session.clone(),
            threads: Cell::new(0),
            space: RefCell::new(Some(space)),
            table: Global::new(self.table.get().clone()),
            cwd: Global::new(self.cwd.get().clone()),
            umask: self.umask.clone(),
            actions: Global::new(*self.actions.get()),
            pending: Global::new(0),
            program: Global::new(self.program.get().clone()),
            alarm: Alarm::default(),
            executed: Cell::new(false),
            exit_signal: Cell::new(exit_signal),
            ending: Cell::new(None),
            alone: Cell::new(None),
            zombie: Cell::new(false),
            borrowed_from: Cell::new(None),
        });
        ALL.get().insert(pid, Rc::clone(&child));
        Some(child)
    }

    /// Gives up a child that got no thread.
    pub fn abandon(&self) {
        ALL.get().remove(&self.pid);
    }

    /// Waits until a child no longer uses this process's memory.
    pub fn lend(&self, child: &Rc<Process>) {
        child.borrowed_from.set(Some(task::current()));
        while child.borrowed_from.get().is_some() && self.ending.get().is_none() {
            task::block(Wait::Child, u64::MAX);
        }
    }

    /// The memory that `vfork` shared is the parent's alone again.
    fn hand_back(&self) {
        if let Some(tid) = self.borrowed_from.take() {
            task::wake(tid);
        }
    }

    /// Writes to a new child's memory.
    pub fn write_u32(self: &Rc<Self>, at: u64, value: u32) -> Result<(), Errno> {
        let root = self.space.borrow().as_ref().map_or(0, |space| space.root);
        let entry = pt::get_of(root, at);
        let page = pt::address(entry);
        // A page that the child has for itself, in the usual case, needs no switch of address spaces.
        if entry & (pt::WRITE | pt::OWNED) == pt::WRITE | pt::OWNED && at % 4 == 0 {
            // SAFETY: the page is the child's, which does not run; the place lies within it.
            unsafe { core::ptr::write(phys::direct(page + at % crate::abi::PAGE).cast(), value) };
            return Ok(());
        }
        within(self, || crate::user::write(at, value))
    }
}

/// Ends all other threads of the running process; returns when they have.
pub fn only_this_thread() {
    let process = current();
    process.alone.set(Some(task::current()));
    task::end_others(process.pid);
    while process.threads.get() > 1 && process.ending.get().is_none() {
        task::block(Wait::Child, u64::MAX);
    }
    task::become_first(process.pid);
    process.alone.set(None);
}

/// Takes a new address space for the running process. What it had is freed, unless it was the parent's.
pub fn replace_space(space: Rc<Space>) {
    let process = current();
    SPACE.store(Rc::as_ptr(&space).cast_mut(), Ordering::Relaxed);
    pt::enter(space.root);
    let old = process.space.borrow_mut().replace(space);
    process.hand_back();
    drop(old);
}

/// Ends the running process. The first one takes the VM with it.
pub fn end(status: Status) -> ! {
    let process = current();
    if process.pid == FIRST {
        match status {
            Status::Exit(code) => hyper::exit(code & 0xff, 0),
            Status::Signal(signal) => hyper::exit(128 + signal as i32, signal as i32),
        }
    }
    if process.ending.get().is_none() {
        process.ending.set(Some(status));
        task::end_others(process.pid);
    }
    task::end(0)
}

/// The last thread of the running process ends: its files are closed and its parent is told. Its memory goes when another one runs.
pub fn last_thread_ends(code: i32) -> Option<Rc<Space>> {
    let process = current();
    let status = process.ending.get().unwrap_or(Status::Exit(code));
    process.ending.set(Some(status));
    if process.pid == FIRST {
        end(status);
    }
    let table = core::mem::take(&mut *process.table.get());
    drop(table);
    process.alarm.set(0, 0);
    *process.cwd.get() = None;
    process.hand_back();
    let space = process.space.borrow_mut().take();
    let mut orphan_ended = false;
    for child in ALL.get().values().filter(|child| child.parent.get() == process.pid) {
        child.parent.set(FIRST);
        orphan_ended |= child.zombie.get();
    }
    if orphan_ended && let Some(first) = find(FIRST) {
        signal::to_process(&first, signal::SIGCHLD);
        task::wake_children_waiters(FIRST);
    }
    process.zombie.set(true);
    let parent = find(process.parent.get());
    let asks = parent.is_some_and(|parent| {
        let asks = !signal::children_are_ignored(&parent);
        if process.exit_signal.get() != 0 {
            signal::to_process(&parent, process.exit_signal.get());
        }
        task::wake_children_waiters(parent.pid);
        asks
    });
    if !asks {
        // Nobody will: it is taken from the list, and lives as long as its thread.
        ALL.get().remove(&process.pid);
    }
    space
}

/// The numbers of all processes, ended ones too.
pub fn all() -> Vec<u64> {
    ALL.get().keys().map(|&pid| pid.into()).collect()
}

/// How many processes there are, ended ones too.
pub fn count() -> usize {
    ALL.get().len()
}
