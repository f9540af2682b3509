//! Where the links in mails lead: a page with a button. To look at it uses nothing up, whoever looks (mail servers do); the
//! button does.

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::api::App;
use crate::api::asked::Asked;
use crate::api::read::Params;
use crate::api::write::{Empty, Payload, SMALL};
use crate::error::{Code, Problem};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1.05rem/1.5 system-ui,sans-serif;margin:0;padding:1rem}\
main{max-width:28rem;margin:12vh auto 0}\
h1{font-size:1.5rem;margin:0 0 .75rem}\
label,input,button{display:block;width:100%;box-sizing:border-box;font:inherit}\
input{margin:.25rem 0 1rem;padding:.5rem;border:1px solid #888;border-radius:.375rem}\
button{padding:.6rem;border:0;border-radius:.375rem;background:#0b5fa5;color:#fff;cursor:pointer}\
button:focus-visible,input:focus-visible{outline:3px solid #e08a00;outline-offset:2px}";

/// The page may be styled by this one text, and sends its form back here; nothing else.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).ok()
});

#[derive(Template)]
#[template(path = "account.html")]
struct Page<'a> {
    style: &'static str,
    title: &'a str,
    text: &'a str,
    form: Option<Form<'a>>,
}

/// Which password is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asks {
    Present,
    Next,
}

/// What a page asks for.
#[derive(Default)]
struct Form<'a> {
    action: &'static str,
    token: Option<&'a str>,
    asks_email: bool,
    password: Option<Asks>,
    button: &'static str,
}

/// What stands in a link.
#[derive(Deserialize)]
struct Link {
    token: String,
}

/// A link, and a password.
#[derive(Deserialize)]
struct WithPassword {
    token: String,
    password: String,
}

/// Whose password is forgotten.
#[derive(Deserialize)]
struct Forgotten {
    email: String,
}

/// A form as browsers send it.
struct Sent<T>(T);

impl<T: for<'d> Deserialize<'d> + Send + 'static> Payload for Sent<T> {
    const LIMIT: usize = SMALL;

    fn read(media_type: Option<&str>, body: Bytes) -> Result<Sent<T>, Problem> {
        if media_type != Some("application/x-www-form-urlencoded") {
            let message = "expected application/x-www-form-urlencoded";
            return Err(Problem::new(Code::UnsupportedMediaType, message));
        }
        let malformed = |error| Problem::new(Code::MalformedRequest, format!("the form: {error}"));
        serde_urlencoded::from_bytes(&body).map(Sent).map_err(malformed)
    }
}

/// All of them.
pub(crate) fn routes(app: Arc<App>) -> Router {
    let pages = Router::new()
        .route("/account/verify", get(verify_page).post(verify))
        .route("/account/password", get(password_page).post(password))
        .route("/account/email", get(email_page).post(email))
        .route("/account/forgot", get(forgot_page).post(forgot));
    pages.route_layer(middleware::from_fn(from_here)).with_state(app)
}

/// A form is pushed on our page, not by the page of somebody else; browsers say which it was.
async fn from_here(request: Request, next: Next) -> Result<Response, Problem> {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_elsewhere = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    if is_elsewhere && request.method() == Method::POST {
        return Err(Problem::new(Code::Forbidden, "this form is pushed on its own page alone"));
    }
    Ok(next.run(request).await)
}

fn page(status: StatusCode, title: &str, text: &str, form: Option<Form<'_>>) -> Response {
    let page = Page { style: STYLE, title, text, form };
    let Ok(html) = page.render() else {
        return Problem::new(Code::Internal, "the page could not be made").into_response();
    };
    let mut response = (status, Html(html)).into_response();
    if let Some(policy) = &*POLICY {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.clone());
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What came of it, for people.
fn done(done: Result<&str, Problem>) -> Response {
    match done {
        Ok(text) => page(StatusCode::OK, "Done", text, None),
        Err(problem) => {
            let status = problem.code.status();
            let mut response = page(status, "That did not work", &problem.message, None);
            if status == StatusCode::TOO_MANY_REQUESTS {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(problem.retry_after_s));
            }
            response
        }
    }
}

async fn verify_page(Params(Link { token }): Params<Link>, _: Asked<Empty>) -> Response {
    let form = Form {
        action: "/account/verify",
        token: Some(&token),
        password: Some(Asks::Present),
        button: "It is mine",
        ..Form::default()
    };
    let text = "Give the password that you registered with, and your account is made. If you have not registered, close this page.";
    page(StatusCode::OK, "Prove your address", text, Some(form))
}

async fn verify(State(app): State<Arc<App>>, asked: Asked<Sent<WithPassword>>) -> Response {
    let WithPassword { token, password } = &asked.body.0;
    let made = app.accounts.verify(token, password, &asked.by).await;
    done(made.map(|_| "Your account is made. You can log in now."))
}

async fn password_page(Params(Link { token }): Params<Link>, _: Asked<Empty>) -> Response {
    let form = Form {
        action: "/account/password",
        token: Some(&token),
        password: Some(Asks::Next),
        button: "Choose it",
        ..Form::default()
    };
    page(
        StatusCode::OK,
        "Choose a password",
        "Wherever you are logged in, you are not any more then.",
        Some(form),
    )
}

async fn password(State(app): State<Arc<App>>, asked: Asked<Sent<WithPassword>>) -> Response {
    let WithPassword { token, password } = &asked.body.0;
    let reset = app.accounts.reset_password(token, password, &asked.by).await;
    done(reset.map(|()| "You can log in with it now."))
}

async fn email_page(Params(Link { token }): Params<Link>, _: Asked<Empty>) -> Response {
    let form =
        Form { action: "/account/email", token: Some(&token), button: "It is mine", ..Form::default() };
    page(StatusCode::OK, "Prove your address", "Your account has it when you say so.", Some(form))
}

async fn email(State(app): State<Arc<App>>, asked: Asked<Sent<Link>>) -> Response {
    let confirmed = app.accounts.confirm_email(&asked.body.0.token, &asked.by).await;
    done(confirmed.map(|()| "Your account has this address now."))
}

async fn forgot_page(_: Asked<Empty>) -> Response {
    let form = Form { action: "/account/forgot", asks_email: true, button: "Send a link", ..Form::default() };
    page(StatusCode::OK, "Another password", "A link goes to the address of your account.", Some(form))
}

async fn forgot(State(app): State<Arc<App>>, asked: Asked<Sent<Forgotten>>) -> Response {
    let sent = app.accounts.forgot_password(&asked.body.0.email, &asked.by).await;
    done(sent.map(|()| "If there is an account with this address, a link is on its way."))
}
