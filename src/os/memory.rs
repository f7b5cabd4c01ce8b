//! The memory limit of the process, and its use.

use std::fs;
use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};

/// Returns the most bytes of memory that this process may use: those of the machine, or the lowest limit of its control groups.
/// `None` if the system does not report any.
pub fn memory_limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| read_total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits =
        limit_files(&groups).into_iter().filter_map(|(folder, file)| lowest_limit(Path::new(&folder), file, &read));
    machine.into_iter().chain(limits).min()
}

/// Returns the resident memory of this process in bytes, from /proc/self/statm; 0 if the system does not report it. Takes some
/// microseconds.
pub fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    pages.saturating_mul(page.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096))
}

/// Reads the total of /proc/meminfo, which is in KiB, and returns it in bytes.
fn read_total(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the folders and file names of the memory limits of /proc/self/cgroup, for versions 1 and 2 of cgroups(7).
fn limit_files(groups: &str) -> Vec<(String, &'static str)> {
    let folder = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        match rest.split_once(':')? {
            ("", path) => Some((format!("/sys/fs/cgroup{path}"), "memory.max")),
            (kinds, path) if kinds.split(',').any(|kind| kind == "memory") => {
                Some((format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(folder).collect()
}

/// Returns the lowest limit of a group and its ancestors. In a container only its own group is visible, as the root.
fn lowest_limit(folder: &Path, file: &str, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limit = |folder: &Path| read(&folder.join(file))?.trim().parse().ok();
    folder.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup")).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_some() {
        assert!(memory_limit().is_some_and(|bytes| bytes > 16 << 20));
        assert!(resident_bytes() > 1 << 20);
    }

    #[test]
    fn the_narrowest_limit_counts() {
        assert_eq!(read_total("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), Some(24_684_092 * 1024));
        assert_eq!(read_total("MemTotal: x kB"), None);
        let groups = "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/system.slice/srs.service\n";
        let files = limit_files(groups);
        assert_eq!(
            files,
            [
                ("/sys/fs/cgroup/memory/a/b".to_owned(), "memory.limit_in_bytes"),
                ("/sys/fs/cgroup/system.slice/srs.service".to_owned(), "memory.max"),
            ]
        );
        let read = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes" => "9223372036854771712\n",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes" => "5000\n",
                "/sys/fs/cgroup/system.slice/srs.service/memory.max" => "max\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let found: Vec<_> = files.iter().map(|(folder, file)| lowest_limit(Path::new(folder), file, &read)).collect();
        assert_eq!(found, [Some(5000), None]);
    }
}
