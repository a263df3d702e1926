//! The registry's web page in a real browser: a tour, by keyboard, on a telephone, without scripts, and what its policy refused.
//!
//! Pictures are left below the target folder, in `page/`.

use crate::support::browser::Browser;
use crate::support::http::request;
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, skip, wait_until};
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

/// A private registry for `ann`, and her password.
fn private(slipway: &Slipway) -> (Server, String) {
    let made = slipway.run(["registry", "token", "ann"]);
    let secret = made.stdout.trim().to_owned();
    let hash = made.stderr.split('"').find(|part| part.starts_with("sha256:")).unwrap().to_owned();
    let (address, token) = (free_address(), format!("ann={hash}"));
    let mut command = slipway.command([
        "serve",
        "--listen",
        &address,
        "--access",
        "private",
        "--token",
        &token,
        "--storage",
    ]);
    command.arg(slipway.path("storage")).stderr(fs::File::create(slipway.path("serve.log")).unwrap());
    (Server::start(&mut command, &address), secret)
}

/// Fills the fields of the login in and sends it.
#[track_caller]
fn type_in(browser: &mut Browser, password: &str) {
    browser.value("document.getElementById('name').value = 'ann'; null");
    browser.follow(&format!(
        "document.getElementById('password').value = '{password}'; document.querySelector('.login form').requestSubmit()"
    ));
}

/// The page that is open in every look: it fits, and a picture of each is left.
#[track_caller]
fn in_every_look(browser: &mut Browser, name: &str) {
    for (look, width, dark) in
        [("light", 1280, false), ("dark", 1280, true), ("phone", 360, false), ("phone-dark", 360, true)]
    {
        browser.look_as(width, dark);
        expect_to_fit(browser, name);
        browser.picture(&pictures().join(format!("{name}-{look}.png")));
    }
    browser.look_as(1280, false);
}

#[track_caller]
fn expect_words(browser: &mut Browser, words: &[&str]) {
    let text = browser.text();
    for wanted in words {
        assert!(text.contains(wanted), "no `{wanted}`: {text}");
    }
}

/// The code of a device that calls itself `client`.
fn code_of(server: &Server, client: &str) -> String {
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let reply =
        request(&server.address, "POST", "/token/device", &kind, format!("client_id={client}").as_bytes());
    let codes: serde_json::Value = serde_json::from_str(&reply.text()).unwrap();
    codes["user_code"].as_str().unwrap().to_owned()
}

#[test]
fn a_device_is_let_in_with_a_browser() {
    let slipway = Slipway::empty();
    let (server, secret) = private(&slipway);
    let Some(mut browser) = Browser::start(&slipway.path("browser")) else {
        return skip("there is no Chromium");
    };
    let page = format!("http://{}/device", server.address);
    let code = code_of(&server, &"long-".repeat(12));
    browser.look_as(1280, false);
    // the link that the device shows, for who is not logged in yet
    browser.open(&format!("{page}?user_code={code}"));
    type_in(&mut browser, &secret);
    assert_eq!(browser.value("location.pathname + location.search"), format!("/device?user_code={code}"));
    assert_eq!(browser.value("document.getElementById('code').value"), code, "it needs not be typed");
    in_every_look(&mut browser, "device-given");
    // by keyboard alone: the field has it from the start
    browser.open(&page);
    // a browser gives the focus with its first picture
    let focused = |browser: &mut Browser| {
        wait_until("the field has the focus", || browser.value("document.activeElement.id") == "code");
    };
    focused(&mut browser);
    in_every_look(&mut browser, "device");
    let type_code = |browser: &mut Browser, code: &str| {
        focused(browser);
        browser.value("document.getElementById('code').select(); null");
        browser.order("Input.insertText", serde_json::json!({ "text": code }));
        browser.press_to_follow("Enter");
    };
    type_code(&mut browser, "wrong");
    expect_words(&mut browser, &["No device waits with this code"]);
    // the next try needs no mouse
    focused(&mut browser);
    assert_eq!(browser.value("document.activeElement.getAttribute('aria-invalid')"), "true");
    in_every_look(&mut browser, "device-wrong");
    type_code(&mut browser, &code.to_lowercase().replace('-', " "));
    expect_words(&mut browser, &["long-long-", "127.0.0.1", "ann", &code, "Allow", "Refuse"]);
    in_every_look(&mut browser, "device-confirm");
    // what a hurried Enter does is no yes
    assert_ne!(browser.value("document.activeElement.value"), "allow");
    let reach = |browser: &mut Browser, decision: &str| {
        for _ in 0..20 {
            browser.press("Tab");
            if browser.value("document.activeElement.value") == decision {
                return browser.press_to_follow("Enter");
            }
        }
        panic!("`{decision}` is out of the keyboard's reach");
    };
    reach(&mut browser, "allow");
    expect_words(&mut browser, &["It is logged in"]);
    in_every_look(&mut browser, "device-done");
    browser.open(&format!("{page}?user_code={}", code_of(&server, "other")));
    browser.follow("document.querySelector('form[action=\"/device\"] button').click()");
    reach(&mut browser, "refuse");
    expect_words(&mut browser, &["It was refused"]);
    // what was decided is over, and who goes on guessing waits
    for _ in 0..10 {
        browser.open(&page);
        type_code(&mut browser, &code);
    }
    expect_words(&mut browser, &["Try again in"]);
    in_every_look(&mut browser, "device-often");
    browser.complaints.retain(|one| !one.contains("403") && !one.contains("429"));
    expect_no_complaints(&browser);
}

