//! The web, as tools: `http_fetch` reads a page through the guard of [`crate::outbound`], `web_search` asks the search service that the
//! operator has chosen.

mod fetch;
mod search;

pub use fetch::FetchTool;
pub use search::{SearchConfig, SearchKind, SearchTool};
