// Measures latency, download and upload over HTTP, several connections at a time, and says what an encoder may send.

const API = 'api/v1/bandwidth';
const PINGS = 12;
const CONNECTIONS = 4;
// Time of each direction, and its start that does not count: TCP looks for its rate.
const PHASE_MS = 6000;
const WARM_UP_MS = 1500;
const SAMPLE_MS = 200;
const DOWNLOAD_BYTES = 256 * 1024 * 1024;
// Uploads grow until one takes about this long, so that slow lines show progress and fast ones are kept busy.
const UPLOAD_MS = 400;
const FIRST_UPLOAD = 64 * 1024;
// Bit rates that live platforms recommend for H.264, in kbit/s.
const SETTINGS = [
  ['1080p at 60 frames/s', 6000],
  ['1080p at 30 frames/s', 4500],
  ['720p at 60 frames/s', 3500],
  ['720p at 30 frames/s', 2500],
  ['480p at 30 frames/s', 1200],
  ['360p at 30 frames/s', 700],
];

const byId = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const show = (id, text) => { byId(id).textContent = text; };

// A test of one browser: its name keeps apart two behind one address.
class Session {
  constructor(key) {
    this.key = key;
    this.name = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  get headers() {
    return this.key ? { 'X-Bandwidth-Key': this.key } : {};
  }

  url(path, parameters = {}) {
    const query = new URLSearchParams({ test: this.name, ...parameters });
    const vhost = new URLSearchParams(location.search).get('vhost');
    if (vhost) query.set('vhost', vhost);
    return `${API}${path}?${query}`;
  }

  async request(path, parameters, options = {}) {
    const response = await fetch(this.url(path, parameters), { cache: 'no-store', headers: this.headers, ...options });
    if (!response.ok) throw new Error(await reason(response));
    return response;
  }
}

async function reason(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answers ${response.status}`;
  }
}

// Round-trip times in milliseconds.
async function ping(session, count, signal) {
  const times = [];
  for (let n = 0; n < count; n += 1) {
    const started = performance.now();
    const response = await session.request('/download', { bytes: 0 }, { signal });
    await response.arrayBuffer();
    times.push(performance.now() - started);
  }
  return times;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? 0 : sorted[Math.floor(sorted.length / 2)];
}

// The mean difference between neighbours.
function jitter(values) {
  let sum = 0;
  for (let n = 1; n < values.length; n += 1) sum += Math.abs(values[n] - values[n - 1]);
  return values.length < 2 ? 0 : sum / (values.length - 1);
}

// Counts bytes over time and draws them.
class Meter {
  constructor(id, offset) {
    this.id = id;
    this.offset = offset;
    this.bytes = 0;
    this.started = performance.now();
    this.samples = [];
    this.counted = null;
    this.last = { at: this.started, bytes: 0 };
  }

  elapsed() {
    return performance.now() - this.started;
  }

  sample() {
    const at = performance.now();
    if (this.counted === null && this.elapsed() >= WARM_UP_MS) this.counted = { at, bytes: this.bytes };
    const kbps = (this.bytes - this.last.bytes) * 8 / Math.max(at - this.last.at, 1);
    this.last = { at, bytes: this.bytes };
    this.samples.push(kbps);
    show(this.id, rate(this.kbps() || kbps));
    byId('progress').value = (this.offset + Math.min(this.elapsed() / PHASE_MS, 1)) / 2;
    draw();
  }

  // The rate without the start.
  kbps() {
    const from = this.counted;
    if (from === null || this.last.at <= from.at) return 0;
    return (this.last.bytes - from.bytes) * 8 / (this.last.at - from.at);
  }
}

let meters = [];

function draw() {
  const highest = Math.max(1, ...meters.flatMap((meter) => meter.samples));
  const step = 600 / (PHASE_MS / SAMPLE_MS);
  for (const meter of meters) {
    const points = meter.samples.map((kbps, n) => `${(n * step).toFixed(1)},${(155 - kbps / highest * 150).toFixed(1)}`);
    byId(`plot-${meter.id}`).setAttribute('points', points.join(' '));
  }
  show('scale', `, up to ${rate(highest)}`);
}

function rate(kbps) {
  if (kbps >= 1000) return `${(kbps / 1000).toFixed(kbps >= 100000 ? 0 : 1)} Mbit/s`;
  return `${Math.round(kbps)} kbit/s`;
}

// Runs `transfer` on several connections for the time of a phase, and measures the latency meanwhile.
async function phase(session, meter, transfer) {
  const abort = new AbortController();
  let failure = null;
  const runs = Array.from({ length: CONNECTIONS }, () => transfer(session, meter, abort.signal).catch((error) => {
    if (!abort.signal.aborted) failure ??= error;
  }));
  const loaded = [];
  const pings = (async () => {
    await sleep(WARM_UP_MS);
    while (!abort.signal.aborted) {
      loaded.push(...await ping(session, 1, abort.signal));
      await sleep(SAMPLE_MS);
    }
  })().catch(() => {});
  while (meter.elapsed() < PHASE_MS && failure === null) {
    await sleep(SAMPLE_MS);
    meter.sample();
  }
  abort.abort();
  await Promise.all([...runs, pings]);
  if (failure !== null) throw failure;
  return loaded;
}

async function download(session, meter, signal) {
  while (!signal.aborted) {
    const response = await session.request('/download', { bytes: DOWNLOAD_BYTES }, { signal });
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      meter.bytes += value.byteLength;
    }
  }
}

async function upload(session, meter, signal) {
  let size = FIRST_UPLOAD;
  const limit = session.limits.max_upload_bytes / 4;
  while (!signal.aborted) {
    const started = performance.now();
    await post(session, noise(size), meter, signal);
    if (performance.now() - started < UPLOAD_MS) size = Math.min(size * 2, limit);
  }
}

// XMLHttpRequest tells the progress of an upload, which fetch does not.
function post(session, body, meter, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let counted = 0;
    const count = (bytes) => {
      meter.bytes += bytes - counted;
      counted = bytes;
    };
    request.open('POST', session.url('/upload'));
    for (const [name, value] of Object.entries(session.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => count(event.loaded);
    request.onload = () => {
      if (request.status === 200) {
        count(body.size);
        resolve();
      } else {
        reject(new Error(`the server answers ${request.status} to an upload`));
      }
    };
    request.onerror = () => reject(new Error('the connection was lost during an upload'));
    request.onabort = () => reject(new Error('aborted'));
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(body);
  });
}

let block = null;

// Bytes without patterns: links that compress must not seem faster than they are.
function noise(size) {
  if (block === null) {
    block = new Uint8Array(FIRST_UPLOAD);
    crypto.getRandomValues(block);
  }
  return new Blob(Array.from({ length: Math.ceil(size / block.length) }, () => block));
}

function verdict(kbps) {
  const exact = kbps * 2 / 3;
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(exact, 1))) - 1);
  const usable = Math.floor(exact / step) * step;
  if (usable < 100) return `Too slow for live video: ${rate(kbps)} upload.`;
  const found = SETTINGS.find(([, needed]) => needed <= usable);
  const settings = found ? `up to ${found[0]}` : 'audio or very small video';
  return `Good for ${rate(usable)} upload with 50 % reserve: ${settings}.`;
}

async function run(key) {
  const session = new Session(key);
  session.limits = await (await session.request('')).json();
  show('status', 'Measuring the latency…');
  // The first request opens the connection.
  await ping(session, 1);
  const times = await ping(session, PINGS);
  const results = { latency_ms: median(times), jitter_ms: jitter(times) };
  show('latency', `${results.latency_ms.toFixed(1)} ms`);
  show('jitter', `${results.jitter_ms.toFixed(1)} ms`);
  const loaded = [];
  for (const [at, id, transfer, text] of [
    [0, 'download', download, 'Measuring the download…'],
    [1, 'upload', upload, 'Measuring the upload…'],
  ]) {
    show('status', text);
    const meter = new Meter(id, at);
    meters.push(meter);
    loaded.push(...await phase(session, meter, transfer));
    results[`${id}_kbps`] = meter.kbps();
    show(id, rate(meter.kbps()));
    show('loaded', loaded.length === 0 ? '–' : `${median(loaded).toFixed(1)} ms`);
  }
  const rounded = Object.fromEntries(Object.entries(results).map(([name, value]) => [name, value.toFixed(3)]));
  await session.request('/result', rounded, { method: 'POST' });
  show('verdict', verdict(results.upload_kbps));
  const limit = session.limits.limit_kbps;
  show('status', limit > 0 ? `Done. The server limits tests to ${rate(limit)}.` : 'Done.');
}

byId('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = byId('start');
  button.disabled = true;
  meters = [];
  for (const id of ['download', 'upload', 'latency', 'jitter', 'loaded']) show(id, '–');
  for (const id of ['plot-download', 'plot-upload']) byId(id).setAttribute('points', '');
  show('verdict', '');
  show('status', 'Connecting…');
  byId('progress').value = 0;
  try {
    await run(byId('key').value);
    byId('progress').value = 1;
  } catch (error) {
    show('status', `Failed: ${error.message}`);
  }
  button.disabled = false;
});

// The key may stand behind the # of the address, which is not sent to the server.
byId('key').value = new URLSearchParams(location.hash.slice(1)).get('key') ?? '';
