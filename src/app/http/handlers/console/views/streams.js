// All streams.

import { h, setText } from '../dom.js';
import { audioText, bitrate, count, duration, plural, videoText } from '../format.js';
import { health } from '../health.js';
import { shownName } from '../links.js';
import { sparkline } from '../plot.js';
import { samplesOf, store } from '../store.js';
import { DataTable, filterField, matcher } from '../table.js';
import { head, healthMark, streamLink } from './parts.js';

const LEVELS = ['bad', 'warn', 'idle', 'good'];

function rateCell(stream) {
  const line = sparkline('in');
  const value = h('span', { class: 'rate' });
  const node = h('div', { class: 'trend' }, line, value);
  node.update = (now) => {
    const samples = samplesOf(now.name);
    line.update(samples.map((sample) => sample.kbps));
    setText(value, bitrate(samples[samples.length - 1]?.kbps ?? now.kbps_in));
  };
  node.update(stream);
  return node;
}

export function create() {
  const table = new DataTable({
    label: 'Streams',
    keyOf: (stream) => stream.name,
    empty: 'No stream fits. Publish one, for example with OBS or ffmpeg.',
    sortBy: 0,
    columns: [
      { title: 'Stream', class: 'first', node: streamLink, sort: (stream) => shownName(stream) },
      { title: 'Video', text: (stream) => videoText(stream.video), sort: (stream) => (stream.video?.width ?? 0) * (stream.video?.height ?? 0) },
      { title: 'Audio', text: (stream) => audioText(stream.audio), sort: (stream) => audioText(stream.audio) },
      { title: 'Bit rate', node: rateCell, sort: (stream) => stream.kbps_in },
      { title: 'Players', class: 'number', text: (stream) => count(stream.players), sort: (stream) => stream.players },
      { title: 'Uptime', class: 'number', text: (stream) => (stream.state === 'live' ? duration(stream.uptime_ms) : '–'), sort: (stream) => stream.uptime_ms },
      { title: 'Health', node: healthMark, sort: (stream) => LEVELS.indexOf(health(stream, samplesOf(stream.name)).level) },
    ],
  });
  const filter = filterField('Filter streams', () => update());
  const sum = h('span', { class: 'remark', role: 'status' });
  const element = h('div', {}, head('Streams', sum, filter), h('section', { class: 'card flush' }, table.element));

  function update() {
    const fits = matcher(filter.value);
    const streams = store.snapshot.streams.filter((stream) => fits(stream.name, stream.video?.codec, stream.audio?.codec));
    setText(sum, plural(streams.length, 'stream'));
    table.show(streams);
  }

  return { element, update };
}
