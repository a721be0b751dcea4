# shellcheck shell=bash
# A node: containerd, kubelet, kube-proxy, the CNI bridge plugin.

prepare_nodes() {
  local node
  for node in $(node_names); do prepare_node "$node" & done
  wait
}

start_nodes() {
  local node
  for node in $(node_names); do start_node "$node"; done
}

# What a node has before it knows of any API server: namespaces, network, containerd with the pause image.
prepare_node() {
  local node=$1 version
  is_alive "$state/$node/containerd.pid" && return
  certify_node "$node"
  if ! is_alive "$state/$node/init.pid"; then
    remove_cgroups "$node"
    make_place "$node" node
    plug_in "$node" "$(node_address "$node")"
    enter "$node" sysctl -qw net.ipv4.ip_forward=1
  fi
  make_cgroups "$node"
  write_cni "$node"
  write_hosts "$node"
  version=$(node_containerd "$node")
  "write_containerd_$version" "$node"
  if [ "$version" = 2 ]; then
    start "$node" containerd "PATH=$containerd2:/usr/sbin:/usr/bin:/sbin:/bin" "$containerd2/containerd"
  else
    start "$node" containerd "PATH=/usr/sbin:/usr/bin:/sbin:/bin" /usr/bin/containerd
  fi
  wait_for 30 "containerd of $node" node_ctr "$node" version
  node_ctr "$node" images import "$images/pause.tar" >/dev/null 2>&1
}

start_node() {
  local node=$1
  prepare_node "$node"
  write_kubelet "$node"
  # A dead connection to the API server is noticed in seconds instead of half a minute.
  start "$node" kubelet HTTP2_READ_IDLE_TIMEOUT_SECONDS=4 HTTP2_PING_TIMEOUT_SECONDS=3 \
    kubelet --config="$state/$node/kubelet.yaml" --kubeconfig="$pki/$node.kubeconfig" --hostname-override="$node" \
    --node-ip="$(node_address "$node")" --v=2
  start "$node" proxy kube-proxy --kubeconfig="$pki/proxy.kubeconfig" --hostname-override="$node" \
    --cluster-cidr="$pod_network.0.0/16" --proxy-mode=iptables --conntrack-max-per-core=0 \
    --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s --healthz-bind-address=127.0.0.1:10256
}

add_node() {
  local n
  n=$(($(cat "$state/nodes") + 1))
  [ $n -le $n_nodes_max ] || die "at most $n_nodes_max nodes"
  echo $n >"$state/nodes"
  start_node "n$n"
  wait_for 60 "n$n to be ready" node_is_ready "n$n"
  apply_storage
  echo "n$n"
}

cut_node() {
  kill_recorded "$state/$1/init.pid"
  wait_for 20 "$1 to end" is_gone "$state/$1/init.pid"
}

# The API server goes on saying Ready for a while after a death, so the kubelet is asked too.
node_is_ready() {
  enter "$1" curl --silent --fail --max-time 1 http://127.0.0.1:10248/healthz &&
    api wait --for=condition=Ready "node/$1" --timeout=1s
}

nodes_are_ready() {
  local node
  for node in $(node_names); do node_is_ready "$node" || return 1; done
}

# node_ctr NODE ARG...
node_ctr() {
  local node=$1 program=/usr/bin/ctr
  shift
  [ "$(node_containerd "$node")" = 1 ] || program=$containerd2/ctr
  enter "$node" "$program" --namespace k8s.io "$@"
}

# keep_pulling NODE URL: fetches an image as a runtime does, every second by the clock, over a new connection each time,
# until the input ends. URL is http://localhost:7439/v2/HOST/NAME/manifests/TAG. A line for each: milliseconds, and `ok`
# or what was wrong; the bytes must be those of the first time.
keep_pulling() {
  local node=$1 url=$2 digest first due wait status
  local urls=("$url")
  for digest in $(enter "$node" curl --silent --show-error --fail --max-time 60 --header "$accept_manifest" "$url" |
    grep -o 'sha256:[0-9a-f]*'); do
    urls+=("${url%/manifests/*}/blobs/$digest")
  done
  first=$(fetch_all "$node" "${urls[@]}") || die "$url does not answer: $first"
  due=${EPOCHREALTIME//[!0-9]/}
  while :; do
    # A slow one holds up no other; at some number the machine only waits for itself.
    [ "$(jobs -pr | wc -l)" -ge $n_fetches_max ] || say_fetched "$first" "$node" "${urls[@]}" </dev/null &
    due=$((due + 1000000))
    wait=$((due - ${EPOCHREALTIME//[!0-9]/}))
    [ $wait -gt 1000 ] || wait=1000
    status=0
    read -r -t "$(printf '%d.%06d' $((wait / 1000000)) $((wait % 1000000)))" _ || status=$?
    [ $status -gt 128 ] || break
  done
  wait
}

say_fetched() {
  local first=$1 began said
  shift
  began=${EPOCHREALTIME//[!0-9]/}
  said=$(fetch_all "$@") || said="failed: $said"
  case $said in failed:*) ;; "$first") said=ok ;; *) said="failed: other bytes" ;; esac
  printf '%s\t%s\n' $(((${EPOCHREALTIME//[!0-9]/} - began) / 1000)) "${said//$'\n'/ }"
}

# fetch_all NODE URL...: the sum of what they answer
fetch_all() {
  local node=$1
  shift
  enter "$node" bash -c 'set -o pipefail; curl --silent --show-error --fail --max-time 60 "$@" | sha256sum' \
    curl --header "$accept_manifest" "$@" 2>&1
}

n_fetches_max=30
accept_manifest='Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json'

write_cni() {
  local directory=$state/$1/fs/etc/cni/net.d
  mkdir -p "$directory"
  cat >"$directory/10-kuik.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "kuik", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(node_pods "$1")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}
JSON
}

# How the container runtime itself reaches the registries: they speak plain HTTP.
write_hosts() {
  local name directory
  for name in "${!registry_address[@]}"; do
    directory=$state/$1/fs/etc/containerd/certs.d/$name.$domain
    mkdir -p "$directory"
    # containerd 1.6 wants at least one host; later versions are content with the server.
    printf 'server = "%s"\n[host."%s"]\ncapabilities = ["pull", "resolve"]\n' "http://$name.$domain"{,} \
      >"$directory/hosts.toml"
  done
}

write_containerd_2() {
  cat >"$state/$1/fs/etc/containerd/config.toml" <<TOML
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "kuik.local/pause:1"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["$cni"]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
TOML
}

write_containerd_1() {
  cat >"$state/$1/fs/etc/containerd/config.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "kuik.local/pause:1"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
TOML
}

write_kubelet() {
  printf 'nameserver %s\n' "$dns_address" >"$state/$1/resolv.conf"
  cat >"$state/$1/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/$1.crt
tlsPrivateKeyFile: $pki/$1.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /kuik-$cluster-$1
failCgroupV1: false
volumePluginDir: /var/lib/kubelet/volumeplugins
failSwapOn: false
enforceNodeAllocatable: []
clusterDNS: [$dns_service]
clusterDomain: cluster.local
resolvConf: $state/$1/resolv.conf
evictionHard: {memory.available: 20Mi, nodefs.available: 0.1%, imagefs.available: 0.1%, nodefs.inodesFree: 0.1%}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
nodeStatusUpdateFrequency: 4s
shutdownGracePeriod: 0s
YAML
}
