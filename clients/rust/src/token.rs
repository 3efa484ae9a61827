//! Where tokens come from.

use std::{fmt, sync::Arc};

use futures::future::{BoxFuture, FutureExt, ready};

/// Why there is no token just now.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

type Ask = dyn Fn() -> BoxFuture<'static, Result<String, TokenError>> + Send + Sync;

/// Gives the token for each connection, and a new one when the hub says that the old one expires. Cheap to clone.
///
/// A source that fails counts as an attempt that failed: the client asks again after its usual pause. One that does not answer within
/// [`Options::connect_timeout`](crate::Options::connect_timeout) has failed.
#[derive(Clone)]
pub struct TokenSource(Arc<Ask>);

impl TokenSource {
    /// Asks this every time.
    ///
    /// ```
    /// use agent_hub_client::{Options, TokenSource};
    /// # async fn ask_my_server() -> Result<String, std::io::Error> { Ok(String::new()) }
    ///
    /// let tokens = TokenSource::new(|| async { Ok(ask_my_server().await?) });
    /// let options = Options::new("ws://127.0.0.1:3000", tokens)?;
    /// # Ok::<(), agent_hub_client::InvalidUrl>(())
    /// ```
    pub fn new<F, A>(ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        Self(Arc::new(move || ask().boxed()))
    }

    /// Asks this every time; for tokens that are at hand.
    pub fn from_fn(ask: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || ready(Ok(ask())).boxed()))
    }

    pub(crate) fn ask(&self) -> BoxFuture<'static, Result<String, TokenError>> {
        (self.0)()
    }
}

impl From<&str> for TokenSource {
    /// Always this one.
    fn from(token: &str) -> Self {
        Self::from(token.to_owned())
    }
}

impl From<String> for TokenSource {
    /// Always this one.
    fn from(token: String) -> Self {
        Self::from_fn(move || token.clone())
    }
}

impl From<&String> for TokenSource {
    /// Always this one.
    fn from(token: &String) -> Self {
        Self::from(token.clone())
    }
}

// A token is shown nowhere.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
