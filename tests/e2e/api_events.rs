//! Beyond the API of SRS: events as they happen, closes, bans, forwarders, and the effective configuration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::api::{curl, jq, start};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::common::wire::Wire;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Starts a curl that reads events.
fn watch(scratch: &Scratch, name: &str, port: u16, query: &str, options: &[&str]) -> Process {
    let mut command = Command::new("curl");
    command.args(["-sSN", "-m", "120"]).args(options).arg(format!("http://127.0.0.1:{port}/api/v1/events{query}"));
    let reader = Process::spawn(scratch, name, command);
    eventually("the first event", LIMIT, || reader.log().contains("event: hello").then_some(()));
    reader
}

/// Returns the names and the data of the events that a reader got, without the first.
fn events(reader: &Process) -> Vec<(String, String)> {
    let log = reader.log();
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    // The last block may be incomplete.
    let blocks = log.split("\n\n").collect::<Vec<_>>();
    let whole = blocks.split_last().map_or(&[][..], |(_, whole)| whole);
    let all = whole.iter().map(|block| (field(block, "event"), field(block, "data")));
    all.filter(|(name, _)| !name.is_empty() && name != "hello").collect()
}

fn names(reader: &Process) -> Vec<String> {
    events(reader).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn events_come_in_pairs_and_a_reader_can_go_on_where_it_was() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let all = watch(&scratch, "all", api, "", &[]);
    let of_stream = watch(&scratch, "cam", api, "?stream=live/cam&type=published,unpublished,played,stopped", &[]);

    let mut publisher = Wire::publisher(server.port, "cam");
    let player = Wire::player(server.port, "cam");
    let other = Wire::player(server.port, "other");
    send(&mut publisher, 1, 0..4);
    eventually("the codecs", LIMIT, || names(&all).contains(&"codecs".to_owned()).then_some(()));
    drop(player);
    drop(other);
    eventually("the end of two players", LIMIT, || {
        (names(&all).iter().filter(|name| *name == "stopped").count() == 2).then_some(())
    });
    publisher.command(1, "FCUnpublish", 5.0, &[]);
    publisher.command(1, "deleteStream", 6.0, &[crate::common::amf::Amf::Null, crate::common::amf::Amf::Number(1.0)]);
    drop(publisher);
    eventually("the end of three clients", LIMIT, || {
        (names(&all).iter().filter(|name| *name == "closed").count() == 3).then_some(())
    });
    let found = names(&all);
    let count = |name: &str| found.iter().filter(|other| *other == name).count();
    for (name, expected) in
        [("connected", 3), ("closed", 3), ("published", 1), ("publisher_lost", 1), ("played", 2), ("stopped", 2)]
    {
        assert_eq!(count(name), expected, "{name} in {found:?}");
    }
    let data: Vec<_> = events(&all).into_iter().map(|(_, data)| data).collect();
    for (at, data) in data.iter().enumerate() {
        assert_eq!(jq(data, ".seq"), (at + 1).to_string(), "numbers without a gap");
    }
    let published = &data[found.iter().position(|name| name == "published").expect("it")];
    assert_eq!(
        jq(published, ".name, .app, .stream, .ip, .resumed"),
        "__defaultVhost__/live/cam\nlive\ncam\n127.0.0.1\nfalse"
    );
    assert_eq!(jq(&data[found.len() - 1], ".code, .ordinary"), "by-peer\ntrue");
    eventually("the end of the stream", LIMIT, || names(&of_stream).contains(&"unpublished".to_owned()).then_some(()));
    assert_eq!(names(&of_stream), ["published", "played", "stopped", "unpublished"], "only what was asked for");

    // The last events, and those after one that is known.
    let last = watch(&scratch, "last", api, "?last=2", &[]);
    eventually("two events", LIMIT, || (events(&last).len() == 2).then_some(()));
    let ids: Vec<_> = all.log().lines().filter_map(|line| line.strip_prefix("id: ").map(str::to_owned)).collect();
    let header = format!("Last-Event-ID: {}", ids[ids.len() - 4]);
    let again = watch(&scratch, "again", api, "", &["-H", &header]);
    eventually("three events", LIMIT, || (events(&again).len() == 3).then_some(()));
    assert!(again.log().contains("\"missed\":0"));
    let other_start = watch(&scratch, "other start", api, "?after=none-7", &[]);
    assert!(other_start.log().contains("\"missed\":null"));

    // A client that was never accepted, and a reload.
    let mut refused = Wire::connect(server.port);
    refused.try_connect_app(&"a".repeat(300), &[]);
    refused.wait_closed(LIMIT);
    drop(refused);
    eventually("the refusal", LIMIT, || names(&all).contains(&"refused".to_owned()).then_some(()));
    assert_eq!(curl(api, "/api/v1/reload", &["-X", "POST"]).0, 200);
    eventually("the reload", LIMIT, || names(&all).contains(&"reloaded".to_owned()).then_some(()));
    let (_, closes) = curl(api, "/api/v1/closes", &[]);
    assert_eq!(jq(&closes, ".recent | length, (.[0] | .event, .code)"), "4\nrefused\nrefused");
    assert_eq!(jq(&closes, ".closes[] | select(.code == \"by-peer\") | .count, .ordinary"), "3\ntrue");
    server.assert_healthy();
}

