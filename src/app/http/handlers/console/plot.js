// Plots over time, as SVG: a theme colours them by style sheet, and nothing has to be installed for them.

import { h, setText, svg } from './dom.js';
import { clock } from './format.js';
import { GAP_MS } from './store.js';

const PAD = { top: 12, right: 4, bottom: 22, left: 4 };

/** Steps of labels on the time axis, in milliseconds. */
const TIME_STEPS = [10e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3];

/** Samples of a small line: a minute. */
const SPARK_SAMPLES = 30;

const LEAST_SPAN_MS = 60e3;

let ids = 0;

/** Returns the smallest round number, such as 2, 5 or 10, that is not below `value`. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.9999) * power;
}

/** Returns lines through points, as data of a path. A gap in time begins a new line. */
function lines(samples, x, y, value) {
  let path = '';
  let last = -Infinity;
  let gap = GAP_MS;
  for (const sample of samples) {
    const number = value(sample);
    if (number === null || number === undefined) continue;
    path += `${sample.at - last > gap ? 'M' : 'L'}${x(sample.at).toFixed(1)} ${y(number).toFixed(1)}`;
    last = sample.at;
    gap = sample.gap ?? GAP_MS;
  }
  return path;
}

/** Closes each line of a path down to `bottom`. */
function areas(path, bottom) {
  return path.split('M').filter(Boolean).map((part) => {
    const points = part.split('L');
    const [first, last] = [points[0], points[points.length - 1]].map((point) => point.split(' ')[0]);
    return `M${part}L${last} ${bottom}L${first} ${bottom}Z`;
  }).join('');
}

