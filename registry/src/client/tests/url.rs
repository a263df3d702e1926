//! Plain addresses.

use super::*;

fn address(fake: &Fake, path: &str) -> String {
    format!("http://{}{path}", fake.address)
}

#[test]
fn content_comes_with_what_its_headers_say() {
    let fake = Fake::start(|asked, _| match (asked.path.as_str(), asked.header("if-none-match")) {
        (_, Some("\"e\"")) => head(304, &[]),
        ("/moved", _) => reply(302, &[("location", "/dir/file%20name.txt?x=1")], b""),
        _ => {
            let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
            reply(200, &[("etag", "\"e\""), modified, ("content-type", "text/plain")], b"content")
        }
    });
    let (there, client) = (Local::new(), client());
    let fetched = client
        .fetch_url(&address(&fake, "/moved"), &there.blobs, &UrlOptions::default(), &())
        .expect("fetch");
    let Fetched::Content(content) = fetched else { panic!("content") };
    assert_eq!((content.digest.clone(), content.size_bytes), (Digest::sha256(b"content"), 7));
    assert_eq!(content.etag.as_deref(), Some("\"e\""));
    assert_eq!(content.last_modified, Some(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777)));
    assert_eq!(there.blobs.read(&content.digest, 100).expect("blob"), b"content");
    let options = UrlOptions { if_none_match: content.etag, ..UrlOptions::default() };
    let again = client.fetch_url(&address(&fake, "/x"), &there.blobs, &options, &()).expect("fetch");
    assert_eq!(again, Fetched::NotModified);
}

#[test]
fn caps_and_checksums_hold() {
    let fake = Fake::start(|asked, _| match asked.path.as_str() {
        "/loop" => reply(301, &[("location", "/loop")], b""),
        "/none" => reply(404, &[], b""),
        "/unsized" => {
            let mut bytes = head(200, &[("transfer-encoding", "chunked")]);
            bytes.extend_from_slice(b"a\r\n0123456789\r\n0\r\n\r\n");
            bytes
        }
        _ => reply(200, &[], b"0123456789"),
    });
    let (there, client) = (Local::new(), client());
    let fetch = |path: &str, options: &UrlOptions| {
        client.fetch_url(&address(&fake, path), &there.blobs, options, &())
    };
    let capped = UrlOptions { most_bytes: Some(9), ..UrlOptions::default() };
    for path in ["/sized", "/unsized"] {
        assert!(matches!(fetch(path, &capped), Err(ClientError::Large { .. })), "{path}");
    }
    let wrong = UrlOptions { checksum: Some(Digest::sha256(b"other")), ..UrlOptions::default() };
    assert!(matches!(fetch("/x", &wrong), Err(ClientError::Digest { .. })));
    assert!(there.blobs.list().expect("list").is_empty());
    assert!(matches!(fetch("/loop", &capped), Err(ClientError::Redirects { .. })));
    assert!(matches!(fetch("/none", &capped), Err(ClientError::NotFound { .. })));
    let right = UrlOptions { checksum: Some(Digest::sha256(b"0123456789")), most_bytes: Some(10), ..capped };
    assert!(fetch("/unsized", &right).is_ok());
    for text in ["ftp://x/y", "file:///etc/passwd", "no address", "http://"] {
        assert!(
            matches!(client.fetch_url(text, &there.blobs, &right, &()), Err(ClientError::Address { .. })),
            "{text}"
        );
    }
}
