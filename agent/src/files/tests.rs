//! The files of containers over their life, in a directory of the test's own.

use jiff::Timestamp;

use super::*;
use crate::{
    model::{NamespaceId, Predefined},
    state::{
        Brought, Change, ContainerSpec, DefaultNetwork, DefaultPlace, EndpointSpec, Facts,
        NetworkSpec, SubnetSpec, change, find,
    },
};

const HOST: &str = "nameserver 192.0.2.53\nsearch lan\n";

struct World {
    desired: Arc<Desired>,
    facts: Facts,
    settings: NameSettings,
    files: Files,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let predefined = Predefined {
            host: NetworkId::new([1; 32]),
            none: NetworkId::new([2; 32]),
            created: Timestamp::UNIX_EPOCH,
        };
        let dir = tempfile::tempdir().unwrap();
        let resolv_conf = Some(dir.path().join("host.conf"));
        let mut world = Self {
            desired: Arc::new(Desired::new(predefined, 7)),
            facts: Facts::sample(),
            settings: NameSettings { resolv_conf, ..NameSettings::default() },
            files: Files::new(dir.path()),
            dir,
        };
        world.host_asks(HOST);
        world.change(&Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)));
        let subnets = vec![SubnetSpec { subnet: "10.1.0.0/24".into(), ..Default::default() }];
        world.change(&Change::CreateNetwork(NetworkSpec {
            name: "n1".into(),
            subnets,
            ..NetworkSpec::default()
        }));
        world
    }

    fn host_asks(&self, text: &str) {
        fs::write(self.dir.path().join("host.conf"), text).unwrap();
    }

    fn keep(&mut self) {
        assert_eq!(self.files.keep(&self.desired, &self.settings), Vec::<String>::new());
    }

    fn change(&mut self, change: &Change) {
        self.facts.now += jiff::SignedDuration::from_secs(1);
        let (next, _) = change::apply(&self.desired, change, &mut self.facts)
            .unwrap_or_else(|error| panic!("{change:?}: {error}"));
        self.desired = Arc::new(next);
        self.keep();
    }

    fn create(&mut self, name: &str, with: impl FnOnce(&mut ContainerSpec)) {
        let mut spec = ContainerSpec {
            name: Some(name.parse().unwrap()),
            hostname: name.to_owned(),
            ..ContainerSpec::default()
        };
        with(&mut spec);
        self.change(&Change::CreateContainer(Box::new(spec)));
    }

    fn run(&mut self, name: &str, with: impl FnOnce(&mut ContainerSpec)) {
        self.create(name, with);
        self.change(&Change::Start(name.to_owned()));
    }

    fn stop(&mut self, name: &str) {
        self.change(&Change::Stop { container: name.to_owned(), exit_code: None });
    }

    fn path(&self, name: &str, file: &str) -> PathBuf {
        let id = find::container(&self.desired, name).unwrap().id;
        directory(self.dir.path(), &id.to_string()).join(file)
    }

    fn text(&self, name: &str, file: &str) -> String {
        fs::read_to_string(self.path(name, file)).unwrap()
    }

    /// The lines that are not every container's.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = self.text(name, HOSTS);
        let own = |line: &&str| !line.contains("localhost") && !line.contains("\tip6-");
        text.lines().filter(own).map(ToOwned::to_owned).collect()
    }
}

