// Judges a stream by what its publisher sends and by what its players get.

/** Players start at a keyframe, so they wait for this long at worst. */
const LONG_GOP_MS = 10000;
const HIGH_JITTER_MS = 150;
const FAR_APART_MS = 1000;

/** A stream this young has no figures yet. */
const YOUNG_MS = 5000;

const WORDS = { good: 'Good', warn: 'Fair', bad: 'Bad', idle: 'Waiting' };

/** Returns `{ level, word, reasons }`. `samples` are those of the last minutes. */
export function health(stream, samples) {
  if (stream.state === 'idle') return verdict('idle', ['Nobody publishes it; players wait.']);
  if (stream.state === 'lost') return verdict('bad', ['The publisher is gone, and may come back.']);
  const reasons = [];
  let level = 'good';
  const add = (worse, text) => {
    reasons.push(text);
    if (level !== 'bad') level = worse;
  };
  const first = samples.find((sample) => sample.at > samples[samples.length - 1].at - 60000);
  const isYoung = stream.uptime_ms < YOUNG_MS;
  if (!isYoung && stream.kbps_in === 0) add('bad', 'No media arrives.');
  else if (!isYoung && stream.video && stream.video.kbps === 0) add('warn', 'No video arrives.');
  if (first && stream.stalls > first.stalls) add('warn', 'Input was late by a second or more within the last minute.');
  if (stream.jitter_ms > HIGH_JITTER_MS) add('warn', `Media arrives unevenly: jitter of ${Math.round(stream.jitter_ms)} ms.`);
  if (Math.abs(stream.av_skew_ms ?? 0) > FAR_APART_MS) {
    add('warn', `Audio and video are ${(Math.abs(stream.av_skew_ms) / 1000).toFixed(1)} s apart.`);
  }
  if (stream.gop_ms > LONG_GOP_MS) {
    add('warn', `A keyframe comes every ${Math.round(stream.gop_ms / 1000)} s only: players start late. Set 2 s in the encoder.`);
  }
  if (first && stream.dropped > first.dropped) add('warn', 'Players were too slow for it within the last minute.');
  return verdict(level, reasons);
}

function verdict(level, reasons) {
  return { level, word: WORDS[level], reasons };
}
