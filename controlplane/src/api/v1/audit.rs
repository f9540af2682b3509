//! `/audit`: who did what, page by page, and all of it at once as JSON or CSV.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use godwit_wire::presentation::Printable;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::App;
use super::super::cursor::{self, Page};
use super::super::envelope::ErrorBody;
use super::super::read::Params;
use super::sending::{self, Broken, Sending};
use super::shown::Reader;
use super::{micros, timestamp};
use crate::auth::{Caller, Scope};
use crate::error::{Code, Problem};
use crate::store::audit::{self, At, Audited, DONE, Filter, REFUSED};
use crate::store::{Connection, changes};

/// Rows that are read at once for an export.
const STEP: i64 = 500;
/// The clock that named a change may be another one than that of its row.
const CLOCKS_US: i64 = 60_000_000;

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: String,
    /// The account, the token of nobody's account, `local` for the command line beside the data, `godwit` for the server itself;
    /// empty for strangers.
    pub actor: String,
    /// The address that the request came from.
    #[schema(example = "192.0.2.1")]
    pub client: Option<String>,
    /// The session, key or token that came with it: what it is, and its id.
    #[schema(example = "key 6f0b8a52-9a0c-4f7e-8f0e-2d5c1f4f7a10")]
    pub came_with: Option<String>,
    /// Of the request; the log of the server has it too.
    pub request_id: String,
    /// What.
    #[schema(example = "record.put")]
    pub action: String,
    /// To what: names of zones with spaces between, or an id.
    #[schema(example = "example.com.")]
    pub object: String,
    /// `done` or `refused`.
    #[schema(example = "done")]
    pub outcome: String,
    /// The code of the error, where it was refused.
    pub code: Option<String>,
    /// The change: what it did stands there, and in the versions of its zones.
    pub change: Option<String>,
    /// The fields that changed, as they were.
    #[schema(value_type = Object)]
    pub before: Option<serde_json::Value>,
    /// The same as they are.
    #[schema(value_type = Object)]
    pub after: Option<serde_json::Value>,
}

impl From<Audited> for Entry {
    fn from(row: Audited) -> Entry {
        let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        Entry {
            id: row.id,
            at: timestamp(row.at_us),
            actor: row.actor,
            client: row.client,
            came_with: row.came_with,
            request_id: row.request_id,
            action: row.action,
            object: row.object,
            outcome: row.outcome,
            code: row.code,
            change: row.change.map(|change| change.to_string()),
            before: json(row.before),
            after: json(row.after),
        }
    }
}

/// Which entries are meant.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// Those of one account, or of one token of nobody's account.
    pub actor: Option<String>,
    /// Those of one action, like `record.put`.
    pub action: Option<String>,
    /// Those about one zone, or one id.
    pub object: Option<String>,
    /// `done` or `refused`.
    pub outcome: Option<String>,
    /// Those of one change.
    pub change: Option<String>,
    /// Not before this time (RFC 3339).
    pub since: Option<String>,
    /// Before this time (RFC 3339).
    pub until: Option<String>,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// The same for all of it at once.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditExportParams {
    /// `json`, which is what is given when left out, or `csv`.
    pub format: Option<String>,
    /// As in the list.
    pub actor: Option<String>,
    /// As in the list.
    pub action: Option<String>,
    /// As in the list.
    pub object: Option<String>,
    /// As in the list.
    pub outcome: Option<String>,
    /// As in the list.
    pub change: Option<String>,
    /// As in the list.
    pub since: Option<String>,
    /// As in the list.
    pub until: Option<String>,
}

/// Lists the audit log, the newest first. So many entries are looked at that a page may have fewer than the limit, or none, and
/// others behind it: it ends where `next` is null.
#[utoipa::path(get, path = "/api/v1/audit", tag = "operation", params(AuditParams), responses(
    (status = 200, description = "A page of it", body = Page<Entry>),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<AuditParams>,
) -> Result<Response, Problem> {
    let limit = cursor::limit(params.limit)?;
    let AuditParams { actor, action, object, outcome, change, since, until, cursor, .. } = params;
    let mut connection = app.readers.acquire().await?;
    let asked = Asked { actor, action, object, outcome, change, since, until };
    let (filter, until) = asked.filter(&mut connection).await?;
    let before = cursor.as_deref().map(read_cursor).transpose()?.map_or(until, |at| at.min(until));
    let (rows, next) = audit::list(&mut connection, &filter, before, limit).await?;
    drop(connection);
    let page = Page { items: rows.into_iter().map(Entry::from).collect(), next: next.map(write_cursor) };
    Ok(Json(page).into_response())
}

