//! Who is asking: tokens, tickets, and the keys they are checked with. Nothing of a token is believed before its signature holds,
//! and whoever is refused learns nothing but that.

mod dev_secret;
mod jwks;
mod ticket;
mod token;

pub use dev_secret::SecretFileError;
pub use ticket::{Ticket, Tickets};
pub use token::{Authenticator, InvalidToken, MintError};
