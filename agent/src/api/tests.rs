//! What anybody may send is answered, never died of: the parsers of requests under random bytes and under
//! JSON that is almost right.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    convert, events,
    filters::Filters,
    proto,
    request::{Peer, Request},
    route::{self, ApiVersion},
};
use crate::{state::Rejected, why::Question};

fn request(body: Vec<u8>) -> Request {
    let version = ApiVersion(1, 51);
    Request { peer: Peer { uid: Some(0) }, version, id: String::new(), query: Vec::new(), body }
}

/// Reads a body as everything that a body can be.
fn read(body: &[u8]) -> Vec<Result<(), Rejected>> {
    let request = request(body.to_vec());
    let version = request.version;
    vec![
        request.read().and_then(|r| convert::network_create(r, version)).map(drop),
        request.read().and_then(|r| convert::connect("n".into(), r)).map(drop),
        request.read().and_then(|r| convert::disconnect("n".into(), r)).map(drop),
        request.read().and_then(convert::container_create).map(drop),
        request.read::<proto::ProcessStarted>().map(drop),
        request.read_or_default::<proto::ContainerStop>().map(drop),
        request.read::<super::policy::Deny>().map(drop),
        request.read::<super::policy::Undeny>().map(drop),
        request.read::<Question>().map(drop),
    ]
}

/// Words that mean something somewhere, and words that mean trouble.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Name",
            "Driver",
            "IPAM",
            "Config",
            "Subnet",
            "Gateway",
            "IPRange",
            "AuxiliaryAddresses",
            "EnableIPv4",
            "EnableIPv6",
            "Internal",
            "Options",
            "Labels",
            "ConfigFrom",
            "ConfigOnly",
            "Network",
            "Scope",
            "Container",
            "EndpointConfig",
            "IPAMConfig",
            "IPv4Address",
            "LinkLocalIPs",
            "Links",
            "Aliases",
            "MacAddress",
            "DriverOpts",
            "GwPriority",
            "Force",
            "Networks",
            "Publish",
            "PublishAll",
            "Expose",
            "Hostname",
            "Netns",
            "Pid",
            "Command",
            "Prefixes",
            "Comment",
            "Source",
            "Destination",
            "bridge",
            "10.0.0.0/24",
            "fd00::/64",
            "8080:80/tcp",
            "[::1]:80:80",
            "99999",
            "-1",
            "a:b",
            "02:42:ac:11:00:02",
            "/proc/1/ns/net",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
        "[\\x00-\\x1f]{1,4}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn random_bodies_are_answered(body in prop::collection::vec(any::<u8>(), 0..400)) {
        for refusal in read(&body).into_iter().filter_map(Result::err) {
            prop_assert!(refusal.status() < 500, "{}", refusal.message);
        }
    }

    #[test]
    fn json_that_is_almost_right_is_answered(value in value(), cut in any::<prop::sample::Index>()) {
        let text = value.to_string();
        let mut bytes = text.clone().into_bytes();
        bytes.truncate(cut.index(bytes.len() + 1));
        for body in [text.as_bytes(), &bytes] {
            for refusal in read(body).into_iter().filter_map(Result::err) {
                prop_assert!(refusal.status() < 500, "{}", refusal.message);
                prop_assert!(!refusal.message.is_empty());
            }
        }
    }

    #[test]
    fn random_paths_and_filters_are_answered(text in ".{0,60}", path in "(/[a-z0-9._%{}-]{0,9}){0,6}") {
        for method in ["GET", "POST", "DELETE", "", "get"] {
            let _ = route::find(method, &text);
            let _ = route::find(method, &path);
            let _ = route::find(method, &format!("/v{path}"));
        }
        let _ = Filters::read(Some(&text), &["name"]);
        let _ = events::read_time(&text);
    }

    #[test]
    fn filters_that_are_almost_right_are_answered(value in value()) {
        if let Ok(filters) = Filters::read(Some(&value.to_string()), &["Name", "Labels", "label"]) {
            let _ = (filters.patterns("Name").map(|patterns| patterns.fit("x")), filters.labels(&proto::Map::new()));
        }
    }
}

