//! Descriptors that travel in messages of unix sockets: `SCM_RIGHTS`.

use alloc::{rc::Rc, vec::Vec};

use crate::{
    errno::{EINVAL, Errno},
    fs::{Open, table},
    net::socket::Socket,
    user,
};

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const MSG_CTRUNC: u32 = 8;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
/// Bytes of `struct cmsghdr`.
const HEAD: u64 = 16;
/// Descriptors in one message, and bytes of all control data.
const MOST: u64 = 253;
const MOST_CONTROL: u64 = 20480;

/// The open files that a message's control data names.
pub fn read(at: u64, len: u64) -> Result<Vec<Rc<Open>>, Errno> {
    let mut all = Vec::new();
    if at == 0 || len == 0 {
        return Ok(all);
    }
    if len > MOST_CONTROL {
        return Err(crate::errno::ENOBUFS);
    }
    let mut done = 0;
    while done + HEAD <= len {
        let size: u64 = user::read(at + done)?;
        let [level, kind]: [u32; 2] = user::read(at + done + 8)?;
        if size < HEAD || size > len - done {
            return Err(EINVAL);
        }
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS) {
            for n in 0..(size - HEAD) / 4 {
                let fd: u32 = user::read(at + done + HEAD + n * 4)?;
                all.push(table::get(fd.into())?);
            }
        }
        done += size.next_multiple_of(8);
    }
    if all.len() as u64 > MOST { Err(EINVAL) } else { Ok(all) }
}

/// Gives the receiver what came with the bytes that it has just read: the length of control data, and the message's flags.
pub fn write(socket: &Socket, at: u64, len: u64, flags: u64) -> Result<(u64, u32), Errno> {
    let all = socket.take_rights();
    if all.is_empty() {
        return Ok((0, 0));
    }
    let room = if at == 0 { 0 } else { len.saturating_sub(HEAD) / 4 };
    let mut given = 0;
    for open in all.iter().take(room as usize) {
        let Ok(fd) = table::add(Rc::clone(open), flags & MSG_CMSG_CLOEXEC != 0) else { break };
        user::write(at + HEAD + given * 4, fd as u32)?;
        given += 1;
    }
    let cut = if given < all.len() as u64 { MSG_CTRUNC } else { 0 };
    if given == 0 {
        return Ok((0, cut));
    }
    user::write(at, HEAD + given * 4)?;
    user::write(at + 8, [SOL_SOCKET, SCM_RIGHTS])?;
    Ok(((HEAD + given * 4).next_multiple_of(8).min(len), cut))
}
