//! `srs_hooks`: a sample backend for `http_hooks`, as the original server had one in Python. It shows each callback, and answers
//! by the rules of its command line.
//!
//! It is built on `may_minihttp`, which cannot serve within the server itself (docs/architecture.md says why). Here nothing
//! depends on when a coroutine runs.

mod rules;

use std::io::{self, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use may_minihttp::{HttpServer, HttpService, Request, Response};
use serde_json::Value;
use srs::st;
use structopt::StructOpt;
use structopt::clap::Shell;

use rules::{Answer, Rules};

/// Longest body that is read. Those of the server have some kilobytes.
const MAX_BODY: u64 = 64 * 1024;

/// Examples at the end of the help text.
const AFTER_HELP: &str = "\
EXAMPLES:
    srs_hooks                                       Accept everything
    srs_hooks --deny-publish intruder               Refuse a stream
    srs_hooks --rename k3y-7f=cam                   Publish the key k3y-7f under the name cam
    srs_hooks --delay 200 --fail 50                 Answer after 200 ms, every second time with status 500
    srs_hooks --json | jq -c '[.action, .stream]'   Bodies as they came, one a line

The server needs, in a vhost: http_hooks { enabled on; on_publish http://127.0.0.1:8085/api/v1/streams; }";

/// Sample backend for HTTP callbacks: shows each one, and answers by rules
#[derive(StructOpt, Debug, Clone)]
#[structopt(name = "srs_hooks", after_help = AFTER_HELP)]
struct Options {
    /// Address to listen on
    #[structopt(long, default_value = "127.0.0.1:8085", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    #[structopt(flatten)]
    rules: Rules,
    /// Prints the bodies as they came, one a line
    #[structopt(long)]
    json: bool,
    /// Prints a script that completes the command line, and exits
    #[structopt(long, value_name = "SHELL", possible_values = &Shell::variants())]
    completions: Option<Shell>,
}

/// The service. Each connection has a clone.
#[derive(Clone)]
struct Backend {
    options: Arc<Options>,
    requests: Arc<AtomicU64>,
}

impl HttpService for Backend {
    fn call(&mut self, request: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        let path = request.path().to_owned();
        let mut body = String::new();
        let read = request.body().take(MAX_BODY).read_to_string(&mut body);
        let event: Value = read.ok().and_then(|_| serde_json::from_str(&body).ok()).unwrap_or(Value::Null);
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if self.options.rules.delay > 0 {
            st::sleep(Duration::from_millis(self.options.rules.delay));
        }
        let answer = self.options.rules.answer(&event, number);
        let line = if self.options.json { body } else { describe(&path, &event, &answer) };
        // The reader may be gone; the server still wants its answer.
        let _ = writeln!(io::stdout().lock(), "{}", line.replace('\n', " "));
        response.header("Content-Type: application/json");
        match answer {
            Answer::Fail => {
                response.status_code(500, "Internal Server Error").body("on purpose");
            }
            Answer::Body(body) => response.body_vec(body.into_bytes()),
        }
        Ok(())
    }
}

/// Returns a line about a callback, with colours on a terminal.
fn describe(path: &str, event: &Value, answer: &Answer) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default().escape_debug().to_string();
    let (colour, said) = match answer {
        Answer::Fail => ("31", "500".to_owned()),
        Answer::Body(body) if body == rules::ACCEPTED => ("32", body.clone()),
        Answer::Body(body) => ("33", body.clone()),
    };
    let (on, off) =
        if io::stdout().is_terminal() { (format!("\x1b[{colour}m"), "\x1b[0m") } else { (String::new(), "") };
    let [action, client, ip, app, stream, param] = ["action", "client_id", "ip", "app", "stream", "param"].map(text);
    format!("{on}{action:<12}{off} client={client} ip={ip} stream={app}/{stream}{param} path={path} -> {said}")
}

fn main() -> ExitCode {
    let options = Arc::new(Options::from_args());
    if let Some(shell) = options.completions {
        Options::clap().gen_completions_to("srs_hooks", shell, &mut io::stdout().lock());
        return ExitCode::SUCCESS;
    }
    let listen = options.listen;
    let backend = Backend { options, requests: Arc::default() };
    let result = st::run(move || {
        let server = HttpServer(backend).start(listen)?;
        eprintln!("srs_hooks: listening on http://{listen}/");
        server.join().map_err(|_| io::Error::other("the server died"))
    });
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&format!("cannot listen on {listen}: {error}")),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("srs_hooks: {text}");
    ExitCode::FAILURE
}
