// The state of the server at a glance.

import { describe, events, onEvents } from '../events.js';
import { h, KeyedList, setText } from '../dom.js';
import { bitrate, bytes, clock, count, duration, percent, plural } from '../format.js';
import { Plot, sparkline } from '../plot.js';
import { samplesOf, store } from '../store.js';
import { card, head, healthMark, streamHref, streamLink } from './parts.js';

const STREAMS = 8;
const EVENTS = 12;

/** A figure with a name and a remark; with a line if it has a colour, with a bar if that is null. */
function tile(title, color = null) {
  const value = h('strong');
  const remark = h('span', { class: 'remark' });
  const line = color && sparkline(color, 120, 30);
  const fill = h('i');
  const meter = color === null && h('div', { class: 'meter' }, fill);
  const node = h('div', { class: 'tile' }, h('span', { class: 'title', text: title }), value, remark, line, meter);
  node.show = (text, small) => {
    setText(value, text);
    setText(remark, small);
  };
  node.showLine = (numbers) => line.update(numbers);
  node.showShare = (share) => {
    fill.style.width = `${Math.min(100, share * 100)}%`;
    meter.className = `meter ${share > 0.9 ? 'bad' : share > 0.7 ? 'warn' : ''}`;
  };
  return node;
}

function rangePicker(plots) {
  const buttons = [[5, '5 min'], [15, '15 min'], [60, '1 h']].map(([minutes, text]) => {
    const button = h('button', { type: 'button', text, 'aria-pressed': String(minutes === 5), onclick: () => choose(minutes) });
    button.minutes = minutes;
    return button;
  });
  function choose(minutes) {
    buttons.forEach((button) => button.setAttribute('aria-pressed', button.minutes === minutes));
    plots.forEach((plot) => {
      plot.minutes = minutes;
      plot.show(store.history);
    });
  }
  return h('div', { class: 'segmented', role: 'group', 'aria-label': 'Time' }, buttons);
}

export function create() {
  const tiles = {
    in: tile('Incoming', 'in'), out: tile('Outgoing', 'out'), clients: tile('Clients'), cpu: tile('CPU'), memory: tile('Memory'), uptime: tile('Uptime', false),
  };
  const rates = new Plot({
    title: 'Bit rate', height: 230, minutes: 5, least: 100, format: bitrate,
    series: [
      { name: 'in', color: 'in', value: (sample) => sample.in },
      { name: 'out', color: 'out', value: (sample) => sample.out },
    ],
  });
  const small = { height: 120, minutes: 5 };
  const clients = new Plot({
    ...small, title: 'Clients', least: 4, format: (value) => count(Math.round(value)),
    series: [{ name: 'connected', color: 'third', value: (sample) => sample.clients }],
  });
  const cpu = new Plot({ ...small, title: 'CPU', least: 0.1, format: percent, series: [{ name: 'of one core', color: 'third', value: (sample) => sample.busy }] });
  const memory = new Plot({ ...small, title: 'Memory', least: 16 << 20, unit: 1 << 20, format: bytes, series: [{ name: 'resident', color: 'third', value: (sample) => sample.memory }] });
  const plots = [rates, clients, cpu, memory];
  const alarm = h('p', { class: 'alarm', role: 'alert', hidden: true });
  const list = h('ul', { class: 'streams' });
  const rows = new KeyedList(list, row);
  const noStreams = h('p', { class: 'none', text: 'No stream is published now.' });
  const feed = h('ol', { class: 'feed' });
  const lines = new KeyedList(feed, feedLine);
  const noEvents = h('p', { class: 'none' });
  const element = h('div', {}, head('Overview', rangePicker(plots)), alarm,
    h('div', { class: 'tiles' }, Object.values(tiles)),
    h('section', { class: 'card' }, h('h2', { text: 'Bit rate' }, rates.legend), rates.element),
    h('div', { class: 'thirds' },
      [['Clients', clients], ['CPU', cpu], ['Memory', memory]].map(([title, plot]) => h('section', { class: 'card' }, h('h2', { text: title }, plot.legend), plot.element))),
    h('div', { class: 'halves' },
      card('Streams', list, noStreams, h('p', { class: 'more' }, h('a', { href: '#/streams', text: 'All streams' }))),
      card('Events', feed, noEvents, h('p', { class: 'more' }, h('a', { href: '#/events', text: 'All events' })))));
  const off = onEvents(showEvents);

  function showEvents() {
    lines.show(events.list.slice(0, EVENTS), (event) => event.key);
    noEvents.hidden = events.list.length > 0;
    setText(noEvents, events.state === 'absent' ? 'This server reports no events.' : 'Nothing has happened yet.');
  }

  function update() {
    const { server, limits, streams } = store.snapshot;
    const history = store.history.slice(-60);
    const now = history[history.length - 1];
    const series = (key) => history.map((sample) => sample[key]);
    const publishers = plural(server.publishers, 'publisher');
    tiles.in.show(bitrate(now.in), publishers);
    tiles.in.showLine(series('in'));
    tiles.out.show(bitrate(now.out), `${plural(server.players, 'player')}, ${plural(server.forwarders, 'forwarder')}`);
    tiles.out.showLine(series('out'));
    tiles.clients.show(count(server.clients), `of ${count(limits.max_connections)} at most`);
    tiles.clients.showShare(server.clients / limits.max_connections);
    tiles.cpu.show(percent(server.busy), 'of one core');
    tiles.cpu.showShare(server.busy);
    const limit = limits.max_memory_bytes;
    tiles.memory.show(bytes(server.resident_bytes), `${bytes(server.held_bytes)}${limit > 0 ? ` of ${bytes(limit)}` : ''} held`);
    tiles.memory.showShare(limit > 0 ? server.held_bytes / limit : 0);
    tiles.uptime.show(duration(server.uptime_ms), plural(server.streams, 'stream'));
    alarm.hidden = !limits.refusing;
    setText(alarm, limits.refusing ? `New streams are refused: ${limits.refusing}` : '');
    plots.forEach((plot) => plot.show(store.history));
    const busiest = [...streams].sort((a, b) => b.players - a.players || b.kbps_in - a.kbps_in).slice(0, STREAMS);
    rows.show(busiest, (stream) => stream.name);
    noStreams.hidden = streams.length > 0;
    showEvents();
  }

  return {
    element,
    update,
    destroy() {
      off();
      plots.forEach((plot) => plot.destroy());
    },
  };
}

function row(stream) {
  const link = streamLink(stream);
  const about = h('span', { class: 'about' });
  const line = sparkline('in', 80, 24);
  const rate = h('span', { class: 'rate' });
  const mark = healthMark(stream);
  const node = h('li', {}, h('span', { class: 'who' }, link, about), line, rate, mark);
  node.update = (now) => {
    link.update(now);
    mark.update(now);
    setText(about, [now.video?.codec, now.audio?.codec, plural(now.players, 'player')].filter(Boolean).join(' · '));
    const samples = samplesOf(now.name);
    line.update(samples.map((sample) => sample.kbps));
    setText(rate, bitrate(samples[samples.length - 1]?.kbps ?? 0));
  };
  return node;
}

/** Creates the line of an event. */
export function feedLine(event) {
  const { level, who, text, stream, ip } = describe(event);
  const time = h('time', { text: clock(event.time_ms), title: new Date(event.time_ms).toLocaleString() });
  const node = h('li', { class: level }, time,
    h('span', { class: 'what' }, who && h('b', { text: who, title: ip }), who && ' ', text,
      stream && [' ', h('a', { href: streamHref(stream), text: stream.replace(/^__defaultVhost__\//, '') })]));
  node.update = () => {};
  return node;
}
