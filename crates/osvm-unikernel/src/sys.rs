//! Memory that is shared with a guest, and the system calls that no safe crate offers. All `unsafe` of the monitor is in this file.
//!
//! Guest memory is never a Rust reference: the guest may change it at any time. Each access is checked against the region's length, and
//! reads a value once.

#![expect(
    unsafe_code,
    reason = "mapping and reading the guest's memory, memory slots and signals have no safe wrapper"
)]

use std::{
    fs::File,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering, fence},
    time::Duration,
};

use kvm_bindings::{
    KVM_MEM_READONLY, kvm_cpuid_entry2, kvm_regs, kvm_sregs, kvm_userspace_memory_region, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::abi::{Boot, Clock, Cpu};

/// The variable in which a jail tells the number of the descriptor of KVM, which it has opened: there is no `/dev/kvm` in a jail.
const ENV_KVM: &str = "OSVM_KVM_FD";

/// KVM: the descriptor that was handed on, or the device.
pub(crate) fn kvm() -> io::Result<Kvm> {
    let Some(number) = std::env::var_os(ENV_KVM) else {
        return Kvm::new().map_err(|error| io::Error::from_raw_os_error(error.errno()));
    };
    let number = number.to_str().and_then(|number| number.parse::<i32>().ok()).filter(|number| *number > 2);
    let number = number.ok_or_else(|| io::Error::other(format!("{ENV_KVM} is no descriptor's number")))?;
    // SAFETY: plain numbers; the descriptor is looked at, not taken.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, nobody else owns it.
    Ok(unsafe { Kvm::from_raw_fd(copy) })
}

/// Numbers, and structures of numbers without gaps that matter: any bits are a value.
///
/// # Safety
///
/// Every pattern of bits must be a valid value.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: numbers, and `repr(C)` structures of numbers.
unsafe impl Plain for u32 {}
// SAFETY: see above.
unsafe impl Plain for u64 {}
// SAFETY: see above.
unsafe impl Plain for i64 {}
// SAFETY: see above.
unsafe impl<const N: usize> Plain for [u64; N] {}
// SAFETY: see above.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: see above.
unsafe impl Plain for Boot {}
// SAFETY: see above.
unsafe impl Plain for Clock {}
// SAFETY: see above.
unsafe impl Plain for Cpu {}

// SAFETY: see above; what is reserved in them is numbers too.
unsafe impl Plain for kvm_regs {}
// SAFETY: see above.
unsafe impl Plain for kvm_sregs {}
// SAFETY: see above.
unsafe impl Plain for kvm_xcrs {}
// SAFETY: see above.
unsafe impl Plain for kvm_cpuid_entry2 {}

/// A value's bytes.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> Vec<u8> {
    // SAFETY: structures of numbers without gaps, as `Plain` says; KVM's have named fields where others have gaps.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(value).cast(), mem::size_of::<T>()) }.to_vec()
}

