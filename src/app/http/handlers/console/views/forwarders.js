// Forwarders of all streams to other servers.

import { h, setText } from '../dom.js';
import { bitrate, bytes, count, milliseconds, plural } from '../format.js';
import { feature } from '../store.js';
import { DataTable, filterField, matcher } from '../table.js';
import { head, streamHref } from './parts.js';

const LEVELS = { sending: 'good', connecting: 'warn', waiting: 'bad', ending: 'idle' };

function stateCell(forwarder) {
  const node = h('span');
  node.update = (now) => {
    setText(node, now.state);
    node.className = `mark ${LEVELS[now.state] ?? 'idle'}`;
  };
  node.update(forwarder);
  return node;
}

function streamCell(forwarder) {
  const link = h('a', { class: 'name', href: streamHref(forwarder.stream), text: forwarder.stream.replace(/^__defaultVhost__\//, '') });
  link.update = () => {};
  return link;
}

export function create() {
  const table = new DataTable({
    label: 'Forwarders', keyOf: (forwarder) => `${forwarder.stream} ${forwarder.target}`, sortBy: 0,
    empty: 'No stream is forwarded. The directive forward of a vhost names other servers.',
    columns: [
      { title: 'Stream', class: 'first', node: streamCell, sort: (forwarder) => forwarder.stream },
      { title: 'Target', class: 'wide', text: (forwarder) => forwarder.target, sort: (forwarder) => forwarder.target },
      { title: 'State', node: stateCell, sort: (forwarder) => forwarder.state },
      { title: 'Delay', class: 'number', text: (forwarder) => milliseconds(forwarder.delay_ms), sort: (forwarder) => forwarder.delay_ms },
      { title: 'Bit rate', class: 'number', text: (forwarder) => bitrate(forwarder.kbps_out ?? NaN), sort: (forwarder) => forwarder.kbps_out ?? 0 },
      { title: 'Sent', class: 'number', text: (forwarder) => bytes(forwarder.bytes_out), sort: (forwarder) => forwarder.bytes_out },
      { title: 'Missed', class: 'number', text: (forwarder) => count(forwarder.dropped), sort: (forwarder) => forwarder.dropped },
      { title: 'Attempts', class: 'number', text: (forwarder) => count(forwarder.attempts), sort: (forwarder) => forwarder.attempts },
      { title: 'Last error', class: 'wide', text: (forwarder) => forwarder.last_error ?? '–' },
    ],
  });
  const filter = filterField('Filter forwarders', () => update());
  const sum = h('span', { class: 'remark', role: 'status' });
  const element = h('div', {}, head('Forwarders', sum, filter), h('section', { class: 'card flush' }, table.element));

  function update() {
    const fits = matcher(filter.value);
    const all = (feature('forward')?.items ?? []).filter((each) => fits(each.stream, each.target, each.state));
    setText(sum, plural(all.length, 'forwarder'));
    table.show(all);
  }

  return { element, update };
}
