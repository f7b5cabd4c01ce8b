#!/usr/bin/env python3
"""transcode-churn.py [SECONDS] [STREAMS] [SEED]: lets streams with engines come and go, and checks that nothing is left.

Starts the server (TRANSCODE_CHURN_SERVER, or objs/simple_rtmp_server) with three engines, a ladder and commands for every stream, and
with places for a quarter of the processes, so that a queue forms. STREAMS streams (50) are published for SECONDS (300) by ffmpeg: they
end by SIGINT or SIGKILL, and come back at once or later, some with another size. Meanwhile the engines change by a reload every 10 s, and
a process of the server is killed or stopped every 2 s. One stream lasts, and a player records it. Checked are

- all the time: no zombie for more than a second, no more processes than max_processes, no stream made from one that an engine has made;
- when all streams have ended: no process left (all that the server has started, directly or not, are known by a variable of their
  environment), no stream, no program in the API, and no more descriptors, coroutines and threads than after a warm-up;
- each packet of the stream that lasts has reached its player unchanged;
- at the end, with new streams: kill -9 of the server ends all its processes within 3 s.

Needs ffmpeg. Exit status 0 if nothing was found.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

MARK = "TRANSCODE_CHURN"
LONGEST_WARM_UP = 20
# The reconnect grace, SIGINT, SIGTERM, and the time until an unused stream is removed.
SETTLE = 45
SIZES = ["64x48", "96x64", "64x48", "80x60"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stat(pid):
    """Returns state, parent and name of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, rest = file.read().rsplit(") ", 1)
    except OSError:
        return None
    fields = rest.split()
    return fields[0], int(fields[1]), name.split("(", 1)[1]


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def ffmpeg(*arguments, **options):
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)


