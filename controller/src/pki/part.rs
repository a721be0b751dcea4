//! Which parts have a certificate, where it is kept, and for which names.

use proto::access::Role;

use crate::config::Install;

/// The Secret of a part's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) namespace: String,
    pub(crate) secret: String,
    pub(crate) names: Vec<String>,
}

/// All certificates that are kept in Secrets.
pub(crate) fn parts(install: &Install) -> Vec<Part> {
    let peers = install.name("registry-peers");
    let mut registry = service_names(install, &install.name("registry"));
    registry.extend(service_names(install, &peers));
    let domain = &install.cluster_domain;
    registry.push(format!("*.{peers}.{}.svc", install.namespace));
    registry.push(format!("*.{peers}.{}.svc.{domain}", install.namespace));
    let part = |namespace: &str, suffix: &str, role: Role, names: Vec<String>| Part {
        namespace: namespace.to_owned(),
        secret: install.name(suffix),
        names: std::iter::once(role.dns_name().to_owned()).chain(names).collect(),
    };
    vec![
        part(&install.namespace, "registry-tls", Role::CacheNode, registry),
        part(
            &install.namespace,
            "webhook-tls",
            Role::Webhook,
            service_names(install, &install.name("webhook")),
        ),
        part(&install.proxy_namespace, "proxy-tls", Role::Proxy, Vec::new()),
    ]
}

/// Namespaces and names of all Secrets that can be made anew. The key that seals credentials is none of them: it goes
/// with the volumes that hold what it sealed.
pub(crate) fn secret_names(install: &Install) -> Vec<(String, String)> {
    let authority = (install.namespace.clone(), install.name("ca"));
    let parts = parts(install).into_iter().map(|part| (part.namespace, part.secret));
    std::iter::once(authority).chain(parts).collect()
}

fn service_names(install: &Install, service: &str) -> Vec<String> {
    let (namespace, domain) = (&install.namespace, &install.cluster_domain);
    vec![
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{domain}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_the_names_it_is_called_by() {
        let install = Install {
            namespace: "kuik".to_owned(),
            proxy_namespace: "kuik-proxy".to_owned(),
            fullname: "f".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        };
        let parts = parts(&install);
        let named = |secret: &str| parts.iter().find(|part| part.secret == secret).unwrap();
        let registry = named("f-registry-tls");
        for name in [
            "cache-node.kuik.internal",
            "f-registry",
            "f-registry.kuik.svc",
            "*.f-registry-peers.kuik.svc",
            "*.f-registry-peers.kuik.svc.cluster.local",
        ] {
            assert!(registry.names.iter().any(|known| known == name), "{name}");
        }
        assert!(
            named("f-webhook-tls")
                .names
                .iter()
                .any(|name| name == "f-webhook.kuik.svc")
        );
        assert_eq!(named("f-proxy-tls").namespace, "kuik-proxy");
        assert_eq!(named("f-proxy-tls").names, ["proxy.kuik.internal"]);
    }
}
