//! Certificate authorities of a test, by openssl(1), and the certificates of its servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `openssl ca` needs: it can issue a certificate that has expired, which `openssl x509` cannot.
const CONFIGURATION: &str = "\
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
";

/// A certificate and its private key, both in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate authority in a temporary directory, which has its certificates too.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    /// Creates an authority with this common name.
    pub(crate) fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.cnf"), CONFIGURATION).unwrap();
        fs::write(directory.path().join("index.txt"), "").unwrap();
        let authority = Self { directory };
        authority.openssl(&format!(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN={name} -keyout ca.key \
             -out ca.pem"
        ));
        // All servers have one key.
        authority.openssl("ecparam -name prime256v1 -genkey -noout -out server.key");
        authority
    }

    /// The file for `smtp_tls_CAfile`.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Issues a certificate for a DNS name.
    pub(crate) fn certificate(&self, name: &str) -> Certificate {
        self.issue(name, &format!("{name}.pem"), "-days 2")
    }

    /// Issues a certificate for a DNS name that expires this many days from now.
    pub(crate) fn certificate_for(&self, name: &str, days: u32) -> Certificate {
        let file = format!("{}.{days}.pem", name.replace('*', "any"));
        self.issue(name, &file, &format!("-days {days}"))
    }

    /// Issues a certificate for a DNS name that was valid for a day of 2020.
    pub(crate) fn expired_certificate(&self, name: &str) -> Certificate {
        let day = "-startdate 20200101000000Z -enddate 20200102000000Z";
        self.issue(name, &format!("{name}.expired.pem"), day)
    }

    fn issue(&self, name: &str, file: &str, validity: &str) -> Certificate {
        self.openssl(&format!(
            "req -new -key server.key -subj /CN={name} -addext subjectAltName=DNS:{name} -out server.csr"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in server.csr -out {file} {validity}"
        ));
        Certificate {
            chain: self.directory.path().join(file),
            key: self.directory.path().join("server.key"),
        }
    }

    fn openssl(&self, arguments: &str) {
        openssl(self.directory.path(), arguments);
    }
}

/// Creates a certificate in that directory that is its own authority.
pub(crate) fn self_signed(directory: &Path, name: &str) -> Certificate {
    openssl(
        directory,
        &format!(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN={name} -addext \
             subjectAltName=DNS:{name} -keyout key.pem -out cert.pem"
        ),
    );
    Certificate {
        chain: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    }
}

/// Runs openssl in that directory. No argument contains whitespace.
fn openssl(directory: &Path, arguments: &str) {
    let made = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("openssl, to try TLS with: apt-get install openssl");
    assert!(
        made.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}
