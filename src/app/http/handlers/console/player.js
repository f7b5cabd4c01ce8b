// Plays one live stream, and keeps it playing.

import { missing, obstacle, waysToPlay } from './decoders.js';
import { h, setText } from './dom.js';
import { LiveEdge } from './live_edge.js';

/** Time until a failed stream is tried again. */
const RETRY_MS = 3000;

const WATCH_MS = 1000;

/**
 * A picture that stands for this long is stuck: a track has a gap (a muted microphone, a camera that sends slides), and the
 * browser waits for it. hls.js steps over short gaps itself.
 */
const STUCK_MS = 5000;

/** If only one of sound and picture stands still, the other one does not wait for it for longer. */
const GAP_STUCK_MS = 1500;

/** What is buffered ahead of the picture, in seconds, when a track counts as arriving. */
const ARRIVING_S = 1;

/** Time until a segment follows the one in which a track has begun. */
const LATE_TRACK_MS = 4000;

/** The first segment of a stream may take this long. */
const START_MS = 20000;

/** After the end of a stream, its last seconds play until the picture has stood for this long. */
const ENDED_MS = 1500;

export class Player {
  /** `onChange()` is called when another stream plays, or none. */
  constructor(onChange = () => {}) {
    this.onChange = onChange;
    this.video = h('video', { id: 'video', controls: true, playsinline: true, muted: true });
    this.video.muted = true;
    this.title = h('strong');
    this.reason = h('p');
    this.curtain = h('div', { class: 'curtain', hidden: true }, this.title, this.reason);
    this.status = h('p', { id: 'status', role: 'status' });
    this.delay = h('span', { class: 'delay' });
    this.element = h('section', { class: 'player', 'aria-label': 'Player' },
      h('div', { class: 'screen' }, this.video, this.curtain), h('div', { class: 'below' }, this.status, this.delay));
    this.source = null;
    this.timer = setInterval(() => this.watch(), WATCH_MS);
    this.video.addEventListener('playing', () => this.showPlaying());
    this.video.addEventListener('volumechange', () => !this.video.paused && this.showPlaying());
    this.video.addEventListener('waiting', () => this.engine && this.say('Buffering…'));
    this.video.addEventListener('ended', () => this.isGone && this.end());
    this.video.addEventListener('error', () => this.way === 'native' && this.failed('media error'));
  }

  destroy() {
    clearInterval(this.timer);
    this.detach();
  }

  say(text) {
    setText(this.status, text);
  }

  /** Covers the picture, so that no frozen one looks live. */
  cover(title, reason) {
    setText(this.title, title);
    setText(this.reason, reason);
    this.curtain.hidden = false;
    this.say('');
  }

  showPlaying() {
    this.curtain.hidden = true;
    const note = missing(this.way, this.source);
    this.say([this.video.muted ? 'Playing, muted.' : 'Playing.', note].filter(Boolean).join(' '));
  }

  /** Plays a stream: `{ name, hls, flv, video, audio }`, with the URLs or null, and the names of the codecs or null. */
  play(source) {
    this.source = source;
    this.isGone = false;
    this.refused = new Set();
    this.isAtEdge = false;
    this.avoidsFlv = false;
    this.video.dataset.attached = 0;
    this.onChange();
    this.attach();
  }

  /** Takes what the server says about the stream now; null if it is gone. */
  update(source) {
    if (!this.source) return;
    if (source === null || source.state === 'lost') {
      this.isGone = true;
      this.isLost = source !== null;
      if (!this.engine && !this.hasEnded) this.end();
      return;
    }
    const isBack = this.isGone;
    const isChanged = ['hls', 'flv', 'video', 'audio'].some((key) => source[key] !== this.source[key]);
    this.source = source;
    this.isGone = false;
    if (this.hasEnded || (isBack && !this.engine)) this.attach();
    else if (isChanged && !this.engine) this.attach();
  }

  detach() {
    clearTimeout(this.retry);
    const engine = this.engine;
    this.engine = null;
    this.ranges = null;
    this.edge?.destroy();
    this.edge = null;
    if (engine?.destroy) engine.destroy();
    this.video.removeAttribute('src');
    setText(this.delay, '');
  }

  /** Returns the ways to play the stream, the best first. */
  ways() {
    const ways = waysToPlay(this.source);
    return this.avoidsFlv && ways.length > 1 ? ways.filter((way) => way !== 'flv') : ways;
  }

  attach() {
    this.detach();
    this.hasEnded = false;
    const way = this.ways().find((each) => !this.refused.has(each));
    if (way === undefined && this.refused.size > 0) {
      // Each way has failed once: the stream may start, or start again, at any time.
      this.refused.clear();
      this.retry = setTimeout(() => this.attach(), RETRY_MS);
      return;
    }
    this.video.dataset.player = way ?? 'none';
    if (way === undefined) {
      this.cover('Cannot play here', obstacle(this.source));
      return;
    }
    this.way = way;
    this.movedAt = Date.now();
    this.position = null;
    this.video.dataset.attached = Number(this.video.dataset.attached || 0) + 1;
    this.curtain.hidden = true;
    this.say('Loading…');
    if (way === 'flv') this.attachFlv();
    else if (way === 'hls.js') this.attachHlsJs();
    else {
      this.engine = {};
      this.video.src = this.source.hls;
    }
    // Muted, because browsers may refuse to start with sound.
    this.video.play().catch(() => {});
  }

