// Connected clients, page by page.

import { call } from '../api.js';
import { h, setText, toast } from '../dom.js';
import { bitrate, bytes, count, duration, plural } from '../format.js';
import { DataTable, filterField } from '../table.js';
import { disconnect, head, kickButton, may, Refresher, streamHref } from './parts.js';

const PAGE = 100;

const KINDS = { publishing: ['publishes', 'good'], playing: ['plays', 'accent'], connecting: ['connects', 'idle'], idle: ['idle', 'idle'], closing: ['leaves', 'warn'] };

function kindCell(client) {
  const node = h('span');
  node.update = (now) => {
    const [text, level] = KINDS[now.state] ?? [now.type, 'idle'];
    setText(node, text);
    node.className = `mark ${level}`;
  };
  node.update(client);
  return node;
}

function streamCell(client) {
  const link = h('a');
  link.update = (now) => {
    setText(link, now.name ? `${now.app}/${now.name}` : now.app);
    if (now.name) link.setAttribute('href', streamHref(`${now.vhost_name}/${now.app}/${now.name}`));
  };
  link.update(client);
  return link;
}

function kickCell(client, onKick) {
  return h('div', { class: 'actions' }, kickButton('Disconnect', async () => {
    const detail = `It has the address ${client.ip}. An encoder or player comes back by itself, unless you keep it away.`;
    if (await disconnect(`Disconnect client ${client.id}?`, detail, `clients/${client.id}/kick`)) onKick();
  }));
}

/** Creates a table of clients, which are objects of the API. `isOfStream`: they are of one stream, which is not named again. */
export function clientTable({ isOfStream = false, onKick }) {
  const columns = [
    { title: 'Client', class: 'first', text: (client) => client.id },
    { title: 'Address', class: 'ip', text: (client) => client.ip },
    { title: 'Does', node: kindCell },
    isOfStream ? null : { title: 'Stream', node: streamCell },
    { title: 'In', class: 'number', text: (client) => bitrate(client.kbps.recv_30s) },
    { title: 'Out', class: 'number', text: (client) => bitrate(client.kbps.send_30s) },
    { title: 'Sent', class: 'number', text: (client) => bytes(client.send_bytes) },
    { title: 'Missed', class: 'number', text: (client) => count(client.drops) },
    { title: 'Connected', class: 'number', text: (client) => duration(client.alive * 1000) },
    may('kick') ? { title: '', class: 'last', node: (client) => kickCell(client, onKick) } : null,
  ];
  return new DataTable({ label: 'Clients', keyOf: (client) => client.id, empty: 'No client fits.', columns: columns.filter(Boolean) });
}

function banTable(onLift) {
  const lift = (ban) => h('div', { class: 'actions' }, may('kick') && h('button', {
    class: 'quiet small', type: 'button', text: 'Lift', onclick: async () => {
      await call(`bans/${encodeURIComponent(ban.id)}`, 'DELETE').catch((error) => toast(error.message, 'bad'));
      onLift();
    },
  }));
  return new DataTable({
    label: 'Bans', keyOf: (ban) => ban.id, empty: '',
    columns: [
      { title: 'Kept away', class: 'first', text: (ban) => ban.what },
      { title: 'From', text: (ban) => (ban.kind === 'stream' ? 'publishing' : 'connecting') },
      { title: 'Time left', class: 'number', text: (ban) => duration(ban.seconds_left * 1000) },
      { title: '', class: 'last', node: lift },
    ],
  });
}

export function create({ argument }) {
  let start = 0;
  const again = () => refresher.run();
  const anew = () => {
    start = 0;
    again();
  };
  const table = clientTable({ onKick: again });
  const address = filterField('Address', anew);
  const stream = filterField('Stream', anew);
  if (argument) stream.value = argument;
  const type = h('select', { 'aria-label': 'Kind', onchange: anew },
    [['', 'all'], ['fmle-publish', 'publishers'], ['rtmp-play', 'players'], ['flv-play', 'viewers of HTTP-FLV'], ['hls-play', 'viewers of HLS'], ['Unknown', 'others']].map(([value, text]) => h('option', { value, text })));
  const kick = may('kick') && h('button', { class: 'danger', type: 'button', text: 'Disconnect address…', onclick: async () => {
    const ip = address.value.trim();
    if (!ip) return address.focus();
    return await disconnect(`Disconnect all of ${ip}?`, 'All clients of this address are disconnected.', `clients/kick?ip=${encodeURIComponent(ip)}`) && again();
  } });
  const sum = h('span', { class: 'remark', role: 'status' });
  const turn = (pages) => () => {
    start = Math.max(0, start + pages * PAGE);
    again();
  };
  const [before, after] = [['Previous', -1], ['Next', 1]].map(([text, pages]) => h('button', { class: 'quiet', type: 'button', text, onclick: turn(pages) }));
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages' }, before, after);
  const bans = banTable(again);
  const banned = h('section', { class: 'card flush', hidden: true }, h('h2', { text: 'Kept away' }), bans.element);
  const element = h('div', {}, head('Clients', sum), h('div', { class: 'bar' }, address, stream, type, kick),
    h('section', { class: 'card flush' }, table.element, pager), banned);

  const refresher = new Refresher(async () => {
    const query = new URLSearchParams({ start, count: PAGE });
    for (const [name, field] of [['ip', address], ['stream', stream], ['type', type]]) if (field.value.trim()) query.set(name, field.value.trim());
    const [answer, kept] = await Promise.all([call(`clients?${query}`), call('bans').catch(() => ({ bans: [] }))]);
    table.show(answer.clients);
    const end = start + answer.clients.length;
    setText(sum, answer.total > PAGE ? `${count(start + 1)} to ${count(end)} of ${plural(answer.total, 'client')}` : plural(answer.total, 'client'));
    before.disabled = start === 0;
    after.disabled = end >= answer.total;
    pager.hidden = answer.total <= PAGE;
    banned.hidden = kept.bans.length === 0;
    bans.show(kept.bans);
  });

  return { element, update() {}, destroy: () => refresher.destroy() };
}
