//! A real Chromium without a screen, steered by the DevTools protocol over a pipe.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest wait for one answer: a first start on a busy machine takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page; killed when this goes.
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    messages: Receiver<Value>,
    last: u64,
    session: String,
    /// What the console said: refusals of the page's policy, errors of its script.
    pub complaints: Vec<String>,
}

impl Browser {
    /// Starts one with a profile of its own below `folder`; `None` where the machine has none.
    pub fn start(folder: &Path) -> Option<Browser> {
        let program = super::find("chromium")?;
        // the protocol's pipe is at descriptors 3 and 4; tests run as root at times, where Chromium's sandbox refuses
        let script = "exec \"$0\" --headless --remote-debugging-pipe --no-sandbox --disable-gpu --no-first-run \
            --disable-dev-shm-usage --disable-background-networking --disable-component-update --hide-scrollbars \
            \"--user-data-dir=$1\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .arg(folder.join("profile"))
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, replies) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut replies = BufReader::new(replies);
            let mut message = Vec::new();
            while replies.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                let value = serde_json::from_slice(message.strip_suffix(b"\0").unwrap_or(&message)).unwrap();
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser =
            Browser { child, orders, messages, last: 0, session: String::new(), complaints: Vec::new() };
        let target = browser.order("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.order("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.order(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn next(&mut self, until: Instant) -> Value {
        let left = until.saturating_duration_since(Instant::now());
        let message = match self.messages.recv_timeout(left) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("the browser does not answer"),
            Err(RecvTimeoutError::Disconnected) => panic!("the browser ended"),
        };
        match message["method"].as_str() {
            Some("Log.entryAdded") => self.complaints.push(message["params"]["entry"].to_string()),
            Some("Runtime.exceptionThrown") => self.complaints.push(message["params"].to_string()),
            Some("Runtime.consoleAPICalled") => self.complaints.push(message["params"].to_string()),
            _ => {}
        }
        message
    }

    /// One order of the protocol and its answer.
    #[track_caller]
    pub fn order(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut order = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let mut message = self.next(until);
            if message["id"] == json!(self.last) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
        }
    }

    fn wait_for_load(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.next(until)["method"] != json!("Page.loadEventFired") {}
    }

    /// Opens a page and waits until it is there.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        let opened = self.order("Page.navigate", json!({ "url": address }));
        assert!(opened["errorText"].is_null(), "{address}: {opened}");
        self.wait_for_load();
    }

    /// Does something that leads to another page.
    #[track_caller]
    pub fn follow(&mut self, script: &str) {
        self.value(&format!("{{ {script}; }}; null"));
        self.wait_for_load();
    }

    /// The width of the window, as a telephone's or a screen's, and whether it likes it dark.
    pub fn look_as(&mut self, width: u32, dark: bool) {
        let phone = width < 500;
        let size = json!({ "width": width, "height": if phone { 780 } else { 900 }, "deviceScaleFactor": 1, "mobile": phone });
        self.order("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        // a picture shows no look on its way to another
        let still = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }, still] });
        self.order("Emulation.setEmulatedMedia", features);
    }

    /// Whether scripts run.
    pub fn run_scripts(&mut self, on: bool) {
        self.order("Emulation.setScriptExecutionDisabled", json!({ "value": !on }));
    }

    /// The value of an expression on the page.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut found = self.order("Runtime.evaluate", asked);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        found["result"]["value"].take()
    }

    /// The text that a reader sees.
    #[track_caller]
    pub fn text(&mut self) -> String {
        self.value("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let code = json!({ "type": "keyDown", "key": key, "code": key, "text": if key == "Enter" { "\r" } else { "" },
            "windowsVirtualKeyCode": if key == "Tab" { 9 } else { 13 } });
        self.order("Input.dispatchKeyEvent", code);
        self.order("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "code": key }));
    }

    /// Presses a key that leads to another page.
    #[track_caller]
    pub fn press_to_follow(&mut self, key: &str) {
        // the page may be there before the key is up
        let code = json!({ "type": "rawKeyDown", "key": key, "code": key, "windowsVirtualKeyCode": 13 });
        self.order("Input.dispatchKeyEvent", code);
        let text = json!({ "type": "char", "key": key, "text": "\r" });
        self.order("Input.dispatchKeyEvent", text);
        self.wait_for_load();
    }

    /// Writes a picture of the whole page.
    pub fn picture(&mut self, path: &Path) {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.order("Page.captureScreenshot", asked);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(path).unwrap();
        let mut decoder =
            Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
        let encoded = picture["data"].as_str().unwrap().as_bytes();
        decoder.stdin.take().unwrap().write_all(encoded).unwrap();
        assert!(decoder.wait().unwrap().success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
