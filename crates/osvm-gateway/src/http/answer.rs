//! Answers that are the gateway's own. Each carries `x-osvm-error` with a word that programs can rely on.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};

use crate::{http::body::AnswerBody, limits, pool::Unavailable, stats::Failure};

/// The header that tells the gateway's own answers from an instance's.
pub(crate) const ERROR_HEADER: &str = "x-osvm-error";

/// Why the gateway answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(&'static str),
    NoRoute,
    MethodNotAllowed,
    RequestTimeout,
    BodyTooLong,
    HeadTooLarge,
    BadGateway,
    Unavailable(Unavailable),
    AnswerTimeout,
}

impl Refusal {
    /// The status, the word for programs, the line for people.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest(why) => (StatusCode::BAD_REQUEST, "bad-request", why),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "no service has this host and path"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this gateway is not a forward proxy")
            }
            Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "the request did not arrive in time")
            }
            Self::BodyTooLong => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-long", "the request's body is longer than the limit")
            }
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                "the request's head is longer than the limit",
            ),
            Self::BadGateway => (StatusCode::BAD_GATEWAY, "broken-answer", "the instance gave no whole answer"),
            Self::Unavailable(Unavailable::NoInstance) => {
                (StatusCode::SERVICE_UNAVAILABLE, "no-instance", "no instance took the request in time")
            }
            Self::Unavailable(Unavailable::Crowded) => {
                (StatusCode::SERVICE_UNAVAILABLE, "crowded", "too many requests wait for an instance")
            }
            Self::Unavailable(Unavailable::Gone) => (StatusCode::SERVICE_UNAVAILABLE, "gone", "the service is gone"),
            Self::AnswerTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "answer-timeout", "the instance did not begin its answer in time")
            }
        }
    }

    /// How it counts; a client's fault does not.
    pub(crate) fn failure(self) -> Option<Failure> {
        match self {
            Self::BadGateway => Some(Failure::BadGateway),
            Self::Unavailable(_) => Some(Failure::Unavailable),
            Self::AnswerTimeout => Some(Failure::Timeout),
            _ => None,
        }
    }

    fn text(self) -> String {
        let (_, word, line) = self.parts();
        format!("{{\"error\":\"{line}\",\"kind\":\"{word}\"}}\n")
    }

    pub(crate) fn response(self) -> Response<AnswerBody> {
        let (status, word, _) = self.parts();
        let mut response = Response::new(AnswerBody::Whole(Bytes::from(self.text())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_HEADER, HeaderValue::from_static(word));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(limits::RETRY_AFTER));
        }
        if matches!(self, Self::BodyTooLong | Self::RequestTimeout) {
            // What is left of the request on the connection is not read.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same as bytes of HTTP/1.1, with further fields. `head_only`: the request was a HEAD.
    pub(crate) fn write(self, out: &mut Vec<u8>, head_only: bool, fields: impl FnOnce(&mut Vec<u8>)) {
        let (status, word, _) = self.parts();
        let text = self.text();
        let retry = match status {
            StatusCode::SERVICE_UNAVAILABLE => format!("retry-after: {}\r\n", limits::RETRY_AFTER),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{ERROR_HEADER}: {word}\r\n{retry}content-length: {}\r\n",
            text.len(),
        );
        out.extend_from_slice(head.as_bytes());
        fields(out);
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(text.as_bytes());
        }
    }
}
