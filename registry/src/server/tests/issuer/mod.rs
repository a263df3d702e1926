//! An issuer of identity tokens on this machine, with keys of every kind, which answers as a test wants.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What an issuer does with a request; an empty answer hangs up.
pub(in crate::server) type Behaviour = Box<dyn Fn(&str, &str) -> Vec<u8> + Send>;

/// Keys of an issuer.
pub(in crate::server) struct Signer {
    /// Before the ids of its keys.
    pub(in crate::server) prefix: &'static str,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    pub(in crate::server) fn new(prefix: &'static str) -> Signer {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Signer {
            prefix,
            // ring makes no keys of this kind
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).expect("a key"),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .expect("a key"),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key"),
        }
    }

    /// The id of the key that is for an algorithm.
    pub(in crate::server) fn id(&self, algorithm: &str) -> String {
        format!("{}{}", self.prefix, algorithm.to_ascii_lowercase())
    }

    fn modulus(&self) -> PublicKeyComponents<Vec<u8>> {
        PublicKeyComponents::from(self.rsa.public())
    }

    /// The set of keys.
    pub(in crate::server) fn keys(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (rsa, point) = (self.modulus(), self.ec.public_key().as_ref());
        let rsa = |id: &str| json!({ "kty": "RSA", "use": "sig", "alg": id, "kid": self.id(id), "n": text(&rsa.n), "e": text(&rsa.e) });
        json!({ "keys": [
            { "kty": "oct", "kid": self.id("HS256"), "k": "AAAA" },
            rsa("RS256"), rsa("PS256"),
            { "kty": "EC", "crv": "P-256", "kid": self.id("ES256"), "x": text(&point[1..33]), "y": text(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": self.id("EdDSA"), "x": text(self.ed.public_key().as_ref()) },
            { "kty": "RSA", "use": "enc", "kid": "encryption", "n": text(&rsa("x")["n"].to_string().into_bytes()), "e": "AQAB" },
        ] })
    }

    /// Signs a token with a header.
    pub(in crate::server) fn sign_with(&self, header: &Value, algorithm: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let (bytes, random) = (signed.as_bytes(), SystemRandom::new());
        let rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &random, bytes, &mut signature).expect("a signature");
            signature
        };
        let signature = match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&random, bytes).expect("a signature").as_ref().to_vec(),
            "EdDSA" => self.ed.sign(bytes).as_ref().to_vec(),
            // the public key as a secret
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.modulus().n);
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Signs a token as it should be.
    pub(in crate::server) fn sign(&self, algorithm: &str, claims: &Value) -> String {
        let header = json!({ "alg": algorithm, "kid": self.id(algorithm), "typ": "JWT" });
        self.sign_with(&header, algorithm, &claims.to_string())
    }
}

/// The issuer.
pub(in crate::server) struct TestIssuer {
    pub(in crate::server) address: SocketAddr,
    pub(in crate::server) asked: Arc<AtomicUsize>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl TestIssuer {
    /// One that answers as it should.
    pub(in crate::server) fn start(signer: &Signer) -> TestIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(honest(signer)));
        let (asked, own) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&behaviour));
        let count = Arc::clone(&asked);
        // it ends with the test's process
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let own = Arc::clone(&own);
                thread::spawn(move || serve(stream, &own));
            }
        });
        TestIssuer { address, asked, behaviour }
    }

    pub(in crate::server) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(in crate::server) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("held") = behaviour;
    }

    pub(in crate::server) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What an issuer should do.
pub(in crate::server) fn honest(signer: &Signer) -> Behaviour {
    let keys = signer.keys();
    Box::new(move |path, url| match path {
        "/.well-known/openid-configuration" => {
            ok(&json!({ "issuer": url, "jwks_uri": format!("{url}/keys"), "more": [1] }).to_string())
        }
        "/keys" => ok(&keys.to_string()),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    })
}

pub(in crate::server) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn serve(mut stream: TcpStream, behaviour: &Mutex<Behaviour>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut head = Vec::new();
    let mut byte = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(count) if count > 0 => head.extend_from_slice(&byte[..count]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default();
    let url = format!("http://{}", stream.local_addr().expect("an address"));
    let answer = behaviour.lock().expect("held")(path, &url);
    if answer == b"silence" {
        thread::sleep(Duration::from_secs(15));
        return;
    }
    if answer == b"endless" {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\":[");
        let piece = vec![b' '; 64 << 10];
        for _ in 0..1000 {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
        return;
    }
    let _ = stream.write_all(&answer);
}
