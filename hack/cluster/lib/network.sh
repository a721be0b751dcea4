# shellcheck shell=bash
# One bridge in a place of its own, one cable from each place to it. There is no default route anywhere.

start_switch() {
  is_alive "$state/switch/init.pid" && return
  make_place switch plain
  enter switch ip link add bridge type bridge
  enter switch ip link set bridge up
}

# plug_in PLACE ADDRESS...: gives a new place its cable and routes
plug_in() {
  local place=$1 init address n
  shift
  init=$(recorded "$state/$place/init.pid")
  # The cable of an earlier life goes some time after that life.
  enter switch ip link del "to-$place" 2>/dev/null || true
  # The peer is moved from outside: the switch cannot see the process ids of other places.
  nsenter -t "$(recorded "$state/switch/init.pid")" -n \
    ip link add "to-$place" type veth peer name eth0 netns "$init"
  enter switch ip link set "to-$place" master bridge up
  for address in "$@"; do enter "$place" ip address add "$address/24" dev eth0; done
  enter "$place" ip link set eth0 up
  enter "$place" ip route add "$service_network" dev eth0
  for n in $(seq "$n_nodes_max"); do
    [ "$place" = "n$n" ] || enter "$place" ip route add "$pod_network.$n.0/24" via "$(node_address "n$n")"
  done
}
