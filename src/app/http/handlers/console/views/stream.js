// One stream: picture, figures, addresses, clients.

import { call } from '../api.js';
import { copyButton, h, icon, setText } from '../dom.js';
import { audioText, bitrate, bytes, count, duration, milliseconds, videoText } from '../format.js';
import { health } from '../health.js';
import { appUrl, linksOf, mediaUrl, playersOf, shownName } from '../links.js';
import { Player } from '../player.js';
import { Plot } from '../plot.js';
import { qrCode } from '../qr.js';
import { find, samplesOf, store } from '../store.js';
import { clientTable } from './clients.js';
import { card, disconnect, head, healthMark, kickButton, Refresher } from './parts.js';
import { programs, programTable } from './programs.js';
import { recordControl } from './recordings.js';

const CLIENTS = 50;

/** Interval at which the picture of an engine is loaded anew. */
const PICTURE_MS = 5000;

/** Returns the paths of a stream on `http_server`, or null for what is off. */
function pathsOf({ hls, flv }) {
  return { hls, flv };
}

const FACTS = [
  ['Video', (stream) => [videoText(stream.video), stream.video?.profile && `${stream.video.profile} ${stream.video.level ?? ''}`].filter(Boolean).join(' · ')],
  ['Audio', (stream) => [audioText(stream.audio), stream.audio?.profile].filter(Boolean).join(' · ')],
  ['Bit rate', (stream) => `${bitrate(stream.video?.kbps ?? 0)} video, ${bitrate(stream.audio?.kbps ?? 0)} audio`],
  ['Uptime', (stream) => (stream.state === 'live' ? duration(stream.uptime_ms) : '–')],
  ['Players', (stream) => `${count(stream.players)}, and ${count(stream.forwarders)} forwarders`],
  ['Keyframe interval', (stream) => milliseconds(stream.gop_ms)],
  ['Jitter', (stream) => milliseconds(stream.jitter_ms)],
  ['Video ahead of audio', (stream) => milliseconds(stream.av_skew_ms)],
  ['Late input', (stream) => `${count(stream.stalls)} times`],
  ['Missed by slow players', (stream) => `${count(stream.dropped)} messages`],
  ['Received, sent', (stream) => `${bytes(stream.bytes_in)}, ${bytes(stream.bytes_out)}`],
  ['In memory', (stream) => bytes(stream.held_bytes)],
];

function codeRow(name, text, isLink = false) {
  const code = isLink ? h('a', { href: text }, h('code', { text })) : h('code', { text });
  return h('div', { class: 'address' }, h('span', { class: 'title', text: name }), code, copyButton(() => text));
}

/** The addresses change only with their paths, so they are made once for each set of paths. */
function addresses(site, stream, paths) {
  const watch = mediaUrl(site, paths.hls);
  const code = watch && qrCode(watch);
  return h('div', { class: 'addresses' },
    h('div', {},
      linksOf(site, stream, paths).map(({ name, text, link }) => codeRow(name, text, link)),
      playersOf(site, stream, paths).map(({ name, text }) => codeRow(name, text)),
      codeRow('OBS server', appUrl(site, stream)), codeRow('OBS stream key', stream.stream)),
    code && h('figure', { class: 'code' }, code, h('figcaption', { text: 'Watch on a phone' })));
}