#[test]
fn a_reader_that_does_not_read_or_has_left_costs_nothing() {
    need!(curl);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let connect = |path: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", api)).expect("the server accepts");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket option");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request is taken");
        socket
    };
    // More readers than there may be: those who come late are told so.
    let mut readers: Vec<_> = (0..64).map(|_| BufReader::new(connect("/api/v1/events"))).collect();
    for reader in &mut readers {
        let mut line = String::new();
        while !line.starts_with("event: hello") {
            line.clear();
            assert!(reader.read_line(&mut line).expect("a line") > 0, "the reader was closed");
        }
    }
    assert_eq!(curl(api, "/api/v1/events", &[]).0, 503);
    drop(readers);
    eventually("their places are free again", LIMIT, || {
        let mut late = connect("/api/v1/events");
        let mut answer = [0; 12];
        late.read_exact(&mut answer).expect("an answer");
        answer.ends_with(b"200").then_some(())
    });
    assert_eq!(curl(api, "/api/v1/events?last=1001", &[]).0, 400);
    assert_eq!(curl(api, "/api/v1/events?last=x", &[]).0, 400);
    let (status, head) = curl(api, "/api/v1/events", &["-I"]);
    assert!(status == 200 && head.contains("text/event-stream"), "{head}");
    server.assert_healthy();
}

#[test]
fn who_is_banned_stays_out_until_the_ban_ends() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start(&scratch, "");
    let post = |path: &str| curl(api, path, &["-X", "POST"]);
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..4);
    for bad in ["0", "x", "99999999", "-1"] {
        assert_eq!(post(&format!("/api/v1/streams/live/cam/kick?ban={bad}")).0, 400, "{bad}");
    }
    let (status, body) = post("/api/v1/streams/live/cam/kick?ban=600");
    let filter = ".kicked, (.ban | .kind, .what, .seconds_left)";
    assert_eq!((status, jq(&body, filter).as_str()), (200, "1\nstream\n__defaultVhost__/live/cam\n600"));
    publisher.wait_closed(LIMIT);
    let mut again = Wire::connect(server.port);
    again.connect_app("live");
    let id = again.create_stream();
    again.publish(id, "cam");
    let answer = again.wait_command("a refusal", |command| command.name == "onStatus");
    assert_eq!(answer.code(), "NetStream.Publish.Denied");
    assert!(answer.description().contains("banned"), "{}", answer.description());
    server.wait_log(&["code=banned"], LIMIT);
    // Others and players of the stream are not affected, and the ban can be lifted.
    let _other = Wire::publisher(server.port, "cam2");
    let _player = Wire::player(server.port, "cam");
    let (_, bans) = curl(api, "/api/v1/bans", &[]);
    let ban = format!("/api/v1/bans/{}", jq(&bans, ".bans[0].id"));
    assert_eq!(curl(api, &ban, &["-X", "DELETE"]).0, 200);
    assert_eq!(curl(api, &ban, &["-X", "DELETE"]).0, 404);
    let _publisher = Wire::next_publisher(server.port, "cam");

    // An address: all its clients leave, and it may not connect.
    let (_, body) = post("/api/v1/clients/kick?ip=127.0.0.1&ban=600");
    assert_eq!(jq(&body, ".kicked >= 3"), "true", "{body}");
    let mut banned = Wire::connect(server.port);
    let answer = banned.try_connect_app("live", &[]);
    assert_eq!((answer.name.as_str(), answer.code()), ("_error", "NetConnection.Connect.Rejected"));
    let (_, bans) = curl(api, "/api/v1/bans", &[]);
    assert_eq!(jq(&bans, ".total, (.bans[0] | .kind, .what)"), "1\nip\n127.0.0.1");
    let id = jq(&bans, ".bans[0].id");
    curl(api, &format!("/api/v1/bans/{id}"), &["-X", "DELETE"]);
    // One client, by its id; the ban of its address ends by itself.
    let _player = Wire::player(server.port, "cam");
    let client = jq(&curl(api, "/api/v1/clients?type=rtmp-play", &[]).1, ".clients[-1].id");
    let (_, body) = post(&format!("/api/v1/clients/{client}/kick?ban=1"));
    assert_eq!(jq(&body, ".kicked, .ban.kind"), "1\nip");
    eventually("the ban ends", LIMIT, || {
        let answer = Wire::connect(server.port).try_connect_app("live", &[]);
        (answer.name == "_result").then_some(())
    });
    assert_eq!(post("/api/v1/clients/99999/kick").0, 404);
    server.assert_healthy();
}

