//! What a handler does, each with the facts that hold whenever it counts.

use super::value::{Fact, V};
use crate::{
    Span,
    syntax::{BinOp, Name},
};

/// A change of an account's lamports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lamports {
    Zeroed,
    Debited,
    Credited,
    Set,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Bytes of an account become a type. `how` is the function's name.
    Deserialize {
        account: u32,
        ty: Name,
        how: Name,
    },
    /// Bytes of an account are borrowed or read.
    ReadData {
        account: u32,
    },
    /// Bytes of an account are written.
    WriteData {
        account: u32,
        value: Option<V>,
    },
    /// A field of an account's typed content is assigned.
    WriteField {
        account: u32,
        ty: Name,
        field: Name,
        place: V,
        value: V,
    },
    Lamports {
        account: u32,
        change: Lamports,
    },
    /// An account is closed by a framework's means.
    Close {
        account: u32,
        to: Option<V>,
    },
    Assign {
        account: u32,
    },
    Realloc {
        account: u32,
        /// The new length.
        size: Option<V>,
    },
    /// `unwrap` or `expect` of what a call gave.
    Unwrap {
        /// What was called.
        name: Name,
        on: V,
    },
    /// A call of another program. `program` is its address or account, if the call does not fix it.
    Cpi {
        name: Name,
        program: Option<V>,
        parts: Vec<(Name, V)>,
        data: Vec<V>,
        seeds: Option<V>,
    },
    Arith {
        op: BinOp,
        left: V,
        right: V,
        assigned: bool,
    },
    Cast {
        from: V,
        to: Name,
    },
    /// `create_program_address` with this bump.
    DeriveWithBump {
        pda: V,
        bump: Option<V>,
    },
    /// A field of an account's content, or its key, is logged or passed on.
    Use {
        value: V,
    },
    Compare {
        left: V,
        right: V,
    },
    /// A result that nobody looks at.
    Ignored {
        name: Name,
        cpi: bool,
    },
    Loop {
        over: V,
    },
    /// A call that could not be followed.
    Unfollowed {
        name: Name,
        args: Vec<V>,
    },
}

/// A look at an account's typed content.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) account: u32,
    /// None: the content is loaded again.
    pub(crate) field: Option<Name>,
    pub(crate) file: usize,
    pub(crate) span: Span,
    pub(crate) group: u32,
    /// Events before it.
    pub(crate) after: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) action: Action,
    pub(crate) file: usize,
    pub(crate) span: Span,
    /// What holds on every path on which this happens and the handler succeeds.
    pub(crate) facts: Vec<Fact>,
    pub(crate) group: u32,
    /// The path has returned; later facts are none of this event's.
    pub(super) sealed: bool,
}
