'use strict';
// The list of live streams, and a player. Names come from whoever publishes: they are only ever set as text.

const HLS = 'application/vnd.apple.mpegurl';
const REFRESH = 2000;
const RETRY = 3000;

const part = (id) => document.getElementById(id);
const video = part('video');
let playing = null; // the address of the playlist
let hls = null;
let retry = 0;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(text) {
  part('status').textContent = text;
}

function detach() {
  clearTimeout(retry);
  if (hls) hls.destroy();
  hls = null;
  video.removeAttribute('src');
}

// The browser's own player, where it has one; hls.js otherwise, or when the browser's own fails.
function attach(url, own) {
  detach();
  playing = url;
  part('player').hidden = false;
  say('Loading…');
  const hasOwn = own && video.canPlayType(HLS) !== '';
  const hasHls = window.Hls !== undefined && window.Hls.isSupported();
  if (hasOwn) {
    video.dataset.player = 'native';
    video.src = url;
  } else if (hasHls) {
    video.dataset.player = 'hls.js';
    // A worker would be a script that no file of this server is.
    hls = new window.Hls({ enableWorker: false });
    hls.on(window.Hls.Events.ERROR, (_, data) => { if (data.fatal) failed(data.details); });
    hls.loadSource(url);
    hls.attachMedia(video);
  } else {
    say('This browser cannot play HLS by itself, and this server has no hls.js. Open the address in a player.');
    return;
  }
  // Muted, since a browser may refuse to begin with sound.
  video.play().catch(() => {});
}

// A stream that has ended, or whose first segment is not there yet, is tried again.
function failed(why) {
  video.dataset.errors = Number(video.dataset.errors || 0) + 1;
  if (video.dataset.player === 'native' && window.Hls && window.Hls.isSupported()) {
    attach(playing, false);
    return;
  }
  const url = playing;
  detach();
  say('Not playing (' + why + '); trying again…');
  retry = setTimeout(() => attach(url, true), RETRY);
}

video.addEventListener('playing', () => say(video.muted ? 'Playing, muted.' : 'Playing.'));
video.addEventListener('volumechange', () => { if (!video.paused) say(video.muted ? 'Playing, muted.' : 'Playing.'); });
video.addEventListener('waiting', () => say('Waiting for more…'));
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
  const codecs = [stream.video, stream.audio].filter((codec) => codec !== null).join(' + ') || 'nothing received yet';
  const players = stream.players === 1 ? '1 RTMP player' : stream.players + ' RTMP players';
  item.append(element('span', 'about', codecs + ', ' + players));
  const links = element('span', 'links');
  links.append(element('code', 'rtmp', rtmpUrl(port, stream)), ' ');
  if (stream.hls === null) {
    links.append('(no HLS, or its first segment is not there yet)');
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
      part('server').textContent = list.server + ' ' + list.version;
      part('example').textContent = rtmpUrl(port, { vhost: '__defaultVhost__', name: 'live/livestream' });
      part('empty').hidden = list.streams.length > 0;
      // Rows are made anew only when they differ, so that what is selected stays so.
      const now = JSON.stringify([list.streams, playing]);
      if (now !== shown) {
        part('streams').replaceChildren(...list.streams.map((stream) => row(stream, port)));
        shown = now;
      }
      const first = list.streams.find((stream) => stream.hls !== null);
      if (playing === null && first) attach(first.hls, !location.hash.includes('hls.js'));
    } catch {
      part('server').textContent = 'the server does not answer';
    }
  }
  setTimeout(refresh, REFRESH);
}

refresh();
