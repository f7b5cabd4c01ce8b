// Recordings: those that are being written, and the finished ones, page by page; and the button that starts and stops one.

import { call, pathUrl } from '../api.js';
import { ask, h, icon, setText, toast } from '../dom.js';
import { bytes, count, dateAndTime, duration, plural } from '../format.js';
import { openPlayback, wayToPlay } from '../playback.js';
import { DataTable, filterField } from '../table.js';
import { head, may, Refresher, streamHref } from './parts.js';

const PAGE = 100;

const REFRESH_MS = 5000;

/** A recording begins at the next keyframe: until then the list does not have what was asked for. */
const PENDING_MS = 15000;

const shown = ({ vhost, app, stream }) => (vhost === '__defaultVhost__' ? `${app}/${stream}` : `${vhost}/${app}/${stream}`);

const fileName = (recording) => recording.path?.split('/').at(-1) ?? '';

/** Calls the API, and shows what went wrong. Returns null then. */
async function change(path, method) {
  try {
    return await call(path, method);
  } catch (error) {
    toast(error.message, 'bad');
    return null;
  }
}

/** Returns the URL of a file, which needs no login for some hours; null if there is none. */
async function fileUrl(recording) {
  const link = await change(`recordings/${encodeURIComponent(recording.id)}/link`, 'POST');
  return link && pathUrl(link.url.replace(/^\//, '')).href;
}

async function play(recording) {
  const url = await fileUrl(recording);
  if (url) openPlayback({ title: `${shown(recording)}, ${dateAndTime(recording.started_ms)}`, url, path: recording.path });
}

async function download(recording) {
  const url = await fileUrl(recording);
  if (url) h('a', { href: url, download: fileName(recording) }).click();
}

async function remove(recording) {
  const detail = `${fileName(recording)} with ${bytes(recording.bytes)} is removed from the disk of the server. Nobody can bring it back.`;
  if (await ask('Delete the recording?', detail, 'Delete') === null) return;
  if (await change(`recordings/${encodeURIComponent(recording.id)}`, 'DELETE')) toast('The recording was deleted.');
}

async function record(name, isWanted) {
  return change(`streams/${encodeURIComponent(name)}/record`, isWanted ? 'POST' : 'DELETE');
}

/** The buttons of a recording, for those who may use them. They change when it is finished, and then a row has another key. */
function actions(recording, onChange) {
  const button = (name, label, act, kind = 'quiet') => h('button', {
    class: `${kind} small`, type: 'button', 'aria-label': `${label} ${shown(recording)}, ${dateAndTime(recording.started_ms)}`,
    onclick: async () => {
      await act(recording);
      onChange();
    },
  }, icon(name), label);
  if (!may('admin')) return h('div');
  if (!recording.id) return h('div', { class: 'actions' }, button('stop', 'Stop', () => record(nameOf(recording), false)));
  return h('div', { class: 'actions' }, wayToPlay(recording.path) && button('play', 'Play', play),
    button('download', 'Download', download), button('trash', 'Delete', remove, 'danger'));
}

function nameOf({ vhost, app, stream }) {
  return `${vhost}/${app}/${stream}`;
}

function stateCell(recording) {
  return recording.id ? h('span', { text: fileName(recording) }) : h('span', { class: 'mark bad', text: 'recording' });
}

/** Returns the time since the start of a recording that is being written. */
function lengthOf(recording) {
  return recording.duration_ms ?? Math.max(0, Date.now() - recording.started_ms);
}

function recordingTable(onChange) {
  return new DataTable({
    label: 'Recordings', keyOf: (recording) => recording.id || `${nameOf(recording)} ${recording.started_ms}`,
    empty: 'No recording. The directive dvr of a vhost records its streams, and the page of a live stream has a button for one.',
    columns: [
      { title: 'Stream', class: 'first', node: (recording) => h('a', { href: streamHref(nameOf(recording)), text: shown(recording) }) },
      { title: 'Start', class: 'time', text: (recording) => dateAndTime(recording.started_ms) },
      { title: 'Duration', class: 'number', text: (recording) => duration(lengthOf(recording)) },
      { title: 'Size', class: 'number', text: (recording) => bytes(recording.bytes) },
      { title: 'File', class: 'wide', node: stateCell },
      { title: '', class: 'last', node: (recording) => actions(recording, onChange) },
    ],
  });
}

export function create({ argument }) {
  let start = 0;
  const anew = () => {
    start = 0;
    refresher.run();
  };
  const table = recordingTable(() => refresher.run());
  const stream = filterField('Stream, such as live/cam', anew);
  if (argument) stream.value = argument;
  const state = h('select', { 'aria-label': 'State', onchange: anew },
    [['', 'all'], ['recording', 'being recorded'], ['finished', 'finished']].map(([value, text]) => h('option', { value, text })));
  const sum = h('span', { class: 'remark', role: 'status' });
  const turn = (pages) => () => {
    start = Math.max(0, start + pages * PAGE);
    refresher.run();
  };
  const [before, after] = [['Previous', -1], ['Next', 1]].map(([text, pages]) => h('button', { class: 'quiet', type: 'button', text, onclick: turn(pages) }));
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages' }, before, after);
  const element = h('div', {}, head('Recordings', sum), h('div', { class: 'bar' }, stream, state),
    h('section', { class: 'card flush' }, table.element, pager));

  const refresher = new Refresher(async () => {
    const query = new URLSearchParams({ start, count: PAGE });
    for (const [name, field] of [['stream', stream], ['state', state]]) if (field.value.trim()) query.set(name, field.value.trim());
    const { recordings, total } = await call(`recordings?${query}`);
    table.show(recordings);
    const end = start + recordings.length;
    setText(sum, total > PAGE ? `${count(start + 1)} to ${count(end)} of ${plural(total, 'recording')}` : plural(total, 'recording'));
    before.disabled = start === 0;
    after.disabled = end >= total;
    pager.hidden = total <= PAGE && start === 0;
  }, REFRESH_MS);

  return { element, update() {}, destroy: () => refresher.destroy() };
}

/** Creates the mark of a stream that is recorded, and the button that starts and stops this, with a function `refresh()`. */
export function recordControl(name) {
  let isRecorded = false;
  let pendingUntil = 0;
  const mark = h('span', { class: 'mark bad', hidden: true, text: 'recording' });
  const label = h('span');
  const button = h('button', { class: 'quiet small record', type: 'button', hidden: !may('admin'), onclick: toggle }, icon('record'), label);
  const all = h('a', { class: 'small', href: `#/recordings/${encodeURIComponent(name)}`, text: 'Recordings' });
  const element = h('span', { class: 'actions' }, mark, all, button);

  function show(next) {
    isRecorded = next;
    mark.hidden = !next;
    setText(label, next ? 'Stop recording' : 'Record');
  }

  async function toggle() {
    const answer = await record(name, !isRecorded);
    if (!answer) return;
    pendingUntil = Date.now() + PENDING_MS;
    show(answer.recording);
    toast(answer.recording ? 'The recording begins at the next keyframe.' : 'The recording ends.');
  }

  async function refresh() {
    const { total } = await call(`recordings?${new URLSearchParams({ stream: name, state: 'recording', count: 1 })}`);
    const isListed = total > 0;
    if (isListed === isRecorded) pendingUntil = 0;
    else if (Date.now() >= pendingUntil) show(isListed);
  }

  show(false);
  return { element, refresh };
}
