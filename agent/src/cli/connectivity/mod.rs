//! `bascule connectivity test`: proves end to end that the data plane of this host works.
//!
//! [`stage`] makes networks and containers of its own through the ordinary API, [`plan`] says what is tried on it,
//! [`trial`] tries it with the sockets of [`probe`], [`ping`] and [`resolver`], [`report`] says how it went, and
//! [`sweep`] removes everything. Nothing of the operator's is touched, and no program but this client is needed.

mod ping;
mod plan;
mod probe;
mod report;
mod resolver;
mod stage;
mod sweep;
mod trial;

use std::time::{Duration, Instant};

use self::{
    report::{Progress, Report},
    stage::{Host, Stage},
    trial::Trial,
};
use super::{
    Context,
    args::{Connectivity, ConnectivityTest},
    output,
    sandbox::wait::Signals,
};
use crate::{
    api::{client::Client, paths, proto},
    error::{Failure, exit},
};

/// Does a verb of `connectivity`.
pub fn connectivity(context: &Context, verb: &Connectivity) -> Result<u8, Failure> {
    match verb {
        Connectivity::Test(args) => test(context, args),
    }
}

/// Tries everything, and removes what was made for it, whatever happens meanwhile.
fn test(context: &Context, args: &ConnectivityTest) -> Result<u8, Failure> {
    let client = context.client()?;
    // What ends other programs ends this one after it has tidied up.
    let signals = Signals::hold().map_err(anyhow::Error::from)?;
    let status: proto::Status = client.get(paths::STATUS)?;
    let host = Host::of(&status)?;
    let _alone = host.only_one(&context.run_dir()?)?;
    let progress = Progress::new(context.wants_json());
    let removed = sweep::sweep(&client)?;
    progress.removed(&removed)?;
    let tried = try_all(context, args, &client, &signals, host, &progress);
    let swept = sweep::sweep(&client);
    if let Err(failure) = &swept {
        output::complain(format!("{failure}\nthe next `bascule connectivity test` removes it"));
    }
    let mut report = tried?;
    report.removed = removed;
    if context.wants_json() {
        output::json(&report)?;
    } else {
        output::line(report.summary())?;
    }
    Ok(if report.failed == 0 && swept.is_ok() { exit::OK } else { exit::REFUSED })
}

/// Makes the stage and tries every case on it.
fn try_all(
    context: &Context,
    args: &ConnectivityTest,
    client: &Client,
    signals: &Signals,
    host: Host,
    progress: &Progress,
) -> Result<Report, Failure> {
    let start = Instant::now();
    let stage = Stage::make(client, &context.run_dir()?, host, || go_on(signals))?;
    let cases = plan::cases(args.family, &args.external);
    let trial = Trial::new(client, &stage, Duration::from_secs(args.timeout))?;
    let mut report = Report { run: stage.run.clone(), ..Report::default() };
    for case in &cases {
        go_on(signals)?;
        progress.begin(case)?;
        let result = trial.run(case);
        progress.end(&result)?;
        report.add(result);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Fails where this client was asked to end.
fn go_on(signals: &Signals) -> Result<(), Failure> {
    match signals.asked_to_end() {
        Some(signal) => {
            Err(Failure::new(format!("ended by {signal}; everything is removed again"))
                .with_code(exit::of_signal(signal as i32)))
        }
        None => Ok(()),
    }
}
