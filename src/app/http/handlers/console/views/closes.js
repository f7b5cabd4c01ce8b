// Closed connections by reason, and the last ones.

import { call } from '../api.js';
import { h, KeyedList, setText } from '../dom.js';
import { bytes, clock, count, duration, percent } from '../format.js';
import { store } from '../store.js';
import { DataTable, filterField, matcher } from '../table.js';
import { card, head, Refresher } from './parts.js';

const MEANINGS = {
  'by-peer': 'The client closed the connection.',
  network: 'The connection failed.',
  'slow-start': 'It neither published nor played in time.',
  'silent-publisher': 'The publisher sent nothing for too long.',
  'not-reading': 'It does not read what it is sent.',
  protocol: 'It violated the protocol.',
  refused: 'Wrong name, vhost, or referring page.',
  busy: 'Another client publishes the stream.',
  full: 'The limit of connections is reached.',
  replaced: 'Another publisher took over the stream.',
  crashed: 'A fault of this server: see its log.',
  'vhost-removed': 'A reload removed its vhost.',
  'vhost-disabled': 'A reload disabled its vhost.',
  'server-stopped': 'The server was shutting down.',
  denied: 'The rules of security refused its address.',
  proxy: 'A load balancer sent no usable PROXY header.',
  hls: 'HLS files could not be written.',
  'too-fast': 'The publisher exceeded max_bitrate.',
  memory: 'max_memory was reached.',
  overload: 'The server was overloaded.',
  hook: 'A backend of http_hooks refused it.',
  kicked: 'An operator disconnected it.',
};

function bar(close) {
  const fill = h('i');
  const share = h('span', { class: 'remark' });
  const number = h('b');
  const node = h('li', {}, h('span', { class: 'what' }, h('code', { text: close.code }), ' ', h('span', { class: 'remark', text: MEANINGS[close.code] ?? '' })), number, share, h('div', { class: 'meter' }, fill));
  node.update = (now) => {
    setText(number, count(now.count));
    setText(share, percent(now.count / now.total));
    fill.style.width = `${100 * now.count / now.most}%`;
  };
  return node;
}

export function create() {
  const list = h('ul', { class: 'bars' });
  const bars = new KeyedList(list, bar);
  const none = h('p', { class: 'none', text: 'No connection has been closed since the server was started.' });
  const table = new DataTable({
    label: 'Last closed connections', keyOf: (close) => close.seq, empty: 'None fits.',
    columns: [
      { title: 'Time', class: 'first', text: (close) => clock(close.time_ms) },
      { title: 'Client', class: 'number', text: (close) => close.client },
      { title: 'Address', class: 'ip', text: (close) => close.ip },
      { title: 'Application', text: (close) => close.app || '–' },
      { title: 'Reason', class: 'wide', text: (close) => close.reason },
      { title: 'After', class: 'number', text: (close) => duration(close.seconds * 1000) },
      { title: 'In', class: 'number', text: (close) => bytes(close.bytes_in) },
      { title: 'Out', class: 'number', text: (close) => bytes(close.bytes_out) },
    ],
  });
  let recent = [];
  const filter = filterField('Filter', () => showRecent());
  const last = h('section', { class: 'card flush', hidden: true }, h('h2', { text: 'Last closed connections' }), table.element);
  const element = h('div', {}, head('Closes', filter), card('By reason', list, none), last);

  function showRecent() {
    const fits = matcher(filter.value);
    table.show(recent.filter((close) => fits(close.client, close.ip, close.app, close.code, close.reason)));
  }

  const refresher = new Refresher(async () => {
    const answer = await call('closes');
    recent = answer.recent ?? [];
    last.hidden = recent.length === 0;
    showRecent();
  });

  function update() {
    const { closes } = store.snapshot;
    const total = closes.reduce((sum, close) => sum + close.count, 0);
    const most = Math.max(...closes.map((close) => close.count));
    bars.show(closes.map((close) => ({ ...close, total, most })).sort((a, b) => b.count - a.count), (close) => close.code);
    none.hidden = closes.length > 0;
  }

  return { element, update, destroy: () => refresher.destroy() };
}
