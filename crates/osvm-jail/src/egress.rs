//! The egress proxy. (Written below.)
use crate::{error::Error, spec::HostPort};
use std::os::fd::OwnedFd;
pub(crate) struct Proxy;
impl Proxy {
    pub(crate) fn into_channel(self) -> OwnedFd {
        crate::sys::exit_now(1)
    }
}
pub(crate) fn start(allow: &[HostPort]) -> Result<Option<Proxy>, Error> {
    if allow.is_empty() {
        return Ok(None);
    }
    Err(Error::Unavailable { what: "no egress yet".to_owned(), help: String::new() })
}
pub(crate) fn offer(_: &OwnedFd) -> Result<(), Error> {
    Ok(())
}