#[test]
fn the_configuration_says_where_each_value_is_from() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let secrets = "auth { enabled on; username ops; password hush; token look read hush2; }";
    let (mut server, api) = start(&scratch, secrets);
    let get = |path: &str| curl(api, path, &["-u", "ops:hush"]).1;
    let body = get("/api/v1/config?changed=1");
    let one = |block: &str, directive: &str, filter: &str| {
        jq(&body, &format!(".config[] | select(.block == \"{block}\" and .directive == \"{directive}\") | {filter}"))
    };
    let file = scratch.file("srs.conf").display().to_string();
    assert_eq!(one("", "listen", ".value, .origin"), format!("127.0.0.1:{}\n{file}:1", server.port));
    assert_eq!(one("http_api", "enabled", ".value, .default, .origin"), format!("on\noff\n{file}:2"));
    assert_eq!(one("auth in http_api", "password", ".value, .secret"), "…\ntrue");
    assert!(!body.contains("hush"), "{body}");
    let all = get("/api/v1/config");
    assert_eq!(
        jq(
            &all,
            ".config[] | select(.block == \"vhost __defaultVhost__\" and .directive == \"gop_cache\") | .value, .origin"
        ),
        "on\ndefault"
    );
    assert_eq!(jq(&all, "(.total == (.config | length)) and .total > 80"), "true");
    assert_eq!(jq(&get("/api/v1/config?block=http_api&directive=listen"), ".total"), "1");

    // A login page has to know this.
    let session = |options: &[&str]| jq(&curl(api, "/api/v1/session", options).1, ".role, .auth");
    assert_eq!(session(&[]), "null\nsecrets");
    assert_eq!(session(&["-u", "ops:hush"]), "admin\nsecrets");
    assert_eq!(session(&["-H", "Authorization: Bearer hush2"]), "read\nsecrets");
    assert_eq!(curl(api, "/api/v1/session", &["-u", "ops:wrong"]).0, 401);
    let (_, head) = curl(api, "/api/v1/streams", &["-I", "-H", "X-Requested-With: fetch"]);
    assert!(head.contains(" 401 ") && !head.to_lowercase().contains("www-authenticate"), "{head}");
    server.assert_healthy();
}

#[test]
fn forwarders_are_listed_with_their_state() {
    need!(curl);
    need!(jq);
    let (here, there) = (Scratch::new(), Scratch::new());
    let mut target = Server::start(&there);
    let dead = crate::common::server::free_port();
    let mut started = None;
    for _ in 0..5 {
        let (port, api) = (crate::common::server::free_port(), crate::common::server::free_port());
        let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api}; }}");
        let vhost = format!("forward 127.0.0.1:{} rtmp://127.0.0.1:{dead}/live/hidden-key;", target.port);
        let settings = crate::common::server::Settings { root: &root, vhost: &vhost, ..Default::default() };
        let file = crate::common::server::write_configuration(&here, port, settings);
        started = Server::run(&here, port, &file).map(|server| (server, api));
        if started.is_some() {
            break;
        }
    }
    let (mut server, api) = started.expect("a free port");
    let mut publisher = Wire::publisher(server.port, "cam");
    let mut at = 0;
    eventually("one forwarder sends, one waits", LIMIT, || {
        send(&mut publisher, 1, at..at + 2);
        at += 2;
        let body = curl(api, "/api/v1/forwarders?stream=cam", &[]).1;
        let states = jq(&body, "[.forwarders[] | .state] | sort | join(\" \")");
        (states == "sending waiting").then_some(())
    });
    let body = curl(api, "/api/v1/forwarders", &[]).1;
    assert_eq!(jq(&body, ".total, ([.forwarders[] | .stream] | unique | .[])"), "2\n__defaultVhost__/live/cam");
    assert_eq!(jq(&body, ".forwarders[] | select(.state == \"waiting\") | .last_error != null"), "true");
    assert_eq!(jq(&body, ".forwarders[] | select(.state == \"sending\") | .bytes_out > 0"), "true");
    assert!(!body.contains("hidden-key"), "{body}");
    assert_eq!(jq(&curl(api, "/api/v1/forwarders?stream=other", &[]).1, ".total"), "0");
    server.assert_healthy();
    target.assert_healthy();
}
