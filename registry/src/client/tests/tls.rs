//! Whom the client believes over TLS, with certificates made by openssl (`tls/make.sh`).

use super::*;
use crate::client::trust::{Authorities, Trust};
use rustls::{
    CertificateError, ClientConnection, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::path::Path;

/// A file of `tls/`.
fn pem(name: &str) -> &'static str {
    match name {
        "root.crt" => include_str!("tls/root.crt"),
        "alone.crt" => include_str!("tls/alone.crt"),
        "alone.key" => include_str!("tls/alone.key"),
        "stranger.crt" => include_str!("tls/stranger.crt"),
        "server.key" => include_str!("tls/server.key"),
        "leaf.crt" => include_str!("tls/leaf.crt"),
        "expired.crt" => include_str!("tls/expired.crt"),
        "other.crt" => include_str!("tls/other.crt"),
        "client.crt" => include_str!("tls/client.crt"),
        "client.key" => include_str!("tls/client.key"),
        other => panic!("there is no `{other}`"),
    }
}

fn server(certificate: &str, key: &str, wants_client: bool) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(pem(certificate).as_bytes()).expect("certificate")];
    let key = PrivateKeyDer::from_pem_slice(pem(key).as_bytes()).expect("key");
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if wants_client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem("root.crt").as_bytes()).expect("root")).expect("add");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("verifier"))
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(builder.with_single_cert(chain, key).expect("server"))
}

/// What a handshake in memory ends with.
fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: rustls::ClientConfig,
    name: &str,
) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("client");
    let mut server = ServerConnection::new(server).expect("server");
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("write");
        }
        server.read_tls(&mut &bytes[..]).expect("read");
        let answered = server.process_new_packets();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("write");
        }
        client.read_tls(&mut &bytes[..]).expect("read");
        client.process_new_packets()?;
        answered?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

fn write(folder: &Path, host: &str, files: &[(&str, &str)]) {
    let folder = folder.join(host);
    std::fs::create_dir_all(&folder).expect("folder");
    for (name, from) in files {
        std::fs::write(folder.join(name), pem(from)).expect("write");
    }
}

fn address(text: &str) -> reqwest::Url {
    reqwest::Url::parse(text).expect("address")
}

#[test]
fn certificates_are_believed_as_docker_believes_them() {
    enum End {
        Believed,
        Refused(fn(&CertificateError) -> bool),
    }
    use End::{Believed, Refused};
    let unknown: fn(&CertificateError) -> bool = |error| matches!(error, CertificateError::UnknownIssuer);
    let name: fn(&CertificateError) -> bool = |error| {
        matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
    };
    let dates: fn(&CertificateError) -> bool =
        |error| matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. });
    let kind: fn(&CertificateError) -> bool = |error| matches!(error, CertificateError::Other(_));
    for (ca, certificate, key, host, expected) in [
        ("root.crt", "leaf.crt", "server.key", "registry.test", Believed),
        ("root.crt", "other.crt", "server.key", "registry.test", Refused(name)),
        ("root.crt", "expired.crt", "server.key", "registry.test", Refused(dates)),
        ("stranger.crt", "leaf.crt", "server.key", "registry.test", Refused(unknown)),
        // an authority's certificate in a server's place: only where it is trusted itself, and for its names
        ("alone.crt", "alone.crt", "alone.key", "registry.test", Believed),
        ("alone.crt", "alone.crt", "alone.key", "192.0.2.7", Believed),
        ("alone.crt", "alone.crt", "alone.key", "other.test", Refused(name)),
        ("root.crt", "alone.crt", "alone.key", "registry.test", Refused(kind)),
        ("stranger.crt", "alone.crt", "alone.key", "registry.test", Refused(kind)),
    ] {
        let folders = tempfile::tempdir().expect("folder");
        write(folders.path(), "registry.test:5000", &[("ca.crt", ca)]);
        let trust = Trust { authorities: None, folders: vec![folders.path().to_owned()] };
        let folder = trust.folder(&address("https://registry.test:5000/v2/")).expect("folder");
        let by_folder = trust.tls(Some(&folder), true).expect("settings");
        let file = folder.join("ca.crt");
        let read = Authorities::from_pem(&file, &std::fs::read(&file).expect("file")).expect("authorities");
        let by_file =
            Trust { authorities: Some(read), folders: Vec::new() }.tls(None, true).expect("settings");
        for client in [by_folder, by_file] {
            let ended = handshake(server(certificate, key, false), client, host);
            match (&ended, &expected) {
                (Ok(()), Believed) => {}
                (Err(rustls::Error::InvalidCertificate(error)), Refused(reason)) if reason(error) => {}
                _ => panic!("{certificate} for {host} under {ca}: {ended:?}"),
            }
        }
    }
}

