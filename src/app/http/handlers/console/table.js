// Tables whose rows stay while their items do, so that focus and selection survive each refresh.

import { h, KeyedList, setAttribute, setText } from './dom.js';

export class DataTable {
  /**
   * `columns`: `{ title, text(item) | node(item), sort(item), class }`; a node of `node(item)` has a function `update(item)`.
   * `empty`: the text for no items. `sortBy`: the column that sorts at first, from its largest value if `descending`.
   */
  constructor({ label, columns, keyOf, empty, sortBy = null, descending = false }) {
    Object.assign(this, { columns, keyOf, sortBy, descending, items: [] });
    const body = h('tbody');
    this.heads = columns.map((column, at) => this.head(column, at));
    this.table = h('table', { 'aria-label': label }, h('thead', {}, h('tr', {}, this.heads)), body);
    this.none = h('p', { class: 'none', text: empty });
    this.element = h('div', { class: 'table' }, this.table, this.none);
    this.rows = new KeyedList(body, (item) => this.row(item));
  }

  head(column, at) {
    if (!column.sort) return h('th', { class: column.class, scope: 'col' }, h('span', { text: column.title }));
    const sort = () => {
      this.descending = this.sortBy === at ? !this.descending : typeof column.sort(this.items[0] ?? {}) === 'number';
      this.sortBy = at;
      this.show(this.items);
    };
    return h('th', { class: column.class, scope: 'col' }, h('button', { type: 'button', text: column.title, onclick: sort }));
  }

  row(item) {
    const cells = this.columns.map((column) => {
      const cell = h('td', { class: column.class, 'data-label': column.title });
      const node = column.node ? column.node(item) : null;
      if (node) cell.append(node);
      cell.update = (now) => (node ? node.update?.(now) : setText(cell, column.text(now)));
      return cell;
    });
    const row = h('tr', {}, cells);
    row.update = (now) => cells.forEach((cell) => cell.update(now));
    return row;
  }

  show(items) {
    this.items = items;
    const sort = this.columns[this.sortBy]?.sort;
    const direction = this.descending ? -1 : 1;
    const compare = (a, b) => {
      const [x, y] = [sort(a), sort(b)];
      return direction * (typeof x === 'number' ? x - y : String(x).localeCompare(String(y), 'en', { numeric: true }));
    };
    this.rows.show(sort ? [...items].sort(compare) : items, this.keyOf);
    this.heads.forEach((head, at) => {
      setAttribute(head, 'aria-sort', at === this.sortBy ? (this.descending ? 'descending' : 'ascending') : null);
    });
    this.table.hidden = items.length === 0;
    this.none.hidden = items.length > 0;
  }
}

/** Returns a function that tells whether one of the texts contains all words of a filter. */
export function matcher(filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return (...texts) => {
    const all = texts.join(' ').toLowerCase();
    return words.every((word) => all.includes(word));
  };
}

/** Creates the field of a filter, which the key `/` reaches. */
export function filterField(label, onInput) {
  return h('input', { type: 'search', class: 'filter', placeholder: label, 'aria-label': label, autocomplete: 'off', spellcheck: 'false', oninput: onInput });
}
