//! A notice in the words of others: distribution's events (`notifications/event.go`) and Harbor's payload (its manual, "Configure
//! Webhook Notifications").

use super::{Form, What};
use crate::server::event::Change;
use serde_json::{Value, json};
use slipway_oci::spec::rfc3339;
use std::time::{SystemTime, UNIX_EPOCH};

/// The type of distribution's envelope.
const DISTRIBUTION_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";

/// What happened.
#[derive(Clone, Debug)]
pub(in crate::server) struct Notice {
    pub(super) what: What,
    pub(super) repository: String,
    tags: Vec<String>,
    pub(super) digest: Option<String>,
    pub(super) media_type: Option<String>,
    pub(super) size: Option<u64>,
    user: Option<String>,
    client: Option<String>,
    agent: Option<String>,
    method: String,
    /// `https://HOST`, as the client has it.
    home: Option<String>,
    time: SystemTime,
}

impl Notice {
    pub(super) fn new(what: What, change: &Change<'_>, method: &str, home: Option<String>) -> Notice {
        Notice {
            what,
            repository: change.repository.to_owned(),
            tags: change.tags.to_vec(),
            digest: change.digest.map(str::to_owned),
            media_type: None,
            size: None,
            user: change.user.map(str::to_owned),
            client: change.client.map(|client| client.to_string()),
            agent: change.agent.map(str::to_owned),
            method: method.to_owned(),
            home,
            time: change.time,
        }
    }

    /// What is sent, in order: distribution has an event a tag, Harbor a resource.
    pub(super) fn bodies(&self, form: Form) -> Vec<String> {
        match form {
            Form::Distribution => {
                let tags: Vec<Option<&str>> = match self.tags.as_slice() {
                    [] => vec![None],
                    tags => tags.iter().map(|tag| Some(tag.as_str())).collect(),
                };
                let events: Vec<Value> = tags.into_iter().map(|tag| self.event(tag)).collect();
                vec![json!({ "events": events }).to_string()]
            }
            Form::Harbor => vec![self.payload().to_string()],
        }
    }

    fn event(&self, tag: Option<&str>) -> Value {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = rfc3339::format(since.as_secs() as i64);
        let action = match self.what {
            What::Push => "push",
            What::Delete => "delete",
            What::Pull => "pull",
        };
        let mut target = json!({ "repository": self.repository });
        let reference = self.digest.as_deref().or(tag);
        let url = self.home.as_deref().zip(reference);
        let url = url.map(|(home, reference)| format!("{home}/v2/{}/manifests/{reference}", self.repository));
        // distribution leaves out what it does not know
        let known = [
            ("mediaType", self.media_type.clone().map(Value::from)),
            ("digest", self.digest.clone().map(Value::from)),
            ("size", self.size.map(Value::from)),
            ("length", self.size.map(Value::from)),
            ("url", url.map(Value::from)),
            ("tag", tag.map(Value::from)),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                target[name] = value;
            }
        }
        let host = self.home.as_deref().and_then(|home| home.split_once("://")).map_or("", |(_, host)| host);
        json!({
            "id": id(),
            "timestamp": format!("{}.{:09}Z", seconds.trim_end_matches('Z'), since.subsec_nanos()),
            "action": action,
            "target": target,
            "request": {
                "id": id(),
                "addr": self.client.as_deref().unwrap_or_default(),
                "host": host,
                "method": self.method,
                "useragent": self.agent.as_deref().unwrap_or_default(),
            },
            "actor": { "name": self.user.as_deref().unwrap_or_default() },
            "source": { "addr": host },
        })
    }

    fn payload(&self) -> Value {
        let kind = match self.what {
            What::Push => "PUSH_ARTIFACT",
            What::Delete => "DELETE_ARTIFACT",
            What::Pull => "PULL_ARTIFACT",
        };
        let seconds = self.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let host = self.home.as_deref().and_then(|home| home.split_once("://")).map(|(_, host)| host);
        let place =
            host.map_or_else(|| self.repository.clone(), |host| format!("{host}/{}", self.repository));
        let digest = self.digest.as_deref().unwrap_or_default();
        let resource = |tag: Option<&String>| match tag {
            Some(tag) => json!({ "digest": digest, "tag": tag, "resource_url": format!("{place}:{tag}") }),
            None => json!({ "digest": digest, "tag": "", "resource_url": format!("{place}@{digest}") }),
        };
        let resources: Vec<Value> = match self.tags.as_slice() {
            [] => vec![resource(None)],
            tags => tags.iter().map(|tag| resource(Some(tag))).collect(),
        };
        let (namespace, name) = self.repository.rsplit_once('/').unwrap_or(("", &self.repository));
        json!({
            "type": kind,
            "occur_at": seconds,
            "operator": self.user.as_deref().unwrap_or("anonymous"),
            "event_data": {
                "resources": resources,
                "repository": {
                    "name": name,
                    "namespace": namespace,
                    "repo_full_name": self.repository,
                    "repo_type": "private",
                },
            },
        })
    }
}

/// The type of what is sent.
pub(super) fn content_type(form: Form) -> &'static str {
    match form {
        Form::Distribution => DISTRIBUTION_TYPE,
        Form::Harbor => "application/json",
    }
}

/// A number that nobody else has; one that cannot be had is left out.
fn id() -> String {
    let mut bytes = [0_u8; 16];
    let filled = getrandom::fill(&mut bytes);
    if filled.is_err() { String::new() } else { format!("{:032x}", u128::from_be_bytes(bytes)) }
}
