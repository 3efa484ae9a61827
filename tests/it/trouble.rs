//! What goes wrong: each has a documented answer, the session stays usable, and no event is lost.

mod audit;
mod disk;
mod drain;
mod input;
mod json;
mod peers;
mod read_only;
mod vendor;
