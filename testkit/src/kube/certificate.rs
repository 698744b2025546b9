//! The authority of one control plane, and what it signs: files in PEM, each certificate with its key beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const AUTHORITY: &str = "ca";

/// An authority in a folder: `ca.crt`, `ca.key`.
pub(super) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one in this folder.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let key = KeyPair::generate().context("failed to make the authority's key")?;
        let params = authority_params()?;
        let certificate = params.self_signed(&key).context("failed to sign the authority's certificate")?;
        write(dir, AUTHORITY, &certificate.pem(), &key)?;
        Ok(Self { dir: dir.to_path_buf(), issuer: Issuer::new(params, key) })
    }

    /// Takes up the one that is kept in this folder.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(format!("{AUTHORITY}.key"));
        let pem = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let key = KeyPair::from_pem(&pem).context("failed to understand the authority's key")?;
        Ok(Self { dir: dir.to_path_buf(), issuer: Issuer::new(authority_params()?, key) })
    }

    /// A server's certificate for these names and addresses: `<folder>/<name>.crt` and `.key`.
    pub(super) fn sign_server(&self, name: &str, hosts: &[&str]) -> Result<()> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).context("failed to name a server")?;
        params.distinguished_name = distinguished(name, None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&self.dir, name, &params)
    }

    /// A client's certificate: the API server takes the common name for the user and the organisation for its group.
    /// Written to `<dir>/<file>.crt` and `.key`.
    pub(super) fn sign_client(&self, dir: &Path, file: &str, user: &str, group: Option<&str>) -> Result<()> {
        let mut params = CertificateParams::new(Vec::new()).context("failed to name a client")?;
        params.distinguished_name = distinguished(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(dir, file, &params)
    }

    fn sign(&self, dir: &Path, file: &str, params: &CertificateParams) -> Result<()> {
        let key = KeyPair::generate().with_context(|| format!("failed to make a key for {file}"))?;
        let certificate = params.signed_by(&key, &self.issuer);
        write(dir, file, &certificate.with_context(|| format!("failed to sign a certificate for {file}"))?.pem(), &key)
    }
}

/// The pair of keys that signs the tokens of service accounts: `<name>.key` and `<name>.pub`.
pub(super) fn create_token_keys(dir: &Path, name: &str) -> Result<()> {
    let key = KeyPair::generate().context("failed to make the key of service accounts")?;
    write_file(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
    write_file(&dir.join(format!("{name}.pub")), &key.public_key_pem())
}

/// The same each time: whoever opens the authority again must sign in its very name.
fn authority_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("failed to name the authority")?;
    params.distinguished_name = distinguished("clamor-tests", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn distinguished(common_name: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name
}

fn write(dir: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    write_file(&dir.join(format!("{name}.crt")), certificate)?;
    write_file(&dir.join(format!("{name}.key")), &key.serialize_pem())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
