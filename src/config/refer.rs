//! The check of a client's pageUrl against the hosts of `refer`.

/// Returns whether `page_url` passes the list of hosts of a `refer` directive.
///
/// All pages pass an empty list; an empty pageUrl does not pass a list. The host of the page must equal an item or be a
/// subdomain of it, regardless of case: `www.github.com` passes `github.com`, `evilgithub.com` does not.
///
/// The client itself says its pageUrl. The check prevents embedding in other sites; it is no authentication.
pub fn refer_allows(list: &[String], page_url: &str) -> bool {
    let host = host_of(page_url);
    list.is_empty() || (!host.is_empty() && list.iter().any(|item| is_within(host, item)))
}

/// Compares bytes, since the length of an item may fall inside a character of a hostile host.
fn is_within(host: &str, item: &str) -> bool {
    let (host, item) = (host.as_bytes(), item.as_bytes());
    let Some(before) = host.len().checked_sub(item.len()) else { return false };
    !item.is_empty() && host[before..].eq_ignore_ascii_case(item) && (before == 0 || host[before - 1] == b'.')
}

/// Returns the host of a URL (RFC 3986, section 3.2) without userinfo, port, brackets and trailing dot; empty if there
/// is none.
///
/// The scheme may be absent, as some players send only `host/path`. A backslash ends the host, as in browsers, so that
/// the host of `http://evil.com\@github.com` is not `github.com`.
fn host_of(url: &str) -> &str {
    let url = url.trim();
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => rest,
        _ => url.strip_prefix("//").unwrap_or(url),
    };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match host_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host_port.split(':').next().unwrap_or_default(),
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_taken_out_of_the_url() {
        for (url, host) in [
            ("http://github.com/ossrs/index.html", "github.com"),
            ("https://user:pass@www.github.com:8443/a?b=@c#d", "www.github.com"),
            ("github.com/path", "github.com"),
            ("//github.com", "github.com"),
            ("http://github.com.", "github.com"),
            ("http://[::1]:80/", "::1"),
            ("evil.com/?x=http://github.com", "evil.com"),
            ("http://evil.com\\@github.com/", "evil.com"),
            ("http://evil.com?@github.com/", "evil.com"),
            ("file:///C:/player.html", ""),
            ("", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn a_host_passes_as_a_whole_or_behind_a_dot() {
        let list = ["github.com".to_owned(), "github.io".to_owned()];
        for url in ["http://github.com/a", "http://WWW.GitHub.com/", "http://a.b.github.io:80", "rtmp://github.io"] {
            assert!(refer_allows(&list, url), "{url}");
        }
        for url in
            ["", "http://evilgithub.com/", "http://github.com.evil.com/", "http://com", "http://é.gïthub.com", "/"]
        {
            assert!(!refer_allows(&list, url), "{url}");
        }
    }

    #[test]
    fn without_a_list_everybody_passes() {
        assert!(refer_allows(&[], ""));
        assert!(refer_allows(&[], "http://anywhere.example/"));
        assert!(!refer_allows(&[String::new()], "http://anywhere.example/"));
    }
}
