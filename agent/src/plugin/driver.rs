//! `NetworkDriver.*`: networks, endpoints, sandboxes and published ports.

use serde_json::{Value, json};

use super::{
    proto::{self, Created, CreatedInterface, InterfaceName, Joined},
    read,
};
use crate::{
    kernel::owned,
    model::{Desired, Endpoint, EndpointId, Family, Network},
    reconcile::Handle,
    state::{Change, PluginChange, Rejected},
};

/// Does what a method asks for; none: there is no such method.
pub(super) async fn answer(
    handle: &Handle,
    method: &str,
    body: &[u8],
) -> Option<Result<Value, Rejected>> {
    Some(match method {
        "GetCapabilities" => Ok(json!({"Scope": "local", "ConnectivityScope": "local"})),
        "CreateNetwork" => create_network(handle, body).await,
        "DeleteNetwork" => delete_network(handle, body).await,
        "CreateEndpoint" => create_endpoint(handle, body).await,
        "EndpointOperInfo" => read::body(body).map(|_: proto::OfEndpoint| json!({"Value": {}})),
        "Join" => join(handle, body).await,
        // What has left a sandbox is of no use to another: nothing stays until it is deleted.
        "Leave" | "DeleteEndpoint" => delete_endpoint(handle, body).await,
        "ProgramExternalConnectivity" => program(handle, body).await,
        "RevokeExternalConnectivity" => revoke(handle, body).await,
        "DiscoverNew" | "DiscoverDelete" | "FreeNetwork" => Ok(json!({})),
        "AllocateNetwork" => Err(Rejected::invalid(
            "this driver has networks of one host alone, and none of a swarm",
        )),
        _ => return None,
    })
}

/// Makes a change of which there is nothing more to say.
async fn change(handle: &Handle, change: PluginChange) -> Result<Value, Rejected> {
    handle.change(Change::Plugin(change)).await.map(|_| json!({}))
}

async fn create_network(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::CreateNetwork = read::body(body)?;
    let spec = read::network(&asked)?;
    change(handle, PluginChange::CreateNetwork(Box::new(spec))).await
}

async fn delete_network(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::OfNetwork = read::body(body)?;
    change(handle, PluginChange::DeleteNetwork(read::network_id(&asked.network)?)).await
}

async fn create_endpoint(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::CreateEndpoint = read::body(body)?;
    let wish = read::endpoint(&asked)?;
    let (id, asked) = (wish.id, wish.mac);
    change(handle, PluginChange::CreateEndpoint(Box::new(wish))).await?;
    let snapshot = handle.shared.get();
    let (_, endpoint) = find(&snapshot.desired, id)?;
    // Docker takes an answer to what it has said itself for a contradiction.
    let mac_address = asked.is_none().then(|| endpoint.mac.to_string());
    json(&Created { interface: CreatedInterface { mac_address } })
}

async fn join(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::Join = read::body(body)?;
    let id = read::endpoint_id(&asked.endpoint)?;
    let key = asked.sandbox_key;
    if !key.starts_with('/') || key.len() > MOST_KEY || key.contains('\0') {
        return Err(Rejected::invalid("SandboxKey is not the path of a sandbox"));
    }
    change(handle, PluginChange::Join { endpoint: id, sandbox: key.into() }).await?;
    let snapshot = handle.shared.get();
    let (network, _) = find(&snapshot.desired, id)?;
    let gateway = |family| match network.internal {
        true => String::new(),
        false => network.gateway(family).map(|ip| ip.to_string()).unwrap_or_default(),
    };
    let (gateway, gateway6) = (gateway(Family::V4), gateway(Family::V6));
    json(&Joined {
        interface_name: InterfaceName {
            src_name: owned::temporary_peer_name(&id.to_string()),
            dst_prefix: network.options.prefix.clone().unwrap_or_else(|| "eth".to_owned()),
        },
        // Where there is none, Docker is not to make one.
        disable_gateway_service: gateway.is_empty(),
        gateway,
        gateway6,
        static_routes: [],
    })
}

/// Longest key of a sandbox.
const MOST_KEY: usize = 4096;

async fn delete_endpoint(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::OfEndpoint = read::body(body)?;
    let id = read::endpoint_id(&asked.endpoint)?;
    change(handle, PluginChange::DeleteEndpoints(vec![id])).await
}

async fn program(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::Program = read::body(body)?;
    let endpoint = read::endpoint_id(&asked.endpoint)?;
    let publish = read::ports(&asked.options)?;
    change(handle, PluginChange::Program { endpoint, publish }).await
}

async fn revoke(handle: &Handle, body: &[u8]) -> Result<Value, Rejected> {
    let asked: proto::OfEndpoint = read::body(body)?;
    change(handle, PluginChange::Revoke(read::endpoint_id(&asked.endpoint)?)).await
}

fn find(desired: &Desired, id: EndpointId) -> Result<(&Network, &Endpoint), Rejected> {
    let plugged = desired.containers.values().filter(|c| c.is_plugged());
    let found = plugged.flat_map(|c| c.endpoints()).find(|(_, endpoint)| endpoint.id == id);
    found
        .and_then(|(network, endpoint)| Some((desired.networks.get(&network)?, endpoint)))
        .ok_or_else(|| Rejected::internal(format!("endpoint {id} is gone already")))
}

fn json(value: &impl serde::Serialize) -> Result<Value, Rejected> {
    serde_json::to_value(value).map_err(Rejected::internal)
}
