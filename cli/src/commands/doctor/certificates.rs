//! Can the certificate of this machine be read, and will others believe it, today and in two weeks?

use std::path::Path;
use std::time::{Duration, SystemTime};

use mcomp_net::tls::{Doubt, Tls};

use super::finding::{Finding, quoted};
use super::scene::Scene;

const CERTIFICATES: &str = "certificates";

/// How long before its end a certificate is worth a word.
const NOTICE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Nothing at all when there is to be no TLS.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let Some(files) = scene.config.tls() else { return Vec::new() };
    let tls = match Tls::load(&files.ca, &files.cert, &files.key) {
        Ok(tls) => tls,
        Err(error) => {
            let fix = format!("ls -l {} {} {}", quoted(&files.ca), quoted(&files.cert), quoted(&files.key));
            return vec![Finding::fail(CERTIFICATES, files.cert.display(), error, fix)];
        }
    };
    let of_servers = scene.locals.iter().map(|local| &local.entry.address);
    let of_snapshotters = scene.locals.iter().filter_map(|local| local.entry.snapshot.as_ref());
    let mut addresses: Vec<&str> = of_servers.chain(of_snapshotters).map(|address| address.as_str()).collect();
    // Processes of one host are asked for the same.
    addresses.sort_unstable_by_key(|address| host(address));
    addresses.dedup_by_key(|address| host(address));
    judge(&files.cert, &addresses, SystemTime::now(), |address, at| tls.doubt(address, at))
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// What is doubtful about the certificate as that of a client, and of the servers and snapshot processes there.
fn judge(
    cert: &Path,
    addresses: &[&str],
    now: SystemTime,
    doubt: impl Fn(Option<&str>, SystemTime) -> Option<Doubt>,
) -> Vec<Finding> {
    let parts = || std::iter::once(None).chain(addresses.iter().copied().map(Some));
    // Of one certificate, what is wrong with it everywhere is said once.
    let mut doubts: Vec<Doubt> = parts().filter_map(|part| doubt(part, now)).collect();
    doubts.dedup();
    if doubts.is_empty() && doubt(None, now + NOTICE).is_some() {
        let what = "peers believe it, and will do so for less than two weeks";
        return vec![Finding::warn(CERTIFICATES, cert.display(), what, format!("issue a new {}", quoted(cert)))];
    }
    if doubts.is_empty() {
        return vec![Finding::ok(CERTIFICATES, cert.display(), "peers that name the same authorities believe it")];
    }
    let fix = format!("openssl x509 -noout -text -in {}; then issue one that is right", quoted(cert));
    let finding = |doubt: Doubt| match doubt {
        // Its peers may name other authorities.
        Doubt::Authority(what) => Finding::warn(CERTIFICATES, cert.display(), format!("it {what}"), &fix),
        doubt => Finding::fail(CERTIFICATES, cert.display(), format!("it {doubt}"), &fix),
    };
    doubts.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn an_end_to_come_is_a_warning_and_one_that_has_come_a_failure() {
        let now = SystemTime::now();
        let levels = |addresses: &[&str], doubt: &dyn Fn(Option<&str>, SystemTime) -> Option<Doubt>| -> Vec<Level> {
            judge(Path::new("cert.pem"), addresses, now, doubt).iter().map(|finding| finding.level).collect()
        };
        let over = |_: Option<&str>, _: SystemTime| Some(Doubt::Time("expired".into()));
        assert_eq!(levels(&["127.0.0.1:1"], &over), [Level::Fail], "said once");
        let soon = |_: Option<&str>, at: SystemTime| (at > now).then(|| Doubt::Time("expired".into()));
        assert_eq!(levels(&[], &soon), [Level::Warn]);
        let foreign = |_: Option<&str>, _: SystemTime| Some(Doubt::Authority("is foreign".into()));
        assert_eq!(levels(&[], &foreign), [Level::Warn]);
        let elsewhere = |address: Option<&str>, _: SystemTime| address.map(|_| Doubt::Unfit("is for another".into()));
        assert_eq!((levels(&["a:1"], &elsewhere), levels(&[], &elsewhere)), (vec![Level::Fail], vec![Level::Ok]));
    }
}
