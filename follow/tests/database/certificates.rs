//! Certificates of the tests, by openssl(1).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::processes::run;

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
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        new_key(&path("ca.key"));
        let mut request = openssl(
            "req -x509 -days 30 -subj /CN=authority -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:TRUE",
        );
        run(request
            .arg("-key")
            .arg(path("ca.key"))
            .arg("-out")
            .arg(path("ca.pem")));
        Self { directory }
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

    /// Issues a certificate, for example for `DNS:localhost`. It has expired if `days` is negative.
    pub fn issue(&self, user: &str, names: &str, days: i32) -> Certificate {
        let file = |end: &str| self.path(&format!("{}{days}.{end}", names.replace([':', ','], "-")));
        let issued = Certificate {
            certificate: file("pem"),
            key: file("key"),
        };
        new_key(&issued.key);
        let mut request = openssl(&format!("req -new -subj /CN={user}"));
        run(request.arg("-key").arg(&issued.key).arg("-out").arg(file("csr")));
        fs::write(
            file("ext"),
            format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n"),
        )
        .unwrap();
        let mut sign = openssl(&format!("x509 -req -days {days} -CAcreateserial"));
        sign.arg("-CA")
            .arg(self.path("ca.pem"))
            .arg("-CAkey")
            .arg(self.path("ca.key"));
        sign.arg("-in").arg(file("csr")).arg("-extfile").arg(file("ext"));
        run(sign.arg("-out").arg(&issued.certificate));
        issued
    }
}

fn openssl(arguments: &str) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.args(arguments.split(' '));
    openssl
}

fn new_key(path: &Path) {
    run(openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out").arg(path));
}
