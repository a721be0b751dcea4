# shellcheck shell=bash disable=SC2034
# Where things are: the cluster's state, its addresses, its programs. Everything else reads these.

cluster=${KUIK_CLUSTER:-dev}
state=$KUIK_CACHE/clusters/$cluster
pki=$state/pki
kubeconfig=$pki/admin.kubeconfig
images=$KUIK_CACHE/cluster-images-$CLUSTER_IMAGES_VERSION

network=10.77.0          # the switch everything hangs on; the same in every cluster, as each has its own
control_address=$network.10
dns_address=$network.5
pod_network=10.78        # 10.78.N.0/24 on node N
service_network=10.79.0.0/24
api_service=10.79.0.1
dns_service=10.79.0.10
n_nodes_max=9

# The registries by name. `system` holds kuik's own images and never stops.
declare -A registry_address=([source]=$network.6 [private]=$network.7 [system]=$network.8)
domain=kuik.test

kubernetes=$KUIK_CACHE/kubernetes-$KUBERNETES_VERSION
etcd=$KUIK_CACHE/etcd-$ETCD_VERSION
containerd2=$KUIK_CACHE/containerd-$CONTAINERD_VERSION
cni=$KUIK_CACHE/cni-plugins-$CNI_PLUGINS_VERSION
coredns=$KUIK_CACHE/coredns-$COREDNS_VERSION
helm=$KUIK_CACHE/helm-$HELM_VERSION
helm4=$KUIK_CACHE/helm4-$HELM4_VERSION
export PATH=$kubernetes:$helm:$PATH

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'cluster: %s\n' "$*" >&2; exit 1; }

node_number() { echo "${1#n}"; }
node_address() { echo "$network.$((10 + ${1#n}))"; }
node_pods() { echo "$pod_network.${1#n}.0/24"; }
node_names() { seq -f 'n%g' "$(cat "$state/nodes")"; }

require_tools() {
  local path
  for path in "$kubernetes" "$etcd" "$containerd2" "$cni" "$coredns" "$helm" "$helm4" "$images"; do
    [ -d "$path" ] || die "no $path: run tools/setup cluster"
  done
  # Every place has directories of its own there.
  case $(realpath -m "$KUIK_CACHE")/ in
    /tmp/* | /run/*) die "no node could see its programs in $KUIK_CACHE: set KUIK_CACHE to a directory outside /tmp and /run" ;;
  esac
}

# remember NODES CONTAINERD STORAGE: what a cluster is made of is decided when it is first started.
remember() {
  [ -e "$state/nodes" ] && return
  [ "$1" -le $n_nodes_max ] || die "at most $n_nodes_max nodes"
  case $2 in 1 | 2 | mixed) ;; *) die "--containerd is 1, 2 or mixed" ;; esac
  case $3 in local | none) ;; *) die "--storage is local or none" ;; esac
  mkdir -p "$state"
  echo "$2" >"$state/containerd"
  echo "$3" >"$state/storage"
  echo "$1" >"$state/nodes"
}

# Which containerd a node runs; in a mixed cluster the second, fourth... node has Debian's.
node_containerd() {
  local choice
  choice=$(cat "$state/containerd")
  [ "$choice" = mixed ] || { echo "$choice"; return; }
  echo $((2 - ($(node_number "$1") + 1) % 2))
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local limit=$1 what=$2 end
  shift 2
  end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || die "waited $limit s for $what; look at: hack/cluster/cluster log PLACE"
    sleep 0.1
  done
}
