//! A headless Chromium, controlled over the DevTools protocol by two pipes.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long the browser may take for a step. On a busy machine it takes seconds to start.
const DEADLINE: Duration = Duration::from_secs(120);

/// The window of a page.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Whether the user prefers dark pages.
    pub(crate) is_dark: bool,
}

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
    events: Vec<Value>,
    _home: tempfile::TempDir,
}

impl Browser {
    /// Starts it with an empty page on which no script of the page runs.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        // The protocol uses descriptors 3 and 4. As root, Chromium has no sandbox.
        let mut process = Command::new("sh")
            .args([
                "-c",
                "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                "sh",
            ])
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-extensions",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--no-proxy-server", "--hide-scrollbars", "about:blank"])
            .arg(format!(
                "--user-data-dir={}",
                home.path().join("profile").display()
            ))
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let requests = process.stdin.take().unwrap();
        let replies = process.stdout.take().unwrap();
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(replies).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("JSON of the browser");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            process,
            requests,
            messages,
            session: String::new(),
            last_id: 0,
            events: Vec::new(),
            _home: home,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attached);
        attached["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut browser.session);
        for domain in ["Page", "Network", "Log", "Runtime", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
        browser
    }

    /// Sends a command and returns its result.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let result = self.try_call(method, parameters);
        result.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    #[track_caller]
    fn try_call(&mut self, method: &str, parameters: &Value) -> Result<Value, Value> {
        self.last_id += 1;
        let mut request = json!({"id": self.last_id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&request).unwrap();
        bytes.push(0);
        self.requests.write_all(&bytes).expect("the browser runs");
        loop {
            let message = self.next_message(method);
            if message["id"] != self.last_id {
                self.events.push(message);
            } else if message["error"].is_null() {
                return Ok(message["result"].clone());
            } else {
                return Err(message["error"].clone());
            }
        }
    }

    #[track_caller]
    fn next_message(&self, for_what: &str) -> Value {
        let message = self.messages.recv_timeout(DEADLINE);
        message.unwrap_or_else(|error| panic!("{for_what}: is chromium installed? {error}"))
    }

    /// Sets the size and the colours of the window.
    #[track_caller]
    pub(crate) fn set_window(&mut self, window: Window) {
        let Window {
            width,
            height,
            is_dark,
        } = window;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", &json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        self.wait_for_document(|document| *document == opened["loaderId"]);
    }

    /// Presses Enter and waits until another page is loaded.
    #[track_caller]
    pub(crate) fn submit(&mut self) {
        self.events.clear();
        let before = self.document();
        self.press("Enter", 13);
        self.wait_for_document(|document| *document != before);
    }

    /// The identity of the document.
    fn document(&mut self) -> Value {
        let tree = self.try_call("Page.getFrameTree", &json!({}));
        tree.map_or(Value::Null, |tree| tree["frameTree"]["frame"]["loaderId"].clone())
    }

    #[track_caller]
    fn wait_for_document(&mut self, is_expected: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        let state = json!({"expression": "document.readyState", "returnByValue": true});
        loop {
            let document = self.document();
            // While the document is replaced, this fails.
            let state = self.try_call("Runtime.evaluate", &state).unwrap_or_default();
            if is_expected(&document) && state["result"]["value"] == "complete" && self.document() == document
            {
                return;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "no page is loaded: {document} {state}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The URLs that the page has requested since it was opened.
    pub(crate) fn requested(&self) -> Vec<String> {
        let requests = self
            .events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        requests
            .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What the browser complains about since the page was opened: violated policies, failed requests.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self
            .events
            .iter()
            .filter(|event| event["method"] == "Log.entryAdded");
        entries
            .map(|event| event["params"]["entry"]["text"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The value of an expression of JavaScript, evaluated by the debugger and not by the page.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            &json!({"expression": expression, "returnByValue": true}),
        );
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// The text of the first element for this selector, as it is shown.
    #[track_caller]
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({selector:?})?.innerText"));
        text.as_str()
            .unwrap_or_else(|| panic!("no {selector}"))
            .to_owned()
    }

    /// Presses a key.
    #[track_caller]
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types a text.
    #[track_caller]
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// The window as PNG, in base64.
    #[track_caller]
    pub(crate) fn screenshot(&mut self) -> String {
        let taken = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        taken["data"].as_str().unwrap().to_owned()
    }

    /// Role and name of each element, as assistive programs see them.
    #[track_caller]
    pub(crate) fn accessible(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let word = |node: &Value, field: &str| node[field]["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .filter(|node| node["ignored"] == false)
            .map(|node| (word(node, "role"), word(node, "name")))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
