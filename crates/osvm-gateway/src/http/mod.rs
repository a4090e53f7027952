//! HTTP.
pub(crate) mod body;
use crate::connection::{Client, ClientStream, Spoken};
pub(crate) async fn serve<S: ClientStream>(_client: Client, _stream: S, _spoken: Spoken) {}
