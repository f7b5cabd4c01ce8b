use super::*;

fn config() -> Config {
    let text = "listen 1935; vhost __defaultVhost__ { } vhost demo.com { } vhost off.com { enabled off; }";
    Config::parse("t", text).unwrap()
}

fn app(app: &str, tc_url: &str) -> Result<AppRequest, Error> {
    let connect = Connect::new(app, tc_url);
    AppRequest::new(&connect, &config())
}

fn stream(app_name: &str, tc_url: &str, name: &str) -> Result<String, Error> {
    app(app_name, tc_url)?.stream(name, &config()).map(|stream| stream.name)
}

#[test]
fn the_vhost_is_named_in_many_ways() {
    for (app, tc_url, name, expected) in [
        ("live", "rtmp://demo.com/live", "s", "demo.com/live/s"),
        ("live", "rtmp://demo.com:1935/live", "s", "demo.com/live/s"),
        ("live", "rtmp://DEMO.com:1935/live", "s", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live", "s", "__defaultVhost__/live/s"),
        ("live?vhost=demo.com", "rtmp://10.0.0.1/live?vhost=demo.com", "s", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live?vhost=demo.com", "s", "demo.com/live/s"),
        ("live...vhost...demo.com", "rtmp://10.0.0.1/live...vhost...demo.com", "s", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live", "s?vhost=demo.com", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live", "s?token=1&vhost=demo.com", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live", "s...vhost...demo.com", "demo.com/live/s"),
        ("live?vhost=", "rtmp://demo.com/live", "s", "demo.com/live/s"),
        ("live?key=1,vhost=demo.com", "rtmp://10.0.0.1/live?key=1,vhost=demo.com", "s", "demo.com/live/s"),
        ("live?key=1,vhost=off.com&vhost=demo.com", "rtmp://10.0.0.1/live", "s", "demo.com/live/s"),
        ("", "rtmp://demo.com/live", "s", "demo.com/live/s"),
        ("live?domain=demo.com", "rtmp://10.0.0.1/live?domain=demo.com", "s", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live", "s?token=1&domain=demo.com", "demo.com/live/s"),
        ("live", "rtmp://10.0.0.1/live", "s...vhost...demo.com&token=1", "demo.com/live/s"),
        ("live...vhost...demo.com/", "rtmp://10.0.0.1/live...vhost...demo.com/", "s", "demo.com/live/s"),
        ("a/b/", "rtmp://demo.com/a/b/", "c/d", "demo.com/a/b/c/d"),
        ("live", "rtmp://user:pass@demo.com/live", "s", "demo.com/live/s"),
        ("live", "rtmp://[::1]:1935/live", "s", "__defaultVhost__/live/s"),
        ("live", "nonsense", "s", "__defaultVhost__/live/s"),
    ] {
        assert_eq!(stream(app, tc_url, name).as_deref(), Ok(expected), "{app} {tc_url} {name}");
    }
}

#[test]
fn one_stream_has_many_urls() {
    // Application, URL of the connection, stream name.
    for (app_name, tc_url, name, expected) in [
        ("live/cam", "rtmp://demo.com/live/cam", "", "live|cam|"),
        ("live/cam", "rtmp://demo.com/live/cam", "?token=1", "live|cam|token=1"),
        ("live/cam?token=1", "rtmp://demo.com/live/cam?token=1", "", "live|cam|token=1"),
        ("a/b/cam/", "rtmp://demo.com/a/b/cam/", "", "a/b|cam|"),
        ("live/", "rtmp://demo.com/live/", "cam/", "live|cam|"),
        ("cam", "rtmp://demo.com/cam", "", "live|cam|"),
        ("cam?token=1", "rtmp://demo.com/cam?token=1", "", "live|cam|token=1"),
        ("", "rtmp://demo.com", "cam", "live|cam|"),
        ("", "rtmp://demo.com/", "cam?token=1", "live|cam|token=1"),
        ("__defaultApp__", "rtmp://demo.com/__defaultApp__", "cam", "live|cam|"),
        ("live/_definst_", "rtmp://demo.com/live/_definst_", "cam", "live|cam|"),
        ("live/_definst_/", "rtmp://demo.com/live/_definst_/", "cam", "live|cam|"),
        ("live/_definst_/cam", "rtmp://demo.com/live/_definst_/cam", "", "live|cam|"),
        ("live/_definst_/_definst_", "rtmp://demo.com/live", "cam", "live|cam|"),
        ("live", "rtmp://demo.com/live", "rtmp://demo.com/live/_definst_/cam", "live|cam|"),
        ("main", "rtmp://demo.com/main", "rtmp://demo.com/__defaultApp__/cam", "live|cam|"),
        ("live", "rtmp://demo.com/live", "rtmp://demo.com/live/cam?token=1", "live|cam|token=1"),
        ("live", "rtmp://demo.com/live", "rtmp://demo.com/live/a/b", "live|a/b|"),
        ("live", "rtmp://demo.com/live", "rtmp://demo.com/other/cam", "other|cam|"),
        ("live", "rtmp://demo.com/live", "rtmp://demo.com/cam", "live|cam|"),
        ("live", "rtmp://10.0.0.1/live", "cam...vhost...demo.com&token=1", "live|cam|token=1"),
    ] {
        let request = app(app_name, tc_url).and_then(|app| app.stream(name, &config())).unwrap();
        let what = format!("{}|{}|{}", request.app, request.stream, request.params);
        assert_eq!(what, expected, "{app_name} {tc_url} {name}");
        assert_eq!(request.name, format!("demo.com/{}/{}", request.app, request.stream));
    }
}

#[test]
fn the_default_application_is_configurable() {
    let config = Config::parse("t", "listen 1935; default_app main; vhost __defaultVhost__ { }").unwrap();
    let name = |app: &str, url: &str, name: &str| {
        AppRequest::new(&Connect::new(app, url), &config).unwrap().stream(name, &config).map(|stream| stream.name)
    };
    assert_eq!(name("cam", "rtmp://h/cam", "").as_deref(), Ok("__defaultVhost__/main/cam"));
    assert_eq!(name("", "rtmp://h", "cam").as_deref(), Ok("__defaultVhost__/main/cam"));
    assert_eq!(name("", "rtmp://h", ""), Err(Error::NoStream));
}

#[test]
fn parameters_are_no_part_of_the_name() {
    let request = app("live?key=1", "rtmp://demo.com/live").unwrap();
    assert_eq!((request.app.as_str(), request.params.as_str()), ("live", "key=1"));
    let request = request.stream("s?token=a/b?c", &config()).unwrap();
    assert_eq!((request.stream.as_str(), request.params.as_str()), ("s", "token=a/b?c"));
}

#[test]
fn names_that_would_leave_their_place_are_refused() {
    for name in ["..", "a/../b", "../x", "a..b", "a//b", ".", "a/./b", "a\\b", "a\nb", "a\0b", "\u{85}"] {
        assert!(matches!(stream("live", "rtmp://h/live", name), Err(Error::BadName { .. })), "{name:?}");
        assert!(matches!(stream(name, "rtmp://h/live", "s"), Err(Error::BadName { .. })), "{name:?}");
    }
    let long = "x".repeat(256);
    assert!(matches!(stream("live", "rtmp://h/live", &long), Err(Error::TooLong { len: 256, .. })));
    assert!(stream("live", "rtmp://h/live", &long[1..]).is_ok());
    let params = format!("s?{}", "x".repeat(5000));
    assert!(matches!(stream("live", "rtmp://h/live", &params), Err(Error::TooLong { .. })));
    assert_eq!(stream("live", "rtmp://h/live", ""), Err(Error::NoStream));
    assert_eq!(stream("live", "rtmp://h/live", "?token"), Err(Error::NoStream));
    for url in ["rtmp://h/live/../s", "rtmp://h/../s", "rtmp://h/a//s", "rtmp://h/"] {
        assert!(stream("live", "rtmp://h/live", url).is_err(), "{url}");
    }
    assert!(matches!(stream("live/..", "rtmp://h/live/..", ""), Err(Error::BadName { .. })));
}

#[test]
fn vhosts_that_are_off_or_not_there() {
    assert_eq!(stream("live", "rtmp://off.com/live", "s"), Err(Error::Disabled("off.com".into())));
    assert_eq!(stream("live", "rtmp://h/live", "s?vhost=off.com"), Err(Error::Disabled("off.com".into())));
    let config = Config::parse("t", "listen 1935; vhost demo.com { }").unwrap();
    let connect = Connect::new("live", "rtmp://h/live");
    assert!(matches!(AppRequest::new(&connect, &config), Err(Error::NoVhost(_))));
}