  attachHlsJs() {
    const { Hls } = window;
    // A worker would be a blob script, which the content security policy forbids.
    const hls = new Hls({ enableWorker: false, backBufferLength: 30, liveSyncDurationCount: this.isAtEdge ? 1 : 3 });
    this.engine = hls;
    let tracks = {};
    let isLate = false;
    hls.on(Hls.Events.BUFFER_CREATED, (_, data) => { tracks = data.tracks; });
    hls.on(Hls.Events.FRAG_PARSING_INIT_SEGMENT, (_, data) => {
      // A track that begins later has no buffer, and MSE adds none while others play.
      const isNew = ['audio', 'video'].some((name) => data.tracks[name] && !tracks[name]);
      if ((tracks.audio || tracks.video) && isNew) setTimeout(() => this.engine === hls && this.attach());
    });
    hls.on(Hls.Events.BUFFER_APPENDED, (_, data) => { this.ranges = data.timeRanges; });
    hls.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal || this.engine !== hls || isLate) return;
      if (data.details === 'bufferAppendError') {
        // A track has begun later than the others. What is buffered plays on, until a whole segment has all tracks.
        isLate = this.isAtEdge = true;
        this.retry = setTimeout(() => this.attach(), LATE_TRACK_MS);
      } else this.failed(data.details);
    });
    hls.loadSource(this.source.hls);
    hls.attachMedia(this.video);
  }

  attachFlv() {
    const { mpegts } = window;
    mpegts.LoggingControl.enableInfo = mpegts.LoggingControl.enableVerbose = mpegts.LoggingControl.enableDebug = false;
    const { video, audio } = this.source;
    const player = mpegts.createPlayer(
      { type: 'flv', isLive: true, url: this.source.flv, hasVideo: Boolean(video), hasAudio: Boolean(audio) },
      { enableWorker: false, enableStashBuffer: false, autoCleanupSourceBuffer: true });
    this.engine = player;
    this.edge = new LiveEdge(this.video);
    player.on(mpegts.Events.ERROR, (_, details) => this.failed(details));
    player.on(mpegts.Events.LOADING_COMPLETE, () => this.engine === player && !this.isGone && this.failed('connection closed'));
    player.attachMediaElement(this.video);
    player.load();
  }

  /** Falls back to the next way, or tries again. */
  failed(reason) {
    if (!this.source) return;
    this.video.dataset.errors = Number(this.video.dataset.errors || 0) + 1;
    this.refused.add(this.way);
    this.detach();
    if (this.isGone) {
      this.end();
      return;
    }
    if (this.ways().every((way) => this.refused.has(way))) {
      this.cover('Cannot play now', `Trying again… (${reason})`);
    }
    this.attach();
  }

  end() {
    this.detach();
    this.hasEnded = true;
    if (this.isLost) this.cover('The publisher is gone', 'It may come back: the picture returns by itself.');
    else this.cover('The stream has ended', 'It plays again when it is published again.');
  }

  /** Notices a picture that does not move, and does something about it. */
  watch() {
    const { video } = this;
    if (!this.engine) return;
    this.showDelay();
    const now = Date.now();
    if (video.paused || video.currentTime !== this.position) {
      if (video.currentTime !== this.position) {
        this.refused.clear();
        this.isAtEdge = false;
      }
      this.position = video.currentTime;
      this.movedAt = now;
      return;
    }
    const stood = now - this.movedAt;
    const hasStarted = video.readyState > 0 && video.played.length > 0;
    if (this.isGone && (stood >= ENDED_MS || !hasStarted)) this.end();
    else if (stood >= (!hasStarted ? START_MS : this.isOneTrackMissing() ? GAP_STUCK_MS : STUCK_MS)) this.unstick();
  }

  /** Returns whether either sound or picture is buffered, and the other one has a gap here. */
  isOneTrackMissing() {
    const { audio, video } = this.ranges ?? {};
    if (!audio || !video) return false;
    const ahead = (ranges) => (ranges.length > 0 ? ranges.end(ranges.length - 1) - this.video.currentTime : 0);
    return (ahead(audio) > ARRIVING_S) !== (ahead(video) > ARRIVING_S);
  }

  /** Jumps over a gap to what is buffered behind it; without that, begins anew at the live end. */
  unstick() {
    const { video } = this;
    this.movedAt = Date.now();
    for (let at = 0; at < video.buffered.length; at += 1) {
      const start = video.buffered.start(at);
      if (start > video.currentTime + 0.05) {
        video.dataset.jumps = Number(video.dataset.jumps || 0) + 1;
        video.currentTime = start + 0.05;
        return;
      }
    }
    // mpegts.js waits for each track that the stream has had; hls.js begins with those that are there.
    if (this.way === 'flv') this.avoidsFlv = true;
    this.attach();
  }

  /** Shows how far the picture is behind what the server has. */
  showDelay() {
    const { video, engine } = this;
    let seconds = NaN;
    if (this.way === 'hls.js') seconds = engine.latency;
    else if (this.way === 'flv' && video.buffered.length > 0) seconds = video.buffered.end(video.buffered.length - 1) - video.currentTime;
    const text = Number.isFinite(seconds) && seconds > 0 && !video.paused ? `${seconds.toFixed(1)} s behind live, ${this.way === 'flv' ? 'HTTP-FLV' : 'HLS'}` : '';
    setText(this.delay, text);
  }
}

