//! From a request to its handler, by the listener that it came by and its path.

use std::sync::Arc;

use super::channel::End;
use super::exchange::Exchange;
use super::response::Response;
use crate::http::request::{Method, Request};
use crate::http::status::Status;

/// A block of the configuration with listeners for HTTP. Each has routes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site(pub &'static str);

pub const HTTP_SERVER: Site = Site("http_server");

pub const HTTP_API: Site = Site("http_api");

pub const EXPORTER: Site = Site("exporter");

/// Server of requests. Called from the coroutine of the connection, and may wait.
pub trait Handler: Send + Sync {
    /// Returns the methods that reach the handler. OPTIONS is answered for it, unless it is in the list.
    fn methods(&self) -> &'static [Method] {
        &[Method::Get, Method::Head]
    }

    /// Returns the maximum size of a body for [`Exchange::read_body`], in bytes. 0: a body is small, and discarded.
    fn max_body(&self) -> u64 {
        0
    }

    /// Returns the response. `None`: the path is not one of this handler, and the next one of the same route is asked;
    /// the body must not have been read then. Errors: the reason for closing the connection; of [`End::Refused`], the
    /// client is told.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End>;
}

impl<H: Handler> Handler for Arc<H> {
    fn methods(&self) -> &'static [Method] {
        (**self).methods()
    }

    fn max_body(&self) -> u64 {
        (**self).max_body()
    }

    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        (**self).handle(request, exchange)
    }
}

/// The handlers by site and path. The longest prefix that fits counts; its handlers are asked in the order of their addition.
#[derive(Default)]
pub struct Router {
    sites: Vec<SiteRoutes>,
}

struct SiteRoutes {
    site: Site,
    /// Longest prefix first.
    routes: Vec<Route>,
}

struct Route {
    prefix: &'static str,
    handlers: Vec<Box<dyn Handler>>,
}

impl Router {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for a site's paths at or below `prefix`, without slash at begin and end: `api/v1`; empty for all paths.
    #[must_use]
    pub fn with(mut self, site: Site, prefix: &'static str, handler: impl Handler + 'static) -> Self {
        let index = self.sites.iter().position(|known| known.site == site).unwrap_or_else(|| {
            self.sites.push(SiteRoutes { site, routes: Vec::new() });
            self.sites.len() - 1
        });
        self.sites[index].add(prefix, Box::new(handler));
        self
    }

    /// Returns the maximum size of the body that a handler of the request reads.
    pub(super) fn max_body(&self, site: Site, request: &Request) -> u64 {
        let handlers = self.handlers(site, &request.path).iter();
        let allowed = handlers.filter(|handler| handler.methods().contains(&request.method));
        allowed.map(|handler| handler.max_body()).max().unwrap_or(0)
    }

    pub(super) fn handle(
        &self,
        site: Site,
        request: &Request,
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<Response, End> {
        let handlers = self.handlers(site, &request.path);
        let mut is_allowed = false;
        for handler in handlers {
            if handler.methods().contains(&request.method) {
                is_allowed = true;
                if let Some(response) = handler.handle(request, exchange)? {
                    return Ok(response);
                }
            }
        }
        Ok(match request.method {
            _ if is_allowed || handlers.is_empty() => Response::text(Status::NotFound, "no such file"),
            Method::Options => Response::options(&self.allowed(site, &request.path)),
            _ => Response::method_not_allowed(&self.allowed(site, &request.path)),
        })
    }

    fn handlers(&self, site: Site, path: &str) -> &[Box<dyn Handler>] {
        let of_site = self.sites.iter().find(|known| known.site == site);
        let route = of_site.and_then(|known| known.routes.iter().find(|route| route.contains(path)));
        route.map_or(&[], |route| &route.handlers)
    }

    /// Returns the methods of a path, for `Allow`.
    fn allowed(&self, site: Site, path: &str) -> String {
        let mut allowed = Vec::new();
        for method in [Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete] {
            if self.handlers(site, path).iter().any(|handler| handler.methods().contains(&method)) {
                allowed.push(method.name());
            }
        }
        allowed.push(Method::Options.name());
        allowed.join(", ")
    }
}

impl SiteRoutes {
    fn add(&mut self, prefix: &'static str, handler: Box<dyn Handler>) {
        if let Some(route) = self.routes.iter_mut().find(|route| route.prefix == prefix) {
            route.handlers.push(handler);
            return;
        }
        let index = self.routes.partition_point(|other| other.prefix.len() >= prefix.len());
        self.routes.insert(index, Route { prefix, handlers: vec![handler] });
    }
}

impl Route {
    /// Returns whether the path is the prefix or below it.
    fn contains(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.prefix);
        rest.is_some_and(|rest| self.prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Limited(&'static [Method], u64);

    impl Handler for Limited {
        fn methods(&self) -> &'static [Method] {
            self.0
        }

        fn max_body(&self) -> u64 {
            self.1
        }

        fn handle(&self, _: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
            Ok(None)
        }
    }

    const OTHER: Site = Site("other");
    const READ: &[Method] = &[Method::Get, Method::Head];

    fn router() -> Router {
        Router::new()
            .with(HTTP_SERVER, "", Limited(READ, 0))
            .with(HTTP_SERVER, "api", Limited(&[Method::Get, Method::Post, Method::Delete], 100))
            .with(OTHER, "", Limited(READ, 20))
            .with(HTTP_SERVER, "api/v1", Limited(READ, 10))
            .with(HTTP_SERVER, "", Limited(READ, 1))
            .with(HTTP_SERVER, "api", Limited(&[Method::Put], 1000))
    }

    #[test]
    fn the_longest_prefix_counts_and_its_handlers_in_their_order() {
        let router = router();
        // The limits tell the handlers apart.
        let found = |site, path| router.handlers(site, path).iter().map(|found| found.max_body()).collect::<Vec<_>>();
        for (site, path, limits) in [
            (HTTP_SERVER, "", &[0, 1][..]),
            (HTTP_SERVER, "live/a.ts", &[0, 1]),
            (HTTP_SERVER, "api", &[100, 1000]),
            (HTTP_SERVER, "api/v2/x", &[100, 1000]),
            (HTTP_SERVER, "api/v1", &[10]),
            (HTTP_SERVER, "api/v1/", &[10]),
            (HTTP_SERVER, "apis", &[0, 1]),
            (HTTP_SERVER, "x/api", &[0, 1]),
            (OTHER, "api", &[20]),
            (Site("none"), "api", &[]),
        ] {
            assert_eq!(found(site, path), limits, "{site:?} {path}");
        }
        let prefixes: Vec<_> = router.sites[0].routes.iter().map(|route| route.prefix).collect();
        assert_eq!(prefixes, ["api/v1", "api", ""]);
    }

    #[test]
    fn methods_and_limits_are_those_of_the_path() {
        let router = router();
        assert_eq!(router.allowed(HTTP_SERVER, "a"), "GET, HEAD, OPTIONS");
        assert_eq!(router.allowed(HTTP_SERVER, "api/v2"), "GET, POST, PUT, DELETE, OPTIONS");
        assert_eq!(router.allowed(Site("none"), "a"), "OPTIONS");
        let limit = |method: &str, path: &str| {
            let request =
                crate::http::request::parse(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            router.max_body(HTTP_SERVER, &request.unwrap().unwrap().0)
        };
        assert_eq!([limit("POST", "/api/a"), limit("PUT", "/api/a"), limit("POST", "/a")], [100, 1000, 0]);
    }
}