/// Gives all that is meant at once, the newest first, as it comes from the database. An answer that breaks off is not whole.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "operation", params(AuditExportParams), responses(
    (status = 200, description = "A list of entries, or CSV with a line of names", body = Vec<Entry>),
    (status = 503, description = "DB_POOL_TIMEOUT: other exports are under way", body = ErrorBody),
))]
pub async fn export(
    State(app): State<Arc<App>>,
    Params(params): Params<AuditExportParams>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = match params.format.as_deref() {
        None | Some("json") => Form::Json,
        Some("csv") => Form::Csv,
        Some(_) => return Err(Problem::new(Code::MalformedRequest, "\"format\": expected json or csv")),
    };
    let AuditExportParams { actor, action, object, outcome, change, since, until, .. } = params;
    let mut transaction = sending::begin(&app, None).await?;
    let asked = Asked { actor, action, object, outcome, change, since, until };
    let (filter, until) = asked.filter(&mut transaction).await?;
    let (media_type, name) = match form {
        Form::Json => ("application/json", "attachment; filename=\"audit.json\""),
        Form::Csv => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"audit.csv\""),
    };
    let refused = Reader::new(&app, &headers, caller)?
        .refused(|caller| caller.scopes.has(Scope::AuditRead) && caller.limits.allow_everything().is_ok());
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_DISPOSITION, HeaderValue::from_static(name)),
    ];
    let body = sending::body(app, "the audit log", refused, move |to| {
        send_all(to, transaction, filter, until, form)
    });
    Ok((headers, body).into_response())
}

/// What both ask for.
struct Asked {
    actor: Option<String>,
    action: Option<String>,
    object: Option<String>,
    outcome: Option<String>,
    change: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl Asked {
    /// As the database is asked, and before which row the list begins.
    async fn filter(self, connection: &mut Connection) -> Result<(Filter, At), Problem> {
        if self.outcome.as_deref().is_some_and(|outcome| outcome != DONE && outcome != REFUSED) {
            return Err(Problem::new(Code::MalformedRequest, "\"outcome\": expected done or refused"));
        }
        let time = |name: &str, text: &str| {
            let read = OffsetDateTime::parse(text, &Rfc3339);
            let expected = || format!("\"{name}\": expected a time like 2026-11-20T19:00:00Z (RFC 3339)");
            read.map(|at| micros(&at)).map_err(|_| Problem::new(Code::MalformedRequest, expected()))
        };
        let mut since_us = self.since.as_deref().map(|text| time("since", text)).transpose()?;
        let mut until_us = self.until.as_deref().map(|text| time("until", text)).transpose()?;
        let no_id = |_| Problem::new(Code::MalformedRequest, "\"change\": expected the id of a change");
        let change: Option<Uuid> = self.change.as_deref().map(str::parse).transpose().map_err(no_id)?;
        if let Some(change) = change {
            // Its row is not older than its name, and of the time of its commit where that is known.
            let named_us = change.get_timestamp().map(|at| {
                let (seconds, nanos) = at.to_unix();
                i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000) + i64::from(nanos / 1_000)
            });
            since_us = since_us.max(named_us.map(|named| named.saturating_sub(CLOCKS_US)));
            if let Some(made) = changes::state(connection, change).await? {
                let made_us = made.committed_at_us;
                since_us = since_us.max(Some(made_us));
                let behind = made_us.saturating_add(1);
                until_us = Some(until_us.map_or(behind, |until| until.min(behind)));
            }
        }
        let Asked { actor, action, object, outcome, .. } = self;
        let filter = Filter { actor, action, object, outcome, change, since_us };
        Ok((filter, (until_us.unwrap_or(i64::MAX), i64::MIN)))
    }
}

