//! Many links deleted at once, in half of the time: the kernel still waits for the packets of each that has programs,
//! but once and not each time for what it does besides.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};

use super::{
    super::error::{Outcome, Result},
    Netlink,
    links::numbered,
};

/// Below this, one after the other is as fast.
const FEW: usize = 4;
/// Numbers that people and their tools give to groups by hand are smaller.
const OUT_OF_THE_WAY: u32 = 1 << 20;

impl Netlink {
    /// Deletes links, and with each veth its other end; returns how many were there.
    ///
    /// They are made a group of their own, which the kernel deletes as one (`IFLA_GROUP` of `RTM_DELLINK`, since
    /// Linux 4.1). The group's number is drawn by lot among those that no link of the namespace has.
    pub async fn delete_links(&self, indices: &[u32]) -> Result<usize> {
        let mut deleted = 0;
        if indices.len() < FEW {
            for index in indices {
                deleted += usize::from(self.delete_link(*index).await? == Outcome::Done);
            }
            return Ok(deleted);
        }
        let group = self.free_group().await?;
        for index in indices {
            match self
                .execute("prepare for deletion", &numbered(*index), member(*index, group), 0)
                .await
            {
                Ok(()) => deleted += 1,
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let message = RouteNetlinkMessage::DelLink(message);
        match self.execute("delete", &format!("{deleted} links"), message, 0).await {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(deleted),
        }
    }

    async fn free_group(&self) -> Result<u32> {
        let links = self.links().await?;
        loop {
            let group = rand::random_range(OUT_OF_THE_WAY..=u32::MAX / 2);
            if links.iter().all(|link| link.group != group) {
                return Ok(group);
            }
        }
    }
}

fn member(index: u32, group: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Group(group));
    RouteNetlinkMessage::SetLink(message)
}
