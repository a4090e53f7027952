//! Isolation level `process`: one program in a jail that fails closed.
//!
//! The program shares the host's kernel and nothing else of it. Whatever is not declared in the [`Spec`] is not there.
//!
//! # The sequence
//!
//! | # | where | step | if it fails |
//! |---|---|---|---|
//! | 1 | monitor | the specification is checked; stdin, stdout and stderr are looked at; filters are compiled | refused, nothing was made |
//! | 2 | monitor | an instance id that nobody has (its user id on the host when started by root) | refused |
//! | 3 | monitor | a control group with the limits for memory, processes, CPU | refused |
//! | 3a | proxy | where destinations are allowed: its own confinement, see `egress` | refused, the group is removed |
//! | 4 | monitor | namespaces of processes, mounts, network, IPC, host name, time; of users too when rootless | refused, the group is removed |
//! | 5 | jail | enters the control group (version 2: is started in it), and a namespace of control groups | the jail ends |
//! | 6 | jail | a fresh tmpfs as root with the declared mounts, four devices, `/tmp`; `pivot_root`; the host's root is unmounted; the root is made read-only | the jail ends |
//! | 7 | jail | becomes the instance's user; a further namespace of users, so that it has no power over the namespaces of step 4; secure bits; bounding set, capabilities dropped and read back | the jail ends |
//! | 8 | jail | dies with the monitor; `no_new_privs`; Landlock; the first process hides itself from debuggers | the jail ends |
//! | 9 | program | session without a terminal, resource limits, signals reset, descriptors from 3 on closed | the jail ends |
//! | 10 | program | seccomp filter, then the program is executed | the jail ends |
//! | 11 | jail | the first process closes everything and loads its own filter; it waits for processes | the jail ends, and with it the program |
//!
//! A step that fails ends the jail before the program's first instruction (step 11: at once after it), and the caller gets an
//! [`Error`] that names the step. No step is skipped, tried in a weaker way, or left out because the host lacks it.
//! When the first process ends, the kernel ends all others in its pid namespace; when the monitor ends, the kernel ends the first process.
//!
//! A monitor that is killed cannot clear up. Its processes, mounts, namespaces and its id are gone with it; its control group, empty by
//! then, is removed by the next jail that ends below the same parent group (or by [`Groups::clear`]), and the file of its inbound
//! socket is replaced by the next start that asks for the same path.
//!
//! # What it is not
//!
//! A hole in the kernel's allowed system calls is a way out; a VM has a smaller one. Side channels of the CPU are not closed.

#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

mod bpf;
pub mod calls;
mod cgroup;
mod closure;
mod companion;
mod door;
mod egress;
mod error;
mod host;
mod id;
mod inbound;
mod init;
mod kvm;
mod lockdown;
mod monitor;
mod owner;
mod relay;
mod root;
pub mod seccomp;
mod spec;
mod sys;
mod vmm;

pub use cgroup::{Groups, Used};
pub use closure::closure;
pub use companion::companion;
pub use egress::{Egress, MOST_REFUSALS, PORT as EGRESS_PORT, Reason, Refusal};
pub use error::{Error, Step};
pub use host::{Piece, pieces};
pub use id::{FIRST_EGRESS_ID, FIRST_ID, IDS};
pub use init::HOSTNAME;
pub use kvm::ENV_KVM;
pub use lockdown::INSIDE_ID;
pub use monitor::{CAPTURE_LIMIT, Captured, End, Outcome, Output, run};
pub use root::DEVICES;
pub use spec::{
    BadSpec, DEFAULT_MEMORY, DEFAULT_OPEN_FILES, DEFAULT_PIDS, DEFAULT_TMP, HostPort, Inbound, Limits, Mount, Network,
    Spec,
};
pub use vmm::{VMM_MEMORY, vmm};
