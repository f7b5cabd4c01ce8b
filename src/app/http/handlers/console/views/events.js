// Events as they happen.

import { h, KeyedList, setText } from '../dom.js';
import { describe, events, onEvents } from '../events.js';
import { plural } from '../format.js';
import { filterField, matcher } from '../table.js';
import { head } from './parts.js';
import { feedLine } from './overview.js';

const STATES = { off: 'not connected', connecting: 'connecting…', live: 'live', absent: 'This server reports no events.' };

export function create() {
  let held = null;
  const list = h('ol', { class: 'feed long', tabindex: 0, 'aria-label': 'Events, the newest first' });
  const lines = new KeyedList(list, feedLine);
  const none = h('p', { class: 'none', text: 'Nothing has happened yet.' });
  const filter = filterField('Filter events', () => show());
  const state = h('span', { class: 'mark' });
  const hold = h('button', { class: 'quiet', type: 'button', 'aria-pressed': 'false', text: 'Pause', onclick: () => {
    held = held ? null : [...events.list];
    hold.setAttribute('aria-pressed', String(held !== null));
    show();
  } });
  const element = h('div', {}, head('Events', state, filter, hold), h('section', { class: 'card' }, list, none));
  const off = onEvents(show);

  function show() {
    const fits = matcher(filter.value);
    const shown = (held ?? events.list).filter((event) => {
      const { who, text, stream, ip } = describe(event);
      return fits(event.event, who, text, stream, ip);
    });
    lines.show(shown, (event) => event.key);
    none.hidden = shown.length > 0;
    const missed = events.missed > 0 ? `, ${plural(events.missed, 'event')} missed` : '';
    setText(state, held ? `paused, ${plural(events.list.length - held.length, 'new event')}` : STATES[events.state] + missed);
    state.className = `mark ${held ? 'warn' : events.state === 'live' ? 'good' : 'idle'}`;
  }

  show();
  return { element, update() {}, destroy: off };
}
