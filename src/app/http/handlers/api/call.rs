//! The parts of a request that the endpoints need.

use std::net::IpAddr;

use super::answer::{bad_request, problem};
use crate::app::http::response::Response;
use crate::config::ApiRole;
use crate::http::request::{Method, Request};
use crate::http::status::Status;

pub(super) struct Call<'a> {
    pub(super) request: &'a Request,
    pub(super) address: IpAddr,
    pub(super) role: ApiRole,
}

impl Call<'_> {
    /// Returns a parameter of the query; none if it is absent or empty.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.request.query.get(name).filter(|value| !value.is_empty())
    }

    /// Returns a number of the query; none if it is absent. Errors: the problem to answer with.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Box<Response>> {
        let Some(text) = self.query(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (min, max) = (range.start(), range.end());
                Err(bad_request(&format!("the parameter {name} must be a number from {min} to {max}")))
            }
        }
    }

    /// Checks that the caller has a role. Errors: the problem to answer with.
    pub(super) fn require(&self, role: ApiRole) -> Result<(), Box<Response>> {
        if self.role >= role {
            return Ok(());
        }
        let text = format!("this needs the role {}, and yours is {}", role.name(), self.role.name());
        Err(problem(Status::Forbidden, &text, &[]))
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.request.method, Method::Get | Method::Head)
    }
}
