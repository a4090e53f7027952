//! The filters, made from [`crate::calls`] outside the jail and loaded inside as the last step before the program.
//!
//! A call without conditions is answered from the kernel's bitmap, which it builds when a filter is loaded.

use std::collections::BTreeMap;

use crate::{
    bpf::{self, Answer, Condition, Program, Verdict},
    calls,
    kvm::requests,
};

/// Terminal and file requests that a program may make. No `TIOCSTI`, `TIOCLINUX`, `TIOCSETD` or `TIOCSCTTY`.
pub const IOCTLS: &[u64] = &[
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TCSETSF,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::SIOCGIFCONF,
    libc::SIOCGIFFLAGS,
    libc::SIOCGIFADDR,
    libc::SIOCGIFINDEX,
];

/// Requests that a VMM may make.
pub const VMM_IOCTLS: &[u32] = &[
    requests::CREATE_VM,
    requests::CHECK_EXTENSION,
    requests::GET_VCPU_MMAP_SIZE,
    requests::GET_SUPPORTED_CPUID,
    requests::CREATE_VCPU,
    requests::SET_USER_MEMORY_REGION,
    requests::RUN,
    requests::GET_REGS,
    requests::SET_REGS,
    requests::GET_SREGS,
    requests::SET_SREGS,
    requests::GET_MSRS,
    requests::SET_MSRS,
    requests::SET_CPUID2,
    requests::GET_VCPU_EVENTS,
    requests::GET_TSC_KHZ,
    requests::SET_XCRS,
    FIONBIO,
];

/// `O_NONBLOCK`, as a standard library sets it.
const FIONBIO: u32 = libc::FIONBIO as u32;

/// Options of `prctl` that a program may use.
pub const PRCTLS: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_PDEATHSIG,
    libc::PR_GET_PDEATHSIG,
    libc::PR_SET_DUMPABLE,
    libc::PR_GET_DUMPABLE,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_SET_TIMERSLACK,
    libc::PR_SET_THP_DISABLE,
    libc::PR_SET_VMA,
];

/// Socket families: sockets of the jail itself, and routes and addresses of its own net namespace.
pub const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Flags of `clone` that make a namespace.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// The flags of `clone` with which C libraries start a thread: glibc's, musl's.
const THREADS: [u32; 2] = [0x3d_0f00, 0x7d_0f00];

/// Set-user-id and set-group-id: a file with one, on a shared mount, would be a way to another user of the host.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// Flags with which `open` takes a mode. `O_TMPFILE` without the bit of `O_DIRECTORY`.
const CREATING: i32 = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);

/// Which process a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program.
    Service,
    /// The jail's first process.
    Init,
    /// The egress proxy.
    Egress,
    /// A VMM.
    Vmm,
}

/// The filter of one kind of process.
pub(crate) struct Filter(Program);

impl Filter {
    /// Makes it from the table.
    pub(crate) fn new(kind: Kind) -> Self {
        Self(bpf::compile(&verdicts(kind), Answer::Errno(libc::ENOSYS)))
    }

    /// Loads it. From then on this process has what the table gives.
    pub(crate) fn load(&self) -> std::io::Result<()> {
        crate::sys::load_filter(&self.0)
    }
}

fn verdicts(kind: Kind) -> BTreeMap<u32, Verdict> {
    let (new, old) = match kind {
        Kind::Service => (calls::SERVICE, calls::SERVICE_OLD),
        Kind::Init => (calls::INIT, &[][..]),
        Kind::Egress => (calls::EGRESS, &[][..]),
        Kind::Vmm => (calls::VMM, calls::VMM_OLD),
    };
    let all = |calls: &'static [i64], answer| {
        calls.iter().filter_map(move |call| Some((u32::try_from(*call).ok()?, Verdict::Always(answer))))
    };
    // Of two entries for one call the later one counts.
    let mut verdicts: BTreeMap<u32, Verdict> = all(new, Answer::Allow).chain(all(old, Answer::Allow)).collect();
    verdicts.extend(all(calls::FORBIDDEN, Answer::Errno(libc::EPERM)));
    verdicts.extend(all(calls::FATAL, Answer::Kill));
    let harmful = match kind {
        Kind::Service => harmful(),
        Kind::Init => Vec::new(),
        Kind::Egress => harmful_of_proxy(),
        Kind::Vmm => harmful_of_vmm(),
    };
    for (call, list) in harmful {
        let Ok(call) = u32::try_from(call) else { continue };
        match verdicts.entry(call).or_insert(Verdict::Always(Answer::Allow)) {
            Verdict::Unless(lists) => lists.push(list),
            verdict => *verdict = Verdict::Unless(vec![list]),
        }
    }
    verdicts
}

