//! The one virtual CPU: its registers at the start, and a kick into the library OS.

use std::io;

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuFd};
use rustix::time::ClockId;

use crate::{
    abi::{Cpu, DIRECT_BASE, LIBOS_BASE, LIBOS_SPAN, gpa},
    error::Error,
    layout::{self, GDT, GDT_LEN, IDT, IDT_LEN, KERNEL_CODE, TASK, TSS, TSS_LEN, USER_CODE, USER_DATA},
    memory::{Memory, control},
    snapshot::Head,
    sys,
};

const MSR_TSC: u32 = 0x10;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
/// Trap, interrupt, direction, nested task and alignment check are off behind `syscall`.
const SYSCALL_CLEARS: u64 = 0x4_4700;

/// Protection, paging, and no emulation of the FPU.
const CR0: u64 = 0x8005_0033;
/// Physical address extension, SSE and its exceptions, FSGSBASE, XSAVE.
const CR4: u64 = 0x20 | 0x600 | 0x1_0000 | 0x4_0000;
/// `syscall`, long mode, no-execute.
const EFER: u64 = 0xd01;
/// X87, SSE, AVX and AVX-512 state.
const XCR0: u64 = 0xe7;

/// The vCPU, and what the guest is told of it.
pub(crate) struct Vcpu {
    pub(crate) fd: VcpuFd,
    pub(crate) xcr0: u64,
    pub(crate) xsave_size: u64,
    /// Guest's time stamp counter less the host's.
    tsc_offset: u64,
    /// Guest's monotonic clock less the host's: 0 but for clones, whose clock goes on where it stood.
    ahead: u64,
    tsc_khz: u64,
}

fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| Error::Kvm(what, io::Error::from_raw_os_error(error.errno()))
}

fn segment(selector: u16, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl: 3,
        db: u8::from(kind == 3),
        s: 1,
        l: u8::from(kind == 11),
        g: 1,
        ..Default::default()
    }
}

fn xcrs(xcr0: u64) -> kvm_xcrs {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, reserved: 0, value: xcr0 };
    xcrs
}

