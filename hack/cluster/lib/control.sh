# shellcheck shell=bash
# The control plane: etcd, the API server, the controller manager and the scheduler.

start_control() {
  if ! is_alive "$state/control/init.pid"; then
    make_place control plain
    plug_in control "$control_address"
  fi
  start control etcd "$etcd/etcd" --data-dir "$state/control/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --log-level warn
  start_apiserver_process
  # The nodes' slow half needs no API server yet.
  prepare_nodes
  wait_for 60 "the API server" apiserver_is_ready
  start control controller-manager kube-controller-manager --kubeconfig="$pki/controller-manager.kubeconfig" \
    --authentication-kubeconfig="$pki/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
    --service-account-private-key-file="$pki/service-account.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --use-service-account-credentials=true --leader-elect=false --bind-address=127.0.0.1 \
    --flex-volume-plugin-dir="$state/control/flex" --node-monitor-grace-period=20s --node-monitor-period=2s
  start control scheduler kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" \
    --authentication-kubeconfig="$pki/scheduler.kubeconfig" --authorization-kubeconfig="$pki/scheduler.kubeconfig" \
    --leader-elect=false --bind-address=127.0.0.1
  start_dns
  name_dns
}

start_apiserver_process() {
  start control apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 \
    --advertise-address="$control_address" --secure-port=6443 --client-ca-file="$pki/ca.crt" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/service-account.pub" \
    --service-account-signing-key-file="$pki/service-account.key" --service-cluster-ip-range="$service_network" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
    --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" \
    --default-not-ready-toleration-seconds=30 --default-unreachable-toleration-seconds=30 \
    --enable-aggregator-routing=true
}

apiserver_is_ready() { api get --raw /readyz; }

# At once: asked politely it would drain for half a minute.
stop_apiserver() { stop control apiserver; }

start_apiserver() {
  start_apiserver_process
  wait_for 60 "the API server" apiserver_is_ready
}

api() { in_network kubectl --kubeconfig "$kubeconfig" "$@"; }

# The usual Service of the DNS server, in front of the one beside the registries.
name_dns() {
  api apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $dns_service
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{addresses: ["$dns_address"]}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
YAML
}

# Power loss of everything but the network and the registries.
blackout() {
  local place
  for place in control $(node_names); do kill_recorded "$state/$place/init.pid"; done
  for place in control $(node_names); do wait_for 20 "$place to end" is_gone "$state/$place/init.pid"; done
}
