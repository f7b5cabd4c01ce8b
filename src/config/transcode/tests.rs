use super::super::{Config, Vhost};
use super::*;

fn vhost(text: &str) -> Result<Vhost, String> {
    let config = Config::parse("a.conf", &format!("listen 1935; vhost v {{ {text} }}"));
    config.map(|config| (**config.vhost("v").unwrap()).clone()).map_err(|error| error.to_string())
}

const SAMPLE: &str = "transcode live/livestream {
    enabled on;
    ffmpeg ./objs/ffmpeg/bin/ffmpeg;
    engine HD {
        enabled on;
        perfile { re; rtsp_transport tcp; }
        iformat flv;
        vfilter { i ./doc/ffmpeg-logo.png; filter_complex 'overlay=10:10; [a]x'; }
        vcodec libx264; vbitrate 1500; vfps 25.5; vwidth 769; vheight 320; vthreads 12; vprofile main; vpreset medium;
        vparams { t 100; coder 1; b_strategy 2; }
        acodec libfdk_aac; abitrate 70; asample_rate 44100; achannels 2;
        aparams { profile:a aac_low; }
        oformat flv;
        output rtmp://127.0.0.1:[port]/[app]?vhost=[vhost]/[stream]_[engine];
    }
    engine { enabled off; }
}";

#[test]
fn the_sample_of_srs_is_read_as_it_is() {
    let vhost = vhost(SAMPLE).unwrap();
    let [transcode] = vhost.transcode.as_slice() else { panic!("{:?}", vhost.transcode) };
    assert_eq!(
        (transcode.scope.as_str(), transcode.enabled, transcode.ffmpeg.as_str()),
        ("live/livestream", true, "./objs/ffmpeg/bin/ffmpeg")
    );
    let names: Vec<_> = transcode.engines.iter().map(|engine| engine.name.as_str()).collect();
    assert_eq!(names, ["", "HD"]);
    let engine = &transcode.engines[1];
    let option = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    assert_eq!(engine.perfile, [("re".to_owned(), None), option("rtsp_transport", "tcp")]);
    assert_eq!(engine.vfilter, [option("i", "./doc/ffmpeg-logo.png"), option("filter_complex", "overlay=10:10; [a]x")]);
    assert_eq!((engine.vbitrate, engine.vfps, engine.vwidth, engine.vheight), (1500, 25_500, 768, 320));
    assert_eq!(engine.output, "rtmp://127.0.0.1:[port]/[app]?vhost=[vhost]/[stream]_[engine]");
    assert_eq!(transcode.engines[0].iformat, "flv");
}

#[test]
fn scopes_are_a_vhost_an_application_or_a_stream() {
    let text = "transcode { } transcode live { } transcode live/a { } transcode /live/b/c/ { }";
    let vhost = vhost(text).unwrap();
    let matching = |app: &str, stream: &str| {
        let all = vhost.transcode.iter().filter(|transcode| transcode.applies_to(app, stream));
        all.map(|transcode| transcode.scope.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(matching("live", "a"), ["", "live", "live/a"]);
    assert_eq!(matching("live", "b/c"), ["", "live", "live/b/c"]);
    assert_eq!(matching("live2", "a"), [""]);
    assert_eq!(matching("liv", "e/a"), [""]);
}

#[test]
fn what_cannot_work_is_said() {
    for (text, expected) in [
        ("transcode { engine a { enabled on; acodec aac; output x; } }", "engine \"a\" has no \"vcodec\""),
        ("transcode { engine a { enabled on; vcodec vn; acodec an; output x; } }", "neither video nor audio"),
        ("transcode { engine a { enabled on; vcodec copy; acodec copy; } }", "has no \"output\""),
        (
            "transcode { engine a { enabled on; vcodec copy; acodec copy; output x; vwidth 4; } }",
            "only one of \"vwidth\" and",
        ),
        ("transcode { engine a { } engine a { } }", "already set"),
        ("transcode live { } transcode live { }", "already set"),
        ("transcode a b { }", "\"transcode\" takes at most one name"),
        ("transcode { engine a { vparams { a b c; } } }", "\"a\" takes at most one value"),
        ("transcode { engine a { vparams { a { } } } }", "\"a\" takes no block"),
        ("transcode { engine a { vparams x; } }", "\"vparams\" needs a block"),
        ("transcode { engine a { achannels 99; } }", "\"achannels\" must be"),
        ("transcode live;", "\"transcode\" needs a block"),
        ("ladder 720;", "\"ladder\" must be"),
        ("ladder 720p 720p;", "contains 720p twice"),
        ("ladder { enabled on; }", "ladder has no \"heights\""),
        ("exec { publish; }", "\"publish\" takes"),
    ] {
        let error = vhost(text).map(drop).unwrap_err();
        assert!(error.starts_with("a.conf:1: ") && error.contains(expected), "{text}: {error}");
    }
    assert!(vhost("transcode { engine a { enabled off; } }").is_ok(), "what is off needs nothing");
}

#[test]
fn a_ladder_has_two_forms() {
    assert_eq!(vhost("").unwrap().ladder.heights, Vec::<u32>::new());
    assert_eq!(vhost("ladder 1080p 720p;").unwrap().ladder.heights, [1080, 720]);
    let block = vhost("ladder { enabled on; heights 480p 240p; vpreset fast; keyframe_interval 1; max_fps 29.97; }");
    let ladder = block.unwrap().ladder;
    assert_eq!((ladder.heights.as_slice(), ladder.vpreset.as_str()), (&[480, 240][..], "fast"));
    assert_eq!((ladder.keyframe_interval, ladder.max_fps), (Duration::from_secs(1), 29_970));
    assert!(vhost("ladder { heights 480p; enabled off; }").unwrap().ladder.heights.is_empty());
}

#[test]
fn commands_are_words_and_may_be_repeated() {
    let exec =
        vhost("exec { enabled on; publish a 'b c' [stream]; publish d; on_stop e; on_dvr f [file]; timeout 0; }")
            .unwrap()
            .exec;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(exec.publish, [words(&["a", "b c", "[stream]"]), words(&["d"])]);
    assert_eq!((exec.on_stop, exec.on_play.len(), exec.timeout), (vec![words(&["e"])], 0, Duration::ZERO));
    assert_eq!(exec.on_dvr, [words(&["f", "[file]"])]);
}

#[test]
fn a_reload_names_the_engine() {
    let config = |text: &str| Config::parse("a", &format!("listen 1; vhost v {{ {text} }}")).unwrap();
    let engine = |name: &str, rate: u32, output: &str| {
        format!("engine {name} {{ enabled on; vcodec copy; acodec copy; vbitrate {rate}; output {output}; }}")
    };
    let old = config(&format!("transcode live {{ {} {} }}", engine("a", 1, "x"), engine("b", 1, "x")));
    let new = config(&format!("transcode live {{ {} {} }}", engine("a", 2, "y"), engine("c", 1, "x")));
    let plan: Vec<_> = old.changes_to(&new).iter().map(ToString::to_string).collect();
    let effect = "takes effect at once for running streams of the vhost";
    assert_eq!(
        plan,
        [
            format!("engine b in transcode live in vhost v: removed; {effect}"),
            format!("engine c in transcode live in vhost v: added; {effect}"),
            format!("output in engine a in transcode live in vhost v: …, changed in a hidden part; {effect}"),
            format!("vbitrate in engine a in transcode live in vhost v: 1 -> 2; {effect}"),
        ]
    );
}