/// A clock of the host, nanoseconds.
fn clock(id: ClockId) -> u64 {
    let at = rustix::time::clock_gettime(id);
    (at.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(at.tv_nsec as u64)
}

/// Bytes of an XSAVE area for some features.
fn xsave_size(features: u64) -> u64 {
    let of = |n: u32| {
        let leaf = core::arch::x86_64::__cpuid_count(0xd, n);
        u64::from(leaf.ebx) + u64::from(leaf.eax)
    };
    (2..63).filter(|n| features >> n & 1 != 0).map(of).max().unwrap_or(0).max(576)
}

impl Vcpu {
    /// Makes the vCPU, ready to run the library OS's first instruction.
    pub(crate) fn new(kvm: &Kvm, memory: &Memory) -> Result<Self, Error> {
        let fd = memory.vm().create_vcpu(0).map_err(refused("make a vCPU"))?;
        let cpuid: CpuId =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("tell the CPU's features"))?;
        fd.set_cpuid2(&cpuid).map_err(refused("set the CPU's features"))?;
        let leaf = cpuid.as_slice().iter().find(|entry| entry.function == 0xd && entry.index == 0);
        let xcr0 = leaf.map_or(3, |leaf| u64::from(leaf.eax)) & XCR0 | 3;
        let xcrs = xcrs(xcr0);
        let mut sregs = fd.get_sregs().map_err(refused("read the vCPU's registers"))?;
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, gpa::PML4, CR4, EFER);
        sregs.cs = segment(USER_CODE, 11);
        sregs.ss = segment(USER_DATA, 3);
        (sregs.ds, sregs.es, sregs.fs) = (sregs.ss, sregs.ss, sregs.ss);
        sregs.gs = kvm_segment { base: DIRECT_BASE + gpa::CPU, ..sregs.ss };
        sregs.tr = kvm_segment {
            base: TSS,
            limit: u32::from(TSS_LEN - 1),
            selector: TASK,
            type_: 11,
            present: 1,
            ..Default::default()
        };
        sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
        sregs.gdt = kvm_dtable { base: GDT, limit: GDT_LEN - 1, ..Default::default() };
        sregs.idt = kvm_dtable { base: IDT, limit: IDT_LEN - 1, ..Default::default() };
        let header = layout::header();
        let regs = kvm_regs { rip: header.start, rsp: header.start_stack, rflags: 0x202, ..Default::default() };
        Self::start(fd, &sregs, &xcrs, &regs)
    }

    /// A vCPU as another one was when it stood still.
    pub(crate) fn again(memory: &Memory, head: &Head) -> Result<Self, Error> {
        let fd = memory.vm().create_vcpu(0).map_err(refused("make a vCPU"))?;
        let features = CpuId::from_entries(&head.features).map_err(|_| Error::Snapshot("it is broken"))?;
        fd.set_cpuid2(&features).map_err(refused("set the CPU's features"))?;
        let mut vcpu = Self::start(fd, &head.sregs, &head.xcrs, &head.regs)?;
        sys::set_xsave(&vcpu.fd, &head.xsave).map_err(|error| Error::Kvm("set the vCPU's state", error))?;
        vcpu.ahead = head.monotonic.wrapping_sub(clock(ClockId::Monotonic));
        Ok(vcpu)
    }

    /// Writes its registers, control registers and features to a snapshot's head. It must have left the guest by a hypercall.
    pub(crate) fn save(&mut self, head: &mut Head) -> Result<(), Error> {
        // KVM ends the instruction of the hypercall at the next run, which this makes return at once.
        self.fd.set_kvm_immediate_exit(1);
        let ran = self.fd.run().map(|_| ());
        self.fd.set_kvm_immediate_exit(0);
        if !ran.is_err_and(|error| error.errno() == libc::EINTR) {
            return Err(Error::Stopped("it went on while it was to stand still".to_owned()));
        }
        head.regs = self.fd.get_regs().map_err(refused("read the vCPU's registers"))?;
        head.sregs = self.fd.get_sregs().map_err(refused("read the vCPU's registers"))?;
        head.xcrs = xcrs(self.xcr0);
        head.xsave = sys::xsave(&self.fd).map_err(|error| Error::Kvm("read the vCPU's state", error))?;
        let features = self.fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(refused("tell the CPU's features"))?;
        head.features = features.as_slice().to_vec();
        head.monotonic = self.monotonic();
        Ok(())
    }

    fn start(fd: VcpuFd, sregs: &kvm_sregs, xcrs: &kvm_xcrs, regs: &kvm_regs) -> Result<Self, Error> {
        fd.set_sregs(sregs).map_err(refused("set the vCPU's registers"))?;
        fd.set_xcrs(xcrs).map_err(refused("set XCR0"))?;
        let (header, xcr0) = (layout::header(), xcrs.xcrs[0].value);
        let star = u64::from(KERNEL_CODE) << 32 | 0x23 << 48;
        let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
        let msrs = [entry(MSR_STAR, star), entry(MSR_LSTAR, header.syscall_stub), entry(MSR_SFMASK, SYSCALL_CLEARS)];
        let wanted = msrs.len();
        let msrs =
            Msrs::from_entries(&msrs).map_err(|_| Error::Kvm("hold three MSRs", io::ErrorKind::OutOfMemory.into()))?;
        if fd.set_msrs(&msrs).map_err(refused("set MSRs"))? != wanted {
            return Err(Error::Kvm("set the MSRs of `syscall`", io::ErrorKind::Unsupported.into()));
        }
        fd.set_regs(regs).map_err(refused("set the vCPU's registers"))?;
        let tsc_khz = u64::from(fd.get_tsc_khz().map_err(refused("tell the time stamp counter's rate"))?);
        let tsc_offset = Self::offset(&fd)?;
        Ok(Self { fd, xcr0, xsave_size: xsave_size(xcr0), tsc_offset, ahead: 0, tsc_khz })
    }

    fn offset(fd: &VcpuFd) -> Result<u64, Error> {
        let mut msrs = Msrs::from_entries(&[kvm_msr_entry { index: MSR_TSC, ..Default::default() }])
            .map_err(|_| Error::Kvm("hold an MSR", io::ErrorKind::OutOfMemory.into()))?;
        let before = sys::tsc();
        let got = fd.get_msrs(&mut msrs).map_err(refused("read the time stamp counter"))?;
        let after = sys::tsc();
        if got != 1 {
            return Err(Error::Kvm("read the time stamp counter", io::ErrorKind::Unsupported.into()));
        }
        Ok(msrs.as_slice()[0].data.wrapping_sub(before.midpoint(after)))
    }

    /// The guest's monotonic clock, nanoseconds.
    pub(crate) fn monotonic(&self) -> u64 {
        clock(ClockId::Monotonic).wrapping_add(self.ahead)
    }

    /// Tells the guest what time it is. The vCPU stands still.
    pub(crate) fn set_clock(&self, memory: &Memory) {
        let clock = crate::abi::Clock {
            tsc: sys::tsc().wrapping_add(self.tsc_offset),
            monotonic: self.monotonic(),
            realtime: clock(ClockId::Realtime),
            scale: ((1_000_000u128 << 32) / u128::from(self.tsc_khz.max(1))) as u64,
        };
        memory.write(control!(clock), clock);
    }

    /// After an interruption: sends the program into the library OS, or, if the library OS runs already, leaves a note.
    pub(crate) fn enter_library_os(&self, memory: &Memory) -> Result<(), Error> {
        let mut regs = self.fd.get_regs().map_err(refused("read the vCPU's registers"))?;
        let inside = (LIBOS_BASE..LIBOS_BASE + LIBOS_SPAN).contains(&regs.rip);
        let exception = self.fd.get_vcpu_events().map_err(refused("read the vCPU's events"))?.exception;
        // An exception that is on its way belongs to the instruction that it came from, so the program stays where it is.
        if inside || exception.injected != 0 || exception.pending != 0 {
            memory.write(control!(resched), 1u32);
            return Ok(());
        }
        let stack: u64 = memory.read(gpa::CPU + core::mem::offset_of!(Cpu, syscall_frame) as u64 + 24);
        memory.write(gpa::CPU + core::mem::offset_of!(Cpu, kicked) as u64, [regs.rip, regs.rflags, regs.rsp]);
        (regs.rip, regs.rsp, regs.rflags) = (layout::header().kick_entry, stack, 0x202);
        self.fd.set_regs(&regs).map_err(refused("set the vCPU's registers"))
    }
}
