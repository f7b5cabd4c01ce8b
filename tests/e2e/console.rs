//! The console in a browser: what operators see and do, what viewers see, and what neither can be tricked into.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::browser::Browser;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::common::wire::Wire;
use crate::http;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Size of the window in which operators work, and of a phone.
pub(crate) const DESKTOP_SIZE: (u32, u32) = (1280, 900);
pub(crate) const PHONE_SIZE: (u32, u32) = (400, 850);

/// A name that would run a script wherever it is taken for HTML.
pub(crate) const HOSTILE_NAME: &str = "<img src=x onerror=document.title=666>";

pub(crate) fn open(scratch: &Scratch, chromium: &Path, size: (u32, u32), port: u16, hash: &str) -> Browser {
    Browser::open(scratch, chromium, size, &format!("http://127.0.0.1:{port}/{hash}"))
}

/// Fills the form of a login and sends it.
pub(crate) fn sign_in(browser: &mut Browser, name: &str, password: &str, token: &str) {
    browser.wait("document.querySelector('#token') !== null", "true");
    for (field, value) in [("name", name), ("password", password), ("token", token)] {
        browser.evaluate(&format!("document.getElementById('{field}').value = '{value}'"));
    }
    browser.click("form.login button");
}

/// Starts a server with the API on a port of its own, with these directives in `http_api`.
fn start_api(scratch: &Scratch, api: &str) -> (Server, u16) {
    for _ in 0..5 {
        let (port, api_port) = (free_port(), free_port());
        let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api_port}; {api} }}");
        let configuration = write_configuration(scratch, port, Settings { root: &root, ..Settings::default() });
        if let Some(server) = Server::run(scratch, port, &configuration) {
            eventually("the API listens", LIMIT, || listens(api_port).then_some(()));
            return (server, api_port);
        }
    }
    panic!("five ports in a row were taken");
}

