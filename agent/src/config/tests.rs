//! What is understood of flags and files, and what is refused.

use super::*;

fn with_file(text: &str, given: Given) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bascule.toml");
    std::fs::write(&path, text).unwrap();
    Config::resolve(Given { config: Some(path), ..given }).map_err(|e| e.to_string())
}

#[test]
fn flags_come_before_the_file_and_the_file_before_defaults() {
    let given = Given { run_dir: Some("/a".into()), ..Given::default() };
    let config =
        with_file("run_dir = \"/b\"\nstate_dir = \"/c\"\nuplink = [\"eth*\"]", given).unwrap();
    assert_eq!((config.run_dir, config.state_dir), ("/a".into(), "/c".into()));
    assert_eq!(config.bpffs, PathBuf::from(BPFFS));
    assert_eq!(config.uplinks, ["eth*"]);
}

#[test]
fn a_bad_file_is_named_with_line_and_key() {
    for (text, parts) in [
        ("\nrun_dir = 5\n", ["bascule.toml:2", "run_dir"]),
        ("a = 1", ["bascule.toml:1", "`a`"]),
        ("metrics_listen = \"x\"", ["bascule.toml:1", "metrics_listen"]),
        ("x", ["bascule.toml:1", "x"]),
    ] {
        let error = with_file(text, Given::default()).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let missing = Given { config: Some("/nonexistent/x.toml".into()), ..Given::default() };
    assert!(Config::resolve(missing).unwrap_err().to_string().contains("/nonexistent/x.toml"));
}

#[test]
fn moby_ipam_032_ipv6_of_the_default_network_makes_sense() {
    let ipv6 = |wanted, subnet: &str| {
        let given = Given { ipv6: wanted, fixed_cidr_v6: Some(subnet.into()), ..Given::default() };
        with_file("", given).map(|config| config.ipv6)
    };
    assert_eq!(ipv6(None, ""), Ok(Ipv6::Off), "S165");
    assert_eq!(ipv6(Some(true), ""), Ok(Ipv6::Automatic));
    let subnet = "2001:db8:1::/64";
    assert_eq!(ipv6(None, subnet), Ok(Ipv6::Fixed(subnet.parse().unwrap())), "S169");
    for (bad, why) in [
        ("fe80::/63", "clashes with the Link-Local prefix 'fe80::/64'"),
        ("ff05::/64", "multicast"),
        ("10.3.4.5/24", "not a valid IPv6 subnet"),
        ("2001:db8::1/64", "subnet is needed"),
    ] {
        let error = ipv6(None, bad).unwrap_err();
        assert!(error.contains(why) && error.contains(bad), "{error}");
    }
    for good in ["fe80::/64", "fe80:1236::/64", "fd00:1235::/64"] {
        assert!(ipv6(None, good).is_ok(), "{good}");
    }
}

#[test]
fn moby_api_025_moby_inc_012_a_mark_is_read_as_docker_reads_it() {
    let mark = |text: &str| {
        let given = Given { bridge_accept_fwmark: Some(text.into()), ..Given::default() };
        with_file("", given).map(|config| config.accept_mark)
    };
    assert_eq!(mark(""), Ok(None));
    for (good, value, mask) in [
        ("1", 1, u32::MAX),
        ("0x1", 1, u32::MAX),
        ("2/3", 2, 3),
        ("010/0xff", 8, 0xff),
        ("0o17/0B1111", 15, 15),
        ("0X_ff/1_000", 255, 1000),
        ("0_7", 7, u32::MAX),
        ("0", 0, u32::MAX),
        ("4294967295", u32::MAX, u32::MAX),
        // No packet's, and yet no error.
        ("1/2", 1, 2),
        ("0x1/0x2", 1, 2),
        ("5/0", 5, 0),
    ] {
        assert_eq!(mark(good), Ok(Some(Mark { value, mask })), "{good}");
    }
    for (bad, part) in [
        ("hello/0x2", "mark"),
        ("1/hello", "mask"),
        ("1+hello", "mark"),
        ("1/", "mask"),
        ("-1", "mark"),
        ("+1", "mark"),
        (" 1", "mark"),
        ("1/2/3", "mask"),
        ("08", "mark"),
        ("0x", "mark"),
        ("_1", "mark"),
        ("1_", "mark"),
        ("1__0", "mark"),
        ("0x1/4294967296", "mask"),
    ] {
        let error = mark(bad).unwrap_err();
        assert!(error.contains(&format!("invalid firewall {part} \"{bad}\"")), "{error}");
    }
    let error = mark("0/0").unwrap_err();
    assert!(error.contains("every packet has this mark"), "{error}");
}

#[test]
fn s57_the_default_network_can_be_set_or_left_out() {
    let given = |bridge: &str, bip: &str| {
        let (bridge, bip) = (Some(bridge.into()), Some(bip.into()));
        with_file("", Given { bridge, bip, ..Given::default() }).map(|c| c.bridge)
    };
    assert_eq!(given("none", ""), Ok(Bridge::None));
    let fixed = Bridge::Fixed("192.168.1.5/24".parse().unwrap());
    assert_eq!(given("", "192.168.1.5/24"), Ok(fixed));
    assert_eq!(given("bridge0", ""), Ok(Bridge::Brought("bridge0".into())), "S77");
    for bad in ["a-name-that-is-too-long", "192.168.1.5/24"] {
        assert!(given(bad, "").is_err(), "{bad}");
    }
    for bad in ["x/24", "192.168.1.5", "192.168.1.255/24", "10.0.0.1/31"] {
        assert!(given("", bad).is_err(), "{bad}");
    }
    let both = given("bridge0", "10.0.0.1/24").unwrap_err();
    assert!(both.contains("either --bridge or --bip"), "{both}");
}

#[test]
fn s58_fixed_cidr_is_a_part_of_the_bridges_subnet() {
    let given = |bip: &str, range: &str| {
        let (bip, fixed_cidr) = (Some(bip.into()), Some(range.into()));
        with_file("", Given { bip, fixed_cidr, ..Given::default() }).map(|c| c.fixed_cidr)
    };
    let half = Some("192.168.1.0/25".parse().unwrap());
    assert_eq!(given("192.168.1.5/24", "192.168.1.0/25"), Ok(half));
    assert_eq!(given("", "192.168.1.0/25"), Ok(half), "it is the subnet then");
    assert_eq!(given("192.168.1.5/24", ""), Ok(None));
    for bad in ["192.168.2.0/25", "192.168.0.0/16", "192.168.1.1/25", "x", "2001:db8::/64"] {
        let error = given("192.168.1.5/24", bad).unwrap_err();
        assert!(error.contains("fixed-cidr") && error.contains(bad), "{error}");
    }
}

#[test]
fn s189_docker_daemons_options_come_from_flags_and_file() {
    let text = "bip = \"10.9.0.1/24\"\nicc = false\nip = \"198.51.100.1\"\nmtu = 1400\n\
                dns = [\"9.9.9.9\"]\ndns_search = [\"example.com\"]\ndns_ttl = 3\n\
                default_bridge_dns = true\ndns_option = [\"ndots:2\", \"rotate\"]\n";
    let config = with_file(text, Given::default()).unwrap();
    assert_eq!((config.icc, config.mtu), (false, Some(1400)));
    assert_eq!(config.ip, Some("198.51.100.1".parse().unwrap()));
    let Resolver { servers, search, options } = &config.names.resolver;
    assert_eq!((servers.len(), search.len(), options.len()), (1, 1, 2));
    assert_eq!((config.names.ttl, config.names.default_bridge), (3, true));
    let given = Given {
        icc: Some(true),
        mtu: Some(0),
        dns: vec!["1.1.1.1".parse().unwrap(), "8.8.8.8".parse().unwrap()],
        ..Given::default()
    };
    let config = with_file(text, given).unwrap();
    assert_eq!((config.icc, config.mtu, config.names.resolver.servers.len()), (true, None, 2));
}

#[test]
fn a_value_of_the_file_that_makes_no_sense_is_named_with_file_line_and_key() {
    for (text, parts) in [
        ("icc = true\nbip = \"10.0.0.1/33\"", ["bascule.toml:2: bip: ", "10.0.0.1/33"]),
        ("fixed_cidr = \"x\"", ["bascule.toml:1: fixed_cidr: ", "range of IPv4 addresses"]),
        ("\n\nmtu = 10", ["bascule.toml:3: mtu: ", "from 68 to 65535"]),
        ("dns_search = [\"a b\"]", ["bascule.toml:1: dns_search: ", "not a domain"]),
        ("dns = [\"0.0.0.0\"]", ["bascule.toml:1: dns: ", "no address of a server"]),
        ("dns_option = [\"a b\"]", ["bascule.toml:1: dns_option: ", "not one word"]),
        ("dns_ttl = 6", ["bascule.toml:1: dns_ttl: ", "from 0 to 5 seconds"]),
        (
            "host_gateway_ip = [\"6.7.8.9\", \"6.7.8.10\"]",
            ["bascule.toml:1: host_gateway_ip: ", "only one IPv4 host gateway IP"],
        ),
        ("bridge = \"br0\"\nbip = \"10.0.0.1/8\"", ["bascule.toml:2: bip: ", "either"]),
        ("publish_range = \"9-8\"", ["bascule.toml:1: publish_range: ", "neither auto nor"]),
        ("log_format = \"x\"", ["bascule.toml:1: log_format: ", "neither human nor json"]),
    ] {
        let error = with_file(text, Given::default()).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let flag = Given { mtu: Some(10), ..Given::default() };
    let error = with_file("mtu = 1400", flag).unwrap_err();
    assert_eq!(error, "invalid mtu \"10\": it has to be from 68 to 65535", "the flag's fault");
}

#[test]
fn s60_what_cannot_change_while_the_agent_runs_is_told_from_what_can() {
    let old = with_file("", Given::default()).unwrap();
    assert_eq!(old.changes(&old), []);
    let new = with_file("log_level = \"debug\"\nbip = \"10.9.0.1/24\"", Given::default()).unwrap();
    let changed = |key, at_once| Changed { key, at_once };
    assert_eq!(old.changes(&new), [changed("bridge or bip", false), changed("log-level", true)]);
}

#[test]
fn p30_pools_are_the_flags_or_the_files_with_line_and_key() {
    let text = "[ipam]\nexclude = [\"10.8.0.0/16\"]\n[[ipam.pools]]\nbase = \"10.64.0.0/12\"\nsize = 24\n\
                [[ipam.pools]]\nbase = \"fd00:1::/32\"\nsize = 64\n";
    let pools = |given| with_file(text, given).map(|config| config.pools).unwrap();
    let read: Vec<_> = pools(Given::default()).pools.iter().map(ToString::to_string).collect();
    assert_eq!(read, ["base=10.64.0.0/12,size=24", "base=fd00:1::/32,size=64"]);
    assert_eq!(pools(Given::default()).exclude, ["10.8.0.0/16".parse().unwrap()]);
    let own = vec!["base=175.30.0.0/16,size=16".parse().unwrap()];
    let given = Given { default_address_pool: own.clone(), ..Given::default() };
    assert_eq!(pools(given).pools, own);
    for (text, parts) in [
        ("[[ipam.pools]]\nbase = \"10.1.0.0/8\"\nsize = 24", ["toml:", "should be 10.0.0.0/8"]),
        ("[[ipam.pools]]\nbase = \"x\"\nsize = 24", ["toml:2", "base"]),
        ("[[ipam.pools]]\nbase = \"10.0.0.0/8\"\nsize = 7", ["toml:", "and not 7"]),
        ("[ipam]\nexclude = [\"x\"]", ["toml:2", "exclude"]),
        ("[ipam]\npool = 1", ["toml:2", "pool"]),
    ] {
        let error = with_file(text, Given::default()).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
