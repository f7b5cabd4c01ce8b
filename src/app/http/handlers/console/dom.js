// Elements. Publishers and clients choose names, so text is only ever set as text: nothing here parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

/** Creates an element: `onclick` and the like are listeners, `text` is its text, everything else an attribute. */
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** Creates an element of SVG. */
export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'text') node.textContent = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets the text of a node if it differs, so that a selection survives and screen readers stay quiet. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or removes an attribute if it differs. */
export function setAttribute(node, name, value) {
  if (value === null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const ICONS = {
  overview: 'M3 12l4-4 4 4 6-7 4 4M3 20h18',
  streams: 'M4 6h11a1 1 0 011 1v10a1 1 0 01-1 1H4a1 1 0 01-1-1V7a1 1 0 011-1zM16 11l5-3v8l-5-3',
  clients: 'M9 11a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 4.5a3.5 3.5 0 010 6.5M18 14.5c2 .8 3.2 2.5 3.5 5.5',
  forwarders: 'M4 12h14M13 6l6 6-6 6M4 6v12',
  recordings: 'M4 5h16v14H4zM8 5v14M16 5v14M4 10h4M4 14h4M16 10h4M16 14h4',
  programs: 'M4 5h16v14H4zM8 10l3 2.5L8 15M13 15h4',
  closes: 'M12 3a9 9 0 100 18 9 9 0 000-18zM9 9l6 6M15 9l-6 6',
  events: 'M4 6h16M4 12h16M4 18h10',
  config: 'M5 4v5M5 13v7M12 4v9M12 17v3M19 4v3M19 11v9M3 11h4M10 15h4M17 9h4',
  theme: 'M12 3a9 9 0 109 9 7 7 0 01-9-9z',
  keyboard: 'M3 7h18v10H3zM7 10h.01M11 10h.01M15 10h.01M8 14h8',
  signout: 'M14 4h5v16h-5M3 12h11M10 8l4 4-4 4',
  signin: 'M10 4H5v16h5M21 12H10M14 8l-4 4 4 4',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  check: 'M5 12l5 5 9-10',
  play: 'M7 5l12 7-12 7z',
  record: 'M12 6a6 6 0 100 12 6 6 0 000-12z',
  stop: 'M7 7h10v10H7z',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  kick: 'M6 6l12 12M18 6L6 18',
  back: 'M15 5l-7 7 7 7',
  reload: 'M20 11a8 8 0 10-2 6M20 5v6h-6',
};

/** Creates an icon, which screen readers skip: put a text or a label beside it. */
export function icon(name) {
  return svg('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] }));
}

/** Creates a button that copies a text, and says so. `text` is called when it is pressed. */
export function copyButton(text, label = 'Copy') {
  const name = h('span', { text: label });
  const button = h('button', { class: 'quiet copy', type: 'button', onclick: copy }, icon('copy'), name);
  async function copy() {
    const copied = await copyText(text());
    name.textContent = copied ? 'Copied' : 'Press Ctrl+C';
    button.classList.toggle('done', copied);
    setTimeout(() => {
      name.textContent = label;
      button.classList.remove('done');
    }, 1500);
  }
  return button;
}

/** Copies a text. Pages of plain HTTP have no clipboard of their own, so a selection is copied there. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', { class: 'offscreen', readonly: true, 'aria-hidden': 'true' });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return copied;
  }
}

/** A list of elements, one for each item, which are kept while their item is in the list. */
export class KeyedList {
  /** `create(item)` returns an element with a function `update(item)`. */
  constructor(parent, create) {
    this.parent = parent;
    this.create = create;
    this.nodes = new Map();
  }

  /** Shows the items in this order. */
  show(items, keyOf) {
    const shown = new Map();
    let next = this.parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      if (shown.has(key)) continue;
      const node = this.nodes.get(key) ?? this.create(item);
      node.update(item);
      shown.set(key, node);
      if (node === next) next = next.nextElementSibling;
      else this.parent.insertBefore(node, next);
    }
    for (const [key, node] of this.nodes) if (!shown.has(key)) node.remove();
    this.nodes = shown;
  }
}

/** Shows a message for a few seconds. */
export function toast(text, level = 'good') {
  const region = document.getElementById('toasts');
  const message = h('p', { class: `toast ${level}`, text });
  region.append(message);
  setTimeout(() => message.remove(), 6000);
}

/**
 * Asks a question. Resolves to null unless it was confirmed, then to the chosen value of `choice`: `{ label, options }`, with
 * options of `[value, text]`.
 */
export function ask(question, detail, action, choice = null) {
  return new Promise((resolve) => {
    const select = choice && h('select', { id: 'choice' }, choice.options.map(([value, text]) => h('option', { value, text })));
    const dialog = h('dialog', { class: 'ask', 'aria-labelledby': 'question' },
      h('h2', { id: 'question', text: question }),
      h('p', { text: detail }),
      choice && h('p', {}, h('label', { for: 'choice', text: choice.label }), ' ', select),
      h('form', { method: 'dialog', class: 'actions' },
        h('button', { class: 'quiet', value: 'no', text: 'Cancel' }),
        h('button', { class: 'danger', value: 'yes', text: action, autofocus: true })));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes' ? select?.value ?? '' : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
