// The HTTP API of the server that this page comes from.

/** The folder of the server's paths: of `api/v1/`, of `streams.json`, and of this module's folder. */
const ROOT = new URL('..', import.meta.url);

const STORAGE_KEY = 'srs-console-login';
const TIMEOUT_MS = 10000;

let authorization = readLogin();

/** A failed request. `status` is 0 if the server did not answer. */
export class ApiError extends Error {
  constructor(status, message, errors = [], retryAfter = 0) {
    super(message);
    Object.assign(this, { status, errors, retryAfter });
  }
}

/** Storage may be forbidden by the browser's settings. */
function readLogin() {
  try {
    return sessionStorage.getItem(STORAGE_KEY) ?? localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}

function storeLogin(value, stays) {
  try {
    sessionStorage.removeItem(STORAGE_KEY);
    localStorage.removeItem(STORAGE_KEY);
    if (value !== null) (stays ? localStorage : sessionStorage).setItem(STORAGE_KEY, value);
  } catch {
    // The login then lasts as long as the page.
  }
}

export function isSignedIn() {
  return authorization !== null;
}

/** Uses a token from now on, or a name with a password. `stays`: also after the browser is closed. */
export function signIn({ token, name, password, stays }) {
  const text = new TextEncoder().encode(`${name}:${password}`);
  authorization = token ? `Bearer ${token}` : `Basic ${btoa(String.fromCharCode(...text))}`;
  storeLogin(authorization, stays);
}

export function signOut() {
  authorization = null;
  storeLogin(null);
}

export function pathUrl(path) {
  return new URL(path, ROOT);
}

/** Without `credentials: 'omit'`, browsers would answer a 401 with a dialog of their own. */
async function send(path, method, signal) {
  const headers = { Accept: 'application/json, text/event-stream' };
  if (authorization) headers.Authorization = authorization;
  let response;
  try {
    response = await fetch(pathUrl(path), { method, headers, signal, cache: 'no-store', credentials: 'omit' });
  } catch (error) {
    throw new ApiError(0, error.name === 'TimeoutError' ? 'The server did not answer in time.' : 'The server does not respond.');
  }
  if (response.ok) return response;
  const text = await response.text().catch(() => '');
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Some refusals are plain text.
  }
  const detail = problem.detail ?? text.trim().replace(/^\d+ [^:]*: /, '') ?? response.statusText;
  throw new ApiError(response.status, detail, problem.errors ?? [], Number(response.headers.get('Retry-After')) || 0);
}

async function getJson(path, method = 'GET') {
  const response = await send(path, method, AbortSignal.timeout(TIMEOUT_MS));
  try {
    return await response.json();
  } catch {
    throw new ApiError(0, 'The answer of the server is incomplete.');
  }
}

/** Calls the API. Answers of its older paths have a `code`, which is 0 unless they failed. */
export async function call(path, method = 'GET') {
  const answer = await getJson(`api/v1/${path}`, method);
  if (answer.code) throw new ApiError(200, `The server refused: code ${answer.code}.`);
  return answer;
}

/** The facts about this server that need no login. */
export function site() {
  return getJson('console/site.json');
}

/** The list that viewers see. */
export function publicStreams() {
  return getJson('streams.json');
}

/** Reads server-sent events until they end. Calls `onEvent({ id, event, data })`. EventSource cannot send a login. */
export async function readEvents(path, onOpen, onEvent, signal) {
  const response = await send(`api/v1/${path}`, 'GET', signal);
  if (!(response.headers.get('Content-Type') ?? '').startsWith('text/event-stream')) {
    throw new ApiError(404, 'This server has no events.');
  }
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let message = {};
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (message.data !== undefined) onEvent(message);
        message = {};
        continue;
      }
      const [, name, text] = /^([^:]*)(?:: ?(.*))?$/.exec(line);
      if (name === 'data' && message.data !== undefined) message.data += `\n${text ?? ''}`;
      else if (name !== '') message[name] = text ?? '';
    }
  }
}
