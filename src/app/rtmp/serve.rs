//! Serves an RTMP client from the handshake to the close.
//!
//! | step | function | result |
//! |---|---|---|
//! | PROXY header, TLS, handshake | [`Connection::open`] | chunks can be read and written |
//! | `connect` | [`Connection::admit`] | vhost, page URL and forward route, or a rejection |
//! | `publish` | [`Connection::serve_publisher`] | media messages for the stream |
//! | `play` | [`Connection::serve_player`] | batches of the stream for the client |
//! | close | [`Connection::send_close_status`] | the status that names the reason; then the connection lingers |
//!
//! A connection publishes one stream or plays one stream at a time. A `play` during playback, on any message stream,
//! ends that playback with NetStream.Play.Stop and starts the new one. `play` from a publisher and `publish` from a
//! player are refused, and what runs continues. Clients that need two streams open two connections.

use std::convert::Infallible;
use std::sync::Arc;

use crate::app::context::Context;
use crate::app::rtmp::bandwidth_test;
use crate::app::rtmp::connection::Connection;
use crate::app::rtmp::errors::setup_error;
use crate::app::rtmp::tls::TlsAcceptor;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::config::ListenKind;
use crate::rtmp::handshake;
use crate::rtmp::server::Event;

/// Serves a client until its connection ends. `too_many` is the reason to reject it, if the server is full.
pub(crate) fn serve(
    ctx: &Context,
    tls: &TlsAcceptor,
    client: &Arc<Client>,
    kind: ListenKind,
    too_many: Option<String>,
) -> CloseReason {
    match open_and_serve(ctx, tls, client, kind, too_many) {
        Ok(never) => match never {},
        Err(reason) => client.close_requested().unwrap_or(reason),
    }
}

fn open_and_serve(
    ctx: &Context,
    tls: &TlsAcceptor,
    client: &Arc<Client>,
    kind: ListenKind,
    too_many: Option<String>,
) -> Result<Infallible, CloseReason> {
    let (mut connection, form) = Connection::open(ctx, tls, client, kind)?;
    let result = serve_commands(&mut connection, form, too_many);
    if let Some(reason) = client.close_requested() {
        connection.send_close_status(0, "NetConnection.Connect.Closed", &reason);
    }
    result
}

fn serve_commands(
    connection: &mut Connection<'_>,
    form: handshake::Form,
    too_many: Option<String>,
) -> Result<Infallible, CloseReason> {
    // The limit applies to `connect`, and then again to `publish` or `play`.
    connection.start_command_timeout();
    let admitted = connection.admit(form, too_many)?;
    if let Some(test) = connection.test.take() {
        return bandwidth_test::run(connection, &admitted.app.vhost, *test);
    }
    connection.start_command_timeout();
    loop {
        connection.yield_if_used_up();
        let mut event = Some(connection.rtmp.next_event().map_err(setup_error)?);
        // Publishing and playing can end with the client's next event, such as another `play`.
        while let Some(current) = event.take() {
            match current {
                Event::Publish(mut publish) => {
                    let engine = connection.identify(&admitted, &mut publish.name);
                    connection.serve_publisher(engine.as_deref().unwrap_or(&admitted), &publish)?;
                    connection.start_command_timeout();
                }
                Event::Play(mut play) => {
                    let engine = connection.identify(&admitted, &mut play.name);
                    let admitted = engine.as_deref().unwrap_or(&admitted);
                    event = connection.serve_player(admitted, &play)?.map(Event::Play);
                    connection.start_command_timeout();
                }
                Event::ReceiveAudio(wanted) => connection.wants_audio = wanted,
                Event::ReceiveVideo(wanted) => connection.wants_video = wanted,
                _ => {}
            }
        }
    }
}
