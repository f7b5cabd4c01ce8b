//! The check of the programs that a configuration names, for `-t`: is each there, and has ffmpeg the encoders?

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::{Config, Vhost};

const LIST_TIMEOUT: Duration = Duration::from_secs(10);

struct RequiredEncoders {
    program: String,
    by: String,
    encoders: Vec<String>,
}

/// Returns what is wrong, one line each. Runs the programs, and blocks the thread.
pub fn check_programs(config: &Config) -> Vec<String> {
    let mut lists: BTreeMap<String, Result<HashSet<String>, String>> = BTreeMap::new();
    let mut problems = Vec::new();
    for vhost in config.vhosts.values().filter(|vhost| vhost.enabled) {
        for RequiredEncoders { program, by, encoders } in required_encoders(vhost) {
            let known = lists.entry(program.clone()).or_insert_with(|| list_encoders(&program));
            match known {
                Err(error) => problems.push(format!("{by}: ffmpeg {program} cannot be used: {error}")),
                Ok(known) => {
                    let missing = encoders.iter().filter(|encoder| !known.contains(*encoder));
                    problems.extend(missing.map(|encoder| {
                        format!("{by}: {program} has no encoder \"{encoder}\"; {program} -encoders lists those it has")
                    }));
                }
            }
        }
        let exec = &vhost.exec;
        let commands =
            [&exec.publish, &exec.on_publish, &exec.on_unpublish, &exec.on_play, &exec.on_stop, &exec.on_dvr];
        for program in commands.into_iter().flatten().filter(|_| exec.enabled).filter_map(|words| words.first()) {
            if !is_program(program) {
                problems.push(format!("exec in vhost {}: there is no program {program}", vhost.name));
            }
        }
    }
    problems
}

fn required_encoders(vhost: &Vhost) -> Vec<RequiredEncoders> {
    let name = &vhost.name;
    let mut required = Vec::new();
    for block in vhost.transcode.iter().filter(|block| block.enabled) {
        for engine in block.engines.iter().filter(|engine| engine.enabled) {
            let own = [&engine.vcodec, &engine.acodec]
                .into_iter()
                .filter(|codec| !matches!(codec.as_str(), "copy" | "vn" | "an"));
            let by =
                format!("engine \"{}\" in transcode {} in vhost {name}", engine.name, block.scope).replace("  ", " ");
            required.push(RequiredEncoders { program: block.ffmpeg.clone(), by, encoders: own.cloned().collect() });
        }
    }
    let ladder = &vhost.ladder;
    if !ladder.heights.is_empty() {
        let encoders = [&ladder.vcodec, &ladder.acodec].into_iter().filter(|codec| *codec != "copy").cloned().collect();
        required.push(RequiredEncoders {
            program: ladder.ffmpeg.clone(),
            by: format!("ladder in vhost {name}"),
            encoders,
        });
    }
    required
}

/// Returns the names by which ffmpeg finds encoders: their own, and those of their codecs.
fn list_encoders(program: &str) -> Result<HashSet<String>, String> {
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-encoders"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let (sender, listed) = mpsc::channel();
    thread::spawn(move || drop(sender.send(child.wait_with_output())));
    match listed.recv_timeout(LIST_TIMEOUT) {
        Ok(Ok(output)) if output.status.success() => Ok(parse_encoders(&String::from_utf8_lossy(&output.stdout))),
        Ok(Ok(output)) => Err(format!("\"-encoders\" ended with {}", output.status)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("\"-encoders\" took more than {} s", LIST_TIMEOUT.as_secs())),
    }
}

fn parse_encoders(list: &str) -> HashSet<String> {
    // Above the line of dashes are explanations.
    let lines = list.lines().skip_while(|line| line.trim() != "------").skip(1);
    let names = lines.flat_map(|line| {
        let own = line.split_whitespace().nth(1);
        let codec = line.rsplit_once("(codec ").and_then(|(_, rest)| rest.strip_suffix(')'));
        own.into_iter().chain(codec).map(str::to_owned).collect::<Vec<_>>()
    });
    names.collect()
}

/// Returns whether a program exists: as a path, or in a directory of `PATH`.
fn is_program(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_have_their_own_name_and_that_of_their_codec() {
        let list = "Encoders:\n V..... = Video\n ------\n V....D libx264              libx264 H.264 / AVC (codec h264)\n \
                    A....D aac                  AAC (Advanced Audio Coding)\n";
        let names = parse_encoders(list);
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["aac", "h264", "libx264"]);
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let text = "listen 1; vhost v {
            transcode live { enabled on; ffmpeg /nowhere/ffmpeg; engine a { enabled on; vcodec x; acodec copy; output y; } }
            transcode { ffmpeg /nowhere/other; engine b { enabled on; vcodec x; acodec copy; output y; } }
            exec { enabled on; publish /nowhere/script; on_stop sh -c true; } }";
        let problems = check_programs(&Config::parse("t", text).unwrap());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0]
                .starts_with("engine \"a\" in transcode live in vhost v: ffmpeg /nowhere/ffmpeg cannot be used: ")
        );
        assert_eq!(problems[1], "exec in vhost v: there is no program /nowhere/script");
    }
}