export function create({ site, argument: name }) {
  let player = null;
  let shownPaths = '';
  const mark = healthMark({ name, state: 'idle' });
  const kick = kickButton('Disconnect publisher', async () => {
    await disconnect('Disconnect the publisher?', `${name} ends, unless its encoder comes back.`, `streams/${encodeURIComponent(name)}/kick`);
  });
  const recording = recordControl(name);
  const title = head(name.replace(/^__defaultVhost__\//, ''), mark, recording.element, kick);
  const start = h('button', { class: 'primary big', type: 'button', onclick: play }, icon('play'), 'Play');
  const picture = h('img', { alt: '', hidden: true, onload: () => { picture.hidden = false; }, onerror: () => { picture.hidden = true; } });
  const stage = h('div', { class: 'stage' }, h('div', { class: 'poster' }, picture, start));
  const facts = FACTS.map(([label, text]) => ({ value: h('dd'), label: h('dt', { text: label }), text }));
  const reasons = h('ul', { class: 'reasons' });
  const links = h('div');
  const gone = h('p', { class: 'alarm', hidden: true, text: 'Nobody publishes this stream or waits for it now.' });
  const plots = [
    { title: 'Bit rate', least: 100, format: bitrate, series: [{ name: 'in', color: 'in', value: (sample) => sample.kbps }, { name: 'out', color: 'out', value: (sample) => sample.out }] },
    { title: 'Frames', least: 30, format: (value) => `${Math.round(value)} fps`, series: [{ name: 'video', color: 'third', value: (sample) => sample.fps }] },
    { title: 'Jitter', least: 20, format: milliseconds, series: [{ name: 'arrival', color: 'third', value: (sample) => sample.jitter }] },
    { title: 'Players', least: 4, format: (value) => count(Math.round(value)), series: [{ name: 'connected', color: 'third', value: (sample) => sample.players }] },
  ].map((options) => new Plot({ ...options, height: 120, minutes: 5 }));
  const own = programTable({ isOfStream: true });
  const ownCard = h('section', { class: 'card flush', hidden: true }, h('h2', { text: 'Programs' }), own.element);
  const clients = clientTable({ isOfStream: true, onKick: () => refresher.run() });
  const more = h('p', { class: 'more' }, h('a', { href: `#/clients/${encodeURIComponent(name)}`, text: 'All clients of this stream' }));
  const refresher = new Refresher(async () => {
    const [answer] = await Promise.all([call(`clients?stream=${encodeURIComponent(name)}&count=${CLIENTS}`), recording.refresh()]);
    clients.show(answer.clients);
    more.hidden = answer.total <= CLIENTS;
  });
  const element = h('div', {},
    h('p', { class: 'crumb' }, h('a', { href: '#/streams' }, icon('back'), 'Streams')), title, gone,
    h('div', { class: 'watch' }, stage, h('section', { class: 'card' }, h('h2', { text: 'Quality' }), reasons, h('dl', {}, facts.map(({ label, value }) => h('div', {}, label, value))))),
    h('div', { class: 'quarters' }, plots.map((plot) => h('section', { class: 'card' }, h('h2', { text: plot.title }, plot.legend), plot.element))),
    card('Addresses', links), ownCard, h('section', { class: 'card flush' }, h('h2', { text: 'Clients' }), clients.element, more));

  function source(stream) {
    const paths = pathsOf(stream);
    return {
      name, state: stream.state, hls: mediaUrl(site, paths.hls), flv: mediaUrl(site, paths.flv),
      video: stream.video?.codec ?? null, audio: stream.audio?.codec ?? null, audio_obstacle: stream.audio?.hls_obstacle ?? null,
    };
  }

  function play() {
    const stream = find(name);
    if (!stream) return;
    player = new Player();
    stage.replaceChildren(player.element);
    player.play(source(stream));
  }

  function showPrograms() {
    const all = programs(name);
    ownCard.hidden = all.length === 0;
    own.show(all);
    const path = all.find((program) => program.picture)?.picture;
    const url = mediaUrl(site, path);
    const wanted = url && `${url}?${Math.floor(store.at / PICTURE_MS)}`;
    if (!wanted) picture.hidden = true;
    else if (!player && picture.getAttribute('src') !== wanted) picture.src = wanted;
  }

  function update() {
    const stream = find(name);
    gone.hidden = Boolean(stream);
    player?.update(stream && stream.state !== 'idle' ? source(stream) : null);
    start.disabled = !stream || stream.state !== 'live';
    plots.forEach((plot) => plot.show(samplesOf(name)));
    showPrograms();
    if (!stream) return;
    mark.update(stream);
    facts.forEach(({ value, text }) => setText(value, text(stream)));
    const found = health(stream, samplesOf(name)).reasons;
    setText(title.querySelector('h1'), shownName(stream));
    if (found.join() !== reasons.dataset.shown) {
      reasons.dataset.shown = found.join();
      reasons.replaceChildren(...found.map((text) => h('li', { text })));
    }
    const paths = pathsOf(stream);
    if (JSON.stringify(paths) !== shownPaths) {
      shownPaths = JSON.stringify(paths);
      links.replaceChildren(addresses(site, stream, paths));
    }
  }

  return {
    element,
    update,
    destroy() {
      player?.destroy();
      refresher.destroy();
      plots.forEach((plot) => plot.destroy());
    },
  };
}
