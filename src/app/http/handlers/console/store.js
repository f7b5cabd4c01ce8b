// The state of the server as the page knows it: the last snapshot, and its history. That of streams begins when the page is opened.

import { call } from './api.js';

export const POLL_MS = 2000;

/** Samples are further apart than this only while the page or the server was away: plots show a gap there. */
const GAP_FACTOR = 3.5;
export const GAP_MS = GAP_FACTOR * POLL_MS;

/** An hour of the server, and ten minutes of each stream. */
const SERVER_SAMPLES = 1800;
const STREAM_SAMPLES = 300;

export const store = {
  /** The answer of `snapshot`, and the time of its arrival. */
  snapshot: null,
  at: 0,
  role: 'read',
  service: null,
  /** The error of the last request, or null. */
  error: null,
  /** Samples of the server, and of streams by name. */
  history: [],
  streams: new Map(),
};

const listeners = new Set();
let timer = 0;
let totals = null;

/** Calls `listener` after each poll, and returns a function that ends this. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Asks the server once. Throws what the request throws. */
export async function poll() {
  const answer = await call('snapshot');
  if (store.service !== null && store.service !== answer.service) {
    totals = null;
    store.restarted = true;
  }
  Object.assign(store, { snapshot: answer.data, at: Date.now(), service: answer.service, error: null });
  record(store.snapshot, store.at);
}

/** Begins the history of the server with what the server has kept, unless it is an older one. */
export async function loadHistory() {
  if (store.history.length > 0) return;
  const { interval_ms: interval, samples } = await call('history').catch(() => ({ samples: [] }));
  store.history = samples.map((sample) => ({
    at: sample.time_ms,
    in: sample.kbps_in,
    out: sample.kbps_out,
    clients: sample.clients,
    players: sample.players,
    busy: sample.busy,
    memory: sample.memory_bytes,
    gap: GAP_FACTOR * interval,
  }));
}

/** Polls until `stop`. `onError` is told of errors, and returns false to stop. */
export function start(onError) {
  stop();
  const next = async () => {
    // Browsers slow down hidden pages anyway; the plot shows a gap.
    if (!document.hidden) {
      try {
        await poll();
      } catch (error) {
        store.error = error;
        if (!onError(error)) return;
      }
      for (const listener of listeners) listener();
      store.restarted = false;
    }
    timer = setTimeout(next, POLL_MS);
  };
  timer = setTimeout(next, POLL_MS);
}

export function stop() {
  clearTimeout(timer);
}

export function find(name) {
  return store.snapshot.streams.find((stream) => stream.name === name);
}

/** The report of a feature, such as `forward`. */
export function feature(name) {
  return store.snapshot?.features.find((section) => section.name === name);
}

/** A number that a feature reports, or 0. */
export function featureNumber(section, name) {
  return feature(section)?.numbers.find((number) => number.name === name)?.value ?? 0;
}

/** Returns kbit/s between two counts of bytes, or null if the count began anew. */
function rate(before, now, ms) {
  return before === undefined || now < before ? null : (now - before) * 8 / ms;
}

function push(samples, sample, limit) {
  samples.push(sample);
  if (samples.length > limit) samples.shift();
}

function record({ server, streams }, at) {
  const bytesIn = server.publish.bytes_in;
  const bytesOut = server.play.bytes_out + server.forward.bytes_out + featureNumber('http', 'sent_bytes_total');
  const ms = totals ? at - totals.at : 0;
  push(store.history, {
    at,
    in: (totals && rate(totals.in, bytesIn, ms)) ?? server.publish.kbps_in,
    out: (totals && rate(totals.out, bytesOut, ms)) ?? server.play.kbps_out + server.forward.kbps_out,
    clients: server.clients,
    players: server.players,
    busy: server.busy,
    memory: server.resident_bytes,
  }, SERVER_SAMPLES);
  totals = { at, in: bytesIn, out: bytesOut };
  const present = new Set();
  for (const stream of streams) {
    present.add(stream.name);
    let own = store.streams.get(stream.name);
    if (!own) store.streams.set(stream.name, own = { samples: [] });
    const isSame = own.publisher === stream.publisher && own.at !== undefined;
    const measured = isSame ? rate(own.bytes, stream.bytes_in, at - own.at) : null;
    push(own.samples, {
      at,
      kbps: measured ?? stream.kbps_in,
      out: stream.kbps_out,
      fps: stream.video?.fps ?? 0,
      jitter: stream.jitter_ms,
      players: stream.players,
      stalls: stream.stalls,
      dropped: stream.dropped,
    }, STREAM_SAMPLES);
    Object.assign(own, { at, bytes: stream.bytes_in, publisher: stream.publisher });
  }
  for (const name of store.streams.keys()) if (!present.has(name)) store.streams.delete(name);
}

/** The samples of a stream, the oldest first. */
export function samplesOf(name) {
  return store.streams.get(name)?.samples ?? [];
}