#[test]
fn operators_see_a_stream_and_disconnect_its_clients() {
    let (chromium, zbarimg) = (need!(chromium), need!(zbarimg));
    let scratch = Scratch::new();
    let hls = Settings { vhost: "hls { enabled on; hls_path html; }", ..Settings::default() };
    let (mut server, port) = http::start(&scratch, "api on;", hls);
    let mut publisher = Wire::publisher(server.port, "cam");
    let _hostile = Wire::publisher(server.port, HOSTILE_NAME);
    send(&mut publisher, 1, 0..50);
    let mut player = Wire::player(server.port, "cam");
    let mut browser = open(&scratch, &chromium, DESKTOP_SIZE, port, "");
    browser.wait_text(".tiles", "2 publishers");
    browser.wait("document.querySelectorAll('ul.streams li').length", "2");
    browser.wait_text("ol.feed", "publishes live/cam");
    browser.wait("document.querySelector('.plot path.line').getAttribute('d').startsWith('M')", "true");

    browser.evaluate("location.hash = '#/streams'");
    browser.wait(
        "[...document.querySelectorAll('td.first')].map((cell) => cell.textContent).join()",
        &format!("live/{HOSTILE_NAME},live/cam"),
    );
    browser.click("td.first a[href$=cam]");
    browser.wait_text("h1", "live/cam");
    browser.wait_text("dl", "H.264");
    browser.wait("document.querySelectorAll('.table tbody tr').length", "2");
    // The code for phones leads to the playlist.
    browser.evaluate("document.querySelector('.qr').scrollIntoView({ block: 'center' })");
    let picture = scratch.file("code.png");
    std::fs::write(&picture, browser.screenshot()).expect("a file in the scratch folder");
    let output = Command::new(zbarimg).args(["-q", "--raw"]).arg(&picture).output().expect("zbarimg runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("http://127.0.0.1:{port}/live/cam.m3u8"));

    // The player is the later one of the two clients.
    browser.click("tbody tr:last-child .danger");
    browser.click("dialog .danger");
    player.wait_closed(LIMIT);
    browser.wait_text("#toasts", "One client was disconnected.");
    browser.evaluate("location.hash = '#/closes'");
    browser.wait_text(".bars", "kicked");
    // Kept away for a minute, by the name of its stream.
    browser.evaluate("location.hash = '#/stream/__defaultVhost__%2Flive%2Fcam'");
    browser.click("header .danger");
    browser.wait("document.querySelectorAll('dialog option').length > 1", "true");
    browser.evaluate("document.querySelector('dialog select').value = 60");
    browser.click("dialog .danger");
    publisher.wait_closed(LIMIT);
    browser.evaluate("location.hash = '#/clients'");
    browser.wait_text("main", "__defaultVhost__/live/cam");
    browser.wait_text("main", "Kept away");

    for hash in ["stream/__defaultVhost__%2Flive%2F", "clients/", "none/"] {
        let hash = format!("#/{hash}{}", HOSTILE_NAME.replace(' ', "%20").replace('<', "%3C").replace('>', "%3E"));
        browser.evaluate(&format!("location.hash = '{hash}'"));
        browser.wait("document.querySelectorAll('#nav a[aria-current]').length", "1");
        assert_eq!(browser.evaluate("document.querySelector('main img[src=x]')"), "null", "{hash}");
    }
    // Addresses with trouble are listed, and can be kept away.
    let mut refused = Wire::connect(server.port);
    refused.try_connect_app(&"a".repeat(300), &[]);
    refused.wait_closed(LIMIT);
    browser.evaluate("location.hash = '#/closes'");
    browser.wait_text("table[aria-label^=Addresses]", "127.0.0.1");
    browser.click("table[aria-label^=Addresses] .danger");
    browser.wait("document.querySelectorAll('dialog option').length > 1", "true");
    browser.evaluate("document.querySelector('dialog select').value = 60");
    browser.click("dialog .danger");
    browser.wait_text("#toasts", "disconnected");
    // A page that is opened later shows what was before.
    browser.evaluate("location.reload()");
    let past = "(globalThis.asked ??= import('/console/store.js').then(({ store }) => { globalThis.kept = store; }), \
                globalThis.kept?.history[0]?.at < performance.timeOrigin)";
    browser.wait(past, "true");
    browser.wait("document.title.includes('666') && !document.title.includes('<')", "false");
    browser.assert_faultless();
    server.assert_healthy();
}

#[test]
fn three_hundred_streams_fit_on_a_desk_and_on_a_phone() {
    let chromium = need!(chromium);
    for size in [DESKTOP_SIZE, PHONE_SIZE] {
        let scratch = Scratch::new();
        let (mut server, port) = http::start(&scratch, "api on;", Settings::default());
        let mut publishers: Vec<_> = (0..300).map(|n| Wire::publisher(server.port, &format!("s{n:03}"))).collect();
        send(&mut publishers[7], 1, 0..12);
        let mut browser = open(&scratch, &chromium, size, port, "#/streams");
        browser.wait("document.querySelectorAll('tbody tr').length", "300");
        browser.wait_text("header", "300 streams");
        assert_eq!(
            browser.evaluate("document.documentElement.scrollWidth <= innerWidth"),
            "true",
            "nothing is cut off"
        );
        // Sorted by sound, the only stream that has some is the first one or the last one.
        let head = "[...document.querySelectorAll('th button')].find((head) => head.textContent === 'Audio').click()";
        browser.evaluate(head);
        let place = "[...document.querySelectorAll('tbody tr')].findIndex((row) => row.textContent.includes('s007'))";
        browser.wait(&format!("[0, 299].includes({place})"), "true");
        browser.evaluate("document.querySelector('.filter').value = 's01'");
        browser.evaluate("document.querySelector('.filter').dispatchEvent(new Event('input'))");
        browser.wait("document.querySelectorAll('tbody tr').length", "10");
        drop(publishers.split_off(15));
        browser.wait("document.querySelectorAll('tbody tr').length", "5");
        browser.assert_faultless();
        server.assert_healthy();
    }
}

#[test]
fn a_reload_shows_its_plan_first() {
    let chromium = need!(chromium);
    let scratch = Scratch::new();
    let (mut server, api) = start_api(&scratch, "");
    let file = scratch.file("srs.conf");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text}\nmax_connections 77;\n")).expect("a file");
    let mut browser = open(&scratch, &chromium, DESKTOP_SIZE, api, "#/config");
    browser.wait_text("table[aria-label=Configuration]", "http_api");
    let check = "[...document.querySelectorAll('main button')].find((button) => button.textContent === 'Check the file').click()";
    browser.wait("document.querySelectorAll('.actions.start button').length", "2");
    browser.evaluate(check);
    browser.wait_text("main", "A reload makes 1 change.");
    browser.wait_text("table[aria-label=Changes]", "max_connections");
    assert!(server.log_line(&["reload"]).is_none(), "a check changes nothing");
    browser.click(".actions.start .primary");
    browser.wait_text("main", "Reloaded: 1 change.");
    browser.wait_text("table[aria-label=Configuration]", "77");
    std::fs::write(&file, format!("{text}\nmax_conections 78;\n")).expect("a file");
    browser.evaluate(check);
    browser.wait_text(".errors", "max_conections");
    assert_eq!(browser.evaluate("document.querySelector('.actions.start .primary').hidden"), "true");
    browser.assert_faultless();
    std::fs::write(&file, &text).expect("a file");
    server.assert_healthy();
}

