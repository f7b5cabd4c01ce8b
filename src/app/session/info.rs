//! Descriptions of clients and streams, as events, gates and reports name them.

use std::net::IpAddr;
use std::sync::Arc;

use super::engines::Engine;

/// The property of a connect object in which a forwarder names the servers that its stream has passed.
pub(crate) const FORWARD_ROUTE_PROPERTY: &str = "srsForwardRoute";

/// A connected client and what its `connect` asked for. It does not change during the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    pub id: u64,
    /// The client's address; behind a load balancer, the address that the balancer announced.
    pub ip: IpAddr,
    pub vhost: String,
    pub app: String,
    pub app_params: String,
    pub tc_url: String,
    pub page_url: String,
    /// The servers that the client's streams have passed, as a forwarder of another server sent it; else empty.
    pub forward_route: String,
    pub engine: Option<Arc<Engine>>,
}

#[cfg(test)]
impl ClientInfo {
    /// Returns a client for tests: on this machine, in the application `live` of the vhost `v`.
    pub(crate) fn of_test(id: u64) -> Self {
        Self {
            id,
            ip: [127, 0, 0, 1].into(),
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            app_params: String::new(),
            tc_url: String::new(),
            page_url: String::new(),
            forward_route: String::new(),
            engine: None,
        }
    }
}

/// A stream as one client publishes or plays it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The name of the stream's vhost, which may differ from the connection's.
    pub vhost: String,
    pub app: String,
    /// The stream's name within the application, without parameters.
    pub stream: String,
    /// The stream's name in the server: vhost/app/stream.
    pub name: String,
    /// The parameters of the stream, without their `?`, as those of an application.
    pub params: String,
}
