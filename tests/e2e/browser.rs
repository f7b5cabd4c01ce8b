//! A real browser, Chromium without a window, driven over its own debugging protocol.
//!
//! The protocol goes through a pair of FIFOs, a JSON object and a NUL byte for each message, so that there is no port and no
//! WebSocket. The browser reaches nothing but 127.0.0.1.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::common::process::Process;
use crate::common::scratch::Scratch;

const LIMIT: Duration = Duration::from_secs(60);

/// A browser with a page. It ends with its handle.
pub(crate) struct Browser {
    to: File,
    from: Receiver<String>,
    last: u32,
    session: String,
    process: Process,
}

impl Browser {
    /// Starts a browser of the size of a phone or larger, and opens `url`.
    pub(crate) fn open(scratch: &Scratch, chromium: &Path, size: (u32, u32), url: &str) -> Browser {
        let fifos = ["to-browser", "from-browser"].map(|name| scratch.file(name));
        let made = Command::new("mkfifo").args(&fifos).status().expect("mkfifo is of coreutils");
        assert!(made.success(), "no FIFOs in the scratch folder");
        let [to, from] = &fifos;
        let profile = format!("--user-data-dir={}", scratch.file("profile").display());
        let window = format!("--window-size={},{}", size.0, size.1);
        // The shell opens the FIFOs where the browser looks for them, and becomes the browser.
        let mut arguments = vec!["-c", "exec \"$0\" \"$@\" 3<to-browser 4>from-browser"];
        arguments.push(chromium.to_str().expect("a path"));
        arguments.extend(["--headless=new", "--no-sandbox", "--remote-debugging-pipe", &profile, &window]);
        arguments.extend([
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--mute-audio",
            "--disable-sync",
        ]);
        arguments.extend(["--disable-background-networking", "--disable-component-update", "--disable-default-apps"]);
        arguments.extend(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank"]);
        let process = Process::start(scratch, "chromium", "sh", arguments);
        let to = File::options().write(true).open(to).expect("a FIFO of ours");
        let from = BufReader::new(File::open(from).expect("a FIFO of ours"));
        let (sender, receiver) = channel();
        // It ends when the browser does.
        std::thread::spawn(move || {
            for message in from.split(0).map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&message).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser { to, from: receiver, last: 0, session: String::new(), process };
        let target = browser.call("Target.createTarget", "{\"url\":\"about:blank\"}");
        let target = string(&target, "targetId").expect("a target");
        let attach = format!("{{\"targetId\":\"{target}\",\"flatten\":true}}");
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = format!(",\"sessionId\":\"{}\"", string(&session, "sessionId").expect("a session"));
        browser.call("Page.navigate", &format!("{{\"url\":\"{url}\"}}"));
        browser
    }

    /// Calls a method of the protocol; gives the whole answer, as JSON.
    fn call(&mut self, method: &str, parameters: &str) -> String {
        self.last += 1;
        let (id, session) = (self.last, &self.session);
        let message = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{parameters}{session}}}\0");
        self.to.write_all(message.as_bytes()).expect("the browser listens");
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|_| panic!("no answer to {method}"));
            if answer.starts_with(&format!("{{\"id\":{id},")) {
                assert!(!answer.contains("\"error\":{"), "{method}: {answer}");
                return answer;
            }
        }
    }

    /// What an expression of JavaScript gives, as text.
    pub(crate) fn evaluate(&mut self, expression: &str) -> String {
        assert!(!expression.contains(['"', '\\', '\n']), "it is put into JSON as it is");
        let answer = self.call("Runtime.evaluate", &format!("{{\"expression\":\"String({expression})\"}}"));
        string(&answer, "value").unwrap_or_else(|| panic!("{expression} gives {answer}"))
    }

    /// The page as it looks now, as PNG.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", "{\"format\":\"png\"}");
        base64(&string(&answer, "data").expect("a picture"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own end takes its children along; being killed, as its process is then, would not at once.
        let close = format!("{{\"id\":{},\"method\":\"Browser.close\"}}\0", self.last + 1);
        if self.to.write_all(close.as_bytes()).is_ok() {
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.process.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The first string of this name in an answer. What is asked for here has no quotes in it.
fn string(json: &str, name: &str) -> Option<String> {
    let from = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    let len = json[from..].find('"')?;
    Some(json[from..from + len].to_owned())
}

fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(value).collect();
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