#[test]
fn a_login_gives_the_rights_of_its_secret_until_it_expires() {
    let chromium = need!(chromium);
    let scratch = Scratch::new();
    let auth = "auth { enabled on; username root; password pw; token look read first; }";
    let (mut server, api) = start_api(&scratch, auth);
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..12);
    let mut browser = open(&scratch, &chromium, PHONE_SIZE, api, "#/clients");
    sign_in(&mut browser, "root", "wrong", "");
    browser.wait_text(".error", "does not know this login");
    // A token that may only read.
    sign_in(&mut browser, "", "", "first");
    browser.wait_text("tbody", "publishes");
    assert_eq!(browser.evaluate("document.querySelectorAll('.danger').length"), "0");
    let file = scratch.file("srs.conf");
    let text = std::fs::read_to_string(&file).expect("the configuration").replace("first", "second");
    std::fs::write(&file, text).expect("a file");
    server.process().signal(Signal::SIGHUP);
    browser.wait_text(".error", "not valid any more");
    assert_eq!(browser.evaluate("document.querySelector('#nav')"), "null");
    // The password, and back at the same view.
    sign_in(&mut browser, "root", "pw", "");
    browser.wait_text("tbody", "publishes");
    browser.wait("document.querySelectorAll('tbody .danger').length", "1");
    // The login lasts as long as the tab, and no longer.
    browser.evaluate("document.body.id = 'before'");
    browser.evaluate("location.reload()");
    let is_back =
        "document.body?.id === '' && (document.querySelector('tbody')?.textContent ?? '').includes('publishes')";
    browser.wait(is_back, "true");
    let leave =
        "[...document.querySelectorAll('#nav button')].find((button) => button.textContent === 'Sign out').click()";
    browser.evaluate(leave);
    browser.wait_text("form.login", "Sign in");
    assert!(!server.log().contains("second"));
    browser.assert_faultless();
    server.assert_healthy();
}

#[test]
fn the_console_comes_back_with_the_server() {
    let chromium = need!(chromium);
    let scratch = Scratch::new();
    let (mut server, api) = start_api(&scratch, "");
    let mut browser = open(&scratch, &chromium, DESKTOP_SIZE, api, "#/events");
    browser.wait_text("#connection", "Connected");
    browser.wait_text("header .mark", "live");
    let port = server.port;
    server.process().kill();
    browser.wait_text("#connection", "does not respond");
    let mut server = eventually("the port is free", LIMIT, || Server::run(&scratch, port, &scratch.file("srs.conf")));
    browser.wait_text("#connection", "Connected");
    browser.wait_text("#toasts", "The server has been restarted.");
    let _publisher = Wire::publisher(server.port, "cam");
    browser.wait_text("ol.feed", "publishes live/cam");
    assert!(listens(api));
    browser.assert_faultless();
    server.assert_healthy();
}

#[test]
fn viewers_without_rights_see_the_list_and_why_a_stream_does_not_play() {
    let chromium = need!(chromium);
    let scratch = Scratch::new();
    let root = "http_api { enabled off; auth { enabled on; token ops admin secret; } }";
    let (mut server, port) = http::start(&scratch, "api on;", Settings { root, ..Settings::default() });
    let mut publisher = Wire::publisher(server.port, "av1");
    let config = [b"\x90av01".as_slice(), &[0x81, 0x04, 0x0c, 0]].concat();
    let frame = [b"\x91av01".as_slice(), &[0x12, 0]].concat();
    for (timestamp, payload) in [(0, config), (40, frame)] {
        publisher.send_tag(&Tag { kind: VIDEO, timestamp, payload });
    }
    let mut browser = open(&scratch, &chromium, PHONE_SIZE, port, "");
    browser.wait_text("#streams .about", "AV1");
    assert_eq!(browser.evaluate("document.querySelector('#nav')"), "null");
    assert_eq!(browser.evaluate("document.title"), "Live streams");
    browser.click("#streams .play");
    browser.wait_text(".curtain", "which carries H.264 and H.265, and its video is AV1");
    browser.wait("document.querySelector('.stream[aria-current]') !== null", "true");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "true");
    // The list is in sight beside the player.
    assert_eq!(
        browser.evaluate("document.querySelector('#streams').getBoundingClientRect().bottom < innerHeight"),
        "true"
    );
    browser.click(".signin");
    browser.wait_text("form.login", "Watch without signing in");
    browser.evaluate("document.getElementById('token').value = 'secret'");
    browser.click("form.login button");
    browser.wait("document.querySelectorAll('#nav a').length", "9");
    browser.assert_faultless();
    server.assert_healthy();
}
