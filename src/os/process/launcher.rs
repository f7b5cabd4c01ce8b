//! The start of a child from within: this program, started with [`LAUNCH_ARGUMENT`], sets what holds for the child alone, and
//! becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use super::types::Limits;

/// First argument of a launcher.
const LAUNCH_ARGUMENT: &str = "--launch-child";

/// Exit status if the program cannot be executed, as that of shells.
const NOT_EXECUTED: u8 = 127;

/// Exit status if the server has ended meanwhile.
const EXIT_ORPHANED: u8 = 125;

/// Returns the command of the launcher: this program, also if its file was replaced since.
pub fn command() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), LAUNCH_ARGUMENT.into()]
}

/// Returns the arguments between the command of the launcher and the program.
pub(super) fn arguments(limits: Limits, directories: &[PathBuf]) -> Vec<OsString> {
    let Limits { nice, max_memory, max_cpus } = limits;
    let numbers = [u64::from(std::process::id()), nice.into(), max_memory, max_cpus as u64, directories.len() as u64];
    let directories = directories.iter().map(|directory| directory.clone().into_os_string());
    numbers.iter().map(|number| number.to_string().into()).chain(directories).collect()
}

/// Becomes a child if the arguments of this process are those of a launcher. Returns only if they are not, or if that fails.
/// `set_nice` sets the nice value of this process.
pub fn launch(mut args: impl Iterator<Item = OsString>, set_nice: impl Fn(i32)) -> Option<ExitCode> {
    if args.nth(1)? != LAUNCH_ARGUMENT {
        return None;
    }
    let mut number = || args.next().and_then(|word| word.to_str()?.parse::<u64>().ok());
    let numbers = (number(), number(), number(), number(), number());
    let (Some(parent), Some(nice), Some(max_memory), Some(max_cpus), Some(directories)) = numbers else {
        return Some(fail("invalid arguments", NOT_EXECUTED));
    };
    // Survives exec. The kernel sends it when the thread that has started this process ends.
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return Some(fail(&format!("cannot be bound to the server: {error}"), NOT_EXECUTED));
    }
    // The server may have ended before.
    if u64::try_from(getppid().as_raw()) != Ok(parent) {
        return Some(fail("the server has ended", EXIT_ORPHANED));
    }
    for _ in 0..directories {
        let directory = args.next().unwrap_or_default();
        if let Err(error) = std::fs::create_dir_all(&directory) {
            return Some(fail(&format!("cannot make the directory {}: {error}", directory.display()), NOT_EXECUTED));
        }
    }
    close_inherited();
    set_nice(i32::try_from(nice.min(19)).unwrap_or(19));
    if max_memory > 0 {
        let hard = getrlimit(Resource::RLIMIT_AS).map_or(max_memory, |(_, hard)| hard.min(max_memory));
        if let Err(error) = setrlimit(Resource::RLIMIT_AS, hard, hard) {
            return Some(fail(&format!("cannot limit the memory: {error}"), NOT_EXECUTED));
        }
    }
    if max_cpus > 0
        && let Err(error) = limit_cpus(usize::try_from(max_cpus).unwrap_or(usize::MAX))
    {
        return Some(fail(&format!("cannot limit the processors: {error}"), NOT_EXECUTED));
    }
    let Some(program) = args.next() else { return Some(fail("no program", NOT_EXECUTED)) };
    let error = Command::new(&program).args(args).exec();
    Some(fail(&format!("cannot execute {}: {error}", program.display()), NOT_EXECUTED))
}

/// Binds this process to `max` of its processors. The process id chooses the first, so that children use different ones.
fn limit_cpus(max: usize) -> nix::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    if cpus.len() <= max {
        return Ok(());
    }
    let first = std::process::id() as usize;
    let mut chosen = CpuSet::new();
    for index in first..first + max {
        chosen.set(cpus[index % cpus.len()])?;
    }
    sched_setaffinity(this, &chosen)
}

/// Closes all descriptors but the standard streams: those that whoever has started the server has left open, too.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // That of the directory is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

fn fail(reason: &str, status: u8) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(status)
}
