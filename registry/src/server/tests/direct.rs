//! What the kernel sends by itself is what was pushed, whatever the client speaks and however it reads.

use super::*;

/// Bytes of which no two places of a piece are alike.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn blob(registry: &Registry, length: usize) -> (String, Vec<u8>) {
    let bytes = bytes(length);
    let path = format!("/v2/a/b/blobs/{}", registry.push_blob("a/b", &bytes));
    // the first that is sent whole is digested on its way, those after it are not looked at
    assert!(registry.get(&path).body == bytes, "the first time");
    (path, bytes)
}

#[test]
fn large_blobs_are_themselves_in_whole_and_in_parts() {
    let registry = Registry::start();
    let (path, bytes) = blob(&registry, 3_000_001);
    let length = bytes.len();
    for _ in 0..2 {
        let reply = registry.get(&path);
        assert!(reply.status == 200 && reply.body == bytes, "{}", reply.body.len());
    }
    for (first, last) in [(0, 0), (5, 2_000_000), (length - 1, length - 1), (16_383, 540_000)] {
        let reply = registry.call("GET", &path, &[("range", &format!("bytes={first}-{last}"))], b"");
        assert!(reply.status == 206 && reply.body == bytes[first..=last], "{first}-{last}");
    }
    let reply = registry.call("GET", &path, &[("range", "bytes=7-1000000,1200000-2200000")], b"");
    let text: Vec<&[u8]> = [&bytes[7..=1_000_000], &bytes[1_200_000..=2_200_000]].to_vec();
    assert_eq!(reply.status, 206);
    for part in text {
        assert!(reply.body.windows(64).any(|window| window == &part[..64]), "a part's begin");
        assert!(reply.body.windows(64).any(|window| window == &part[part.len() - 64..]), "a part's end");
    }
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
}

/// Requests one behind the other, without waiting for a reply, and other replies between large ones.
#[test]
fn replies_in_a_row_do_not_mix() {
    let registry = Registry::start();
    let (large, large_bytes) = blob(&registry, 1_300_000);
    let (small, small_bytes) = blob(&registry, 100);
    let (middle, middle_bytes) = blob(&registry, 70_000);
    let mut stream = registry.connect();
    let order =
        [(&large, &large_bytes), (&small, &small_bytes), (&middle, &middle_bytes), (&large, &large_bytes)];
    let mut requests = String::new();
    for (at, (path, _)) in order.iter().enumerate() {
        let end = if at + 1 == order.len() { "connection: close\r\n" } else { "" };
        requests += &format!("GET {path} HTTP/1.1\r\nhost: test\r\n{end}\r\n");
    }
    stream.write_all(requests.as_bytes()).expect("requests");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("replies");
    for (_, bytes) in order {
        let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert!(all[end..].starts_with(bytes), "{} bytes", bytes.len());
        all.drain(..end + bytes.len());
    }
    assert!(all.is_empty());
}

#[test]
fn a_client_that_reads_slowly_gets_the_same() {
    let registry = Registry::start();
    let (path, bytes) = blob(&registry, 9_000_000);
    let mut stream = registry.connect();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let (mut all, mut buffer) = (Vec::new(), vec![0; 300_000]);
    loop {
        match stream.read(&mut buffer).expect("bytes") {
            0 => break,
            count => all.extend_from_slice(&buffer[..count]),
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    assert!(all.ends_with(&bytes), "{} bytes", all.len());
}

/// HTTP/2 over a bare socket reads what it sends: nothing may stand in for it.
#[test]
fn http_2_without_tls_gets_the_bytes() {
    let registry = Registry::start();
    let (path, bytes) = blob(&registry, 2_000_000);
    let url = format!("http://{}{path}", registry.address());
    // a client is not made without, whatever it speaks
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let got = runtime.block_on(async {
        let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
        let reply = client.get(url).send().await.expect("a reply");
        assert_eq!(reply.version(), axum::http::Version::HTTP_2);
        reply.bytes().await.expect("bytes")
    });
    assert!(got == bytes, "{} bytes", got.len());
}

#[test]
fn a_blob_that_became_shorter_is_broken_off() {
    engines::in_folder!();
    let registry = Registry::start();
    // more than sockets hold: what they have taken is no longer the server's to break off
    let (path, bytes) = blob(&registry, 24_000_000);
    let hex = path.rsplit(':').next().expect("a digest");
    let place = registry.folder.path().join("registry/blobs/sha256").join(hex);
    let file = std::fs::File::options().write(true).open(&place).expect("the blob");
    let mut stream = registry.connect();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut head = [0; 1000];
    stream.read_exact(&mut head).expect("its begin");
    file.set_len(20_000_000).expect("shorter");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let begin = head.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let got = [&head[begin..], &rest].concat();
    assert!(bytes.starts_with(&got) && got.len() <= 20_000_000, "{}", got.len());
}

/// What is on its way refers to a file, not to a name: a blob that is put into quarantine, healed by a push, quarantined again and
/// thrown away while it is being sent is sent to its last byte as it was when its reply began.
#[test]
fn a_blob_that_is_set_aside_and_healed_while_it_is_sent_stays_itself() {
    engines::in_folder!();
    let registry = Registry::start();
    let (path, bytes) = blob(&registry, 24_000_000);
    let hex = path.rsplit(':').next().expect("a digest");
    let place = registry.folder.path().join("registry/blobs/sha256").join(hex);
    let aside = registry.folder.path().join("registry/quarantine/sha256").join(hex);
    std::fs::create_dir_all(aside.parent().expect("a folder")).expect("a folder");
    let begin = |range: &str| {
        let mut stream = registry.connect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{range}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut head = [0; 1000];
        stream.read_exact(&mut head).expect("its begin");
        (stream, head.to_vec())
    };
    let mut replies = vec![begin(""), begin("range: bytes=3-\r\n")];
    for round in 0..3_u8 {
        // as the scrub does it; and the disk gives back something else under the former name
        std::fs::rename(&place, &aside).expect("set aside");
        std::fs::write(&place, vec![round; bytes.len()]).expect("other bytes");
        std::fs::remove_file(&place).expect("gone");
        assert_eq!(registry.push_blob("a/b", &bytes).hex(), hex);
        std::fs::remove_file(&aside).expect("thrown away");
        for (stream, got) in &mut replies {
            let mut piece = vec![0; 3_000_000];
            stream.read_exact(&mut piece).expect("some more");
            got.extend(piece);
        }
        replies.push(begin(""));
    }
    for (at, (mut stream, mut got)) in replies.into_iter().enumerate() {
        stream.read_to_end(&mut got).expect("the rest");
        let head = got.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let expected = if at == 1 { &bytes[3..] } else { &bytes[..] };
        assert!(got[head..] == *expected, "reply {at}: {} bytes", got.len() - head);
    }
}
