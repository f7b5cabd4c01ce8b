// Numbers and times as people read them.

const UNITS = ['', 'k', 'M', 'G', 'T'];

function scaled(value, base, digits) {
  let unit = 0;
  while (value >= base && unit < UNITS.length - 1) {
    value /= base;
    unit += 1;
  }
  return [value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(digits), UNITS[unit]];
}

/** 2500 kbit/s is `2.5 Mbit/s`. */
export function bitrate(kbps) {
  if (!Number.isFinite(kbps)) return '–';
  if (kbps < 1000) return `${Math.round(kbps)} kbit/s`;
  const [value, unit] = scaled(kbps * 1000, 1000, kbps >= 10000 ? 1 : 2);
  return `${value} ${unit}bit/s`;
}

/** 1048576 is `1.00 MiB`. */
export function bytes(count) {
  if (!Number.isFinite(count)) return '–';
  const [value, unit] = scaled(count, 1024, 1);
  return unit ? `${value} ${unit === 'k' ? 'K' : unit}iB` : `${value} B`;
}

/** A time span with its two largest units: `3 d 4 h`, `1 m 05 s`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [d, hours, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (number) => String(number).padStart(2, '0');
  if (d > 0) return `${d} d ${hours} h`;
  if (hours > 0) return `${hours} h ${two(m)} m`;
  if (m > 0) return `${m} m ${two(s)} s`;
  return `${s} s`;
}

export function percent(share) {
  const value = share * 100;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return '–';
  return Math.abs(ms) >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;
}

export function count(number) {
  return Number.isFinite(number) ? number.toLocaleString('en') : '–';
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
}

export function clock(ms, withSeconds = true) {
  return new Date(ms).toLocaleTimeString('en-GB', withSeconds ? {} : { hour: '2-digit', minute: '2-digit' });
}

/** `30 Nov 2026, 11:20:05` */
export function dateAndTime(ms) {
  return new Date(ms).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
}

/** `H.264 High 4.0, 1920×1080, 25 fps` */
export function videoText(video) {
  if (!video) return '–';
  const size = video.width && video.height ? `${video.width}×${video.height}` : null;
  return [video.codec, size, video.fps > 0 ? `${Math.round(video.fps * 10) / 10} fps` : null].filter(Boolean).join(' · ');
}

/** `AAC · 48 kHz · stereo` */
export function audioText(audio) {
  if (!audio) return '–';
  const channels = { 1: 'mono', 2: 'stereo', 6: '5.1', 8: '7.1' }[audio.channels] ?? (audio.channels ? `${audio.channels} ch` : null);
  return [audio.codec, audio.sample_rate ? `${audio.sample_rate / 1000} kHz` : null, channels].filter(Boolean).join(' · ');
}
