//! What the controller counts; names are kube-image-keeper v1's where it had them.

use jiff::Timestamp;
use metrics::gauge;

const CERTIFICATE_END: &str = "kube_image_keeper_controller_certificate_not_after_timestamp";
const IS_LEADER: &str = "kube_image_keeper_controller_is_leader";
const UP: &str = "kube_image_keeper_controller_up";
const BUILD_INFO: &str = "kube_image_keeper_controller_build_info";

/// Says that the program runs, and which.
pub(crate) fn started() {
    gauge!(UP).set(1.0);
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(IS_LEADER).set(0.0);
}

/// Says whether this program leads.
pub(crate) fn leads(leads: bool) {
    gauge!(IS_LEADER).set(f64::from(u8::from(leads)));
}

/// Says when the certificate in a Secret ends, for an alert.
pub(crate) fn certificate_end(secret: &str, end: Option<Timestamp>) {
    // Seconds since 1970 are exact in a double for the next hundred million years.
    #[expect(clippy::cast_precision_loss)]
    let seconds = end.map_or(0.0, |end| end.as_second() as f64);
    gauge!(CERTIFICATE_END, "secret" => secret.to_owned()).set(seconds);
}
