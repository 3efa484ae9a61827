//! Names of things. Ids are UUIDs: the hub makes v4, and takes v4 or v7 from clients.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id (v4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The id with exactly these bits, whatever version they claim. For ids that were accepted before.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bits.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// # Errors
            /// [`InvalidId`] unless the text is a hyphenated UUID of version 4 or 7.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // The hyphenated form only, so that one id has one spelling but for the case of its letters.
                if text.len() != 36 {
                    return Err(InvalidId);
                }
                let uuid = Uuid::try_parse(text).map_err(|_| InvalidId)?;
                match uuid.get_version_num() {
                    4 | 7 => Ok(Self(uuid)),
                    _ => Err(InvalidId),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id! {
    /// A session. Unique in the hub.
    SessionId
}
uuid_id! {
    /// A task. Unique in the hub. `executionId`, `runId` and `job_id` of other APIs are task ids.
    TaskId
}

/// The text is not a UUID of version 4 or 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID of version 4 or 7")]
pub struct InvalidId;
