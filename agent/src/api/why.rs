//! `POST /bascule/v1/why`: what would become of a packet.

pub use crate::why::{Answer, Part, Question, Step};

use super::{context::Context, reply::Reply, request::Request};
use crate::{
    state::Rejected,
    why::{self, World},
};
use std::sync::Arc;

/// Answers a question about a packet. The kernel is asked with calls that wait: not on the API's own threads.
pub(super) async fn why(context: &Context, request: &Request) -> Result<Reply, Rejected> {
    let question: Question = request.read()?;
    if question.source.is_empty() || question.destination.is_empty() {
        return Err(Rejected::invalid("a source and a destination are needed"));
    }
    let world = World {
        tables: Arc::clone(&context.tables),
        desired: Arc::clone(&context.handle.shared.get().desired),
        names: context.names.get(),
    };
    let answer = tokio::task::spawn_blocking(move || why::explain(&world, &question)).await;
    Reply::json(200, &answer.map_err(Rejected::internal)??)
}
