// Names the reasons for which a stream cannot play in this browser.

/** Codecs that the outputs carry: HLS by MPEG-TS, and HTTP-FLV as far as mpegts.js takes it apart. */
const CARRIED = {
  hls: { video: ['H.264', 'H.265'], audio: ['AAC', 'MP3'] },
  flv: { video: ['H.264', 'H.265', 'AV1'], audio: ['AAC', 'MP3', 'Opus'] },
};

const TYPES = {
  'H.264': 'video/mp4; codecs="avc1.640028"',
  'H.265': 'video/mp4; codecs="hvc1.1.6.L120.90"',
  AV1: 'video/mp4; codecs="av01.0.08M.08"',
  Opus: 'audio/mp4; codecs="opus"',
};

const MediaSource = window.ManagedMediaSource ?? window.MediaSource;

export const HLS_TYPE = 'application/vnd.apple.mpegurl';

function isDecodable(codec) {
  const type = TYPES[codec];
  return type === undefined || (MediaSource ? MediaSource.isTypeSupported(type) : document.createElement('video').canPlayType(type) !== '');
}

export function hasHlsJs() {
  return window.Hls !== undefined && window.Hls.isSupported();
}

export function hasMpegts() {
  return window.mpegts !== undefined && window.mpegts.isSupported();
}

export function hasNativeHls() {
  return document.createElement('video').canPlayType(HLS_TYPE) !== '';
}

/** Returns the ways to play a stream, the best first: `flv` has the least delay. */
export function waysToPlay({ hls, flv, video, audio }) {
  const carries = (way) => (!video || CARRIED[way].video.includes(video)) && (video || CARRIED[way].audio.includes(audio));
  const ways = [];
  const isDecoded = !video || isDecodable(video);
  if (flv && isDecoded && carries('flv') && (!audio || CARRIED.flv.audio.includes(audio)) && hasMpegts()) ways.push('flv');
  if (hls && isDecoded && carries('hls') && hasHlsJs()) ways.push('hls.js');
  if (hls && carries('hls') && hasNativeHls() && (isDecoded || !hasHlsJs())) ways.push('native');
  return ways;
}

/** Returns the reason for which a stream without a way cannot play, for viewers. */
export function obstacle({ hls, flv, video, audio }) {
  const rest = 'A player such as VLC can play it by its RTMP address.';
  if (!video && !audio) return 'No media has arrived yet.';
  if (video && !CARRIED.hls.video.includes(video) && !(flv && CARRIED.flv.video.includes(video))) {
    return `Browsers get this stream as HLS, which carries H.264 and H.265, and its video is ${video}. ${rest}`;
  }
  if (!video && !CARRIED.hls.audio.includes(audio) && !(flv && CARRIED.flv.audio.includes(audio))) {
    return `Browsers get this stream as HLS, which carries AAC and MP3, and its sound is ${audio}. ${rest}`;
  }
  if (video && !isDecodable(video)) return `This browser has no decoder for ${video}. ${rest}`;
  if (!hls && !flv) return 'HLS is off for this stream, or its first segment is not complete yet.';
  return 'This browser cannot play HLS by itself, and hls.js is not installed on this server. '
    + 'The operator installs it with trunk-scripts/web-players.sh. ' + rest;
}

/** Returns a note on what is missing while the stream plays this way, or an empty text. */
export function missing(way, { video, audio, audio_obstacle: audioObstacle }) {
  const carried = CARRIED[way === 'flv' ? 'flv' : 'hls'].audio;
  if (video && audio && !carried.includes(audio)) return `Without sound: HLS cannot carry ${audio}.`;
  if (video && way !== 'flv' && audioObstacle) return `Without sound: ${audioObstacle}.`;
  if (!video) return 'Sound only.';
  return '';
}
