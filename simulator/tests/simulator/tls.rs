//! IRC over TLS, under the CA that the simulator writes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clamor_simulator::{Config, TlsConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{Client, simulator};

#[tokio::test]
async fn a_reader_that_trusts_the_ca_joins_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let tls = Some(TlsConfig { listen, ca_file: ca_file.clone() });
    let simulator = simulator(Config { tls, ..Config::default() }).await;

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ca_file).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let addr = simulator.tls_addr.unwrap();
    for name in ["localhost", "127.0.0.1"] {
        let stream = TcpStream::connect(addr).await.unwrap();
        let stream = connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap();
        let mut client = Client::over(stream);
        client.log_in("CAP REQ :twitch.tv/tags").await;
        client.join_first(2).await;
    }
    assert!(simulator.handle().connections().iter().all(|connection| connection.tls));
}

#[tokio::test]
async fn plain_text_on_the_tls_port_is_closed_and_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let tls = Some(TlsConfig { listen, ca_file: folder.path().join("ca.pem") });
    let simulator = simulator(Config { tls, ..Config::default() }).await;
    let stream = TcpStream::connect(simulator.tls_addr.unwrap()).await.unwrap();
    let mut client = Client::over(stream);
    client.send("NICK justinfan1").await;
    client.drain().await;
    let mut unread = TcpStream::connect(simulator.irc_addr).await.unwrap();
    simulator.stop().await;
    assert_eq!(unread.read(&mut [0]).await.unwrap_or(0), 0);
}
