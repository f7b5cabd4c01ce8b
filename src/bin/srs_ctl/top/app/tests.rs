//! The view with 300 streams, drawn on small and large screens, and by its keys.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;
use crate::top::draw::draw;

fn app(streams: usize) -> App {
    let mut app = App::new("http://127.0.0.1:1985");
    app.apply(sample(streams, 0));
    app.apply(sample(streams, 1));
    app
}

fn sample(streams: usize, second: u64) -> Sample {
    let rows = (0..streams).map(|at| StreamRow {
        id: format!("vid-{at}"),
        name: format!("live/cam{at:03}"),
        state: "live".to_owned(),
        players: at as u64,
        video: "H264 1920x1080 25fps".to_owned(),
        received: second * 1_000_000,
        kbps_in: 8000,
        ..StreamRow::default()
    });
    let bytes = second * 300_000_000;
    let data = json!({
        "server": { "version": "0.6.0", "streams": streams, "players": 7, "clients": 8, "publish": { "bytes_in": bytes } },
        "limits": { "max_connections": 1000 },
    });
    // The clock of the samples, not of the machine.
    let at = Instant::now() + Duration::from_secs(second);
    Sample { at, data, streams: rows.collect(), clients: None }
}

fn press(app: &mut App, keys: &[KeyCode]) -> Vec<Request> {
    keys.iter().flat_map(|key| app.on_key(KeyEvent::from(*key))).collect()
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn small_and_large_screens_show_what_fits() {
    let mut app = app(300);
    let small = screen(&mut app, 80, 24);
    assert!(small[0].starts_with("simple_rtmp_server 0.6.0  http://127.0.0.1:1985  up"), "{small:#?}");
    assert!(small[3].starts_with("STREAM▾") && small[3].contains("DROPS") && !small[3].contains("VIDEO"), "{small:#?}");
    assert!(small[4].starts_with("live/cam000") && small[22].starts_with("live/cam018"), "{small:#?}");
    assert!(small[23].starts_with("1/300 streams"), "{small:#?}");
    let large = screen(&mut app, 200, 50);
    assert!(large.iter().any(|line| line.contains("VIDEO") && line.contains("JITTER")), "{large:#?}");
    assert_eq!(large.iter().filter(|line| line.contains("H264 1920x1080 25fps")).count(), 42, "{large:#?}");
    for (width, height) in [(1, 1), (10, 5), (80, 8)] {
        screen(&mut app, width, height);
    }
}

#[test]
fn keys_select_order_and_filter() {
    let mut app = app(300);
    screen(&mut app, 80, 24);
    press(&mut app, &[KeyCode::End]);
    assert_eq!((app.selected, app.offset), (299, 281));
    assert!(screen(&mut app, 80, 24)[22].starts_with("live/cam299"));
    press(&mut app, &[KeyCode::Home, KeyCode::PageDown, KeyCode::Down]);
    assert_eq!(app.selected, 20);
    press(&mut app, &[KeyCode::Char('s'), KeyCode::Home]);
    assert_eq!(app.shown_streams()[0].name, "live/cam299", "most players first");
    press(&mut app, &[KeyCode::Char('r')]);
    assert_eq!(app.shown_streams()[0].name, "live/cam000");
    press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('4'), KeyCode::Char('2'), KeyCode::Enter]);
    let names: Vec<_> = app.shown_streams().iter().map(|stream| stream.name.clone()).collect();
    assert_eq!(names, ["live/cam042", "live/cam142", "live/cam242"]);
    press(&mut app, &[KeyCode::Esc]);
    assert_eq!(app.shown_streams().len(), 300);
    // The selection stays with its stream when others go.
    press(&mut app, &[KeyCode::Char('r'), KeyCode::Char('s'), KeyCode::End]);
    let selected = app.selected_id();
    app.apply(sample(300, 2));
    assert_eq!(app.selected_id(), selected);
    app.apply(sample(3, 3));
    assert!(app.selected < 3);
    app.apply(sample(0, 4));
    assert_eq!((app.selected, app.offset), (0, 0));
    assert!(press(&mut app, &[KeyCode::Enter, KeyCode::Char('k'), KeyCode::Char('y')]).is_empty());
}

#[test]
fn a_kick_is_asked_for_first() {
    let mut app = app(3);
    press(&mut app, &[KeyCode::Down, KeyCode::Char('k')]);
    let line = screen(&mut app, 120, 24)[23].clone();
    assert!(line.starts_with("Disconnect the publisher of live/cam001?"), "{line}");
    assert!(press(&mut app, &[KeyCode::Char('n')]).is_empty());
    let asked = press(&mut app, &[KeyCode::Char('k'), KeyCode::Char('b')]);
    let what = "the publisher of live/cam001".to_owned();
    assert_eq!(asked, [Request::Kick { path: "/api/v1/streams/vid-1/kick?ban=60".to_owned(), what }]);
    // Clients of a stream, and back.
    assert_eq!(press(&mut app, &[KeyCode::Enter]), [Request::Clients(Some("vid-1".to_owned()))]);
    let client = ClientRow { id: 7, ip: "192.0.2.1".to_owned(), ..ClientRow::default() };
    let clients = Some(("vid-1".to_owned(), vec![client]));
    app.apply(Sample { clients, ..sample(3, 2) });
    assert!(screen(&mut app, 80, 24)[4].starts_with("7 "));
    let asked = press(&mut app, &[KeyCode::Char('k'), KeyCode::Char('y')]);
    let what = "client 7 (192.0.2.1)".to_owned();
    assert_eq!(asked, [Request::Kick { path: "/api/v1/clients/7/kick?".to_owned(), what }]);
    assert_eq!(press(&mut app, &[KeyCode::Esc]), [Request::Clients(None)]);
    press(&mut app, &[KeyCode::Char('?')]);
    assert!(screen(&mut app, 80, 24).iter().any(|line| line.contains("disconnect, after a question")));
    press(&mut app, &[KeyCode::Esc, KeyCode::Char('q')]);
    assert!(app.is_done());
}
