//! Id-mapped mounts: the owner of a mounted source and the program are the same user inside, whatever their numbers on the host.
//!
//! The kernel takes the mapping from a namespace of users. One is made for each owner, by a process that lives just that long.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use crate::{
    error::{At, Error},
    root::{self, MappedOwner},
    spec::Spec,
    sys::{self, Fork},
};

/// The namespaces for all mounts of a specification that are to belong to the program.
pub(crate) fn map(spec: &Spec, user: u32) -> Result<Vec<MappedOwner>, Error> {
    let mut made: BTreeMap<(u32, u32), File> = BTreeMap::new();
    let mut mapped = Vec::new();
    for (mount, declared) in spec.mounts.iter().enumerate() {
        let meta = root::check_source(declared)?;
        if !declared.owned {
            continue;
        }
        let owner = (meta.uid(), meta.gid());
        let namespace = match made.get(&owner) {
            Some(namespace) => namespace.try_clone(),
            None => namespace(owner, user).inspect(|new| {
                new.try_clone().map(|new| made.insert(owner, new)).ok();
            }),
        };
        mapped.push(MappedOwner { mount, namespace: namespace.at("mapping the owner of a mount")? });
    }
    Ok(mapped)
}

fn namespace((uid, gid): (u32, u32), user: u32) -> io::Result<File> {
    let (ready, say) = pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = match sys::fork_into(0, None)? {
        Fork::Child => {
            drop(ready);
            if sys::unshare(libc::CLONE_NEWUSER).is_ok() {
                let _ = rustix::io::write(&say, &[1]);
            }
            drop(say);
            loop {
                // Ended by the parent; if that dies first, by this.
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                let _ = rustix::event::poll(&mut [], None);
            }
        }
        Fork::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(say);
    let file = (|| {
        let mut byte = [0];
        if rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut byte))? != 1 {
            return Err(io::Error::other("no namespace of users"));
        }
        // On the disk the owner's number, in the jail the instance's.
        fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {user} 1"))?;
        fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {user} 1"))?;
        File::open(format!("/proc/{pid}/ns/user"))
    })();
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED))?;
    file
}