#[test]
fn s126_s130_s144_moby_dns_029_hosts_tells_extra_lines_and_every_network_in_order() {
    let mut world = World::new();
    world.run("c1", |spec| {
        spec.hostname = "c1.invalid".into();
        spec.naming.extra_hosts =
            ["www.rayx.me:54.12.17.68", "h:host-gateway"].map(|text| text.parse().unwrap()).into();
    });
    let n1 = Change::Connect {
        network: "n1".into(),
        container: "c1".into(),
        endpoint: EndpointSpec::default(),
    };
    world.change(&n1);
    assert!(world.text("c1", HOSTS).starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
    assert_eq!(
        world.lines("c1"),
        [
            "54.12.17.68\twww.rayx.me",
            "172.17.0.1\th",
            "172.17.0.2\tc1.invalid c1",
            "10.1.0.2\tc1.invalid c1"
        ]
    );
    assert_eq!(world.text("c1", HOSTNAME), "c1.invalid\n");
    let change =
        Change::Disconnect { network: "bridge".into(), container: "c1".into(), force: false };
    world.change(&change);
    assert_eq!(world.lines("c1")[2..], ["10.1.0.2\tc1.invalid c1"]);
    world.settings.host_gateway = vec![[6, 7, 8, 9].into(), "2001:db8::1".parse().unwrap()];
    world.keep();
    assert_eq!(world.lines("c1")[1..].len(), 3, "MOBY-DNS-031");
    assert!(world.lines("c1").contains(&"2001:db8::1\th".to_owned()));
    world.run("c4", |spec| {
        spec.sysctls = [("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned())].into();
        spec.naming.domainname = "example.com".into();
    });
    assert_eq!(world.text("c4", HOSTS), "127.0.0.1\tlocalhost\n172.17.0.3\tc4.example.com c4\n");
}

#[test]
fn s137_edits_of_hosts_stay_while_the_container_runs_and_go_with_its_restart() {
    let mut world = World::new();
    world.run("c1", |_| {});
    let edited = format!("{}192.0.2.1 mine\n", world.text("c1", HOSTS));
    fs::write(world.path("c1", HOSTS), edited).unwrap();
    fs::write(world.path("c1", HOSTNAME), "mine\n").unwrap();
    let endpoint = EndpointSpec::default();
    world.change(&Change::Connect { network: "n1".into(), container: "c1".into(), endpoint });
    assert_eq!(world.lines("c1"), ["172.17.0.2\tc1", "192.0.2.1 mine", "10.1.0.2\tc1"]);
    assert_eq!(world.text("c1", HOSTNAME), "mine\n");
    world.stop("c1");
    world.change(&Change::Start("c1".into()));
    assert_eq!(world.lines("c1"), ["172.17.0.2\tc1", "10.1.0.2\tc1"]);
    assert_eq!(world.text("c1", HOSTNAME), "c1\n");
}

#[test]
fn s132_s133_s134_s135_resolv_conf_follows_the_host_where_nobody_has_a_say() {
    let mut world = World::new();
    for name in ["rests", "runs", "edited", "asked"] {
        world.run(name, |spec| {
            if name == "asked" {
                spec.naming.resolver.search = vec!["example.com".into()];
            }
        });
    }
    assert_eq!(world.text("runs", RESOLV_CONF), HOST, "S131");
    let asked = world.text("asked", RESOLV_CONF);
    let edited = "nameserver 192.0.2.99\n";
    fs::write(world.path("edited", RESOLV_CONF), edited).unwrap();
    for name in ["rests", "edited", "asked"] {
        world.stop(name);
    }
    let new = "nameserver 192.0.2.54\n";
    world.host_asks(new);
    world.keep();
    assert_eq!(world.text("rests", RESOLV_CONF), new, "S132");
    assert_eq!(world.text("runs", RESOLV_CONF), HOST, "S133");
    assert_eq!(world.text("edited", RESOLV_CONF), edited, "S134");
    assert_eq!(world.text("asked", RESOLV_CONF), asked, "S135");
    world.stop("runs");
    for name in ["runs", "edited", "asked"] {
        world.change(&Change::Start(name.to_owned()));
    }
    assert_eq!(world.text("runs", RESOLV_CONF), new, "S133");
    assert_eq!(world.text("edited", RESOLV_CONF), edited, "MOBY-DNS-016");
    assert_eq!(world.text("asked", RESOLV_CONF), asked);
}

#[test]
fn moby_dns_013_decisions_8_29_who_is_on_a_network_with_names_asks_the_agent() {
    let mut world = World::new();
    let on = |network: &str| vec![(network.to_owned(), EndpointSpec::default())];
    world.run("own", |spec| spec.networks = on("n1"));
    let text = world.text("own", RESOLV_CONF);
    assert!(text.contains("\nnameserver 127.0.0.11\nsearch lan\noptions ndots:0\n"), "{text}");
    assert!(text.ends_with("# ExtServers: [host(192.0.2.53)]\n"), "{text}");
    let subnets = vec![SubnetSpec { subnet: "2001:db8:7::/64".into(), ..Default::default() }];
    world.change(&Change::CreateNetwork(NetworkSpec {
        name: "six".into(),
        subnets,
        without_ipv4: true,
        ..NetworkSpec::default()
    }));
    world.run("six", |spec| spec.networks = on("six"));
    assert!(world.text("six", RESOLV_CONF).contains("nameserver 127.0.0.11\n"));
    world.facts.brought = Some(Ok(Brought {
        id: NamespaceId { device: 4, inode: 99 },
        process: None,
        is_agents: false,
        interfaces: Default::default(),
    }));
    world.run("brought", |spec| {
        (spec.networks, spec.sandbox) = (on("n1"), Sandbox::Path("/run/netns/x".into()));
    });
    world.facts.brought = None;
    assert!(world.text("brought", RESOLV_CONF).contains("nameserver 10.1.0.1\n"));
    // One that runs has it with its first network with names, unless its file was edited.
    for (name, expected) in
        [("moves", "nameserver 127.0.0.11\n"), ("edited", "nameserver 1.2.3.4\n")]
    {
        world.run(name, |_| {});
        assert_eq!(world.text(name, RESOLV_CONF), HOST);
        if name == "edited" {
            fs::write(world.path(name, RESOLV_CONF), expected).unwrap();
        }
        let (network, container) = ("n1".to_owned(), name.to_owned());
        world.change(&Change::Connect { network, container, endpoint: EndpointSpec::default() });
        assert!(world.text(name, RESOLV_CONF).contains(expected), "{name}");
    }
    world.settings.default_bridge = true;
    world.run("default", |_| {});
    assert!(world.text("default", RESOLV_CONF).contains("nameserver 127.0.0.11\n"));
}

#[test]
fn s136_files_that_nobody_has_noted_are_left_alone() {
    let mut world = World::new();
    world.create("c1", |_| {});
    let path = world.path("c1", RESOLV_CONF);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
    world.change(&Change::Start("c1".into()));
    world.stop("c1");
    world.host_asks("nameserver 192.0.2.54\n");
    world.keep();
    assert_eq!(world.text("c1", RESOLV_CONF), "nameserver 192.0.2.1\n");
}

#[test]
fn a_new_agent_knows_what_the_former_one_has_written() {
    let mut world = World::new();
    world.run("c1", |_| {});
    world.run("c2", |_| {});
    let edited = format!("{}192.0.2.1 mine\n", world.text("c1", HOSTS));
    fs::write(world.path("c1", HOSTS), &edited).unwrap();
    world.stop("c2");
    world.files = Files::new(world.dir.path());
    world.host_asks("nameserver 192.0.2.54\n");
    world.keep();
    assert_eq!(world.text("c1", HOSTS), edited);
    assert_eq!(world.text("c1", RESOLV_CONF), HOST);
    assert_eq!(world.text("c2", RESOLV_CONF), "nameserver 192.0.2.54\n");
}

#[test]
fn a_file_that_grew_without_bounds_is_not_read() {
    let mut world = World::new();
    world.run("c1", |_| {});
    let large = "x\n".repeat(600_000);
    fs::write(world.path("c1", HOSTS), &large).unwrap();
    let endpoint = EndpointSpec::default();
    world.change(&Change::Connect { network: "n1".into(), container: "c1".into(), endpoint });
    assert_eq!(world.text("c1", HOSTS).len(), large.len());
}

#[test]
fn s146_s147_moby_dns_033_links_of_the_default_network_follow_their_targets() {
    let mut world = World::new();
    world.run("db", |spec| spec.expose = vec!["5432".parse().unwrap()]);
    let id = find::container(&world.desired, "db").unwrap().id.short();
    world.run("web", |spec| spec.links = vec!["db:sql".parse().unwrap(), "db".parse().unwrap()]);
    let to = |ip: &str| [format!("{ip}\tsql {id} db"), format!("{ip}\tdb {id}")];
    assert_eq!(world.lines("web")[..2], to("172.17.0.2"));
    world.stop("db");
    assert_eq!(world.lines("web"), ["172.17.0.3\tweb"], "nobody is there");
    world.run("thief", |spec| spec.networks = vec![("bridge".into(), EndpointSpec::default())]);
    let found = find::container(&world.desired, "thief").unwrap();
    assert!(found.endpoints().next().is_some());
    world.change(&Change::Start("db".into()));
    let found = find::container(&world.desired, "db").unwrap().endpoints().next().unwrap().1.ip;
    assert_eq!(world.lines("web")[1..], to(&found.unwrap().to_string()));
    assert_eq!(world.lines("db").len(), 1, "one way");
}

#[test]
fn s151_links_of_the_default_network_have_dockers_variables() {
    let mut world = World::new();
    world.run("db", |spec| {
        spec.expose = ["5432", "53/udp", "8000-8002"].map(|port| port.parse().unwrap()).into();
        spec.env = ["MODE=fast", "PATH=/bin"].map(String::from).into();
    });
    world.run("web", |spec| spec.links = vec!["db:my-db".parse().unwrap()]);
    let text = world.text("web", ENVIRONMENT);
    let variables: Vec<_> = text.split_terminator('\0').collect();
    for wanted in [
        "MY_DB_NAME=/web/my-db",
        "MY_DB_PORT=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
        "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_DB_PORT_8000_TCP_START=tcp://172.17.0.2:8000",
        "MY_DB_PORT_8002_TCP_END=tcp://172.17.0.2:8002",
        "MY_DB_PORT_8000_TCP_PORT_END=8002",
        "MY_DB_ENV_MODE=fast",
    ] {
        assert!(variables.contains(&wanted), "{wanted} is not in {variables:?}");
    }
    assert!(!text.contains("ENV_PATH"), "{text}");
    assert_eq!(world.text("db", ENVIRONMENT), "");
}