#[test]
fn a_host_s_folder_is_found_by_name_and_port() {
    let (first, second) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    for host in ["r.test", "r.test:5000", "docker.io", "both.test"] {
        write(second.path(), host, &[]);
    }
    write(first.path(), "both.test:443", &[]);
    let trust = Trust { authorities: None, folders: vec![first.path().to_owned(), second.path().to_owned()] };
    for (url, expected) in [
        ("https://r.test/v2/", Some(second.path().join("r.test"))),
        ("https://r.test:443/v2/", Some(second.path().join("r.test"))),
        ("https://r.test:5000/", Some(second.path().join("r.test:5000"))),
        ("https://r.test:5001/", None),
        ("https://x.r.test/", None),
        ("https://registry-1.docker.io/v2/", Some(second.path().join("docker.io"))),
        ("https://both.test/", Some(first.path().join("both.test:443"))),
    ] {
        assert_eq!(trust.folder(&address(url)), expected, "{url}");
    }
}

#[test]
fn unusable_files_are_named() {
    let folders = tempfile::tempdir().expect("folder");
    write(folders.path(), "no-key.test", &[("client.cert", "client.crt")]);
    write(folders.path(), "empty.test", &[]);
    std::fs::write(folders.path().join("empty.test/ca.crt"), "nothing\n").expect("write");
    let trust = Trust { authorities: None, folders: vec![folders.path().to_owned()] };
    for (host, file) in [("no-key.test", "client.key"), ("empty.test", "ca.crt")] {
        let folder = trust.folder(&address(&format!("https://{host}/"))).expect("folder");
        let error = trust.tls(Some(&folder), false).err().or_else(|| trust.tls(Some(&folder), true).err());
        let words = error.expect("an error").to_string();
        assert!(words.contains(file), "{words}");
    }
}

/// A registry that answers every request over TLS with an empty list of tags.
fn serve(config: Arc<rustls::ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), config) = (stream, Arc::clone(&config)) else { return };
            thread::spawn(move || {
                let mut tls = StreamOwned::new(ServerConnection::new(config).expect("server"), stream);
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut piece = [0; 1024];
                    match tls.read(&mut piece) {
                        Ok(count) if count > 0 => asked.extend_from_slice(&piece[..count]),
                        _ => return,
                    }
                }
                let _ = tls.write_all(&reply(200, &[], br#"{"name":"a","tags":[]}"#));
                tls.conn.send_close_notify();
                let _ = tls.flush();
            });
        }
    });
    address
}

#[test]
fn a_registry_that_wants_to_know_its_clients_is_shown_the_folder_s_certificate() {
    let address = serve(server("leaf.crt", "server.key", true));
    let folders = tempfile::tempdir().expect("folder");
    let with = |files: &[(&str, &str)]| {
        write(folders.path(), &address.to_string(), files);
        let client = client_with(|config| {
            config.retries = 0;
            config.certificate_folders = vec![folders.path().to_owned()];
        });
        client.tags(&at(address, "a"))
    };
    assert!(with(&[]).is_err(), "nothing was shown");
    let tags = with(&[("client.cert", "client.crt"), ("client.key", "client.key")]);
    assert_eq!(tags.expect("tags"), Vec::<String>::new());
}
