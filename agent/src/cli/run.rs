//! `bascule run` and `bascule exec`: the agent makes the sandbox, this client executes in it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    Context,
    args::{Exec, Execution, Run, Sandbox},
    container, output,
    sandbox::{
        interior::{Interior, Rest},
        launch::{Launch, Streams, launch},
        rights::Rights,
        terminal::{self, Terminal},
        wait::{self, Settings, Signals},
    },
};
use crate::{
    api::{
        client::{Client, ClientError},
        paths, proto,
    },
    error::{Failure, exit},
    files,
};

/// How long an agent that is being restarted is waited for at the end.
const RESTART: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// Variables that links tell, and bytes of one, at most.
const MOST_TOLD: usize = 256;
const LONGEST_TOLD: usize = 1_024;

/// Runs a command in a new container.
pub fn run(context: &Context, args: Run) -> Result<u8, Failure> {
    let Run { sandbox, execution, cap_add, cap_drop, image, words, command } = args;
    let words: Vec<_> = image.into_iter().chain(words).collect();
    refuse_images(&sandbox, &words)?;
    if command.is_empty() && !execution.detach {
        return Err(Failure::usage("there is no command to run")
            .hint("put it behind `--`, or use -d for an empty sandbox that stays up"));
    }
    let env = environment(&execution)?;
    let rights = Rights::new(execution.privileged, &cap_add, &cap_drop)?;
    must_have_terminal(&execution)?;
    let client = context.client()?;
    let signals = Signals::hold().map_err(anyhow::Error::from)?;
    let told = told(&env);
    let new = New::make(&client, sandbox, &command, told)?;
    let what = What { command, env, rights, execution };
    match start(context, &client, &signals, &new, what) {
        Ok(None) => {
            report(context, &new)?;
            Ok(exit::OK)
        }
        Ok(Some(code)) => {
            new.ended(&client, code);
            Ok(code)
        }
        Err(failure) => {
            new.undo(&client);
            Err(failure)
        }
    }
}

fn report(context: &Context, new: &New) -> Result<(), Failure> {
    if context.wants_json() {
        output::json(&new.created)
    } else {
        Ok(output::line(&new.created.id)?)
    }
}

/// Starts a container and its command, and stays with it unless it is detached.
fn start(
    context: &Context,
    client: &Client,
    signals: &Signals,
    new: &New,
    what: What,
) -> Result<Option<u8>, Failure> {
    let id = &new.created.id;
    let started: proto::ContainerStarted =
        client.request(&paths::container_start(id)).map_err(engine)?;
    if let Some(signal) = signals.asked_to_end() {
        return Err(Failure::silent(exit::of_signal(signal as i32)));
    }
    if what.command.is_empty() {
        return Ok(None);
    }
    let what = What { env: with_links(context, id, what.env)?, ..what };
    let interior = Interior {
        netns: (!started.netns.is_empty()).then(|| PathBuf::from(&started.netns)),
        rest: own(context, &started.sandbox_id)?,
    };
    execute(signals, interior, what, |pid| {
        let process = proto::ProcessStarted { pid };
        client.act(&paths::container_process(id), Some(&process)).map_err(engine)
    })
}

/// A command, and how it is executed.
struct What {
    command: Vec<OsString>,
    env: Vec<(String, Option<String>)>,
    rights: Rights,
    execution: Execution,
}

/// Executes a command inside, and stays with it unless it is detached.
fn execute(
    signals: &Signals,
    interior: Interior,
    what: What,
    announce: impl FnOnce(i32) -> Result<(), Failure>,
) -> Result<Option<u8>, Failure> {
    let What { command, env, rights, execution } = what;
    let input = execution.interactive;
    let (streams, own) = match (execution.detach, execution.tty) {
        (true, _) => (Streams::Nowhere, None),
        (false, false) => (Streams::Own { input }, None),
        (false, true) => {
            let (own, end) = Terminal::open(input).context("cannot make a terminal")?;
            (Streams::Terminal(end), Some(own))
        }
    };
    let settings = Settings::remember();
    let launched = Launch { command, env, workdir: execution.workdir, streams, rights };
    let mut child = launch(interior, launched, announce)?;
    if execution.detach {
        return Ok(None);
    }
    let status = match own {
        Some(terminal) => terminal.stay(signals, &mut child),
        None => signals.wait(&mut child),
    };
    drop(settings);
    Ok(Some(wait::code(status?)))
}

