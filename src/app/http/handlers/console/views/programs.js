// Programs that the server runs for streams: engines, ladders, commands.

import { h, setText } from '../dom.js';
import { count, milliseconds, plural } from '../format.js';
import { feature } from '../store.js';
import { DataTable, filterField, matcher } from '../table.js';
import { head, streamHref } from './parts.js';

const LEVELS = { running: 'good', queued: 'warn', pause: 'bad', stopping: 'idle', no_input: 'idle' };
const WORDS = { pause: 'fails, tried again', queued: 'waits for a place', no_input: 'waits for the publisher' };

const shown = (name) => name.replace(/^__defaultVhost__\//, '');

/** Returns the programs of all streams, or of one. */
export function programs(stream = null) {
  const all = feature('transcode')?.items ?? [];
  return stream === null ? all : all.filter((program) => program.stream === stream);
}

function stateCell(program) {
  const node = h('span');
  node.update = (now) => {
    setText(node, WORDS[now.state] ?? now.state);
    node.className = `mark ${LEVELS[now.state] ?? 'idle'}`;
    node.title = now.last_lines.join('\n');
  };
  node.update(program);
  return node;
}

/** Links to streams, which are made again when they change. */
function linksCell(namesOf) {
  return (program) => {
    const node = h('span');
    let names = null;
    node.update = (now) => {
      if (names === namesOf(now).join()) return;
      names = namesOf(now).join();
      node.replaceChildren(...namesOf(now).map((name) => h('a', { class: 'name', href: streamHref(name), text: shown(name) })).flatMap((link, at) => (at ? [' ', link] : [link])));
    };
    node.update(program);
    return node;
  };
}

/** Creates a table of programs. `isOfStream`: all are of the same stream. */
export function programTable({ isOfStream }) {
  const columns = [
    { title: 'Stream', class: 'first', node: linksCell((program) => [program.stream]), sort: (program) => program.stream },
    { title: 'Program', text: (program) => program.process, sort: (program) => program.process },
    { title: 'State', node: stateCell, sort: (program) => program.state },
    { title: 'Publishes', class: 'wide', node: linksCell((program) => program.outputs) },
    { title: 'Frames/s', class: 'number', text: (program) => program.fps.toFixed(1), sort: (program) => program.fps },
    { title: 'Speed', class: 'number', text: (program) => (program.speed ? `${program.speed.toFixed(2)}×` : '–'), sort: (program) => program.speed },
    { title: 'Delay', class: 'number', text: (program) => milliseconds(program.lag_ms), sort: (program) => program.lag_ms },
    { title: 'Dropped', class: 'number', text: (program) => count(program.dropped), sort: (program) => program.dropped },
    { title: 'Starts', class: 'number', text: (program) => count(program.starts), sort: (program) => program.starts },
    { title: 'Last error', class: 'wide', text: (program) => program.last_error ?? '–' },
  ];
  return new DataTable({
    label: 'Programs', keyOf: (program) => `${program.stream} ${program.process} ${program.pid ?? ''}`, sortBy: 0,
    empty: 'No program runs. The directives ladder, transcode and exec of a vhost start some.',
    columns: isOfStream ? columns.slice(1) : columns,
  });
}

export function create() {
  const table = programTable({ isOfStream: false });
  const filter = filterField('Filter programs', () => update());
  const sum = h('span', { class: 'remark', role: 'status' });
  const element = h('div', {}, head('Programs', sum, filter), h('section', { class: 'card flush' }, table.element));

  function update() {
    const fits = matcher(filter.value);
    const all = programs().filter((each) => fits(each.stream, each.process, each.state));
    setText(sum, plural(all.length, 'program'));
    table.show(all);
  }

  return { element, update };
}
