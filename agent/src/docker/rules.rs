//! Rules of the packet filter that Docker's daemon left: found by their exact form, and taken away by the same tools that
//! made them. Nothing else is touched, and nothing is ever added.

use std::{collections::BTreeSet, io, process::Stdio};

use ipnetwork::IpNetwork;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Tools of both families, each with the one that carries changes out.
const TOOLS: [(&str, &str); 2] =
    [("iptables-save", "iptables-restore"), ("ip6tables-save", "ip6tables-restore")];
/// Chains that are Docker's from first to last.
const CHAINS: [&str; 10] = [
    "DOCKER",
    "DOCKER-ISOLATION-STAGE-1",
    "DOCKER-ISOLATION-STAGE-2",
    "DOCKER-BRIDGE",
    "DOCKER-CT",
    "DOCKER-FORWARD",
    "DOCKER-INTERNAL",
    "DOCKER_OUTPUT",
    "DOCKER_POSTROUTING",
    "DOCKER-INGRESS",
];
/// The chain that Docker makes for the operator.
const USER: &str = "DOCKER-USER";

/// Why rules cannot be read or taken away.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A tool cannot be run.
    #[error("cannot run {tool}: {source}")]
    Run {
        /// The tool.
        tool: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A tool refuses.
    #[error("{tool} failed: {words}")]
    Refused {
        /// The tool.
        tool: &'static str,
        /// Its words.
        words: String,
    },
}

/// What Docker's networks are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Names of its bridges.
    pub bridges: BTreeSet<String>,
    /// Its subnets.
    pub subnets: Vec<IpNetwork>,
}

/// Rules that Docker's daemon left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The rules, with their tables: `nat: -A PREROUTING ...`.
    pub rules: Vec<String>,
    /// Rules of the operator's in the chain that Docker made for that: they stay, and see no packet that is redirected.
    pub own: Vec<String>,
    /// Whether what is forwarded is dropped unless a rule lets it through.
    pub forward_drop: bool,
    /// What the tools are told, a script for each family.
    scripts: [String; 2],
}

impl Left {
    /// Reads what is there; a tool that is not there has made no rules.
    pub async fn read(known: &Known) -> Result<Self, RulesError> {
        let mut left = Self::default();
        for (at, (tool, _)) in TOOLS.iter().enumerate() {
            match Command::new(tool).stdin(Stdio::null()).output().await {
                Ok(output) if output.status.success() => {
                    left.add(at, &String::from_utf8_lossy(&output.stdout), known);
                }
                Ok(output) => {
                    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(RulesError::Refused { tool, words });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(RulesError::Run { tool, source }),
            }
        }
        Ok(left)
    }

    /// Takes them away, each table as a whole.
    pub async fn remove(&self) -> Result<(), RulesError> {
        for ((_, tool), script) in TOOLS.iter().zip(&self.scripts) {
            if !script.is_empty() {
                restore(tool, script).await?;
            }
        }
        Ok(())
    }

    fn add(&mut self, family: usize, saved: &str, known: &Known) {
        for (table, lines) in tables(saved) {
            let rules: Vec<&str> = lines.iter().copied().filter(|l| l.starts_with("-A ")).collect();
            let chains: Vec<&str> = lines
                .iter()
                .filter_map(|line| line.strip_prefix(':')?.split_whitespace().next())
                .collect();
            self.forward_drop |=
                table == "filter" && lines.iter().any(|line| line.starts_with(":FORWARD DROP"));
            let of_user: Vec<&str> = rules
                .iter()
                .copied()
                .filter(|rule| chain(rule) == USER && *rule != "-A DOCKER-USER -j RETURN")
                .collect();
            self.own.extend(of_user.iter().map(|rule| format!("{table}: {rule}")));
            let is_gone =
                |name: &str| CHAINS.contains(&name) || (name == USER && of_user.is_empty());
            let mut script = String::new();
            for rule in rules.iter().filter(|rule| !is_gone(chain(rule))) {
                if target(rule).is_some_and(is_gone) || is_dockers(table, rule, known) {
                    script.push_str(&format!("-D {}\n", rule.trim_start_matches("-A ")));
                    self.rules.push(format!("{table}: {rule}"));
                }
            }
            let gone: Vec<_> = chains.into_iter().filter(|name| is_gone(name)).collect();
            for rule in rules.iter().filter(|rule| is_gone(chain(rule))) {
                self.rules.push(format!("{table}: {rule}"));
            }
            script.extend(gone.iter().map(|name| format!("-F {name}\n")));
            script.extend(gone.iter().map(|name| format!("-X {name}\n")));
            if !script.is_empty() {
                self.scripts[family].push_str(&format!("*{table}\n{script}COMMIT\n"));
            }
        }
    }
}

async fn restore(tool: &'static str, script: &str) -> Result<(), RulesError> {
    let failed = |source| RulesError::Run { tool, source };
    let mut child = Command::new(tool)
        .args(["--noflush", "--wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RulesError::Refused { tool, words })
}

/// The tables of what was saved, each with its lines.
fn tables(saved: &str) -> Vec<(&str, Vec<&str>)> {
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in saved.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('*') {
            tables.push((table, Vec::new()));
        } else if let Some((_, lines)) = tables.last_mut() {
            lines.push(line);
        }
    }
    tables
}

fn chain(rule: &str) -> &str {
    rule.split_whitespace().nth(1).unwrap_or_default()
}

fn value<'a>(rule: &'a str, option: &str) -> Option<&'a str> {
    let mut words = rule.split_whitespace();
    words.find(|word| *word == option)?;
    words.next()
}

