//! Certificates of the tests, by openssl(1).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::processes::run;

/// The first and the last second of certificates: the clock of this host does not matter.
const VALID: [&str; 2] = ["20200101000000Z", "20400101000000Z"];
const EXPIRED: [&str; 2] = ["20200101000000Z", "20200201000000Z"];

/// openssl-ca(1).
const SETTINGS: &str = "[ca]\ndefault_ca = authority\n[authority]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\n\
                        default_md = sha256\nunique_subject = no\npolicy = any\n[any]\ncommonName = supplied\n";

/// A certificate authority.
pub struct Authority {
    directory: TempDir,
}

/// A certificate and its key, PEM.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Creates one.
    pub fn new() -> Self {
        let authority = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::write(authority.path("openssl.cnf"), SETTINGS).unwrap();
        fs::write(authority.path("index"), "").unwrap();
        let extensions = "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:TRUE\n";
        authority.sign("ca", "authority", extensions, &["-selfsign"], VALID);
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Its own certificate and key, as a server without an authority often has them.
    pub fn itself(&self) -> Certificate {
        Certificate {
            certificate: self.path("ca.pem"),
            key: self.path("ca.key"),
        }
    }

    /// Issues a certificate, for example for `DNS:localhost`.
    pub fn issue(&self, user: &str, names: &str) -> Certificate {
        self.issue_for(user, names, VALID)
    }

    /// Issues a certificate that has expired.
    pub fn issue_expired(&self, user: &str, names: &str) -> Certificate {
        self.issue_for(user, names, EXPIRED)
    }

    fn issue_for(&self, user: &str, names: &str, dates: [&str; 2]) -> Certificate {
        let name = format!("{}-{}", names.replace([':', ','], "-"), dates[1]);
        let extensions = format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n");
        let certificate = self.path("ca.pem");
        let by = ["-cert", certificate.to_str().unwrap()];
        self.sign(&name, user, &extensions, &by, dates)
    }

    /// Creates a key and a certificate of that name, signed by the key of the authority.
    fn sign(&self, name: &str, user: &str, extensions: &str, by: &[&str], dates: [&str; 2]) -> Certificate {
        let file = |end: &str| self.path(&format!("{name}.{end}"));
        run(
            openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out")
                .arg(file("key"))
                .current_dir(self.directory.path()),
        );
        let mut request = openssl(&format!("req -new -subj /CN={user} -key"));
        run(request.arg(file("key")).arg("-out").arg(file("csr")));
        fs::write(file("ext"), extensions).unwrap();
        let [start, end] = dates;
        let mut sign = openssl(&format!(
            "ca -config openssl.cnf -batch -notext -keyfile ca.key -startdate {start} -enddate {end}"
        ));
        sign.args(by).arg("-in").arg(file("csr"));
        sign.arg("-extfile").arg(file("ext")).arg("-out").arg(file("pem"));
        run(sign.current_dir(self.directory.path()));
        Certificate {
            certificate: file("pem"),
            key: file("key"),
        }
    }
}

fn openssl(arguments: &str) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.args(arguments.split(' '));
    openssl
}
