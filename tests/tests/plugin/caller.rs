//! dockerd's side of the protocol.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use bascule_tests::{
    Agent, Netns,
    agent::Settings,
    api::{self, Answer},
};
use serde_json::{Value, json};

/// Calls a plugin as dockerd does.
#[derive(Clone, Debug)]
pub struct Caller {
    socket: PathBuf,
}

/// Starts an agent that is a network driver, and what speaks to it.
#[track_caller]
pub fn agent(host: &Netns) -> (Agent, Caller) {
    let mut agent = Agent::prepare(host, Settings::default());
    let socket = agent.places.root().join("plugins/bascule.sock");
    let option = format!("--docker-plugin={}", socket.display());
    agent.set(Settings::default().arg(&["--bridge", "none", &option]));
    agent.launch();
    agent.wait_ready();
    (agent, Caller::new(&socket))
}

/// Takes an interface as dockerd does at the start of a container.
pub fn take(host: &Netns, source: &str, sandbox: &Netns, address: &str, gateway: &str) {
    host.sh(&format!("ip link set {source} netns {}", sandbox.path().display()));
    sandbox.sh(&format!("ip link set {source} name eth0"));
    sandbox.sh(&format!("ip addr add {address} dev eth0"));
    sandbox.sh("ip link set eth0 up");
    sandbox.sh(&format!("ip route add default via {gateway}"));
}

/// The id of a network.
pub fn network(number: u8) -> String {
    format!("{:08x}{:056x}", 0xa000_0000_u32 + u32::from(number), number)
}

/// The id of an endpoint; its first digits make names.
pub fn endpoint(number: u8) -> String {
    format!("{:08x}{:056x}", 0xe000_0000_u32 + u32::from(number), number)
}

/// A published port, as dockerd writes it.
pub fn port(proto: u8, port: u16, host: u16) -> Value {
    json!({"Proto": proto, "IP": "", "Port": port, "HostIP": "", "HostPort": host, "HostPortEnd": host})
}

impl Caller {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request with dockerd's headers.
    #[track_caller]
    pub fn raw(&self, method: &str, body: &[u8]) -> Answer {
        self.send(method, body).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// It does not ask for the connection to be closed, as dockerd does not, and reads until it is.
    fn send(&self, method: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        // An agent may start meanwhile. A connection that was kept would be for half a minute.
        stream.set_read_timeout(Some(Duration::from_secs(25)))?;
        let head = format!(
            "POST /{method} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
             Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        // Who says no before all is said does not listen.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        api::parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
    }

    /// Calls a method that may find nobody.
    pub fn try_call(&self, method: &str, body: &Value) -> Option<Value> {
        self.send(method, format!("{body}\n").as_bytes()).ok().map(|answer| answer.body)
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value, String> {
        let answer = self.raw(method, format!("{body}\n").as_bytes());
        assert_eq!(answer.status, 200, "{method}: {}", answer.body);
        let key = if method.starts_with("IpamDriver") { "Error" } else { "Err" };
        match answer.body.get(key).and_then(Value::as_str) {
            None => Ok(answer.body),
            Some("") => panic!("{method}: an error without a word"),
            Some(why) => Err(why.to_owned()),
        }
    }

    /// Calls a method and demands success.
    #[track_caller]
    pub fn ok(&self, method: &str, body: &Value) -> Value {
        self.call(method, body).unwrap_or_else(|why| panic!("{method} {body}: {why}"))
    }

    /// Calls a method, demands an error, and gives it.
    #[track_caller]
    pub fn fails(&self, method: &str, body: &Value) -> String {
        match self.call(method, body) {
            Ok(answer) => panic!("{method} {body}: {answer}"),
            Err(why) => why,
        }
    }

    #[track_caller]
    pub fn activate(&self) {
        assert_eq!(self.raw("Plugin.Activate", b"").status, 200);
    }

    pub fn network_body(&self, id: &str, number: u8, options: &Value) -> Value {
        json!({"NetworkID": id,
            "Options": {"com.docker.network.enable_ipv6": false, "com.docker.network.generic": options},
            "IPv4Data": [{"AddressSpace": "LocalDefault", "Gateway": format!("10.82.{number}.1/24"),
                          "Pool": format!("10.82.{number}.0/24")}],
            "IPv6Data": []})
    }

    pub fn endpoint_body(&self, network: &str, id: &str, address: &str) -> Value {
        json!({"NetworkID": network, "EndpointID": id,
            "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
            "Options": {"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": []}})
    }

    #[track_caller]
    pub fn create_network(&self, id: &str, number: u8, options: &Value) -> Value {
        self.ok("NetworkDriver.CreateNetwork", &self.network_body(id, number, options))
    }

    #[track_caller]
    pub fn delete_network(&self, id: &str) -> Value {
        self.ok("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id}))
    }

    #[track_caller]
    pub fn create_endpoint(&self, network: &str, id: &str, address: &str) -> Value {
        self.ok("NetworkDriver.CreateEndpoint", &self.endpoint_body(network, id, address))
    }

    pub fn try_join(&self, network: &str, id: &str, key: &str) -> Result<Value, String> {
        let body =
            json!({"NetworkID": network, "EndpointID": id, "SandboxKey": key, "Options": {}});
        self.call("NetworkDriver.Join", &body)
    }

    #[track_caller]
    pub fn join(&self, network: &str, id: &str, key: &str) -> Value {
        self.try_join(network, id, key).unwrap_or_else(|why| panic!("Join {id}: {why}"))
    }

    pub fn try_program(&self, network: &str, id: &str, ports: &[Value]) -> Result<Value, String> {
        let options = json!({"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": ports});
        let body = json!({"NetworkID": network, "EndpointID": id, "Options": options});
        self.call("NetworkDriver.ProgramExternalConnectivity", &body)
    }

    #[track_caller]
    pub fn program(&self, network: &str, id: &str, ports: &[Value]) -> Value {
        self.try_program(network, id, ports).unwrap_or_else(|why| panic!("Program {id}: {why}"))
    }

    #[track_caller]
    fn about(&self, method: &str, network: &str, id: &str) -> Value {
        self.ok(
            &format!("NetworkDriver.{method}"),
            &json!({"NetworkID": network, "EndpointID": id}),
        )
    }

    #[track_caller]
    pub fn info(&self, network: &str, id: &str) -> Value {
        self.about("EndpointOperInfo", network, id)
    }

    #[track_caller]
    pub fn revoke(&self, network: &str, id: &str) -> Value {
        self.about("RevokeExternalConnectivity", network, id)
    }

    #[track_caller]
    pub fn leave(&self, network: &str, id: &str) -> Value {
        self.about("Leave", network, id)
    }

    #[track_caller]
    pub fn delete_endpoint(&self, network: &str, id: &str) -> Value {
        self.about("DeleteEndpoint", network, id)
    }
}
