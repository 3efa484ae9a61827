//! What happens: sessions, tasks, the log and its readers. Sees traits; never a socket, a status code or SQL.

pub mod admission;
pub mod agent;
pub mod executors;
pub mod hub;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod options;
pub mod quiet;
pub mod quota;
pub mod rate;
pub mod refusal;
pub mod replay;
pub mod revocation;
pub mod scheduler;
pub mod session;
pub mod settings;
pub mod structured;
pub mod task;
pub mod template;

pub use hub::Hub;
pub use identity::{Plan, Principal};
pub use refusal::{Issues, Refusal};
pub use settings::RuntimeSettings;
