# shellcheck shell=bash
# Places (namespaces with a first process of their own) and the programs in them. A pid file has the start time
# too, so that a recycled process id is never taken for ours. Killing a place's first process ends all of it.

# The environment of what is started: nothing of the caller's.
clean_environment=(env -i HOME=/root LANG=C.UTF-8 "PATH=$kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${stat##*) }
  echo "${20}"
}

record() { echo "$2 $(start_time "$2")" >"$1"; }

is_alive() {
  local pid time
  [ -s "$1" ] && read -r pid time <"$1" && [ -n "$time" ] && [ "$(start_time "$pid")" = "$time" ]
}

is_gone() { ! is_alive "$1"; }

recorded() { cut -d' ' -f1 "$1"; }

kill_recorded() {
  if is_alive "$1"; then kill -9 "$(recorded "$1")" 2>/dev/null || true; fi
}

# first_child PID: waits until there is one
first_child() {
  local children end=$((SECONDS + 10))
  while [ $SECONDS -lt $end ]; do
    children=$(cat "/proc/$1/task/$1/children" 2>/dev/null || true)
    [ -z "$children" ] || { echo "${children%% *}"; return; }
    sleep 0.02
  done
  return 1
}

# make_place NAME KIND: namespaces of its own, until its first process dies
make_place() {
  local place=$state/$1 outer inner
  is_alive "$place/init.pid" && return
  mkdir -p "$place/log" "$place/fs"
  setsid "${clean_environment[@]}" unshare -n -m -p -u -i --fork --kill-child --mount-proc --propagation private \
    -- sh "$here/init.sh" "$1" "$2" "$place" "$images/programs/pause" >"$place/log/init.log" 2>&1 </dev/null 9>&- &
  outer=$!
  disown
  inner=$(first_child $outer) || die "$1 did not start: $(cat "$place/log/init.log")"
  record "$place/unshare.pid" $outer
  record "$place/init.pid" "$inner"
  # A place that has not come up whole is ended, so that the next start makes it anew.
  (wait_for 30 "$1 to start" is_named "$inner" pause) && return
  kill_recorded "$place/init.pid"
  wait_for 10 "$1 to end" is_gone "$place/init.pid"
  exit 1
}

is_named() { [ "$(cat "/proc/$1/comm")" = "$2" ]; }

# enter PLACE COMMAND...: runs a command where that place's programs run
enter() {
  local init=$state/$1/init.pid
  is_alive "$init" || die "$1 is not up"
  shift
  nsenter -t "$(recorded "$init")" -n -m -p -u -i -- "$@"
}

# Runs a command of this machine with the cluster's network and nothing else of it.
in_network() { nsenter -t "$(recorded "$state/control/init.pid")" -n -- "$@"; }

# The same in place of this script, so that whoever kills one kills the other.
become_in_network() { exec nsenter -t "$(recorded "$state/control/init.pid")" -n -- "$@"; }

# start PLACE PROGRAM [NAME=VALUE...] COMMAND...: a program that stays, its output in PLACE/log/PROGRAM.log
start() {
  local place=$state/$1 program=$2 init outer inner
  shift 2
  is_alive "$place/$program.pid" && return
  init=$(recorded "$place/init.pid")
  setsid nsenter -t "$init" -n -m -p -u -i -- "${clean_environment[@]}" "$@" \
    >>"$place/log/$program.log" 2>&1 </dev/null 9>&- &
  outer=$!
  disown
  inner=$(first_child $outer) || die "$program did not start: $(tail -5 "$place/log/$program.log")"
  record "$place/$program.pid" "$inner"
}

# stop PLACE PROGRAM: at once
stop() {
  kill_recorded "$state/$1/$2.pid"
  wait_for 10 "$2 to end" is_gone "$state/$1/$2.pid"
}

# A leftover cgroup costs the next kubelet three seconds, so it goes as a reboot would make it go.
remove_cgroups() {
  local group i
  for group in /sys/fs/cgroup/*/"kuik-$cluster-$1" "/sys/fs/cgroup/kuik-$cluster-$1"; do
    for i in 1 2 3 4 5 6 7 8 9 10; do
      [ -d "$group" ] || break
      find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
      [ ! -d "$group" ] || sleep 0.2
    done
  done
}

# The cluster's parent of each node's cgroups, in every hierarchy of version 1 or the one of version 2.
make_cgroups() {
  local name=kuik-$cluster-$1 group
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$name"
    echo '+cpuset +cpu +io +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
    return
  fi
  for group in /sys/fs/cgroup/*/; do
    case $group in */unified/) continue ;; esac
    mkdir -p "$group$name"
    [ -f "${group}cpuset.cpus" ] || continue
    cat "${group}cpuset.cpus" >"$group$name/cpuset.cpus"
    cat "${group}cpuset.mems" >"$group$name/cpuset.mems"
  done
}

# watch_owner PID: takes the cluster down when that process has ended, however it did
watch_owner() {
  local time
  time=$(start_time "$1") || die "no process $1"
  # shellcheck disable=SC2016
  setsid bash -c 'while [ "$(cut -d" " -f22 "/proc/$1/stat" 2>/dev/null)" = "$2" ]; do sleep 1; done; "$3" down; rm -f "$4"' \
    owner "$1" "$time" "$here/cluster" "$state.lock" >/dev/null 2>&1 </dev/null 9>&- &
  disown
}
