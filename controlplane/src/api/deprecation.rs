//! Routes that will go, or that there is a better one for. Each stands in one list: the description says `deprecated`, and each
//! answer says it in `Deprecation` (RFC 9745), where there is a day also when it ends, in `Sunset` (RFC 8594).

use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::macros::{datetime, format_description};
use utoipa::openapi::path::PathItem;
use utoipa::openapi::{Deprecated as Mark, OpenApi};

/// Since when.
pub(super) const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// Until when.
pub(super) const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// A route that there is a better one for.
struct Deprecated {
    /// As the description has it.
    route: &'static str,
    since: OffsetDateTime,
    /// When it will be gone; `None`: as long as there is a version 1.
    until: Option<OffsetDateTime>,
    /// The better one, which does the same.
    instead: &'static str,
}

const DEPRECATED: &[Deprecated] = &[
    Deprecated {
        route: "/api/v1/dns-records",
        since: datetime!(2026-11-30 00:00 UTC),
        until: None,
        instead: "/api/v1/records",
    },
    Deprecated {
        route: "/api/v1/dns-records/{name}",
        since: datetime!(2026-11-30 00:00 UTC),
        until: None,
        instead: "/api/v1/records/{name}",
    },
];

/// Says it of a route, where it is so.
pub(super) fn announce(route: &str, headers: &mut HeaderMap) {
    if let Some(deprecated) = DEPRECATED.iter().find(|deprecated| deprecated.route == route) {
        deprecated.write(headers);
    }
}

impl Deprecated {
    fn write(&self, headers: &mut HeaderMap) {
        // A date of RFC 9651 §3.3.7, one of RFC 9110 §5.6.7.
        let since = format!("@{}", self.since.unix_timestamp());
        let http_date = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let until = self.until.and_then(|until| until.format(http_date).ok());
        let link = "</docs>; rel=\"deprecation\"; type=\"text/html\"".to_owned();
        for (name, value) in [(DEPRECATION, Some(since)), (SUNSET, until), (LINK, Some(link))] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        }
    }

    /// As the better one, which it is but for the mark.
    fn described(&self, of: &PathItem) -> PathItem {
        let mut item = of.clone();
        let last = self
            .until
            .map_or("as long as there is a version 1".to_owned(), |until| format!("until {}", until.date()));
        let said = format!("Take {} instead. Served {last}.", self.instead);
        for operation in super::described::operations(&mut item) {
            operation.deprecated = Some(Mark::True);
            operation.description = Some(said.clone());
        }
        item
    }
}

/// Puts them into the description.
pub(super) fn describe(description: &mut OpenApi) {
    let paths = &mut description.paths.paths;
    for deprecated in DEPRECATED {
        let item = paths.get(deprecated.route).or_else(|| paths.get(deprecated.instead));
        if let Some(item) = item.map(|item| deprecated.described(item)) {
            paths.insert(deprecated.route.to_owned(), item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_ends_says_since_when_and_until_when() {
        let mut headers = HeaderMap::new();
        let ends = Deprecated {
            route: "/x",
            since: datetime!(2026-11-30 00:00 UTC),
            until: Some(datetime!(2028-01-01 00:00 UTC)),
            instead: "/y",
        };
        ends.write(&mut headers);
        let said = |name| headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
        // RFC 9745 §2.1.
        assert_eq!(said(DEPRECATION), "@1795996800");
        // RFC 8594 §3.
        assert_eq!(said(SUNSET), "Sat, 01 Jan 2028 00:00:00 GMT");
        assert!(said(LINK).contains("rel=\"deprecation\""));
        assert!(ends.described(&PathItem::default()).get.is_none());
    }

    /// A year before it goes is the least that who uses it is given.
    #[test]
    fn what_ends_was_said_to_a_year_before() {
        for deprecated in DEPRECATED {
            let year = time::Duration::days(365);
            assert!(
                deprecated.until.is_none_or(|until| until - deprecated.since >= year),
                "{}",
                deprecated.route
            );
        }
    }
}
