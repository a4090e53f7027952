//! What comes from the clock: asked by the rules about chance and about signatures that never end.

use crate::{
    interp::{Node, V},
    model::View,
};

/// The value holds a slot, a time or an epoch.
pub(super) fn tells_time(view: &View<'_, '_>, v: V) -> bool {
    view.run.arena.any(v, &|node| match node {
        Node::Field(inner, name) => {
            matches!(&**name, "slot" | "unix_timestamp" | "epoch" | "epoch_start_timestamp") && is_clock(view, *inner)
        }
        _ => false,
    })
}

fn is_clock(view: &View<'_, '_>, v: V) -> bool {
    match view.node(view.strip(v)) {
        Node::State(_, ty) => &**ty == "Clock",
        Node::Path(path) => path.iter().any(|part| &**part == "Clock"),
        Node::Call(name, _) => name.starts_with("Clock::"),
        _ => false,
    }
}
