//! The registry's web page in a real browser: a tour, by keyboard, on a telephone, without scripts, and what its policy refused.
//!
//! Pictures are left below the target folder, in `page/`.

use crate::support::browser::Browser;
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, skip};
use std::fs;
use std::path::{Path, PathBuf};

const RECIPE: &str = "FROM base
LABEL org.opencontainers.image.source=https://code.example/team/shop org.opencontainers.image.title=\"The shop\"
ENV PORT=8080 STAGE=production
WORKDIR /srv
COPY . /srv
RUN mkdir -p /var/lib/shop && head -c 200000 /dev/zero > /var/lib/shop/data && rm -f /etc/group
USER nobody
EXPOSE 8080
ENTRYPOINT [\"/srv/run\"]
CMD [\"--listen\", \":8080\"]
";

const SBOM: &str = r#"{"spdxVersion":"SPDX-2.3","name":"shop","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: scanner-1"]},
"packages":[{"name":"zlib","versionInfo":"1.3.1","licenseDeclared":"Zlib"},{"name":"openssl","versionInfo":"3.0.15","licenseDeclared":"Apache-2.0"}]}"#;

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("page")
}

/// Pushes two versions of a shop, with what is attached to one, and some others.
fn fill(slipway: &Slipway, server: &Server) {
    let shop = |version: &str| server.name(&format!("team/shop:{version}"));
    let files = [
        ("run", "#!/bin/sh\n"),
        ("index.html", "<h1>Shop</h1>\n"),
        ("assets/<b>odd\u{202e}name</b>.txt", "x"),
    ];
    slipway.build(&shop("1.0"), RECIPE, &files).ok();
    let more = RECIPE.replace("STAGE=production", "STAGE=canary");
    let files =
        [("run", "#!/bin/sh\nexec shop\n"), ("index.html", "<h1>Shop</h1>\n"), ("prices.csv", "1,2,3\n")];
    slipway.build(&shop("1.1"), &more, &files).ok();
    for version in ["1.0", "1.1"] {
        slipway.ok(["push", "-q", &shop(version)]);
    }
    for name in ["team/base:debian", "team/tools/builder:2026-01", "library/base:1"] {
        slipway.ok(["push", "-q", "base", &server.name(name)]);
    }
    let sbom = slipway.path("sbom.spdx.json");
    fs::write(&sbom, SBOM).unwrap();
    let attach = [
        "artifact",
        "attach",
        "--artifact-type",
        "application/spdx+json",
        &shop("1.0"),
        sbom.to_str().unwrap(),
    ];
    slipway.ok(attach);
}

/// The console had nothing to complain of: no script was refused, none failed.
#[track_caller]
fn expect_no_complaints(browser: &Browser) {
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

/// Nothing has to be scrolled sideways.
#[track_caller]
fn expect_to_fit(browser: &mut Browser, address: &str) {
    let widths = browser.value("[document.documentElement.scrollWidth, window.innerWidth]");
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{address} is wider than the window: {widths}");
}

#[test]
fn a_tour_of_the_page() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    fill(&slipway, &server);
    let Some(mut browser) = Browser::start(&slipway.path("browser")) else {
        return skip("there is no Chromium");
    };
    let home = format!("http://{}", server.address);
    let shop = format!("{home}/r/team/shop");
    browser.look_as(1280, false);
    browser.open(&format!("{shop}/_image/1.0"));
    let layer = browser
        .value("document.querySelector('.layer a[href*=\"layer=\"]').href")
        .as_str()
        .unwrap()
        .to_owned();
    let sbom = browser.value("document.querySelector('.attached a').href").as_str().unwrap().to_owned();
    let pages = [
        ("repositories", format!("{home}/"), &["team/shop", "2 tags", "library/base"][..]),
        ("tags", shop.clone(), &["1.0", "1.1", "linux/", "just now"]),
        (
            "image",
            format!("{shop}/_image/1.0"),
            &["COPY . /srv", "EXPOSE", "PORT", "8080", "nobody", "SBOM (SPDX)"],
        ),
        ("files", format!("{shop}/_files/1.0?path=srv/assets"), &["<b>odd⟨U+202E⟩name", "1 file"]),
        ("whole", format!("{shop}/_files/1.0"), &["bin/", "srv/", "var/"]),
        ("layer", layer, &["Files of layer"]),
        (
            "compare",
            format!("{shop}/_compare?from=1.0&to=1.1"),
            &["Variable STAGE", "production", "canary", "/srv/prices.csv", "added"],
        ),
        ("sbom", sbom, &["zlib", "1.3.1", "Apache-2.0", "2 packages"]),
        ("history", format!("{shop}/_history"), &["1.0", "new", "127.0.0.1"]),
        ("trash", format!("{shop}/_trash"), &["The trash is empty"]),
        ("usage", format!("{home}/usage"), &["team/shop", "4 repositories"]),
        ("search", format!("{shop}/_files/1.0?q=index"), &["/srv/index.html"]),
        ("nothing", format!("{home}/r/none"), &["Nothing here"]),
    ];
    for (name, address, words) in &pages {
        for (look, width, dark) in [("light", 1280, false), ("dark", 1280, true), ("phone", 360, false)] {
            browser.look_as(width, dark);
            browser.open(address);
            let text = browser.text();
            for wanted in *words {
                assert!(text.contains(wanted), "{address} has no `{wanted}`: {text}");
            }
            expect_to_fit(&mut browser, address);
            browser.picture(&pictures().join(format!("{name}-{look}.png")));
        }
    }
    // a page that is not there is a complaint of the console, and no other
    browser.complaints.retain(|one| !one.contains("404"));
    expect_no_complaints(&browser);
    the_script_spares_steps(&mut browser, &home);
    expect_no_complaints(&browser);
    it_works_without_the_script(&mut browser, &home, &shop);
    expect_no_complaints(&browser);
}

