// Keeps the picture of a live stream near its end: mpegts.js begins at the last keyframe, which may be seconds old.

/**
 * Seconds of media that are to be buffered ahead of the picture: at first, and at most, after the buffer has run out again and
 * again. The server merges writes of up to 350 ms while it is busy.
 */
const TARGET_S = 0.45;
const MAX_TARGET_S = 3;
const TARGET_STEP_S = 0.35;

/** Time without a stall after which the target goes down a step. */
const CALM_MS = 30000;

/** Seconds beyond the target from which on the picture plays faster, and from which on it jumps. */
const FAST_S = 0.25;
const JUMP_S = 1.5;
const FAST_RATE = 1.15;

/** Time after the first picture in which it jumps instead of playing faster: nobody has seen anything yet. */
const BEGIN_MS = 2000;

/** A jump empties the buffer of the decoder, so it is no stall if the picture waits this soon after it. */
const AFTER_JUMP_MS = 1000;

export class LiveEdge {
  constructor(video) {
    Object.assign(this, { video, target: TARGET_S, startedAt: null, jumpedAt: -Infinity, calmSince: performance.now() });
    this.listeners = [['timeupdate', () => this.follow()], ['progress', () => this.follow()], ['waiting', () => this.onWaiting()]];
    for (const [event, listener] of this.listeners) video.addEventListener(event, listener);
  }

  destroy() {
    for (const [event, listener] of this.listeners) this.video.removeEventListener(event, listener);
    this.video.playbackRate = 1;
  }

  follow() {
    const { video } = this;
    if (video.paused || video.seeking || video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA || video.buffered.length === 0) return;
    const now = performance.now();
    this.startedAt ??= now;
    if (now - this.calmSince >= CALM_MS) {
      this.target = Math.max(TARGET_S, this.target - TARGET_STEP_S);
      this.calmSince = now;
    }
    const end = video.buffered.end(video.buffered.length - 1);
    const excess = end - video.currentTime - this.target;
    if (excess > (now - this.startedAt < BEGIN_MS ? FAST_S : JUMP_S)) {
      video.currentTime = end - this.target;
      video.playbackRate = 1;
      this.jumpedAt = now;
    } else if (excess > FAST_S) video.playbackRate = FAST_RATE;
    else if (excess <= 0) video.playbackRate = 1;
  }

  /** Waits for more media from now on, since the way to this browser is not as even as it was thought to be. */
  onWaiting() {
    const now = performance.now();
    this.video.playbackRate = 1;
    if (this.startedAt === null || this.video.seeking || now - Math.max(this.jumpedAt, this.startedAt) < AFTER_JUMP_MS) return;
    this.target = Math.min(MAX_TARGET_S, this.target + TARGET_STEP_S);
    this.calmSince = now;
  }
}
