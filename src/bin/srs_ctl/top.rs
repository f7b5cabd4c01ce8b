//! `top`: a live view of server, streams and clients.
//!
//! ```text
//! worker (asks the API each interval, kicks) ── Update ──> app (rows, selection, questions) ──> draw
//!         ^─────────────────────────────────── Request ────────┘ ^── keys of the terminal
//! ```

mod app;
mod draw;
mod rows;
mod worker;

use std::io::{self, IsTerminal as _};
use std::sync::mpsc;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::app::App;
use crate::api::Api;
use crate::failure::Failure;

/// Time without a key after which updates are looked for.
const POLL: Duration = Duration::from_millis(100);

/// Shows the view until the user leaves it. Fails when the API does not answer at the start, or the terminal cannot be
/// used.
pub(crate) fn run(api: Api, interval: u64) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage("top needs a terminal; scripts use \"srs_ctl status --json\"".to_owned()));
    }
    // Before the screen is taken: an error is a line.
    let first = worker::sample(&api, None)?;
    let mut app = App::new(api.url());
    app.apply(first);
    let (requests, inbox) = mpsc::channel();
    let (outbox, updates) = mpsc::channel();
    let interval = Duration::from_secs(interval.clamp(1, 3600));
    std::thread::spawn(move || worker::run(&api, interval, &inbox, &outbox));
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::Usage(format!("the terminal cannot be used: {error}")))?;
    let result = (|| -> io::Result<()> {
        loop {
            terminal.draw(|frame| draw::draw(frame, &mut app))?;
            let mut is_idle = true;
            while is_idle {
                while let Ok(update) = updates.try_recv() {
                    app.update(update);
                    is_idle = false;
                }
                if event::poll(POLL)? {
                    is_idle = false;
                    if let Event::Key(key) = event::read()?
                        && key.kind != KeyEventKind::Release
                    {
                        for request in app.on_key(key) {
                            // The worker ends only with this function.
                            let _ = requests.send(request);
                        }
                    }
                }
                if app.is_done() {
                    return Ok(());
                }
            }
        }
    })();
    ratatui::restore();
    Ok(result?)
}
