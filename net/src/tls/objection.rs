//! What a failure of TLS means for whoever has to mend it.

use std::io;

use mcomp_wire::Status;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::Doubt;

/// What went wrong, if TLS did: [`Status::Denied`] if one side does not believe the other's certificate,
/// [`Status::Malformed`] if the bytes make no sense.
pub(crate) fn objection(error: &io::Error) -> Option<(Status, String)> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(reason) => (Status::Denied, format!("its certificate {}", doubt(reason))),
        Error::NoCertificatesPresented => (Status::Denied, "it has shown no certificate".into()),
        Error::AlertReceived(alert) if is_about_ours(*alert) => (
            Status::Denied,
            format!(
                "it does not accept the certificate of this side ({alert:?}): security.tls_cert must be valid, and of an \
                 authority in the security.tls_ca of the far side"
            ),
        ),
        error => (Status::Malformed, format!("TLS with it fails: {error}")),
    })
}

/// Why a certificate is not believed.
pub(super) fn doubt(reason: &CertificateError) -> Doubt {
    use CertificateError as Reason;
    match reason {
        // Two authorities may have the same name.
        Reason::UnknownIssuer | Reason::BadSignature => {
            Doubt::Authority("is not of an authority in security.tls_ca: is it this cluster's?".into())
        }
        Reason::NotValidForNameContext { expected, presented } => Doubt::Unfit(format!(
            "is for {}, and mcomp.cfg has it at {}: issue one with that subjectAltName",
            if presented.is_empty() { "no name at all".into() } else { names(presented) },
            expected.to_str(),
        )),
        Reason::ExpiredContext { time, not_after } => Doubt::Time(format!(
            "expired {} ago: issue a new one, or set the clock that says so",
            span(*not_after, *time)
        )),
        Reason::NotValidYetContext { time, not_before } => {
            Doubt::Time(format!("is valid in {} only: is a clock wrong?", span(*time, *not_before)))
        }
        Reason::InvalidPurpose | Reason::InvalidPurposeContext { .. } => Doubt::Unfit(
            "says that it is for something else: issue one whose extendedKeyUsage has serverAuth and clientAuth".into(),
        ),
        reason => Doubt::Unfit(format!("is not accepted: {reason}")),
    }
}

/// The names of a certificate, without what rustls writes around them, as in `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let name = |text: &String| {
        let inner = text.split_once('(').map_or(text.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    presented.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// As people say it; nobody needs it to the second.
fn span(from: UnixTime, to: UnixTime) -> String {
    let (count, unit) = match to.as_secs().saturating_sub(from.as_secs()) {
        seconds @ 0..120 => (seconds, "seconds"),
        seconds @ 120..7_200 => (seconds / 60, "minutes"),
        seconds @ 7_200..172_800 => (seconds / 3_600, "hours"),
        seconds => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

fn is_about_ours(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}
