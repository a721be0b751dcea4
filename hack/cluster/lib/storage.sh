# shellcheck shell=bash
# The default storage class: directories of each node as `local` volumes, made in advance.

n_volumes_per_node=3

apply_storage() {
  [ "$(cat "$state/storage")" = local ] || return 0
  forget_released_volumes
  volumes | api apply -f - >/dev/null
}

# A released volume is never bound again, so it is made anew, empty.
forget_released_volumes() {
  local name path
  api get persistentvolumes -o jsonpath='{range .items[?(@.status.phase=="Released")]}{.metadata.name}{"\n"}{end}' |
    while read -r name; do
      path=$state/${name%%-*}/fs/var/lib/volumes/${name#*-}
      find "$path" -mindepth 1 -delete
      api delete persistentvolume "$name" >/dev/null
    done
}

volumes() {
  cat <<YAML
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Retain
YAML
  local node i
  for node in $(node_names); do
    for i in $(seq $n_volumes_per_node); do volume "$node" "$i"; done
  done
}

volume() {
  mkdir -p "$state/$1/fs/var/lib/volumes/$2"
  chmod 777 "$state/$1/fs/var/lib/volumes/$2"
  cat <<YAML
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1-$2}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: local
  local: {path: /var/lib/volumes/$2}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$1]}]}]}}
YAML
}
