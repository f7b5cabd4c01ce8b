//! Reports of what the server runs for streams, and of addresses that cause trouble.

use serde_json::Value;

use crate::failure::Failure;
use crate::output::{Table, bytes, duration, number, text};

/// Prints the programs that run for streams.
pub(crate) fn processes(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "STREAM",
        "PROCESS",
        "STATE",
        ">PID",
        ">UPTIME",
        ">STARTS",
        ">FPS",
        ">SPEED",
        ">LAG",
        ">OUT",
        "LAST ERROR",
    ]);
    for process in all {
        let seconds = |name: &str| process[name].as_f64().unwrap_or(0.0) / 1000.0;
        let figure = |name: &str| process[name].as_f64().map_or(String::new(), |value| format!("{value:.1}"));
        let error =
            ["last_error", "last_exit"].map(|name| text(&process[name])).into_iter().find(|text| !text.is_empty());
        table.push(vec![
            text(&process["stream"]),
            text(&process["process"]),
            text(&process["state"]),
            text(&process["pid"]),
            duration(seconds("uptime_ms")),
            text(&process["starts"]),
            figure("fps"),
            figure("speed"),
            format!("{} ms", text(&process["lag_ms"])),
            bytes(number(&process["bytes_out"])),
            error.unwrap_or_default(),
        ]);
    }
    Ok(table.print("no programs")?)
}

/// Prints the addresses that cause trouble.
pub(crate) fn offenders(all: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(&["ADDRESS", ">REFUSED", ">FAULTY", ">WRONG SECRETS", "LAST CODE", ">AGO"]);
    for offender in all {
        let [ip, refused, faulty, wrong, code] =
            ["ip", "refused", "faulty", "wrong_secrets", "last_code"].map(|name| text(&offender[name]));
        let ago = duration(offender["seconds_ago"].as_f64().unwrap_or(0.0));
        table.push(vec![ip, refused, faulty, wrong, code, ago]);
    }
    Ok(table.print("no offenders")?)
}
