//! The part of Rust's syntax that the auditor needs, without syn's lifetimes and thread bounds.
//!
//! A lowered file is small, can be sent between threads and kept. Not here: what an expression means.

mod attr;
mod expr;
mod item;
mod parse;
mod pat;
mod shape;
mod walk;

use std::sync::Arc;

pub(crate) use attr::{AccountAttr, Constraint};
pub(crate) use parse::parse;
pub(crate) use walk::expressions;

use crate::Span;

/// An identifier.
pub(crate) type Name = Arc<str>;

/// A type by its last path segment; references are dropped. `[]` is a slice or an array, `()` a tuple.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ty {
    pub(crate) name: Name,
    /// The path before the name.
    pub(crate) path: Vec<Name>,
    pub(crate) args: Vec<Ty>,
    /// Behind `&mut`.
    pub(crate) by_mut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lit {
    Int(u128, Name),
    Bool(bool),
    Float,
    Str(Name),
    Bytes(Vec<u8>),
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Bit,
    Shift,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Expr {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Kind {
    Path(Vec<Name>, Vec<Ty>),
    Lit(Lit),
    Field(Box<Expr>, Name),
    Index(Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Expr>),
    Method(Box<Expr>, Name, Vec<Ty>, Vec<Expr>),
    Macro(Name, Vec<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Deref(Box<Expr>),
    Ref(Box<Expr>),
    Binary(BinOp, Box<Expr>, Box<Expr>),
    Assign(Box<Expr>, Box<Expr>),
    AssignOp(BinOp, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Block, Option<Box<Expr>>),
    Match(Box<Expr>, Vec<Arm>),
    Let(Box<Pat>, Box<Expr>),
    Block(Block),
    Unsafe(Block),
    /// A loop that runs any number of times, under a condition if it has one.
    While(Option<Box<Expr>>, Block),
    For(Box<Pat>, Box<Expr>, Block),
    Return(Option<Box<Expr>>),
    Break,
    Continue,
    Try(Box<Expr>),
    Tuple(Vec<Expr>),
    Array(Vec<Expr>),
    Repeat(Box<Expr>, Box<Expr>),
    Range(Option<Box<Expr>>, Option<Box<Expr>>),
    Struct(Vec<Name>, Vec<(Name, Expr)>, Option<Box<Expr>>),
    Closure(Vec<Pat>, Box<Expr>),
    Cast(Box<Expr>, Ty),
    /// What has no bearing on the analysis, or is too deep.
    Other,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Arm {
    pub(crate) pat: Pat,
    pub(crate) guard: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Pat {
    Bind(Name, Span, Option<Box<Pat>>),
    Wild,
    Rest,
    Tuple(Vec<Pat>),
    Slice(Vec<Pat>),
    TupleStruct(Vec<Name>, Vec<Pat>),
    Struct(Vec<Name>, Vec<(Name, Pat)>),
    Path(Vec<Name>),
    Lit(Lit),
    Or(Vec<Pat>),
}

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Block {
    pub(crate) stmts: Vec<Stmt>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Stmt {
    Let {
        pat: Pat,
        ty: Option<Ty>,
        init: Option<Expr>,
        otherwise: Option<Block>,
    },
    /// An expression, and whether a semicolon follows.
    Expr(Expr, bool),
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Field {
    pub(crate) name: Name,
    pub(crate) ty: Ty,
    pub(crate) span: Span,
    /// Where the field begins, behind its attributes.
    pub(crate) start: Span,
    pub(crate) account: AccountAttr,
    /// A `/// CHECK:` comment stands above it.
    pub(crate) check_doc: bool,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Struct {
    /// What tells it from another one, its place included.
    pub(crate) print: u64,
    pub(crate) name: Name,
    pub(crate) fields: Vec<Field>,
    pub(crate) derives: Vec<Name>,
    /// Names of the attributes, as `account` or `zero_copy`.
    pub(crate) attrs: Vec<Name>,
    /// Arguments of `#[instruction(..)]`.
    pub(crate) instruction: Vec<(Name, Ty)>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Enum {
    /// What tells it from another one, its place included.
    pub(crate) print: u64,
    pub(crate) name: Name,
    /// Each variant with the types of its fields.
    pub(crate) variants: Vec<(Name, Vec<(Name, Ty)>)>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Function {
    /// What tells it from another one, its place included.
    pub(crate) print: u64,
    pub(crate) name: Name,
    /// Modules inside the file.
    pub(crate) module: Vec<Name>,
    pub(crate) self_ty: Option<Ty>,
    pub(crate) trait_: Option<Ty>,
    /// `self`, `&self` or `&mut self` comes first.
    pub(crate) takes_self: bool,
    pub(crate) params: Vec<(Pat, Ty)>,
    pub(crate) ret: Option<Ty>,
    pub(crate) body: Block,
    /// Directly in a module marked `#[program]`.
    pub(crate) in_program: bool,
    pub(crate) span: Span,
}

/// A constant or static with the expression that makes it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Const {
    /// What tells it from another one, its place included.
    pub(crate) print: u64,
    pub(crate) name: Name,
    pub(crate) value: Expr,
}

/// What a file declares, its inline modules flattened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    pub(crate) functions: Vec<Function>,
    pub(crate) structs: Vec<Struct>,
    pub(crate) enums: Vec<Enum>,
    pub(crate) consts: Vec<Const>,
    /// `use a::b as c`: the last name and the whole path.
    pub(crate) uses: Vec<(Name, Vec<Name>)>,
    /// Types with an impl of a trait: (trait, type).
    pub(crate) impls: Vec<(Name, Name)>,
    /// Item macros at module level, by name.
    pub(crate) macros: Vec<Name>,
    /// Spans of unsafe blocks.
    pub(crate) unsafe_blocks: Vec<Span>,
    /// Where something was too deep to be lowered.
    pub(crate) truncated: Option<u32>,
}