#[test]
fn bodies_of_every_bad_kind_are_refused() {
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let long = "x".repeat(900_000);
    for (what, body) in [
        ("nothing", String::new()),
        ("white space", "  \n".to_owned()),
        ("nesting", deep("[", "]")),
        ("nesting of objects", deep("{\"a\":", "}")),
        ("nesting inside", format!("{{\"Labels\":{}}}", deep("[", "]"))),
        ("a list", "[]".to_owned()),
        ("a number", "7".to_owned()),
        ("a huge number", format!("{{\"Name\":{}}}", "9".repeat(10_000))),
        ("a huge exponent", "{\"EndpointConfig\":{\"GwPriority\":1e999999}}".to_owned()),
        (
            "a wrong type",
            "{\"Name\":{},\"Container\":[],\"Pid\":\"x\",\"Prefixes\":1,\"Source\":1}".to_owned(),
        ),
        ("something after it", "{} {}".to_owned()),
        ("half a character", "{\"Name\":\"\\ud800\"}".to_owned()),
        ("a long word", long),
    ] {
        let refused = read(body.as_bytes()).into_iter().filter(Result::is_err).count();
        assert!(refused >= 2, "{what}: {refused}");
    }
    for bytes in [&b"{\"Name\":\"\xff\xfe\"}"[..], b"\xff\xfe\0{", b"\xef\xbb\xbf{}"] {
        assert!(read(bytes).iter().all(Result::is_err), "{bytes:?}");
    }
}

#[test]
fn lists_and_words_are_bounded() {
    let map = |count: usize| -> Value {
        (0..count)
            .map(|n| (n.to_string(), Value::from("v")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let list = |count: usize| Value::from(vec!["80"; count]);
    let message =
        |read: Result<crate::state::Change, Rejected>| read.map(drop).expect_err("refused").message;
    let network = |value: Value| {
        let request = request(value.to_string().into_bytes());
        convert::network_create(request.read().expect("shaped well"), request.version)
    };
    let container = |value: Value| {
        convert::container_create(
            request(value.to_string().into_bytes()).read().expect("shaped well"),
        )
    };
    let connect = |settings: Value| {
        let body = json!({"Container": "c", "EndpointConfig": settings}).to_string();
        convert::connect("n".into(), request(body.into_bytes()).read().expect("shaped well"))
    };
    assert!(network(json!({"Name": "n", "Labels": map(1_024)})).is_ok());
    for (read, words) in [
        (network(json!({"Name": "n", "Labels": map(1_025)})), "too many labels: 1025"),
        (network(json!({"Name": "n", "Options": map(1_025)})), "too many options"),
        (network(json!({"Name": "n", "Labels": {"a": "\0"}})), "has a NUL"),
        (network(json!({"Name": "n", "Labels": {"a\n": ""}})), "control characters"),
        (network(json!({"Name": "n", "Labels": {"a": "v".repeat(20_000)}})), "is too long"),
        (network(json!({"Name": "n".repeat(5_000)})), "has more than 4096 bytes"),
        (container(json!({"Publish": list(4_097)})), "too many published ports"),
        (container(json!({"Expose": list(4_097)})), "too many exposed ports"),
        (container(json!({"Command": ["a\0"]})), "has a NUL"),
        (container(json!({"Command": ["a".repeat(200_000)]})), "too many bytes of the command"),
        (container(json!({"Hostname": "a\nb"})), "invalid hostname"),
        (container(json!({"Networks": [{"Network": "n", "Aliases": ["a b"]}]})), "invalid alias"),
        (connect(json!({"Aliases": ["127.0.0.1\thost"]})), "invalid alias"),
        (connect(json!({"Aliases": [""]})), "invalid alias"),
        (connect(json!({"Aliases": ["a".repeat(256)]})), "invalid alias"),
        (connect(json!({"DriverOpts": map(2_000)})), "too many driver options"),
        (connect(json!({"MacAddress": "0".repeat(9_000)})), "has more than 4096 bytes"),
    ] {
        let message = message(read);
        assert!(message.contains(words), "{message}");
        assert!(message.len() < 400, "an error is no place for all that was sent: {message}");
    }
}