/// By keyboard: to the search, some letters, and the list is shorter.
fn the_script_spares_steps(browser: &mut Browser, home: &str) {
    browser.look_as(1280, false);
    browser.open(&format!("{home}/"));
    let shown = "[...document.querySelectorAll('[data-row]')].filter((row) => !row.hidden).length";
    assert_eq!(browser.value(shown), 4);
    browser.press("/");
    assert_eq!(browser.value("document.activeElement.id"), "q");
    for letter in ["s", "h", "o", "p"] {
        browser.order("Input.insertText", serde_json::json!({ "text": letter }));
    }
    assert_eq!(browser.value(shown), 1);
    // the first stop of the keyboard leads past what every page has
    browser.open(&format!("{home}/"));
    browser.press("Tab");
    assert_eq!(browser.value("document.activeElement.textContent"), "Skip to the content");
    // nothing else than the page's own script runs, wherever it comes from
    let inline = "const s = document.createElement('img'); s.src = 'http://127.0.0.1:1/x'; document.body.append(s);
        new Promise((done) => document.addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective), { once: true }))";
    assert_eq!(
        browser.value(&format!("(() => {{ {} }})()", inline.replace("new Promise", "return new Promise"))),
        "img-src"
    );
    browser.complaints.retain(|one| !one.contains("127.0.0.1:1/x"));
}

fn it_works_without_the_script(browser: &mut Browser, home: &str, shop: &str) {
    browser.run_scripts(false);
    browser.open(&format!("{home}/"));
    browser.follow(
        "document.getElementById('q').value = 'tools'; document.querySelector('form.search').submit()",
    );
    let text = browser.text();
    assert!(text.contains("builder") && !text.contains("shop"), "{text}");
    browser.open(shop);
    assert_eq!(
        browser.value("[...document.querySelectorAll('.copy')].every((button) => button.hidden)"),
        true
    );
    browser.follow("document.querySelector('form.compare button').click()");
    let text = browser.text();
    assert!(text.contains("/srv/prices.csv"), "{text}");
    browser.run_scripts(true);
}

#[test]
fn logging_in_with_a_browser() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let server = Server::slipway(&slipway, &storage);
    slipway.ok(["push", "-q", "base", &server.name("team/app:1")]);
    drop(server);
    let made = slipway.run(["registry", "token", "ann"]);
    let secret = made.stdout.trim().to_owned();
    let hash = made.stderr.split('"').find(|part| part.starts_with("sha256:")).unwrap().to_owned();
    let address = free_address();
    let words = [
        "serve",
        "--listen",
        &address,
        "--access",
        "private",
        "--token",
        &format!("ann={hash}"),
        "--storage",
    ];
    let mut command = slipway.command(words);
    command.arg(&storage).stderr(fs::File::create(slipway.path("serve.log")).unwrap());
    let server = Server::start(&mut command, &address);
    let Some(mut browser) = Browser::start(&slipway.path("browser")) else {
        return skip("there is no Chromium");
    };
    let home = format!("http://{}", server.address);
    browser.look_as(1280, false);
    browser.open(&format!("{home}/r/team/app/_image/1"));
    assert_eq!(
        browser.value("location.pathname + location.search"),
        "/login?next=%2Fr%2Fteam%2Fapp%2F_image%2F1"
    );
    browser.picture(&pictures().join("login-light.png"));
    let type_in = |browser: &mut Browser, password: &str| {
        browser.value("document.getElementById('name').value = 'ann'; null");
        browser.follow(&format!(
            "document.getElementById('password').value = '{password}'; document.querySelector('.login form').requestSubmit()"
        ));
    };
    type_in(&mut browser, "wrong");
    assert!(browser.text().contains("is wrong"));
    browser.look_as(360, true);
    browser.picture(&pictures().join("login-phone-dark.png"));
    browser.look_as(1280, false);
    type_in(&mut browser, &secret);
    assert_eq!(browser.value("location.pathname"), "/r/team/app/_image/1");
    assert_eq!(browser.value("document.cookie"), "", "no script sees the session");
    let text = browser.text();
    assert!(text.contains("ann") && text.contains("Log out") && text.contains("Layers"), "{text}");
    browser.follow("document.querySelector('.account form').requestSubmit()");
    browser.open(&format!("{home}/"));
    assert_eq!(browser.value("location.pathname"), "/login");
    browser.complaints.retain(|one| !one.contains("403"));
    expect_no_complaints(&browser);
}
