// The page for viewers: what is live, and a player.

import { publicStreams } from '../api.js';
import { copyButton, h, icon, KeyedList, setAttribute, setText } from '../dom.js';
import { plural } from '../format.js';
import { mediaUrl, rtmpUrl, shownName } from '../links.js';
import { Player } from '../player.js';
import { filterField, matcher } from '../table.js';

const REFRESH_MS = 2000;

/** Below this, a filter is in the way. */
const MANY = 8;

/** Returns the parts of a name, which `streams.json` has without the vhost. */
function parts({ vhost, name }) {
  const at = name.lastIndexOf('/');
  return { vhost, app: name.slice(0, Math.max(0, at)), stream: name.slice(at + 1), name: `${vhost}/${name}` };
}

export function create({ site, signInLink }) {
  let streams = null;
  let wanted = null;
  let timer = 0;
  const player = new Player(showCurrent);
  const list = h('ul', { id: 'streams' });
  const rows = new KeyedList(list, row);
  const filter = filterField('Filter', () => show());
  const sum = h('span', { class: 'remark', role: 'status' });
  const command = h('code');
  const empty = h('div', { class: 'none', id: 'empty', hidden: true }, h('p', { text: 'No live streams. Publish one, for example:' }), h('p', {}, command));
  const name = h('h2', { class: 'playing' });
  const left = h('div', { class: 'left', hidden: true }, player.element, name);
  const element = h('div', { class: 'viewer' }, left,
    h('section', { class: 'card list' }, h('header', {}, h('h1', { tabindex: -1, text: 'Live streams' }), sum, signInLink), filter, list, empty));

  function source(stream) {
    return { ...stream, key: keyOf(stream), hls: mediaUrl(site, stream.hls), flv: mediaUrl(site, stream.flv ?? null) };
  }

  function keyOf(stream) {
    return `${stream.vhost}/${stream.name}`;
  }

  function play(stream) {
    wanted = keyOf(stream);
    left.hidden = false;
    setText(name, shownName(parts(stream)));
    player.play(source(stream));
    show();
  }

  function showCurrent() {
    for (const node of rows.nodes.values()) setAttribute(node, 'aria-current', node.key === wanted ? 'true' : null);
  }

  function row(first) {
    let stream = first;
    const button = h('button', { class: 'play', type: 'button', onclick: () => play(stream) }, icon('play'), h('span', { class: 'word' }));
    const title = h('strong', { class: 'name' });
    const about = h('span', { class: 'about' });
    const rtmp = h('code', { class: 'rtmp' });
    const hls = h('a', { class: 'hls' }, h('code'));
    const links = h('details', { class: 'links' }, h('summary', { text: 'Addresses' }),
      h('p', {}, rtmp, copyButton(() => rtmp.textContent)), h('p', { class: 'hls' }, hls, copyButton(() => hls.href)));
    const node = h('li', { class: 'stream' }, button, h('div', {}, title, about, links));
    node.key = keyOf(stream);
    node.update = (now) => {
      stream = now;
      const isCurrent = node.key === wanted;
      setText(title, shownName(parts(now)));
      setText(button.lastChild, isCurrent ? 'Playing' : 'Play');
      setAttribute(button, 'aria-label', `${isCurrent ? 'Playing' : 'Play'} ${shownName(parts(now))}`);
      const codecs = [now.video, now.audio].filter(Boolean).join(' + ') || 'no media received yet';
      setText(about, `${codecs} · ${plural(now.players, 'RTMP player')}`);
      setText(rtmp, rtmpUrl(site, parts(now)));
      hls.parentNode.hidden = now.hls === null;
      if (now.hls !== null) {
        setAttribute(hls, 'href', mediaUrl(site, now.hls));
        setText(hls.firstChild, hls.href);
      }
      setAttribute(node, 'aria-current', isCurrent ? 'true' : null);
    };
    return node;
  }

  function show() {
    const fits = matcher(filter.value);
    rows.show(streams.filter((stream) => fits(keyOf(stream))), keyOf);
    filter.hidden = streams.length < MANY;
    empty.hidden = streams.length > 0;
    setText(sum, streams.length > 0 ? plural(streams.length, 'stream') : '');
  }

  async function refresh() {
    if (!document.hidden || streams === null) {
      try {
        const answer = await publicStreams();
        streams = answer.streams;
        setText(command, `ffmpeg -re -i FILE -c:v libx264 -g 50 -c:a aac -f flv ${rtmpUrl(site, parts({ vhost: '__defaultVhost__', name: 'live/livestream' }))}`);
        show();
        if (answer.unlisted) setText(sum, `${plural(streams.length, 'stream')}, and ${answer.unlisted} more`);
        const current = streams.find((stream) => keyOf(stream) === wanted);
        player.update(current ? source(current) : null);
        const first = streams.find((stream) => stream.hls !== null || stream.flv);
        if (wanted === null && first) play(first);
      } catch {
        setText(sum, 'The server does not respond.');
      }
    }
    timer = setTimeout(refresh, REFRESH_MS);
  }

  refresh();
  return {
    element,
    update() {},
    destroy() {
      clearTimeout(timer);
      player.destroy();
    },
  };
}
