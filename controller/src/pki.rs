//! Certificates of all parts and the key that seals credentials: made when absent, renewed long before they end.
//!
//! One authority per install, in the Secret `F-ca`, signs one certificate per part. Everything here needs the API server
//! alone, as every other pod waits for these Secrets. What is due is decided by [`plan`]; [`keeper`] carries it out.
//!
//! The authority changes in three steps, so that no part ever meets a certificate that it cannot check: the next one is
//! trusted first, signs a day later, and the previous one is forgotten after another day.

mod authority;
mod certificate;
mod keeper;
mod part;
mod plan;
mod secrets;
mod webhook;

pub use keeper::{Identity, Keeper, KeeperError};
pub(crate) use part::secret_names;
