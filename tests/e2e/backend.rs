//! The backends of callbacks that the tests start: `srs_hooks`, one in Python, and nginx; and what the tests ask servers with
//! them.

use std::path::Path;

use serde_json::Value;

use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens};
use crate::common::wire::{ANSWER_TIMEOUT, Command, Wire};
use crate::players::CLIENT_TIMEOUT;

/// A running `srs_hooks`.
pub(crate) struct SampleBackend {
    process: Process,
    pub(crate) port: u16,
}

impl SampleBackend {
    pub(crate) fn start(scratch: &Scratch, options: &[&str]) -> SampleBackend {
        SampleBackend::on(scratch, free_port(), options)
    }

    pub(crate) fn on(scratch: &Scratch, port: u16, options: &[&str]) -> SampleBackend {
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["--json", "--listen", &listen].into_iter().chain(options.iter().copied());
        let process = Process::start(scratch, "hooks", env!("CARGO_BIN_EXE_srs_hooks"), arguments);
        eventually("srs_hooks listens", CLIENT_TIMEOUT, || listens(port).then_some(()));
        SampleBackend { process, port }
    }

    /// Returns the bodies so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let log = self.process.log();
        log.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Returns action and client of each event, as `on_publish 1`, once there are as many as `count`.
    pub(crate) fn wait_actions(&self, count: usize) -> Vec<String> {
        let actions = || -> Vec<String> {
            let text = |event: &Value, key: &str| event[key].as_str().expect("a text").to_owned();
            self.events().iter().map(|event| text(event, "action") + " " + &text(event, "client_id")).collect()
        };
        let what = format!("{count} callbacks, have {:?}", actions());
        eventually(&what, ANSWER_TIMEOUT, || Some(actions()).filter(|actions| actions.len() >= count))
    }
}

/// Returns `http_hooks` with these directives, and all callbacks sent to one port. An answer may take long on a busy machine.
pub(crate) fn all_hooks(port: u16, more: &str) -> String {
    let patience = if more.contains("hooks_timeout") { "" } else { "hooks_timeout 10;" };
    let url = format!("http://127.0.0.1:{port}/api/v1");
    format!(
        "http_hooks {{ enabled on; on_connect {url}/clients; on_close {url}/clients; on_publish {url}/streams; \
         on_unpublish {url}/streams; on_play {url}/sessions; on_stop {url}/sessions; {patience} {more} }}"
    )
}

/// Starts a server with a default vhost of these directives.
pub(crate) fn server(scratch: &Scratch, vhost: &str) -> Server {
    Server::with(scratch, Settings { vhost, ..Settings::default() })
}

/// Asks to publish or play, and returns the answer.
pub(crate) fn answer_to(port: u16, verb: &str, stream: &str) -> (Wire, Command) {
    let mut wire = Wire::connect(port);
    wire.connect_app("live");
    let id = wire.create_stream();
    if verb == "publish" {
        wire.publish(id, stream)
    } else {
        wire.play(id, stream)
    }
    let due = ["NetStream.Publish.Start", "NetStream.Publish.Denied", "NetStream.Play.Start", "NetStream.Play.Failed"];
    let answer = wire.wait_command("a decision", |command| due.contains(&command.code()));
    (wire, answer)
}

/// A running `backend.py`.
pub(crate) struct PythonBackend {
    pub(crate) port: u16,
    process: Process,
}

impl PythonBackend {
    /// Starts a backend with these rules, a JSON list.
    pub(crate) fn start(scratch: &Scratch, python: &Path, rules: &str) -> PythonBackend {
        PythonBackend::on(scratch, python, free_port(), rules, &[])
    }

    pub(crate) fn on(scratch: &Scratch, python: &Path, port: u16, rules: &str, more: &[&str]) -> PythonBackend {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/backend.py");
        let port_text = port.to_string();
        let arguments = [script, &port_text, rules].into_iter().chain(more.iter().copied());
        let process = Process::start(scratch, "backend", python, arguments);
        eventually("the backend listens", CLIENT_TIMEOUT, || listens(port).then_some(()));
        PythonBackend { port, process }
    }

    /// Returns the requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let log = self.process.log();
        log.lines().filter(|line| line.starts_with('{')).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Returns the fields of the requests of one callback, or of `call` in the form of nginx-rtmp.
    pub(crate) fn fields_of(&self, name: &str) -> Vec<Value> {
        let is_it = |fields: &Value| fields["action"] == name || fields["call"] == name;
        self.requests().into_iter().map(|request| request["fields"].clone()).filter(is_it).collect()
    }

    /// Waits for a request of one callback, and returns its fields.
    pub(crate) fn wait(&self, name: &str) -> Value {
        eventually(&format!("the callback {name}"), CLIENT_TIMEOUT, || self.fields_of(name).into_iter().next())
    }

    /// Waits until there are as many requests of one callback as `count`.
    pub(crate) fn wait_count(&self, name: &str, count: usize) -> Vec<Value> {
        let all = || Some(self.fields_of(name)).filter(|all| all.len() >= count);
        eventually(&format!("{count} callbacks {name}"), ANSWER_TIMEOUT, all)
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// Starts nginx with these locations.
pub(crate) fn start_nginx(scratch: &Scratch, nginx: &Path, locations: &str) -> (Process, u16) {
    let port = free_port();
    let folder = scratch.folder().to_str().expect("a path of ours");
    let text = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; \
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; \
         server {{ listen 127.0.0.1:{port}; {locations} }} }}"
    );
    std::fs::write(scratch.file("nginx-backend.conf"), text).expect("a file in the scratch folder");
    let configuration = scratch.file("nginx-backend.conf").display().to_string();
    let arguments = ["-p".to_owned(), folder.to_owned(), "-c".to_owned(), configuration];
    let process = Process::start(scratch, "nginx-backend", nginx, arguments);
    eventually("nginx listens", CLIENT_TIMEOUT, || listens(port).then_some(()));
    (process, port)
}
