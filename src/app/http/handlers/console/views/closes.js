// Closed connections by reason, addresses that cause trouble, and the last connections.

import { call } from '../api.js';
import { h, KeyedList, setText } from '../dom.js';
import { bytes, clock, count, duration, percent } from '../format.js';
import { store } from '../store.js';
import { DataTable, filterField, matcher } from '../table.js';
import { card, disconnect, head, kickButton, may, Refresher } from './parts.js';

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
  banned: 'An operator keeps it away.',
  tested: 'The bandwidth test is complete.',
  'stream-ended': 'The stream of an HTTP viewer has ended.',
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

/** Creates the table of addresses that cause trouble. */
function offenderTable(onKick) {
  const keepAway = ({ ip }) => h('div', { class: 'actions' }, kickButton('Keep away', async () => {
    const detail = 'All its clients are disconnected. Choose for how long it must not come back.';
    if (await disconnect(`Disconnect all of ${ip}?`, detail, `clients/kick?ip=${encodeURIComponent(ip)}`)) onKick();
  }));
  const columns = [
    { title: 'Address', class: 'first ip', text: (offender) => offender.ip },
    { title: 'Refused', class: 'number', text: (offender) => count(offender.refused) },
    { title: 'Faulty', class: 'number', text: (offender) => count(offender.faulty) },
    { title: 'Wrong secrets', class: 'number', text: (offender) => count(offender.wrong_secrets) },
    { title: 'Last reason', class: 'wide', text: (offender) => MEANINGS[offender.last_code] ?? '–' },
    { title: 'Ago', class: 'number', text: (offender) => duration(offender.seconds_ago * 1000) },
    may('kick') ? { title: '', class: 'last', node: keepAway } : null,
  ];
  return new DataTable({ label: 'Addresses with trouble', keyOf: (offender) => offender.ip, empty: '', columns: columns.filter(Boolean) });
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
  const offenders = offenderTable(() => refresher.run());
  const trouble = h('section', { class: 'card flush', hidden: true }, h('h2', { text: 'Addresses with trouble in the last hour' }), offenders.element);
  const element = h('div', {}, head('Closes', filter), card('By reason', list, none), trouble, last);

  function showRecent() {
    const fits = matcher(filter.value);
    table.show(recent.filter((close) => fits(close.client, close.ip, close.app, close.code, close.reason)));
  }

  const refresher = new Refresher(async () => {
    const [answer, worst] = await Promise.all([call('closes'), call('offenders?count=20').catch(() => ({ offenders: [] }))]);
    trouble.hidden = worst.offenders.length === 0;
    offenders.show(worst.offenders);
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
