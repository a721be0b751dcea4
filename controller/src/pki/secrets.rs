//! The Secrets that the controller writes: read and written one by one, never listed.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::authority::Authorities;
use super::certificate::Pair;
use super::plan::Held;

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const NEXT_CERT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERT: &str = "previous.crt";
const TLS_CERT: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";
const TYPE_TLS: &str = "kubernetes.io/tls";
const TYPE_OPAQUE: &str = "Opaque";
/// Says to people, and to tools that prune, who makes them.
const LABELS: [(&str, &str); 1] = [("app.kubernetes.io/managed-by", "kuik-controller")];

/// A Secret as it was read; writing it back fails if someone else wrote it in between.
pub(crate) struct Slot {
    api: Api<Secret>,
    name: String,
    found: Option<Secret>,
}

impl Slot {
    pub(crate) async fn read(client: &Client, namespace: &str, name: &str) -> Result<Self, kube::Error> {
        let api = Api::namespaced(client.clone(), namespace);
        let found = api.get_opt(name).await?;
        Ok(Self {
            api,
            name: name.to_owned(),
            found,
        })
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.found.is_none()
    }

    fn text(&self, key: &str) -> Option<String> {
        let data = self.found.as_ref()?.data.as_ref()?;
        String::from_utf8(data.get(key)?.0.clone()).ok()
    }

    fn pair(&self, cert: &str, key: &str) -> Option<Pair> {
        Some(Pair {
            cert: self.text(cert)?,
            key: self.text(key)?,
        })
    }

    pub(crate) fn authorities(&self) -> Option<Authorities> {
        Some(Authorities {
            active: self.pair(CA_CERT, CA_KEY)?,
            next: self.pair(NEXT_CERT, NEXT_KEY),
            previous: self.text(PREVIOUS_CERT),
        })
    }

    pub(crate) fn held(&self) -> Option<Held> {
        self.found.as_ref()?;
        Some(Held {
            ca: self.text(CA_CERT).unwrap_or_default(),
            cert: self.text(TLS_CERT).unwrap_or_default(),
            has_key: self.text(TLS_KEY).is_some_and(|key| !key.is_empty()),
        })
    }

    pub(crate) fn leaf(&self) -> Option<Pair> {
        self.pair(TLS_CERT, TLS_KEY)
    }

    pub(crate) async fn write_authorities(self, authorities: &Authorities) -> Result<(), kube::Error> {
        let mut data = vec![
            (CA_CERT, authorities.active.cert.clone()),
            (CA_KEY, authorities.active.key.clone()),
        ];
        if let Some(next) = &authorities.next {
            data.extend([(NEXT_CERT, next.cert.clone()), (NEXT_KEY, next.key.clone())]);
        }
        data.extend(authorities.previous.iter().map(|cert| (PREVIOUS_CERT, cert.clone())));
        self.write(TYPE_OPAQUE, data).await
    }

    pub(crate) async fn write_leaf(self, bundle: String, pair: Pair) -> Result<(), kube::Error> {
        let data = vec![(CA_CERT, bundle), (TLS_CERT, pair.cert), (TLS_KEY, pair.key)];
        self.write(TYPE_TLS, data).await
    }

    /// Writes a Secret that was absent, of these keys.
    pub(crate) async fn write_opaque(self, data: Vec<(&str, String)>) -> Result<(), kube::Error> {
        self.write(TYPE_OPAQUE, data).await
    }

    async fn write(self, kind: &str, data: Vec<(&str, String)>) -> Result<(), kube::Error> {
        let data: BTreeMap<String, ByteString> = data
            .into_iter()
            .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
            .collect();
        let options = PostParams {
            field_manager: Some(crate::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.found {
            Some(found) => {
                let replaced = Secret {
                    data: Some(data),
                    ..found
                };
                self.api.replace(&self.name, &options, &replaced).await?;
            }
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(self.name),
                        labels: Some(LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                        ..ObjectMeta::default()
                    },
                    type_: Some(kind.to_owned()),
                    data: Some(data),
                    ..Secret::default()
                };
                self.api.create(&options, &secret).await?;
            }
        }
        Ok(())
    }
}
