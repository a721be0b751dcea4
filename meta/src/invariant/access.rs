//! Invariants of desired images, grants and credentials.

use std::collections::BTreeMap;

use super::{Violation, ensure};
use crate::id::CredentialId;
use crate::read::Read;
use crate::record::Visibility;
use crate::view;

/// As many images are desired as are counted, each by a tag or by a digest, and none of a list to come.
///
/// # Errors
/// [`Violation`].
pub fn desired_images_are_counted(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "desired images are counted";
    let wanted = view::wanted(state)?;
    let desired = view::list_desired(state, None, usize::MAX)?;
    ensure(desired.len() as u64 == wanted.n_desired, NAME, "number of images")?;
    for (reference, record) in desired {
        let canonical = reference.tag.is_some() != reference.digest.is_some();
        ensure(canonical && record.list <= wanted.list, NAME, &reference)?;
    }
    Ok(())
}

/// Every grant's credential exists, every credential has as many grants as it counts, at least one, and a repository
/// with a grant is known to be private or public.
///
/// # Errors
/// [`Violation`].
pub fn credentials_rest_on_grants(state: &impl Read) -> Result<(), Violation> {
    const NAME: &str = "credentials rest on grants";
    let mut counted: BTreeMap<CredentialId, u64> = BTreeMap::new();
    for grant in view::list_grants(state, None, usize::MAX)? {
        *counted.entry(grant.record.credential).or_default() += 1;
        let seen: Option<Visibility> = view::visibility(state, &grant.repository)?;
        let place = format_args!("{} for {}", grant.namespace, grant.repository).to_string();
        ensure(seen.is_some(), NAME, place)?;
    }
    let credentials = view::list_credentials(state, None, usize::MAX)?;
    let kept: BTreeMap<CredentialId, u64> = credentials.iter().map(|(id, record)| (*id, record.n_grants)).collect();
    ensure(
        kept == counted,
        NAME,
        format_args!("{kept:?} are kept, {counted:?} are used"),
    )
}