/// Refuses to type on a terminal that this client does not have, as docker does.
fn must_have_terminal(execution: &Execution) -> Result<(), Failure> {
    let Execution { detach, interactive, tty, .. } = execution;
    if *interactive && *tty && !detach && !terminal::has_input() {
        return Err(Failure::usage("the input device is not a TTY")
            .hint("without -t the command reads what is piped to this client"));
    }
    Ok(())
}

/// Finds the files of a sandbox, which the agent keeps: its own, or those of the container whose network it has.
fn own(context: &Context, sandbox: &str) -> Result<Rest, Failure> {
    let files = files::directory(&context.run_dir()?, sandbox);
    let path = files.join("hostname");
    let hostname = fs::read_to_string(&path)
        .with_context(|| {
            format!("cannot read {}: is the agent's run directory another one?", path.display())
        })
        .map_err(|error| Failure::from(error).with_code(exit::ENGINE))?;
    Ok(Rest::Own { hostname: hostname.trim_end().to_owned(), files })
}

/// Returns the variables that a container's links tell; what the operator says of a variable comes after them.
fn with_links(
    context: &Context,
    id: &str,
    own: Vec<(String, Option<String>)>,
) -> Result<Vec<(String, Option<String>)>, Failure> {
    let path = files::directory(&context.run_dir()?, id).join(files::ENVIRONMENT);
    // One that has another's network has no links.
    let text = fs::read_to_string(path).unwrap_or_default();
    let pairs = text.split_terminator('\0').filter_map(|variable| variable.split_once('='));
    let links = pairs.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    Ok(links.chain(own).collect())
}

/// A refusal of the agent, with the exit code that `run` and `exec` have for it.
fn engine(error: ClientError) -> Failure {
    Failure::from(error).with_code(exit::ENGINE)
}

/// A container made for a command.
struct New {
    created: proto::ContainerCreated,
    removed_at_end: bool,
}

impl New {
    fn make(
        client: &Client,
        sandbox: Sandbox,
        command: &[OsString],
        env: Vec<String>,
    ) -> Result<Self, Failure> {
        let removed_at_end = sandbox.rm;
        match container::make(client, sandbox, command, env) {
            Ok(created) => Ok(Self { created, removed_at_end }),
            Err(failure) if failure.code() == exit::USAGE => Err(failure),
            Err(failure) => Err(failure.with_code(exit::ENGINE)),
        }
    }

    /// Removes the container: its command never ran.
    fn undo(&self, client: &Client) {
        if let Err(error) = remove(client, &self.created.id) {
            output::complain(format!(
                "container {name} is left behind: {error}\nremove it with `bascule rm -f {name}`",
                name = self.created.name
            ));
        }
    }

    /// Tells the agent that the command has ended, with what only its parent knows.
    fn ended(&self, client: &Client, code: u8) {
        let told = patiently(|| {
            if self.removed_at_end {
                return remove(client, &self.created.id);
            }
            let stop = proto::ContainerStop { exit_code: Some(code.into()) };
            client.act(&paths::container_stop(&self.created.id), Some(&stop))
        });
        match told {
            // Removed meanwhile, or stopped by someone else.
            Ok(()) | Err(ClientError::Refused { status: 404 | 409, .. }) => {}
            Err(error) => output::complain(format!(
                "the command has ended, but the agent was not told: {error}\n{}",
                match self.removed_at_end {
                    true => format!("its next start removes container {}", self.created.name),
                    false =>
                        format!("its next start marks container {} as exited", self.created.name),
                }
            )),
        }
    }
}

