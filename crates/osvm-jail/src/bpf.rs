//! Compiles an answer for each system call into one filter: a binary search over the calls' numbers.
//!
//! Why not a chain of comparisons, as filter libraries make it: the kernel runs a new filter once for each call that there is to build its
//! bitmap, and again at each call that is not in it. A search takes nine comparisons where a chain takes hundreds. (The tests hold
//! the result against seccompiler's.)

use std::collections::BTreeMap;

/// One instruction, as the kernel has it.
pub(crate) type Program = Vec<libc::sock_filter>;

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    Errno(i32),
    /// `SIGSYS` for the process.
    Kill,
}

/// A condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The low 32 bits, which is all that the kernel reads of an `int`.
    Is(u8, u32),
    /// The low 32 bits are another value.
    IsNot(u8, u32),
    /// One of these of the low 32 bits is set.
    Has(u8, u32),
    /// All 64 bits.
    IsNotZero(u8),
}

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Always(Answer),
    /// `EPERM` if all conditions of one of these lists hold, else allowed.
    Unless(Vec<Vec<Condition>>),
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Offsets in `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The filter for these verdicts, with one answer for all other calls. Calls of another architecture end the process.
pub(crate) fn compile(verdicts: &BTreeMap<u32, Verdict>, otherwise: Answer) -> Program {
    let otherwise = Verdict::Always(otherwise);
    // Where each run of numbers with the same verdict begins.
    let mut runs: Vec<(u32, &Verdict)> = vec![(0, &otherwise)];
    let mut begin = |number, verdict| match runs.last_mut() {
        Some((_, last)) if *last == verdict => {}
        Some((start, last)) if *start == number => *last = verdict,
        _ => runs.push((number, verdict)),
    };
    for (number, verdict) in verdicts {
        begin(*number, verdict);
        if !verdicts.contains_key(&(number + 1)) {
            begin(number + 1, &otherwise);
        }
    }
    let mut program =
        vec![plain(LOAD, ARCHITECTURE), branch(EQUAL, ARCH, 1, 0), answer(Answer::Kill), plain(LOAD, NUMBER)];
    program.extend(search(&runs));
    program
}

fn search(runs: &[(u32, &Verdict)]) -> Program {
    match runs {
        [] => Program::new(),
        [(_, Verdict::Always(always))] => vec![answer(*always)],
        [(_, Verdict::Unless(lists))] => check(lists),
        _ => {
            let (left, right) = runs.split_at(runs.len() / 2);
            let (start, (left, right)) = (right[0].0, (search(left), search(right)));
            let mut program = match u8::try_from(left.len()) {
                Ok(over) => vec![branch(AT_LEAST, start, over, 0)],
                // A branch reaches 255 instructions, a jump reaches all.
                Err(_) => vec![branch(AT_LEAST, start, 0, 1), plain(JUMP, left.len() as u32)],
            };
            program.extend(left);
            program.extend(right);
            program
        }
    }
}

fn check(lists: &[Vec<Condition>]) -> Program {
    let mut program = Program::new();
    for list in lists {
        // From the back, since a condition that does not hold leaves over the rest of its list.
        let mut rest = vec![answer(Answer::Errno(libc::EPERM))];
        for (index, condition) in list.iter().enumerate().rev() {
            let over = u8::try_from(rest.len()).unwrap_or(u8::MAX);
            // The argument is loaded already if the condition before was on the same one, and left it there.
            let loaded = index > 0 && low(list[index - 1]).is_some_and(|argument| low(*condition) == Some(argument));
            let (argument, test) = match *condition {
                Condition::Is(argument, value) => (argument, vec![branch(EQUAL, value, 0, over)]),
                Condition::IsNot(argument, value) => (argument, vec![branch(EQUAL, value, over, 0)]),
                Condition::Has(argument, bits) => (argument, vec![branch(ANY_BIT, bits, 0, over)]),
                Condition::IsNotZero(argument) => {
                    let high = plain(LOAD, ARGUMENTS + 8 * u32::from(argument) + 4);
                    (argument, vec![branch(EQUAL, 0, 0, 2), high, branch(EQUAL, 0, over, 0)])
                }
            };
            let load = (!loaded).then(|| plain(LOAD, ARGUMENTS + 8 * u32::from(argument)));
            rest = load.into_iter().chain(test).chain(rest).collect();
        }
        program.extend(rest);
    }
    program.push(answer(Answer::Allow));
    program
}

/// The argument of which a condition leaves the low half loaded.
fn low(condition: Condition) -> Option<u8> {
    match condition {
        Condition::Is(argument, _) | Condition::IsNot(argument, _) | Condition::Has(argument, _) => Some(argument),
        Condition::IsNotZero(_) => None,
    }
}

fn answer(answer: Answer) -> libc::sock_filter {
    plain(
        RETURN,
        match answer {
            Answer::Allow => libc::SECCOMP_RET_ALLOW,
            Answer::Errno(number) => libc::SECCOMP_RET_ERRNO | number.cast_unsigned(),
            Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        },
    )
}

fn plain(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn branch(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// What the kernel would answer: the few instructions that filters here, and seccompiler's, consist of.
#[cfg(test)]
pub(crate) mod machine {
    use super::{ARCH, NUMBER};

    /// A call with its arguments.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Call {
        pub(crate) number: u32,
        pub(crate) args: [u64; 6],
    }

    /// Code, where to if it holds, where to if not, value.
    pub(crate) type Instruction = (u16, u8, u8, u32);

    pub(crate) fn run(program: &[Instruction], call: Call) -> u32 {
        let word = |offset: u32| match offset {
            NUMBER => call.number,
            super::ARCHITECTURE => ARCH,
            _ => {
                let argument = call.args[(offset - super::ARGUMENTS) as usize / 8];
                (argument >> (8 * (offset % 8))) as u32
            }
        };
        let (mut at, mut a) = (0, 0u32);
        loop {
            let (code, jt, jf, k) = program[at];
            at += 1;
            let to = |holds: bool| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                super::LOAD => a = word(k),
                super::RETURN => return k,
                super::JUMP => at += k as usize,
                super::EQUAL => at += to(a == k),
                super::AT_LEAST => at += to(a >= k),
                super::ANY_BIT => at += to(a & k != 0),
                // `and #k` and `jgt`, which seccompiler makes.
                0x54 => a &= k,
                0x25 => at += to(a > k),
                other => panic!("instruction {other:#x}"),
            }
        }
    }
}