fn target(rule: &str) -> Option<&str> {
    value(rule, "-j").or_else(|| value(rule, "-g"))
}

/// Tells whether a rule outside of Docker's chains has a form that Docker alone makes, about a network of its.
fn is_dockers(table: &str, rule: &str, known: &Known) -> bool {
    let is_bridge = |name: &str| known.bridges.contains(name);
    let of_docker = |text: &str| {
        text.parse::<IpNetwork>().is_ok_and(|network| {
            known
                .subnets
                .iter()
                .any(|subnet| subnet.contains(network.ip()) && subnet.prefix() <= network.prefix())
        })
    };
    let source = value(rule, "-s").is_some_and(of_docker);
    match (table, chain(rule), target(rule)) {
        ("nat", "POSTROUTING", Some("MASQUERADE")) => {
            let outward = rule.contains(" ! -o ") && value(rule, "-o").is_some_and(is_bridge);
            let hairpin = value(rule, "-s").is_some() && value(rule, "-s") == value(rule, "-d");
            // Without the userland proxy, what the host itself sends to a published port.
            let local =
                rule.contains("--src-type LOCAL") && value(rule, "-o").is_some_and(is_bridge);
            source && (outward || hairpin) || local
        }
        ("filter", "FORWARD", Some("ACCEPT" | "DROP")) => {
            // Of an operator's own rule about such a bridge, hardly one has just these words.
            let words: Vec<_> = rule.split_whitespace().skip(2).collect();
            match words.as_slice() {
                [
                    "-o",
                    out,
                    "-m",
                    "conntrack",
                    "--ctstate",
                    "RELATED,ESTABLISHED",
                    "-j",
                    "ACCEPT",
                ] => is_bridge(out),
                ["-i", from, "!", "-o", out, "-j", "ACCEPT"] => from == out && is_bridge(from),
                ["-i", from, "-o", out, "-j", "ACCEPT" | "DROP"] => from == out && is_bridge(from),
                _ => false,
            }
        }
        ("raw", "PREROUTING", Some("DROP")) => {
            value(rule, "-d").is_some_and(of_docker)
                && rule.contains(" ! -i ")
                && value(rule, "-i").is_some_and(is_bridge)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:LIBVIRT_PRT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
-A POSTROUTING -s 10.0.0.0/8 -o eth0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A FORWARD -i virbr0 -o virbr0 -j ACCEPT
-A FORWARD -i docker0 -o eth0 -j DROP
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
";

    fn left(saved: &str) -> Left {
        let known = Known {
            bridges: ["docker0".to_owned()].into(),
            subnets: vec!["172.17.0.0/16".parse().unwrap()],
        };
        let mut left = Left::default();
        left.add(0, saved, &known);
        left
    }

    #[test]
    fn only_what_is_dockers_goes() {
        let left = left(SAVED);
        let script = &left.scripts[0];
        let gone: Vec<_> = script.lines().filter(|line| line.starts_with('-')).collect();
        assert_eq!(
            gone,
            [
                "-D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
                "-D OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
                "-D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
                "-D POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
                "-F DOCKER",
                "-X DOCKER",
                "-D FORWARD -j DOCKER-USER",
                "-D FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-D FORWARD -o docker0 -j DOCKER",
                "-D FORWARD -i docker0 ! -o docker0 -j ACCEPT",
                "-D FORWARD -i docker0 -o docker0 -j ACCEPT",
                "-F DOCKER",
                "-F DOCKER-USER",
                "-X DOCKER",
                "-X DOCKER-USER",
            ]
        );
        assert!(left.forward_drop && left.own.is_empty());
        assert_eq!(left.rules.len(), 13);
        for kept in ["192.168.122.0", "10.0.0.0/8", "virbr0", "eth0"] {
            assert!(!script.contains(kept), "{kept}");
        }
    }

    #[test]
    fn what_the_operator_put_into_dockers_chain_stays() {
        let saved = SAVED.replace(
            "-A DOCKER-USER -j RETURN",
            "-A DOCKER-USER -s 203.0.113.0/24 -j DROP\n-A DOCKER-USER -j RETURN",
        );
        let left = left(&saved);
        assert_eq!(left.own, ["filter: -A DOCKER-USER -s 203.0.113.0/24 -j DROP"]);
        assert!(!left.scripts[0].contains("DOCKER-USER"));
        assert!(left.scripts[0].contains("-X DOCKER\n"));
    }

    #[test]
    fn a_host_without_docker_keeps_everything() {
        let left =
            left("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i br0 -o br0 -j ACCEPT\nCOMMIT\n");
        assert_eq!(left, Left::default());
    }
}
