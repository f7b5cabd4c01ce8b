//! The admission of an RTMP client to a vhost for bandwidth tests.

use crate::app::context::Context;
use crate::app::limits::bandwidth_tests::{TestPermit, TestRefusal};
use crate::app::session::client::Client;
use crate::app::session::request::AppRequest;
use crate::codec::amf0::Object;
use crate::rtmp::connect::Connect;

pub(super) struct AdmittedTest {
    pub(super) permit: TestPermit,
    /// Flash never says that it has sent all.
    pub(super) is_flash: bool,
}

pub(super) fn start(
    ctx: &Context,
    client: &Client,
    connect: &Connect,
    app: &AppRequest,
) -> Result<Box<AdmittedTest>, TestRefusal> {
    let (vhost, address) = (&app.vhost, client.address().ip());
    ctx.bandwidth_tests.check_key(vhost, address, app.test_key())?;
    let permit = ctx.bandwidth_tests.start(vhost, address)?;
    Ok(Box::new(AdmittedTest { permit, is_flash: !connect.text("swfUrl").is_empty() }))
}

pub(super) fn server_data(client: &Client) -> Object {
    let address = client.stream.local_addr().map(|address| address.ip().to_canonical().to_string());
    Object::new()
        .with("srs_server", concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .with("srs_version", env!("CARGO_PKG_VERSION"))
        .with("srs_primary", env!("CARGO_PKG_NAME"))
        .with("srs_authors", env!("CARGO_PKG_NAME"))
        .with("srs_server_ip", address.unwrap_or_default().as_str())
        .with("srs_pid", f64::from(std::process::id()))
        .with("srs_id", client.number as f64)
}
