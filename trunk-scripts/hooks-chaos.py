#!/usr/bin/env python3
"""hooks-chaos.py [SECONDS] [SEED]: kills clients, the backend and the server at random, and checks that callbacks are paired and in order.

Starts the server of target/debug (or SRS_TEST_BINARY) with a spool file, a backend, publishers (ffmpeg) and players (rtmpdump), and
kills one of them (kill -9) every second. In the end everything is started once more, and the backend's log is checked:

- each on_publish and on_play that was allowed is followed by exactly one end, and each on_connect by one on_close;
- the events of a session are in the order connect, publish or play, unpublish or stop, close;
- an end of the same session comes twice only if it says that it is replayed, or with the same event_id.

A kill within a second of an answer excuses a missing end: nobody knows whether the server has read the answer.
"""

import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ENDS = {"on_publish": "on_unpublish", "on_play": "on_stop", "on_connect": "on_close"}
RANK = {"on_connect": 0, "on_publish": 1, "on_play": 1, "on_unpublish": 2, "on_stop": 2, "on_close": 3}
EXCUSE = 1.5


def serve_backend(port, log_path):
    lock = threading.Lock()
    log = open(log_path, "a", buffering=1)

    class Backend(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            event["received"] = time.time()
            with lock:
                log.write(json.dumps(event) + "\n")
            self.send_response(200)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"0")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Backend)
    server.daemon_threads = True
    server.serve_forever()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Chaos:
    def __init__(self, folder, seconds, seed):
        self.folder, self.seconds, self.random = folder, seconds, random.Random(seed)
        self.rtmp, self.http = free_port(), free_port()
        self.kills = []
        self.log = os.path.join(folder, "events.jsonl")
        binary = os.environ.get("SRS_TEST_BINARY", "target/debug/simple_rtmp_server")
        url = f"http://127.0.0.1:{self.http}/x"
        hooks = " ".join(f"{name} {url};" for name in RANK)
        with open(os.path.join(folder, "srs.conf"), "w") as conf:
            conf.write(
                f"listen 127.0.0.1:{self.rtmp};\nvhost __defaultVhost__ {{ publish {{ reconnect_grace 0; }}\n"
                f"http_hooks {{ enabled on; {hooks} hooks_timeout 1; hooks_spool {folder}/spool; }} }}\n"
            )
        stream = lambda n: f"rtmp://127.0.0.1:{self.rtmp}/live/s{n}"
        source = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=10", "-c:v", "flv", "-f", "flv"]
        self.commands = {
            "server": [binary, "-c", os.path.join(folder, "srs.conf")],
            "backend": [sys.executable, __file__, "--backend", str(self.http), self.log],
        }
        for n in range(3):
            self.commands[f"publisher{n}"] = ["ffmpeg", "-nostdin", "-loglevel", "quiet", "-re", *source, stream(n)]
            for m in range(2):
                self.commands[f"player{n}{m}"] = ["rtmpdump", "-q", "--live", "--rtmp", stream(n), "--flv", "/dev/null"]
        self.processes = {}

    def start(self, name):
        output = open(os.path.join(self.folder, f"{name}.log"), "a")
        self.processes[name] = subprocess.Popen(self.commands[name], stdout=output, stderr=output)

    def kill(self, name):
        process = self.processes[name]
        if process.poll() is None:
            if name in ("server", "backend"):
                self.kills.append(time.time())
            process.send_signal(signal.SIGKILL)
        process.wait()

    def revive(self):
        for name in self.commands:
            if name not in self.processes or self.processes[name].poll() is not None:
                self.start(name)

    def run(self):
        end = time.time() + self.seconds
        while time.time() < end:
            self.revive()
            time.sleep(self.random.uniform(0.5, 1.5))
            clients = [name for name in self.commands if name not in ("server", "backend")]
            weights = [("server", 2), ("backend", 2), (self.random.choice(clients), 6)]
            self.kill(self.random.choices([name for name, _ in weights], [weight for _, weight in weights])[0])
        for name in self.commands:
            if name not in ("server", "backend"):
                if name in self.processes:
                    self.kill(name)
                self.commands[name] = ["true"]
        self.revive()
        # Until nothing more is told: the pauses between attempts grow up to 30 s.
        last, quiet_since = -1, time.time()
        while time.time() - quiet_since < 40:
            size = os.path.getsize(self.log) if os.path.exists(self.log) else 0
            if size != last:
                last, quiet_since = size, time.time()
            time.sleep(0.5)
        for name in ("server", "backend"):
            self.processes[name].terminate()
            self.processes[name].wait()

    def check(self):
        sessions, known, faults, excused, replayed = {}, {}, [], 0, 0
        for line in open(self.log):
            try:
                event = json.loads(line)
            except ValueError:
                continue  # The backend was killed while it wrote.
            replayed += event.get("replayed", False)
            if known.get(event["event_id"]) is None:
                known[event["event_id"]] = event
                sessions.setdefault(event["session_id"], []).append(event)
        near_kill = lambda when: any(-EXCUSE < kill - when < EXCUSE for kill in self.kills)
        pairs = 0
        for session, events in sessions.items():
            names = [event["action"] for event in events]
            ranks = [RANK[name] for name in names]
            if ranks != sorted(ranks):
                faults.append(f"{session}: out of order: {names}")
            for begin, end in ENDS.items():
                begins = [event for event in events if event["action"] == begin]
                ends = [event for event in events if event["action"] == end]
                plain = [event for event in ends if not event.get("replayed")]
                if len(plain) > 1 or (len(ends) > 1 and not any(event.get("replayed") for event in ends)):
                    faults.append(f"{session}: {end} {len(ends)} times")
                if ends and not begins and not any(near_kill(event["received"]) for event in events):
                    faults.append(f"{session}: {end} without {begin}")
                if begins and not ends:
                    if near_kill(begins[-1]["received"]):
                        excused += 1
                    else:
                        faults.append(f"{session}: {begin} without {end}")
                pairs += bool(begins and ends)
        spool = os.path.join(self.folder, "spool")
        print(f"sessions={len(sessions)} pairs={pairs} replayed={replayed} kills={len(self.kills)} excused={excused} "
              f"spool_bytes={os.path.getsize(spool)} faults={len(faults)}")
        for fault in faults[:20]:
            print(fault)
        return not faults and pairs > 0


def main():
    if sys.argv[1:2] == ["--backend"]:
        return serve_backend(int(sys.argv[2]), sys.argv[3])
    if sys.argv[1:2] in (["-h"], ["--help"]):
        return print(__doc__)
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    folder = tempfile.mkdtemp(prefix="hooks-chaos-")
    print(f"seed={seed} folder={folder}")
    chaos = Chaos(folder, seconds, seed)
    try:
        chaos.run()
        passed = chaos.check()
    finally:
        for process in chaos.processes.values():
            if process.poll() is None:
                process.kill()
    if passed:
        shutil.rmtree(folder)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