/// The same for the egress proxy: it has TCP and UDP, and starts threads.
fn harmful_of_proxy() -> Vec<(i64, Vec<Condition>)> {
    let families = [libc::AF_INET, libc::AF_INET6].map(|family| Condition::IsNot(0, family.cast_unsigned()));
    let thread = THREADS.map(|flags| Condition::IsNot(0, flags));
    vec![(libc::SYS_socket, families.to_vec()), (libc::SYS_clone, thread.to_vec())]
}

/// The same for a VMM: it asks for what a monitor needs of KVM, has unix sockets, starts threads, and makes no set-id files.
fn harmful_of_vmm() -> Vec<(i64, Vec<Condition>)> {
    let requests = VMM_IOCTLS.iter().map(|request| Condition::IsNot(1, *request));
    vec![
        (libc::SYS_ioctl, requests.collect()),
        (libc::SYS_prctl, vec![Condition::IsNot(0, libc::PR_SET_NAME.cast_unsigned())]),
        (libc::SYS_socket, vec![Condition::IsNot(0, libc::AF_UNIX.cast_unsigned())]),
        (libc::SYS_clone, THREADS.map(|flags| Condition::IsNot(0, flags)).to_vec()),
        (libc::SYS_prlimit64, vec![Condition::IsNotZero(2)]),
        // `openat2` would take its mode from memory, where a filter does not look.
        (libc::SYS_openat, vec![Condition::Has(2, CREATING.cast_unsigned()), Condition::Has(3, SET_ID)]),
    ]
}

