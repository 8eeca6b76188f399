//! Networks that are configurations only: made, judged, and lent to others. The texts are Docker's.

use super::{Facts, NetworkSpec, Outcome, Rejected, new_id, subnet};
use crate::model::{ConfigNetwork, Desired, NetworkName};

const OPERATORS: &str = "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.";
const CHAINED: &str = "a configuration network cannot depend on another configuration network";
const BOTH: &str = "user specified configurations are not supported if the network depends on a configuration network";

/// Makes a network that is a configuration only.
pub(super) fn create(
    desired: &mut Desired,
    name: NetworkName,
    spec: &NetworkSpec,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    if spec.internal || spec.attachable || spec.scope_given {
        return Err(Rejected::forbidden(OPERATORS));
    }
    if spec.config_from.is_some() {
        return Err(Rejected::forbidden(CHAINED));
    }
    // What makes no sense here makes none in the networks that are made from it.
    let options = super::options(spec)?;
    subnet::check(spec, &options)?;
    let id = new_id(desired, facts);
    let config = ConfigNetwork {
        id,
        name,
        created: facts.now,
        subnets: spec.subnets.clone(),
        without_ipv4: spec.without_ipv4,
        ipv6: spec.ipv6,
        options: spec.options.clone(),
        labels: spec.labels.clone(),
        ipam_options: spec.ipam_options.clone(),
    };
    desired.configs.insert(id, config);
    Ok(Outcome::Network(id, Vec::new()))
}

/// Returns the wishes for a network with the configuration that it names.
pub(super) fn applied(
    desired: &Desired,
    spec: &NetworkSpec,
    from: &str,
) -> Result<NetworkSpec, Rejected> {
    let own = spec.without_ipv4
        || spec.ipv6 == Some(true)
        || !(spec.subnets.is_empty()
            && spec.labels.is_empty()
            && spec.options.is_empty()
            && spec.ipam_options.is_empty());
    if own {
        return Err(Rejected::forbidden(BOTH));
    }
    let found = desired.configs.values().find(|config| config.name.as_str() == from);
    let config = found.ok_or_else(|| Rejected::no_config(from))?;
    Ok(NetworkSpec {
        subnets: config.subnets.clone(),
        without_ipv4: config.without_ipv4,
        ipv6: config.ipv6,
        options: config.options.clone(),
        labels: config.labels.clone(),
        ipam_options: config.ipam_options.clone(),
        ..spec.clone()
    })
}

/// Removes one that no network depends on.
pub(super) fn remove(desired: &mut Desired, config: &ConfigNetwork) -> Result<Outcome, Rejected> {
    let name = &config.name;
    if desired.networks.values().any(|network| network.config_from.as_ref() == Some(name)) {
        return Err(Rejected::forbidden(format!("configuration network \"{name}\" is in use")));
    }
    desired.configs.remove(&config.id);
    Ok(Outcome::Network(config.id, Vec::new()))
}
