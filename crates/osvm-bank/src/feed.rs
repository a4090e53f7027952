//! How a standby gets all there is, on a thread of its own while the leader goes on: history from the log's files, the accounts of the
//! finalized slot, then the entries after it, until the writer's thread can take over.

use std::{io, sync::Arc, time::Duration};

use crate::{
    Commitment,
    message::{Message, VERSION},
    outbox::{Acks, Outbox},
    segments::Cursor,
    shared::Shared,
    snapshot::{self, Head},
    store::SHARDS,
};

/// How long one message may take to find room. A standby that stands still for so long is given up.
const STALL: Duration = Duration::from_secs(30);
/// Entries that the writer's thread may be left to send.
const LAG: u64 = 2_000;

/// Sends everything. Returns where the writer's thread goes on.
pub(crate) fn feed(shared: &Arc<Shared>, outbox: &Outbox, acks: &Acks) -> io::Result<Cursor> {
    let push = |message: Message| {
        if outbox.push(message.encode(), STALL) { Ok(()) } else { Err(io::Error::other("the standby does not read")) }
    };
    let pin = shared.pin(Commitment::Finalized);
    let (head, mut cursor) = {
        let state = shared.state.read();
        let (Some(info), Some(block), Some(seq)) =
            (state.info.as_ref(), state.history.block(pin.slot), state.history.block_seq(pin.slot))
        else {
            return Err(io::Error::other("there is no state to send"));
        };
        (Head { info: info.as_ref().clone(), block: block.clone(), seq }, state.files.cursor()?)
    };
    let snapshot_seq = head.seq;
    push(Message::Hello { version: VERSION, head: Box::new(head) })?;
    let files = shared.state.read().files.clone();
    while let Some(frames) = cursor.read(&files, snapshot_seq)? {
        push(Message::History(frames))?;
    }
    let mut count = 0;
    for part in 0..SHARDS {
        let accounts = shared.state.read().store.shard_at(part, pin.slot);
        count += accounts.len() as u64;
        for piece in snapshot::encode_accounts(&accounts) {
            push(Message::Accounts(piece))?;
        }
    }
    push(Message::SnapshotEnd(count))?;
    drop(pin);
    loop {
        let (files, end) = {
            let state = shared.state.read();
            (state.files.clone(), state.seq)
        };
        while let Some(frames) = cursor.read(&files, end)? {
            push(Message::Entries(frames))?;
        }
        if !acks.wait_entry(end.max(snapshot_seq), STALL) {
            return Err(io::Error::other("the standby does not acknowledge"));
        }
        if shared.state.read().seq - end <= LAG {
            return Ok(cursor);
        }
    }
}