fn write_cursor((at_us, id): At) -> String {
    cursor::of_key(&[at_us.to_be_bytes(), id.to_be_bytes()].concat())
}

fn read_cursor(text: &str) -> Result<At, Problem> {
    let malformed = || Problem::new(Code::MalformedRequest, "the cursor is not one that a list gave");
    let octets: [u8; 16] = cursor::key(text)?.try_into().map_err(|_| malformed())?;
    let (at_us, id) = octets.split_at(8);
    let number = |octets: &[u8]| octets.try_into().map(i64::from_be_bytes).map_err(|_| malformed());
    Ok((number(at_us)?, number(id)?))
}

/// What an export is written as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Json,
    Csv,
}

const COLUMNS: &str =
    "id,at,actor,client,came_with,request_id,action,object,outcome,code,change,before,after\r\n";

async fn send_all(
    mut to: Sending,
    mut transaction: Connection,
    filter: Filter,
    until: At,
    form: Form,
) -> Result<(), Broken> {
    to.text.push_str(if form == Form::Csv { COLUMNS } else { "[" });
    let (mut before, mut is_first) = (Some(until), true);
    while let Some(at) = before {
        let (rows, next) = audit::list(&mut transaction, &filter, at, STEP).await?;
        before = next;
        for row in rows {
            match form {
                Form::Csv => write_csv(&row, &mut to.text),
                Form::Json => {
                    to.text.push_str(if is_first { "\n" } else { ",\n" });
                    // What is written here always has a form in JSON.
                    let entry = serde_json::to_string(&Entry::from(row));
                    to.text.push_str(&entry.unwrap_or_default());
                }
            }
            is_first = false;
            to.send_full().await?;
        }
    }
    if form == Form::Json {
        to.text.push_str("\n]\n");
    }
    to.end(transaction).await
}

/// A line of CSV (RFC 4180).
fn write_csv(row: &Audited, text: &mut String) {
    let change = row.change.map(|change| change.to_string());
    let (id, at) = (row.id.to_string(), timestamp(row.at_us));
    let fields = [
        Some(id.as_str()),
        Some(at.as_str()),
        Some(row.actor.as_str()),
        row.client.as_deref(),
        row.came_with.as_deref(),
        Some(row.request_id.as_str()),
        Some(row.action.as_str()),
        Some(row.object.as_str()),
        Some(row.outcome.as_str()),
        row.code.as_deref(),
        change.as_deref(),
        row.before.as_deref(),
        row.after.as_deref(),
    ];
    for (place, field) in fields.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        write_field(field.unwrap_or_default(), text);
    }
    text.push_str("\r\n");
}

/// A field: programs that show tables take what begins with one of these for a formula, so there is an apostrophe before it, and
/// what cannot be seen, or moves what is around it, is escaped.
fn write_field(field: &str, text: &mut String) {
    let mut shown = String::new();
    if field.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '|', '%', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ]) {
        shown.push('\'');
    }
    let _ = write!(shown, "{}", Printable(field));
    text.push('"');
    text.push_str(&shown.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r20_a_field_of_csv_is_no_formula_and_stays_in_its_place() {
        for (field, written) in [
            ("record.put", "\"record.put\""),
            ("", "\"\""),
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\\t=1\""),
            ("\r\n=1", "\"'\\r\\n=1\""),
            ("a\",\"=b\nc", "\"a\"\",\"\"=b\\nc\""),
            ("\u{202e}evil", "\"\\u{202e}evil\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("{\"name\":\"=1\"}", "\"{\"\"name\"\":\"\"=1\"\"}\""),
        ] {
            let mut text = String::new();
            write_field(field, &mut text);
            assert_eq!(text, written, "{field:?}");
        }
    }

    #[test]
    fn a_cursor_reads_back_and_others_are_refused() {
        for at in [(0, 0), (i64::MAX, i64::MIN), (1_764_000_000_000_000, 4711)] {
            assert_eq!(read_cursor(&write_cursor(at)).unwrap(), at);
        }
        for text in ["", "AAAA", "!"] {
            assert_eq!(read_cursor(text).unwrap_err().code, Code::MalformedRequest, "{text}");
        }
    }
}
