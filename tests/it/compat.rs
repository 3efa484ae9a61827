//! Other servers' APIs, as their clients use them.

mod voltagent;
