// Asks for a token, or for a name and a password.

import { signIn, signOut } from '../api.js';
import { h, setText } from '../dom.js';

/** Returns a field with its label. */
function field(label, properties) {
  const input = h('input', properties);
  return { input, row: h('p', { class: 'field' }, h('label', { for: properties.id, text: label }), input) };
}

/** Creates the form. `check()` asks the server with the new login, and throws what it answers. */
export function create({ notice, check }) {
  const token = field('Token', { id: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false' });
  const name = field('Name', { id: 'name', autocomplete: 'username', spellcheck: 'false', autocapitalize: 'none' });
  const password = field('Password', { id: 'password', type: 'password', autocomplete: 'current-password' });
  const stays = h('input', { id: 'stays', type: 'checkbox' });
  const error = h('p', { class: 'error', role: 'alert', text: notice ?? '' });
  const button = h('button', { class: 'primary big', text: 'Sign in' });
  const form = h('form', { class: 'card login', onsubmit: submit },
    h('h1', { tabindex: -1, text: 'Sign in' }), error, name.row, password.row,
    h('p', { class: 'or', 'aria-hidden': 'true', text: 'or' }), token.row,
    h('p', {}, h('label', { class: 'check', for: 'stays' }, stays, ' stay signed in on this device')), button);

  async function submit(event) {
    event.preventDefault();
    if (!token.input.value && !name.input.value) {
      setText(error, 'Enter a name and a password, or a token.');
      name.input.focus();
      return;
    }
    signIn({ token: token.input.value.trim(), name: name.input.value, password: password.input.value, stays: stays.checked });
    button.disabled = true;
    setText(error, '');
    try {
      await check();
    } catch (failure) {
      signOut();
      const wait = failure.status === 429 ? ` Try again in ${failure.retryAfter || 60} s.` : '';
      setText(error, failure.status === 401 ? 'The server does not know this login.' : failure.message + wait);
      (token.input.value ? token.input : password.input).select();
    }
    button.disabled = false;
  }

  return { element: form, update() {}, focus: () => name.input.focus() };
}
