// QR codes of bytes (ISO/IEC 18004): versions 1 to 10 with error correction level L, enough for 271 bytes.

import { svg } from './dom.js';

/** Bytes of error correction in a block, and blocks, by version. */
const ECC_BYTES = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18];
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4];
/** Bytes of data and error correction, by version. */
const ALL_BYTES = [26, 44, 70, 100, 134, 172, 196, 242, 292, 346];

/** Logarithms in the field of 256 elements with the polynomial 0x11d. */
const EXP = new Uint8Array(512);
const LOG = new Uint8Array(256);
for (let at = 0, value = 1; at < 255; at += 1) {
  EXP[at] = EXP[at + 255] = value;
  LOG[value] = at;
  value = (value << 1) ^ (value & 0x80 ? 0x11d : 0);
}

const multiply = (a, b) => (a && b ? EXP[LOG[a] + LOG[b]] : 0);

/** Returns the error correction of a block (Reed-Solomon). */
function correction(data, length) {
  let generator = [1];
  for (let at = 0; at < length; at += 1) {
    const next = [...generator, 0];
    generator.forEach((factor, index) => { next[index + 1] ^= multiply(factor, EXP[at]); });
    generator = next;
  }
  const rest = [...data, ...new Array(length).fill(0)];
  for (let at = 0; at < data.length; at += 1) {
    const lead = rest[at];
    if (lead) generator.forEach((factor, index) => { rest[at + index] ^= multiply(factor, lead); });
  }
  return rest.slice(data.length);
}

/** Returns the code words of a text in the order of the symbol, and its version. */
function encode(bytes) {
  const dataBytes = (at) => ALL_BYTES[at] - ECC_BYTES[at] * BLOCKS[at];
  const at = ALL_BYTES.findIndex((_, index) => bytes.length + (index < 9 ? 2 : 3) <= dataBytes(index));
  if (at < 0) return null;
  const bits = [];
  const put = (value, length) => { for (let bit = length - 1; bit >= 0; bit -= 1) bits.push((value >> bit) & 1); };
  put(4, 4);
  put(bytes.length, at < 9 ? 8 : 16);
  bytes.forEach((byte) => put(byte, 8));
  put(0, Math.min(4, dataBytes(at) * 8 - bits.length));
  while (bits.length % 8) bits.push(0);
  const data = [];
  for (let bit = 0; bit < bits.length; bit += 8) data.push(bits.slice(bit, bit + 8).reduce((sum, one) => sum * 2 + one, 0));
  for (let pad = 0xec; data.length < dataBytes(at); pad ^= 0xec ^ 0x11) data.push(pad);
  const blocks = [];
  const short = Math.floor(data.length / BLOCKS[at]);
  const shortBlocks = BLOCKS[at] - data.length % BLOCKS[at];
  for (let block = 0, from = 0; block < BLOCKS[at]; block += 1) {
    const length = short + (block < shortBlocks ? 0 : 1);
    const part = data.slice(from, from + length);
    blocks.push({ data: part, ecc: correction(part, ECC_BYTES[at]) });
    from += length;
  }
  const words = [];
  for (let index = 0; index <= short; index += 1) for (const block of blocks) if (index < block.data.length) words.push(block.data[index]);
  for (let index = 0; index < ECC_BYTES[at]; index += 1) for (const block of blocks) words.push(block.ecc[index]);
  return { version: at + 1, words };
}

const MASKS = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2, (x, y) => (x * y) % 2 + (x * y) % 3,
  (x, y) => ((x * y) % 2 + (x * y) % 3) % 2, (x, y) => ((x + y) % 2 + (x * y) % 3) % 2,
];

/** A square of modules: dark ones are 1; `fixed` are those that hold no data. */
class Symbol {
  constructor(version) {
    this.version = version;
    this.size = 17 + 4 * version;
    this.dark = Array.from({ length: this.size }, () => new Uint8Array(this.size));
    this.fixed = Array.from({ length: this.size }, () => new Uint8Array(this.size));
    for (let at = 0; at < this.size; at += 1) {
      this.fix(6, at, at % 2 === 0);
      this.fix(at, 6, at % 2 === 0);
    }
    for (const [x, y] of [[3, 3], [this.size - 4, 3], [3, this.size - 4]]) this.square(x, y, 4, [0, 1, 3]);
    this.align();
    this.format(0);
    if (version >= 7) this.stateVersion();
  }

  fix(x, y, dark) {
    this.dark[y][x] = dark ? 1 : 0;
    this.fixed[y][x] = 1;
  }

  /** Draws rings around a centre; those in `rings` are dark. */
  square(x, y, radius, rings) {
    for (let dy = -radius; dy <= radius; dy += 1) {
      for (let dx = -radius; dx <= radius; dx += 1) {
        const inside = x + dx >= 0 && x + dx < this.size && y + dy >= 0 && y + dy < this.size;
        if (inside) this.fix(x + dx, y + dy, rings.includes(Math.max(Math.abs(dx), Math.abs(dy))));
      }
    }
  }

