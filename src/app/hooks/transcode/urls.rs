//! RTMP URLs in the arguments of a program: those that lead to this server carry the token by which it knows the program.

/// Returns the ranges of the RTMP URLs in an argument. Several may stand in one, between `|` for the format tee.
fn rtmp_urls(arg: &str) -> Vec<std::ops::Range<usize>> {
    let mut urls = Vec::new();
    let mut from = 0;
    while let Some(at) = arg[from..].find("rtmp").map(|at| from + at) {
        let scheme_end = arg[at..].find("://").map(|end| at + end);
        let scheme = scheme_end.map(|end| &arg[at..end]);
        // rtmp, rtmps, rtmpt, rtmpe, rtmpte, rtmpts.
        let Some(end) =
            scheme_end.filter(|_| scheme.is_some_and(|s| s.len() <= 6 && s.bytes().all(|b| b.is_ascii_lowercase())))
        else {
            from = at + "rtmp".len();
            continue;
        };
        let rest = &arg[end..];
        let url_end = rest.find(|c: char| c == '|' || c == '"' || c == '\'' || c.is_whitespace());
        let url_end = url_end.map_or(arg.len(), |length| end + length);
        urls.push(at..url_end);
        from = url_end;
    }
    urls
}

/// Returns the host of a URL, without the brackets of IPv6.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

pub(super) fn hosts(args: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> =
        args.iter().flat_map(|arg| rtmp_urls(arg).into_iter().map(|url| host(&arg[url]).to_owned())).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Returns an argument whose RTMP URLs to hosts of which `is_own` holds have another parameter.
pub(super) fn with_parameter(arg: &str, parameter: &str, is_own: impl Fn(&str) -> bool) -> String {
    let mut text = arg.to_owned();
    // From the last one, so that the ranges stay valid.
    for range in rtmp_urls(arg).into_iter().rev() {
        let url = &arg[range.clone()];
        if is_own(host(url)) {
            let last = url.rsplit('/').next().unwrap_or_default();
            let separator = if last.contains('?') { '&' } else { '?' };
            text.insert_str(range.end, &format!("{separator}{parameter}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_url_to_this_server_gets_the_parameter() {
        let is_own = |host: &str| matches!(host, "127.0.0.1" | "localhost" | "::1");
        for (arg, expected) in [
            ("rtmp://127.0.0.1/live/s", "rtmp://127.0.0.1/live/s?t=1"),
            ("rtmp://127.0.0.1:1935/live/s?vhost=v", "rtmp://127.0.0.1:1935/live/s?vhost=v&t=1"),
            ("rtmp://127.0.0.1:1935/live?vhost=v/s", "rtmp://127.0.0.1:1935/live?vhost=v/s?t=1"),
            ("rtmps://u:p@localhost/live/s", "rtmps://u:p@localhost/live/s?t=1"),
            ("rtmp://[::1]:1936/live/s", "rtmp://[::1]:1936/live/s?t=1"),
            ("rtmp://example.com/live/s", "rtmp://example.com/live/s"),
            (
                "[f=flv]rtmp://localhost/a/b|[f=flv]rtmp://example.com/c/d|[f=flv]rtmp://127.0.0.1/e/f?x=y",
                "[f=flv]rtmp://localhost/a/b?t=1|[f=flv]rtmp://example.com/c/d|[f=flv]rtmp://127.0.0.1/e/f?x=y&t=1",
            ),
            ("rtmp_live", "rtmp_live"),
            ("rtmp", "rtmp"),
            ("rtmp rtmp://localhost/a/b live=1", "rtmp rtmp://localhost/a/b?t=1 live=1"),
            ("", ""),
        ] {
            assert_eq!(with_parameter(arg, "t=1", is_own), expected, "{arg}");
        }
    }

    #[test]
    fn hosts_are_those_of_all_urls() {
        let args = ["-i", "rtmp://a.com:1/x|rtmps://[::1]/y", "rtmp://a.com/z", "http://b/"].map(str::to_owned);
        assert_eq!(hosts(&args), ["::1", "a.com"]);
    }
}
