//! stub
use std::time::{Duration, Instant};
use osvm_model::handover::{HandedOver, Role};
use crate::{Error, Link, writer::Writer};

pub(crate) struct Peer {}
pub(crate) enum PeerEvent {}
impl Peer {
    pub(crate) fn close(&self) {}
}
impl Writer {
    pub(crate) fn attach(&mut self, link: Link) {
        (link.close)();
    }
    pub(crate) fn peer_event(&mut self, _event: PeerEvent) {}
    pub(crate) fn ship(&mut self, _frames: Vec<u8>, _seq: u64) {}
    pub(crate) fn hand_over(&mut self, _asked: Instant, _timeout: Duration) -> Result<HandedOver, Error> {
        Err(Error::NotInSync)
    }
    pub(crate) fn lead(&mut self) -> Result<(), Error> {
        if self.role == Role::Leader {
            return Ok(());
        }
        Err(Error::Incomplete)
    }
}
