//! What is different between two configurations, and what of it takes effect while the agent runs.

use super::Config;
use crate::model::NameSettings;

/// A setting that is another one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The setting, as its flag is called.
    pub key: &'static str,
    /// Whether it takes effect while the agent runs.
    pub at_once: bool,
}

impl Config {
    /// Returns what a new configuration would change.
    pub fn changes(&self, new: &Self) -> Vec<Changed> {
        // Named one by one, so that no setting can be forgotten here.
        let Self {
            state_dir,
            run_dir,
            bpffs,
            cgroup,
            docker_socket,
            docker_config,
            docker_plugin,
            metrics_listen,
            metrics_compat,
            ui,
            flow_log,
            max_connections,
            rcu_expedited,
            uplinks,
            bridge,
            fixed_cidr,
            icc,
            ip,
            mtu,
            names: NameSettings { resolver, default_bridge, ttl, resolv_conf, host_gateway },
            ip_forward,
            ipv6,
            ip_masq,
            allow_direct_routing,
            accept_mark,
            dns_listen,
            pools,
            publish_range,
            log_format,
            log_level,
        } = self;
        let all = [
            ("state-dir", *state_dir != new.state_dir, false),
            ("run-dir", *run_dir != new.run_dir, false),
            ("bpffs", *bpffs != new.bpffs, false),
            ("cgroup", *cgroup != new.cgroup, false),
            ("docker-socket", *docker_socket != new.docker_socket, false),
            ("docker-config", *docker_config != new.docker_config, false),
            ("docker-plugin", *docker_plugin != new.docker_plugin, false),
            ("metrics-listen", *metrics_listen != new.metrics_listen, false),
            ("ui", *ui != new.ui, false),
            ("flow-log", *flow_log != new.flow_log, false),
            ("metrics-compat", *metrics_compat != new.metrics_compat, false),
            ("max-connections", *max_connections != new.max_connections, false),
            ("rcu-expedited", *rcu_expedited != new.rcu_expedited, false),
            ("uplink", *uplinks != new.uplinks, false),
            ("bridge or bip", *bridge != new.bridge, false),
            ("fixed-cidr", *fixed_cidr != new.fixed_cidr, false),
            ("icc", *icc != new.icc, false),
            ("ip", *ip != new.ip, false),
            ("mtu", *mtu != new.mtu, false),
            ("dns", resolver.servers != new.names.resolver.servers, true),
            ("dns-search", resolver.search != new.names.resolver.search, true),
            ("dns-option", resolver.options != new.names.resolver.options, true),
            ("dns-ttl", *ttl != new.names.ttl, true),
            ("default-bridge-dns", *default_bridge != new.names.default_bridge, true),
            ("resolv-conf", *resolv_conf != new.names.resolv_conf, true),
            ("host-gateway-ip", *host_gateway != new.names.host_gateway, true),
            ("ip-forward", *ip_forward != new.ip_forward, false),
            ("ipv6 or fixed-cidr-v6", *ipv6 != new.ipv6, false),
            ("ip-masq", *ip_masq != new.ip_masq, false),
            ("allow-direct-routing", *allow_direct_routing != new.allow_direct_routing, false),
            ("bridge-accept-fwmark", *accept_mark != new.accept_mark, false),
            ("dns-listen", *dns_listen != new.dns_listen, false),
            ("default-address-pool or ipam", *pools != new.pools, false),
            ("publish-range", *publish_range != new.publish_range, false),
            ("log-format", *log_format != new.log_format, false),
            ("log-level", *log_level != new.log_level, true),
        ];
        let changed = all.into_iter().filter(|(_, differs, _)| *differs);
        changed.map(|(key, _, at_once)| Changed { key, at_once }).collect()
    }
}
