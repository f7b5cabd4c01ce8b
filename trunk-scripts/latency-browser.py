#!/usr/bin/env python3
"""latency-browser.py [--seconds N] [--joins N] [--page URL] [--url RTMP] [--keyframes S] [--silent]: latency in a browser, by a clock
in the picture.

A picture of 320x180 has the wall clock in a row of black and white squares, and its complement in a second row. ffmpeg publishes it
(x264 with zerolatency, AAC, a keyframe every 2 s), headless Chromium opens the page of the server, draws each new frame of the video on a
canvas, reads the squares, and compares them with the clock. So the figures contain the encoder, the server, the network, the buffer of
the player, and the decoder. Printed are the median, the 95th percentile and the maximum, in milliseconds.

  --seconds N      time that is measured after each join (default 20), of which the first 3 seconds are listed by themselves
  --joins N        joins, each at another place of the interval between two keyframes (default 3)
  --keyframes S    seconds between two keyframes (default 2)
  --silent         no audio
  --page URL       the page of a running server, with --url; else the server is started: objs/simple_rtmp_server, or LATENCY_SERVER
  --url RTMP       the stream to publish there

Needs ffmpeg, Chromium and objs/mpegts.js (trunk-scripts/web-players.sh).
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

WIDTH, HEIGHT, RATE = 320, 180, 25
SQUARE = 16
BITS = WIDTH // SQUARE
# The clock begins again after this many milliseconds: 17 minutes.
CYCLE = 1 << BITS
# Seconds after a join that count as its begin.
BEGIN = 3

READER = """
(() => {
  const video = document.getElementById('video');
  const canvas = document.createElement('canvas');
  const [width, height, square, bits] = %s;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const row = (y) => {
    const pixels = context.getImageData(0, y, width, 1).data;
    let value = 0;
    for (let bit = 0; bit < bits; bit += 1) value = value * 2 + (pixels[(bit * square + square / 2) * 4] > 127 ? 1 : 0);
    return value;
  };
  globalThis.clockSamples = [];
  const onFrame = () => {
    const now = Date.now();
    context.drawImage(video, 0, 0, width, height);
    const [clock, complement] = [row(square / 2), row(square * 3 / 2)];
    if (clock + complement === 2 ** bits - 1) globalThis.clockSamples.push([now, clock]);
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
  return 'reading';
})()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Clock(threading.Thread):
    """Writes the pictures of the clock to a pipe, in real time."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        grey = bytes(16 + x * 220 // WIDTH for x in range(WIDTH))
        self.rest = grey * (HEIGHT - 2 * SQUARE)

    def picture(self):
        clock = int(time.time() * 1000) % CYCLE
        bits = [clock >> (BITS - 1 - bit) & 1 for bit in range(BITS)]
        row = b"".join((b"\xeb" if bit else b"\x10") * SQUARE for bit in bits)
        complement = b"".join((b"\x10" if bit else b"\xeb") * SQUARE for bit in bits)
        return row * SQUARE + complement * SQUARE + self.rest

    def run(self):
        due = time.monotonic()
        try:
            while True:
                self.pipe.write(self.picture())
                self.pipe.flush()
                due = max(due + 1 / RATE, time.monotonic() - 1 / RATE)
                time.sleep(max(0, due - time.monotonic()))
        except (BrokenPipeError, ValueError):
            pass


class Browser:
    """Headless Chromium with one page, controlled through a pair of FIFOs."""

    def __init__(self, folder, url):
        to, come = os.path.join(folder, "to"), os.path.join(folder, "from")
        os.mkfifo(to)
        os.mkfifo(come)
        program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
        if program is None:
            sys.exit("latency-browser.py: Chromium is not installed")
        options = [
            "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--user-data-dir=" + os.path.join(folder, "profile"),
            "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--disable-background-networking",
            "--disable-component-update", "--autoplay-policy=no-user-gesture-required", "about:blank",
        ]
        log = open(os.path.join(folder, "browser.log"), "w")
        command = ["sh", "-c", 'exec "$0" "$@" 3<"$TO" 4>"$FROM"', program, *options]
        self.process = subprocess.Popen(command, env={**os.environ, "TO": to, "FROM": come}, stdout=log, stderr=log)
        self.to, self.come = open(to, "wb", buffering=0), open(come, "rb")
        self.last, self.session, self.rest = 0, None, b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                piece = self.come.read1(65536)
                if not piece:
                    sys.exit("latency-browser.py: the browser has ended")
                self.rest += piece
            text, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.last:
                if "error" in answer:
                    sys.exit(f"latency-browser.py: {method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            sys.exit(f"latency-browser.py: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, limit=30):
        end = time.monotonic() + limit
        while not self.evaluate(expression):
            if time.monotonic() > end:
                sys.exit(f"latency-browser.py: never true: {expression}; the page has {self.evaluate('document.body.innerText')!r}")
            time.sleep(0.05)

    def close(self):
        self.to.write(json.dumps({"id": self.last + 1, "method": "Browser.close"}).encode() + b"\0")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start_server(folder, processes):
    rtmp, http = free_port(), free_port()
    conf = os.path.join(folder, "srs.conf")
    with open(conf, "w") as file:
        file.write(
            f"listen 127.0.0.1:{rtmp};\nhttp_server {{ enabled on; listen 127.0.0.1:{http}; dir {folder}; }}\n"
            "vhost __defaultVhost__ { http_remux { enabled on; } }\n"
        )
    binary = os.environ.get("LATENCY_SERVER", "objs/simple_rtmp_server")
    log = open(os.path.join(folder, "server.log"), "w")
    processes.append(subprocess.Popen([binary, "-c", conf], stdout=log, stderr=log))
    page = f"http://127.0.0.1:{http}/"
    end = time.monotonic() + 10
    while True:
        try:
            urllib.request.urlopen(page, timeout=1).close()
            return page, f"rtmp://127.0.0.1:{rtmp}/live/clock"
        except OSError as error:
            if time.monotonic() > end:
                sys.exit(f"latency-browser.py: {binary} does not answer: {error}")
            time.sleep(0.1)


def publish(url, keyframes, is_silent, processes):
    picture = ["-f", "rawvideo", "-pix_fmt", "gray", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE)]
    sound = [] if is_silent else ["-re", "-f", "lavfi", "-i", "sine=sample_rate=44100"]
    video = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-b:v", "500k"]
    video += ["-g", str(round(keyframes * RATE)), "-sc_threshold", "0"]
    audio = [] if is_silent else ["-c:a", "aac", "-b:a", "64k"]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-probesize", "32", "-analyzeduration", "0", *picture, "-i", "pipe:0", *sound]
    ffmpeg = subprocess.Popen([*command, *video, *audio, "-f", "flv", url], stdin=subprocess.PIPE)
    processes.append(ffmpeg)
    Clock(ffmpeg.stdin).start()


def summary(latencies):
    if not latencies:
        return "no frames"
    ordered = sorted(latencies)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))]
    return f"median {at(0.5)} ms, p95 {at(0.95)} ms, max {ordered[-1]} ms, {len(ordered)} frames"


def measure(folder, page, seconds):
    """Joins once, and returns the latencies as (seconds since the first frame, milliseconds)."""
    asked = time.monotonic()
    browser = Browser(folder, page)
    browser.wait("document.getElementById('video')?.played.length > 0")
    began = time.monotonic() - asked
    browser.evaluate(READER % json.dumps([WIDTH, HEIGHT, SQUARE, BITS]))
    time.sleep(seconds)
    samples = browser.evaluate("globalThis.clockSamples")
    about = browser.evaluate(
        "(({ dataset, playbackRate, buffered, currentTime }) => `${dataset.player}, attached ${dataset.attached}, errors"
        " ${dataset.errors ?? 0}, rate ${playbackRate}, ${(buffered.end(buffered.length - 1) - currentTime).toFixed(2)} s buffered,"
        " frames dropped ${document.getElementById('video').getVideoPlaybackQuality().droppedVideoFrames}`)"
        "(document.getElementById('video'))"
    )
    browser.close()
    if not samples:
        sys.exit("latency-browser.py: no frame with a clock was seen")
    first = samples[0][0]
    print(f"  browser and page {began:.1f} s; {about}")
    return [((now - first) / 1000, (now - clock) % CYCLE) for now, clock in samples]


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--joins", type=int, default=3)
    parser.add_argument("--keyframes", type=float, default=2)
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--page")
    parser.add_argument("--url")
    options = parser.parse_args()
    if options.help:
        print(__doc__.strip())
        return
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            page, url = options.page, options.url
            if not page:
                page, url = start_server(folder, processes)
            publish(url, options.keyframes, options.silent, processes)
            time.sleep(options.keyframes + 2)
            begin, later = [], []
            for join in range(options.joins):
                # Another place between two keyframes.
                time.sleep(options.keyframes * join / max(1, options.joins))
                own = os.path.join(folder, f"join{join}")
                os.mkdir(own)
                samples = measure(own, page, options.seconds)
                begin += [latency for at, latency in samples if at < BEGIN]
                mine = [latency for at, latency in samples if at >= BEGIN]
                later += mine
                print(f"join {join + 1}: {summary(mine)}", flush=True)
            print(f"first {BEGIN} s: {summary(begin)}")
            print(f"after that: {summary(later)}")
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait()


if __name__ == "__main__":
    main()
