//! What cert-manager does for the chart: it signs what Certificates ask for, and tells the API server whom to trust.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::pods::name_of;
use cluster::{Cluster, wait};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

/// The chart's Certificates: of the cache nodes, the proxies, the webhook and the controllers.
const N_CERTIFICATES: usize = 4;

/// For the API server to know a new kind of object.
const KNOWN: Duration = Duration::from_secs(30);

const KIND: &str = "certificates.cert-manager.io";

/// An authority, and the definition of Certificate.
pub(crate) struct Issuer {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Issuer {
    /// Makes both.
    pub(crate) fn install(cluster: &Cluster) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        cluster.apply(&definition())?;
        wait::until(KNOWN, "Certificates to be known", || {
            cluster.list(&[KIND, "--all-namespaces"]).map(|_| Some(()))
        })?;
        Ok(Self { authority })
    }

    /// Removes the definition, and the Certificates with it.
    pub(crate) fn uninstall(&self, cluster: &Cluster) -> Result<()> {
        cluster.kubectl(&["delete", "customresourcedefinition", KIND])?;
        Ok(())
    }

    /// Signs a new certificate for every Certificate, and puts the authority where an annotation wants it.
    pub(crate) fn issue_all(&self, cluster: &Cluster) -> Result<()> {
        let wanted = cluster.list(&[KIND, "--all-namespaces"])?;
        ensure!(wanted.len() == N_CERTIFICATES, "{} Certificates", wanted.len());
        for certificate in &wanted {
            cluster.apply(&self.secret(certificate)?)?;
        }
        for webhooks in cluster.list(&["mutatingwebhookconfigurations"])? {
            self.inject(cluster, &webhooks)?;
        }
        Ok(())
    }

    fn secret(&self, certificate: &Value) -> Result<Value> {
        let spec = &certificate["spec"];
        ensure!(
            spec["issuerRef"]["kind"] == "ClusterIssuer",
            "only a ClusterIssuer signs in every namespace: {spec}"
        );
        let names: Vec<String> = serde_json::from_value(spec["dnsNames"].clone()).context("dnsNames")?;
        let key = KeyPair::generate()?;
        let signed = CertificateParams::new(names)?.signed_by(&key, &self.authority)?;
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": spec["secretName"], "namespace": certificate["metadata"]["namespace"]},
            "stringData": {"ca.crt": self.authority.pem(), "tls.crt": signed.pem(), "tls.key": key.serialize_pem()},
        }))
    }

    fn inject(&self, cluster: &Cluster, webhooks: &Value) -> Result<()> {
        let from = &webhooks["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
        let (namespace, name) = from
            .as_str()
            .and_then(|from| from.split_once('/'))
            .context("no Certificate is named")?;
        let certificate = cluster.get(&[KIND, name, "--namespace", namespace])?;
        let secret = certificate["spec"]["secretName"].as_str().context("a Secret's name")?;
        let secret = cluster.get(&["secret", secret, "--namespace", namespace])?;
        let all = webhooks["webhooks"].as_array().context("webhooks")?;
        let bundle = |(index, _)| {
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            json!({"op": "add", "path": path, "value": secret["data"]["ca.crt"]})
        };
        let patch: Vec<Value> = all.iter().enumerate().map(bundle).collect();
        let (name, patch) = (name_of(webhooks)?, json!(patch).to_string());
        cluster.kubectl(&[
            "patch",
            "mutatingwebhookconfiguration",
            name,
            "--type=json",
            "--patch",
            &patch,
        ])?;
        Ok(())
    }
}

/// As much of the definition as an object needs to be kept whole.
fn definition() -> Value {
    let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": KIND},
        "spec": {
            "group": "cert-manager.io", "scope": "Namespaced",
            "names": {"kind": "Certificate", "plural": "certificates", "singular": "certificate"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": anything}],
        },
    })
}