fn remove(client: &Client, id: &str) -> Result<(), ClientError> {
    match client.delete(&format!("{}?force=1", paths::container(id))) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Tries again while the agent is away for a moment.
fn patiently(act: impl Fn() -> Result<(), ClientError>) -> Result<(), ClientError> {
    let start = Instant::now();
    loop {
        match act() {
            Err(ClientError::Unreachable { .. } | ClientError::Broken { .. })
                if start.elapsed() < RESTART =>
            {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// Refuses words where docker has image and command.
fn refuse_images(sandbox: &Sandbox, words: &[OsString]) -> Result<(), Failure> {
    let Some((image, command)) = words.split_first() else { return Ok(()) };
    if image.to_string_lossy().starts_with('-') {
        let flag = image.to_string_lossy();
        return Err(Failure::usage(format!("unexpected argument '{flag}' found"))
            .hint("`bascule run --help` lists what there is; a command stands behind `--`"));
    }
    let command: Vec<_> = match command {
        [] => vec!["sh".into()],
        command => command.iter().map(|word| word.to_string_lossy()).collect(),
    };
    let name = sandbox.name.as_ref().map(|name| format!("--name {name} ")).unwrap_or_default();
    Err(Failure::usage(format!(
        "there are no images here, and {image:?} stands where docker has one"
    ))
    .hint(format!(
        "a command of the host stands behind `--`: bascule run {name}... -- {}",
        command.join(" ")
    )))
}

/// Reads what was said about the environment.
fn environment(execution: &Execution) -> Result<Vec<(String, Option<String>)>, Failure> {
    let parse = |text: &String| match text.split_once('=') {
        Some(("", _)) => Err(Failure::usage(format!("invalid environment variable: {text}"))),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((text.clone(), None)),
    };
    execution.env.iter().map(parse).collect()
}

/// Returns the variables that links to the container tell. The agent keeps them: what is long is no business of links.
fn told(env: &[(String, Option<String>)]) -> Vec<String> {
    let pairs = env.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    pairs.filter(|pair| pair.len() <= LONGEST_TOLD).take(MOST_TOLD).collect()
}

/// Runs a command in a running container.
pub fn exec(context: &Context, args: Exec) -> Result<u8, Failure> {
    let Exec { execution, container, command } = args;
    let env = environment(&execution)?;
    must_have_terminal(&execution)?;
    let client = context.client()?;
    let found: proto::Container =
        client.get(&paths::container_inspect(&container)).map_err(engine)?;
    if !found.state.running {
        return Err(Failure::new(format!("container {container} is not running"))
            .hint(format!("start it with `bascule start {container}`"))
            .with_code(exit::ENGINE));
    }
    let env = with_links(context, &found.id, env)?;
    let interior = interior(context, &client, found)?;
    let signals = Signals::hold().map_err(anyhow::Error::from)?;
    let rights = match interior.rest {
        _ if execution.privileged => Rights::ALL,
        // What the container's own command may do, those may who join it.
        Rest::Of(pid) => Rights::of(pid)?,
        Rest::Own { .. } => Rights::new(false, &[], &[])?,
    };
    let what = What { command, env, rights, execution };
    Ok(execute(&signals, interior, what, |_| Ok(()))?.unwrap_or(exit::OK))
}

/// Finds out what is inside a running container: that of its process where it has one of ours.
fn interior(
    context: &Context,
    client: &Client,
    mut container: proto::Container,
) -> Result<Interior, Failure> {
    let run_dir = context.run_dir()?;
    let pid = container.state.pid;
    while let Some(other) = container.host_config.network_mode.strip_prefix("container:") {
        if pid > 0 {
            // It has joined the other's network, which may have ended since.
            let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
            return Ok(Interior { netns: Some(netns), rest: Rest::Of(pid) });
        }
        container = client.get(&paths::container_inspect(other)).map_err(engine)?;
    }
    let container = &container;
    let key = Path::new(&container.network_settings.sandbox_key);
    let is_own = key.starts_with(run_dir.join("netns"));
    let rest = match container.state.pid {
        pid if pid > 0 && is_own => Rest::Of(pid),
        _ => own(context, &container.id)?,
    };
    let netns = (!key.as_os_str().is_empty()).then(|| key.to_owned());
    Ok(Interior { netns, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_where_an_image_would_stand_are_refused_with_a_hint() {
        let sandbox = Sandbox { name: Some("c1".into()), ..Default::default() };
        let words = ["busybox", "sleep", "9"].map(OsString::from);
        let failure = refuse_images(&sandbox, &words).expect_err("refused");
        assert_eq!(failure.code(), 2);
        let text = failure.to_string();
        assert!(text.contains("there are no images here"), "{text}");
        assert!(text.contains("bascule run --name c1 ... -- sleep 9"), "{text}");
        assert!(refuse_images(&sandbox, &[]).is_ok());
        let typo = refuse_images(&sandbox, &["--nmae".into()]).expect_err("refused");
        assert!(typo.to_string().contains("unexpected argument '--nmae'"), "{typo}");
    }

    #[test]
    fn variables_are_set_or_taken_out() {
        let execution = Execution { env: vec!["A=1=2".into(), "B".into()], ..Default::default() };
        let env = environment(&execution).expect("good");
        assert_eq!(env, [("A".into(), Some("1=2".into())), ("B".into(), None)]);
        let execution = Execution { env: vec!["=x".into()], ..Default::default() };
        assert_eq!(environment(&execution).expect_err("bad").code(), 2);
    }
}
