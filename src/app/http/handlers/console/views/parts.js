// Parts that several views share.

import { call } from '../api.js';
import { ask, h, icon, setText, toast } from '../dom.js';
import { health } from '../health.js';
import { shownName } from '../links.js';
import { samplesOf, store } from '../store.js';

/** Creates the head of a view. */
export function head(title, ...actions) {
  return h('header', { class: 'head' }, h('h1', { tabindex: -1, text: title }), h('div', { class: 'actions' }, actions));
}

export function card(title, ...content) {
  return h('section', { class: 'card' }, h('h2', { text: title }), content);
}

export function streamHref(name) {
  return `#/stream/${encodeURIComponent(name)}`;
}

/** Creates a link to the view of a stream. */
export function streamLink(stream) {
  const link = h('a', { class: 'name', href: streamHref(stream.name) });
  link.update = (now) => setText(link, shownName(now));
  link.update(stream);
  return link;
}

/** Creates the mark of a stream's health, with the reasons as its title. */
export function healthMark(stream) {
  const node = h('span');
  node.update = (now) => {
    const { level, word, reasons } = health(now, samplesOf(now.name));
    node.className = `mark ${level}`;
    setText(node, word);
    node.title = reasons.join('\n');
  };
  node.update(stream);
  return node;
}

export function may(role) {
  const roles = ['read', 'kick', 'admin'];
  return roles.indexOf(store.role) >= roles.indexOf(role);
}

const BANS = {
  label: 'Keep away for',
  options: [['', 'no time: it may come back at once'], ['60', 'a minute'], ['600', '10 minutes'], ['3600', 'an hour'], ['86400', 'a day']],
};

/** Disconnects somebody after a question. `path` is that of the API. */
export async function disconnect(question, detail, path) {
  const ban = await ask(question, detail, 'Disconnect', BANS);
  if (ban === null) return false;
  try {
    const { kicked } = await call(ban ? `${path}${path.includes('?') ? '&' : '?'}ban=${ban}` : path, 'POST');
    toast(kicked === 1 ? 'One client was disconnected.' : `${kicked} clients were disconnected.`);
    return true;
  } catch (error) {
    toast(error.message, 'bad');
    return false;
  }
}

/** Creates a button that disconnects; null for those who must not. */
export function kickButton(label, onclick) {
  return may('kick') ? h('button', { class: 'danger small', type: 'button', onclick }, icon('kick'), label) : null;
}

/** Shows a list that the API answers, again every few seconds while the view is open. */
export class Refresher {
  constructor(load, ms = 3000) {
    this.load = load;
    this.ms = ms;
    this.run();
  }

  async run() {
    clearTimeout(this.timer);
    if (this.isRunning) {
      this.isStale = true;
      return;
    }
    this.isRunning = true;
    try {
      if (!document.hidden || this.isStale !== false) await this.load();
    } catch {
      // The state of the connection is shown at the top.
    }
    this.isRunning = false;
    if (this.isOver) return;
    this.timer = setTimeout(() => this.run(), this.isStale ? 0 : this.ms);
    this.isStale = false;
  }

  destroy() {
    this.isOver = true;
    clearTimeout(this.timer);
  }
}