/// A value from its bytes. None: too few or too many.
pub(crate) fn value_of<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length is right, any bits are a value, and nothing need be aligned.
    (bytes.len() == mem::size_of::<T>()).then(|| unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// What XSAVE would save of a vCPU.
pub(crate) fn xsave(vcpu: &VcpuFd) -> io::Result<Box<[u32; XSAVE_WORDS]>> {
    let state = vcpu.get_xsave().map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
    Ok(Box::new(state.region))
}

/// Words of KVM's XSAVE area: more only where a process asked for AMX.
pub(crate) const XSAVE_WORDS: usize = 1024;

/// Gives a vCPU that state.
pub(crate) fn set_xsave(vcpu: &VcpuFd, region: &[u32; XSAVE_WORDS]) -> io::Result<()> {
    let state = kvm_xsave { region: *region, ..Default::default() };
    // SAFETY: this process asked for no features whose state would be larger than the structure.
    unsafe { vcpu.set_xsave(&state) }.map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// A mapping that a guest may see, and change.
#[derive(Debug)]
pub(crate) struct Region {
    start: *mut u8,
    len: u64,
}

// SAFETY: the mapping lives as long as the region, and is only reached by the checked methods below, which tolerate changes at any time.
unsafe impl Send for Region {}
// SAFETY: see above.
unsafe impl Sync for Region {}

fn mapped(len: u64, protection: i32, flags: i32, file: i32) -> io::Result<Region> {
    let size = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, file, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(Region { start: start.cast(), len })
}

impl Region {
    /// Zeroed memory that is taken from the host at the first touch.
    pub(crate) fn anonymous(len: u64) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        mapped(len, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
    }

    /// A file's content from the page cache, read-only, rounded up to whole pages.
    pub(crate) fn file(file: &File, len: u64) -> io::Result<Self> {
        mapped(len.next_multiple_of(crate::abi::PAGE), libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd())
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: `offset` lies within the mapping, or at its end.
        (end <= self.len).then(|| unsafe { self.start.add(offset as usize) })
    }

    /// Reads a value once. None: outside, or not aligned.
    pub(crate) fn read<T: Plain>(&self, offset: u64) -> Option<T> {
        let at = self.at(offset, mem::size_of::<T>() as u64)?.cast::<T>();
        // SAFETY: the place is within the mapping and aligned; any bits are a value.
        at.is_aligned().then(|| unsafe { ptr::read_volatile(at) })
    }

    /// Writes a value. None: outside, or not aligned.
    pub(crate) fn write<T: Plain>(&self, offset: u64, value: T) -> Option<()> {
        let at = self.at(offset, mem::size_of::<T>() as u64)?.cast::<T>();
        // SAFETY: as above; what the guest makes of it is the guest's.
        at.is_aligned().then(|| unsafe { ptr::write_volatile(at, value) })
    }

    /// Copies bytes in. None: outside.
    pub(crate) fn fill(&self, offset: u64, bytes: &[u8]) -> Option<()> {
        let at = self.at(offset, bytes.len() as u64)?;
        // SAFETY: the place is within the mapping, which is nobody's Rust object.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        Some(())
    }

    /// Copies bytes out. None: outside.
    pub(crate) fn copy_out(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        let at = self.at(offset, bytes.len() as u64)?;
        // SAFETY: as above; a guest that writes meanwhile gets what it asked for.
        unsafe { ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), bytes.len()) };
        Some(())
    }

    /// Puts a part of a file over the beginning: shared with others until it is written, and never written back.
    pub(crate) fn overlay(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let at = self.at(0, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_FIXED);
        // SAFETY: the range is within the mapping, which it stays a part of; nobody has a reference into it.
        let done = unsafe { libc::mmap(at.cast(), len as usize, rights, flags, file.as_raw_fd(), offset as i64) };
        if done == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Gives the pages of a range back to the host. None: outside, not at page borders, or refused.
    pub(crate) fn forget(&self, offset: u64, len: u64) -> Option<()> {
        let at = self.at(offset, len)?;
        if !offset.is_multiple_of(crate::abi::PAGE) || !len.is_multiple_of(crate::abi::PAGE) {
            return None;
        }
        // SAFETY: the range is within the mapping; its content is the guest's to give up.
        (unsafe { libc::madvise(at.cast(), len as usize, libc::MADV_DONTNEED) } == 0).then_some(())
    }

    /// Puts fresh zeroed memory over a range, whatever it was mapped from. None: as above.
    pub(crate) fn renew(&self, offset: u64, len: u64) -> Option<()> {
        let at = self.at(offset, len)?;
        if !offset.is_multiple_of(crate::abi::PAGE) || !len.is_multiple_of(crate::abi::PAGE) {
            return None;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is within the mapping, which it stays a part of; nobody has a reference into it.
        let done = unsafe { libc::mmap(at.cast(), len as usize, rights, flags, -1, 0) };
        (done != libc::MAP_FAILED).then_some(())
    }

    /// Takes the pages of a range from the host now, all in one; a host that cannot do that gives them at their first touch.
    pub(crate) fn populate(&self, offset: u64, len: u64) {
        if let Some(at) = self.at(offset, len) {
            // SAFETY: the range is within the mapping, and its content stays as it is.
            unsafe { libc::madvise(at.cast(), len as usize, libc::MADV_POPULATE_WRITE) };
        }
    }

    /// Lets the host back a range by large pages, where it has them.
    pub(crate) fn in_large_pages(&self, offset: u64, len: u64) {
        if let Some(at) = self.at(offset, len) {
            // SAFETY: as above.
            unsafe { libc::madvise(at.cast(), len as usize, libc::MADV_HUGEPAGE) };
        }
    }

    fn parts(&self, parts: [(u64, u64); 2]) -> io::Result<[libc::iovec; 2]> {
        let mut out = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; 2];
        for (place, (offset, len)) in out.iter_mut().zip(parts) {
            let at = self.at(offset, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
            *place = libc::iovec { iov_base: at.cast(), iov_len: len as usize };
        }
        Ok(out)
    }

    /// Reads from a descriptor into up to two ranges (offset and length).
    pub(crate) fn read_from(&self, source: BorrowedFd<'_>, parts: [(u64, u64); 2]) -> io::Result<usize> {
        let vector = self.parts(parts)?;
        // SAFETY: both parts lie within the mapping; the kernel writes there, and no Rust reference points there.
        let got = unsafe { libc::readv(source.as_raw_fd(), vector.as_ptr(), 2) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Copies bytes out, once. None: outside.
    pub(crate) fn copy(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        // Checked first, as the guest names the length.
        self.at(offset, len)?;
        let mut out = vec![0; len as usize];
        self.copy_out(offset, &mut out).map(|()| out)
    }

    /// Reads from a place in a file into a range (offset and length).
    pub(crate) fn read_at(&self, file: BorrowedFd<'_>, from: u64, (offset, len): (u64, u64)) -> io::Result<usize> {
        let at = self.at(offset, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the range lies within the mapping; the kernel writes there, and no Rust reference points there.
        let got = unsafe { libc::pread(file.as_raw_fd(), at.cast(), len as usize, from.cast_signed()) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Writes a range (offset and length) to a place in a file.
    pub(crate) fn write_at(&self, file: BorrowedFd<'_>, to: u64, (offset, len): (u64, u64)) -> io::Result<usize> {
        let at = self.at(offset, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the range lies within the mapping; the kernel reads there.
        let put = unsafe { libc::pwrite(file.as_raw_fd(), at.cast(), len as usize, to.cast_signed()) };
        usize::try_from(put).map_err(|_| io::Error::last_os_error())
    }

    /// Writes up to two ranges (offset and length) to a descriptor.
    pub(crate) fn write_to(&self, target: BorrowedFd<'_>, parts: [(u64, u64); 2]) -> io::Result<usize> {
        let vector = self.parts(parts)?;
        // SAFETY: both parts lie within the mapping; the kernel reads there.
        let put = unsafe { libc::writev(target.as_raw_fd(), vector.as_ptr(), 2) };
        usize::try_from(put).map_err(|_| io::Error::last_os_error())
    }

    /// Shows `[offset, offset + len)` to the guest at a guest-physical address.
    pub(crate) fn show(
        &self,
        vm: &VmFd,
        slot: u32,
        gpa: u64,
        offset: u64,
        len: u64,
        read_only: bool,
    ) -> io::Result<()> {
        let at = self.at(offset, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let region = kvm_userspace_memory_region {
            slot,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: gpa,
            memory_size: len,
            userspace_addr: at as u64,
        };
        // SAFETY: the range lies within the mapping, which outlives the VM: `Memory` owns both and drops the VM first.
        unsafe { vm.set_user_memory_region(region) }.map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }
}

/// Shows bytes of this program's own file to the guest, read-only. They are whole pages.
pub(crate) fn show_static(vm: &VmFd, slot: u32, gpa: u64, bytes: &'static [u8]) -> io::Result<()> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: KVM_MEM_READONLY,
        guest_phys_addr: gpa,
        memory_size: bytes.len() as u64,
        userspace_addr: bytes.as_ptr() as u64,
    };
    // SAFETY: the bytes live as long as this process, and the guest cannot write them.
    unsafe { vm.set_user_memory_region(region) }.map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this region's, and nobody reaches it any more.
        unsafe { libc::munmap(self.start.cast(), self.len as usize) };
    }
}

/// Orders reads of what the guest wrote after the counter that tells of it.
pub(crate) fn acquire() {
    fence(Ordering::Acquire);
}

/// Orders writes of what the guest will read before the counter that tells of it.
pub(crate) fn release() {
    fence(Ordering::Release);
}

/// The time stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The calling thread, as [`kick`] wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread(libc::pthread_t);

/// The calling thread.
pub(crate) fn this_thread() -> Thread {
    // SAFETY: has no conditions.
    Thread(unsafe { libc::pthread_self() })
}

fn kick_signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_: i32) {}

static ALARMED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_alarm(_: i32) {
    ALARMED.store(true, Ordering::Relaxed);
}

/// Whether the alarm rang since this was asked last.
pub(crate) fn alarmed() -> bool {
    ALARMED.load(Ordering::Relaxed) && ALARMED.swap(false, Ordering::Relaxed)
}

/// Rings the alarm again and again from now on; each time it interrupts a system call. Zero ends that.
pub(crate) fn alarm(every: Duration) -> io::Result<()> {
    let every = libc::timeval { tv_sec: every.as_secs() as i64, tv_usec: every.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the handler only stores a word; the structures are plain numbers that the calls read.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = note_alarm as extern "C" fn(i32) as usize;
        if libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()) != 0
            || libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Interrupts a thread's system call. The thread must be alive: the ticker is joined before the vCPU's thread ends.
pub(crate) fn kick(thread: Thread) {
    // SAFETY: the thread is alive, as the caller sees to; the signal has a handler since `prepare_signals`.
    unsafe { libc::pthread_kill(thread.0, kick_signal()) };
}

/// Gives the kick its handler, blocks the signals that are passed on to the guest, and returns a descriptor that tells of them.
pub(crate) fn prepare_signals(passed: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: a handler that does nothing may run at any time; the structures are plain numbers that the calls fill in.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        if libc::sigaction(kick_signal(), &action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in passed {
            libc::sigaddset(&mut set, *signal);
        }
        if libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The signal numbers that have come since the last call.
pub(crate) fn signals(fd: &OwnedFd) -> Vec<u32> {
    let mut all = Vec::new();
    loop {
        // SAFETY: the structure is plain numbers, and the kernel writes at most its size.
        let (got, info) = unsafe {
            let mut info: libc::signalfd_siginfo = mem::zeroed();
            let size = mem::size_of_val(&info);
            (libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size), info)
        };
        if got <= 0 {
            return all;
        }
        all.push(info.ssi_signo);
    }
}

/// Reads without taking: what a handshake does, so that the stream's first bytes stay.
pub(crate) fn peek(socket: BorrowedFd<'_>, out: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    let got = unsafe {
        libc::recv(socket.as_raw_fd(), out.as_mut_ptr().cast(), out.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}
