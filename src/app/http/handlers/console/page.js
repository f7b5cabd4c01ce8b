'use strict';
// The list of live streams, and a player. Publishers choose the names, so names are only ever set as text.

const HLS = 'application/vnd.apple.mpegurl';
const REFRESH_MS = 2000;
const RETRY_MS = 3000;

const byId = (id) => document.getElementById(id);
const video = byId('video');
let playing = null; // URL of the playlist
let hls = null;
let retry = 0;

function element(name, className, text) {
  const created = document.createElement(name);
  created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

function showStatus(text) {
  byId('status').textContent = text;
}

function detach() {
  clearTimeout(retry);
  if (hls) hls.destroy();
  hls = null;
  video.removeAttribute('src');
}

// Plays a playlist: with the browser's own HLS if it has it and `native` is true, else with hls.js.
function attach(url, native) {
  detach();
  playing = url;
  byId('player').hidden = false;
  showStatus('Loading…');
  const hasNative = native && video.canPlayType(HLS) !== '';
  const hasHlsJs = window.Hls !== undefined && window.Hls.isSupported();
  if (hasNative) {
    video.dataset.player = 'native';
    video.src = url;
  } else if (hasHlsJs) {
    video.dataset.player = 'hls.js';
    // A worker would be a blob script, which the content security policy forbids.
    hls = new window.Hls({ enableWorker: false });
    hls.on(window.Hls.Events.ERROR, (_, data) => { if (data.fatal) failed(data.details); });
    hls.loadSource(url);
    hls.attachMedia(video);
  } else {
    showStatus('This browser does not support HLS, and hls.js is not installed on this server. Open the URL in a player such as VLC.');
    return;
  }
  // The video is muted: browsers may refuse to start with sound.
  video.play().catch(() => {});
}

// Falls back to hls.js, or tries again: the stream may start, or start again, at any time.
function failed(reason) {
  video.dataset.errors = Number(video.dataset.errors || 0) + 1;
  if (video.dataset.player === 'native' && window.Hls && window.Hls.isSupported()) {
    attach(playing, false);
    return;
  }
  const url = playing;
  detach();
  showStatus('Cannot play (' + reason + '). Trying again…');
  retry = setTimeout(() => attach(url, true), RETRY_MS);
}

video.addEventListener('playing', () => showStatus(video.muted ? 'Playing, muted.' : 'Playing.'));
video.addEventListener('volumechange', () => { if (!video.paused) showStatus(video.muted ? 'Playing, muted.' : 'Playing.'); });
video.addEventListener('waiting', () => showStatus('Buffering…'));
video.addEventListener('error', () => { if (video.hasAttribute('src') && !hls) failed('media error'); });

function rtmpUrl(port, stream) {
  const host = location.hostname + (port === 1935 ? '' : ':' + port);
  const vhost = stream.vhost === '__defaultVhost__' ? '' : '?vhost=' + stream.vhost;
  return 'rtmp://' + host + '/' + stream.name + vhost;
}

function row(stream, port) {
  const item = element('li', 'stream');
  item.setAttribute('aria-current', String(stream.hls !== null && stream.hls === playing));
  item.append(element('strong', 'name', stream.name));
  const button = element('button', 'play', 'Play');
  button.disabled = stream.hls === null;
  button.addEventListener('click', () => attach(stream.hls, true));
  item.append(button);
  const codecs = [stream.video, stream.audio].filter((codec) => codec !== null).join(' + ') || 'no media received yet';
  const players = stream.players === 1 ? '1 RTMP player' : stream.players + ' RTMP players';
  item.append(element('span', 'about', codecs + ', ' + players));
  const links = element('span', 'links');
  links.append(element('code', 'rtmp', rtmpUrl(port, stream)), ' ');
  if (stream.hls === null) {
    links.append('(HLS is off for this stream, or its first segment is not complete)');
  } else {
    const link = element('a', 'hls', new URL(stream.hls, location.href).href);
    link.href = stream.hls;
    links.append(link);
  }
  item.append(links);
  return item;
}

let shown = '';

async function refresh() {
  if (!document.hidden) {
    try {
      const response = await fetch('streams.json', { cache: 'no-store' });
      const list = await response.json();
      const port = list.rtmp_port;
      byId('server').textContent = list.server + ' ' + list.version;
      byId('example').textContent = rtmpUrl(port, { vhost: '__defaultVhost__', name: 'live/livestream' });
      byId('empty').hidden = list.streams.length > 0;
      // Replaces the rows only when they differ, so that a text selection survives.
      const now = JSON.stringify([list.streams, playing]);
      if (now !== shown) {
        byId('streams').replaceChildren(...list.streams.map((stream) => row(stream, port)));
        shown = now;
      }
      const first = list.streams.find((stream) => stream.hls !== null);
      if (playing === null && first) attach(first.hls, !location.hash.includes('hls.js'));
    } catch {
      byId('server').textContent = 'The server does not respond.';
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
