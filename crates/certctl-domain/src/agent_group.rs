//! Agent groups: agents that are named, and agents that are like something.

use crate::{id::AgentGroupId, network::Network, time::Timestamp};

/// A group of agents (model §3.7).
///
/// Its members are those that were included, and those that meet every criterion that is set, less those that were excluded.
/// Without any criterion nobody is a member by being like something, and neither in a group that is not enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentGroup {
    /// The id.
    pub id: AgentGroupId,
    /// The name, unique.
    pub name: String,
    /// What the group is for; may be empty.
    pub description: String,
    /// The operating system, in any case; empty for any.
    pub match_os: String,
    /// The architecture, in any case; empty for any.
    pub match_architecture: String,
    /// The network the address lies in; empty for any.
    pub match_ip_cidr: String,
    /// The version of the program, exactly; empty for any.
    pub match_version: String,
    /// Whether the criteria count.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl AgentGroup {
    /// Whether the criteria count and there is one.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        let criteria = [
            &self.match_os,
            &self.match_architecture,
            &self.match_ip_cidr,
            &self.match_version,
        ];
        self.enabled && criteria.iter().any(|criterion| !criterion.is_empty())
    }

    /// Whether an agent at this address meets the criterion of the network; what is no address lies nowhere, and so does every
    /// address where a row of others holds no network.
    #[must_use]
    pub fn holds_address(&self, address: &str) -> bool {
        self.match_ip_cidr.is_empty()
            || self.network().is_some_and(|network| {
                address
                    .parse()
                    .is_ok_and(|address| network.contains(address))
            })
    }

    fn network(&self) -> Option<Network> {
        self.match_ip_cidr.parse().ok()
    }
}
