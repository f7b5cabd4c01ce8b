//! The server as a product: clients, streams, outputs, and what keeps them in bounds. This file composes it.
//!
//! ```text
//! publisher ──> rtmp ──> stream ──> rtmp ──> players
//!                          ├──────> outputs: HLS, recordings, forwarders
//! viewer    <── http <─────┘
//! ```
//!
//! | module | content | may use |
//! |---|---|---|
//! | [`session`], [`stream`], `limits`, `stats` | clients and requests; streams; memory, load, fairness; counters | each other |
//! | [`events`], `context`, `gates` | events and gates; handles of all of these, for connections and features | the above |
//! | [`rtmp`], `http`, [`outputs`], `hooks` | connections by protocol; HLS, recording, forwarding; callbacks, transcoding | the above |
//! | [`server`] | listeners, control commands, reload, shutdown | `context`, `session`, `stream`, `limits` |
//! | this file | the list of features, and the start | all |

mod context;
pub mod events;
mod gates;
pub mod hooks;
#[cfg(feature = "http")]
pub mod http;
mod limits;
pub mod outputs;
pub mod rtmp;
pub mod server;
pub mod session;
mod stats;
pub mod stream;

use std::io;
use std::sync::Arc;

use self::context::{Context, Feature};
use self::hooks::http_callbacks::HttpCallbacks;
use self::hooks::transcode::Transcoder;
use self::hooks::transcode::ladders::Ladders;
#[cfg(feature = "http")]
use self::http::{
    Http,
    handlers::{
        api::{Api, ApiHandler},
        bandwidth::{BandwidthHandler, BandwidthPageHandler},
        console::ConsoleHandler,
        hls_access::HlsAccessHandler,
        hls_sessions::HlsSessions,
        live_files::LiveFileHandler,
        live_streams::LiveStreamHandler,
        master_playlist::MasterPlaylistHandler,
        static_files::StaticFileHandler,
    },
    router::{EXPORTER, HTTP_API, HTTP_SERVER, Router},
};
use self::limits::files;
use self::limits::memory::MemoryLimiter;
use self::limits::overload::LoadShedder;
use self::outputs::dvr::DvrFeature;
use self::outputs::forward::ForwardManager;
#[cfg(feature = "hls")]
use self::outputs::hls::Hls;
#[cfg(any(feature = "hls", feature = "http"))]
use self::outputs::live_files::LiveFiles;
use self::rtmp::bandwidth_test::BandwidthTestFeature;
use self::rtmp::server::RtmpServer;
use self::rtmp::tls::TlsAcceptor;
use self::server::Server;
use self::server::acceptor::{self, ServeAccepted};
use self::server::control::Control;
use self::server::listeners::{Listeners, Sockets};
use crate::config::{Config, ConfigCell, ListenKind};
use crate::log::quoted;
use crate::os::ControlCommand;
use crate::st;
use crate::st::net::TcpStream;

pub use hooks::transcode::check_programs;
pub use session::close::CloseReason;

struct Protocols {
    rtmp: Arc<RtmpServer>,
    #[cfg(feature = "http")]
    http: Arc<Http>,
}

impl ServeAccepted for Protocols {
    fn serve_accepted(&self, stream: &TcpStream, kind: ListenKind) {
        match kind {
            ListenKind::Rtmp | ListenKind::Rtmps { .. } => self.rtmp.serve_accepted(stream, kind),
            #[cfg(feature = "http")]
            ListenKind::Http => self.http.serve_accepted(stream, HTTP_SERVER, false),
            #[cfg(feature = "http")]
            ListenKind::HttpApi => self.http.serve_accepted(stream, HTTP_API, false),
            #[cfg(feature = "http")]
            ListenKind::HttpsApi => self.http.serve_accepted(stream, HTTP_API, true),
            #[cfg(feature = "http")]
            ListenKind::Exporter => self.http.serve_accepted(stream, EXPORTER, false),
            // The configuration has no such listener then.
            #[cfg(not(feature = "http"))]
            ListenKind::Http | ListenKind::HttpApi | ListenKind::HttpsApi | ListenKind::Exporter => {}
        }
    }
}

