// Plays a recording in a dialog.

import { h, setText } from './dom.js';
import { hasMpegts } from './decoders.js';

const OTHERWISE = 'Download it for a player such as VLC.';

/** Returns the way to play a file, or null. */
export function wayToPlay(path) {
  const [, extension = ''] = /\.([^./]*)$/.exec((path ?? '').toLowerCase()) ?? [];
  return { flv: 'mpegts.js', mp4: 'native' }[extension] ?? null;
}

/** Opens the player. `title` is shown above the picture, `url` is the file, and `path` its name. */
export function openPlayback({ title, url, path }) {
  const video = h('video', { controls: true, playsinline: true, 'aria-label': title });
  const status = h('p', { class: 'remark', role: 'status', text: 'Loading…' });
  const close = h('form', { method: 'dialog', class: 'actions' }, h('button', { class: 'quiet', text: 'Close' }));
  const dialog = h('dialog', { class: 'playback', 'aria-labelledby': 'playback' },
    h('h2', { id: 'playback', text: title }), h('div', { class: 'screen' }, video), status, close);
  let engine = null;
  const failed = (reason) => setText(status, `This browser cannot play it: ${reason}. ${OTHERWISE}`);
  video.addEventListener('playing', () => setText(status, ''));
  video.addEventListener('error', () => failed(video.error?.message || 'media error'));
  dialog.addEventListener('close', () => {
    engine?.destroy();
    video.removeAttribute('src');
    video.load();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  if (wayToPlay(path) === 'native') video.src = url;
  else if (hasMpegts()) engine = attachFlv(video, url, failed);
  else {
    failed('mpegts.js is not installed on this server');
    return;
  }
  // Without the sound that browsers refuse, the picture stands until a click.
  video.play().catch(() => {});
}

function attachFlv(video, url, failed) {
  const { mpegts } = window;
  mpegts.LoggingControl.enableInfo = mpegts.LoggingControl.enableVerbose = mpegts.LoggingControl.enableDebug = false;
  // A worker would be a blob script, which the content security policy forbids.
  const player = mpegts.createPlayer({ type: 'flv', isLive: false, url }, { enableWorker: false, autoCleanupSourceBuffer: true });
  player.on(mpegts.Events.ERROR, (_, details) => failed(details));
  player.attachMediaElement(video);
  player.load();
  return player;
}