/** A plot of one or more series over the last minutes. */
export class Plot {
  /**
   * `series`: `{ name, color, value(sample) }`, where `color` is a class of the style sheet. `format(value)` makes labels;
   * `least` is the smallest upper end of the axis, which is a round number of `unit`.
   */
  constructor({ title, series, format, least = 1, unit = 1, height = 180, minutes = 10 }) {
    Object.assign(this, { title, series, format, least, unit, height, minutes, samples: [] });
    const id = `fade${ids += 1}`;
    this.grid = svg('g', { class: 'grid' });
    this.layers = series.map(({ color }, at) => ({
      gradient: svg('linearGradient', { id: `${id}-${at}`, class: color, x1: 0, y1: 0, x2: 0, y2: 1 },
        svg('stop', { class: 'from', offset: 0 }), svg('stop', { class: 'to', offset: 1 })),
      area: svg('path', { fill: `url(#${id}-${at})` }),
      line: svg('path', { class: `line ${color}` }),
      dot: svg('circle', { class: `dot ${color}`, r: 4, visibility: 'hidden' }),
    }));
    this.cursor = svg('line', { class: 'cursor', visibility: 'hidden' });
    this.svg = svg('svg', { role: 'img', 'aria-label': title, tabindex: 0 },
      svg('defs', {}, this.layers.map((layer) => layer.gradient)), this.grid,
      this.layers.map((layer) => layer.area), this.cursor,
      this.layers.flatMap((layer) => [layer.line, layer.dot]));
    this.tip = h('div', { class: 'tip', hidden: true });
    this.values = series.map(() => h('b'));
    const legend = series.map(({ name, color }, at) => h('span', { class: `key ${color}` }, h('i'), `${name} `, this.values[at]));
    this.legend = h('div', { class: 'legend' }, legend);
    this.element = h('figure', { class: 'plot' }, this.svg, this.tip);
    this.svg.addEventListener('pointermove', (event) => this.point(event.offsetX));
    this.svg.addEventListener('pointerleave', () => this.unpoint());
    this.svg.addEventListener('blur', () => this.unpoint());
    this.svg.addEventListener('keydown', (event) => this.step(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  destroy() {
    this.observer.disconnect();
  }

  /** Shows samples, the oldest first. */
  show(samples) {
    const from = (samples[samples.length - 1]?.at ?? 0) - this.minutes * 60e3;
    this.samples = samples.filter((sample) => sample.at >= from);
    const last = this.samples[this.samples.length - 1];
    this.series.forEach(({ value }, at) => setText(this.values[at], last ? this.format(value(last)) : '–'));
    this.svg.setAttribute('aria-label', `${this.title}: ${this.legend.textContent}`);
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (width === 0) return;
    const bottom = this.height - PAD.bottom;
    this.svg.setAttribute('viewBox', `0 0 ${width} ${this.height}`);
    this.svg.setAttribute('height', this.height);
    const end = this.samples[this.samples.length - 1]?.at ?? Date.now();
    // A short history fills the plot all the same.
    const span = Math.min(this.minutes * 60e3, Math.max(LEAST_SPAN_MS, end - (this.samples[0]?.at ?? end)));
    const numbers = this.samples.flatMap((sample) => this.series.map(({ value }) => value(sample) ?? 0));
    const most = numbers.reduce((one, other) => Math.max(one, other), this.least) * 1.05;
    const top = roundUp(most / this.unit) * this.unit;
    this.x = (at) => PAD.left + (width - PAD.left - PAD.right) * (1 - (end - at) / span);
    this.y = (value) => bottom - (bottom - PAD.top) * value / top;
    this.series.forEach(({ value }, at) => {
      const path = lines(this.samples, this.x, this.y, value);
      this.layers[at].line.setAttribute('d', path);
      this.layers[at].area.setAttribute('d', areas(path, bottom));
    });
    this.drawGrid(width, top, end, span);
    if (this.pointed !== undefined) this.point(this.pointed);
  }

  drawGrid(width, top, end, span) {
    const parts = [];
    const bottom = this.height - PAD.bottom;
    const parted = this.height < 130 ? [0, 1] : [0, 0.5, 1];
    for (const part of parted) {
      const y = this.y(top * part);
      parts.push(svg('line', { x1: PAD.left, x2: width - PAD.right, y1: y, y2: y }));
      if (part > 0) parts.push(svg('text', { x: PAD.left + 2, y: y + 12, text: this.format(top * part) }));
    }
    const step = TIME_STEPS.find((time) => span / time <= width / 90) ?? TIME_STEPS[TIME_STEPS.length - 1];
    for (let at = Math.ceil((end - span) / step) * step; at <= end; at += step) {
      const x = this.x(at);
      const text = clock(at, step < 60e3);
      if (x > 24 && x < width - 24) parts.push(svg('text', { x, y: bottom + 15, class: 'time', text }));
    }
    this.grid.replaceChildren(...parts);
  }

  /** Shows the values nearest to an x position. */
  point(x) {
    if (this.samples.length === 0 || !this.x) return;
    const distance = (sample) => Math.abs(this.x(sample.at) - x);
    const nearest = this.samples.reduce((best, sample) => (distance(sample) < distance(best) ? sample : best));
    this.pointed = x;
    this.nearest = nearest;
    const at = this.x(nearest.at);
    for (const [name, value] of [['x1', at], ['x2', at], ['y1', PAD.top], ['y2', this.height - PAD.bottom], ['visibility', 'visible']]) {
      this.cursor.setAttribute(name, value);
    }
    const rows = this.series.map(({ name, color, value }, index) => {
      const number = value(nearest);
      const { dot } = this.layers[index];
      dot.setAttribute('visibility', number === null ? 'hidden' : 'visible');
      dot.setAttribute('cx', at);
      dot.setAttribute('cy', this.y(number ?? 0));
      return h('span', { class: `key ${color}` }, h('i'), `${name} `, h('b', { text: this.format(number) }));
    });
    this.tip.replaceChildren(h('time', { text: clock(nearest.at) }), ...rows);
    this.tip.hidden = false;
    const width = this.element.clientWidth;
    const left = at > width / 2 ? at - this.tip.offsetWidth - 12 : at + 12;
    this.tip.style.transform = `translate(${Math.max(0, left)}px, ${PAD.top}px)`;
  }

  unpoint() {
    this.pointed = undefined;
    this.tip.hidden = true;
    this.cursor.setAttribute('visibility', 'hidden');
    for (const { dot } of this.layers) dot.setAttribute('visibility', 'hidden');
  }

  /** Moves the cursor by keys. */
  step(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction || this.samples.length === 0) return;
    event.preventDefault();
    const at = this.samples.indexOf(this.nearest);
    const next = this.samples[Math.min(this.samples.length - 1, Math.max(0, (at < 0 ? this.samples.length : at) + direction))];
    this.point(this.x(next.at));
  }
}

/** Creates a small line without axes. `update(numbers)` shows other numbers. */
export function sparkline(color, width = 96, height = 26) {
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'line' });
  const node = svg('svg', { class: `spark ${color}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, area, line);
  node.update = (numbers, most = 0) => {
    const shown = numbers.slice(-SPARK_SAMPLES);
    const top = Math.max(most, ...shown) * 1.1 || 1;
    const points = shown.map((number, at) => {
      const x = width - (shown.length - 1 - at) * (width / (SPARK_SAMPLES - 1));
      return `${x.toFixed(1)} ${(height - 2 - (height - 4) * number / top).toFixed(1)}`;
    });
    const path = points.length > 1 ? `M${points.join('L')}` : '';
    line.setAttribute('d', path);
    area.setAttribute('d', areas(path, height));
  };
  return node;
}
