//! Events for people: each thing is said once, and counted where it is the case again.
//!
//! An event's name is made of what it says. While an event lives (an hour, unless the API server is told otherwise), who
//! says the same again counts it: also a new leader, which does not know what the one before it said.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use ring::digest::{Context, SHA256};
use serde_json::json;

use crate::action::Notice;
use crate::name::hex;

/// Who events are from.
const REPORTER: &str = "kuik-controller";
/// Where events about objects without a namespace lie.
const NAMESPACE_OF_CLUSTER: &str = "default";
/// People wait for no event, and no work waits for one longer than this.
const DEADLINE: Duration = Duration::from_secs(5);
/// The API server takes 1024 bytes.
const NOTE_BYTES_MAX: usize = 1000;
/// An object's name in the name of an event, which may have 253 bytes; the rest is the hash.
const NAME_BYTES_MAX: usize = 253 - 1 - 2 * HASH_BYTES;
const HASH_BYTES: usize = 8;

/// Writes events. Clones share it.
#[derive(Clone)]
pub(crate) struct Events {
    client: Client,
}

impl Events {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Says that `action` came to `notice` for an object. What cannot be said is no reason to do anything again.
    pub(crate) async fn tell(&self, about: &ObjectReference, action: &str, notice: &Notice) {
        let told = tokio::time::timeout(DEADLINE, self.say(about, action, notice)).await;
        match told {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, reason = notice.reason, "event not written"),
            Err(_elapsed) => tracing::debug!(reason = notice.reason, "event not written in time"),
        }
    }

    async fn say(&self, about: &ObjectReference, action: &str, notice: &Notice) -> Result<(), kube::Error> {
        let namespace = about.namespace.as_deref().unwrap_or(NAMESPACE_OF_CLUSTER);
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let event = event(about, action, notice, Timestamp::now());
        match events.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                count(&events, event.metadata.name.as_deref().unwrap_or_default()).await
            }
            made => made.map(drop),
        }
    }
}

/// Someone else who counts at the same time has counted for both.
async fn count(events: &Api<Event>, name: &str) -> Result<(), kube::Error> {
    let Some(event) = events.get_opt(name).await? else {
        return Ok(());
    };
    let series = EventSeries {
        count: event.series.map_or(2, |series| series.count.saturating_add(1)),
        last_observed_time: MicroTime(Timestamp::now()),
    };
    let patch = json!({"metadata": {"resourceVersion": event.metadata.resource_version}, "series": series});
    match events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        counted => counted.map(drop),
    }
}

fn event(about: &ObjectReference, action: &str, notice: &Notice, now: Timestamp) -> Event {
    let namespace = about.namespace.as_deref().unwrap_or(NAMESPACE_OF_CLUSTER);
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(about, action, notice)),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some(action.to_owned()),
        reason: Some(notice.reason.to_owned()),
        note: Some(cut(&notice.text, NOTE_BYTES_MAX).to_owned()),
        type_: Some(kind(notice).to_owned()),
        regarding: Some(about.clone()),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(REPORTER.to_owned()),
        ..Event::default()
    }
}

fn event_name(about: &ObjectReference, action: &str, notice: &Notice) -> String {
    let mut said = Context::new(&SHA256);
    let uid = about.uid.as_deref().unwrap_or_default();
    for part in [uid, action, kind(notice), notice.reason, &notice.text] {
        said.update(part.as_bytes());
        said.update(b"\n");
    }
    let said = hex(&said.finish().as_ref()[..HASH_BYTES]);
    let name = cut(about.name.as_deref().unwrap_or_default(), NAME_BYTES_MAX);
    format!("{}.{said}", name.trim_end_matches(['-', '.']))
}

fn kind(notice: &Notice) -> &'static str {
    if notice.warning { "Warning" } else { "Normal" }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::Value;

    use super::*;

    type Stored = Arc<Mutex<BTreeMap<String, Value>>>;

    /// An API server that is a few routes in this process.
    fn api_server(stored: &Stored) -> Router {
        let make = async |State(stored): State<Stored>, body: String| {
            let event: Value = serde_json::from_str(&body).unwrap();
            let name = event["metadata"]["name"].as_str().unwrap().to_owned();
            let mut stored = stored.lock().unwrap();
            if stored.contains_key(&name) {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "there is one",
                    "reason": "AlreadyExists", "code": 409});
                return (StatusCode::CONFLICT, Json(status));
            }
            stored.insert(name, event.clone());
            (StatusCode::CREATED, Json(event))
        };
        let look =
            async |State(stored): State<Stored>, Path(name): Path<String>| Json(stored.lock().unwrap()[&name].clone());
        let count = async |State(stored): State<Stored>, Path(name): Path<String>, body: String| {
            let patch: Value = serde_json::from_str(&body).unwrap();
            let mut stored = stored.lock().unwrap();
            let event = stored.get_mut(&name).unwrap();
            event["series"] = patch["series"].clone();
            Json(event.clone())
        };
        Router::new()
            .route("/apis/events.k8s.io/v1/namespaces/default/events", post(make))
            .route(
                "/apis/events.k8s.io/v1/namespaces/default/events/{name}",
                get(look).patch(count),
            )
            .with_state(Arc::clone(stored))
    }

    #[tokio::test]
    async fn a_new_leader_counts_what_the_one_before_it_said() {
        let stored = Stored::default();
        for _leader in 0..3 {
            let events = Events::new(Client::new(api_server(&stored), "default"));
            let notice = Notice::warning("CredentialsRefused", "the source refuses all pull secrets");
            events.tell(&about("r"), "Caching", &notice).await;
        }
        let stored = stored.lock().unwrap();
        let counts: Vec<&Value> = stored.values().map(|event| &event["series"]["count"]).collect();
        assert_eq!(counts, [&json!(3)]);
    }

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            name: Some(name.to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectReference::default()
        }
    }

    fn named(name: &str, text: &str) -> String {
        event_name(&about(name), "Caching", &Notice::normal("Serving", text))
    }

    #[test]
    fn what_is_said_again_is_the_same_event_and_nothing_else_is() {
        assert_eq!(named("nginx", "serves sha256:a"), named("nginx", "serves sha256:a"));
        let others = [
            named("nginx", "serves sha256:b"),
            named("redis", "serves sha256:a"),
            event_name(
                &about("nginx"),
                "Caching",
                &Notice::warning("Serving", "serves sha256:a"),
            ),
            event_name(&about("nginx"), "Caching", &Notice::normal("Cached", "serves sha256:a")),
        ];
        for other in others {
            assert_ne!(other, named("nginx", "serves sha256:a"));
        }
    }

    #[test]
    fn names_and_notes_are_never_too_long() {
        let long = Notice::normal("Serving", "ü".repeat(2000));
        let event = event(&about(&"a.".repeat(200)), "Caching", &long, Timestamp::UNIX_EPOCH);
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert_eq!(event.note.unwrap().len(), NOTE_BYTES_MAX);
    }
}
