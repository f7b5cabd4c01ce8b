// The page: decides who sees what, shows the view that the address names, and keeps the connection.
//
// #/streams, #/stream/NAME, … are views of operators. Everybody else gets the page for viewers.

import { call, isSignedIn, signOut, site as readSite } from './api.js';
import { h, icon, setText, toast } from './dom.js';
import { plural } from './format.js';
import { startEvents, stopEvents } from './events.js';
import { loadHistory, poll, POLL_MS, start, stop, store, subscribe } from './store.js';
import * as clients from './views/clients.js';
import * as closes from './views/closes.js';
import * as config from './views/config.js';
import * as eventsView from './views/events.js';
import * as forwarders from './views/forwarders.js';
import * as login from './views/login.js';
import * as overview from './views/overview.js';
import * as programs from './views/programs.js';
import * as recordings from './views/recordings.js';
import * as stream from './views/stream.js';
import * as streams from './views/streams.js';
import * as viewer from './views/viewer.js';

const VIEWS = [
  ['overview', 'Overview', overview], ['streams', 'Streams', streams], ['clients', 'Clients', clients], ['forwarders', 'Forwarders', forwarders],
  ['programs', 'Programs', programs], ['recordings', 'Recordings', recordings],
  ['closes', 'Closes', closes], ['events', 'Events', eventsView], ['config', 'Configuration', config],
];

const THEMES = { auto: 'Theme: automatic', light: 'Theme: light', dark: 'Theme: dark' };
const THEME_KEY = 'srs-console-theme';

const main = document.getElementById('main');
let site = null;
let view = null;
let isOperator = false;

function show(created, title) {
  view?.destroy?.();
  view = created;
  main.replaceChildren(created.element);
  document.title = title;
  created.update();
}

/** Returns the view of the address: its name and its argument. */
function address() {
  const [, name = '', argument = ''] = /^#\/([a-z]*)(?:\/(.*))?$/.exec(location.hash) ?? [];
  try {
    return [name || 'overview', decodeURIComponent(argument)];
  } catch {
    return ['overview', ''];
  }
}

function route(focus = true) {
  if (!isOperator) return;
  const [name, argument] = address();
  const [id, title, module] = name === 'stream' && argument ? ['streams', argument, stream] : VIEWS.find(([each]) => each === name) ?? VIEWS[0];
  show(module.create({ site, argument }), `${title} – simple-rtmp-server`);
  for (const link of document.querySelectorAll('#nav a')) {
    if (link.dataset.view === id) {
      link.setAttribute('aria-current', 'page');
      // On a phone the links are a row that scrolls.
      link.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    } else link.removeAttribute('aria-current');
  }
  scrollTo(0, 0);
  if (focus) main.querySelector('h1')?.focus({ preventScroll: true });
}

function theme() {
  let current = 'auto';
  try {
    current = localStorage.getItem(THEME_KEY) ?? 'auto';
  } catch {
    // The theme of the system it is.
  }
  const text = h('span');
  const button = h('button', { class: 'side', type: 'button', onclick: () => apply({ auto: 'light', light: 'dark', dark: 'auto' }[current]) }, icon('theme'), text);
  function apply(next) {
    current = next in THEMES ? next : 'auto';
    document.documentElement.dataset.theme = current;
    setText(text, THEMES[current]);
    try {
      localStorage.setItem(THEME_KEY, current);
    } catch {
      // It lasts as long as the page.
    }
  }
  apply(current);
  return button;
}

/** The frame of operators: navigation, state of the connection, login. */
function frame() {
  const links = VIEWS.map(([id, title], at) => h('a', { href: `#/${id === 'overview' ? '' : id}`, 'data-view': id, title: `${title} (key ${at + 1})` }, icon(id), h('span', { text: title })));
  const state = h('p', { id: 'connection', role: 'status' });
  const help = h('button', { class: 'side', type: 'button', onclick: showKeys }, icon('keyboard'), h('span', { text: 'Keys' }));
  const leave = isSignedIn() && h('button', { class: 'side', type: 'button', onclick: () => { signOut(); open(); } }, icon('signout'), h('span', { text: 'Sign out' }));
  const nav = h('nav', { id: 'nav', 'aria-label': 'Views' },
    h('p', { class: 'brand' }, h('b', { text: 'simple-rtmp-server' }), h('span', { text: site.version })),
    h('div', { class: 'views' }, links), h('div', { class: 'foot' }, state, theme(), help, leave));
  document.getElementById('nav')?.remove();
  document.body.insertBefore(nav, main);
  document.body.className = 'operator';
  showConnection();
}

