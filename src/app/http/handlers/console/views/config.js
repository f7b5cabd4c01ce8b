// The effective configuration, and its reload.

import { call } from '../api.js';
import { h, icon, setText, toast } from '../dom.js';
import { plural } from '../format.js';
import { DataTable, filterField, matcher } from '../table.js';
import { head, may } from './parts.js';

function originCell(setting) {
  const node = h('span');
  node.update = (now) => {
    setText(node, now.origin);
    node.className = now.origin === 'default' ? 'remark' : 'set';
  };
  node.update(setting);
  return node;
}

function planTable() {
  const value = (text) => text ?? '–';
  return new DataTable({
    label: 'Changes', keyOf: (change) => change.directive, empty: 'The file has no changes.',
    columns: [
      { title: 'Directive', class: 'first', text: (change) => change.directive },
      { title: 'Now', text: (change) => value(change.before) },
      { title: 'Then', text: (change) => value(change.after) },
      { title: 'Takes effect', class: 'wide', text: (change) => change.takes_effect },
    ],
  });
}

/** Creates the part that reloads: the plan first, then the deed. */
function reloadPart(onReloaded) {
  const plan = planTable();
  const errors = h('ul', { class: 'errors' });
  const result = h('p', { role: 'status' });
  const apply = h('button', { class: 'primary', type: 'button', text: 'Apply', hidden: true, onclick: () => run(false) });
  const check = h('button', { class: 'quiet', type: 'button', onclick: () => run(true) }, icon('reload'), 'Check the file');
  plan.element.hidden = true;

  async function run(isDry) {
    check.disabled = apply.disabled = true;
    errors.replaceChildren();
    try {
      const { changes } = await call(`reload${isDry ? '?dry_run=1' : ''}`, 'POST');
      plan.element.hidden = false;
      plan.show(changes);
      apply.hidden = !isDry || changes.length === 0;
      const changed = plural(changes.length, 'change');
      setText(result, isDry ? `The file is valid. A reload makes ${changed}.` : `Reloaded: ${changed}.`);
      if (!isDry) {
        toast('The configuration was reloaded.');
        onReloaded();
      }
    } catch (error) {
      plan.element.hidden = true;
      apply.hidden = true;
      setText(result, `${error.message}`);
      errors.replaceChildren(...error.errors.map((text) => h('li', {}, h('code', { text }))));
    }
    check.disabled = apply.disabled = false;
  }

  return h('section', { class: 'card' }, h('h2', { text: 'Reload' }),
    h('p', { class: 'remark', text: 'Reads the configuration file again. Nobody is disconnected, except clients of removed vhosts.' }),
    h('div', { class: 'actions start' }, check, apply), result, errors, plan.element);
}

export function create() {
  let settings = [];
  const table = new DataTable({
    label: 'Configuration', keyOf: (setting) => `${setting.block} ${setting.directive} ${setting.at}`, empty: 'Nothing fits.',
    columns: [
      { title: 'Block', class: 'first', text: (setting) => setting.block || '–' },
      { title: 'Directive', text: (setting) => setting.directive },
      { title: 'Value', class: 'wide mono', text: (setting) => setting.value ?? '–' },
      { title: 'Default', class: 'mono', text: (setting) => setting.default ?? '–' },
      { title: 'From', node: originCell },
      { title: 'A reload applies it', class: 'wide remark', text: (setting) => setting.reload ?? '' },
    ],
  });
  const filter = filterField('Filter directives', () => show());
  const changed = h('input', { type: 'checkbox', id: 'changed', checked: true, onchange: () => show() });
  const sum = h('span', { class: 'remark', role: 'status' });
  const absent = h('p', { class: 'none', hidden: true });
  const element = h('div', {}, head('Configuration', sum, filter), may('admin') && reloadPart(load),
    h('section', { class: 'card flush' }, h('h2', { text: 'Effective values' }, h('label', { class: 'check', for: 'changed' }, changed, ' only what differs from the default')), absent, table.element));

  function show() {
    const fits = matcher(filter.value);
    const shown = settings.filter((setting) => fits(setting.block, setting.directive, setting.value, setting.origin) && (!changed.checked || setting.origin !== 'default'));
    setText(sum, plural(shown.length, 'value'));
    table.show(shown);
  }

  async function load() {
    try {
      settings = (await call('config')).config.map((setting, at) => ({ ...setting, at }));
      show();
    } catch (error) {
      absent.hidden = false;
      table.element.hidden = true;
      setText(absent, error.status === 404 ? 'This server does not tell its configuration.' : error.message);
    }
  }

  load();
  return { element, update() {} };
}
