//! The backends of callbacks that the tests start: one in Python, and nginx.

use std::path::Path;

use serde_json::Value;

use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{free_port, listens};
use crate::common::wire::ANSWER_TIMEOUT;
use crate::players::CLIENT_TIMEOUT;

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