function showConnection() {
  const state = document.getElementById('connection');
  if (!state) return;
  state.className = store.error ? 'bad' : 'good';
  setText(state, store.error ? `${store.error.message.replace(/\.$/, '')}; trying again` : `Connected, ${plural(store.snapshot.server.clients, 'client')}`);
}

function showKeys() {
  const rows = [...VIEWS.map(([, title], at) => [String(at + 1), title]), ['/', 'Filter'], ['Esc', 'Close, clear the filter'], ['← →', 'Move along a plot'], ['?', 'These keys']];
  const dialog = h('dialog', { 'aria-labelledby': 'keys' }, h('h2', { id: 'keys', text: 'Keys' }),
    h('dl', { class: 'keys' }, rows.map(([key, text]) => h('div', {}, h('dt', {}, h('kbd', { text: key })), h('dd', { text })))),
    h('form', { method: 'dialog', class: 'actions' }, h('button', { class: 'quiet', text: 'Close', autofocus: true })));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function onKey(event) {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName);
  if (event.key === 'Escape' && isTyping) document.activeElement.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog')) return;
  const filter = main.querySelector('input.filter:not([hidden])');
  if (event.key === '/' && filter) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === '?' && isOperator) showKeys();
  else if (isOperator && VIEWS[Number(event.key) - 1]) {
    const [id] = VIEWS[Number(event.key) - 1];
    location.hash = `#/${id === 'overview' ? '' : id}`;
  }
}

/** Asks for a login; viewers may stay with what they see. */
function askForLogin(notice) {
  leaveConsole();
  const form = login.create({ notice, check: async () => { await enter(); } });
  show(form, 'Sign in – simple-rtmp-server');
  if (site.page) form.element.append(h('p', { class: 'remark' }, h('a', { href: '#/', text: 'Watch without signing in', onclick: () => setTimeout(() => showViewer()) })));
  form.focus();
}

function leaveConsole() {
  isOperator = false;
  stop();
  stopEvents();
  document.getElementById('nav')?.remove();
  document.body.className = 'visitor';
}

function showViewer() {
  leaveConsole();
  const signInLink = site.has_api ? h('a', { class: 'signin', href: '#/login', onclick: () => setTimeout(() => askForLogin()) }, icon('signin'), 'Sign in') : null;
  show(viewer.create({ site, signInLink }), 'Live streams');
}

/** Opens the console. Throws if the server does not admit whoever asks. */
async function enter() {
  store.role = (await call('session')).role;
  await loadHistory();
  await poll();
  isOperator = true;
  frame();
  route();
  startEvents();
  start((error) => {
    if (error.status !== 401) return true;
    signOut();
    askForLogin('Your login is not valid any more. Sign in again.');
    return false;
  });
}

/** Decides what the visitor gets: the console, a login, or the page for viewers. */
async function open() {
  leaveConsole();
  try {
    site = await readSite();
    if (!site.has_api) return showViewer();
    const { role } = await call('session').catch((error) => {
      if (error.status === 401) return { role: null };
      throw error;
    });
    const wantsLogin = !site.page || address()[0] === 'login';
    if (role === null) {
      const wasSignedIn = isSignedIn();
      signOut();
      return wantsLogin || wasSignedIn ? askForLogin(wasSignedIn ? 'Your login is not valid any more. Sign in again.' : '') : showViewer();
    }
    await enter();
  } catch (error) {
    if (error.status === 401) return site.page ? showViewer() : askForLogin('');
    main.replaceChildren(h('p', { class: 'alarm', role: 'alert', text: `${error.message ?? error} Trying again…` }));
    setTimeout(open, POLL_MS);
  }
}

subscribe(() => {
  showConnection();
  if (store.restarted) toast('The server has been restarted.', 'warn');
  if (isOperator && !store.error) view.update();
});
addEventListener('hashchange', () => route());
document.addEventListener('keydown', onKey);
theme();
open();
