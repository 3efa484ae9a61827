//! What an error of the database means for a caller.

use rusqlite::{Error, ErrorCode};

use crate::store::StoreError;

/// As the caller of a store sees it.
pub(super) fn store_error(error: Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => StoreError::NotWritable(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(text),
        Some(_) => StoreError::Failed(text),
        // A column that holds something else than was written into it.
        None => match error {
            Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) | Error::InvalidColumnType(..) => {
                StoreError::Damaged(text)
            }
            _ => StoreError::Failed(text),
        },
    }
}

/// Whether only the statement failed, and the transaction around it can go on.
pub(super) fn is_of_one_statement(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), None | Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch))
}