/// What gets `EPERM`: the harmful forms of calls that are allowed otherwise.
fn harmful() -> Vec<(i64, Vec<Condition>)> {
    use Condition::{Has, Is, IsNot, IsNotZero};
    let options = |number: &[i32]| -> Vec<u32> { number.iter().map(|number| number.cast_unsigned()).collect() };
    let none_of =
        |argument, values: Vec<u32>| values.into_iter().map(|value| IsNot(argument, value)).collect::<Vec<_>>();
    let netlink = libc::AF_NETLINK.cast_unsigned();
    let core = libc::RLIMIT_CORE;
    let mut harmful = vec![
        (libc::SYS_ioctl, none_of(1, IOCTLS.iter().map(|request| *request as u32).collect())),
        (libc::SYS_prctl, none_of(0, options(PRCTLS))),
        (libc::SYS_socket, none_of(0, options(FAMILIES))),
        (libc::SYS_socketpair, none_of(0, options(FAMILIES))),
        // Only NETLINK_ROUTE of the netlink protocols.
        (libc::SYS_socket, vec![Is(0, netlink), IsNot(2, 0)]),
        (libc::SYS_clone, vec![Has(0, NAMESPACES.iter().fold(0, |all, flag| all | flag.cast_unsigned()))]),
        (libc::SYS_fchmod, vec![Has(1, SET_ID)]),
        (libc::SYS_fchmodat, vec![Has(2, SET_ID)]),
        (libc::SYS_mknodat, vec![Has(2, SET_ID)]),
        (libc::SYS_openat, vec![Has(2, CREATING.cast_unsigned()), Has(3, SET_ID)]),
        // The limit on core dumps is 1, which no kernel takes for "pipe it to the host's handler"; 0 would be.
        (libc::SYS_setrlimit, vec![Is(0, core)]),
        (libc::SYS_prlimit64, vec![Is(1, core), IsNotZero(2)]),
    ];
    #[cfg(target_arch = "x86_64")]
    harmful.extend([
        (libc::SYS_open, vec![Has(1, CREATING.cast_unsigned()), Has(2, SET_ID)]),
        (libc::SYS_chmod, vec![Has(1, SET_ID)]),
        (libc::SYS_creat, vec![Has(1, SET_ID)]),
        (libc::SYS_mknod, vec![Has(1, SET_ID)]),
    ]);
    harmful
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    use super::*;
    use crate::bpf::machine::{self, Call, Instruction};

    /// Several filters, loaded on top of each other.
    type Theirs = [Vec<Instruction>; 3];

    fn run(filter: &Filter, call: Call) -> u32 {
        let program: Vec<_> = filter.0.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
        machine::run(&program, call)
    }

    /// The same verdicts, compiled by another hand: one filter for calls that are answered alike, the strictest answer counts.
    fn seccompilers(verdicts: &BTreeMap<u32, Verdict>) -> Theirs {
        let answers = [
            (Answer::Kill, SeccompAction::KillProcess),
            (Answer::Errno(libc::EPERM), SeccompAction::Errno(libc::EPERM as u32)),
            (Answer::Allow, SeccompAction::Allow),
        ];
        answers.map(|(answer, action)| {
            let rules = verdicts.iter().filter_map(|(call, verdict)| {
                let rules = match verdict {
                    Verdict::Unless(lists) if answer == Answer::Errno(libc::EPERM) => {
                        lists.iter().flat_map(|list| rules(list)).collect()
                    }
                    Verdict::Unless(_) if answer == Answer::Allow => Vec::new(),
                    Verdict::Always(own) if *own == answer || answer == Answer::Allow && *own != Answer::Allow => {
                        Vec::new()
                    }
                    _ => return None,
                };
                Some((i64::from(*call), rules))
            });
            let otherwise =
                if answer == Answer::Allow { SeccompAction::Errno(libc::ENOSYS as u32) } else { SeccompAction::Allow };
            let matched = if answer == Answer::Allow { SeccompAction::Allow } else { action };
            let arch = std::env::consts::ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(rules.collect(), otherwise, matched, arch).unwrap();
            let program: BpfProgram = filter.try_into().unwrap();
            program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
        })
    }

    /// A list as rules of single bits, since seccompiler knows no "one of these bits".
    fn rules(list: &[Condition]) -> Vec<SeccompRule> {
        let mut rules: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
        let dword = |argument, op, value| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, u64::from(value)).unwrap()
        };
        for condition in list {
            let choices = match *condition {
                Condition::Is(argument, value) => vec![dword(argument, SeccompCmpOp::Eq, value)],
                Condition::IsNot(argument, value) => vec![dword(argument, SeccompCmpOp::Ne, value)],
                Condition::Has(argument, bits) => (0..32)
                    .map(|bit| bits & (1 << bit))
                    .filter(|bit| *bit != 0)
                    .map(|bit| dword(argument, SeccompCmpOp::MaskedEq(u64::from(bit)), bit))
                    .collect(),
                Condition::IsNotZero(argument) => {
                    vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0).unwrap()]
                }
            };
            rules = rules
                .iter()
                .flat_map(|rule| choices.iter().map(|choice| [rule.clone(), vec![choice.clone()]].concat()))
                .collect();
        }
        rules.into_iter().map(|rule| SeccompRule::new(rule).unwrap()).collect()
    }

    /// Of several filters: kill, then errno, then allow.
    fn strictest(filters: &Theirs, call: Call) -> u32 {
        filters
            .iter()
            .map(|filter| machine::run(filter, call))
            .min_by_key(|answer| (*answer & 0xffff_0000).cast_signed())
            .unwrap()
    }

    #[test]
    fn each_call_is_answered_as_the_table_says() {
        for kind in [Kind::Service, Kind::Init, Kind::Egress] {
            let filter = Filter::new(kind);
            assert!(filter.0.len() <= 4096, "{} instructions", filter.0.len());
            let verdicts = verdicts(kind);
            for number in (0..1024).chain([u32::MAX, 0x4000_0000, 0x4000_0001]) {
                let call = Call { number, args: [0; 6] };
                let expected = match verdicts.get(&number) {
                    Some(Verdict::Always(Answer::Kill)) => libc::SECCOMP_RET_KILL_PROCESS,
                    Some(Verdict::Always(Answer::Errno(errno))) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
                    Some(Verdict::Always(Answer::Allow)) => libc::SECCOMP_RET_ALLOW,
                    Some(Verdict::Unless(_)) => continue,
                    None => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
                };
                assert_eq!(run(&filter, call), expected, "{number}");
            }
        }
    }

    #[test]
    fn another_architectures_calls_end_the_process() {
        let filter = Filter::new(Kind::Service);
        assert_eq!((filter.0[0].k, filter.0[1].jf), (4, 0));
        assert_eq!(filter.0[2].k, libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn no_request_that_types_into_a_terminal_is_allowed() {
        for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD, libc::TIOCSCTTY] {
            assert!(!IOCTLS.contains(&request));
        }
    }

    /// Values at which conditions change their mind.
    fn argument() -> impl Strategy<Value = u64> {
        let known = IOCTLS.iter().copied().chain(PRCTLS.iter().chain(FAMILIES).map(|n| u64::from(n.cast_unsigned())));
        let bits = (0..40).map(|bit| 1 << bit);
        prop_oneof![
            prop::sample::select(known.chain(bits).chain([0, 4, 0o4755, 0x42]).collect::<Vec<_>>()),
            any::<u64>(),
        ]
    }

    #[test]
    fn the_proxy_starts_threads_only_and_has_sockets_of_the_internet_only() {
        let filter = Filter::new(Kind::Egress);
        let answer =
            |number: i64, first: u64| run(&filter, Call { number: number as u32, args: [first, 0, 0, 0, 0, 0] });
        let no = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        assert_eq!(answer(libc::SYS_clone, 0x3d_0f00), libc::SECCOMP_RET_ALLOW);
        for flags in
            [libc::SIGCHLD, libc::CLONE_NEWUSER, 0x3d_0f00 | libc::CLONE_NEWNET, libc::CLONE_VFORK | libc::CLONE_VM]
        {
            assert_eq!(answer(libc::SYS_clone, flags as u64), no, "{flags:#x}");
        }
        for (family, expected) in [
            (libc::AF_INET, libc::SECCOMP_RET_ALLOW),
            (libc::AF_INET6, libc::SECCOMP_RET_ALLOW),
            (libc::AF_UNIX, no),
            (libc::AF_NETLINK, no),
            (libc::AF_PACKET, no),
            (libc::AF_VSOCK, no),
        ] {
            assert_eq!(answer(libc::SYS_socket, family as u64), expected, "{family}");
        }
        for call in
            [libc::SYS_openat, libc::SYS_execve, libc::SYS_ioctl, libc::SYS_bind, libc::SYS_listen, libc::SYS_kill]
        {
            assert_ne!(answer(call, 0), libc::SECCOMP_RET_ALLOW, "{call}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
        #[test]
        fn the_filter_answers_as_seccompilers_would(
            index in any::<prop::sample::Index>(),
            other in 0u32..600,
            args in prop::array::uniform6(argument()),
        ) {
            thread_local! {
                static BOTH: (Filter, Theirs, Vec<u32>) = {
                    let verdicts = verdicts(Kind::Service);
                    let checked = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Unless(_)));
                    let checked = checked.map(|(call, _)| *call).collect();
                    (Filter::new(Kind::Service), seccompilers(&verdicts), checked)
                };
            }
            BOTH.with(|(own, theirs, checked)| {
                for number in [checked[index.index(checked.len())], other] {
                    let call = Call { number, args };
                    assert_eq!(run(own, call), strictest(theirs, call), "{call:?}");
                }
            });
        }
    }
}
