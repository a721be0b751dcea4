# shellcheck shell=bash
# Certificates and kubeconfigs, made once per cluster.

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$1.key" 2>/dev/null; }

# certify NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
certify() {
  local name=$1 subject=$2 names=${3:-}
  [ ! -s "$pki/$name.crt" ] || return 0
  new_key "$name"
  openssl req -new -key "$pki/$name.key" -subj "$subject" -out "$pki/$name.csr"
  printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n%s\n' \
    "${names:+subjectAltName=$names}" >"$pki/$name.ext"
  openssl x509 -req -in "$pki/$name.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days 3650 -extfile "$pki/$name.ext" -out "$pki/$name.crt.part" 2>/dev/null
  mv "$pki/$name.crt.part" "$pki/$name.crt"
}

# write_kubeconfig NAME: for who holds NAME's certificate
write_kubeconfig() {
  cat >"$pki/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: kuik, cluster: {server: "https://$control_address:6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}}]
contexts: [{name: kuik, context: {cluster: kuik, user: user}}]
current-context: kuik
YAML
}

make_certificates() {
  [ ! -e "$pki/made" ] || return 0
  mkdir -p "$pki"
  new_key ca
  openssl req -x509 -new -key "$pki/ca.key" -subj /CN=kuik-test-ca -days 3650 -out "$pki/ca.crt" \
    -addext 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature' 2>/dev/null
  certify apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$control_address,IP:$api_service"
  certify kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certify front-proxy-client /CN=front-proxy-client
  certify admin /O=system:masters/CN=admin
  certify controller-manager /CN=system:kube-controller-manager
  certify scheduler /CN=system:kube-scheduler
  certify proxy /CN=system:kube-proxy
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-account.key" 2>/dev/null
  openssl ec -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub" 2>/dev/null
  local user
  for user in admin controller-manager scheduler proxy; do write_kubeconfig $user; done
  touch "$pki/made"
}

certify_node() {
  certify "$1" "/O=system:nodes/CN=system:node:$1" "DNS:$1,IP:$(node_address "$1")"
  write_kubeconfig "$1"
}
