//! Flows that nobody has answered yet: so many, and no more.
//!
//! An LRU table gives up what was quiet for longest, whatever it is: a flood of SYNs from made-up addresses would throw
//! out the connections that stand idle, and of a busy one the half that happens to be older, whose answers then end at
//! the host with a RST. So each flow takes a place in a ring when it is opened, and whoever is still without an answer
//! when its place is needed again makes room: netfilter's early drop, with a quarter of the table for those that wait.
//! While fewer are opened within the time of a handshake than there are places, nobody's flow goes.

use crate::{
    abi::{Config, Flow, Stat, state},
    datapath::{
        conntrack::{self, Entries},
        family::Family,
    },
    io::Tables,
    wire::proto,
};

/// Gives a flow that has just been opened its place, and ends the one that it had been, if it is still half open.
#[inline(always)]
pub fn enter<A: Family, T: Tables<A>>(tables: &T, config: &Config, entries: &mut Entries<A>) {
    let places = config.half_open[usize::from(A::BITS != 32)];
    if places == 0 || !tables.remember_opened(&entries.key, places, &mut entries.peer) {
        return;
    }
    let former = &entries.peer;
    // It may have been opened anew meanwhile: as what has just been entered, too.
    if *former == entries.key
        || !tables.copy_flow(former, &mut entries.held)
        || !is_half_open(former.proto, &entries.held)
    {
        return;
    }
    entries.reply_key = conntrack::rewritten(former, &entries.held).reversed();
    tables.remove_flow(former);
    tables.remove_flow(&entries.reply_key);
    tables.count(Stat::EarlyDrops);
}

/// Whether an entry of the opening direction's waits for an answer; of TCP, for the end of the handshake, which a client
/// with a made-up address never comes to.
#[inline(always)]
fn is_half_open<A>(proto: u8, flow: &Flow<A>) -> bool {
    let answered = if proto == proto::TCP { state::ESTABLISHED } else { state::REPLIED };
    flow.state & (answered | state::IS_REPLY) == 0
}
