//! `IpamDriver.*`: pools and addresses for Docker's networks.

use serde_json::{Value, json};

use super::{
    proto::{OfAddress, OfPool, RequestPool, keys},
    read,
};
use crate::{
    model::{GLOBAL, LOCAL, PoolId},
    reconcile::Handle,
    state::{Change, Outcome, PluginChange, Rejected},
};

/// Does what a method asks for; none: there is no such method.
pub(super) async fn answer(
    handle: &Handle,
    method: &str,
    body: &[u8],
) -> Option<Result<Value, Rejected>> {
    Some(match method {
        // Everything is kept here: nothing has to be asked for again.
        "GetCapabilities" => {
            Ok(json!({"RequiresMACAddress": false, "RequiresRequestReplay": false}))
        }
        "GetDefaultAddressSpaces" => Ok(json!({
            "LocalDefaultAddressSpace": LOCAL,
            "GlobalDefaultAddressSpace": GLOBAL,
        })),
        "RequestPool" => request_pool(handle, body).await,
        "ReleasePool" => release_pool(handle, body).await,
        "RequestAddress" => request(handle, body).await,
        "ReleaseAddress" => release(handle, body).await,
        _ => return None,
    })
}

async fn change(handle: &Handle, change: PluginChange) -> Result<Outcome, Rejected> {
    handle.change(Change::Plugin(change)).await
}

fn pool_id(text: &str) -> Result<PoolId, Rejected> {
    text.parse().map_err(Rejected::invalid)
}

async fn request_pool(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let RequestPool { address_space: space, pool, sub_pool: range, v6 } = read::body(body)?;
    match change(handle, PluginChange::RequestPool { space, pool, range, v6 }).await? {
        Outcome::Pool(id) => {
            Ok(json!({"PoolID": id.to_string(), "Pool": id.subnet.to_string(), "Data": {}}))
        }
        _ => Err(Rejected::internal("no pool was given")),
    }
}

async fn release_pool(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: OfPool = read::body(body)?;
    change(handle, PluginChange::ReleasePool(pool_id(&asked.pool)?)).await.map(|_| json!({}))
}

async fn request(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: OfAddress = read::body(body)?;
    let address = match asked.address.as_str() {
        "" => None,
        text => Some(read::address(text)?),
    };
    let kind = asked.options.as_ref().and_then(|options| options.get(keys::ADDRESS_TYPE));
    let gateway = kind.and_then(Value::as_str) == Some(keys::GATEWAY);
    let pool = pool_id(&asked.pool)?;
    match change(handle, PluginChange::RequestAddress { pool, address, gateway }).await? {
        Outcome::Address(address) => Ok(json!({"Address": address.to_string(), "Data": {}})),
        _ => Err(Rejected::internal("no address was given")),
    }
}

async fn release(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: OfAddress = read::body(body)?;
    let (pool, addresses) = (pool_id(&asked.pool)?, vec![read::address(&asked.address)?]);
    change(handle, PluginChange::ReleaseAddresses { pool, addresses }).await.map(|_| json!({}))
}
