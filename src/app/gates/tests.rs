use std::time::Instant;

use super::*;
use crate::app::events::Listener;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::request::AppRequest;
use crate::config::{Config, ConfigCell};
use crate::rtmp::connect::Connect;
use crate::st::net::TcpListener;

const BOUND: Duration = Duration::from_secs(20);

/// A gate that waits for `time`, then refuses with its name, or passes if it has none.
struct SlowGate {
    time: Duration,
    refusal: &'static str,
}

impl Gate for SlowGate {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn may_block(&self, _: &GateRequest) -> bool {
        true
    }

    fn check(&self, _: &GateRequest) -> Result<GateAnswer, CloseReason> {
        st::sleep(self.time);
        match self.refusal {
            "" => Ok(GateAnswer::default()),
            "panic" => panic!("on purpose"),
            refusal => Err(CloseReason::Refused(refusal.to_owned())),
        }
    }
}

struct Rig {
    ctx: Context,
    client: Arc<Client>,
    far: TcpStream,
    request: GateRequest,
}

impl Rig {
    fn new(gates: Vec<Arc<dyn Gate>>) -> Self {
        let config = Arc::new(Config::parse("t", "listen 1935; vhost __defaultVhost__ { }").unwrap());
        let app = AppRequest::new(&Connect::new("live", "rtmp://h/live"), &config).unwrap();
        let ctx = Context::new(ConfigCell::new(config.clone()).0);
        ctx.events.register(Vec::<Arc<dyn Listener>>::new(), gates);
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap(), BOUND).unwrap();
        let near = listener.accept().unwrap().unwrap();
        let (client, _) = ctx.clients.add(&near, &config).unwrap();
        let info = ClientInfo {
            ip: client.address().ip(),
            vhost: app.vhost.name.clone(),
            ..ClientInfo::of_test(client.number)
        };
        let stream = StreamInfo {
            vhost: info.vhost.clone(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
            name: "v/live/s".to_owned(),
            params: String::new(),
        };
        let (client_info, stream) = (Arc::new(info), Some(Arc::new(stream)));
        let request = GateRequest {
            action: GateAction::Publish,
            client: client_info,
            stream,
            vhost: app.vhost,
            is_granted: false,
        };
        Self { ctx, client, far, request }
    }

    fn ask(&mut self) -> Result<(), CloseReason> {
        let stream = &self.client.stream;
        let mut read = || match stream.try_read(&mut [0; 64])? {
            Some(0) => Err(CloseReason::ByPeer),
            read => Ok(read.is_some()),
        };
        ask_blocking(&self.ctx, &self.client, &self.request, &mut read).map(drop)
    }
}

fn slow(milliseconds: u64, refusal: &'static str) -> Arc<dyn Gate> {
    Arc::new(SlowGate { time: Duration::from_millis(milliseconds), refusal })
}

#[test]
fn a_gate_that_waits_holds_up_nobody_else_and_its_answer_counts() {
    st::run(|| {
        let others = st::spawn("others", 0, || st::sleep(Duration::from_millis(20))).unwrap();
        let mut rig = Rig::new(vec![slow(200, ""), slow(50, "not today"), slow(0, "never asked")]);
        assert_eq!(rig.ask(), Err(CloseReason::Refused("not today".to_owned())));
        assert!(others.is_finished(), "it ran while the gate waited");
        assert_eq!(Rig::new(vec![slow(50, "")]).ask(), Ok(()));
    })
    .unwrap();
}

#[test]
fn a_client_that_leaves_or_is_closed_ends_the_wait() {
    st::run(|| {
        let started = Instant::now();
        let mut rig = Rig::new(vec![slow(15_000, "")]);
        rig.far.shutdown();
        assert_eq!(rig.ask(), Err(CloseReason::ByPeer));
        let mut rig = Rig::new(vec![slow(15_000, "")]);
        let client = rig.client.clone();
        st::spawn("closer", 0, move || {
            st::sleep(Duration::from_millis(50));
            crate::app::stream::ClientHandle::close(&*client, CloseReason::ServerStopped);
        })
        .unwrap();
        assert_eq!(rig.ask(), Err(CloseReason::ServerStopped));
        assert!(started.elapsed() < Duration::from_secs(15), "nobody waited for the gate");
    })
    .unwrap();
}

#[test]
fn a_gate_that_panics_refuses() {
    st::run(|| {
        let answer = Rig::new(vec![slow(20, "panic")]).ask();
        assert!(matches!(answer, Err(CloseReason::Refused(_))), "{answer:?}");
    })
    .unwrap();
}

#[test]
fn built_in_gates_check_load_page_and_address() {
    st::run(|| {
        let text = "listen 1935; vhost __defaultVhost__ { refer a.com; refer_publish b.a.com; \
                    security { enabled on; deny publish 127.0.0.1; allow play all; } }";
        let vhost = Config::parse("t", text).unwrap().vhost("x").unwrap().clone();
        let mut rig = Rig::new(built_in(Admission::default()));
        rig.request.vhost = vhost;
        let mut check = |action, page: &str| {
            rig.request.action = action;
            let info = Arc::make_mut(&mut rig.request.client);
            info.page_url = page.to_owned();
            ask_immediate(&rig.ctx, &rig.request)
        };
        assert_eq!(check(GateAction::Connect, "http://a.com/"), Ok(GateAnswer::default()));
        assert!(matches!(check(GateAction::Connect, "http://evil.com/"), Err(CloseReason::Refused(_))));
        assert!(matches!(check(GateAction::Publish, "http://c.a.com/"), Err(CloseReason::Refused(_))));
        assert!(matches!(check(GateAction::Publish, "http://b.a.com/"), Err(CloseReason::Denied(_))));
        assert_eq!(check(GateAction::Play, "http://a.com/"), Ok(GateAnswer::default()));
        let admission = Admission::default();
        admission.control().set_overloaded(true);
        let rig = Rig::new(built_in(admission));
        assert!(matches!(ask_immediate(&rig.ctx, &rig.request), Err(CloseReason::Overload(_))));
    })
    .unwrap();
}