#[test]
fn quotas_are_seen_with_a_browser() {
    let slipway = Slipway::empty();
    let long = format!("team/{}/{}", "very-long-name-of-a-department".repeat(4), "x".repeat(90));
    let serve = |quotas: &[&str]| {
        let address = free_address();
        let mut command = slipway.command(["serve", "--listen", &address, "--storage"]);
        command.arg(slipway.path("storage"));
        command.args(quotas.iter().flat_map(|quota| ["--quota", quota]));
        Server::start(&mut command, &address)
    };
    let server = serve(&[]);
    let post = |repository: &str, bytes: &[u8]| {
        let digest = slipway_oci::Digest::sha256(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        assert_eq!(request(&server.address, "POST", &path, &[], bytes).status, 201);
    };
    for (name, size) in
        [("team/full", 1_048_576), ("team/near", 1_000_000), ("team/half", 500_000), (&long, 1_500_000)]
    {
        post(name, &vec![b'x'; size]);
    }
    drop(server);
    let server =
        serve(&["1MiB, 20 tags in each team/**", "5MB in all of team", "1TiB in all", "0 in each team/half"]);
    let Some(mut browser) = Browser::start(&slipway.path("browser")) else {
        return skip("there is no Chromium");
    };
    browser.look_as(1280, false);
    browser.open(&format!("http://{}/usage", server.address));
    let tags = "0 tags";
    expect_words(
        &mut browser,
        &["1 MiB", "1 TiB", "5 MB", &long, "the registry", "team/…", "143 %", "100 %", "95 %", tags],
    );
    assert!(!browser.text().contains("Nothing is here"), "what is used is something");
    // what is full and what is nearly so is seen, and said without colours too
    let of = |browser: &mut Browser, class: &str| {
        let rows = format!("[...document.querySelectorAll('.quotas .{class}')].map((one) => one.innerText)");
        let found = browser.value(&rows);
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&mut browser, "full").len(), 3, "over, full, and where nothing may be");
    assert!(of(&mut browser, "full").iter().all(|words| words.contains("full")));
    assert_eq!(of(&mut browser, "near").len(), 1);
    assert!(of(&mut browser, "near").iter().all(|words| words.contains("nearly full")));
    in_every_look(&mut browser, "quotas");
    expect_no_complaints(&browser);
}

#[test]
fn logging_in_with_a_browser() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let server = Server::slipway(&slipway, &storage);
    slipway.ok(["push", "-q", "base", &server.name("team/app:1")]);
    drop(server);
    let (server, secret) = private(&slipway);
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
