//! Linux error numbers, as far as the library OS gives them.

/// An error number; positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call answers: a number, or an error.
pub type Answer = Result<u64, Errno>;

macro_rules! errnos {
    ($($name:ident $number:literal)*) => { $(#[allow(missing_docs, dead_code)] pub const $name: Errno = Errno($number);)* };
}

errnos! {
    EPERM 1 ENOENT 2 ESRCH 3 EINTR 4 EIO 5 ENXIO 6 E2BIG 7 ENOEXEC 8 EBADF 9 ECHILD 10 EAGAIN 11 ENOMEM 12 EACCES 13 EFAULT 14
    EEXIST 17 EXDEV 18 ENODEV 19 ENOTDIR 20 EISDIR 21 EINVAL 22 ENFILE 23 EMFILE 24 ENOTTY 25 EFBIG 27 ENOSPC 28 ESPIPE 29
    EROFS 30 EMLINK 31 EPIPE 32 ERANGE 34 ENAMETOOLONG 36 ENOSYS 38 ENOTEMPTY 39 ELOOP 40 ENOTSOCK 88 EDESTADDRREQ 89
    EPROTONOSUPPORT 93 EOPNOTSUPP 95 EAFNOSUPPORT 97 EADDRINUSE 98 EADDRNOTAVAIL 99 ENETUNREACH 101 ECONNRESET 104 ENOBUFS 105
    EISCONN 106 ENOTCONN 107 ETIMEDOUT 110 ECONNREFUSED 111 EINPROGRESS 115
    ERESTART 512
}
