//! Files of layers and images, and what archives cannot do to whoever lists them.

use super::*;
use std::{io::Write as _, time::Instant};

#[test]
fn files_of_a_layer_and_of_the_image() {
    let (registry, _) = filled();
    let page = |path: &str| registry.get(path).page(200);
    let whole = page("/r/team/app/_files/v1");
    for wanted in ["etc/", "usr/", "srv/", "3.0 kB"] {
        assert!(whole.contains(wanted), "{wanted}: {whole}");
    }
    let etc = page("/r/team/app/_files/v1?path=etc");
    assert!(etc.contains("hosts") && !etc.contains(">old<"), "deleted by the upper layer: {etc}");
    assert!(
        etc.contains("-rw-r--r--") && etc.contains("0:0") && etc.contains("2023-11-14 22:13:20 UTC"),
        "{etc}"
    );
    let found = page("/r/team/app/_files/v1?q=APP");
    assert!(found.contains("/usr/bin/app") && found.contains("1 path"), "{found}");
    let image = page("/r/team/app/_image/v1");
    let layers: Vec<String> = image
        .split("href=\"")
        .filter(|rest| rest.contains("layer=sha256"))
        .map(|rest| rest.split_once('"').expect("a link").0.replace("&amp;", "&"))
        .collect();
    assert_eq!(layers.len(), 2);
    assert!(page(&layers[0]).contains("usr/"));
    let upper = page(&format!("{}&path=etc", layers[1]));
    assert!(upper.contains(">old<") && upper.contains("deletes"), "{upper}");
    // of other images, or none
    let other = Digest::sha256(b"other");
    registry.get(&format!("/r/team/app/_files/v1?layer={other}")).page(404);
    registry.get("/r/team/app/_files/v1?layer=x").page(400);
    assert!(page("/r/team/app/_files/v1?path=not/there").contains("Nothing is here"));
    for path in ["..%2f..%2fetc", "%2e%2e", "%00", "%ff", "a%0d%0ab"] {
        registry.get(&format!("/r/team/app/_files/v1?path={path}&from=99999999999")).page(200);
    }
}

/// The page of a layer, of whatever bytes.
fn layer(registry: &Registry, bytes: &[u8]) -> String {
    let layers = [bytes.to_vec()];
    registry.push_layers("a", Some("x"), &layers, &configuration(&layers, serde_json::json!({})), "");
    registry.get(&format!("/r/a/_files/x?layer={}", Digest::sha256(bytes))).page(200)
}

#[test]
fn what_is_no_layer_is_said_to_be_none() {
    let registry = start(|_| {});
    let whole = archive(&[("one", b"1"), ("two", &[7; 5000])]);
    for (bytes, words) in [
        (b"no archive at all, but long enough for one header block. ".repeat(20), "cannot be read"),
        (whole[..2000].to_vec(), "cannot be read"),
        ([0x1f, 0x8b, 8, 0, 1, 2, 3].repeat(9), "cannot be read"),
        ([0x28, 0xb5, 0x2f, 0xfd].repeat(9), "cannot be read"),
        (archive_at("../../etc/passwd"), "cannot be read"),
    ] {
        let page = layer(&registry, &bytes);
        assert!(page.contains(words), "{page}");
    }
    // what came before the damage is shown
    assert!(layer(&registry, &whole[..2000]).contains("one"));
}

/// A file of a name that the tar crate would not write.
fn archive_at(path: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(2048, 0);
    bytes
}

/// As many empty files as a cap and some more.
struct Files {
    left: usize,
}

impl Files {
    fn write(mut self, to: &mut impl std::io::Write) {
        while self.left > 0 {
            self.left -= 1;
            let mut header = tar::Header::new_ustar();
            header.set_path(format!("{:x}", self.left)).expect("a path");
            header.set_size(0);
            header.set_cksum();
            to.write_all(header.as_bytes()).expect("write");
        }
    }
}

#[test]
fn bombs_are_cut_off_and_said_to_be() {
    let registry = start(|_| {});
    let mut many = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    Files { left: crate::limits::WEB_LAYER_PATHS + 1000 }.write(&mut many);
    let started = Instant::now();
    let page = layer(&registry, &many.finish().expect("gzip"));
    assert!(page.contains("has more than 200000 paths"), "{}", &page[..2000]);
    assert!(page.matches("<tr>").count() <= 301, "pages have an end");
    // a file of more bytes than its archive could have
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 40);
    header.set_path("zeros").expect("a path");
    header.set_cksum();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(header.as_bytes()).expect("write");
    for _ in 0..64 {
        bomb.write_all(&[0; 1 << 16]).expect("write");
    }
    assert!(layer(&registry, &bomb.finish().expect("gzip")).contains("cannot be read"));
    assert!(started.elapsed().as_secs() < 60);
}
