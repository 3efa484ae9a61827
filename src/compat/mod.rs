//! Other servers' APIs, translated: their clients come as they are. An adapter asks the hub for what its request means, and says what
//! happened in its own words; it decides nothing and keeps nothing.

mod jobs;
mod run;
mod threads;
pub mod voltagent;

use std::sync::Arc;

use crate::{api::Surface, transport::Edge};

/// All adapters of this hub.
pub fn surfaces(edge: &Arc<Edge>) -> Vec<Surface> {
    vec![voltagent::surface(edge), jobs::surface(edge), threads::surface(edge)]
}
