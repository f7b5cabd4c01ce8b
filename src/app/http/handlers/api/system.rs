//! Figures of the process and the machine, from `/proc`: the `data` of `summaries`, `rusages` and the like, field by field as
//! SRS.

mod proc;

use std::fs;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;

use self::proc::{SELF_STAT, SYSTEM_STAT};
use super::json::Object;

/// Minimum time between two samples of processor time: a shorter one says little.
const MIN_SAMPLE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    own: u64,
    idle: u64,
    all: u64,
}

/// Processor shares between the last two samples that were far enough apart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CpuMeter {
    last: Option<Sample>,
    own: f64,
    system: f64,
}

pub(super) struct Readings {
    at: Instant,
    now_ms: u64,
    stat: Vec<Value>,
    system: Vec<u64>,
    memory: Vec<(String, u64)>,
    load: Vec<f64>,
    uptime: Vec<f64>,
    network: [u64; 4],
    disk: [u64; 2],
    sockets: [u64; 4],
    arguments: String,
    cwd: String,
}

impl Readings {
    /// Reads `/proc`. Blocks for a moment.
    pub(super) fn read(at: Instant) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let floats = |path: &str| text(path).split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let arguments = fs::read("/proc/self/cmdline").unwrap_or_default();
        Self {
            at,
            now_ms: unix_ms(),
            stat: proc::self_stat(&text("/proc/self/stat")),
            system: proc::system_stat(&text("/proc/stat")),
            memory: proc::memory(&text("/proc/meminfo")),
            load: floats("/proc/loadavg"),
            uptime: floats("/proc/uptime"),
            network: proc::network(&text("/proc/net/dev")),
            disk: proc::disk(&text("/proc/vmstat")),
            sockets: proc::sockets(&text("/proc/net/sockstat"), &text("/proc/net/snmp")),
            arguments: String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " "),
            cwd: std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        }
    }

    fn stat(&self, name: &str) -> u64 {
        let at = SELF_STAT.iter().position(|field| *field == name);
        at.and_then(|at| self.stat.get(at)).and_then(Value::as_u64).unwrap_or(0)
    }

    fn kbytes(&self, name: &str) -> u64 {
        self.memory.iter().find(|(key, _)| key == name).map_or(0, |(_, value)| *value)
    }

    fn sample(&self) -> Sample {
        let idle = self.system.iter().skip(3).take(2).sum();
        Sample { at: self.at, own: self.stat("utime") + self.stat("stime"), idle, all: self.system.iter().sum() }
    }

    pub(super) fn self_proc_stats(&self, cpu: &CpuMeter) -> Object {
        let names = SELF_STAT.iter().zip(&self.stat);
        names.fold(self.head(cpu.own), |data, (name, value)| data.with(name, value))
    }

    pub(super) fn system_proc_stats(&self, cpu: &CpuMeter) -> Object {
        let names = SYSTEM_STAT.iter().zip(&self.system);
        names.fold(self.head(cpu.system), |data, (name, ticks)| data.with(name, ticks))
    }

    pub(super) fn meminfos(&self) -> Object {
        let (total, free) = (self.kbytes("MemTotal"), self.kbytes("MemFree"));
        let (buffers, cached) = (self.kbytes("Buffers"), self.kbytes("Cached"));
        let (swap, swap_free) = (self.kbytes("SwapTotal"), self.kbytes("SwapFree"));
        let in_use = total.saturating_sub(free + buffers + cached);
        Object::new()
            .with("ok", !self.memory.is_empty())
            .with("sample_time", self.now_ms)
            .with("percent_ram", share(in_use, total))
            .with("percent_swap", share(swap.saturating_sub(swap_free), swap))
            .with("MemActive", total.saturating_sub(free))
            .with("RealInUse", in_use)
            .with("NotInUse", total.saturating_sub(in_use))
            .with("MemTotal", total)
            .with("MemFree", free)
            .with("Buffers", buffers)
            .with("Cached", cached)
            .with("SwapTotal", swap)
            .with("SwapFree", swap_free)
    }

    pub(super) fn summaries(&self, cpu: &CpuMeter, server: &ServerTotals) -> Object {
        let peak_kb = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
        let total = self.kbytes("MemTotal");
        let in_use = total.saturating_sub(self.kbytes("MemFree") + self.kbytes("Buffers") + self.kbytes("Cached"));
        let swap = self.kbytes("SwapTotal");
        let cpus = |variable| sysconf(variable).ok().flatten().unwrap_or(0);
        let float = |values: &[f64], at: usize| values.get(at).copied().unwrap_or(0.0);
        let [public_in, public_out, private_in, private_out] = self.network;
        let [disk_read, disk_write] = self.disk;
        let [all, established, time_wait, udp] = self.sockets;
        let uptime = float(&self.uptime, 0);
        // Averages since the machine started; SRS has those of the last seconds.
        let rate = |kbytes: u64| (kbytes as f64 / uptime.max(1.0)) as u64;
        Object::new()
            .with("ok", true)
            .with("now_ms", self.now_ms)
            .with_object(
                "self",
                Object::new()
                    .with("version", env!("CARGO_PKG_VERSION"))
                    .with("pid", std::process::id())
                    .with("ppid", self.stat("ppid"))
                    .with("argv", &self.arguments)
                    .with("cwd", &self.cwd)
                    .with("mem_kbyte", peak_kb)
                    .with("mem_percent", share(u64::try_from(peak_kb).unwrap_or(0), total))
                    .with("cpu_percent", cpu.own)
                    .with("srs_uptime", server.uptime_s),
            )
            .with_object(
                "system",
                Object::new()
                    .with("cpu_percent", cpu.system)
                    .with("disk_read_KBps", rate(disk_read))
                    .with("disk_write_KBps", rate(disk_write))
                    .with("disk_busy_percent", 0.0)
                    .with("mem_ram_kbyte", total)
                    .with("mem_ram_percent", share(in_use, total))
                    .with("mem_swap_kbyte", swap)
                    .with("mem_swap_percent", share(swap.saturating_sub(self.kbytes("SwapFree")), swap))
                    .with("cpus", cpus(SysconfVar::_NPROCESSORS_CONF))
                    .with("cpus_online", cpus(SysconfVar::_NPROCESSORS_ONLN))
                    .with("uptime", uptime)
                    .with("ilde_time", float(&self.uptime, 1))
                    .with("load_1m", float(&self.load, 0))
                    .with("load_5m", float(&self.load, 1))
                    .with("load_15m", float(&self.load, 2))
                    .with("net_sample_time", self.now_ms)
                    .with("net_recv_bytes", public_in)
                    .with("net_send_bytes", public_out)
                    .with("net_recvi_bytes", private_in)
                    .with("net_sendi_bytes", private_out)
                    .with("srs_sample_time", self.now_ms)
                    .with("srs_recv_bytes", server.bytes_in)
                    .with("srs_send_bytes", server.bytes_out)
                    .with("conn_sys", all)
                    .with("conn_sys_et", established)
                    .with("conn_sys_tw", time_wait)
                    .with("conn_sys_udp", udp)
                    .with("conn_srs", server.connections),
            )
    }

    fn head(&self, percent: f64) -> Object {
        Object::new().with("ok", !self.stat.is_empty()).with("sample_time", self.now_ms).with("percent", percent)
    }
}

