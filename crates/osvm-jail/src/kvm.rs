//! KVM for a VMM: `/dev/kvm` is opened outside and handed on, so that no device file has to be in the jail, and the instance's user, who
//! could not open it, has it.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};

use crate::error::{At, Error};

/// The variable that tells the program the descriptor's number.
pub const ENV_KVM: &str = "OSVM_KVM_FD";
/// Its device number, major and minor.
const DEVICE: (u32, u32) = (10, 232);

/// `/dev/kvm`, opened.
pub(crate) fn take() -> Result<OwnedFd, Error> {
    let unavailable = |why: &str| Error::Unavailable {
        what: format!("/dev/kvm {why}, so no VM can be made"),
        help: "load KVM's module and add your user to the group kvm; osvm doctor tells what is there".to_owned(),
    };
    let kvm = open("/dev/kvm", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| unavailable(&format!("cannot be opened ({error})")))?;
    let stat = fstat(&kvm).at("looking at /dev/kvm")?;
    let is_kvm = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(DEVICE.0, DEVICE.1);
    if is_kvm { Ok(kvm) } else { Err(unavailable("is not KVM's device")) }
}

/// What a monitor asks of KVM, by its request of `ioctl`.
pub(crate) mod requests {
    const fn plain(number: u32) -> u32 {
        0xae00 | number
    }

    /// The direction is the kernel's `_IOC_WRITE`, `_IOC_READ`, or both; the size is that of the structure, bytes.
    const fn with(direction: u32, number: u32, size: u32) -> u32 {
        direction << 30 | size << 16 | plain(number)
    }

    pub(crate) const CREATE_VM: u32 = plain(0x01);
    pub(crate) const CHECK_EXTENSION: u32 = plain(0x03);
    pub(crate) const GET_VCPU_MMAP_SIZE: u32 = plain(0x04);
    pub(crate) const GET_SUPPORTED_CPUID: u32 = with(3, 0x05, 8);
    pub(crate) const CREATE_VCPU: u32 = plain(0x41);
    pub(crate) const SET_USER_MEMORY_REGION: u32 = with(1, 0x46, 32);
    pub(crate) const RUN: u32 = plain(0x80);
    pub(crate) const GET_REGS: u32 = with(2, 0x81, 144);
    pub(crate) const SET_REGS: u32 = with(1, 0x82, 144);
    pub(crate) const GET_SREGS: u32 = with(2, 0x83, 312);
    pub(crate) const SET_SREGS: u32 = with(1, 0x84, 312);
    pub(crate) const GET_MSRS: u32 = with(3, 0x88, 8);
    pub(crate) const SET_MSRS: u32 = with(1, 0x89, 8);
    pub(crate) const SET_CPUID2: u32 = with(1, 0x90, 8);
    pub(crate) const GET_VCPU_EVENTS: u32 = with(2, 0x9f, 64);
    pub(crate) const GET_TSC_KHZ: u32 = plain(0xa3);
    pub(crate) const SET_XCRS: u32 = with(1, 0xa7, 392);
}
