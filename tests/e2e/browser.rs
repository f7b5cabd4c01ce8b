//! Headless Chromium, controlled through its debugging protocol.
//!
//! The protocol uses a pair of FIFOs, which need no port and no WebSocket: each message is a JSON object and a NUL byte. The
//! browser can connect to 127.0.0.1 only.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::common::process::Process;
use crate::common::scratch::Scratch;

const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one page. Dropping it ends the browser.
pub(crate) struct Browser {
    to: File,
    from: Receiver<String>,
    last: u32,
    session: String,
    /// Exceptions of the page, and what its security policy has refused.
    faults: Vec<String>,
    process: Process,
}

impl Browser {
    /// Starts a browser with a window of this size, and opens `url`.
    pub(crate) fn open(scratch: &Scratch, chromium: &Path, size: (u32, u32), url: &str) -> Browser {
        let fifos = ["to-browser", "from-browser"].map(|name| scratch.file(name));
        let made = Command::new("mkfifo").args(&fifos).status().expect("mkfifo is of coreutils");
        assert!(made.success(), "no FIFOs in the scratch folder");
        let [to, from] = &fifos;
        let profile = format!("--user-data-dir={}", scratch.file("profile").display());
        let window = format!("--window-size={},{}", size.0, size.1);
        // The browser expects the FIFOs as descriptors 3 and 4.
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
        // This thread ends with the browser.
        std::thread::spawn(move || {
            for message in from.split(0).map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&message).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser { to, from: receiver, last: 0, session: String::new(), faults: Vec::new(), process };
        let target = browser.call("Target.createTarget", "{\"url\":\"about:blank\"}");
        let target = string(&target, "targetId").expect("a target");
        let attach = format!("{{\"targetId\":\"{target}\",\"flatten\":true}}");
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = format!(",\"sessionId\":\"{}\"", string(&session, "sessionId").expect("a session"));
        browser.call("Runtime.enable", "{}");
        browser.call("Log.enable", "{}");
        browser.call("Page.navigate", &format!("{{\"url\":\"{url}\"}}"));
        browser
    }

    /// Calls a method of the protocol and returns its answer as JSON.
    fn call(&mut self, method: &str, parameters: &str) -> String {
        let answer = self.try_call(method, parameters);
        assert!(!answer.contains("\"error\":{"), "{method}: {answer}");
        answer
    }

    /// Calls a method of the protocol and returns its answer or its error as JSON.
    fn try_call(&mut self, method: &str, parameters: &str) -> String {
        self.last += 1;
        let (id, session) = (self.last, &self.session);
        let message = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{parameters}{session}}}\0");
        self.to.write_all(message.as_bytes()).expect("the browser listens");
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|_| panic!("no answer to {method}"));
            let is_fault = answer.contains("\"method\":\"Runtime.exceptionThrown\"")
                || answer.contains("\"method\":\"Log.entryAdded\"") && answer.contains("Content Security Policy");
            if is_fault {
                self.faults.push(answer.clone());
            }
            if answer.starts_with(&format!("{{\"id\":{id},")) {
                return answer;
            }
        }
    }

    /// Evaluates a JavaScript expression and returns the result as text.
    pub(crate) fn evaluate(&mut self, expression: &str) -> String {
        assert!(!expression.contains(['"', '\\', '\n']), "it is put into JSON as it is");
        let parameters = format!("{{\"expression\":\"String({expression})\"}}");
        // The page may just be loaded again.
        let is_lost = |answer: &String| answer.contains("\"error\":{") && answer.contains("navigated");
        let answer = Some(self.try_call("Runtime.evaluate", &parameters)).filter(|answer| !is_lost(answer));
        let answer = answer.unwrap_or_else(|| self.call("Runtime.evaluate", &parameters));
        string(&answer, "value").unwrap_or_else(|| panic!("{expression} gives {answer}"))
    }

    /// Evaluates an expression until it gives `expected`.
    pub(crate) fn wait(&mut self, expression: &str, expected: &str) {
        let mut last = String::new();
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            last = self.evaluate(expression);
            if last == expected {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let text = self.evaluate("document.body.innerText.slice(0, 300)");
        panic!("{expression} is {last}, and not {expected}; the page has {text:?}, its faults are {:?}", self.faults);
    }

    /// Waits until a selector finds something, and clicks it.
    pub(crate) fn click(&mut self, selector: &str) {
        self.wait(&format!("document.querySelector('{selector}') !== null"), "true");
        self.evaluate(&format!("document.querySelector('{selector}').click()"));
    }

    /// Waits until the text of what a selector finds first contains `part`.
    pub(crate) fn wait_text(&mut self, selector: &str, part: &str) {
        assert!(!part.contains(['\'', '\\']), "it is put into quotes as it is");
        self.wait(&format!("(document.querySelector('{selector}')?.textContent ?? '').includes('{part}')"), "true");
    }

    /// Asserts that no script of the page has thrown, and that it has done nothing that its policy forbids.
    pub(crate) fn assert_faultless(&mut self) {
        self.evaluate("0");
        assert!(self.faults.is_empty(), "{:?}", self.faults);
    }

    /// Returns a screenshot as PNG.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", "{\"format\":\"png\"}");
        base64(&string(&answer, "data").expect("a picture"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Browser.close ends the child processes, too; killing the browser would leave them for a moment.
        let close = format!("{{\"id\":{},\"method\":\"Browser.close\"}}\0", self.last + 1);
        if self.to.write_all(close.as_bytes()).is_ok() {
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.process.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Returns the first string property `name` of an answer. The requested values contain no quotes.
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
