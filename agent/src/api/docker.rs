//! Docker's networks over the socket: how it stands, take over, give back.

pub use crate::docker::report::{
    ConfigReport, ContainerReport, DaemonReport, KeyReport, NetworkReport, Report,
};

use super::{context::Context, reply::Reply, request::Request};
use crate::{
    docker::service::DockerError,
    state::{Kind, Rejected},
};

fn refused(error: DockerError) -> Rejected {
    match error {
        DockerError::Rejected(rejected) => rejected,
        DockerError::Engine(error) => Rejected::new(Kind::Unavailable, error.to_string()),
        DockerError::Unfit(why) => Rejected::conflict(why),
        error => Rejected::internal(error),
    }
}

/// Tells how it stands, and what taking over would change.
pub(super) async fn report(context: &Context) -> Result<Reply, Rejected> {
    Reply::json(200, &context.docker.report().await.map_err(refused)?)
}

/// Takes over Docker's networks.
pub(super) async fn adopt(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    request.peer.must_be_root("taking over Docker's networks")?;
    Reply::json(200, &context.docker.adopt().await.map_err(refused)?)
}

/// Gives Docker's networks back.
pub(super) async fn release(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    request.peer.must_be_root("giving back Docker's networks")?;
    Reply::json(200, &context.docker.release().await.map_err(refused)?)
}
