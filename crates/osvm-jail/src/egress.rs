//! The egress proxy is not built yet: a specification that allows a destination is refused, never run without what it asks for.

use crate::{error::Error, spec::HostPort};

/// Refuses every destination.
pub(crate) fn check(allow: &[HostPort]) -> Result<(), Error> {
    if allow.is_empty() {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: "this version has no egress proxy, so no destination can be allowed".to_owned(),
        help: "leave out --allow: the program then has no network".to_owned(),
    })
}
