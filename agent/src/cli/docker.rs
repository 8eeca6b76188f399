//! `bascule docker ...`.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use super::{Context, args::Docker, output};
use crate::{
    api::{docker::Report, paths},
    error::{Failure, exit},
};

/// How long a request may take that takes everything over, and how long systemd has to start the daemon again.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is asked how far that is.
const PERIOD: Duration = Duration::from_millis(250);

/// Does a verb of `docker`.
pub fn docker(context: &Context, verb: Docker) -> Result<u8, Failure> {
    let mut client = context.client()?;
    client.allow(PATIENCE);
    match verb {
        Docker::Adopt { dry_run: true } => show(context, &client.get(paths::DOCKER)?, planned),
        Docker::Status => {
            let report: Report = client.get(paths::DOCKER)?;
            show(context, &report, standing)?;
            Ok(if report.drift.is_empty() { exit::OK } else { exit::REFUSED })
        }
        Docker::Adopt { dry_run: false } => {
            let report = client.post(paths::DOCKER_ADOPT, &())?;
            done(context, settled(context, report, "on")?)
        }
        Docker::Release => {
            let report = client.post(paths::DOCKER_RELEASE, &())?;
            done(context, settled(context, report, "off")?)
        }
    }
}

fn show(
    context: &Context,
    report: &Report,
    text: impl Fn(&Report) -> String,
) -> Result<u8, Failure> {
    if context.wants_json() {
        output::json(report)?;
    } else {
        output::print(&text(report))?;
    }
    Ok(exit::OK)
}

/// Waits until the daemon has been started again, where systemd does that.
fn settled(context: &Context, mut report: Report, wanted: &str) -> Result<Report, Failure> {
    let end = Instant::now() + PATIENCE;
    while report.phase != wanted && report.daemon.automatic && Instant::now() < end {
        std::thread::sleep(PERIOD);
        // While it starts, there is nobody to ask.
        if let Ok(next) = context.client()?.get::<Report>(paths::DOCKER) {
            if let Some(failed) = next.drift.iter().find(|line| line.starts_with("`systemctl")) {
                return Err(Failure::new(failed.clone()));
            }
            report = next;
        }
    }
    Ok(report)
}

fn done(context: &Context, report: Report) -> Result<u8, Failure> {
    show(context, &report, |report| {
        let (networks, containers) = (report.networks.len(), report.containers.len());
        match report.phase.as_str() {
            "on" => format!(
                "Docker's networks are served here: {networks} networks, {containers} containers.\n"
            ),
            "off" => "Docker's networks are Docker's own again.\n".to_owned(),
            "taking" => format!(
                "Docker's networks are served here: {networks} networks, {containers} containers. To end its own \
                 rules, {}.\nAfter that, `bascule docker status` says `on`.\n",
                report.daemon.how
            ),
            _ => format!(
                "Docker's configuration is as it was. To have it make its own rules again, {}.\nUntil then its \
                 networks are served here.\n",
                report.daemon.how
            ),
        }
    })
}

/// What taking over would change.
fn planned(report: &Report) -> String {
    let mut text = head(report);
    if report.phase != "off" {
        text.push_str("Docker's networks are taken over already.\n");
        return text;
    }
    let mut list = |title: &str, lines: Vec<String>, none: &str| {
        let lines = if lines.is_empty() { vec![none.to_owned()] } else { lines };
        // Writing to a string cannot fail.
        write!(text, "{title}:\n  {}\n", lines.join("\n  ")).ok();
    };
    let key = |key: &crate::api::docker::KeyReport| match key.from.as_str() {
        "" => format!("\"{}\": {}  (new)", key.key, key.to),
        from => format!("\"{}\": {}  (was {from})", key.key, key.to),
    };
    let keys = report.config.keys.iter().map(key).collect();
    list(&format!("Would change in {}", report.config.path), keys, "nothing");
    let restart = match (report.daemon.restart, report.daemon.automatic) {
        (false, _) => "not needed".to_owned(),
        (true, true) => report.daemon.how.clone(),
        (true, false) => format!("by you: {}", report.daemon.how),
    };
    list("Would start Docker's daemon again", vec![restart], "");
    list("Would remove these rules of Docker's", report.rules.clone(), "none");
    let (networks, containers) = objects(report);
    list("Would serve these networks", networks, "none");
    list("Would serve these containers", containers, "none");
    list("What breaks", report.breaks.clone(), "nothing");
    if !report.notes.is_empty() {
        list("Notes", report.notes.clone(), "");
    }
    text
}

/// How it stands.
fn standing(report: &Report) -> String {
    let mut text = head(report);
    let (networks, containers) = objects(report);
    let mut list = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            write!(text, "{title}:\n  {}\n", lines.join("\n  ")).ok();
        }
    };
    if report.phase != "off" {
        list("Networks", &networks);
        list("Containers", &containers);
    }
    if report.daemon.restart && report.phase != "off" {
        list("To be done", std::slice::from_ref(&report.daemon.how));
    }
    list("Notes", &report.notes);
    list("Not as it was made", &report.drift);
    text
}

fn head(report: &Report) -> String {
    let daemon = &report.daemon;
    let docker = match daemon.reachable {
        true => format!(
            "{} at {}, live-restore {}",
            daemon.version,
            daemon.socket,
            if daemon.live_restore { "on" } else { "off" }
        ),
        false => format!("does not answer at {}", daemon.socket),
    };
    format!("Docker:   {docker}\nAdopted:  {}\n", report.phase)
}

fn objects(report: &Report) -> (Vec<String>, Vec<String>) {
    let network = |network: &crate::api::docker::NetworkReport| {
        let policy = match network.policy.as_slice() {
            [] => String::new(),
            policy => format!("  [{}]", policy.join(", ")),
        };
        format!("{} ({}) {}{policy}", network.name, network.bridge, network.subnets.join(" "))
    };
    let container = |container: &crate::api::docker::ContainerReport| {
        let ports = match container.ports.as_slice() {
            [] => String::new(),
            ports => format!(": {}", ports.join(", ")),
        };
        format!("{} ({}){ports}", container.name, container.networks.join(", "))
    };
    let networks = report.networks.iter().map(network).collect();
    (networks, report.containers.iter().map(container).collect())
}
