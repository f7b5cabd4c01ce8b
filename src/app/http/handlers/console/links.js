// Addresses of streams, for players and encoders.

const DEFAULT_VHOST = '__defaultVhost__';

/** Port without which a URL of the scheme is complete. */
const DEFAULT_PORTS = { rtmp: 1935, rtmps: 443, http: 80 };

function host(scheme, port) {
  return location.hostname + (port === DEFAULT_PORTS[scheme] ? '' : `:${port}`);
}

/** Returns the name that viewers see: without the default vhost. */
export function shownName(stream) {
  return stream.vhost === DEFAULT_VHOST ? `${stream.app}/${stream.stream}` : stream.name;
}

/** Returns the URL for OBS without the name of the stream, which OBS calls its key. */
export function appUrl(site, stream, scheme = 'rtmp') {
  const vhost = stream.vhost === DEFAULT_VHOST ? '' : `?vhost=${stream.vhost}`;
  return `${scheme}://${host(scheme, site[`${scheme}_port`])}/${stream.app}${vhost}`;
}

/** Returns the URL to play or publish a stream over RTMP. */
export function rtmpUrl(site, stream, scheme = 'rtmp') {
  const vhost = stream.vhost === DEFAULT_VHOST ? '' : `?vhost=${stream.vhost}`;
  return `${scheme}://${host(scheme, site[`${scheme}_port`])}/${stream.app}/${stream.stream}${vhost}`;
}

/** Returns the URL of a path of `http_server`, from which this page may not come; null without that. */
export function mediaUrl(site, path) {
  if (!path) return null;
  if (site.is_media_here) return new URL(path.replace(/^\//, ''), new URL('..', import.meta.url)).href;
  return site.http_port ? `http://${host('http', site.http_port)}${path}` : null;
}

/** Quotes a word for a shell. Control characters, which a terminal might obey, become `?`. */
export function quoted(word) {
  return `'${word.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?').replaceAll("'", "'\\''")}'`;
}

/** Returns what players and encoders need, as `{ name, text, link }`. */
export function linksOf(site, stream, paths) {
  const links = [];
  const add = (name, text, link = false) => text && links.push({ name, text, link });
  add('RTMP', rtmpUrl(site, stream));
  if (site.rtmps_port) add('RTMPS', rtmpUrl(site, stream, 'rtmps'));
  add('HLS', mediaUrl(site, paths.hls), true);
  add('HTTP-FLV', mediaUrl(site, paths.flv), true);
  return links;
}

/** Returns command lines and fields for programs that play, as `{ name, text }`. */
export function playersOf(site, stream, paths) {
  const vlc = mediaUrl(site, paths.hls) ?? rtmpUrl(site, stream);
  return [
    { name: 'ffplay', text: `ffplay -fflags nobuffer ${quoted(rtmpUrl(site, stream))}` },
    { name: 'VLC', text: `vlc ${quoted(vlc)}` },
    { name: 'record', text: `ffmpeg -i ${quoted(rtmpUrl(site, stream))} -c copy out.flv` },
  ];
}
