//! `bascule resolve`: names of containers, for the host.

use super::{Context, args, output};
use crate::{
    api::{names::Resolved, paths},
    error::{Failure, exit},
};

/// Prints the addresses of a name, or the names of an address.
pub fn resolve(context: &Context, args: &args::Resolve) -> Result<u8, Failure> {
    let resolved: Resolved = context.client()?.get(&paths::name(&args.name))?;
    if context.wants_json() {
        output::json(&resolved)?;
        return Ok(exit::OK);
    }
    for line in resolved.addresses.iter().chain(&resolved.names) {
        output::line(line)?;
    }
    Ok(exit::OK)
}
