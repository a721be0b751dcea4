# shellcheck shell=bash
# The registries that pods' images come from, plain HTTP on port 80, and the DNS server that names them and the
# cluster's services. `private` wants the user `puller` with a password that
# occurs nowhere else, so that a log it got into shows it.

private_password=canary-b81f5d0c7e

start_sources() {
  if ! is_alive "$state/sources/init.pid"; then
    make_place sources plain
    plug_in sources "$dns_address" "${registry_address[@]}"
  fi
  local name
  # One that was stopped on purpose stays so when the rest is started again.
  for name in "${!registry_address[@]}"; do [ -e "$state/sources/$name.stopped" ] || start_source "$name"; done
}

start_source() {
  local place=$state/sources auth=
  rm -f "$place/$1.stopped"
  # bcrypt of it, as crypt(3) makes it
  printf 'puller:%s\n' '$2a$05$br8ga4G4x0OjvJPW.zsuuuhtdA.ym.9HmxTDWwa5ZEUHAcN76w8Ae' >"$place/htpasswd"
  [ "$1" != private ] || auth="auth: {htpasswd: {realm: private, path: $place/htpasswd}}"
  cat >"$place/$1.yml" <<YAML
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: $place/$1}, delete: {enabled: true}}
http: {addr: "${registry_address[$1]}:80"}
$auth
YAML
  start sources "$1" docker-registry serve "$place/$1.yml"
  wait_for 10 "registry $1" answers "${registry_address[$1]}" 80
}

# answers ADDRESS PORT: something listens there
answers() { enter sources bash -c "exec 3<>/dev/tcp/$1/$2"; }

stop_source() {
  touch "$state/sources/$1.stopped"
  stop sources "$1"
}

# each_source stop|start [NAME]
each_source() {
  local name
  for name in ${2:-source private}; do "$1_source" "$name"; done
}

# limit_sources MBIT|none
limit_sources() {
  enter sources tc qdisc del dev eth0 root 2>/dev/null || true
  [ "$1" = none ] || enter sources tc qdisc add dev eth0 root tbf rate "$1mbit" burst 64kb latency 200ms
}

# The DNS server asks the API server, so it is started after it; what it knows survives an outage of it.
start_dns() {
  local place=$state/sources name
  for name in "${!registry_address[@]}"; do echo "${registry_address[$name]} $name.$domain"; done >"$place/hosts"
  cat >"$place/Corefile" <<COREFILE
cluster.local:53 in-addr.arpa:53 {
  bind $dns_address
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $kubeconfig
    pods insecure
    ttl 5
  }
  cache 5
}
$domain:53 {
  bind $dns_address
  hosts $place/hosts {
    ttl 5
  }
}
.:53 {
  bind $dns_address
  template ANY ANY . {
    rcode NXDOMAIN
  }
}
COREFILE
  start sources dns "$coredns/coredns" -conf "$place/Corefile"
}

# push_layout LAYOUT IMAGE
push_layout() {
  local credentials=()
  case $2 in private.*) credentials=(--dest-creds "puller:$private_password") ;; esac
  local name=${2%%.*}
  [ -n "${registry_address[$name]:-}" ] || die "$2: the registries are source.$domain, private.$domain, system.$domain"
  in_network skopeo copy --quiet --dest-tls-verify=false "${credentials[@]}" "oci:$1" \
    "docker://${registry_address[$name]}/${2#*/}"
}

# publish IMAGE MEGABYTES: the probe image with a layer of random bytes
publish() {
  local work
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf $work" EXIT
  cp -r "$images/probe" "$work/image"
  head -c "$2M" /dev/urandom >"$work/content"
  umoci insert --image "$work/image:1" "$work/content" /content >/dev/null
  push_layout "$work/image:1" "$1"
}
