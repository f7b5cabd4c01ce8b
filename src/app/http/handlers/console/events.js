// The events of the server, as they happen.

import { isSignedIn, readEvents } from './api.js';
import { bytes, duration } from './format.js';

const KEPT = 500;
const RETRY_MS = 3000;

/** `list` has the newest event first. `state`: `off`, `connecting`, `live`, `absent`. */
export const events = { list: [], state: 'off', missed: 0 };

const listeners = new Set();
let controller = null;
let last = null;

/** Calls `listener(event)` for each event, and `listener(null)` when the state changes. Returns a function that ends this. */
export function onEvents(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(event) {
  for (const listener of listeners) listener(event);
}

function setState(state) {
  events.state = state;
  tell(null);
}

function take({ id, event, data }) {
  let content;
  try {
    content = JSON.parse(data);
  } catch {
    return;
  }
  if (event === 'hello') {
    if (content.missed === null) events.list.unshift({ event: 'restarted', time_ms: Date.now(), key: `restart-${content.service}` });
    else events.missed += content.missed;
    tell(null);
    return;
  }
  last = id ?? last;
  content.key = id;
  events.list.unshift(content);
  if (events.list.length > KEPT) events.list.pop();
  tell(content);
}

/** Reads events until `stopEvents`, and connects again when the server was away. */
export async function startEvents() {
  stopEvents();
  const mine = controller = new AbortController();
  while (!mine.signal.aborted) {
    setState('connecting');
    const from = last === null ? 'last=200' : `after=${encodeURIComponent(last)}`;
    try {
      await readEvents(`events?${from}`, () => setState('live'), take, mine.signal);
    } catch (error) {
      if (error.status === 404) {
        setState('absent');
        return;
      }
      if (error.status === 401 || error.status === 403) break;
    }
    if (mine.signal.aborted) return;
    setState('connecting');
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
  }
  if (!mine.signal.aborted) setState('off');
}

export function stopEvents() {
  controller?.abort();
  if (!isSignedIn()) Object.assign(events, { list: [], missed: 0 });
}

const TEXTS = {
  connected: (e) => `connected to ${e.app || 'the server'}`,
  refused: (e) => `refused: ${e.reason ?? e.code}`,
  closed: (e) => `left after ${duration((e.seconds ?? 0) * 1000)}: ${e.reason ?? e.code} (${bytes(e.bytes_in)} in, ${bytes(e.bytes_out)} out)`,
  published: (e) => (e.resumed ? 'publishes again' : 'publishes'),
  publisher_lost: () => 'no longer publishes',
  unpublished: () => 'The stream has ended',
  played: () => 'plays',
  stopped: () => 'no longer plays',
  codecs: (e) => `${[e.video, e.audio].filter(Boolean).join(' and ')} in`,
  recorded: (e) => `Recorded to ${e.path}`,
  reloaded: () => 'The configuration was reloaded',
  restarted: () => 'The server has been restarted',
};

const LEVELS = { published: 'good', publisher_lost: 'warn', refused: 'bad', reloaded: 'accent', restarted: 'warn', recorded: 'accent' };

/** Returns an event in words: `{ level, who, text, stream }`. */
export function describe(event) {
  const text = TEXTS[event.event]?.(event) ?? event.event;
  const level = event.event === 'closed' && event.ordinary === false ? 'warn' : LEVELS[event.event] ?? 'idle';
  return { level, who: event.client ? `Client ${event.client}` : '', text, stream: event.name ?? '', ip: event.ip ?? '' };
}