class Churn:
    def __init__(self, folder, seconds, count, seed):
        self.folder, self.seconds, self.count, self.random = folder, seconds, count, random.Random(seed)
        self.warm_up = min(LONGEST_WARM_UP, seconds)
        self.mark = f"{os.getpid()}-{seed}"
        self.rtmp, self.api = free_port(), free_port()
        self.max_processes = max(4, count * 5 // 4)
        self.faults, self.zombies, self.most = [], {}, 0
        self.publishers, self.round, self.ends = {}, 0, {"interrupted": 0, "killed": 0, "replaced": 0}
        self.disturbed = {"killed": 0, "stopped": 0}

    def path(self, name):
        return os.path.join(self.folder, name)

    def fault(self, text):
        if text not in self.faults:
            self.faults.append(text)
            print(f"  FAULT   {text}", flush=True)

    def write_conf(self):
        self.round += 1
        output = "rtmp://127.0.0.1:[port]/[app]/[stream]_[engine]?vhost=[vhost]"
        copy = f"engine copy {{ enabled on; vcodec copy; acodec copy; output {output}; }}"
        tiny = (
            f"engine tiny {{ enabled on; vcodec libx264; vpreset ultrafast; vbitrate {20 + self.round % 3 * 10}; vwidth 32; vheight 24;"
            f" acodec an; output {output}; }}"
        )
        other = f"engine other{self.round % 2} {{ enabled on; vcodec copy; acodec an; output {output}; }}"
        with open(self.path("srs.conf.new"), "w") as conf:
            conf.write(
                f"listen 127.0.0.1:{self.rtmp}; max_connections 5000; max_connections_per_address 0;\n"
                f"max_processes {self.max_processes}; ff_log_dir {self.path('logs')}; ff_log_level error;\n"
                f"srs_log_tank file; srs_log_file {self.path('srs.log')}; srs_log_level trace;\n"
                f"http_api {{ enabled on; listen 127.0.0.1:{self.api}; }}\n"
                f"vhost __defaultVhost__ {{ publish {{ reconnect_grace 2; }}\n"
                f"transcode live {{ enabled on; {copy} {tiny} {other} }}\n"
                f"ladder {{ enabled on; heights 48p; vpreset ultrafast; keyframe_interval 1; }}\n"
                f"exec {{ enabled on; publish sh -c 'sleep 1000 & wait' [stream]; on_publish true [stream]; on_unpublish true [stream]; }} }}\n"
            )
        # A reload must not see an incomplete file.
        os.rename(self.path("srs.conf.new"), self.path("srs.conf"))

    def make_sources(self):
        for number, size in enumerate(SIZES):
            self.encode(f"source{number}.flv", size, 10)
        self.encode("lasting.flv", SIZES[0], self.seconds)

    def encode(self, name, size, seconds):
        source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10", "-f", "lavfi", "-i", "sine=sample_rate=22050"]
        codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "32k"]
        ffmpeg("-y", *source, *codecs, "-t", str(seconds), self.path(name)).wait()

    def start_server(self):
        binary = os.environ.get("TRANSCODE_CHURN_SERVER", "objs/simple_rtmp_server")
        self.write_conf()
        output = open(self.path("server.out"), "a")
        environment = {**os.environ, MARK: self.mark}
        self.server = subprocess.Popen([binary, "-c", self.path("srs.conf")], env=environment, stdout=output, stderr=output)
        deadline = time.time() + 10
        while time.time() < deadline:
            try:
                return self.get("versions")
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"the server does not start, see {self.folder}")

    def get(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api}/api/v1/{name}", timeout=10) as answer:
            return json.load(answer)

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api}/metrics", timeout=10) as answer:
            lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {line[0]: float(line[1]) for line in lines if len(line) == 2}

    def url(self, name):
        return f"rtmp://127.0.0.1:{self.rtmp}/live/{name}"

    def publish(self, name, source, *options):
        publisher = ffmpeg("-re", *options, "-i", self.path(source), "-c", "copy", "-f", "flv", self.url(name), stderr=subprocess.DEVNULL)
        self.publishers[name] = (publisher, time.time() + self.random.uniform(2, 40))

    def churn(self, seconds):
        """Lets streams come and go. Returns the number of publications."""
        end = time.time() + seconds
        due = {f"s{number}": time.time() + self.random.uniform(0, 8) for number in range(self.count)}
        reload_at, disturb_at, published = time.time() + 10, time.time() + 2, 0
        while (now := time.time()) < end and self.server.poll() is None:
            for name, (publisher, until) in list(self.publishers.items()):
                if name == "lasting" or now < until and publisher.poll() is None:
                    continue
                how = self.random.choice(list(self.ends))
                self.ends[how] += 1
                publisher.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
                publisher.wait()
                del self.publishers[name]
                due[name] = now if how == "replaced" else now + self.random.uniform(0, 8)
            for name, at in list(due.items()):
                if now >= at:
                    del due[name]
                    self.publish(name, f"source{self.random.randrange(len(SIZES))}.flv", "-stream_loop", "-1")
                    published += 1
            if now >= reload_at:
                self.write_conf()
                self.server.send_signal(signal.SIGHUP)
                reload_at = now + 10
            if now >= disturb_at:
                self.disturb()
                disturb_at = now + 2
            self.look()
            time.sleep(0.2)
        if self.server.poll() is not None:
            self.fault(f"the server has ended with {self.server.returncode}")
        return published

    def disturb(self):
        children = [pid for pid in processes() if (found := stat(pid)) and found[1] == self.server.pid and found[2] == "ffmpeg"]
        if children:
            how = self.random.choice(list(self.disturbed))
            self.disturbed[how] += 1
            try:
                os.kill(self.random.choice(children), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            except ProcessLookupError:
                pass

    def look(self):
        """Checks the processes and the streams as they are now."""
        now = time.time()
        children = {pid: found for pid in processes() if (found := stat(pid)) and found[1] == self.server.pid}
        zombies = {pid for pid, (state, _, _) in children.items() if state == "Z"}
        self.zombies = {pid: self.zombies.get(pid, now) for pid in zombies}
        for pid, since in self.zombies.items():
            if now - since > 1:
                self.fault(f"a zombie: {pid} {children[pid][2]}")
        alive = len(children) - len(zombies)
        self.most = max(self.most, alive)
        if alive > self.max_processes:
            self.fault(f"{alive} processes at once")
        for stream in self.get("streams?count=10000")["streams"]:
            # Not even a rendition of an engine's.
            if stream["name"].count("_") > 1:
                self.fault(f"a loop: {stream['name']}")

    def marked(self):
        """Returns the processes that the server has started, directly or not, by process id."""
        found = {}
        for pid in processes():
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    is_ours = f"{MARK}={self.mark}".encode() in file.read().split(b"\0")
            except OSError:
                continue
            if is_ours and pid != self.server.pid:
                found[pid] = (stat(pid) or ("?", 0, "gone"))[2]
        return found

    def end_publishers(self):
        for publisher, _ in self.publishers.values():
            publisher.send_signal(signal.SIGINT)
        for publisher, _ in self.publishers.values():
            publisher.wait()
        self.publishers.clear()

    def settle(self):
        """Waits until nothing runs for any stream. Returns the figures of the server."""
        deadline = time.time() + SETTLE
        while time.time() < deadline:
            left = self.get("processes")["processes"], self.get("streams")["streams"], self.marked()
            if not any(left):
                break
            time.sleep(0.5)
        else:
            self.fault(f"left after {SETTLE} s: {json.dumps(left)[:2000]}")
        descriptors = self.descriptors()
        metrics = self.metrics()
        pid = self.server.pid
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        return {
            "descriptors": descriptors,
            "threads": int(status["Threads"]),
            "coroutines": int(metrics["srs_coroutines"]),
            "resident KiB": int(status["VmRSS"].split()[0]),
        }

    def descriptors(self):
        """Returns the lowest count of three seconds: connections of the API are closed a little later, and the log is open twice while
        the server opens it again."""
        counts = []
        for _ in range(15):
            time.sleep(0.2)
            counts.append(len(os.listdir(f"/proc/{self.server.pid}/fd")))
        return min(counts)

    def packets(self, name):
        """Returns the hashes of the packets of a file."""
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", self.path(name), "-c", "copy", "-f", "framemd5", "-"]
        text = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
        lines = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
        return [[line[-1].strip() for line in lines if line[0].strip() == track] for track in "01"]

    def run(self):
        self.make_sources()
        self.start_server()
        print(f"warm-up of {self.warm_up} s, then {self.seconds} s with {self.count} streams, {self.max_processes} processes", flush=True)
        self.churn(self.warm_up)
        self.end_publishers()
        before = self.settle()
        player = ffmpeg("-i", self.url("lasting"), "-c", "copy", "-y", self.path("played.flv"))
        time.sleep(1)
        self.publish("lasting", "lasting.flv")
        published = self.churn(self.seconds)
        if self.publishers["lasting"][0].poll() is None:
            self.publishers["lasting"][0].wait()
        self.end_publishers()
        after = self.settle()
        player.wait()
        metrics = self.metrics()
        for name, was in before.items():
            allowed = was + was // 10 + 8192 if name == "resident KiB" else was
            print(f"  {name}: {was} before, {after[name]} after", flush=True)
            if after[name] > allowed:
                self.fault(f"{name}: {was} before, {after[name]} after")
        sent, received = self.packets("lasting.flv"), self.packets("played.flv")
        for kind, was, got in zip(("video", "audio"), sent, received):
            expected = was[: len(got)]
            print(f"  {kind} of the lasting stream: {len(got)} packets received", flush=True)
            if got != expected or len(got) < self.seconds * 9:
                self.fault(f"{kind} of the lasting stream differs: {len(got)} packets of {len(was)}")
        self.check_log()
        names = {"starts": "srs_transcode_starts_total", "failures": "srs_transcode_failures_total", "killed": "srs_transcode_killed_total"}
        counts = " ".join(f"{name}={int(metrics[metric])}" for name, metric in names.items())
        print(f"  published={published} ends={self.ends} disturbed={self.disturbed} most_processes={self.most} {counts}", flush=True)
        self.kill_server()

    def check_log(self):
        for name in ("srs.log", "server.out"):
            with open(self.path(name), errors="replace") as file:
                for line in file:
                    if "panic" in line or "overflowed its stack" in line or "srs_engine=" in line or "blocked" in line:
                        self.fault(f"log: {line.strip()}")
        # Nothing is there if no program has started in a short run on a slow machine.
        names = os.listdir(self.path("logs")) if os.path.isdir(self.path("logs")) else []
        size = sum(os.path.getsize(os.path.join(self.path("logs"), name)) for name in names)
        print(f"  logs of processes: {len(names)} files, {size} bytes", flush=True)

    def kill_server(self):
        for number in range(5):
            self.publish(f"last{number}", "source0.flv", "-stream_loop", "-1")
        deadline = time.time() + 60
        while len(self.marked()) < 5 and time.time() < deadline:
            time.sleep(0.1)
        had = len(self.marked())
        self.server.kill()
        self.server.wait()
        deadline = time.time() + 3
        # What a script has started by itself is no child of the server: the documentation says so.
        while (left := [name for name in self.marked().values() if name != "sleep"]) and time.time() < deadline:
            time.sleep(0.05)
        print(f"  kill -9 of the server: {had} processes, {len(left)} left", flush=True)
        if left or had < 5:
            self.fault(f"after kill -9 of the server: {left} of {had} processes")

    def finish(self):
        self.end_publishers()
        if self.server.poll() is None:
            self.server.terminate()
            self.server.wait()
        for pid in self.marked():
            os.kill(pid, signal.SIGKILL)


def main():
    if sys.argv[1:2] == ["-h"]:
        print(__doc__)
        return 0
    numbers = [int(word) for word in sys.argv[1:]]
    seconds, count, seed = numbers + [300, 50, int(time.time())][len(numbers) :]
    folder = tempfile.mkdtemp(prefix="transcode-churn-")
    print(f"seed {seed}, files in {folder}", flush=True)
    churn = Churn(folder, seconds, count, seed)
    try:
        churn.run()
    finally:
        churn.finish()
    print("FAILED" if churn.faults else "ok")
    if not churn.faults:
        shutil.rmtree(folder)
    return 1 if churn.faults else 0


if __name__ == "__main__":
    sys.exit(main())