/// Starts the server on sockets that already listen, and returns. Its coroutines continue. Must be called from a
/// coroutine. Fails when the system has no memory or thread for the first coroutines.
pub fn start(config: Config, sockets: Sockets, tls: TlsAcceptor, control: Control) -> io::Result<()> {
    files::check_limit(&config);
    let (config, config_setter) = ConfigCell::new(Arc::new(config));
    #[cfg(any(feature = "hls", feature = "http"))]
    let live_files = LiveFiles::new();
    #[cfg(feature = "hls")]
    let hls = Hls::new(live_files.clone())?;
    let ctx = Context::new(config);
    let commands = control.commands.clone();
    ctx.reloads.set_wake(move || commands.post(ControlCommand::Requests));

    let ladders = Ladders::default();

    // The list of features. A new one is added here, and nowhere else.
    let rtmp = Arc::new(RtmpServer::new(ctx.clone(), tls.clone()));
    #[cfg(feature = "http")]
    let api = Arc::new(Api::new(ctx.clone()));
    #[cfg(feature = "http")]
    let http = {
        let streams = Arc::new(LiveStreamHandler::new(ctx.clone()));
        let access = Arc::new(HlsAccessHandler::new(ctx.clone(), live_files.clone()));
        let live = Arc::new(LiveFileHandler::new(live_files.clone()));
        let master = Arc::new(MasterPlaylistHandler::new(ctx.clone(), ladders.clone(), live_files.clone()));
        let [console, api_console] = ConsoleHandler::for_sites(&ctx, &live_files);
        let files = Arc::new(StaticFileHandler::new(ctx.config.clone()));
        let bandwidth = Arc::new(BandwidthHandler::new(ctx.clone(), api.clone()));
        let bandwidth_page = Arc::new(BandwidthPageHandler::new(ctx.clone()));
        let router = Router::new()
            .with(HTTP_SERVER, "", bandwidth_page.clone())
            .with(HTTP_SERVER, "", streams.clone())
            .with(HTTP_SERVER, "", access.clone())
            .with(HTTP_SERVER, "", master.clone())
            .with(HTTP_SERVER, "", live.clone())
            .with(HTTP_SERVER, "", console)
            .with(HTTP_SERVER, "", files.clone())
            // An application may be named api too.
            .with(HTTP_SERVER, "api/v1", ApiHandler::guest(api.clone()))
            .with(HTTP_SERVER, "api/v1", streams)
            .with(HTTP_SERVER, "api/v1", access)
            .with(HTTP_SERVER, "api/v1", master)
            .with(HTTP_SERVER, "api/v1", live)
            .with(HTTP_SERVER, "api/v1", files)
            .with(HTTP_SERVER, "api/v1/bandwidth", bandwidth.clone())
            .with(HTTP_API, "api/v1/bandwidth", bandwidth)
            .with(HTTP_API, "", bandwidth_page)
            .with(HTTP_API, "", api_console)
            .with(HTTP_API, "", ApiHandler::new(api.clone()))
            .with(EXPORTER, "", ApiHandler::exporter(api.clone()));
        Arc::new(Http::new(&ctx, router, tls))
    };
    let features: Vec<Arc<dyn Feature>> = vec![
        rtmp.clone(),
        #[cfg(feature = "hls")]
        Arc::new(outputs::hls::HlsFeature::new(ctx.clone(), hls)),
        #[cfg(feature = "http")]
        http.clone(),
        #[cfg(feature = "http")]
        api,
        #[cfg(feature = "http")]
        Arc::new(HlsSessions::new(ctx.clone())),
        Arc::new(DvrFeature::new(ctx.clone())?),
        Arc::new(ForwardManager::new(ctx.clone())),
        Arc::new(HttpCallbacks::new(ctx.clone())),
        Arc::new(Transcoder::new(ctx.clone(), ladders)),
        Arc::new(BandwidthTestFeature::new(ctx.clone())),
    ];

    connect_features(&ctx, &features);
    start_background(&ctx, &features)?;
    let protocols = Protocols {
        rtmp,
        #[cfg(feature = "http")]
        http,
    };
    let listeners = Listeners::new(move |listener| acceptor::run(listener, &protocols));
    let server = Server { ctx, config_setter, listeners, features };
    server.listen(&server.ctx.config.get().listeners(), sockets)?;
    st::spawn_supervised("control", move || control.run(&server))
}

/// Makes the features known to the server: as listeners, as gates, and for reports.
fn connect_features(ctx: &Context, features: &[Arc<dyn Feature>]) {
    ctx.features.register(features.to_vec());
    let listeners = features.iter().filter_map(|feature| feature.clone().listener()).collect();
    let gates = features.iter().filter_map(|feature| feature.clone().gate());
    let gates = gates::built_in(ctx.admission.clone()).into_iter().chain(gates).collect();
    ctx.events.register(listeners, gates);
}

/// Starts the background coroutines: statistics, idle streams, memory, load, and those of the features.
fn start_background(ctx: &Context, features: &[Arc<dyn Feature>]) -> io::Result<()> {
    for group in [&ctx.stats.play, &ctx.stats.publish, &ctx.stats.forward] {
        let group = group.clone();
        st::spawn_supervised("pithy print", move || group.run())?;
    }
    let totals = ctx.stats.closed.clone();
    st::spawn_supervised("totals", move || totals.run())?;
    let streams = ctx.streams.clone();
    st::spawn_supervised("sweep", move || streams.run_sweeper())?;
    if let Err(error) = st::start_watchdog() {
        log::warn!("watchdog disabled, a blocked worker will not be reported: error={}", quoted(error));
    }
    let limiter = MemoryLimiter::new(
        ctx.config.clone(),
        ctx.memory.clone(),
        ctx.streams.clone(),
        ctx.clients.clone(),
        ctx.admission.control(),
        features.iter().filter_map(|feature| feature.clone().reclaim()).collect(),
    );
    st::spawn_supervised("memory", move || limiter.run())?;
    let shedder =
        LoadShedder::new(ctx.config.clone(), ctx.clients.clone(), ctx.batching.clone(), ctx.admission.control());
    st::spawn_supervised("overload", move || shedder.run())?;
    for feature in features {
        feature.start()?;
        log::debug!("feature started: feature={}", feature.name());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