pub(super) struct ServerTotals {
    pub(super) uptime_s: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) connections: u64,
}

impl CpuMeter {
    pub(super) fn update(&mut self, readings: &Readings) {
        let now = readings.sample();
        if let Some(last) = self.last {
            if now.at.saturating_duration_since(last.at) < MIN_SAMPLE_TIME {
                return;
            }
            let all = now.all.saturating_sub(last.all);
            let cpus =
                sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(1);
            self.own = share(now.own.saturating_sub(last.own) * cpus, all);
            self.system = share(all.saturating_sub(now.idle.saturating_sub(last.idle)), all);
        }
        self.last = Some(now);
    }

    /// Returns the processor time of the process between the last two samples: 1 for one core.
    pub(super) fn own(&self) -> f64 {
        self.own
    }
}

pub(super) fn rusages() -> Object {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Object::new().with("ok", false) };
    Object::new()
        .with("ok", true)
        .with("sample_time", unix_ms())
        .with("ru_utime", usage.user_time().tv_sec())
        .with("ru_stime", usage.system_time().tv_sec())
        .with("ru_maxrss", usage.max_rss())
        .with("ru_ixrss", 0)
        .with("ru_idrss", 0)
        .with("ru_isrss", 0)
        .with("ru_minflt", usage.minor_page_faults())
        .with("ru_majflt", usage.major_page_faults())
        .with("ru_nswap", 0)
        .with("ru_inblock", usage.block_reads())
        .with("ru_oublock", usage.block_writes())
        .with("ru_msgsnd", 0)
        .with("ru_msgrcv", 0)
        .with("ru_nsignals", 0)
        .with("ru_nvcsw", usage.voluntary_context_switches())
        .with("ru_nivcsw", usage.involuntary_context_switches())
}

pub(super) fn unix_ms() -> u64 {
    crate::st::system_time()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns a part of a whole as a fraction with two decimals, as in SRS.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 100.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let readings = Readings::read(crate::st::now());
        let cpu = CpuMeter::default();
        let value = |object: Object| serde_json::from_str::<Value>(&object.finish()).unwrap();
        let own = value(readings.self_proc_stats(&cpu));
        assert_eq!(own["pid"], std::process::id());
        assert_eq!(own.as_object().map(|fields| fields.len()), Some(3 + SELF_STAT.len()));
        assert_eq!(value(readings.system_proc_stats(&cpu)).as_object().map(|fields| fields.len()), Some(12));
        assert!(value(readings.meminfos())["MemTotal"].as_u64() > Some(1 << 14));
    }
}
