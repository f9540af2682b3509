//! Parts of a request as typed values, and what is said when they are none.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::auth::limits::Limits;
use crate::auth::{Access, Caller};
use crate::error::{Code, Problem};

/// The one variable segment of the path.
#[derive(Clone, Debug)]
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segment, Problem> {
        let read: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        match read {
            Ok(Path(text)) => Ok(Segment(text)),
            Err(rejection) => Err(Problem::new(Code::MalformedRequest, rejection.body_text())),
        }
    }
}

/// What who asks is narrowed to, and which zones they see.
#[derive(Clone, Debug)]
pub struct Within {
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: Access,
}

impl<S: Send + Sync> FromRequestParts<S> for Within {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Within, Problem> {
        let caller = parts.extensions.get::<Caller>();
        let nobody = || Problem::new(Code::Unauthenticated, "this needs a token");
        let caller = caller.ok_or_else(nobody)?;
        Ok(Within { limits: caller.limits.clone(), access: caller.access.clone() })
    }
}

/// The query string; unknown parameters are refused by the type.
#[derive(Clone, Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, Problem> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match read {
            Ok(Query(value)) => Ok(Params(value)),
            Err(rejection) => Err(Problem::new(Code::MalformedRequest, rejection.body_text())),
        }
    }
}