  align() {
    if (this.version === 1) return;
    const last = this.size - 7;
    const places = this.version < 7 ? [6, last] : [6, (6 + last) / 2, last];
    for (const x of places) {
      for (const y of places) {
        const isFinder = (x === 6 && y === 6) || (x === 6 && y === last) || (x === last && y === 6);
        if (!isFinder) this.square(x, y, 2, [0, 2]);
      }
    }
  }

  /** States level L and the mask, protected by a BCH code. */
  format(mask) {
    const data = (1 << 3) | mask;
    let rest = data << 10;
    for (let bit = 14; bit >= 10; bit -= 1) if ((rest >> bit) & 1) rest ^= 0x537 << (bit - 10);
    const bits = ((data << 10) | rest) ^ 0x5412;
    const bit = (at) => (bits >> at) & 1;
    for (let at = 0; at < 15; at += 1) {
      // Beside the upper left finder, and again beside the two others.
      if (at < 8) this.fix(8, at < 6 ? at : at + 1, bit(at));
      else this.fix(at === 8 ? 7 : 14 - at, 8, bit(at));
      if (at < 8) this.fix(this.size - 1 - at, 8, bit(at));
      else this.fix(8, this.size - 15 + at, bit(at));
    }
    this.fix(8, this.size - 8, true);
  }

  stateVersion() {
    let rest = this.version << 12;
    for (let bit = 17; bit >= 12; bit -= 1) if ((rest >> bit) & 1) rest ^= 0x1f25 << (bit - 12);
    const bits = (this.version << 12) | rest;
    for (let at = 0; at < 18; at += 1) {
      const [long, short] = [this.size - 11 + at % 3, Math.floor(at / 3)];
      this.fix(long, short, (bits >> at) & 1);
      this.fix(short, long, (bits >> at) & 1);
    }
  }

  /** Fills in the code words, in columns of two from the right, up and down. */
  fill(words) {
    let at = 0;
    for (let right = this.size - 1; right >= 1; right -= 2) {
      if (right === 6) right = 5;
      const isUp = ((right + 1) & 2) === 0;
      for (let step = 0; step < this.size; step += 1) {
        const y = isUp ? this.size - 1 - step : step;
        for (const x of [right, right - 1]) {
          if (this.fixed[y][x] || at >= words.length * 8) continue;
          this.dark[y][x] = (words[at >> 3] >> (7 - (at & 7))) & 1;
          at += 1;
        }
      }
    }
  }

  mask(index) {
    for (let y = 0; y < this.size; y += 1) {
      for (let x = 0; x < this.size; x += 1) if (!this.fixed[y][x] && MASKS[index](x, y) === 0) this.dark[y][x] ^= 1;
    }
    this.format(index);
  }

  /** Returns how hard the symbol is to read: long runs and blocks of one colour, and too much of one. */
  penalty() {
    let [sum, dark] = [0, 0];
    for (let a = 0; a < this.size; a += 1) {
      let runs = [0, 0];
      for (let b = 0; b < this.size; b += 1) {
        dark += this.dark[a][b];
        const isRun = [b > 0 && this.dark[a][b] === this.dark[a][b - 1], b > 0 && this.dark[b][a] === this.dark[b - 1][a]];
        runs = runs.map((run, at) => (isRun[at] ? run + 1 : 1));
        for (const run of runs) sum += run === 5 ? 3 : run > 5 ? 1 : 0;
        if (a > 0 && b > 0 && this.dark[a][b] === this.dark[a - 1][b] && isRun[0] && this.dark[a - 1][b - 1] === this.dark[a][b]) sum += 3;
      }
    }
    return sum + Math.floor(Math.abs(dark * 20 / this.size ** 2 - 10)) * 10;
  }
}

/** Returns the modules of a QR code as rows of 0 and 1; null if the text is too long. */
export function modules(text) {
  const code = encode([...new TextEncoder().encode(text)]);
  if (!code) return null;
  const symbol = new Symbol(code.version);
  symbol.fill(code.words);
  const penalties = MASKS.map((_, index) => {
    symbol.mask(index);
    const penalty = symbol.penalty();
    symbol.mask(index);
    return penalty;
  });
  symbol.mask(penalties.indexOf(Math.min(...penalties)));
  return symbol.dark;
}

/** Creates a QR code with the quiet zone that readers need; null if the text is too long. */
export function qrCode(text) {
  const rows = modules(text);
  if (!rows) return null;
  const size = rows.length + 8;
  let path = '';
  rows.forEach((row, y) => row.forEach((dark, x) => { if (dark) path += `M${x + 4} ${y + 4}h1v1h-1z`; }));
  return svg('svg', { class: 'qr', viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': `QR code of ${text}` },
    svg('rect', { class: 'light', width: size, height: size }), svg('path', { class: 'dark', d: path }));
}
